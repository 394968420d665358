"""Claim: what is stored through a barrier arrives.

Shown, on the embedded emulator, of every call of a barrier of ours in the run (`following`
says of how many):

* where the barrier hands out slots (Go 1.21 and newer): as many words as it made room for
  are recorded there, in memory that is neither a variable, the heap nor the stack; every place
  whose old pointer was loaded and recorded is then stored to; every other pointer recorded
  is then stored, or is what a store replaced; and behind each of these stores memory holds the
  value stored. All of that on the straight line of code around the call, before anything
  else can run.
* where it makes the store itself: when it returns, memory at x2 holds x3.
* where it announces a move or clearing of many words: these words of memory become what
  the source held, or zero, before the line ends.

And at the end, on both emulators: `main.heapSegmentListHead`, if there is such a variable,
holds `__heap_low` (an address in RAM, if the kernel is not given the board table); and every
word that was stored to holds the same on both.
"""

from __future__ import annotations

from collections.abc import Sequence

from buildsys.config.project import BOARD_TABLE
from buildsys.proof.case import Case
from buildsys.proof.claim import Claim, Verdict, verdict
from buildsys.proof.following import Followed
from buildsys.proof.observation import HEAD, HEAP, Observation, Places, also

TOLD = 20  # words that differ


def check(case: Case) -> Verdict:
    """Follow each store, then look at memory when the run has ended."""
    followed, seen, runs = case.followed, case.places, case.runs
    problems = list(followed.faults)
    if not followed.calls:
        problems.append("no barrier was called: no store was exercised")
    problems += [problem for run in runs for problem in _head(case, run)]
    # Which page is whose, and who waits, differs from run to run of a supervisor: its program is told the time.
    compared = () if case.program else runs[1:]
    problems += [problem for run in compared for problem in _differences(case, runs[0], run)]
    calls, beyond = followed.calls.total(), followed.beyond.total()
    held = f"{HEAD} = {_hex(runs[0].word(seen.head))}" if seen.head is not None else f"no {HEAD}"
    return verdict(
        problems,
        f"{calls} calls from {followed.sites} sites followed{f', {beyond} not' if beyond else ''}: "
        f"every store in memory; {held}{also(runs)}",
        {
            "followed": dict(followed.calls),
            "not followed": dict(followed.beyond),
            "sites": followed.sites,
            "words stored to": len(followed.destinations),
            HEAD: {run.machine: _hex(run.word(seen.head)) for run in runs if seen.head is not None},
            HEAP: _hex(seen.heap),
        },
        _details(followed, seen, runs, bool(compared)),
        "a store that does not arrive went to memory that cannot be written, or the barrier broke a register",
    )


def _details(followed: Followed, seen: Places, runs: Sequence[Observation], compared: bool) -> list[str]:
    words = f"{len(followed.destinations)} words stored to, outside the stack"
    return [
        *(f"{count:6} calls of {name} followed" for name, count in followed.calls.most_common()),
        *(f"{count:6} calls of {name} not followed" for name, count in followed.beyond.most_common()),
        f"{words}, compared between the emulators" if compared else words,
        *(
            f"{HEAD} at {seen.head:#x} holds {_hex(run.word(seen.head))} when the run on {run.machine} ends"
            for run in runs
            if seen.head is not None
        ),
    ]


def _head(case: Case, run: Observation) -> list[str]:
    seen = case.places
    if seen.head is None:
        return []
    if seen.heap is None:
        return [f"the image has no symbol {HEAP} to compare {HEAD} with"]
    held, where = run.word(seen.head), f"{HEAD} at {seen.head:#x}"
    if held is None:
        return [f"on {run.machine} {where} could not be read: {run.outcome.end.value}"]
    if BOARD_TABLE not in case.arguments:  # nobody told it where __heap_low is: any memory will do
        if held not in case.board.ram:
            return [f"on {run.machine} {where} holds {held:#x} at the end, which is not in RAM"]
    elif held != seen.heap:
        return [f"on {run.machine} {where} holds {held:#x} at the end, {HEAP} is {seen.heap:#x}"]
    return []


def _differences(case: Case, one: Observation, other: Observation) -> list[str]:
    """Words that were stored to and hold something else on the other emulator."""
    problems = []
    for address in sorted(case.followed.destinations - {case.places.head}):
        ours, theirs = one.word(address), other.word(address)
        if ours != theirs and theirs is not None:
            variable = case.elf.symbols.object_at(address)
            name = f" ({variable.name})" if variable else ""
            problems.append(
                f"{address:#x}{name}, stored to through a barrier, holds {_hex(ours)} at the end "
                f"on {one.machine}, {_hex(theirs)} on {other.machine}"
            )
    return problems[:TOLD]


def _hex(value: int | None) -> str | None:
    return None if value is None else hex(value)


CLAIM = Claim("stores", "every store through a barrier reached its destination", check, observed=True)
