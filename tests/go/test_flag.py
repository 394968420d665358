"""Checks of the flag, as compilers of several Go releases write them, and what only looks like one."""

from __future__ import annotations

from pathlib import Path

import pytest

from buildsys.formats.references import references
from buildsys.go.flag import FLAG_BYTES, SEARCH, Judgement, code_of, judge
from buildsys.go.runtime import FLAG
from tests.snippets import TEXT, function, linked, variable

LOAD = ("adrp x27, flag", "ldr w3, [x27, :lo12:flag]")
RECORD = "stp x2, x3, [x25]"


def judged(folder: Path, *code: str, load: int = 0) -> Judgement:
    """The judgement on one load of the flag in a function of `code`: `barrier` and `copy` are served, `other` not."""
    parts = [variable(FLAG, 16), f"flag = {FLAG}", function("f", *code)]
    parts += [function(name, "ret") for name in ("barrier", "copy", "other")]
    elf = linked(folder, "\n".join(parts))
    at = {name: elf.symbols.addresses(name)[name] for name in ("barrier", "copy")}
    found = references(elf, code_of(elf), elf.symbols.addresses(FLAG)[FLAG], FLAG_BYTES)
    reads = [each for each in found if each.kind == "load"]
    return judge(code_of(elf), reads[load], set(at.values()), {each.address for each in reads})


def place(index: int) -> int:
    return TEXT + 4 * index


def test_a_check_that_branches_around_the_barrier_is_accounted_for(tmp_path: Path) -> None:
    """Go 1.21 and newer, most often."""
    check = judged(tmp_path, *LOAD, "cbz w3, 1f", "bl barrier", RECORD, "1: str x2, [x0]", "ret")
    assert check.accounted
    assert (check.branch, check.calls) == (place(2), (place(3),))
    assert check.when_set == (place(3), place(4))
    assert check.when_clear == (place(5), place(6))


def test_a_check_whose_barrier_is_elsewhere_is_accounted_for(tmp_path: Path) -> None:
    check = judged(tmp_path, *LOAD, "cbnz w3, 2f", "1: str x2, [x0]", "ret", "2: bl barrier", RECORD, "b 1b")
    assert check.accounted
    assert check.calls == (place(5),)
    assert check.when_set == (place(5), place(6), place(7))
    assert check.when_clear == (place(3), place(4))


def test_a_check_of_go_1_20_is_accounted_for(tmp_path: Path) -> None:
    """The address in a register, and the barrier makes the store."""
    load = ("adrp x1, flag", "add x1, x1, :lo12:flag", "ldr w3, [x1]")
    check = judged(tmp_path, *load, "cbnz w3, 2f", "str x2, [x0]", "b 1f", "2: bl barrier", "1: nop", "ret")
    assert check.accounted
    assert check.when_set == (place(6),)


@pytest.mark.parametrize("test", ["tbz w3, #0, 1f", "cbz x3, 1f"])
def test_a_test_of_the_byte_counts(tmp_path: Path, test: str) -> None:
    """runtime/atomic_pointer.go: `if writeBarrier.enabled`."""
    load = ("adrp x27, flag", "ldrb w3, [x27, :lo12:flag]")
    assert judged(tmp_path, *load, test, "bl barrier", "1: ret").accounted
    assert judged(tmp_path, *load, "tbnz w3, #0, 2f", "1: ret", "2: bl barrier", "b 1b").accounted


def test_a_decision_that_only_skips_the_call_is_allowed(tmp_path: Path) -> None:
    """runtime.typedmemmove: `if writeBarrier.enabled && typ.Pointers()`."""
    code = (*LOAD, "tbz w3, #0, 1f", "ldr x4, [x0, #8]", "cbz x4, 1f", "bl barrier", "1: str x2, [x0]", "ret")
    assert judged(tmp_path, *code).accounted


def test_every_call_on_the_way_belongs_to_the_check(tmp_path: Path) -> None:
    """More than eight pointers take two calls."""
    code = (*LOAD, "cbz w3, 1f", "bl barrier", RECORD, "bl copy", RECORD, "1: str x2, [x0]", "bl barrier", "ret")
    assert judged(tmp_path, *code).calls == (place(3), place(5))


def test_work_between_load_and_branch_is_allowed(tmp_path: Path) -> None:
    assert judged(tmp_path, *LOAD, "cmp x0, x1", "mov x9, x2", "cbz w3, 1f", "bl barrier", "1: ret").accounted


@pytest.mark.parametrize(
    "code",
    [
        ("cbz w3, 1f", "bl other", "1: ret"),
        ("cbz w3, 1f", "mov x0, x1", "1: ret"),  # nothing is called
        ("cbz w3, 1f", "blr x4", "1: ret"),
        ("cbz w3, 1f", "ret", "1: bl barrier", "ret"),
        ("cbnz w3, 1f", "bl barrier", "1: ret"),  # turned round
        ("cbz w4, 1f", "bl barrier", "1: ret"),  # another register
        ("tbz w3, #1, 1f", "bl barrier", "1: ret"),  # another bit
        ("mov w3, w4", "cbz w3, 1f", "bl barrier", "1: ret"),  # overwritten
        ("ldp x2, x3, [x0]", "cbz w3, 1f", "bl barrier", "1: ret"),
        ("b.eq 1f", "cbz w3, 1f", "bl barrier", "1: ret"),
        ("bl other", "cbz w3, 1f", "bl barrier", "1: ret"),
        ("str w3, [sp]", "ret"),
        ("cbz w3, 1f", "cbz x4, 2f", "bl barrier", "b 1f", "2: bl other", "1: ret"),  # on one of its paths
        ("cbz w3, 1f", "b other", "1: ret"),
        ("cbz w3, 1f", *["nop"] * SEARCH, "bl barrier", "1: ret"),
    ],
)
def test_what_is_no_check_is_not_taken_for_one(tmp_path: Path, code: tuple[str, ...]) -> None:
    assert not judged(tmp_path, *LOAD, *code).accounted


def test_the_call_of_the_next_check_does_not_count_for_this_one(tmp_path: Path) -> None:
    """A check turned round leads to the next one."""
    code = (*LOAD, "cbnz w3, 1f", "bl barrier", "1: str x2, [x0]", *LOAD, "cbz w3, 2f", "bl barrier", "2: ret")
    assert not judged(tmp_path, *code).accounted
    assert judged(tmp_path, *code, load=1).accounted


def test_a_check_within_what_is_done_when_the_flag_is_set_is_part_of_it(tmp_path: Path) -> None:
    """As runtime.evacuate_fast64 has it: what comes of either is what comes when the flag is clear."""
    inner = ("cbz w3, 1f", *LOAD, "cbz w3, 2f", "bl barrier", "b 3f", "2: str x2, [x0]", "b 3f")
    code = (*LOAD, *inner, "1: str x2, [x0]", "3: ret")
    assert judged(tmp_path, *code).accounted
    assert judged(tmp_path, *code, load=1).accounted
    strays = (*LOAD, "cbz w3, 1f", *LOAD, "cbz w3, 2f", "bl other", "2: str x2, [x0]", "1: ret")
    assert not judged(tmp_path, *strays).accounted


def test_the_call_that_strays_is_named(tmp_path: Path) -> None:
    check = judged(tmp_path, *LOAD, "cbz w3, 1f", "nop", "bl other", "1: ret")
    assert check.stray is not None
    assert check.stray[0] == place(4)
    assert judged(tmp_path, *LOAD, "cbz w3, 1f", "bl barrier", "bl other", "1: ret").stray is None


def test_a_tail_call_counts(tmp_path: Path) -> None:
    assert judged(tmp_path, *LOAD, "cbz w3, 1f", "b barrier", "1: ret").accounted
