"""The allocator of the ready set `alloc`, tried, and images in which it does something else."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from buildsys.front.steps import Steps
from buildsys.proof import allocations
from buildsys.proof.allocations import CALLS, INTERRUPTED
from buildsys.proof.case import Case
from buildsys.proof.claims import boot_code

from .conftest import OnlyRed
from .mutants import relinked

TEMPLATE = "sets/alloc.s.j2"


def mutant(built: Steps, case: Case, folder: Path, edits: Mapping[str, str]) -> Case:
    return relinked(built, case, folder, {TEMPLATE: edits})


def test_the_allocator_of_the_reference_kernel_does_as_it_must(case: Case) -> None:
    tried = allocations.tried(case)
    assert tried.problems == []
    functions = len(case.plan.of_set("alloc").calls)
    assert tried.blocks >= CALLS
    assert tried.refused > 6 * functions
    # A call that is over before it is interrupted is not counted; most are not.
    assert INTERRUPTED * functions / 4 < tried.interrupted <= INTERRUPTED * functions


@pytest.mark.parametrize(
    ("edits", "said"),
    [
        ({"2:  stp     xzr, xzr, [x2]\n": "2:  nop\n"}, "which is not zeroed"),
        ({"stxr    w7, x6, [x4]": "str     x6, [x4]\n    mov     w7, wzr"}, "given before at"),
        ({"    cmp     x1, x6 ": "    cmp     xzr, xzr "}, "be001 bytes, and did not return"),
        ({"    b.cs    5f\n": "    nop\n"}, "asked for 0xffffffffffffffff bytes"),
        ({"add     x6, x5, x1": "mov     x6, x5"}, "given before at"),
        ({"add     x6, x5, x1": "sub     x6, x1, #16\n    add     x6, x5, x6"}, "given before at"),
        ({"add     x0, x2, x5\n": "add     x0, x2, x5\n    add     x0, x0, #8\n"}, "which is not aligned to 16"),
        ({"    bic     x0, x0, x1\n": "    nop\n"}, "which is not aligned to"),
        ({"    cbz     x0, 4f\n": "    nop\n"}, "asked for 0x0 bytes"),
        ({"4:  {{": "4:  movz    x0, #1\n    ret\n    {{"}, "not runtime.zerobase"),
        ({"3:  ret\n": "3:  str     x2, [x4, #8]\n    ret\n"}, "which it had not handed out"),
        ({"3:  ret\n": "3:  str     xzr, [x3, x4]\n    ret\n"}, "(UC_ERR"),
        ({"3:  ret\n": "3:  mov     x18, x0\n    ret\n"}, "and x18 became"),
        ({"3:  ret\n": "3:  sub     sp, sp, #16\n    ret\n"}, "and sp became"),
        ({"5:  clrex\n": "5:  str     xzr, [x4]\n"}, "buildsys.allocated became 0x0"),
        ({"    b.hi    5f\n": "    b.hi    .\n"}, "did not return"),
    ],
)
def test_an_allocator_that_does_something_else_is_seen(
    built: Steps, case: Case, tmp_path: Path, edits: Mapping[str, str], said: str
) -> None:
    (problem,) = allocations.tried(mutant(built, case, tmp_path, edits)).problems
    assert said in problem, problem


def test_the_claim_fails(built: Steps, case: Case, tmp_path: Path, only_red: OnlyRed) -> None:
    wrong = mutant(built, case, tmp_path, {"add     x6, x5, x1": "mov     x6, x5"})
    assert "given before at" in only_red("the allocator gives a block twice", wrong, "handlers").figure


@pytest.mark.parametrize(
    ("what", "old", "new", "said"),
    [
        ("what alloc hands out in the heap", "__heap_high  = __alloc_low", "__heap_high  = __alloc_high", "the heap"),
        ("what alloc hands out beyond RAM", "__alloc_high = {{", "__alloc_high = 4096 + {{", "the memory of alloc"),
    ],
)
def test_memory_that_is_not_allocs_alone_is_seen(
    built: Steps, case: Case, tmp_path: Path, only_red: OnlyRed, what: str, old: str, new: str, said: str
) -> None:
    wrong = relinked(built, case, tmp_path, {"kernel.ld.j2": {old: new}})
    also = ("handlers",) if "RAM" in what else ()  # it cannot be tried: what it would hand out is not there
    assert said in only_red(what, wrong, "memory-map", also).figure


@pytest.mark.parametrize(
    ("store", "field", "also"),
    [
        ('str     x0, [x28, #{{ offset("runtime.g.m") }}]', "runtime.g0.m", True),
        ('str     x28, [x0, #{{ offset("runtime.m.g0") }}]', "runtime.m0.g0", False),
        ('str     x28, [x0, #{{ offset("runtime.m.curg") }}]', "runtime.m0.curg", False),
        ('str     x1, [x0, #{{ offset("runtime.m.p") }}]', "runtime.m0.p", False),
        ('str     x2, [x1, #{{ offset("runtime.p.deferpool") }}]', "buildsys.p.deferpool", False),
        ('str     x2, [x1, #{{ offset("runtime.p.deferpool") + 16 }}]', "the capacity of buildsys.p.deferpool", False),
        ("str     w1, [x2]", "runtime.gomaxprocs", False),
    ],
)
def test_an_m_without_what_it_needs_is_seen(
    built: Steps, case: Case, tmp_path: Path, only_red: OnlyRed, store: str, field: str, also: bool
) -> None:
    """Without an m nothing runs that is asked to add itabs, and so not much else."""
    wrong = relinked(built, case, tmp_path, {"sets/alloc.s.j2": {store: "nop // " + store}})
    if also:
        assert f"{field} at" in boot_code.CLAIM.check(wrong).figure
    else:
        assert f"{field} at" in only_red(f"{field} never set", wrong, "boot-code").figure


@pytest.mark.parametrize("size", [4096, 0x10000, 0x24000])
def test_little_memory_is_enough_to_try_it(built: Steps, case: Case, tmp_path: Path, size: int) -> None:
    half = "ALIGN((__stack_high + __alloc_high) / 2, 4096);"
    script = {f"__alloc_low  = {half}": f"__alloc_low = __alloc_high - {size};"}
    little = relinked(built, case, tmp_path, {"kernel.ld.j2": script})
    tried = allocations.tried(little)
    assert tried.problems == []
    assert tried.blocks >= CALLS
