"""A run seen from outside: memory read and executions counted by the emulator, not told by the kernel.

Each emulator runs the image several times, so that watching disturbs nothing: once
unwatched, for how it ends; then counting; then, on the embedded emulator, following each
store, and on QEMU, stopping at a few places to read memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from buildsys.formats import a64
from buildsys.go.runtime import FLAG
from buildsys.machines.outcome import End, Outcome
from buildsys.proof.bootcode import FlagStore, flag_store

if TYPE_CHECKING:
    from buildsys.machines.embedded import Machine
    from buildsys.proof.case import Case
    from buildsys.proof.following import Followed

HEAD, HEAP = "main.heapSegmentListHead", "__heap_low"
EMBEDDED, QEMU = "the embedded emulator", "QEMU"

# What a watched run may take beyond the time limit, in seconds: a kernel that does little but
# store runs a hundred times slower. One that did not end by itself will not now.
SLOWER, HANGING = 60.0, 2.0

STUB = 0x40  # bytes: gcWriteBarrier1 to 8 are two instructions


@dataclass(frozen=True)
class Observation:
    """What the runs on one emulator did.

    `outcome` is that of the run that nothing watched, and `word` gives a 64-bit word of memory
    as it was when the guest exited; None if it could not be read. `flag_at_store` and
    `flag_at_entry` are the 32-bit flag in memory just before boot code's store and at the first
    instruction of the entry, None if a run never came there. `executions` counts calls of our
    functions, `originals` those of the functions they replace, by name and call site (the return
    address - 4; of an original entered elsewhere than at its start, whatever x30 held): all of
    them if `complete`, else those made before counting took too long.
    """

    machine: str
    outcome: Outcome
    word: Callable[[int], int | None]
    flag_at_store: int | None = None
    flag_at_entry: int | None = None
    executions: Counter[tuple[str, int]] = field(default_factory=Counter)
    originals: Counter[tuple[str, int]] = field(default_factory=Counter)
    complete: bool = False

    @property
    def by_function(self) -> Counter[str]:
        """Calls of our functions by name."""
        counts: Counter[str] = Counter()
        for (name, _), count in self.executions.items():
            counts[name] += count
        return counts


@dataclass(frozen=True)
class Places:
    """Addresses worth stopping at or reading, as far as the image has them.

    `ours` are the entries of our functions; `originals` the ranges of the functions they
    replace, from the first instruction that is still the original's: by address, the name.
    """

    flag: int | None
    store: FlagStore | None
    entry: int | None
    head: int | None
    heap: int | None
    ours: dict[int, str]
    originals: dict[range, str]


def places(case: Case) -> Places:
    """The places in `case`'s image."""
    addresses = case.elf.symbols.addresses(FLAG, case.entry, HEAD, HEAP)
    originals = {}
    # Ours, where it does not return, may go on to what it took the calls of, to say why the run ends.
    goes_on = set(case.called).intersection(case.plan.ends)
    for name, pair in case.pairs.items():
        if pair.old is not None and name not in case.redirected and name not in goes_on:
            # A function redirected at its entry begins with our branch: it runs if what follows does.
            skipped = 4 if name in case.entered else 0
            originals[range(pair.old.value + skipped, max(pair.old.end, pair.old.value + 4))] = name
    for name, pair in case.barriers.items():
        if pair.old is not None and (common := _common(case, pair.old.value, pair.old.end)):
            originals[common] = f"what {name} continues in"
    ours = {pair.new.value: name for name, pair in case.pairs.items() if pair.new}
    for one in case.redirected.values():
        if one.old is not None:
            first = one.old.value + (4 if one.taken else 0)
            # One that may be called is counted by its first instruction.
            end = first + 4 if one.original else max(one.old.end, one.old.value + 4)
            originals[range(first, end)] = one.name
        ours |= {one.new.value: one.asked.to} if one.new else {}
        ours |= {one.original.value: one.original.name} if one.original else {}
    return Places(
        flag=addresses.get(FLAG),
        store=flag_store(case) if FLAG in addresses else None,
        entry=addresses.get(case.entry),
        head=addresses.get(HEAD),
        heap=addresses.get(HEAP),
        ours=ours,
        originals={place: name for place, name in originals.items() if place},
    )


def _common(case: Case, start: int, end: int) -> range | None:
    """The function an original of a few instructions branches on to: gcWriteBarrier, behind gcWriteBarrier1 to 8."""
    for address in range(start, min(end, start + STUB), 4):
        word = case.elf.word(address)
        target = a64.branch_target(word, address) if word is not None and a64.is_b(word) else None
        if target is not None and not start <= target < end:
            function = case.elf.symbols.function_at(target)
            return range(function.value, function.end) if function else None
    return None


def observe_embedded(case: Case) -> Observation:
    """Run `case.image` on the embedded emulator, unwatched and then counting."""
    from buildsys.machines.embedded import Machine

    unwatched, machine, seen = Machine(case.board), Machine(case.board), case.places
    unwatched.load(case.image, case.dead_ends)
    machine.load(case.image)
    outcome = finished(unwatched.run(case.time_limit))
    flags: dict[str, int] = {}
    executions: Counter[tuple[str, int]] = Counter()
    originals: Counter[tuple[str, int]] = Counter()

    def reads(name: str) -> Callable[[Machine], None]:
        def read(machine: Machine) -> None:
            if seen.flag is not None:
                flags.setdefault(name, int.from_bytes(machine.read(seen.flag, 4), "little"))

        return read

    def counts(counter: Counter[tuple[str, int]], name: str) -> Callable[[Machine], None]:
        def count(machine: Machine) -> None:
            counter[name, machine.register("x30") - 4] += 1

        return count

    if seen.store is not None:
        machine.watch(seen.store.address, reads("store"))
    if seen.entry is not None:
        machine.watch(seen.entry, reads("entry"))
    for address, name in seen.ours.items():
        machine.watch(address, counts(executions, name))
    for place, name in seen.originals.items():
        machine.watch(place.start, counts(originals, name))
    counted = finished(machine.run(patience(case, outcome)))

    def word(address: int) -> int | None:
        try:
            return int.from_bytes(unwatched.read(address, 8), "little")
        except ValueError:
            return None

    return Observation(
        machine=EMBEDDED,
        outcome=outcome,
        word=word,
        flag_at_store=flags.get("store"),
        flag_at_entry=flags.get("entry"),
        executions=executions,
        originals=originals,
        complete=counted.end is outcome.end,
    )


def follow_stores(case: Case) -> Followed:
    """Run `case.image` on the embedded emulator and follow each store whose barrier was called."""
    from buildsys.machines.embedded import Machine
    from buildsys.proof.following import Follower

    machine = Machine(case.board)
    machine.load(case.image)
    follower = Follower(case, machine, case.embedded.executions)
    outcome = finished(machine.run(patience(case, case.embedded.outcome)))
    return follower.result(cut=outcome.end is End.TIME_LIMIT)


def also(runs: Sequence[Observation]) -> str:
    """What a figure says of the other emulator."""
    return f", also on {QEMU}" if len(runs) > 1 else f"; {QEMU}: not run"


def patience(case: Case, outcome: Outcome) -> float:
    """Seconds a watched run may take, given the unwatched one."""
    if outcome.end is End.TIME_LIMIT:
        return min(case.time_limit, HANGING)
    return case.time_limit + SLOWER


def finished(outcome: Outcome) -> Outcome:
    """`outcome`, unless Ctrl-C made it: a proof interrupted proves nothing."""
    if outcome.end is End.INTERRUPTED:
        raise KeyboardInterrupt
    return outcome
