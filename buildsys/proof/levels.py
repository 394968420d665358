"""How boot code comes down to EL1: what each higher level must be told before it is left, and that all ways meet.

What a machine does at EL2 and EL3 by registers that are not named here (a GIC's, debug's, vendors')
is not judged; a verdict says where boot code writes one.

Registers are those of the Arm Architecture Reference Manual (DDI 0487), D19.2.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from buildsys.proof.bootcode import FIRST_CORE, Start, at, until_call
from buildsys.proof.events import ELR, SP_EL1, SPSR, Call, Descent, Event, Store, SystemWrite, Trace, system_register
from buildsys.proof.values import UNKNOWN

if TYPE_CHECKING:
    from buildsys.proof.case import Case

MASKED = 0x3C0  # PSTATE.DAIF: no interrupt before there are vectors
WHOLE = (1 << 64) - 1


class Rule(NamedTuple):
    """Of the register `name`, number `register`, the bits in `mask` must be written to be `bits`."""

    name: str
    register: int
    mask: int
    bits: int


_SCR_EL3 = Rule("SCR_EL3", system_register(3, 6, 1, 1, 0), 1 << 10 | 0xF, 1 << 10 | 1)  # RW, NS; not EA, FIQ, IRQ
_CPTR_EL3 = Rule("CPTR_EL3", system_register(3, 6, 1, 1, 2), 1 << 31 | 1 << 20 | 1 << 10, 0)  # TCPAC, TTA, TFP
# The reserved bits that are 1; no MMU, no caches, no alignment checks, little-endian.
_SCTLR_EL1 = Rule("SCTLR_EL1", system_register(3, 0, 1, 0, 0), WHOLE, 0x30D0_0800)
RULES: dict[tuple[int, int], tuple[Rule, ...]] = {
    (3, 2): (_SCR_EL3, _CPTR_EL3),
    (3, 1): (_SCR_EL3, _CPTR_EL3, _SCTLR_EL1),
    (2, 1): (
        Rule("HCR_EL2", system_register(3, 4, 1, 1, 0), WHOLE, 1 << 31),  # RW, and no trap, no second translation
        Rule("CPTR_EL2", system_register(3, 4, 1, 1, 2), 1 << 31 | 1 << 20 | 1 << 10, 0),
        Rule("HSTR_EL2", system_register(3, 4, 1, 1, 3), WHOLE, 0),
        Rule("CNTHCTL_EL2", system_register(3, 4, 14, 1, 0), 3, 3),  # EL1PCTEN, EL1PCEN
        Rule("CNTVOFF_EL2", system_register(3, 4, 14, 0, 3), WHOLE, 0),
        Rule("VMPIDR_EL2", system_register(3, 4, 0, 0, 5), WHOLE, FIRST_CORE),
        _SCTLR_EL1,
    ),
}
VPIDR_EL2 = system_register(3, 4, 0, 0, 0)
KNOWN = frozenset(
    {
        VPIDR_EL2,
        SP_EL1,
        *SPSR.values(),
        *ELR.values(),
        *(rule.register for rules in RULES.values() for rule in rules),
    }
)


def descents(case: Case, start: Start, trace: Trace) -> tuple[list[str], str | None]:
    """What is wrong with the way of a core that leaves reset as `start` says; and that way in words if nothing is."""
    begins, first = f"a core that begins at {start}", case.boot.first
    before, call = until_call(trace)
    if call is None:
        if (trace.pc, trace.end) == (first.pc, first.end):
            return [], None  # what is wrong with this is said of the board's own level
        return [f"{begins} never calls {case.entry}: following it ends at {at(case.elf, trace.pc)}: {trace.end}"], None
    steps = [event for event in before if isinstance(event, Descent)]
    reached = steps[-1].target if steps else start.level
    problems = [f"{begins}: {each}" for each in _steps(case, before)]
    if reached != 1:
        problems.append(f"{begins} calls {case.entry} at EL{reached}, not at EL1")
    ours, theirs = _at_el1(first), _at_el1(trace)
    if not problems and ours != theirs:
        differs = next((pair[1] for pair in zip(ours, theirs, strict=False) if pair[0] != pair[1]), call)
        problems.append(
            f"{begins} does other things at EL1 than one that begins as board {case.board.name} has it: "
            f"{at(case.elf, differs.pc)}"
        )
    if problems:
        return problems, None
    words = [f"EL{step.source} to EL{step.target} at {step.pc:#x}" for step in steps]
    unknown = [at(case.elf, event.pc) for event in _above(before) if event.register not in KNOWN]
    return [], ", ".join(words) + (f"; what is written by {', '.join(unknown)} is not judged" if unknown else "")


def _above(before: Sequence[Event]) -> Iterator[SystemWrite]:
    """The system registers written at EL2 and EL3."""
    last = max((index for index, event in enumerate(before) if isinstance(event, Descent)), default=-1)
    yield from (event for event in before[: max(last, 0)] if isinstance(event, SystemWrite))


def _steps(case: Case, before: Sequence[Event]) -> Iterator[str]:
    """What was not seen to before each level was left."""
    written = {}
    last = max((index for index, event in enumerate(before) if isinstance(event, Descent)), default=-1)
    for index, event in enumerate(before):
        if isinstance(event, SystemWrite):
            written[event.register] = event.value
        elif isinstance(event, Store) and index < last:
            yield f"{at(case.elf, event.pc)} stores to memory above EL1"
        elif isinstance(event, Descent):
            place = f"when {at(case.elf, event.pc)} leaves EL{event.source} for EL{event.target}"
            for rule in RULES[event.source, event.target]:
                value = written.get(rule.register, UNKNOWN)
                if value.known & rule.mask != rule.mask:
                    yield f"{rule.name} is not set, or to what cannot be told, {place}"
                elif value.bits & rule.mask != rule.bits:
                    wanted = f"of the bits {rule.mask:#x} just {rule.bits:#x} must be set"
                    yield f"{rule.name} is {value.bits:#x} {place}; {wanted}"
            if event.source == 2 and VPIDR_EL2 not in written:
                yield f"VPIDR_EL2 is not set {place}"
            if event.state & MASKED != MASKED:
                yield f"exceptions are not masked {place}: the state is {event.state:#x}"


def _at_el1(trace: Trace) -> list[Event | Call]:
    """What is done after the last descent, up to the call; of system registers, which are written."""
    before, call = until_call(trace)
    last = max((index for index, event in enumerate(before) if isinstance(event, Descent)), default=-1)
    found: list[Event | Call] = [
        SystemWrite(event.pc, event.register, UNKNOWN) if isinstance(event, SystemWrite) else event
        for event in before[last + 1 :]
    ]
    if call is not None:
        # What else was left in registers is nothing to the callee.
        kept = tuple(value if number in (0, 28, 29, 30) else UNKNOWN for number, value in enumerate(call.registers))
        found.append(Call(call.pc, call.target, kept, call.sp))
    return found
