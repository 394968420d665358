"""ELF files: read as pyelftools reads them; and what is no sound AArch64 image is refused in one line."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from elftools.elf.elffile import ELFFile
from hypothesis import given, settings
from hypothesis import strategies as st

from buildsys.errors import UserError
from buildsys.formats import identity
from buildsys.formats.elf import SHT_NOBITS, Elf
from buildsys.formats.patch import patch
from buildsys.front.steps import Steps
from buildsys.stages.objects import read_runtime
from buildsys.stages.patch import patch_image
from tests.binutils import INSTALL, PREFIX
from tests.machines.conftest import needs

from .conftest import compiled
from .images import ALLOC, CODE, HEADER, NOBITS, SECTION, SEGMENT, WRITE, Name, Part, elf, image, words
from .kernel import ENTRY, PLAN, kernel, redirected

# ---- sound files ----


class Pair:
    """One file, as we and as pyelftools read it."""

    def __init__(self, path: Path) -> None:
        self.ours = Elf.read(path)
        self.theirs: Any = ELFFile(path.open("rb"))


@pytest.fixture(scope="session", params=["lld", "GNU ld", "Go"])
def pair(request: pytest.FixtureRequest, images: dict[str, Path], built: Steps) -> Pair:
    return Pair({**images, "Go": built.go_object}[request.param])


def number(value: Any, names: dict[str, int]) -> int:
    return names[value] if value in names else int(value)


def test_sections_are_those_pyelftools_reads(pair: Pair) -> None:
    fields = ("sh_flags", "sh_addr", "sh_offset", "sh_size", "sh_link", "sh_info", "sh_addralign")
    expected = [(each.name, *(each[field] for field in fields)) for each in pair.theirs.iter_sections()]
    assert len(expected) > 20
    assert [
        (each.name, each.flags, each.address, each.offset, each.size, each.link, each.info, each.alignment)
        for each in pair.ours.sections
    ] == expected
    for ours, theirs in zip(pair.ours.sections[1:], list(pair.theirs.iter_sections())[1:], strict=True):
        assert (ours.kind == SHT_NOBITS) is (theirs["sh_type"] == "SHT_NOBITS")
        if ours.in_file and not theirs.compressed:
            assert pair.ours.contents(ours) == theirs.data()
        if not ours.in_file:
            assert pair.ours.contents(ours) == b""


def test_segments_are_those_pyelftools_reads(pair: Pair) -> None:
    fields = ("p_flags", "p_offset", "p_vaddr", "p_paddr", "p_filesz", "p_memsz", "p_align")
    expected = [tuple(each[field] for field in fields) for each in pair.theirs.iter_segments()]
    assert [
        (each.flags, each.offset, each.vma, each.lma, each.file_size, each.memory_size, each.alignment)
        for each in pair.ours.segments
    ] == expected


def test_the_header_is_the_one_pyelftools_reads(pair: Pair) -> None:
    kinds = {"ET_REL": 1, "ET_EXEC": 2}
    assert (pair.ours.entry, pair.ours.kind) == (pair.theirs["e_entry"], kinds[pair.theirs["e_type"]])


def test_relocations_are_those_pyelftools_reads(pair: Pair) -> None:
    tables = [each for each in pair.theirs.iter_sections() if each["sh_type"] == "SHT_RELA" and each["sh_size"]]
    assert tables
    for ours, theirs in zip(pair.ours.relocations(), tables, strict=True):
        entries = list(theirs.iter_relocations())
        assert ours.target == theirs["sh_info"]
        assert list(ours.offsets) == [entry["r_offset"] for entry in entries]
        assert list(ours.infos) == [entry["r_info"] for entry in entries]
        assert ours.kinds() == [entry["r_info_type"] for entry in entries]
        assert list(ours.addends) == [entry["r_addend"] for entry in entries]


@pytest.mark.parametrize("linker", ["lld", "GNU ld"])
def test_every_address_that_is_stored_has_its_place_in_the_file(images: dict[str, Path], linker: str) -> None:
    pair = Pair(images[linker])
    checked = 0
    for section in pair.theirs.iter_sections():
        if not section["sh_flags"] & ALLOC or not section["sh_size"]:
            continue
        low, high = section["sh_addr"], section["sh_addr"] + section["sh_size"]
        if section["sh_type"] == "SHT_NOBITS":
            if not section["sh_flags"] & 0x400:  # thread-local: its addresses are those of what follows
                assert pair.ours.file_offset(low) is None
            continue
        for address in (low, (low + high) // 2, high - 1):
            at = pair.ours.file_offset(address)
            assert at is not None
            assert at - section["sh_offset"] == address - low
        assert pair.ours.word(low) == int.from_bytes(section.data()[:4], "little")
        assert pair.ours.word(low, 8) == int.from_bytes(section.data()[:8], "little")
        checked += 1
    assert checked > 2
    assert pair.ours.file_offset((1 << 64) - 1) is None
    assert pair.ours.word((1 << 64) - 1) is None


def test_code_is_every_executable_section_with_bytes() -> None:
    made = elf(
        [
            Part(".text", 0, words(0)),
            Part(".data", 64, words(0), ALLOC | WRITE),
            Part(".empty", 128, b""),
            Part(".later", 192, words(0, 0), ALLOC | CODE, NOBITS),
            Part(".more", 256, words(0, 0)),
        ]
    )
    assert [section.name for section in made.code] == [".text", ".more"]


def test_a_section_is_found_by_name(built: Steps) -> None:
    made = Elf.read(built.image)
    text = made.section(".text")
    assert text
    assert text.address == built.project.board.text
    assert made.section(".nothing") is None


# ---- files that are refused ----


def refused(path: Path, folder: Path, what: Callable[[], object] | None = None) -> UserError:
    """The error of the call-site pass on the file at `path`: one line; no file appears, its own is unchanged."""
    before = path.read_bytes() if path.is_file() else None
    made = folder / "made"
    made.mkdir(exist_ok=True)
    with pytest.raises(UserError) as caught:
        what() if what else patch_image(path, PLAN, ENTRY, made / "out.elf", made / "out.json")
    assert "\n" not in caught.value.message
    assert str(path) in caught.value.message
    assert not list(made.iterdir())
    assert (path.read_bytes() if path.is_file() else None) == before
    return caught.value


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("x86_64-none-elf", "made for machine 62 (x86-64), not for AArch64"),
        ("i386-none-elf", "a 32-bit ELF file"),
        ("arm-none-eabi", "a 32-bit ELF file"),
        ("riscv64-none-elf", "made for machine 243 (RISC-V), not for AArch64"),
        ("aarch64_be-none-elf", "a big-endian ELF file"),
        ("mips-none-elf", "a 32-bit ELF file"),
        ("x86_64-apple-macosx", "not an ELF file"),
    ],
)
def test_a_file_for_another_machine_is_refused(tmp_path: Path, target: str, message: str) -> None:
    path = compiled(tmp_path, target)
    assert refused(path, tmp_path).message.startswith(f"{path}: {message}")


@pytest.mark.parametrize("contents", [b"", b"\x7fEL", b"#!/bin/sh\n", b"!<arch>\n" + bytes(100), bytes(1000)])
def test_what_is_no_elf_file_is_refused(tmp_path: Path, contents: bytes) -> None:
    path = tmp_path / "other"
    path.write_bytes(contents)
    error = refused(path, tmp_path)
    assert error.message == f"{path}: not an ELF file"
    assert error.hint


def test_an_archive_and_an_object_of_go_are_refused(built: Steps, tmp_path: Path) -> None:
    assert "not an ELF file" in refused(built.archive, tmp_path).message
    assert "is not a linked executable" in refused(built.go_object, tmp_path).message


def test_a_shared_object_is_no_image(tmp_path: Path) -> None:
    path = tmp_path / "shared.elf"
    path.write_bytes(kernel()[:16] + (3).to_bytes(2, "little") + kernel()[18:])
    assert "is not a linked executable" in refused(path, tmp_path).message


def test_a_stripped_image_is_refused_with_the_reason(built: Steps, tmp_path: Path) -> None:
    needs(PREFIX + "strip", INSTALL)
    path = tmp_path / "stripped.elf"
    shutil.copy(built.unpatched, path)
    subprocess.run([PREFIX + "strip", path], check=True)
    error = refused(path, tmp_path)
    assert error.message == f"{path}: has no symbol table"
    assert "strip" in error.hint


def test_an_image_without_section_headers_has_no_symbols(tmp_path: Path) -> None:
    path = tmp_path / "bare.elf"
    data = kernel()
    path.write_bytes(data[:40] + bytes(8) + data[48:60] + bytes(4) + data[64:])
    assert refused(path, tmp_path).message == f"{path}: has no symbol table"


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    assert "cannot be read: No such file" in refused(tmp_path / "none.elf", tmp_path).message
    assert refused(tmp_path, tmp_path).message == f"{tmp_path}: is not a regular file"


def test_what_never_ends_or_never_comes_is_refused(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert refused(pipe, tmp_path).message == f"{pipe}: is not a regular file"
    assert refused(Path("/dev/zero"), tmp_path).message == "/dev/zero: is not a regular file"


def read_all(data: bytes, name: str) -> None:
    made = Elf(data, name)
    _ = made.segments, made.sections, made.symbols


def headers(data: bytes) -> list[int]:
    """The places of all bytes of the file's headers."""
    segments, sections = int.from_bytes(data[56:58], "little"), int.from_bytes(data[60:62], "little")
    table = int.from_bytes(data[40:48], "little")
    return [*range(HEADER + segments * SEGMENT), *range(table, table + sections * SECTION)]


def edges(data: bytes) -> set[int]:
    """The lengths at which something ends: headers, and every part of the file."""
    made = Elf(data)
    found = {0, 4, 5, 6, 16, 18, HEADER - 1, HEADER, HEADER + SEGMENT * len(made.segments), len(data) - 1}
    for section in made.sections:
        if section.in_file:
            found |= {section.offset, section.offset + section.size}
    table = int.from_bytes(data[40:48], "little")
    found |= {table + SECTION * at for at in range(len(made.sections))}
    return {length + by for length in found for by in (-1, 0, 1) if 0 <= length + by < len(data)}


def test_a_small_image_cut_off_anywhere_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cut.elf"
    for length in range(len(kernel())):
        path.write_bytes(kernel()[:length])
        message = refused(path, tmp_path).message
        assert "not an ELF file" in message if length < 4 else "truncated" in message


@pytest.mark.parametrize(("size", "fine"), [(0, True), (1, False)])
def test_zeroed_memory_has_no_place_in_the_file(tmp_path: Path, size: int, fine: bool) -> None:
    """GNU ld gives a segment of nothing else an offset behind the end."""
    data = bytearray(kernel())
    (headers,) = struct.unpack_from("<Q", data, 32)
    last = headers + SEGMENT * (struct.unpack_from("<H", data, 56)[0] - 1)
    struct.pack_into("<Q", data, last + 8, len(data) + 0x1000)
    struct.pack_into("<Q", data, last + 32, size)
    if fine:
        assert Elf(bytes(data)).segments[-1].offset > len(data)
    else:
        with pytest.raises(UserError, match="truncated: segment"):
            assert Elf(bytes(data)).segments


def test_a_real_image_cut_off_where_anything_ends_is_refused(built: Steps, tmp_path: Path) -> None:
    whole = built.unpatched.read_bytes()
    _, plan = read_runtime(built.runtime_json)
    path = tmp_path / "cut.elf"
    lengths = sorted(edges(whole))
    assert len(lengths) > 100
    # The bytes are tried for all of them, the file is written for one.
    for length in lengths:
        with pytest.raises(UserError, match=r"cut\.elf: (not an ELF file|truncated: )"):
            read_all(whole[:length], str(path))
    path.write_bytes(whole[: lengths[-1]])
    made = tmp_path / "made"
    refused(path, tmp_path, lambda: patch_image(path, plan, ENTRY, made / "out.elf", made / "out.json"))


ENTRY_POINT = range(24, 32)  # e_entry: another one is another program, and sound


def try_flipped(folder: Path, flips: dict[int, int]) -> str:
    """What the pass makes of the small image with bits flipped: "refused", or "patched", and then all of it."""
    data, expected = bytearray(kernel()), bytearray(redirected(kernel()))
    for place, mask in flips.items():
        data[place] ^= mask
        expected[place] ^= mask
    path = folder / "flipped.elf"
    path.write_bytes(data)
    made = folder / "made"
    made.mkdir(exist_ok=True)
    output, report = made / "out.elf", made / "out.json"
    problem = None
    try:
        patch_image(path, PLAN, ENTRY, output, report)
    except UserError as error:
        problem = error
    assert path.read_bytes() == data
    if problem is not None:
        assert "\n" not in problem.message
        assert str(path) in problem.message
        assert not list(made.iterdir())
        return "refused"
    assert output.read_bytes() == bytes(expected)
    output.unlink()
    report.unlink()
    return "patched"


@pytest.mark.slow
def test_any_one_bit_flipped_in_the_headers_is_harmless_or_refused(tmp_path: Path) -> None:
    seen = [
        try_flipped(tmp_path, {place: 1 << bit})
        for place in headers(kernel())
        if place not in ENTRY_POINT
        for bit in range(8)
    ]
    assert seen.count("refused") > 500
    assert seen.count("patched") > 500


flips = st.dictionaries(
    st.sampled_from([place for place in headers(kernel()) if place not in ENTRY_POINT]),
    st.integers(1, 255),
    min_size=1,
    max_size=4,
)


@settings(max_examples=300)
@given(flips)
def test_bytes_flipped_in_the_headers_are_harmless_or_refused(
    tmp_path_factory: pytest.TempPathFactory, places: dict[int, int]
) -> None:
    folder = tmp_path_factory.getbasetemp() / "flips"
    folder.mkdir(exist_ok=True)
    try_flipped(folder, places)


@settings(max_examples=25)
@given(data=st.data())
def test_bytes_flipped_in_the_headers_of_a_real_image_are_harmless_or_refused(
    built: Steps, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    _, plan = read_runtime(built.runtime_json)
    whole, patched = built.unpatched.read_bytes(), built.image.read_bytes()
    places = [place for place in headers(whole) if place not in ENTRY_POINT]
    place, mask = data.draw(st.sampled_from(places)), data.draw(st.integers(1, 255))
    folder = tmp_path_factory.mktemp("flipped")
    path, output = folder / "flipped.elf", folder / "out.elf"
    path.write_bytes(whole[:place] + bytes([whole[place] ^ mask]) + whole[place + 1 :])
    problem = None
    try:
        patch_image(path, plan, built.project.entry, output, folder / "out.json")
    except UserError as error:
        problem = error
    if problem is None:
        # But for the identity, which is of these contents and no others.
        image = Elf.read(built.image)
        start = image.file_offset(identity.place(image) or 0) or 0
        patched, made = (
            each[:start] + bytes(identity.SIZE) + each[start + identity.SIZE :]
            for each in (patched, output.read_bytes())
        )
        assert made == patched[:place] + bytes([patched[place] ^ mask]) + patched[place + 1 :]
    else:
        assert str(path) in problem.message
        assert "\n" not in problem.message
        assert [each.name for each in folder.iterdir()] == ["flipped.elf"]
    shutil.rmtree(folder)


@given(st.binary(max_size=400), st.booleans())
def test_noise_is_refused(tmp_path_factory: pytest.TempPathFactory, noise: bytes, header: bool) -> None:
    folder = tmp_path_factory.getbasetemp() / "noise"
    folder.mkdir(exist_ok=True)
    path = folder / "noise.elf"
    path.write_bytes((kernel()[:20] if header else b"") + noise)
    refused(path, folder)


def test_a_size_of_many_terabytes_costs_nothing(tmp_path: Path) -> None:
    data = bytearray(kernel())
    table = int.from_bytes(data[40:48], "little")
    huge = (1 << 62).to_bytes(8, "little")
    for section in range(1, 6):
        for field in (24, 32):  # offset, size
            path = tmp_path / "huge.elf"
            changed = bytearray(data)
            at = table + SECTION * section + field
            changed[at : at + 8] = huge
            path.write_bytes(changed)
            refused(path, tmp_path)


def test_code_sections_that_share_bytes_are_refused() -> None:
    nops = words(*[0xD503201F] * 8)
    data = bytearray(image([Part(".text", 1 << 21, nops), Part(".more", 1 << 22, nops)], [Name("f", 1 << 21, 4)]))
    patch(Elf(bytes(data)), [])
    table = int.from_bytes(data[40:48], "little")
    first, second = table + SECTION, table + 2 * SECTION
    data[second + 16 : second + 40] = data[first + 16 : first + 40]  # address, offset, size
    with pytest.raises(UserError, match=r"the file: damaged: code section '.more' is not where a segment loads code"):
        patch(Elf(bytes(data)), [])
