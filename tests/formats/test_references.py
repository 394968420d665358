"""Who touches a variable: decoding and the linker's relocations, each on code that was really linked."""

from __future__ import annotations

from pathlib import Path

import pytest

from buildsys.formats.references import Code, Reference, kept, overwrites, references
from tests.snippets import DATA, TEXT, function, linked, variable

BEFORE, FLAG = variable("before", 24), variable("flag", 8)


def found(folder: Path, *code: str, size: int = 4, data: int = DATA) -> list[Reference]:
    elf = linked(folder, BEFORE + FLAG + function("f", *code) + function("spare", "ret"), data)
    spare = elf.symbols.named("spare")["spare"]
    return references(elf, Code(elf, spare), elf.symbols.addresses("flag")["flag"], size)


def told(references: list[Reference]) -> list[tuple[int, str, int]]:
    """Where each is, in instructions from the start of the function, its kind and its register."""
    return [((each.address - TEXT) // 4, each.kind, each.register) for each in references]


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("adrp x27, flag; ldr w3, [x27, :lo12:flag]", [(1, "load", 3)]),
        ("adrp x27, flag; ldrb w3, [x27, :lo12:flag]", [(1, "load", 3)]),
        ("adrp x27, flag; ldrh w3, [x27, :lo12:flag]", [(1, "load", 3)]),
        ("adrp x27, flag; ldr x3, [x27, :lo12:flag]", [(1, "load", 3)]),
        ("adrp x27, flag; ldrsw x3, [x27, :lo12:flag]", [(1, "load", 3)]),
        ("adrp x9, flag; ldr w9, [x9, :lo12:flag]", [(1, "load", 9)]),
        ("adrp x27, flag; strb w3, [x27, :lo12:flag]", [(1, "store", 3)]),
        ("adrp x1, flag; add x1, x1, :lo12:flag; ldr w5, [x1]", [(2, "load", 5)]),
        ("adrp x1, flag; add x2, x1, :lo12:flag; ldar w5, [x2]", [(2, "load", 5)]),
        ("adrp x1, flag; add x2, x1, :lo12:flag; ldaxrb w5, [x2]", [(2, "load", 5)]),
        ("adrp x1, flag; add x2, x1, :lo12:flag; ldp x5, x6, [x2, #-8]", [(2, "load", 5)]),
        ("adrp x1, flag; add x2, x1, :lo12:flag; ldur x5, [x2, #-4]", [(2, "load", 5)]),
        ("adrp x1, flag; add x2, x1, :lo12:flag; ldr d5, [x2]", [(2, "load", 5)]),
        ("adrp x1, flag; add x2, x1, :lo12:flag; stlr w5, [x2]", [(2, "store", 5)]),
        ("adrp x1, flag; add x2, x1, :lo12:flag; str x2, [sp]; ret", [(1, "address", 2)]),
        ("adrp x1, flag; add x2, x1, :lo12:flag; mov x0, x2; ret", [(1, "address", 2)]),
        ("adrp x1, flag; add x0, x1, :lo12:flag; bl f", [(1, "address", 0)]),
        ("adrp x27, flag; nop; mov x0, x1; ldr w3, [x27, :lo12:flag]", [(3, "load", 3)]),
    ],
)
def test_each_way_to_the_flag_is_found(tmp_path: Path, code: str, expected: list[tuple[int, str, int]]) -> None:
    assert told(found(tmp_path, *code.split("; "), "ret")) == expected


@pytest.mark.parametrize(
    "code",
    [
        "adrp x27, before; ldr x3, [x27, :lo12:before]",
        "adrp x27, flag; ldr w3, [x27, :lo12:flag + 4]",  # the bytes after it
        "adrp x1, flag; add x1, x1, :lo12:flag; mov x1, xzr; ldr w5, [x1, #0]",
        "adrp x1, flag; ldr x1, [x2]; ldr w5, [x1, :lo12:flag]",
        "adrp x1, flag; ldp x0, x1, [x2]; ldr w5, [x1, :lo12:flag]",
        "adrp x1, flag; ldr x5, [x1], #8; ldr w5, [x1, :lo12:flag]",
        "adrp x1, flag; bl other; ldr w5, [x1, :lo12:flag]",
        "adrp x1, flag; ret; ldr w5, [x1, :lo12:flag]",
    ],
)
def test_what_is_not_the_flag_is_not_taken_for_it(tmp_path: Path, code: str) -> None:
    code = code.replace("bl other", "bl f")
    assert [each for each in found(tmp_path, *code.split("; "), "ret") if each.kind != "address"] == []


def test_a_register_is_followed_along_every_path(tmp_path: Path) -> None:
    code = ("adrp x1, flag", "add x1, x1, :lo12:flag", "cbz x0, 2f", "ldr w2, [x1]", "b 3f",
            "2: tbz x0, #4, 3f", "ldrb w4, [x1]", "3: ldr w5, [x1]", "mov x1, x0", "ldr w6, [x1]", "ret")  # fmt: skip
    assert told(found(tmp_path, *code)) == [(3, "load", 2), (6, "load", 4), (7, "load", 5)]


def test_a_loop_is_followed_once(tmp_path: Path) -> None:
    code = ("adrp x1, flag", "add x1, x1, :lo12:flag", "1: ldr w2, [x1]", "cbnz w2, 1b", "ret")
    assert told(found(tmp_path, *code)) == [(2, "load", 2)]


def test_a_call_that_spares_registers_is_followed_past(tmp_path: Path) -> None:
    """As calls of barriers do, up to Go 1.20; R20 is one of those not spared."""
    code = ("adrp {0}, flag", "add {0}, {0}, :lo12:flag", "ldr w2, [{0}]", "bl spare", "ldr w3, [{0}]", "ret")
    assert told(found(tmp_path, *(line.format("x1") for line in code))) == [(2, "load", 2), (4, "load", 3)]
    assert told(found(tmp_path, *(line.format("x20") for line in code))) == [(2, "load", 2)]


def test_each_reference_names_what_formed_the_address(tmp_path: Path) -> None:
    (each,) = found(tmp_path, "nop", "adrp x1, flag", "nop", "add x1, x1, :lo12:flag", "nop", "ldr w2, [x1]", "ret")
    assert (each.formed, each.placed, each.address) == (TEXT + 4, TEXT + 12, TEXT + 20)
    assert each.function
    assert each.function.name == "f"


def test_an_address_formed_in_one_instruction_is_followed(tmp_path: Path) -> None:
    """lld makes NOP and ADR of ADRP and ADD where the variable is near."""
    (each,) = found(tmp_path, "nop", "adr x1, flag", "ldr w2, [x1]", "ret", data=TEXT + 0x8000)
    assert told([each]) == [(2, "load", 2)]
    assert each.formed == each.placed == TEXT + 4


def test_the_relocations_name_the_same_places(tmp_path: Path) -> None:
    code = (
        "adrp x27, flag", "ldr w3, [x27, :lo12:flag]", "adrp x27, before", "ldr x3, [x27, :lo12:before]",
        "adrp x1, flag", "add x1, x1, :lo12:flag", "ldr w2, [x1]", "adrp x27, flag", "strb w3, [x27, :lo12:flag]",
        "adrp x27, flag", "ldr w3, [x27, :lo12:flag + 4]", "ret",
    )  # fmt: skip
    elf = linked(tmp_path, BEFORE + FLAG + function("f", *code))
    flag = elf.symbols.addresses("flag")["flag"]
    pages, others = kept(elf, flag, 4)
    decoded = references(elf, Code(elf), flag, 4)
    assert others == {each.placed for each in decoded} == {TEXT + 4, TEXT + 20, TEXT + 32}
    assert {each.formed for each in decoded} <= pages


def test_a_relocation_by_way_of_another_symbol_counts(tmp_path: Path) -> None:
    """A linker may name the section, or a neighbour, and an addend."""
    code = ("adrp x27, before + 24", "ldr w3, [x27, :lo12:before + 24]", "ret")
    elf = linked(tmp_path, BEFORE + FLAG + function("f", *code))
    assert kept(elf, elf.symbols.addresses("flag")["flag"], 4) == ({TEXT}, {TEXT + 4})


@pytest.mark.parametrize(
    ("code", "register", "expected"),
    [
        ("add x1, x2, x3", 1, True),
        ("adds w1, w2, #3", 1, True),
        ("cmp x1, #3", 1, False),
        ("ccmp x3, x2, #1, eq", 1, False),
        ("movk x1, #3", 1, True),
        ("ldr x1, [x2]", 1, True),
        ("ldp x2, x1, [x3]", 1, True),
        ("str x1, [x2]", 1, False),
        ("str x2, [x1], #8", 1, True),
        ("ldr d1, [x2]", 1, False),
        ("prfm pldl1strm, [x2]", 1, False),
        ("csel x1, x2, x3, ne", 1, True),
        ("mul x1, x2, x3", 1, True),
        ("adrp x1, f", 1, True),
        ("fmov d1, x2", 1, False),
    ],
)
def test_what_an_instruction_overwrites(tmp_path: Path, code: str, register: int, expected: bool) -> None:
    word = linked(tmp_path, function("f", code)).word(TEXT)
    assert word is not None
    assert overwrites(word, register) is expected


def test_code_without_a_symbol_is_read_all_the_same(tmp_path: Path) -> None:
    elf = linked(tmp_path, FLAG + "adrp x27, flag\nldr w3, [x27, :lo12:flag]\nret")
    (each,) = references(elf, Code(elf), elf.symbols.addresses("flag")["flag"], 4)
    assert (each.address, each.function) == (TEXT + 4, None)
