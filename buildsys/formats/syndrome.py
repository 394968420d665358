"""Exception syndromes of AArch64 in words: what ESR_EL1 says of an exception.

Source: Arm Architecture Reference Manual (DDI 0487), D17.2.37, ESR_EL1: the table of exception classes (EC), and
"ISS encoding for an exception from a Data Abort" and "from an Instruction Abort" for fault status codes.
"""

from __future__ import annotations

from dataclasses import dataclass

CLASSES = {
    0x00: "undefined instruction",
    0x01: "trapped wfi or wfe",
    0x03: "trapped mcr or mrc of AArch32, coprocessor 15",
    0x04: "trapped mcrr or mrrc of AArch32, coprocessor 15",
    0x05: "trapped mcr or mrc of AArch32, coprocessor 14",
    0x06: "trapped ldc or stc of AArch32",
    0x07: "floating point is not enabled (CPACR_EL1.FPEN)",
    0x0A: "trapped ld64b or st64b",
    0x0C: "trapped mrrc of AArch32, coprocessor 14",
    0x0D: "branch target without bti",
    0x0E: "illegal execution state",
    0x11: "svc of AArch32",
    0x15: "svc",
    0x18: "trapped system register",
    0x19: "trapped SVE instruction (CPACR_EL1.ZEN)",
    0x1B: "trapped tstart",
    0x1C: "pointer authentication failed",
    0x1D: "trapped SME instruction",
    0x20: "instruction abort",
    0x21: "instruction abort",
    0x22: "misaligned pc",
    0x24: "data abort",
    0x25: "data abort",
    0x26: "misaligned sp",
    0x27: "memory operation",
    0x28: "floating point exception of AArch32",
    0x2C: "floating point exception",
    0x2D: "guarded control stack",
    0x2F: "SError interrupt",
    0x30: "breakpoint",
    0x31: "breakpoint",
    0x32: "software step",
    0x33: "software step",
    0x34: "watchpoint",
    0x35: "watchpoint",
    0x38: "bkpt of AArch32",
    0x3C: "brk",
}
SVC, MISALIGNED_PC, MISALIGNED_SP, BRK = 0x15, 0x22, 0x26, 0x3C
UNDEFINED, FLOATING_POINT, SERROR = 0x00, 0x07, 0x2F
FETCHES, ACCESSES = (0x20, 0x21), (0x24, 0x25)
FROM_EL0 = (0x20, 0x24, 0x30, 0x32, 0x34)  # of each pair of one name, the one from a lower level
WITH_IMMEDIATE = (SVC, BRK)
# These set FAR_EL1 (Arm ARM, FAR_EL1).
WITH_ADDRESS = (*FETCHES, MISALIGNED_PC, *ACCESSES, 0x34, 0x35)
IL = 1 << 25  # the instruction has 32 bits
WRITE, CACHE, NO_ADDRESS = 1 << 6, 1 << 8, 1 << 10  # ISS of an abort: WnR, CM, FnV
EXTERNAL, ALIGNMENT = 0x10, 0x21
# Fault status codes, by their upper bits where the two lower ones are a level.
_BY_LEVEL = {
    0x00: "address size fault", 0x04: "translation fault", 0x08: "access flag fault", 0x0C: "permission fault",
    0x14: "external abort on a table walk", 0x1C: "parity error on a table walk",
}  # fmt: skip
_SINGLE = {
    EXTERNAL: "external abort", 0x11: "tag check fault", 0x13: "external abort on a table walk, level -1",
    0x18: "parity error", 0x1B: "parity error on a table walk, level -1", ALIGNMENT: "alignment fault",
    0x23: "granule protection fault on a table walk, level -1", 0x28: "granule protection fault",
    0x29: "address size fault, level -1", 0x2B: "translation fault, level -1", 0x30: "TLB conflict",
    0x31: "unsupported atomic update of a table", 0x34: "lockdown", 0x35: "unsupported exclusive or atomic access",
    0x3D: "section domain fault", 0x3E: "page domain fault",
}  # fmt: skip


def fault(status: int) -> str:
    """A fault status code (ISS bits 5:0) in words, such as "translation fault, level 1"."""
    if name := _SINGLE.get(status):
        return name
    if name := _BY_LEVEL.get(status & ~3):
        return f"{name}, level {status & 3}"
    if status & ~3 == 0x24:
        return f"granule protection fault on a table walk, level {status & 3}"
    return f"fault status {status:#x}"


@dataclass(frozen=True)
class Syndrome:
    """The value of ESR_EL1."""

    value: int

    @property
    def kind(self) -> int:
        """The exception class, EC."""
        return self.value >> 26 & 0x3F

    @property
    def name(self) -> str:
        """The exception class in words."""
        return CLASSES.get(self.kind, f"exception of class {self.kind:#x}")

    @property
    def status(self) -> int:
        """The fault status code of an abort."""
        return self.value & 0x3F

    @property
    def is_abort(self) -> bool:
        """Whether it is about memory: a fetch or an access."""
        return self.kind in (*FETCHES, *ACCESSES)

    @property
    def is_fetch(self) -> bool:
        """Whether it is an instruction that could not be fetched."""
        return self.kind in FETCHES

    @property
    def is_write(self) -> bool:
        """Whether it is a store; the maintenance of a cache counts as one, and is none."""
        return self.kind in ACCESSES and bool(self.value & WRITE) and not self.value & CACHE

    @property
    def has_address(self) -> bool:
        """Whether FAR_EL1 tells of this exception."""
        return self.kind in WITH_ADDRESS and not (self.is_abort and self.status == EXTERNAL and self.value & NO_ADDRESS)

    def __str__(self) -> str:
        """Such as "data abort: translation fault, level 1, write"."""
        if self.kind in WITH_IMMEDIATE:
            return f"{self.name} #{self.value & 0xFFFF:#x}"
        if not self.is_abort:
            return self.name
        how = "fetch" if self.is_fetch else "write" if self.value & WRITE else "read"
        return f"{self.name}: {fault(self.status)}, {how}"

    def about(self, address: int) -> str:
        """The same with the fault address: "data abort: permission fault, level 3, write to 0x200000"."""
        if not self.is_abort:
            return str(self)
        return f"{self} {'to' if not self.is_fetch and self.value & WRITE else 'from'} {address:#x}"
