"""Claim: the program's own barriers reach its collector.

Every call of one goes to the function of Go's runtime itself; or, where they are counted, to ours of
the same name, which is executed here, from each register filled with noise: it must come to the original with
every register as it was but x16, x17, x27 and the flags, and with one more call counted for its return address.
The program's flag begins as 0 and is written by nobody but its runtime, which turns it on and off
(src/runtime/mgc.go, setGCPhase).
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterable

from buildsys.formats.callsites import call_sites
from buildsys.formats.elf import SHT_NOBITS
from buildsys.formats.references import references
from buildsys.formats.symbols import Symbol
from buildsys.go.flag import FLAG_BYTES
from buildsys.go.runtime import FLAG, SLOTTED
from buildsys.machines.embedded import Machine
from buildsys.machines.outcome import End
from buildsys.proof.case import Case, Pair
from buildsys.proof.claim import Claim, Verdict, verdict
from buildsys.proof.claims.call_sites import relocated
from buildsys.stages.programs import PREFIX

COUNTS = "buildsys.counts"
CLOBBERED = (16, 17, 27)  # cmd/compile/internal/ssa/_gen/ARM64Ops.go, LoweredWB, and the assembler's own
SETS = (f"{PREFIX}runtime.",)  # who may write the flag
TRIALS = 20
LIMIT = 20.0  # seconds


def check(case: Case) -> Verdict:
    """Compare every call with what the linker made; execute what counts; look for who writes the flag."""
    names = [PREFIX + name for name in SLOTTED]
    pairs = {name: pair for name, found in case.elf.symbols.named(*names).items() if (pair := _pair(name, found)).old}
    if not pairs:
        return verdict([f"the program has no {names[0]}"], "", {}, [], _ADVICE)
    counted = any(pair.new for pair in pairs.values())
    goals = {name: (pair.new or pair.old if counted else pair.old) for name, pair in pairs.items()}
    linked = relocated(case.before, pairs)
    found = {site.address: site.target for site in call_sites(case.elf, _addresses(pairs))}
    problems = []
    for place, name in linked.items():
        goal = goals[name]
        if goal is None or found.get(place) != goal.value:
            where = case.elf.symbols.function_at(place)
            inside = f" in {where.name}" if where else ""
            problems.append(f"the call of {name} at {place:#x}{inside} does not go to {'ours' if counted else 'it'}")
    problems += [
        f"{place:#x} goes to a barrier of the program, and called none"
        for place in found
        if place not in linked and not _inside(place, pairs)
    ]
    problems += _flag(case)
    tried = 0
    if counted:
        tried, wrong = _executed(case, pairs)
        problems += wrong
    return verdict(
        problems,
        f"{len(linked)} calls "
        + (f"go to what counts them and passes on, as {tried} trials show" if counted else "go to Go's own functions"),
        {"calls": len(linked), "counted": counted, "trials": tried},
        [],
        _ADVICE,
    )


_ADVICE = "a collector that misses a pointer frees what is in use: `doit forget patch` and build again"


def _pair(name: str, symbols: Iterable[Symbol]) -> Pair:
    listed = list(symbols)
    old = [each for each in listed if not each.is_global]
    new = [each for each in listed if each.is_global]
    return Pair(name, old[0] if len(old) == 1 else None, new[0] if len(new) == 1 else None)


def _addresses(pairs: dict[str, Pair]) -> set[int]:
    return {each.value for pair in pairs.values() for each in (pair.old, pair.new) if each}


def _inside(place: int, pairs: dict[str, Pair]) -> bool:
    return any(each.value <= place < each.end for pair in pairs.values() for each in (pair.old, pair.new) if each)


def _flag(case: Case) -> list[str]:
    """What is wrong with the program's flag."""
    flag = case.elf.symbols.addresses(PREFIX + FLAG).get(PREFIX + FLAG)
    if flag is None:
        return [f"there is no {PREFIX + FLAG}"]
    section = next((each for each in case.elf.sections if each.address <= flag < each.end and each.address), None)
    problems = []
    if section is None or section.kind != SHT_NOBITS:
        problems.append(
            f"{PREFIX + FLAG} at {flag:#x} does not begin as 0: it is in {section.name if section else '?'}"
        )
    for use in references(case.elf, case.code, flag, FLAG_BYTES):
        inside = use.function.name if use.function else "no function"
        if use.kind == "store" and not inside.startswith(SETS):
            problems.append(f"{PREFIX + FLAG} is written by the instruction at {use.address:#x}, in {inside}")
    return problems


class _Done(Exception):  # noqa: N818  it ends a run, and is no error
    pass


def _executed(case: Case, pairs: dict[str, Pair]) -> tuple[int, list[str]]:
    """How often what counts was executed, and what was wrong."""
    table = next(iter(case.elf.symbols.named(COUNTS)[COUNTS]), None)
    if table is None:
        return 0, [f"there is no {COUNTS}"]
    both = [(pair.name, pair.old.value, pair.new.value) for pair in pairs.values() if pair.old and pair.new]
    problems = [f"{name} is not counted" for name, pair in pairs.items() if not pair.new]
    chance = random.Random(len(both))
    machine = Machine(case.board)
    machine.load(case.image)
    vectors = case.board.ram.end - 0x1000
    machine.at_el1(table.end & ~0xFFF | 0x100000, vectors, vectors)
    back = [case.board.text + 4 * chance.randrange(1 << 16) for _ in range(TRIALS)]
    plans = [(name, old, new, back[at]) for name, old, new in both for at in range(TRIALS)]
    expected: dict[int, int] = {}
    begun: list[dict[str, int]] = []

    def begin(machine: Machine) -> None:
        if len(begun) == len(plans):
            raise _Done
        _, _, new, returns = plans[len(begun)]
        given = {f"x{number}": chance.getrandbits(64) for number in range(31)} | {"x30": returns}
        for name, value in given.items():
            machine.set_register(name, value)
        begun.append(given)
        expected[returns] = expected.get(returns, 0) + 1
        machine.set_register("pc", new)

    def arrived(at: int) -> None:
        name, old, _, _ = plans[len(begun) - 1]
        if at != old:
            problems.append(f"ours for {name} goes on to {at:#x}, and that is another")
        for register, value in begun[-1].items():
            now = machine.register(register)
            if now != value and int(register[1:]) not in CLOBBERED:
                problems.append(f"ours for {name} changes {register} from {value:#x} to {now:#x}")
        begin(machine)

    def watch(old: int) -> None:
        machine.watch(old, lambda _: arrived(old))

    for old in {old for _, old, _ in both}:
        watch(old)
    begin(machine)
    try:
        outcome = machine.run(LIMIT)
    except _Done:
        words = struct.iter_unpack("<QQ", machine.read(table.value, table.size))
        kept = {returns: count for count, returns in words if count}
        if kept != expected:
            wrong = sorted(set(kept.items()) ^ set(expected.items()))
            problems.append(f"ours counted wrongly, such as {wrong[0][1]} calls that return to {wrong[0][0]:#x}")
    else:
        name = plans[len(begun) - 1][0]
        end = outcome.end.value if outcome.end is not End.EXIT else "it ended the run"
        problems.append(f"ours for {name} does not come to the original: {end} {outcome.detail}".rstrip())
    return len(begun), problems[:TRIALS]


CLAIM = Claim("program-barriers", "the program's own barriers pass on to its collector", check)
