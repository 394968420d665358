"""Synchronous exceptions of an AArch64 processor at EL1: taking them, and saying them in words.

Unicorn reports an exception and takes none. Taking it here gives a handler what it would
find on QEMU: the tests compare every register an exception changes, for each kind of it.
"""

from __future__ import annotations

from dataclasses import dataclass

from buildsys.formats.syndrome import IL, MISALIGNED_PC, SVC, WITH_ADDRESS, Syndrome
from buildsys.machines.processor import SMC, SPSR_EL1, Processor

# Arm ARM D1.10.1: offsets into the vector table of synchronous exceptions, by where they come from.
FROM_SP0, FROM_SPX, FROM_EL0 = 0x000, 0x200, 0x400
INTERRUPT = 0x080  # from there on, an IRQ
# Arm ARM C5.2: PSTATE as SPSR_EL1 holds it.
EL_MASK, SP_X, EL1T, EL1H, DAIF = 0xC, 0x1, 0x4, 0x5, 0x3C0
MASKED = 1 << 7  # I

UNKNOWN_INSTRUCTION = 0 << 26 | IL


@dataclass(frozen=True)
class Taken:
    """One exception: the address it returns to, its syndrome, and the fault address of an abort."""

    pc: int
    syndrome: int
    fault_address: int

    @property
    def kind(self) -> int:
        """The exception class."""
        return self.syndrome >> 26

    @property
    def at(self) -> int:
        """The address of the instruction; an `svc` returns to the one after it."""
        return self.pc - 4 if self.kind == SVC else self.pc

    def __str__(self) -> str:
        """Such as "data abort: permission fault, level 3, write to 0x200000"."""
        return Syndrome(self.syndrome).about(self.fault_address)


def pending(core: Processor, number: int) -> Taken | None:
    """The exception the core just reported as `number`; None if what it is cannot be read."""
    pc = core.get("pc")
    if number == SMC:
        # The board has no EL3, so the instruction is undefined there; Unicorn has one,
        # and has already stepped over the instruction.
        return Taken(pc - 4, UNKNOWN_INSTRUCTION, 0)
    if pc & 3:
        # Unicorn does not look at this until it meets an undefined instruction there.
        return Taken(pc, MISALIGNED_PC << 26 | IL, pc)
    read = core.syndrome()
    # No A64 instruction has the syndrome 0 (IL is set). Unicorn leaves that where QEMU 5.0 lost
    # the true one: `msr daifset` at EL0.
    return Taken(pc, *read) if read is not None and read[0] else None


def vector(core: Processor) -> int:
    """Where a synchronous exception taken now would go."""
    if from_el0(core):
        return core.get("vbar_el1") + FROM_EL0
    return core.get("vbar_el1") + (FROM_SPX if core.get("pstate") & SP_X else FROM_SP0)


def from_el0(core: Processor) -> bool:
    """Whether the core is at EL0."""
    return level(core) == 0


def level(core: Processor) -> int:
    """The exception level the core is at."""
    return (core.get("pstate") & EL_MASK) >> 2


def interruptible(core: Processor) -> bool:
    """Whether an interrupt would be taken at EL1."""
    return level(core) <= 1 and not core.get("pstate") & MASKED


def interrupt(core: Processor) -> None:
    """Take an interrupt at EL1, which must be possible."""
    _enter(core, core.get("pc"), vector(core) + INTERRUPT)


def take(core: Processor, taken: Taken) -> None:
    """Enter EL1's vector. Source: Arm ARM J1.1.2, AArch64.TakeException."""
    target = vector(core)
    core.set("esr_el1", taken.syndrome)
    if taken.kind in WITH_ADDRESS:
        core.set("far_el1", taken.fault_address)
    _enter(core, taken.pc, target)


def _enter(core: Processor, pc: int, target: int) -> None:
    state = core.get("pstate")
    if state & (EL_MASK | SP_X) != EL1H:
        core.set("sp_el0", core.get("sp"))
        core.set("sp", core.get("sp_el1"))
    core.set("elr_el1", pc)
    core.set("pstate", DAIF | EL1H)
    core.set_system(SPSR_EL1, state)
    core.set("pc", target)
