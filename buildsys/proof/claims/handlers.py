"""Claim: our barrier functions do what compiled code expects of them, and nothing else.

The bytes of each function in the image are executed, with random registers,
flags and memory, thousands of times. What a barrier may do is told from the
barrier ABI of the Go object; a function for the collector may do nothing, and
no more may the lock of the ready set `print`, nor the clock of mutexes of the set `wait`. What else the sets `print`,
`panic` and `wait` serve is called in a run of the image. The allocator of the set `alloc`
is called as often as a barrier, for blocks of every size.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from functools import partial

from buildsys.config.barrier import COUNT, DISCARD, RECORD
from buildsys.formats.elf import PF_W, PT_LOAD
from buildsys.formats.symbols import Symbol
from buildsys.go.sets import SINCE, WAIT
from buildsys.proof import allocations
from buildsys.proof.case import Case
from buildsys.proof.claim import Claim, Verdict, verdict
from buildsys.proof.policies import Keeping, drained, keeping, left, remark, try_policy
from buildsys.proof.reports import WRITE, tried
from buildsys.proof.trials import CASES, SEED, Trial, Trials

POINTER = 8  # bytes
SLOTS, DESTINATION, VALUE = 25, 2, 3  # registers of the barrier ABI: src/runtime/asm_arm64.s
# R27 is the assembler's, R30 the return address: a call of a barrier overwrites both.
MAY_CHANGE = frozenset({27, 30})


def check(case: Case) -> Verdict:
    """Try every function that calls are redirected to."""
    kept = None if case.barrier.name == DISCARD else keeping(case)
    if isinstance(kept, str):
        return verdict([kept], "", {}, [], f"correct templates/barrier-{case.barrier.name}.s.j2, or your own")
    trials = Trials(case.elf, case.board) if kept is None else kept.trials
    slots: dict[str, int | None] = {barrier.name: barrier.slots for barrier in case.plan.barriers}
    slots |= dict.fromkeys(case.plan.readers)
    problems: list[str] = []
    evidence, details = {}, []
    for name, count in slots.items():
        function = case.pairs[name].new
        if function is None:
            problems.append(f"{name}: there is no single global function of this name to try")
            continue
        trial = _try(trials, function, count) if kept is None else try_policy(case, kept, function, count)
        found = [*_problems(case, function, trial, count, kept)]
        problems += found
        evidence[name] = {"address": hex(function.value), "cases": trial.cases, "problems": len(found)}
        details.append(
            f"{name} at {function.value:#x}: " + (_done(case, trial, count, kept) if not found else found[0])
        )
    locks = {name: frozenset[int]() for name in case.plan.of_set("print").calls if name != WRITE}
    # Since when who waits for a mutex has waited: the result is in x0.
    locks |= {name: frozenset({0}) for name in case.plan.of_set(WAIT).calls if name in SINCE}
    idle = trials if kept is None else Trials(case.elf, case.board)
    for name, may_change in locks.items():
        if name not in case.called:
            continue
        function = case.pairs[name].new
        problems += (
            _failure(case, function, idle.run(function, may_change, None))
            if function
            else [f"{name}: there is no single global function of this name to try"]
        )
    problems += drained(case, kept) if kept else ()
    reports, allocator = tried(case), allocations.tried(case)
    problems += [*reports.problems, *allocator.problems]
    of_sets = f"; {reports.texts} texts printed" if reports.texts else ""
    of_sets += f"; {len(reports.ends)} ways to end, each told" if reports.ends else ""
    of_sets += f"; {allocator.blocks} blocks allocated" if allocator.blocks else ""
    details += [f"{name}: {said!r}" for name, said in reports.ends.items()]
    if allocator.blocks and not allocator.problems:
        details.append(
            f"the allocator: {allocator.blocks} blocks, {allocator.refused} calls refused, "
            f"{allocator.interrupted} interrupted"
        )
    return verdict(
        problems,
        f"{len(evidence)} functions, {trials.count} cases"
        + (f", policy {case.barrier.name}" if kept else "")
        + of_sets,
        {"seed": SEED, "cases": trials.count, "policy": case.barrier.name, "functions": evidence}
        | {"texts": reports.texts, "ends": reports.ends, "allocator": asdict(allocator)},
        [
            *details,
            *([remark(case)] if kept else []),
            f"{CASES} cases each of random registers, flags and memory, seed {SEED}",
        ],
        "correct templates/writebarrier.s.j2, or your own in its place",
    )


def _try(trials: Trials, function: Symbol, slots: int | None) -> Trial:
    """`slots` as for _problems."""
    if slots is None:
        return trials.run(function, frozenset(), None)
    return trials.run(function, MAY_CHANGE | {SLOTS}, None) if slots else trials.run(function, MAY_CHANGE, DESTINATION)


def _problems(case: Case, function: Symbol, trial: Trial, slots: int | None, kept: Keeping | None) -> Iterator[str]:
    """What is wrong with a function that gives `slots` slots, or makes the store if 0, or does nothing if None.

    `kept` is what its policy keeps, if it keeps anything.
    """
    failures = list(_failure(case, function, trial))
    yield from failures
    if slots == 0 and not failures:
        yield from _stored(function, trial)
    if slots != 0:
        yield from _writes(case, function, trial)
    if slots and not failures:
        yield from _slots(case, function, trial, slots, kept)
    if kept and not failures:
        yield from left(case, kept, function, trial, slots, partial(_unfit, case))


def _done(case: Case, trial: Trial, slots: int | None, kept: Keeping | None) -> str:
    if kept and (slots is not None or case.barrier.name == COUNT):
        return {COUNT: "counted", RECORD: "recorded"}.get(case.barrier.name, "in a batch") + ", nothing else changed"
    if slots is None:
        return "nothing changed"
    if slots == 0:
        return "x3 stored where x2 points, nothing else changed"
    places = ", ".join(_symbol(case, value) for value in sorted(set(trial.output(SLOTS))))
    return f"x25 → {places}, nothing else changed"


def _symbol(case: Case, address: int) -> str:
    holder = _holder(case, address)
    return f"{holder.name} at {address:#x}" if holder else f"{address:#x}"


def _failure(case: Case, function: Symbol, trial: Trial) -> Iterator[str]:
    """How the function did not come back, or what it changed that it must not."""
    where = f"{function.name} at {function.value:#x}"
    if trial.ran_off:
        after = case.elf.symbols.function_at(function.end)
        into = after.name if after else "what is no function"
        last = case.elf.word(function.end - 4) or 0
        yield f"{where} does not return: after its last instruction, {last:#010x} at {function.end - 4:#x}, runs {into}"
    elif trial.fault:
        yield f"{where}: {trial.fault} (case {trial.case}, seed {SEED})"
    elif trial.changed:
        name, old, new = trial.changed
        yield f"{where} changes {name}: {old:#x} became {new:#x} (case {trial.case}, seed {SEED})"


def _writes(case: Case, function: Symbol, trial: Trial) -> Iterator[str]:
    if trial.stores:
        store = trial.stores[0]
        holder = _holder(case, store.address)
        name = f" ({holder.name})" if holder else ""
        yield (
            f"{function.name} at {function.value:#x} writes memory: {store.size} bytes at {store.address:#x}{name}, "
            f"by the instruction at {store.pc:#x}"
        )


def _stored(function: Symbol, trial: Trial) -> Iterator[str]:
    """Whether each case made one store, of x3 to where x2 points."""
    wanted = list(zip(trial.input(DESTINATION), trial.input(VALUE), strict=True))
    made = [(store.address, store.value) for store in trial.stores if store.size == POINTER]
    if made == wanted and len(trial.stores) == len(wanted):
        return
    where = f"{function.name} at {function.value:#x}"
    if len(trial.stores) != len(wanted):
        yield f"{where} made {len(trial.stores)} stores in {len(wanted)} cases; one each is right"
        return
    for case, (store, (address, value)) in enumerate(zip(trial.stores, wanted, strict=True)):
        if (store.address, store.size, store.value) != (address, POINTER, value):
            yield (
                f"{where} stored {store.size} bytes, {store.value:#x}, at {store.address:#x}; x2 was {address:#x} "
                f"and x3 {value:#x} (case {case}, seed {SEED})"
            )
            return


def _slots(case: Case, function: Symbol, trial: Trial, count: int, kept: Keeping | None) -> Iterator[str]:
    """Whether x25 always points at `count` slots that may be overwritten."""
    where = f"{function.name} at {function.value:#x}"
    found = sorted(set(trial.output(SLOTS)))
    # Which entry each call must get is asked of each; here, that all of them lie where entries may.
    for address in found if kept is None else {found[0], found[-1]}:
        reason = _unfit(case, address, POINTER * count)
        if reason:
            yield f"{where} returns x25 = {address:#x}, but {reason}: the caller writes {POINTER * count} bytes there"


def _unfit(case: Case, low: int, size: int) -> str:
    """Why the `size` bytes at `low` are no slots; empty if they are."""
    high, board = low + size, case.board
    if low % POINTER:
        return "that is not aligned to 8 bytes"
    if low not in board.ram or high > board.ram.end:
        region = board.region_at(low)
        return f"that is not in RAM: it is in {region.name}" if region else "there is no memory"
    section = case.elf.section(".bss")
    if section is None or low not in section or high > section.end:
        return "that is not in .bss"
    writable = [each for each in case.elf.segments if each.kind == PT_LOAD and each.flags & PF_W]
    if not any(each.vma <= low and high <= each.vma + each.memory_size for each in writable):
        return "no writable segment holds that"
    owners = case.elf.symbols.overlapping(low, high)
    foreign = [owner for owner in owners if case.object.symbols.named(owner.name)[owner.name]]
    if foreign:
        return f"{foreign[0].name} of Go's lies there ({foreign[0].value:#x} to {foreign[0].end:#x})"
    if len(owners) != 1:
        return "no variable is there" if not owners else f"{owners[0].name} and {owners[1].name} share that"
    if low < owners[0].value or high > owners[0].end:
        return f"{owners[0].name} is only {owners[0].end - low} bytes from there on"
    return ""


def _holder(case: Case, address: int) -> Symbol | None:
    found = case.elf.symbols.overlapping(address, address + 1)
    return found[0] if found else None


CLAIM = Claim("handlers", "our barrier functions honour the barrier ABI and touch nothing else", check)
