"""What a stopped machine was doing: the registers of the code that failed, and why it could not go on."""

from __future__ import annotations

from dataclasses import dataclass

from buildsys.formats import a64
from buildsys.formats.elf import Elf
from buildsys.formats.syndrome import Syndrome
from buildsys.machines.ends import AGAIN, EXCEPTION, FATAL, PANIC
from buildsys.machines.snapshot import Snapshot

VECTORS = 0x800  # bytes: Arm ARM, Exception vectors
ON_SP_EL0, LEVEL = 1, 0xC  # Arm ARM C5.2, PSTATE.SP and PSTATE.EL as SPSR_EL1 has them
MORESTACK = "morestack"


@dataclass(frozen=True)
class Context:
    """The code that failed.

    `registers` are its own. `syndrome` and `address` tell of the exception that stopped it, if one did;
    `called` is the function it called in vain, if it did: "pc" is then where it would go on.
    `stuck` says that the exception vector itself faults.
    """

    registers: dict[str, int]
    syndrome: Syndrome | None = None
    address: int = 0
    called: str = ""
    stuck: bool = False


def context(snapshot: Snapshot, elf: Elf) -> Context:
    """What the machine was doing when it came to its end."""
    registers = snapshot.registers
    at = snapshot.at.name if snapshot.at else ""
    vectors = registers.get("vbar_el1", 0)
    # One that faults comes to itself; any other exception came to it from elsewhere.
    inside = all(vectors <= registers.get(name, 0) < vectors + VECTORS for name in ("pc", "elr_el1"))
    stuck = not at and inside and bool(registers.get("esr_el1"))
    if at in (EXCEPTION, AGAIN) or stuck:
        return _interrupted(registers, stuck, snapshot.fault)
    if at in (FATAL, PANIC) or (snapshot.at and not at.startswith("program.")):
        called = _called(elf, registers["x30"])
        before = {**registers, "pc": registers["x30"]}
        if MORESTACK in called:  # it comes before there is a frame: x3 has where the caller of the function goes on
            before["x30"] = registers["x3"]
        return Context(before, called=called or at)
    if snapshot.fault is not None:
        return Context(dict(registers), Syndrome(snapshot.fault[0]), snapshot.fault[1], stuck=stuck)
    return Context(dict(registers))


def _interrupted(registers: dict[str, int], stuck: bool, fault: tuple[int, int] | None) -> Context:
    state = registers.get("spsr_el1", 0)
    sp = registers["sp"] if state & ON_SP_EL0 and state & LEVEL else registers.get("sp_el0", 0)
    before = {**registers, "pc": registers.get("elr_el1", 0), "sp": sp, "pstate": state}
    syndrome, address = fault or (registers.get("esr_el1", 0), registers.get("far_el1", 0))
    return Context(before, Syndrome(syndrome), address, stuck=stuck)


def _called(elf: Elf, link: int) -> str:
    """The function that the branch right before `link` goes to."""
    word = elf.word(link - 4) if link % 4 == 0 else None
    goal = None if word is None else a64.branch_target(word, link - 4)
    function = None if goal is None else elf.symbols.function_at(goal)
    return function.name if function else ""
