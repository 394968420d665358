"""`doit run-qemu`, `doit run`: the serial output as it comes, and one sentence that says how it ended."""

from __future__ import annotations

import sys

from buildsys.errors import UserError
from buildsys.front.reporter import Failed
from buildsys.front.steps import Steps
from buildsys.machines.outcome import End, Outcome

# Statuses for ends that are no exit; those of timeout(1) and of a shell after Ctrl-C.
STATUS = {End.TIME_LIMIT: 124, End.INTERRUPTED: 130}
WRITES_SHOWN = 5


def boot_embedded(steps: Steps, time_limit: float) -> Failed | None:
    """Run the image on the embedded emulator. Fails with the guest's status unless that is 0."""
    from buildsys.machines import embedded

    try:
        outcome = embedded.run(steps.image, steps.project.board, time_limit, _show)
    except UserError as error:
        return Failed(error)
    return _conclude(outcome, time_limit)


def boot_qemu(steps: Steps, time_limit: float) -> Failed | None:
    """Run the image on QEMU. Fails with the guest's status unless that is 0."""
    from buildsys.machines import qemu

    try:
        outcome = qemu.run(steps.image, steps.project.board, time_limit, _show)
    except UserError as error:
        return Failed(error)
    return _conclude(outcome, time_limit)


def _show(data: bytes) -> None:
    sys.stdout.write(data.decode("utf-8", "replace").replace("\r\n", "\n"))
    sys.stdout.flush()


def _conclude(outcome: Outcome, time_limit: float) -> Failed | None:
    """Say how the run ended; writes that were lost are a failure, too."""
    if outcome.serial and not outcome.serial.endswith(b"\n"):
        print()
    if outcome.end is End.EXIT:
        sentence = f"the guest exited with status {outcome.exit_code} after {outcome.seconds:.2f} s"
    elif outcome.end is End.TIME_LIMIT:
        sentence = f"ended by the time limit of {time_limit:g} s (--time-limit, or time-limit in [tool.buildsys])"
    else:
        sentence = outcome.end.value
    if outcome.detail:
        sentence += f": {outcome.detail}"
    print(sentence, file=sys.stderr)
    for write in outcome.lost_writes[:WRITES_SHOWN]:
        print(
            f"lost: {write.size} bytes written to flash at {write.address:#x} by the instruction at {write.pc:#x}",
            file=sys.stderr,
        )
    if outcome.end is not End.EXIT:
        return Failed("", STATUS.get(outcome.end, 1))
    if outcome.exit_code:
        return Failed("", outcome.exit_code)
    if outcome.lost_write_count:
        return Failed(f"{outcome.lost_write_count} writes to flash were lost", 1)
    return None
