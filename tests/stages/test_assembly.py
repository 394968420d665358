"""A user's own assembly: what it includes, and what its object is given before it is linked."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from buildsys.errors import UserError
from buildsys.formats.elf import Elf
from buildsys.stages.assembly import included, placed, typed
from buildsys.toolchains import choice
from buildsys.toolchains.binary import BinaryToolchain
from tests.binutils import binutils


@pytest.fixture(params=["zig", "gnu"])
def toolchain(request: pytest.FixtureRequest) -> BinaryToolchain:
    return choice.find(request.param)


def assembled(folder: Path, toolchain: BinaryToolchain, text: str) -> Path:
    (folder / "x.s").write_text(text)
    toolchain.assemble(folder / "x.s", folder / "x.o")
    return folder / "x.o"


def functions(path: Path, contents: bytes) -> dict[str, tuple[int, int]]:
    """By readelf: value and size of each function, by name."""
    path.write_bytes(contents)
    rows = re.findall(
        r"^\s*\d+: (\w+)\s+(\d+) FUNC\s+\w+\s+\w+\s+\w+ (\S+)", binutils("readelf", "-sW", str(path)), re.MULTILINE
    )
    return {name: (int(value, 16), int(size)) for value, size, name in rows}


ROUTINES = """
    .text
    .global first, second, third, data, typed_already
first:
    cbz     x0, inside
    ret
inside:
    ret
second:
    nop
third:
    ldr     x0, =0x123456789abcdef
    b       .
    .ltorg
data:
    .quad   5
    .type   typed_already, %function
typed_already:
    ret
    .size   typed_already, 4
"""


def test_global_labels_in_code_become_functions_up_to_the_next(tmp_path: Path, toolchain: BinaryToolchain) -> None:
    made = assembled(tmp_path, toolchain, ROUTINES)
    found = functions(tmp_path / "typed.o", typed(made.read_bytes(), "x.s"))
    assert found.keys() == {"first", "second", "third", "typed_already"}
    assert found["first"] == (0, 12)  # and what is local in it
    assert found["second"] == (12, 12)  # it runs into the third
    assert found["third"] == (16, 8)  # without the literal behind it
    assert found["typed_already"][1] == 4


def test_a_local_routine_before_all_others_is_a_function_too(tmp_path: Path, toolchain: BinaryToolchain) -> None:
    made = assembled(tmp_path, toolchain, "helper:\n    ret\n    .global main\nmain:\n    bl helper\n    ret\n")
    assert functions(tmp_path / "typed.o", typed(made.read_bytes(), "x.s")) == {"helper": (0, 4), "main": (4, 8)}


def test_an_object_that_says_all_itself_is_not_changed(tmp_path: Path, toolchain: BinaryToolchain) -> None:
    made = assembled(
        tmp_path,
        toolchain,
        ".text\n.global f\n.type f, %function\nf: ret\n.size f, .-f\n.data\n.global d\nd: .quad 1\n",
    ).read_bytes()
    assert typed(made, "x.s") == made
    assert placed(made, "x.s") == made


SECTIONS = """
    .section .vectors, "ax"
    ret
    .section .table, "a"
    .quad   0
    .section .state, "aw"
    .quad   1
    .section .scratch, "aw", %nobits
    .space  8
    .section .text.mine, "ax"
    ret
    .section .notes
    .asciz  "not loaded"
"""


def test_sections_of_other_names_get_one_the_linker_script_places(tmp_path: Path, toolchain: BinaryToolchain) -> None:
    made = assembled(tmp_path, toolchain, SECTIONS)
    (tmp_path / "placed.o").write_bytes(placed(made.read_bytes(), "x.s"))
    said = binutils("readelf", "-SW", str(tmp_path / "placed.o"))
    names = set(re.findall(r"\] (\.\S+)", said))
    assert names >= {".text.vectors", ".rodata.table", ".bss.scratch", ".text.mine", ".notes", ".symtab"}
    assert not names & {".vectors", ".table", ".state", ".scratch"}
    assert re.search(r"\] \.data +PROGBITS +0+ \w+ 000008 00 +WA", said)  # what was .state
    assert Elf.read(tmp_path / "placed.o").symbols.all_names() == Elf.read(made).symbols.all_names()


def test_code_that_nobody_would_load_is_refused(tmp_path: Path, toolchain: BinaryToolchain) -> None:
    made = assembled(tmp_path, toolchain, "    .section .vectors\n    ret\n")
    with pytest.raises(UserError, match=r"section \.vectors has instructions in it") as caught:
        placed(made.read_bytes(), "x.s")
    assert '"ax"' in caught.value.hint


def test_includes_are_followed_through_each_other(tmp_path: Path) -> None:
    (tmp_path / "asm").mkdir()
    (tmp_path / "asm/x.s").write_text(
        '    .include "a.inc"\nlabel: .incbin "picture", 4, 8\n    nop; .include "b.inc"\n'
    )
    (tmp_path / "asm/a.inc").write_text('\t.include\t"c.inc"\n// .include nothing\n')
    (tmp_path / "c.inc").write_text('.include "a.inc"\n')  # round and round is the assembler's to refuse
    (tmp_path / "picture").write_bytes(b"\xff\xfe")
    (tmp_path / "asm/b.inc").write_text("")
    assert set(included(tmp_path / "asm/x.s", tmp_path)) == {
        tmp_path / "asm/a.inc", tmp_path / "c.inc", tmp_path / "picture", tmp_path / "asm/b.inc",
    }  # fmt: skip


@pytest.mark.parametrize("line", ['.incbin "\\name"', ".include NAME", '.incbin "{{ board.name }}.bin"'])
def test_an_include_whose_name_is_computed_is_refused_with_its_line(tmp_path: Path, line: str) -> None:
    (tmp_path / "x.s").write_text(f"    nop\n    {line}\n")
    with pytest.raises(UserError, match=r"x\.s:2: what \.inc\w+ reads cannot be told"):
        list(included(tmp_path / "x.s", tmp_path))
