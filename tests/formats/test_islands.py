"""Veneers of ours go where provably nothing is, and what else is in the file stays what it was."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from buildsys.errors import UserError
from buildsys.formats.a64 import RET, encode_branch
from buildsys.formats.elf import PT_LOAD, Elf
from buildsys.formats.patch import Redirect, patch
from buildsys.formats.veneers import decode
from tests.binutils import binutils

from .images import ALLOC, NOTYPE, OBJECT, WRITE, Name, Part, image, words

BL = 0x9400_0000
NEAR, FAR = 1 << 30, (1 << 30) + (1 << 29)
CALLER = words(encode_branch(BL, NEAR, NEAR + 8), RET, RET)  # at NEAR + 8 is the old function
NAMES = [Name("caller", NEAR, 8), Name("old", NEAR + 8, 4), Name("new", FAR, 4, section=2)]
REDIRECT = Redirect("old", NEAR + 8, NEAR + 12, FAR)
FAR_PART = Part(".far", FAR, words(RET))
DATA = Part(".data", FAR + 4096, b"what was there", ALLOC | WRITE)
# Offsets in the headers: System V ABI, chapter 4.
P_FLAGS, P_OFFSET, P_VADDR, P_PADDR, P_FILESZ, P_MEMSZ = 4, 8, 16, 24, 32, 40


def made(*more: Part, names: list[Name] | None = None, code: bytes = CALLER, **fields: int) -> Elf:
    """An image whose call is too far from the new function; `fields` change the first segment's header."""
    data = bytearray(image([Part(".text", NEAR, code), FAR_PART, DATA, *more], names or NAMES))
    for name, value in fields.items():
        struct.pack_into("<I" if name == "P_FLAGS" else "<Q", data, 64 + globals()[name], value)
    return Elf(bytes(data), "made.elf")


def pass_over(elf: Elf) -> tuple[Elf, int]:
    """The patched image, and where the veneer the call goes by is."""
    done = patch(elf, [REDIRECT])
    (island,) = done.islands
    after = Elf(done.contents, "patched")
    word = after.word(NEAR)
    assert word == encode_branch(BL, NEAR, island.address)
    found = decode(after, island.address)
    assert found is not None
    assert found.target == FAR
    return after, island.address


def refused(elf: Elf) -> str:
    with pytest.raises(UserError) as caught:
        patch(elf, [REDIRECT])
    assert "unused bytes" in caught.value.message
    assert "nearer" in caught.value.hint
    return caught.value.message


def test_the_rest_of_the_last_page_is_taken_and_the_file_made_longer() -> None:
    before = made()
    after, island = pass_over(before)
    assert island == NEAR + len(CALLER)
    assert len(after.data) > len(before.data)
    # What lay behind was moved by whole pages, and says the same.
    assert [(each.name, each.address, each.alignment) for each in after.sections] == [
        (each.name, each.address, each.alignment) for each in before.sections
    ]
    for old, new in zip(before.sections, after.sections, strict=True):
        assert (new.offset - old.offset) % 4096 == 0
        grown = 12 if new.name == ".text" else 0
        assert new.size == old.size + grown
        if not grown and new.kind:
            assert after.contents(new) == before.contents(old)
    for old_segment, segment in zip(before.segments, after.segments, strict=True):
        grown = 12 if segment.vma == NEAR else 0
        assert (segment.file_size, segment.memory_size) == (old_segment.file_size + grown,) * 2
        assert (segment.vma, segment.lma, segment.flags) == (old_segment.vma, old_segment.lma, old_segment.flags)
    assert [each.value for each in after.symbols.all()] == [each.value for each in before.symbols.all()]


def test_readelf_finds_nothing_wrong_with_the_longer_file(tmp_path: Path) -> None:
    after, island = pass_over(made())
    path = tmp_path / "patched.elf"
    path.write_bytes(after.data)
    shown = binutils("readelf", "-aW", path)
    assert "new" in shown
    assert f"{island:x}:" in binutils("objdump", "-d", path)


def test_zeros_behind_the_code_in_its_segment_are_taken_before_the_file_grows() -> None:
    roomy = made(code=CALLER + bytes(32))
    header = bytearray(roomy.data)
    (sections,) = struct.unpack_from("<Q", header, 40)
    struct.pack_into("<Q", header, sections + 64 + 32, len(CALLER))  # the section ends before its segment
    before = Elf(bytes(header), "made.elf")
    after, island = pass_over(before)
    assert island == NEAR + len(CALLER)
    assert len(after.data) == len(before.data)
    assert after.segments == before.segments
    # Not if there is anything, or a symbol says that there is.
    at = before.sections[1].offset + len(CALLER)
    header[at + 9] = 1
    refused(Elf(bytes(header), "made.elf"))
    named = made(code=CALLER + bytes(32), names=[*NAMES, Name("table", NEAR + 12, 32, OBJECT)])
    header = bytearray(named.data)
    (sections,) = struct.unpack_from("<Q", header, 40)
    struct.pack_into("<Q", header, sections + 64 + 32, len(CALLER))
    refused(Elf(bytes(header), "made.elf"))


@pytest.mark.parametrize(
    "more",
    [
        Part(".more", NEAR + 16, b"more", ALLOC),  # a section, in a segment of its own
        Part(".more", NEAR + 16, b"", ALLOC | WRITE),
    ],
)
def test_memory_that_something_else_uses_is_not_taken(more: Part) -> None:
    if more.data:
        refused(made(more))
    else:
        pass_over(made(more))  # it has no bytes


def test_memory_that_is_stored_next_to_it_is_not_taken() -> None:
    """Read-only data is loaded right behind the code, to be copied away."""
    elf = made()
    data = bytearray(elf.data)
    struct.pack_into("<Q", data, 64 + 56 * 2 + P_PADDR, NEAR + len(CALLER))
    refused(Elf(bytes(data), "made.elf"))


def test_bytes_that_a_symbol_names_are_not_taken() -> None:
    refused(made(names=[*NAMES, Name("heap", NEAR + 16, 0, NOTYPE)]))
    # One that marks the end of the code names none.
    pass_over(made(names=[*NAMES, Name("end", NEAR + 12, 0, NOTYPE)]))


def test_a_segment_that_is_written_to_or_has_more_memory_than_bytes_is_not_made_longer() -> None:
    refused(made(P_FLAGS=7))
    refused(made(P_MEMSZ=64))


def test_a_page_that_is_full_has_no_room() -> None:
    refused(made(code=CALLER + words(*[RET] * (1024 - 3))))


def test_one_veneer_serves_all_calls_that_reach_it() -> None:
    code = words(encode_branch(BL, NEAR, NEAR + 8), encode_branch(BL, NEAR + 4, NEAR + 8), RET)
    done = patch(made(code=code), [REDIRECT])
    assert len(done.islands) == 1
    assert len(done.rewrites) == 2


def test_each_function_gets_a_veneer_of_its_own_until_the_room_is_used_up() -> None:
    most = (4096 - len(CALLER)) // 12
    far = Part(".far", FAR, words(*[RET] * (most + 1)))
    olds = 64  # functions, each called once
    calls = [encode_branch(BL, NEAR + 4 * at, NEAR + 4 * (olds + at)) for at in range(olds)]
    code = words(*calls, *[RET] * olds)
    data = image([Part(".text", NEAR, code), far], [Name("news", FAR, len(far.data), section=2)])
    redirects = [
        Redirect(f"f{at}", NEAR + 4 * (olds + at), NEAR + 4 * (olds + at) + 4, FAR + 4 * at) for at in range(olds)
    ]
    done = patch(Elf(data, "made.elf"), redirects)
    assert len(done.islands) == olds
    after = Elf(done.contents, "patched")
    for at, rewrite in enumerate(done.rewrites):
        found = decode(after, rewrite.address + 4 * (rewrite.after & 0x3FF_FFFF))
        assert found is not None
        assert found.target == FAR + 4 * at
    assert next(each for each in after.segments if each.kind == PT_LOAD).file_size == len(code) + 12 * olds


def test_code_with_landing_pads_gets_a_veneer_only_to_one() -> None:
    """AAELF64, 6.2: GNU_PROPERTY_AARCH64_FEATURE_1_AND, with its bit for BTI."""
    note = struct.pack("<III4sIIII", 4, 16, 5, b"GNU\0", 0xC000_0000, 4, 1, 0)
    guarded = Part(".note.gnu.property", FAR + 8192, note, ALLOC)
    with pytest.raises(UserError, match="landing pad"):
        patch(made(guarded), [REDIRECT])
    elf = made(guarded)
    data = bytearray(elf.data)
    at = elf.sections[2].offset
    assert elf.sections[2].address == FAR
    data[at : at + 4] = words(0xD503_245F)  # C6.2 BTI c
    pass_over(Elf(bytes(data), "made.elf"))
