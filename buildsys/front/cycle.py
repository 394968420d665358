"""One cycle of `doit watch`, from a save to its verdict: what is known of it so far, and that as JSON."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from buildsys.errors import UserError
from buildsys.front.boot import SerialText
from buildsys.front.verify import Line
from buildsys.machines.outcome import End, Outcome
from buildsys.proof.claim import Result

if TYPE_CHECKING:
    from buildsys.front.barriers import Barriers

KEPT = 1 << 16  # characters of serial output that are kept, the last ones
WRITES_SHOWN = 5
# As Go, the assembler, Jinja and our own messages name a place.
PLACE = re.compile(r"^\s*(?:error: )?([^\s:]+):(\d+)(?::(\d+))?: (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Stage:
    """A step that was not up to date: why, its seconds, where its outcome came from, what its tool warned of."""

    name: str
    reason: str
    seconds: float
    origin: str
    said: str = ""


@dataclass(frozen=True)
class Failure:
    """Why there is no image, or no run of it: the step that failed, or "configuration", "restart", "run"."""

    where: str
    error: UserError

    def places(self) -> list[dict[str, Any]]:
        """The lines of the message that name a file and a line in it, taken apart."""
        return [
            {"file": file, "line": int(line), "column": int(column) if column else None, "text": text}
            for file, line, column, text in PLACE.findall(self.error.message)
        ]


@dataclass
class Cycle:
    """What is known of a cycle so far. `claims` are the number and names of all, those of `quick` part of the verdict.

    `began` is when the save was noticed, on the monotonic clock, and `decided` when all that the
    verdict needs was there. `left` says that a newer save ended it before that.
    """

    number: int
    changed: tuple[str, ...]
    began: float
    machine: str
    time_limit: float
    claims: dict[int, str]
    quick: frozenset[int]
    stages: list[Stage] = field(default_factory=list)
    doing: tuple[str, float] = ("", 0.0)
    built: bool = False
    failure: Failure | None = None
    outcome: Outcome | None = None
    barriers: Barriers | None = None
    text: SerialText = field(default_factory=SerialText)
    serial: str = ""
    serial_bytes: int = 0
    lines: dict[int, Line] = field(default_factory=dict)
    checking: frozenset[int] = frozenset()
    decided: float = 0.0
    left: bool = False

    def add_serial(self, data: bytes) -> None:
        """Take what the guest sent."""
        self.serial_bytes += len(data)
        self.serial = (self.serial + self.text.add(data))[-KEPT:]

    def forget(self) -> None:
        """Forget what a run and checks told: they were of another image."""
        self.outcome, self.text, self.serial, self.serial_bytes = None, SerialText(), "", 0
        self.barriers = None
        self.lines.clear()
        self.checking = frozenset()

    @property
    def complete(self) -> bool:
        """Whether all that the verdict needs is there."""
        known = self.built and self.outcome is not None and not self.quick & self.checking
        return self.failure is not None or known

    @property
    def false(self) -> list[Line]:
        """The claims found false."""
        return [line for _, line in sorted(self.lines.items()) if line.verdict.result is Result.FAILED]

    @property
    def ran_well(self) -> bool:
        """Whether the run ended as it should, nothing lost."""
        outcome = self.outcome
        return outcome is not None and outcome.well and not outcome.lost_write_count

    @property
    def failed_in(self) -> str:
        """What failed: a step, "configuration", "restart", "run" or "claims"; empty if nothing did so far."""
        if self.failure is not None:
            return self.failure.where
        if self.outcome is not None and not self.ran_well:
            return "run"
        return "claims" if self.false else ""

    @property
    def state(self) -> str:
        """One of "passed", "failed", "superseded" by a newer save; until the verdict "building" or "running"."""
        if self.left:
            return "superseded"
        if self.failed_in:
            return "failed"
        if self.decided:
            return "passed"
        return "running" if self.built else "building"

    def named(self, *results: Result) -> list[str]:
        """The names of the claims that were checked with one of these results."""
        return [line.claim.name for _, line in sorted(self.lines.items()) if line.verdict.result in results]

    @property
    def unchecked(self) -> list[str]:
        """The names of the claims of which nothing is known of this image."""
        return [name for number, name in self.claims.items() if number not in self.lines]

    def ended(self) -> str:
        """How the run ended, in a few words."""
        outcome = self.outcome
        if outcome is None:
            return ""
        if outcome.end is End.EXIT:
            said = f"exited with status {outcome.exit_code}"
        elif outcome.end is End.TIME_LIMIT:
            said = f"ended by the time limit of {self.time_limit:g} s"
        else:
            said = outcome.end.value
        if outcome.doubt:
            said += f"; no good end: {outcome.doubt}"
        lost = outcome.lost_write_count
        return f"{said}; {lost} write{'s' * (lost != 1)} to flash lost" if lost else said

    def details(self) -> list[str]:
        """More on a run that did not end well."""
        outcome = self.outcome
        if outcome is None:
            return []
        lost = [
            f"lost: {write.size} bytes written to flash at {write.address:#x} by the instruction at {write.pc:#x}"
            for write in outcome.lost_writes[:WRITES_SHOWN]
        ]
        return [*outcome.detail.splitlines(), *lost]

    def as_json(self) -> dict[str, Any]:
        """The whole of it, as `watch` documents it."""
        failure, outcome = self.failure, self.outcome
        return {
            "event": "cycle",
            "cycle": self.number,
            "state": self.state,
            "failed": self.failed_in,
            "changed": list(self.changed),
            "redone": [stage.name for stage in self.stages],
            "seconds": round((self.decided or time.monotonic()) - self.began, 4),
            "stages": [
                {
                    "name": stage.name,
                    "reason": stage.reason,
                    "seconds": round(stage.seconds, 4),
                    "origin": stage.origin,
                    "said": stage.said,
                }
                for stage in self.stages
            ],
            "error": None
            if failure is None
            else {"message": failure.error.message, "hint": failure.error.hint, "places": failure.places()},
            "run": None
            if outcome is None
            else {
                "machine": self.machine,
                "end": outcome.end.name.lower().replace("_", "-"),
                "status": outcome.exit_code,
                "seconds": round(outcome.seconds, 4),
                "lost_writes": outcome.lost_write_count,
                "says": self.ended(),
                "details": self.details(),
            },
            "serial": self.serial,
            "serial_bytes": self.serial_bytes,
            "barriers": None if self.barriers is None else list(self.barriers.lines),
            "claims": self.claims_as_json(),
        }

    def claims_as_json(self) -> dict[str, Any]:
        """What was checked and what not, by name; what is false with what was seen and what to do."""
        return {
            "hold": self.named(Result.PASSED),
            "false": [
                {
                    "name": line.claim.name,
                    "title": line.claim.title,
                    "figure": line.verdict.figure,
                    "details": list(line.verdict.details),
                    "advice": line.verdict.advice,
                }
                for line in self.false
            ],
            "not_run": self.named(Result.NOT_RUN),
            "unchecked": self.unchecked,
        }
