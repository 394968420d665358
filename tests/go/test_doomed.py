from __future__ import annotations

from buildsys.formats import a64
from buildsys.go.doomed import doomed

BASE, PANIC, HELPER = 0x1000, 0x8000, 0x9000
NOP, RET, BL = 0xD503201F, a64.RET, 0x9400_0000


def function(*rows: int | tuple[int, int]) -> list[int]:
    """Words at BASE; a pair is a branch word and where it goes, an index if small, else an address."""
    words = []
    for at, row in enumerate(rows):
        if isinstance(row, int):
            words.append(row)
            continue
        word, goal = row
        target = BASE + 4 * goal if goal < 0x100 else goal
        offset = target - (BASE + 4 * at)
        if word & 0x7C00_0000 == 0x1400_0000:
            words.append(a64.encode_branch(word, BASE + 4 * at, target))
        else:
            words.append(word | (offset >> 2 & 0x7FFFF) << 5)
    return words


CBZ = 0xB400_0000


def test_what_leads_only_to_a_panic_is_doomed() -> None:
    words = function((CBZ, 2), RET, (BL, HELPER), NOP, (BL, PANIC))
    assert doomed(words, BASE, {PANIC}) == {2, 3, 4}


def test_what_may_also_return_is_not() -> None:
    words = function((BL, HELPER), (CBZ, 3), (BL, PANIC), RET)
    assert doomed(words, BASE, {PANIC}) == {2}


def test_a_loop_without_an_exit_runs_and_is_not_doomed() -> None:
    words = function((CBZ, 3), NOP, (a64.BRANCH, 1), (BL, PANIC))
    assert doomed(words, BASE, {PANIC}) == {3}


def test_a_loop_that_can_only_end_in_a_panic_is_not_doomed_either() -> None:
    words = function(NOP, (CBZ, 0), (BL, PANIC))
    assert doomed(words, BASE, {PANIC}) == {2}


def test_both_ways_of_a_decision_doomed_dooms_the_decision() -> None:
    words = function((CBZ, 2), (a64.BRANCH, 4), NOP, (BL, PANIC), (BL, PANIC), RET)
    assert doomed(words, BASE, {PANIC}) == {0, 1, 2, 3, 4}


def test_an_indirect_branch_leads_anywhere() -> None:
    words = function(0xD61F0000, (BL, PANIC))
    assert doomed(words, BASE, {PANIC}) == {1}


def test_an_indirect_call_comes_back() -> None:
    words = function(0xD63F0000, (BL, PANIC))
    assert doomed(words, BASE, {PANIC}) == {0, 1}


def test_a_function_that_never_panics_has_nothing_doomed() -> None:
    assert doomed(function(NOP, (BL, HELPER), RET), BASE, {PANIC}) == set()
