"""The seed's before and after: what an image with .bss in flash does, beside what one with .bss in RAM does.

A proof that cannot fail proves nothing. So an image is made wrong on purpose, in the one way
that began all this, and must then be found wrong, by the claims it falsifies and for the right
reason.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from buildsys.errors import UserError
from buildsys.formats import a64
from buildsys.formats.elf import SHF_ALLOC
from buildsys.formats.references import references
from buildsys.go.runtime import FLAG, G0
from buildsys.machines.outcome import End, Outcome
from buildsys.machines.processor import AccessError, CoreError, Processor
from buildsys.proof.case import Case
from buildsys.proof.claim import Result, Verdict
from buildsys.proof.observation import HEAD
from buildsys.proof.places import SHF_TLS, place

# The claims about what .bss in flash breaks first. What is red beside them follows from these:
# the barriers' slots are in flash, too (handlers), and the kernel ends early (executions, outcome).
FALSIFIED = ("boot-code", "memory-map", "flag-at-run-time", "stores")
UNSET = b"ERROR: Write barrier flag not set!"  # what the reference kernel sends if the flag reads 0
POINTER = 8  # bytes

# What templates/fatal.s.j2 sends of an exception; D19.2 ESR_EL1 of a data abort from the same
# EL: its class, and of the rest WnR (it was a write) and the fault status, less its level.
EXCEPTION = re.compile(rb"exception: ESR_EL1 (0x[0-9a-f]+) ELR_EL1 (0x[0-9a-f]+) FAR_EL1 (0x[0-9a-f]+)")
DATA_ABORT, WRITE, STATUS, PERMISSION = 0x25, 1 << 6, 0x3C, 0x0C


@dataclass(frozen=True)
class Assignment:
    """The assignment to `HEAD`, executed by itself: the store made `destination` hold `held`; `lost` if it did not."""

    store: int
    destination: int
    held: int
    lost: bool


def assignment(case: Case) -> Assignment | None:
    """Execute the instructions of the assignment alone, on a core with the image in memory as boot code leaves it.

    A kernel that finds the flag unset ends before it assigns anything; this shows what would
    have come of it. None if there is no such assignment in the image. Raises UserError if it faults.
    """
    found = case.elf.symbols.addresses(HEAD, FLAG, G0, "__stack_high")
    if len(found) < 4 or case.places.heap is None:
        return None
    head, heap = found[HEAD], case.places.heap
    stores = {each.address for each in references(case.elf, case.code, head, POINTER) if each.kind == "store"}
    load, store = next(
        ((load, at) for load in case.flag_loads if load.accounted for at in load.when_clear if at in stores), (None, 0)
    )
    access = a64.load_store_unsigned(case.code.word(store) or 0)
    if load is None or access is None:
        return None
    core = Processor(case.board.cpu, str(case.board.path))
    for region in case.board.regions:
        if region.kind in ("flash", "ram"):
            core.add_memory(region.origin, region.length, writable=region.kind == "ram")
    for section in case.elf.sections:
        if section.flags & SHF_ALLOC and section.in_file and not section.flags & SHF_TLS:
            core.store(section.address, case.elf.contents(section))
    core.store(found[FLAG], (case.embedded.flag_at_entry or 0).to_bytes(4, "little"))
    for register, value in (
        (f"x{access[0]}", heap),
        ("x28", found[G0]),
        ("sp", found["__stack_high"]),
        ("pc", load.read.formed),
    ):
        core.set(register, value)
    lost: list[int] = []
    core.on_lost_write(lambda address, size: lost.append(address))
    # Up to Go 1.20 the barrier itself makes the store, and its caller goes round the one after it.
    ends = {store + 4, *((call + 4 for call in load.calls) if case.plan.abi == "store" else ())}
    for end in ends:
        core.on_execution(end, core.stop)
    try:
        core.run()
    except (AccessError, CoreError) as error:
        raise UserError(f"the assignment at {store:#x}, executed by itself, faults: {error}") from error
    return Assignment(store, head, int.from_bytes(core.read(head, POINTER) or b"", "little"), head in lost)


def figures(case: Case) -> dict[str, str]:
    """What the seed compares, measured: a line of the table each."""
    seen, run = case.places, case.embedded
    made = "is never made" if run.flag_at_store is None or seen.store is None else f"made at {seen.store.address:#x}"
    if run.flag_at_store is not None and run.flag_at_entry is not None:
        made += ", arrives" if run.flag_at_entry else ", lost"
    found = {
        f"{FLAG} lies at": _where(case, seen.flag),
        "boot code's store of 1 to it": made,
        f"it reads, when {case.entry} begins": "not seen" if run.flag_at_entry is None else str(run.flag_at_entry),
    }
    if seen.head is not None:
        found[f"{HEAD} lies at"] = _where(case, seen.head)
        if made_by := assignment(case):
            came = "lost" if made_by.lost else "arrives"
            found["its assignment, executed by itself"] = f"{came}: then it holds {_pointer(made_by.held)}"
        found["it holds, when the run ends"] = _pointer(run.word(seen.head))
    return found | {
        "the run's last line": last_line(run.outcome),
        "the run's end": ended(run.outcome),
        "writes to flash, lost": str(run.outcome.lost_write_count),
    }


def ended(outcome: Outcome) -> str:
    """How a run ended, in a few words."""
    return f"exit status {outcome.exit_code}" if outcome.end is End.EXIT else outcome.end.value


def last_line(outcome: Outcome) -> str:
    """The last line a run sent."""
    return next((line for line in reversed(outcome.serial.decode("utf-8", "replace").splitlines()) if line), "none")


def diagnoses(case: Case) -> dict[str, str]:
    """What each of the claims in `FALSIFIED` must say of an image whose .bss lies in flash."""
    seen, flash = case.places, place(case.board.flash)
    flag, head = f"{FLAG} at {seen.flag or 0:#x}", f"{HEAD} at {seen.head or 0:#x}"
    return {
        "boot-code": f"{flag} lies in {flash}: what ",
        "memory-map": f"may be written, but lies in {flash}: a write there is lost",
        "flag-at-run-time": f"{flag} is 0x0 when {case.entry} at ",
        "stores": f"{head} holds 0x0 at the end" if seen.head is not None else "no barrier was called",
    }


def said(verdict: Verdict, diagnosis: str) -> str | None:
    """The line in which a claim gives `diagnosis`."""
    return next((line for line in verdict.details if diagnosis in line), None) if not verdict.passed else None


def silent_faults(case: Case, verdicts: Mapping[str, Verdict]) -> Iterator[str]:
    """In what `case`, with .bss in flash and writes to flash lost in silence, does not fail as the seed describes."""
    region = case.board.region_at(case.places.flag) if case.places.flag is not None else None
    if region is not case.board.flash:
        yield f"{FLAG} lies in {place(region)}, not in flash: the linker script does not heed `variant.zeroed`"
        return
    for name, diagnosis in diagnoses(case).items():
        verdict = verdicts[name]
        if verdict.result is not Result.FAILED:
            yield f"claim {name} is {verdict.result.value}, and must fail"
        elif said(verdict, diagnosis) is None:
            yield f"claim {name} fails, but does not say that {diagnosis!r}"
    run = case.embedded
    if run.flag_at_store is None or run.flag_at_entry != 0:
        yield f"{FLAG} must be stored to and still read 0 when {case.entry} begins"
    if not run.outcome.lost_write_count:
        yield "no write to flash was lost"
    if (made := assignment(case)) and not made.lost:
        yield f"the assignment at {made.store:#x} must be lost"
    if any(UNSET in case.elf.contents(s) for s in case.elf.sections if s.flags & SHF_ALLOC and s.in_file):
        if UNSET not in run.outcome.serial:
            yield f"the kernel did not send {UNSET.decode()!r}"
        if run.outcome.end is not End.EXIT or not run.outcome.exit_code:
            yield f"the run must exit with a status that is not 0: {ended(run.outcome)}"


def trapped_faults(case: Case) -> Iterator[str]:
    """In what `case`, with .bss in flash that page tables protect, is not stopped at its first write there."""
    outcome = case.embedded.outcome
    if case.embedded.flag_at_entry is not None:
        yield f"{case.entry} was reached, although boot code cannot write .bss"
    if outcome.end is End.EXIT and not outcome.exit_code:
        yield "the run must not end with status 0"
    if outcome.lost_write_count:
        yield f"{outcome.lost_write_count} writes to flash were lost, and must fault"
    if reported := EXCEPTION.search(outcome.serial):
        syndrome, _, address = (int(number, 16) for number in reported.groups())
        if syndrome >> 26 != DATA_ABORT or syndrome & (WRITE | STATUS) != WRITE | PERMISSION:
            yield f"the exception must be a write that is not permitted; ESR_EL1 is {syndrome:#x}"
        if address not in case.board.flash:
            yield f"the write that faults must be one to flash; FAR_EL1 is {address:#x}"


def _where(case: Case, address: int | None) -> str:
    return "nowhere" if address is None else f"{address:#x} ({place(case.board.region_at(address))})"


def _pointer(value: int | None) -> str:
    return "what cannot be read" if value is None else f"{value:#x}" if value else "nil"
