"""One boot of a test program: what it is given, and what can be believed of what it sent."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from buildsys.config.board import Board
from buildsys.errors import UserError
from buildsys.gotest.bundle import Entry, Given, pack, with_bundle
from buildsys.gotest.output import Said, said
from buildsys.gotest.signature import UnsignedError, signed
from buildsys.machines.outcome import End, Outcome

MACHINES = ("qemu", "embedded")
# Seconds after its time limit that the testing package has to say which tests were running.
GRACE = 5.0


@dataclass(frozen=True)
class Boot:
    """What a boot did. `trouble` says why it did not come to its end, "" if it did; `remarks` are the supervisor's."""

    said: Said
    text: str
    status: int | None
    trouble: str
    remarks: str
    seconds: float


class Interrupted(Exception):  # noqa: N818  it is no error
    """The user ended it."""


@dataclass(frozen=True)
class Machine:
    """Where test programs are booted: `name` is one of `MACHINES`, `time_limit` in seconds of each boot.

    `files` and `folder` are what the program finds, and where it begins.
    """

    name: str
    image: Path
    board: Board
    time_limit: float
    environment: tuple[str, ...]
    files: tuple[Entry, ...]
    folder: PurePosixPath

    def with_environment(self, *variables: str) -> Machine:
        """The same, with more variables."""
        return replace(self, environment=(*self.environment, *variables))

    def boot(self, arguments: Sequence[str], on_serial: Callable[[bytes], None] | None = None) -> Boot:
        """Boot the image once with `arguments` after the program's name. Raises UserError, Interrupted."""
        identity = secrets.token_hex(8)
        given = Given(("/test", *arguments), self.environment, identity, self.files, self.folder)
        image = self.image.with_name(f"boot-{given.identity}.elf")
        try:
            with_bundle(self.image, self.board, pack(given), image)
            outcome = self._run(image, on_serial)
        finally:
            image.unlink(missing_ok=True)
        return judged(outcome, given.identity, self.time_limit)

    def _run(self, image: Path, on_serial: Callable[[bytes], None] | None) -> Outcome:
        limit = self.time_limit + GRACE
        if self.name == "embedded":
            from buildsys.machines import embedded

            return embedded.run(image, self.board, limit, on_serial)
        from buildsys.machines import qemu

        return qemu.run(image, self.board, limit, on_serial)


def judged(outcome: Outcome, identity: str, time_limit: float) -> Boot:
    """What a run that was given `identity` did. Raises UserError, Interrupted."""
    if outcome.end is End.INTERRUPTED:
        raise Interrupted
    if outcome.end is End.EMULATOR:
        raise UserError(f"the emulator failed: {outcome.detail}")
    status, written, remarks = None, outcome.serial, ""
    trouble = _trouble(outcome, time_limit)
    try:
        end = signed(outcome.serial, identity)
        status, written, remarks = end
        if not trouble and status != outcome.exit_code:
            trouble = f"the machine exited with status {outcome.exit_code}, and the program's was {status}"
    except UnsignedError as error:
        trouble = trouble or str(error)
    text = written.decode("utf-8", "replace")
    return Boot(said(text), text, status, trouble, remarks, outcome.seconds)


def _trouble(outcome: Outcome, time_limit: float) -> str:
    if outcome.end is End.EXIT:
        return ""
    if outcome.end is End.TIME_LIMIT:
        return f"the time limit of {time_limit:g} s ended it"
    return f"{outcome.end.value}: {outcome.detail}".rstrip(": ")
