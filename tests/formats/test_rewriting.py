"""Objects made to refer to other symbols: linked by a real linker, and decoded by objdump."""

from __future__ import annotations

import re
import subprocess
from array import array
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildsys.formats.elf import Elf
from buildsys.formats.rewriting import Formed, Use, formed, rewritten
from buildsys.toolchains import choice
from tests.binutils import PREFIX

SOURCE = """
    .text
    .global _start
    .type form, %function
_start:
form:
    movz    x0, #0x6b40
    movk    x0, #0x4002, lsl #16
    adrp    x1, variable
    add     x1, x1, :lo12:variable
    ldr     x2, [x1]
    bl      form
    ret
    .size   form, . - form
    .data
    .balign 8
pointer:
    .quad   variable + 8
    .bss
    .balign 16
    .type   variable, %object
variable:
    .space  16
    .size   variable, 16
"""


@pytest.fixture(scope="module")
def assembled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rewriting")
    (folder / "a.s").write_text(SOURCE)
    subprocess.run([f"{PREFIX}as", "a.s", "-o", "a.o"], cwd=folder, check=True)
    return folder / "a.o"


@pytest.fixture(scope="module")
def changed(assembled: Path) -> bytes:
    """The object whose variable is others', and whose number is the address of `elsewhere`, and 4."""
    elf = Elf.read(assembled)
    text = elf.section(".text")
    assert text is not None
    words = array("I", elf.contents(text))
    (number,) = formed(words, 0)
    assert number == Formed(0, 0x40026B40, (0, 1))
    return rewritten(elf, ["variable"], [Use(text, number, "elsewhere", 4)])


@pytest.mark.parametrize("linker", ["zig", "gnu"])
def test_a_linker_fills_in_what_was_left_to_it(changed: bytes, tmp_path: Path, linker: str) -> None:
    (tmp_path / "b.o").write_bytes(changed)
    (tmp_path / "b.ld").write_text(
        "SECTIONS { .text 0x200000 : { *(.text) } .data 0x300000 : { *(.data) } .bss : { *(.bss) }\n"
        '  "variable" = 0x12345670; elsewhere = 0x87654320; /DISCARD/ : { *(.ARM.attributes) *(.note*) } }\n'
    )
    tool = choice.find(linker)
    command = [each for each in tool.linker if "orphan" not in each]
    subprocess.run([*command, "-T", "b.ld", "-o", "b.elf", "b.o"], cwd=tmp_path, check=True)
    shown = subprocess.run(
        [f"{PREFIX}objdump", "-d", "b.elf"], cwd=tmp_path, check=True, capture_output=True, text=True
    ).stdout
    assert re.search(r"mov\s+x0, #0x4324\b.*\n.*movk\s+x0, #0x8765, lsl #16", shown), shown
    assert re.search(r"adrp\s+x1, 12345000.*\n.*add\s+x1, x1, #0x670", shown), shown
    assert re.search(r"bl\s+200000 <", shown), shown
    assert Elf.read(tmp_path / "b.elf").word(0x300000, 8) == 0x12345678


def test_other_readers_find_a_sound_object(changed: bytes, tmp_path: Path) -> None:
    (tmp_path / "b.o").write_bytes(changed)
    done = subprocess.run(
        [f"{PREFIX}readelf", "-Wasr", "b.o"], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    assert not done.stderr
    assert len(re.findall(r"MOVW_UABS_G0_NC.* elsewhere \+ 4", done.stdout)) == 1
    assert len(re.findall(r"MOVW_UABS_G1 .* elsewhere \+ 4", done.stdout)) == 1
    assert len(re.findall(r"(?m)^.*GLOBAL.*UND (variable|elsewhere)$", done.stdout)) == 2


def test_who_asks_for_nothing_gets_the_same_meaning(assembled: Path) -> None:
    before = Elf.read(assembled)
    after = Elf(rewritten(before, [], []))
    assert list(after.symbols.all()) == list(before.symbols.all())
    assert [each.infos for each in after.relocations()] == [each.infos for each in before.relocations()]


@given(st.integers(1, 4), st.data())
def test_what_movz_and_movk_form_is_read_in_any_order(count: int, data: st.DataObject) -> None:
    groups = data.draw(st.permutations(range(4)))[:count]
    halves = data.draw(st.lists(st.integers(0, 0xFFFF), min_size=count, max_size=count))
    register = data.draw(st.integers(0, 30))
    words = [
        (0xF2800000 if at else 0xD2800000) | group << 21 | half << 5 | register
        for at, (group, half) in enumerate(zip(groups, halves, strict=True))
    ]
    (found,) = formed([0xD503201F, *words, 0xD65F03C0], 0x1000)
    value = sum(half << 16 * group for group, half in zip(groups, halves, strict=True))
    assert found == Formed(0x1004, value, tuple(groups))
    assert found.whole == (count > 1 and set(groups) == set(range(count)))


def test_a_movk_of_another_register_or_width_is_another_matter() -> None:
    movz, other, narrow = 0xD2800000, 0xF2A00001, 0x72A00000
    assert [each.groups for each in formed([movz, other, movz, narrow], 0)] == [(0,), (0,)]
