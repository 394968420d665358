"""What a barrier of each policy must leave in memory, told call by call and held against what it left.

The functions on trial are called one after another, from several places, with memory that lasts
from one call to the next. What they then must have kept is made here again from the calls alone:
the layout is that of templates/barrier-*.s.j2, the way of telling it is not.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from buildsys.barriers.kept import BATCH, COUNTS, RING, UNCOUNTED
from buildsys.config.barrier import COUNT, RECORD, USER
from buildsys.formats.symbols import Symbol
from buildsys.proof.case import Case
from buildsys.proof.stranger import Stranger
from buildsys.proof.trials import CASES, FLAGS, SEED, State, Trial, Trials

# src/cmd/compile/internal/ssa/_gen/ARM64Ops.go, LoweredWB: R16 and R17 are a veneer's, R30 the
# return address, and the flags are no one's; R27 is the assembler's own (src/runtime/asm_arm64.s).
MAY_CHANGE = frozenset({16, 17, 27, 30, FLAGS})
SLOTS, DESTINATION, VALUE = 25, 2, 3
ENTRY = 10  # words: the return address, how many slots, eight slots
RING_HEAD, BATCH_HEAD = 2, 8  # words before the first entry
DRAIN = "buildsys.drain"
TAKEN, BUSY, BATCHES, GIVEN, DROPPED = range(5)  # words of buildsys.batch
OWN = {
    COUNT: (COUNTS, UNCOUNTED),
    RECORD: (RING,),
    USER: (BATCH, "buildsys.batch_g", "buildsys.batch_stack"),
}
Unfit = Callable[[int, int], str]
LAPS = 700  # cases after which a ring begins anew, or a batch is full


@dataclass(frozen=True)
class Keeping:
    """The memory a policy keeps things in: its variables by name, and trials with all of it writable.

    `stranger` stands in the place of the function that is given batches.
    """

    variables: dict[str, Symbol]
    trials: Trials
    preset: int
    stranger: Stranger | None

    def words(self, name: str) -> tuple[int, ...]:
        """What the variable `name` holds after a trial."""
        symbol = self.variables[name]
        return struct.unpack(f"<{symbol.size // 8}Q", self.trials.read(symbol.value, symbol.size & ~7))


def keeping(case: Case) -> Keeping | str:
    """Trials for the policy of `case`; or what its image lacks."""
    policy = case.barrier
    variables = {}
    for name, symbols in case.elf.symbols.named(*OWN[policy.name]).items():
        if len(symbols) != 1 or not symbols[0].size:
            return f"{name} is {'no variable' if not symbols else 'several variables'} of this image"
        variables[name] = symbols[0]
    preset = 0 if policy.name == COUNT else max(1, policy.ring - LAPS)
    words = () if policy.name == COUNT else ((next(iter(variables.values())).value, preset),)
    pairs = variables[COUNTS].size // 16 if policy.name == COUNT else 0
    ranges = tuple(range(each.value, each.end) for each in variables.values())
    # In a table for N places, N places find room however unlucky they are.
    places = max(8, min(256, len(case.sites))) if pairs else 64
    trials = Trials(case.elf, case.board, State(ranges, words, places, max(4096, 4 << max(pairs.bit_length() - 1, 0))))
    stranger = None
    if policy.name == USER:
        functions = case.elf.symbols.named(policy.function)[policy.function]
        barrier = case.barriers[case.plan.barriers[0].name].new
        if len({each.value for each in functions}) != 1 or barrier is None:
            return f"{policy.function} is no function of this image, or several"
        stranger = Stranger(trials, functions[0].value, barrier.value)
    return Keeping(variables, trials, preset, stranger)


def try_policy(case: Case, kept: Keeping, function: Symbol, slots: int | None) -> Trial:
    """Try `function`, which gives `slots` slots, or makes the store if 0, or announces a move if None."""
    if kept.stranger is not None:
        kept.stranger.arrive()
    if slots is None and case.barrier.name != COUNT:
        return kept.trials.run(function, frozenset(), None)
    if slots:
        return kept.trials.run(function, MAY_CHANGE | {SLOTS}, None)
    return kept.trials.run(function, MAY_CHANGE, DESTINATION if slots == 0 else None)


def left(case: Case, kept: Keeping, function: Symbol, trial: Trial, slots: int | None, unfit: Unfit) -> Iterator[str]:
    """What `function` left in memory that it must not, or did not leave that it must.

    `unfit` tells why a number of bytes at an address are no slots.
    """
    where = f"{function.name} at {function.value:#x}"
    if case.barrier.name == COUNT:
        yield from _counted(kept, where, trial)
        if slots:
            yield from _not_kept(kept, where, trial.output(SLOTS), 8 * slots)
    elif slots is not None:
        calls = _calls(kept, trial, slots)
        yield from (_recorded if case.barrier.name == RECORD else _given)(case, kept, where, calls, trial)
        if kept.stranger is not None and case.plan.abi == "slots":
            given = {x25 for *_, x25 in kept.stranger.visits()}
            size = 8 * case.plan.barriers[0].slots
            yield from _not_kept(kept, where, given, size)
            for address in sorted(given):
                if reason := unfit(address, size):
                    yield f"{where}: a barrier while a batch is given away gets slots at {address:#x}: {reason}"


def drained(case: Case, kept: Keeping) -> Iterator[str]:
    """What is wrong with buildsys.drain, which a kernel that ends itself calls; nothing under other policies."""
    if kept.stranger is None:
        return
    functions = case.elf.symbols.named(DRAIN)[DRAIN]
    if len(functions) != 1:
        yield f"{DRAIN} is {'no function' if not functions else 'several functions'} of this image"
        return
    kept.stranger.arrive()
    trial = kept.trials.run(functions[0], MAY_CHANGE, None)
    first, where = kept.variables[BATCH].value + 8 * BATCH_HEAD, f"{DRAIN} at {functions[0].value:#x}"
    visits, words = [visit[:3] for visit in kept.stranger.visits()], kept.words(BATCH)
    if trial.fault or trial.ran_off:
        yield f"{where}: {trial.fault or 'does not return'} (case {trial.case}, seed {SEED})"
    elif trial.changed:
        yield f"{where} changes {trial.changed[0]}: {trial.changed[1]:#x} became {trial.changed[2]:#x}"
    elif trial.stores:
        yield f"{where} writes memory that is not its own"
    elif visits != [(first, kept.preset, kept.preset)]:
        yield f"{where} gave {[visit[1] for visit in visits]} entries; there were {kept.preset}"
    elif (found := words[: DROPPED + 1]) != (0, 0, 1, kept.preset, 1):
        yield f"{where} leaves {found} in {BATCH}"


def _not_kept(kept: Keeping, where: str, slots: Iterable[int], size: int) -> Iterator[str]:
    """Slots that are where something is kept: callers would overwrite it."""
    for address in sorted(set(slots)):
        for name, symbol in kept.variables.items():
            if address < symbol.end and symbol.value < address + size:
                yield f"{where} hands out slots at {address:#x}, in {name}: what is kept there would be overwritten"
                return


def _counted(kept: Keeping, where: str, trial: Trial) -> Iterator[str]:
    wanted = Counter(trial.input(30))
    table = kept.words(COUNTS)
    found = Counter({back: count for count, back in zip(table[0::2], table[1::2], strict=True) if count or back})
    twice = [back for back, times in Counter(table[1::2]).items() if back and times > 1]
    if twice:
        yield f"{where} counts calls that return to {twice[0]:#x} in two places"
    elif kept.words(UNCOUNTED) != (0,):
        yield f"{where} found no room for {len(wanted)} places"
    elif found != wanted:
        back = min(found.keys() ^ wanted.keys() or {each for each in wanted if found[each] != wanted[each]})
        yield f"{where} counted {found[back]} calls that return to {back:#x}; there were {wanted[back]}"


def _calls(kept: Keeping, trial: Trial, slots: int) -> list[tuple[int, ...]]:
    """What the entry of each case must begin with: return address, how many slots, and those written."""
    backs = trial.input(30)
    if slots:
        return [(back, slots, *[back] * slots) for back in backs]
    stores = zip(backs, trial.input(DESTINATION), trial.input(VALUE), strict=True)
    return [
        (back, 3, value, int.from_bytes(kept.trials.read(place, 8), "little"), place) for back, place, value in stores
    ]


def _recorded(case: Case, kept: Keeping, where: str, calls: Sequence[tuple[int, ...]], trial: Trial) -> Iterator[str]:
    ring, words = case.barrier.ring, kept.words(RING)
    if words[0] != kept.preset + len(calls):
        yield f"{where} noted {words[0] - kept.preset} calls in {RING}; there were {len(calls)}"
        return
    last = {(kept.preset + at) % ring: call for at, call in enumerate(calls)}
    yield from _entries(where, words[RING_HEAD:], last)
    places = [kept.variables[RING].value + 8 * (RING_HEAD + ENTRY * ((kept.preset + at) % ring)) + 16
              for at in range(len(calls))]  # fmt: skip
    yield from _handed_out(case, where, trial, places)


def _given(case: Case, kept: Keeping, where: str, calls: Sequence[tuple[int, ...]], trial: Trial) -> Iterator[str]:
    ring, words, stranger = case.barrier.ring, kept.words(BATCH), kept.stranger
    assert stranger is not None, "this policy has a function"
    base = kept.variables[BATCH].value
    first, taken, batches = base + 8 * BATCH_HEAD, kept.preset, 0
    last: dict[int, tuple[int, ...]] = {}
    places = []
    for call in calls:
        if taken == ring:
            taken, batches = 0, batches + 1
        last[taken] = call
        places.append(first + 8 * ENTRY * taken + 16)
        taken += 1
    wanted = {TAKEN: taken, BUSY: 0, BATCHES: batches, GIVEN: ring * batches, DROPPED: batches}
    names = ("entries taken", "at work", "batches given", "entries given", "calls dropped")
    for at, value in wanted.items():
        if words[at] != value:
            yield f"{where}: {names[at]}: {words[at]} in {BATCH}, and {value} is right"
            return
    for address, count, room, _ in (visits := stranger.visits()):
        if (address, count, room) != (first, ring, ring):
            yield (
                f"{where} gave {count} entries, with room for {room}, at {address:#x}; right is {ring} at {first:#x}"
            )
            return
    if len(visits) != batches:
        yield f"{where} called {case.barrier.function} {len(visits)} times for {batches} batches"
        return
    yield from _entries(where, words[BATCH_HEAD:], last)
    yield from _handed_out(case, where, trial, places)


def _entries(where: str, words: Sequence[int], last: dict[int, tuple[int, ...]]) -> Iterator[str]:
    for at, call in last.items():
        found = words[ENTRY * at : ENTRY * at + len(call)]
        if found != call:
            shown = " ".join(hex(word) for word in found)
            yield f"{where}: entry {at} holds {shown}; right is {' '.join(hex(word) for word in call)}"
            return


def _handed_out(case: Case, where: str, trial: Trial, places: Sequence[int]) -> Iterator[str]:
    if case.plan.abi != "slots":
        return
    for at, (found, wanted) in enumerate(zip(trial.output(SLOTS), places, strict=True)):
        if found != wanted:
            yield f"{where} returns x25 = {found:#x} in case {at}, and {wanted:#x} are the slots of its entry"
            return


def remark(case: Case) -> str:
    """What is told of the cases of a policy."""
    return {
        COUNT: "each call counted for its place",
        RECORD: f"each call with its place in one of {case.barrier.ring} entries",
        USER: f"each call with its place in a batch of {case.barrier.ring} for {case.barrier.function}",
    }[case.barrier.name] + f", {CASES} calls of each"
