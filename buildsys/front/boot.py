"""`doit run-qemu`, `doit run`: the serial output as it comes, and one sentence that says how it ended."""

from __future__ import annotations

import codecs
import sys
from collections.abc import Callable

from buildsys.errors import UserError
from buildsys.front.addresses import Addresses
from buildsys.front.barriers import Reporting
from buildsys.front.command import HUNG_UP, INTERRUPTED, hang_up
from buildsys.front.crash import explain
from buildsys.front.deadends import dead_ends
from buildsys.front.reporter import Failed
from buildsys.front.stacks import Stacks
from buildsys.front.steps import Steps
from buildsys.machines.outcome import End, Outcome

# Statuses for ends that are no exit; 124 is that of timeout(1).
STATUS = {End.TIME_LIMIT: 124, End.INTERRUPTED: INTERRUPTED}
UNPROVEN = 4  # status of a run that claims a good end and cannot be believed
WRITES_SHOWN = 5


def boot_embedded(steps: Steps, time_limit: float) -> Failed | None:
    """Run the image on the embedded emulator. Fails with the guest's status unless that is 0."""
    from buildsys.machines import embedded

    return _boot(steps, embedded.run, time_limit, "embedded")


def boot_qemu(steps: Steps, time_limit: float) -> Failed | None:
    """Run the image on QEMU. Fails with the guest's status unless that is 0."""
    from buildsys.machines import qemu

    return _boot(steps, qemu.run, time_limit, "qemu")


def _given(steps: Steps) -> int | None:
    """The descriptor that is a program's standard input; a bare kernel's port receives nothing."""
    try:
        return sys.stdin.fileno() if steps.project.program else None
    except (AttributeError, OSError):  # there is none, or one without a descriptor
        return None


def _boot(steps: Steps, run: Callable[..., Outcome], time_limit: float, machine: str) -> Failed | None:
    if time_limit <= 0:
        return Failed("--time-limit must be more than 0 seconds")
    text, addresses, stacks = SerialText(), Addresses(steps.image), Stacks(steps.image)
    reporting = Reporting(steps.project, steps.image, steps.runtime_json, machine)
    if sys.stderr is not None and sys.stderr.isatty():
        print(f"boots on {machine}; Ctrl-C ends it", file=sys.stderr)
    try:
        outcome = run(
            steps.image,
            steps.project.board,
            time_limit,
            lambda data: _show(text.add(data), addresses),
            keep=[*reporting.ranges, *stacks.ranges],
            dead_ends=dead_ends(steps.patch_json),
            snapshot=True,
            given=_given(steps),
        )
        _show(text.end(), addresses)
        if not text.at_line_start:
            _show("\n")
    except UserError as error:
        return Failed(error)
    except BrokenPipeError:
        hang_up()
        return Failed("", HUNG_UP)
    ended = _sentence(outcome, time_limit)
    print(ended, file=sys.stderr)
    failed = _verdict(outcome)
    if outcome.end is not End.INTERRUPTED and (words := stacks.told(outcome.memory)):
        print(words, file=sys.stderr)
    explain(steps, outcome, machine, ended)
    reporting.tell(outcome)
    return failed


class SerialText:
    """Serial output, which may come byte by byte, as text: decoded as UTF-8, with a line feed alone at a line's end."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""  # a carriage return, which means nothing before a line feed
        self.at_line_start = True

    def add(self, data: bytes) -> str:
        """What can be shown now that `data` came."""
        return self._shown(self._held + self._decoder.decode(data), "\r")

    def end(self) -> str:
        """What is left when nothing more comes."""
        return self._shown(self._held + self._decoder.decode(b"", final=True), "")

    def _shown(self, text: str, hold: str) -> str:
        self._held = hold if hold and text.endswith(hold) else ""
        text = text[: len(text) - len(self._held)].replace("\r\n", "\n")
        if text:
            self.at_line_start = text.endswith("\n")
        return text


def _show(text: str, addresses: Addresses | None = None) -> None:
    """Show what was sent, and then on stderr which lines of source the addresses in it are."""
    if text:
        try:
            sys.stdout.write(text)
            sys.stdout.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            hang_up()
            raise UserError(f"standard output: {error.strerror}") from error
    for words in addresses.add(text) if addresses and text else ():
        print(words, file=sys.stderr)


def _sentence(outcome: Outcome, time_limit: float) -> str:
    """Why the run ended."""
    if outcome.end is End.EXIT:
        sentence = f"the guest exited with status {outcome.exit_code} after {outcome.seconds:.2f} s"
    elif outcome.end is End.SAID:
        sentence = f"the guest sent what ends its run (`until`) after {outcome.seconds:.2f} s"
    elif outcome.end is End.TIME_LIMIT:
        sentence = f"ended by the time limit of {time_limit:g} s (--time-limit, or time-limit in [tool.buildsys])"
    elif outcome.end is End.INTERRUPTED:
        sentence = "interrupted"
    elif outcome.end is End.OVER_AND_OVER:
        sentence = (
            f"{outcome.end.value}: {outcome.boots} times in {outcome.seconds:.2f} s; something leads back to reset"
        )
    else:
        sentence = outcome.end.value
    # An emulator may warn of what has nothing to do with the guest, in several lines: they do not stand in between.
    detail, _, more = outcome.detail.partition("\n")
    if detail:
        sentence += f": {detail}"
    if outcome.boots > 1 and outcome.end is not End.OVER_AND_OVER:
        sentence += f"; it had started {outcome.boots} times"
    if outcome.doubt:
        sentence += f"; no good end: {outcome.doubt}"
    return f"{sentence}\n{more}" if more else sentence


def _verdict(outcome: Outcome) -> Failed | None:
    """What comes of it, said as far as the sentence does not; writes that were lost are a failure, too."""
    for write in outcome.lost_writes[:WRITES_SHOWN]:
        print(
            f"lost: {write.size} bytes written to flash at {write.address:#x} by the instruction at {write.pc:#x}",
            file=sys.stderr,
        )
    if outcome.end not in (End.EXIT, End.SAID):
        return Failed("", STATUS.get(outcome.end, 1))
    if outcome.exit_code:
        return Failed("", outcome.exit_code)
    if outcome.doubt:
        return Failed("", UNPROVEN)
    if outcome.lost_write_count:
        return Failed(f"{outcome.lost_write_count} writes to flash were lost", 1)
    return None
