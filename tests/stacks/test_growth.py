"""What assembly does to its stack, told from its instructions, where it is plain to see."""

from __future__ import annotations

from pathlib import Path

import pytest

from buildsys.formats.elf import Elf
from buildsys.go.flag import code_of
from buildsys.stacks.growth import LOOP, LOST, Growth, Growths
from tests.snippets import function, linked, variable


def growth(elf: Elf, name: str) -> Growth:
    code = code_of(elf)
    return Growths(elf, code, ()).of(code.body(elf.symbols.addresses(name)[name]), 0)


def of(folder: Path, *code: str) -> Growth:
    return growth(linked(folder, function("f", *code) + function("g", "ret")), "f")


@pytest.mark.parametrize(
    ("code", "most"),
    [
        (("ret",), 0),
        (("sub sp, sp, #48", "add sp, sp, #48", "ret"), 48),
        (("sub sp, sp, #1, lsl #12", "sub sp, sp, #16", "ret"), 4112),
        (("stp x29, x30, [sp, #-32]!", "ldp x29, x30, [sp], #32", "ret"), 32),
        (("stp w0, w1, [sp, #-16]!", "ret"), 16),
        (("stp q0, q1, [sp, #-64]!", "stp d0, d1, [sp, #-16]!", "ret"), 80),
        (("str x30, [sp, #-16]!", "ldr x30, [sp], #16", "ret"), 16),
        (("str q0, [sp, #-32]!", "strb w0, [sp, #-16]!", "ret"), 48),
        (
            ("stp x0, x1, [sp, #16]", "str x0, [sp, #8]", "ldur x0, [sp, #-8]", "add x1, sp, #64", "cmp sp, x1", "ret"),
            0,
        ),
        (("cbz x0, 1f", "sub sp, sp, #64", "add sp, sp, #64", "1: sub sp, sp, #16", "ret"), 64),
    ],
)
def test_every_instruction_that_moves_sp_counts(code: tuple[str, ...], most: int, tmp_path: Path) -> None:
    found = of(tmp_path, *code)
    assert (found.most, found.unknown) == (most, ())


def test_a_call_is_told_with_what_is_in_use_there(tmp_path: Path) -> None:
    elf = linked(tmp_path, function("f", "sub sp, sp, #32", "bl g", "add sp, sp, #32", "b g") + function("g", "ret"))
    calls = growth(elf, "f").calls
    assert [(call.target, call.place.number) for call in calls] == [(elf.symbols.addresses("g")["g"], 32)]


def test_what_is_jumped_to_counts_with_what_was_in_use(tmp_path: Path) -> None:
    elf = linked(tmp_path, function("f", "sub sp, sp, #32", "b g") + function("g", "sub sp, sp, #16", "ret"))
    assert growth(elf, "f").most == 48


@pytest.mark.parametrize(
    "call",
    [
        ("adrp x9, g", "add x9, x9, :lo12:g", "blr x9"),
        ("adr x9, g", "blr x9"),
        ("ldr x9, =g", "blr x9", "ret", ".ltorg"),
    ],
)
def test_a_call_through_a_register_that_was_just_filled_has_its_goal(call: tuple[str, ...], tmp_path: Path) -> None:
    elf = linked(tmp_path, function("f", *call) + function("g", "ret"))
    assert [each.target for each in growth(elf, "f").calls] == [elf.symbols.addresses("g")["g"]]


def test_a_register_that_a_call_may_change_is_no_goal(tmp_path: Path) -> None:
    elf = linked(tmp_path, function("f", "adr x9, g", "bl g", "blr x9", "ret") + function("g", "ret"))
    assert [each.target is None for each in growth(elf, "f").calls] == [False, True]


def test_another_stack_is_told_by_where_it_is(tmp_path: Path) -> None:
    code = ("mov x19, sp", "adrp x0, room", "add x0, x0, :lo12:room", "add sp, x0, #512", "stp x29, x30, [sp, #-16]!")
    elf = linked(
        tmp_path, variable("room", 512) + function("f", *code, "bl g", "mov sp, x19", "ret") + function("g", "ret")
    )
    found, room = growth(elf, "f"), elf.symbols.addresses("room")["room"]
    assert found.most == 0
    assert found.unknown == ()
    assert [(call.place.absolute, call.place.number) for call in found.calls] == [(True, room + 512 - 16)]
    assert min(address for _, address in found.placed) == room + 496


def test_a_stack_of_which_nothing_is_known_is_told_if_it_is_used(tmp_path: Path) -> None:
    assert [why for _, why in of(tmp_path, "mov sp, x3", "bl g", "ret").unknown] == [LOST]
    assert [why for _, why in of(tmp_path, "sub sp, sp, x3", "str x0, [sp, #-16]!", "ret").unknown] == [LOST]
    assert of(tmp_path, "mov sp, x3", "ret").unknown == ()


def test_a_loop_that_pushes_has_no_bound(tmp_path: Path) -> None:
    assert [why for _, why in of(tmp_path, "1: stp x0, x1, [sp, #-16]!", "b 1b").unknown] == [LOOP]
    assert of(tmp_path, "1: stp x0, x1, [sp, #-16]!", "ldp x0, x1, [sp], #16", "cbnz x0, 1b", "ret").unknown == ()


def test_what_ends_the_run_does_not_come_back(tmp_path: Path) -> None:
    code = ("1: stp x0, x1, [sp, #-16]!", "mov w0, #0x18", "hlt #0xf000", "b 1b")
    assert of(tmp_path, *code).unknown == ()
    assert of(tmp_path, *(each.replace("0x18", "0x4") for each in code)).unknown != ()


def test_vectors_are_told_where_they_are_set(tmp_path: Path) -> None:
    elf = linked(tmp_path, function("f", "adr x0, g", "msr vbar_el1, x0", "ret") + function("g", "ret"))
    assert growth(elf, "f").vectors == (elf.symbols.addresses("g")["g"],)
