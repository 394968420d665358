"""The functions an image takes over, told from the names an object defines."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildsys.errors import UserError
from buildsys.front.steps import Steps
from buildsys.go.runtime import READERS, SLOTTED, STORING, Barrier, plan
from buildsys.stages.objects import read_runtime
from tests.binutils import binutils


def test_a_release_with_numbered_barriers_hands_out_slots() -> None:
    found = plan({"runtime.gcWriteBarrier2", "runtime.gcWriteBarrier8", "main.main"}, "go.o")
    assert found.barriers == (Barrier("runtime.gcWriteBarrier2", 2), Barrier("runtime.gcWriteBarrier8", 8))
    assert (found.abi, found.slot_bytes) == ("slots", 64)


def test_a_release_with_one_barrier_has_it_do_the_store() -> None:
    found = plan({STORING, "main.main"}, "go.o")
    assert found.barriers == (Barrier(STORING, 0),)
    assert (found.abi, found.slot_bytes) == ("store", 0)


@given(st.sets(st.sampled_from(SLOTTED), min_size=1), st.sets(st.sampled_from(READERS)))
def test_only_what_the_object_defines_is_taken_over(barriers: set[str], readers: set[str]) -> None:
    found = plan(barriers | readers, "go.o")
    assert {barrier.name for barrier in found.barriers} == barriers
    assert set(found.readers) == readers
    assert set(found.functions) == barriers | readers
    assert found.slot_bytes == 8 * max(int(name[-1]) for name in barriers)


@pytest.mark.parametrize(
    ("functions", "listed"),
    [
        ({"main.main"}, "none"),
        ({"runtime.gcWriteBarrier9"}, "runtime.gcWriteBarrier9"),
        ({STORING, SLOTTED[0]}, f"{STORING}, {SLOTTED[0]}"),
    ],
)
def test_barriers_of_no_known_kind_are_an_error_that_lists_them(functions: set[str], listed: str) -> None:
    with pytest.raises(UserError) as caught:
        plan(functions, "build/go.o")
    message = "build/go.o: an unknown write barrier ABI: its barrier functions are "
    assert caught.value.message == message + listed
    assert "1.21" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "taken"),
    [
        ("runtime.morestack", True),
        ("runtime.morestack.abi0", True),
        ("runtime.morestack_noctxt.abi0", True),
        ("runtime.goPanicIndex", True),
        ("runtime.panicdivide", True),
        ("runtime.gopanic", True),
        ("runtime.throw", True),
        ("runtime.throw.func1", False),
        ("runtime.panicwrap.func1", False),
        ("runtime.fatalthrow", False),
        ("runtime.newobject", False),
        ("main.throw", False),
        ("internal/runtime.throw.x", False),
        ("runtime.runtime.throw", False),
    ],
)
def test_a_function_that_never_returns_is_told_by_its_name(name: str, taken: bool) -> None:
    assert (name in plan({SLOTTED[0], name}, "go.o").fatal) is taken


def test_the_plan_of_a_real_object_names_functions_it_defines(built: Steps) -> None:
    _, found = read_runtime(built.runtime_json)
    listed = binutils("nm", built.go_object).splitlines()
    functions = {line.split()[2] for line in listed if line.split()[1] in "tT"}
    assert set(found.functions) <= functions
    assert {name for name in SLOTTED if name in functions} == {barrier.name for barrier in found.barriers}
    assert [barrier.slots for barrier in found.barriers] == [int(barrier.name[-1]) for barrier in found.barriers]
    assert "runtime.wbMove" in found.readers
    assert {"runtime.gopanic", "runtime.throw"} <= set(found.ends)
    # A second definition of a name could be the one that is called.
    assert all(sum(line.split()[-1] == name for line in listed) == 1 for name in found.functions)
