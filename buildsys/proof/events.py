"""What the abstract interpreter notes of the code it follows: stores, barriers, system registers, calls."""

from __future__ import annotations

from dataclasses import dataclass

from buildsys.proof.values import Value


def system_register(op0: int, op1: int, crn: int, crm: int, op2: int) -> int:
    """The 15 bits that name a system register in MRS and MSR (C5.1.3), op0 being 2 or 3."""
    return (op0 & 1) << 14 | op1 << 11 | crn << 7 | crm << 3 | op2


MPIDR_EL1 = system_register(3, 0, 0, 0, 5)
CURRENT_EL = system_register(3, 0, 4, 2, 2)
ID_AA64PFR0_EL1 = system_register(3, 0, 0, 4, 0)
VMPIDR_EL2 = system_register(3, 4, 0, 0, 5)
# By exception level: what ERET goes back to, and in which state.
SPSR = {1: system_register(3, 0, 4, 0, 0), 2: system_register(3, 4, 4, 0, 0), 3: system_register(3, 6, 4, 0, 0)}
ELR = {1: system_register(3, 0, 4, 0, 1), 2: system_register(3, 4, 4, 0, 1), 3: system_register(3, 6, 4, 0, 1)}
SP_EL1 = system_register(3, 4, 4, 1, 0)
SP_EL0 = system_register(3, 0, 4, 1, 0)
SP_SEL = system_register(3, 0, 4, 2, 0)


@dataclass(frozen=True)
class Store:
    """`size` bytes written from `address` on (None: it cannot be told where) by the instruction at `pc`.

    `value` is the number written, `source` where the bytes were loaded from, each None if
    unknown; neighbouring stores of zeros, and of neighbouring bytes copied, are one.
    """

    pc: int
    address: int | None
    size: int
    value: int | None
    source: int | None = None

    @property
    def end(self) -> int:
        """The first address after what was written; 0 if that cannot be told."""
        return 0 if self.address is None else self.address + self.size

    def overlaps(self, low: int, high: int) -> bool:
        """Whether it writes, or may write, a byte from `low` up to `high`."""
        return self.address is None or (self.address < high and low < self.end)


@dataclass(frozen=True)
class Dsb:
    """A DSB at `pc` that waits for stores."""

    pc: int


@dataclass(frozen=True)
class SystemWrite:
    """An MSR at `pc` to the system register `register` (see `system_register`)."""

    pc: int
    register: int
    value: Value


@dataclass(frozen=True)
class Call:
    """A call at `pc` of what is not followed: `target`, None if unknown, and the registers at the call."""

    pc: int
    target: int | None
    registers: tuple[Value, ...]
    sp: Value


@dataclass(frozen=True)
class Descent:
    """An ERET at `pc` from exception level `source` to `target`, with the PSTATE `state`."""

    pc: int
    source: int
    target: int
    state: int


Event = Store | Dsb | SystemWrite | Call | Descent


@dataclass(frozen=True)
class Trace:
    """What code did, in order, and why following it ended at `pc`: `end` is a few words.

    `parked` says that it ended in a loop without a way out.
    """

    events: tuple[Event, ...]
    pc: int
    end: str
    parked: bool = False
