"""File names of line tables, by number and all at once, held against each other and against pyelftools."""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from buildsys.formats.elf import Elf
from buildsys.formats.linetable import file, files
from buildsys.proof.case import Case
from buildsys.toolchains import choice

Text = Callable[[int, int], str]


def contents(elf: Elf, name: str) -> bytes:
    section = elf.section(name)
    return bytes(elf.contents(section)) if section else b""


def texts(elf: Elf) -> Text:
    def text(form: int, place: int) -> str:
        data = contents(elf, ".debug_line_str" if form == 0x1F else ".debug_str")
        return data[place : data.index(b"\0", place)].decode()

    return text


def tables(lines: bytes) -> list[int]:
    found, at = [], 0
    while at < len(lines):
        found.append(at)
        at += 4 + struct.unpack_from("<I", lines, at)[0]
    return found


def checked(elf: Elf) -> dict[int, int]:
    """How many names each table has, by place, each read both ways."""
    lines, text = contents(elf, ".debug_line"), texts(elf)
    found = {}
    for at in tables(lines):
        every = files(lines, at, text)
        for number in range(-1, len(every) + 2):
            assert file(lines, at, number, text) == every.get(number, "")
        found[at] = len(every)
    return found


def test_one_by_its_number_is_that_of_all_in_an_image(case: Case) -> None:
    found = checked(case.elf)
    dwarf = ELFFile(BytesIO(case.elf.data)).get_dwarf_info()
    theirs = {}
    for unit in dwarf.iter_CUs():
        program = dwarf.line_program_for_CU(unit)
        if program is not None:
            theirs[unit.get_top_DIE().attributes["DW_AT_stmt_list"].value] = len(program["file_entry"])
    assert len(theirs) > 20
    assert {at: found[at] for at in theirs} == theirs


@pytest.mark.parametrize("version", [4, 5])
def test_so_it_is_in_what_an_assembler_wrote(version: int, tmp_path: Path) -> None:
    source = "".join(f'    .file {n} "folder{n % 3}" "file{n}.c"\n' for n in range(1, 150))
    path = tmp_path / "many.s"
    path.write_text(f"{source}    .text\nf:\n    .loc 1 1\n    nop\n    .loc 149 7\n    ret\n")
    made = path.with_suffix(".o")
    command = [*choice.find("zig").assembler, f"-gdwarf-{version}", str(path), "-o", str(made)]
    subprocess.run(command, check=True, capture_output=True)
    elf = Elf.read(made)
    lines = contents(elf, ".debug_line")
    [at] = tables(lines)
    assert struct.unpack_from("<H", lines, at + 4) == (version,)
    every = files(lines, at, texts(elf))
    assert len(every) >= 149
    assert {number: file(lines, at, number, texts(elf)) for number in every} == every
    if version == 4:  # the names of folders of 5 are in a section that the linker fills in
        assert every[149] == "folder2/file149.c"
