"""Entries, originals that can still be called, and addresses: held against the linker that is told the new name."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildsys.errors import UserError
from buildsys.formats import a64
from buildsys.formats.a64 import RET, encode_branch
from buildsys.formats.addresses import held, moved
from buildsys.formats.elf import Elf
from buildsys.formats.modes import Mode
from buildsys.formats.patch import Patch, Redirect, patch
from buildsys.toolchains import choice
from tests.snippets import DATA, SCRIPT, TEXT

from .images import GLOBAL, Name, Part, elf, words

B, BL, NOP = 0x1400_0000, 0x9400_0000, 0xD503_201F
ADD_X0 = 0x9100_0400  # add x0, x0, #1
OLD, NEW, STANDS = 0x20_0000, 0x20_0100, 0x20_0200


def image(old: list[int], caller: list[int] | None = None) -> Elf:
    """An old function, a new one, room for what stands for the original, and a caller, at +0x300."""
    code = {OLD: old, NEW: [RET], STANDS: [0xD420_0000] * 2, OLD + 0x300: caller or [RET]}
    text = bytearray(words(*[NOP] * 256))
    for at, body in code.items():
        text[at - OLD : at - OLD + 4 * len(body)] = words(*body)
    names = [
        Name("old", OLD, 4 * len(old)),
        Name("new", NEW, 4, binding=GLOBAL),
        Name("original.old", STANDS, 8, binding=GLOBAL),
        Name("caller", OLD + 0x300, 4 * len(caller or [RET])),
    ]
    return elf([Part(".text", OLD, bytes(text))], names)


def redirect(old: list[int], mode: Mode, original: int = STANDS) -> Redirect:
    return Redirect("old", OLD, OLD + 4 * len(old), NEW, mode, "new", original)


def done(old: list[int], mode: Mode, original: int = STANDS, caller: list[int] | None = None) -> tuple[Patch, Elf]:
    one = redirect(old, mode, original)
    made = image(old, caller)
    result = patch(made, [one] if mode.at_calls else [], [one] if mode.at_entry else [])
    return result, Elf(result.contents, "made.elf")


def at(made: Elf, address: int, count: int = 1) -> list[int | None]:
    return [made.word(address + 4 * each) for each in range(count)]


def test_calls_go_to_the_new_function_and_the_originals_name_to_the_old() -> None:
    place = OLD + 0x300
    result, made = done([ADD_X0, RET], Mode.CALLS, caller=[encode_branch(BL, place, OLD), RET])
    assert at(made, place) == [encode_branch(BL, place, NEW)]
    assert at(made, OLD, 2) == [ADD_X0, RET]
    assert at(made, STANDS) == [encode_branch(B, STANDS, OLD)]
    assert [each.address for each in result.passing] == [STANDS]


def test_at_the_entry_what_was_first_is_done_by_what_stands_for_the_original() -> None:
    place = OLD + 0x300
    result, made = done([ADD_X0, RET], Mode.ENTRY, caller=[encode_branch(BL, place, OLD), RET])
    assert at(made, place) == [encode_branch(BL, place, OLD)]
    assert at(made, OLD, 2) == [encode_branch(B, OLD, NEW), RET]
    assert at(made, STANDS, 2) == [ADD_X0, encode_branch(B, STANDS + 4, OLD + 4)]
    assert result.rewrites == ()


def test_both_means_both() -> None:
    place = OLD + 0x300
    result, made = done([ADD_X0, RET], Mode.BOTH, caller=[encode_branch(BL, place, OLD), RET])
    assert at(made, place) == [encode_branch(BL, place, NEW)]
    assert at(made, OLD) == [encode_branch(B, OLD, NEW)]
    assert (len(result.rewrites), len(result.entries), len(result.passing)) == (1, 1, 2)


@pytest.mark.parametrize("mode", list(Mode))
def test_on_its_own_output_the_pass_changes_nothing(mode: Mode) -> None:
    old = [ADD_X0, NOP, encode_branch(B, OLD + 8, OLD)]
    _, made = done(old, mode, caller=[encode_branch(BL, OLD + 0x300, OLD), RET])
    one = redirect(old, mode)
    again = patch(made, [one] if mode.at_calls else [], [one] if mode.at_entry else [])
    assert again.contents == made.data
    assert (again.rewrites, again.entries, again.passing) == ((), (), ())


def test_the_loop_of_a_prologue_goes_to_what_stands_for_the_original() -> None:
    """Go's prologue branches back to its start after growing the stack: that is the original, and must stay so."""
    old = [ADD_X0, RET, encode_branch(B, OLD + 8, OLD)]
    _, made = done(old, Mode.ENTRY)
    assert at(made, OLD + 8) == [encode_branch(B, OLD + 8, STANDS)]
    _, made = done(old, Mode.CALLS)
    assert at(made, OLD + 8) == [encode_branch(B, OLD + 8, OLD)]


def test_without_a_name_for_the_original_nothing_else_is_written() -> None:
    old = [ADD_X0, RET, encode_branch(B, OLD + 8, OLD)]
    result, made = done(old, Mode.ENTRY, original=0)
    assert result.passing == ()
    assert at(made, STANDS, 2) == [0xD420_0000] * 2
    assert at(made, OLD + 8) == [encode_branch(B, OLD + 8, OLD)]


def test_a_function_of_one_instruction_can_be_redirected_at_its_entry() -> None:
    _, made = done([RET], Mode.ENTRY)
    assert at(made, OLD) == [encode_branch(B, OLD, NEW)]
    assert at(made, STANDS) == [RET]


@pytest.mark.parametrize("word", [B, BL])
def test_a_first_instruction_that_is_a_branch_goes_where_it_went(word: int) -> None:
    _, made = done([encode_branch(word, OLD, OLD + 0x300), RET], Mode.ENTRY)
    assert at(made, STANDS) == [encode_branch(word, STANDS, OLD + 0x300)]


RELATIVE = {
    "adrp": 0x9000_0000,
    "adr": 0x1000_0000,
    "cbz": 0x3400_0040,
    "tbnz": 0x3700_0040,
    "b.eq": 0x5400_0040,
    "ldr literal": 0x5800_0040,
    "ldrsw literal": 0x9800_0040,
    "ldr literal, vector": 0x1C00_0040,
    "prfm literal": 0xD800_0040,
}


@pytest.mark.parametrize("word", RELATIVE.values(), ids=RELATIVE)
def test_a_first_instruction_that_can_stand_nowhere_else_is_refused_only_if_the_original_is_wanted(word: int) -> None:
    with pytest.raises(UserError, match="begins with an instruction that can stand nowhere else"):
        done([word, RET, RET], Mode.ENTRY)
    _, made = done([word, RET, RET], Mode.ENTRY, original=0)
    assert at(made, OLD) == [encode_branch(B, OLD, NEW)]
    done([word, RET, RET], Mode.CALLS)


@given(st.integers(0, 0xFFFF_FFFF))
def test_what_capstone_shows_with_an_address_is_relative(word: int) -> None:
    """Moved by 4 KiB, an instruction that depends on its place is shown to mean another address."""
    from capstone import CS_ARCH_ARM64, CS_MODE_ARM, Cs

    shown = [
        [(each.mnemonic, each.op_str) for each in Cs(CS_ARCH_ARM64, CS_MODE_ARM).disasm(words(word), place)]
        for place in (0x4000_0000, 0x4000_1000)
    ]
    if shown[0] and shown[1]:
        assert a64.is_relative(word) == (shown[0] != shown[1])


def test_a_conditional_branch_back_to_the_start_is_refused_if_the_original_is_wanted() -> None:
    old = [ADD_X0, 0x5400_0000 | (-1 & 0x7FFFF) << 5, RET]  # b.eq to the start
    with pytest.raises(UserError, match="branches back to its first instruction at 0x200004"):
        done(old, Mode.ENTRY)
    done(old, Mode.CALLS)
    done(old, Mode.ENTRY, original=0)


# ---- addresses, as the linker would have made them ----

REFERENCES = """
    .text
    .global begin, old, new
    .type   begin, %function
begin:
    bl      {f}
    adrp    x0, {f}
    add     x0, x0, :lo12:{f}
    adr     x1, {f}
    ldr     x2, ={f}
    ldr     x3, =0x1234567812345678
    cbz     x0, 1f
    b       {f}
1:  ret
    .size   begin, . - begin
    .ltorg
    .space  {gap}
    .type   old, %function
old:
    add     x0, x0, #1
    ret
    .size   old, . - old
    .space  {gap}
    .type   new, %function
new:
    add     x0, x0, #2
    ret
    .size   new, . - new
    .data
    .balign 8
    .quad   7
    .type   holder, %object
holder:
    .quad   {f}
    .quad   begin
    .quad   {f}
    .size   holder, . - holder
    .quad   {number}
"""
TOOLS = [pytest.param("zig", 64), pytest.param("zig", 0x5000), pytest.param("gnu", 64), pytest.param("gnu", 0x5000)]
Linked = Callable[..., Elf]


@pytest.fixture
def linked(tmp_path: Path) -> Linked:
    """Link a source; `f` is what it refers to."""

    def link(tools: str, source: str, f: str, gap: int, number: int = 0) -> Elf:
        found = choice.find(tools)
        made = tmp_path / f"{f}.s"
        made.write_text(source.format(f=f, gap=gap, number=number))
        script = tmp_path / "snippet.ld"
        # GNU ld places what it did not need, too.
        more = "/DISCARD/ : {{ *(.iplt) *(.rela.iplt) *(.igot.plt) "
        script.write_text(SCRIPT.replace("/DISCARD/ : {{", more).format(text=TEXT, data=DATA))
        found.assemble(made, made.with_suffix(".o"))
        found.link(script, [made.with_suffix(".o")], made.with_suffix(".elf"))
        return Elf.read(made.with_suffix(".elf"))

    return link


def pointed(made: Elf) -> Redirect:
    symbols = {symbol.name: symbol for symbol in made.symbols.functions()}
    old, new = symbols["old"], symbols["new"]
    return Redirect("old", old.value, old.end, new.value, to="new", pointers=True)


def loaded(made: Elf) -> dict[str, bytes]:
    return {section.name: made.contents(section) for section in made.sections if section.name in (".text", ".data")}


@pytest.mark.parametrize(("tools", "gap"), TOOLS)
def test_the_bytes_are_those_a_linker_makes_of_the_new_name(linked: Linked, tools: str, gap: int) -> None:
    before = linked(tools, REFERENCES, "old", gap)
    one = pointed(before)
    before, wanted = (linked(tools, REFERENCES, f, gap, one.old) for f in ("old", "new"))
    result = patch(before, [one], pointed=[one])
    assert loaded(Elf(result.contents)) == loaded(wanted)
    assert loaded(before) != loaded(wanted)
    # The number that looks like the address is none: it stays, and is told of.
    assert [(each.place, each.why) for each in result.left] == [
        (DATA + 32, "it looks like one, and no relocation says so")
    ]
    assert {each.place for each in result.addresses if each.size == 8} >= {DATA + 8, DATA + 24}


@pytest.mark.parametrize("tools", ["zig", "gnu"])
def test_code_that_also_loads_from_the_function_is_left_whole(linked: Linked, tools: str) -> None:
    """The ADRP may serve the load as well."""
    source = REFERENCES.replace("    adr     x1, {f}\n", "    ldr     w1, [x0, :lo12:{f}]\n")
    made = linked(tools, source, "old", 0x5000)
    one = pointed(made)
    result = patch(made, [one], pointed=[one])
    begin = next(symbol for symbol in made.symbols.functions() if symbol.name == "begin")
    assert len(result.left) >= 3
    assert all(begin.value <= each.place < begin.end for each in result.left)
    changed = {each.place for each in result.addresses if begin.value <= each.place < begin.end}
    assert not changed


MARKED = REFERENCES.replace("    .type   old,", "    .global mark\nmark:\n    .type   old,").replace(
    "    .quad   begin\n", "    .quad   mark\n"
)


def test_what_a_relocation_makes_of_another_symbol_is_not_touched(linked: Linked) -> None:
    """A symbol that marks where code begins may have the address of the first function."""
    made = linked("gnu", MARKED, "old", 64)
    one = pointed(made)
    result = patch(made, [one], pointed=[one])
    assert [Elf(result.contents).word(DATA + at, 8) for at in (8, 16, 24)] == [one.new, one.old, one.new]
    assert DATA + 16 in {each.place for each in result.left}


def test_a_relocation_that_may_mean_either_symbol_is_not_followed(linked: Linked) -> None:
    """An assembler may write a local symbol as its section and an offset."""
    made = linked("gnu", MARKED.replace("begin, old, new", "begin"), "old", 64)
    one = pointed(made)
    result = patch(made, [one], pointed=[one])
    assert [Elf(result.contents).word(DATA + at, 8) for at in (8, 16, 24)] == [one.old] * 3
    assert {DATA + 8, DATA + 16, DATA + 24} <= {each.place for each in result.left}


def test_without_relocations_pointers_are_refused(tmp_path: Path, linked: Linked) -> None:
    made = linked("gnu", REFERENCES, "old", 64)
    stripped = bytearray(made.data)
    (headers,) = struct.unpack_from("<Q", stripped, 0x28)
    for section in made.sections:
        if section.name.startswith(".rela"):
            struct.pack_into("<I", stripped, headers + 64 * section.index + 4, 1)
    without = Elf(bytes(stripped))
    one = pointed(without)
    with pytest.raises(UserError, match="no pointer to old can be told") as caught:
        patch(without, [one], pointed=[one])
    assert "--emit-relocs" in caught.value.hint
    assert held(without, {one.old: "old"}) is None


def test_an_adr_that_does_not_reach_leaves_the_function_as_it_is(linked: Linked) -> None:
    made = linked("zig", REFERENCES, "old", 64)
    one = pointed(made)
    places = held(made, {one.old: "old"})
    assert places
    changes, left = moved(made, places, {one.old: one.new + (1 << 21)})
    assert {each.why.partition(" at ")[0] for each in left} == {"an ADR"}
    assert all(each.why.endswith(" reaches 1 MiB") for each in left)
    assert {each.place for each in left} | {each.place for each in changes} == {each.place for each in places}
    assert all(each.size == 8 for each in changes)


def test_objdump_shows_the_new_function_wherever_the_old_one_was(linked: Linked, tmp_path: Path) -> None:
    from tests.binutils import binutils

    made = linked("gnu", REFERENCES, "old", 0x5000)
    one = pointed(made)
    (tmp_path / "patched.elf").write_bytes(patch(made, [one], pointed=[one]).contents)
    shown = {name: binutils("objdump", "-d", tmp_path / f"{name}.elf") for name in ("old", "patched")}
    text = shown["patched"].partition("<begin>:")[2].partition("\n\n")[0]
    assert "<old>" not in text
    assert text.count("<new>") == 3  # bl, adr, b
    page = f"{one.new & ~0xFFF:x}"
    assert page in text
    assert f"#0x{one.new & 0xFFF:x}" in text
