"""What a run did."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from buildsys.machines.snapshot import Snapshot


class End(Enum):
    """Why a run ended."""

    EXIT = "the guest exited through semihosting"
    SAID = "the guest sent what `until` names"
    POWER_OFF = "the guest powered the machine off"
    RESET = "the guest reset the machine"
    OVER_AND_OVER = "the guest started over and over"
    TIME_LIMIT = "the time limit ended it"
    FAULT = "the processor faulted and nothing handled it"
    EMULATOR = "the emulator failed"
    INTERRUPTED = "it was interrupted"


@dataclass(frozen=True)
class LostWrite:
    """A store to flash: the instruction at `pc` wrote `size` bytes at `address`; they are lost."""

    pc: int
    address: int
    size: int


@dataclass(frozen=True)
class Outcome:
    """What a run did.

    `exit_code` is the guest's, 0 to 255, None unless `end` is EXIT. `serial` is every byte
    the UART sent, and what was written to the semihosting console, in the order sent; up to what
    ended the run, if `end` is SAID.
    `seconds` is the time the run took on the host. `detail` says more about the end: the
    fault, or the emulator's own words.

    `memory` is what the guest's memory held at the end, by address, of the ranges that were asked
    for and could be read.

    `doubt` says why an exit with status 0 is no good end, if it is none; `identity` is what the image is
    known by, in hexadecimal; `boots` is how often boot code ran. `snapshot` is the machine as it was when it
    first came to what no good end follows, or at its end if that was no exit; only if it was asked for.

    Only the embedded emulator sees these: `lost_writes`, the first stores to flash (their
    whole number is `lost_write_count`); `registers` (x0-x30, sp, pc), filled after every
    end but EXIT.
    """

    end: End
    serial: bytes
    seconds: float
    exit_code: int | None = None
    detail: str = ""
    lost_writes: tuple[LostWrite, ...] = ()
    registers: dict[str, int] = field(default_factory=dict)
    lost_write_count: int = 0
    memory: dict[int, bytes] = field(default_factory=dict)
    doubt: str = ""
    identity: str = ""
    boots: int = 0
    snapshot: Snapshot | None = None

    @property
    def well(self) -> bool:
        """Whether it ended as it should: with a status 0 to believe, or the last words of one without end."""
        return not self.doubt and (self.end is End.SAID or (self.end is End.EXIT and self.exit_code == 0))


def ending(serial: bytes | bytearray, until: bytes, before: int) -> int:
    """Where `until` ends in what was sent, of which `before` bytes were looked at already; 0 if it was not sent."""
    at = serial.find(until, max(before - len(until), 0)) if until else -1
    return at + len(until) if at >= 0 else 0
