"""Linking: addresses are bound until they hold still, and what cannot be linked leaves no image."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from buildsys.errors import UserError
from buildsys.formats.elf import Elf
from buildsys.front.steps import Steps

from .conftest import Project

ENTRY = "main.KernelMain"
FLAG = "runtime.writeBarrier"
TOOLCHAINS = pytest.mark.parametrize("toolchain", ["zig", "gnu", "llvm"])


def link(steps: Steps) -> int:
    """Link, and give how many passes it took."""
    passes: int = steps.records.perform(steps.link())["passes"]
    return passes


def refused(steps: Steps) -> UserError:
    """The error of linking; it leaves no half-made file, and an earlier image as it was."""
    before = steps.unpatched.read_bytes() if steps.unpatched.exists() else None
    with pytest.raises(UserError) as caught:
        link(steps)
    after = steps.unpatched.read_bytes() if steps.unpatched.exists() else None
    assert after == before
    assert not [
        path for path in steps.project.build.iterdir() if path.suffix in (".linking", ".assembling", ".partial")
    ]
    assert steps.records.stale(steps.link())
    return caught.value


def addresses(steps: Steps, *names: str) -> list[int]:
    found = Elf.read(steps.unpatched).symbols.addresses(*names)
    return [found[name] for name in names]


def bound(steps: Steps, register: str) -> int:
    """The address boot code loads into `register`."""
    text = (steps.project.build / "boot.s").read_text()
    high = re.search(rf"movz +{register}, #(0x[0-9a-f]+), lsl #16", text)
    low = re.search(rf"movk +{register}, #(0x[0-9a-f]+)\n", text)
    assert high
    assert low
    return int(high[1], 16) << 16 | int(low[1], 16)


def test_addresses_hold_still_after_two_links_and_after_one_when_they_were_known(project: Project) -> None:
    steps = project()
    assert link(steps) == 2
    first = steps.unpatched.read_bytes()
    steps.unpatched.unlink()
    assert link(steps) == 1
    assert steps.unpatched.read_bytes() == first


@TOOLCHAINS
def test_boot_code_holds_the_addresses_of_the_image_it_is_in(project: Project, toolchain: str) -> None:
    steps = project(toolchain=toolchain)
    link(steps)
    assert [bound(steps, register) for register in ("x10", "x28", "x9")] == addresses(steps, FLAG, "runtime.g0", ENTRY)


def test_addresses_that_moved_are_bound_anew(project: Project) -> None:
    link(project())
    steps = project(templates={"writebarrier.s.j2": "\n    .bss\n    .space 4096\n    .text\n    .space 4096\n"})
    assert link(steps) == 2
    assert [bound(steps, "x10"), bound(steps, "x9")] == addresses(steps, FLAG, ENTRY)


@pytest.mark.parametrize("damage", ["", "[]", "null", '{"main.KernelMain": "x"}', '{"main.KernelMain": -1}', "\xff"])
def test_a_damaged_binding_is_no_guess(project: Project, damage: str) -> None:
    steps = project()
    steps.binding.write_bytes(damage.encode("latin-1"))
    assert link(steps) == 2


def test_addresses_that_never_hold_still_are_an_error(project: Project) -> None:
    steps = project()
    link(steps)
    parity = addresses(steps, FLAG)[0] // 64 % 2
    # The flag comes after what this template puts into .bss: where it is, it is not to be.
    moving = f'\n{{% if address("{FLAG}") // 64 % 2 == {parity} %}}\n    .bss\n    .space 64\n{{% endif %}}\n'
    error = refused(project(templates={"writebarrier.s.j2": moving}))
    assert re.match(r"symbol addresses do not hold still after 4 links: [\w., ]+$", error.message)
    moved = error.message.partition(": ")[2].split(", ")
    assert FLAG in moved
    assert ENTRY not in moved
    assert "load()" in error.hint


def test_another_entry_is_found_though_it_was_not_bound_before(project: Project) -> None:
    steps = project()
    link(steps)
    other = next(
        function.name
        for function in Elf.read(steps.unpatched).symbols.functions()
        if function.name.startswith("main.") and function.name not in (ENTRY, "main.main")
    )
    steps = project(entry=other)
    assert link(steps) == 2
    assert bound(steps, "x9") == addresses(steps, other)[0]


@pytest.mark.parametrize("built_before", [False, True])
def test_an_entry_that_does_not_exist_gets_the_nearest(project: Project, built_before: bool) -> None:
    if built_before:
        link(project())
    error = refused(project(entry="main.KernelMian"))
    assert error.message == "the entry function main.KernelMian is not in the Go object"
    assert error.hint.startswith(f"did you mean {ENTRY}")
    assert "//go:noinline" in error.hint


def test_an_entry_like_no_other_gets_no_name(project: Project) -> None:
    error = refused(project(entry="other.Zzzz"))
    assert error.message == "the entry function other.Zzzz is not in the Go object"
    assert error.hint.startswith("Go keeps it only if")


def test_a_variable_is_no_entry(project: Project) -> None:
    error = refused(project(entry="main.heapSegmentListHead"))
    assert error.message == "the entry main.heapSegmentListHead is a variable, not a function"


def test_a_symbol_there_are_two_of_cannot_be_bound(project: Project) -> None:
    error = refused(project(templates={"boot.s.j2": '\n.quad {{ address("runtime.wbMove") }}\n'}))
    assert re.match(r"runtime\.wbMove is ambiguous: 0x\w+ \(t\), 0x\w+ \(T\)$", error.message)


@pytest.mark.parametrize("built_before", [False, True])
def test_a_symbol_a_template_asks_for_in_vain_is_named_with_its_line(project: Project, built_before: bool) -> None:
    if built_before:
        link(project())
    steps = project(templates={"fatal.s.j2": '\n    .quad {{ address("runtime.nothing") }}\n'})
    path = steps.project.templates[0] / "fatal.s.j2"
    line = path.read_text().count("\n", 0, path.read_text().index("runtime.nothing")) + 1
    assert refused(steps).message == f"{path}:{line}: the image has no symbol 'runtime.nothing'"


def test_a_symbol_a_template_asks_for_anew_is_found(project: Project) -> None:
    link(project())
    steps = project(
        templates={"fatal.s.j2": '\n    .balign 8\n    .global asked\nasked: .quad {{ address("runtime.sched") }}\n'}
    )
    assert link(steps) == 2
    place, expected = addresses(steps, "asked", "runtime.sched")
    assert Elf.read(steps.unpatched).word(place, 8) == expected


@TOOLCHAINS
def test_an_assembler_error_names_the_rendered_file_and_line(project: Project, toolchain: str) -> None:
    steps = project(templates={"fatal.s.j2": "\n    bogus x1\n"}, toolchain=toolchain)
    error = refused(steps)
    rendered = steps.project.build / "fatal.s"
    line = rendered.read_text().split("\n").index("    bogus x1") + 1
    assert error.message.startswith(f"assembling {rendered} failed\n")
    assert f"{rendered}:{line}:" in error.message


@TOOLCHAINS
def test_a_section_the_script_does_not_name_is_an_error(project: Project, toolchain: str) -> None:
    error = refused(project(templates={"fatal.s.j2": '\n    .section .odd, "a"\n    .byte 1\n'}, toolchain=toolchain))
    assert re.match(r"linking with .*kernel\.ld failed\n", error.message)
    assert ".odd" in error.message


@TOOLCHAINS
def test_a_symbol_nobody_defines_is_an_error(project: Project, toolchain: str) -> None:
    error = refused(project(templates={"fatal.s.j2": "\n    b nowhere\n"}, toolchain=toolchain))
    assert re.search(r"undefined (symbol:|reference to) `?nowhere", error.message)


@TOOLCHAINS
def test_a_kernel_too_big_for_flash_is_an_error_that_says_by_how_much(
    built: Steps, project: Project, toolchain: str
) -> None:
    end = 2 * built.project.board.text  # whole blocks of 2 MiB
    needed = Elf.read(built.image).section(".rodata")
    assert needed
    text = end - (1 << 12)
    error = refused(project(board={"memory.flash.length": end, "layout.text": text}, toolchain=toolchain))
    found = re.match(
        r"linking with .*kernel\.ld: the kernel does not fit: FLASH is too small by (\d+) bytes$", error.message
    )
    assert found
    assert int(found[1]) > needed.end - built.project.board.text - (1 << 12)
    assert "board file" in error.hint


@TOOLCHAINS
def test_a_kernel_too_big_for_ram_is_an_error_that_says_by_how_much(
    built: Steps, project: Project, toolchain: str
) -> None:
    ram, bss = built.project.board.ram, Elf.read(built.image).section(".bss")
    assert bss
    room = bss.size // 2 & ~0xFFF
    stacks = {"layout.stack": 1 << 12, "layout.exception-stack": 1 << 12}  # they would fit, and so does the board
    error = refused(project(board={"layout.bss": ram.end - room, **stacks}, toolchain=toolchain))
    found = re.match(
        r"linking with .*kernel\.ld: the kernel does not fit: RAM is too small by (\d+) bytes$", error.message
    )
    assert found
    assert int(found[1]) > bss.size - room


@TOOLCHAINS
def test_stacks_that_do_not_fit_behind_the_data_are_an_error(built: Steps, project: Project, toolchain: str) -> None:
    board = built.project.board
    stack = (board.ram.length - board.exception_stack) & ~0xF
    error = refused(project(board={"layout.stack": stack}, toolchain=toolchain))
    assert "the kernel does not fit: data and stacks end beyond RAM of board board" in error.message


@TOOLCHAINS
def test_every_linker_places_what_matters_where_the_board_says(project: Project, toolchain: str) -> None:
    steps = project(toolchain=toolchain)
    link(steps)
    elf, board = Elf.read(steps.unpatched), steps.project.board
    text, bss, data = (elf.section(name) for name in (".text", ".bss", ".data"))
    assert text
    assert bss
    assert data
    assert (text.address, bss.address) == (board.text, board.bss)
    stored = [segment.lma for segment in elf.segments if segment.vma == data.address]
    assert len(stored) == 1
    assert stored[0] in board.flash
    assert data.address in board.ram


def test_another_board_moves_everything(built: Steps, project: Project, tmp_path: Path) -> None:
    board = built.project.board
    steps = project(board={"layout.text": board.text + 0x1000, "layout.bss": board.bss + 0x1000})
    link(steps)
    before, after = Elf.read(built.unpatched), Elf.read(steps.unpatched)
    for name in (FLAG, ENTRY):
        assert after.symbols.addresses(name)[name] == before.symbols.addresses(name)[name] + 0x1000
