"""The sweep over DWARF finds what pyelftools and addr2line find, whatever is looked for, and stops at damage."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from elftools.elf.elffile import ELFFile
from hypothesis import given, settings
from hypothesis import strategies as st

from buildsys.formats.debuginfo import DW_AT_ABSTRACT_ORIGIN, DW_TAG_INLINED_SUBROUTINE, DebugInfo
from buildsys.formats.dwarf import Unreadable
from buildsys.formats.elf import SHF_COMPRESSED, Elf, Section
from buildsys.go.described import described
from tests.agreeing import linked, releases
from tests.conftest import ROOT

DW_AT_CALL_FILE, DW_AT_CALL_LINE, DW_AT_INLINE = 0x58, 0x59, 0x20


@pytest.fixture(scope="module", params=releases(), ids=lambda go: go.release)
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The kernel of tests/kernels/agreeing, linked, by each Go there is."""
    return linked(tmp_path_factory.mktemp("agreeing") / "kernel", str(request.param.root)).unpatched


@pytest.fixture(scope="module")
def elf(path: Path) -> Elf:
    return Elf.read(path)


@pytest.fixture(scope="module")
def dwarf(elf: Elf) -> DebugInfo:
    return DebugInfo(elf)


@pytest.fixture(scope="module")
def theirs(elf: Elf) -> list[Any]:
    """Every DIE of packages main and internal/abi as pyelftools reads it."""
    read: Any = ELFFile(BytesIO(elf.data)).get_dwarf_info(relocate_dwarf_sections=False)
    return [
        die
        for unit in read.iter_CUs()
        if unit.get_top_DIE().attributes["DW_AT_name"].value in (b"main", b"internal/abi", b"internal/bytealg")
        for die in unit.iter_DIEs()
    ]


def names(theirs: list[Any]) -> Iterator[tuple[str, int]]:
    for die in theirs:
        if die.tag == "DW_TAG_subprogram" and "DW_AT_name" in die.attributes:
            yield die.attributes["DW_AT_name"].value.decode(), die.offset


def test_every_function_is_found_where_pyelftools_finds_it(dwarf: DebugInfo, theirs: list[Any]) -> None:
    wanted = set(names(theirs))
    assert len(wanted) > 40
    absent = {f"main.absent{number}" for number in range(100)}  # more than the expression itself looks for
    found = {(die.text(0x03), die.offset) for _, die in dwarf.subprograms({name for name, _ in wanted} | absent)}
    assert found >= wanted
    for name, _ in sorted(wanted)[:8]:
        assert {(die.text(0x03), die.offset) for _, die in dwarf.subprograms([name])} == {
            each for each in found if each[0] == name
        }


def test_every_instance_is_found_where_pyelftools_finds_it(dwarf: DebugInfo, theirs: list[Any]) -> None:
    abstract = [die.offset for die in theirs if die.tag == "DW_TAG_subprogram" and "DW_AT_inline" in die.attributes]
    assert len(abstract) > 4
    origins: dict[int, int] = {}
    for die in theirs:
        if die.tag in ("DW_TAG_subprogram", "DW_TAG_inlined_subroutine") and "DW_AT_abstract_origin" in die.attributes:
            origins[die.offset] = die.attributes["DW_AT_abstract_origin"].value
    inside = {offset for offset, origin in origins.items() if origin in abstract}
    found = {die.offset: dwarf.origin(die) for _, die in dwarf.instances(abstract)}
    assert inside
    assert found.keys() >= inside
    assert all(found[offset] == origins[offset] for offset in inside)
    # One at a time, each is found in another way than all at once.
    many = [*abstract, *range(1 << 31, (1 << 31) + 100)]
    assert {die.offset for _, die in dwarf.instances(many)} == found.keys()
    one_by_one = {die.offset for origin in abstract for _, die in dwarf.instances([origin])}
    assert one_by_one == found.keys()


def test_values_are_those_pyelftools_reads(dwarf: DebugInfo, theirs: list[Any]) -> None:
    compared = 0
    for die in theirs:
        if die.is_null():
            continue
        ours = dwarf.die(dwarf.unit_of(die.offset), die.offset)
        for attribute, value in zip(die.attributes.values(), ours.values.values(), strict=True):
            raw = attribute.raw_value
            plain = raw.decode() if isinstance(raw, bytes) else bytes(raw) if isinstance(raw, list) else raw
            if attribute.form not in ("DW_FORM_flag_present",):
                assert value == plain, (die, attribute)
                compared += 1
    assert compared > 1000


def test_inlined_copies_are_those_pyelftools_tells(elf: Elf, theirs: list[Any]) -> None:
    wanted = {"main.inlined", "main.alsoInlined", "main.only", "main.unreachedInlined"}
    read: Any = ELFFile(BytesIO(elf.data)).get_dwarf_info(relocate_dwarf_sections=False)
    expected: dict[str, set[tuple[str, int, int]]] = {}
    for die in theirs:
        if die.tag == "DW_TAG_inlined_subroutine":
            name = die.get_DIE_from_attribute("DW_AT_abstract_origin").attributes["DW_AT_name"].value.decode()
            if name in wanted:
                number, line = (die.attributes[f"DW_AT_call_{what}"].value for what in ("file", "line"))
                files = read.line_program_for_CU(die.cu)["file_entry"]
                file = files[number if die.cu["version"] >= 5 else number - 1].name.decode()
                expected.setdefault(name, set()).add((file.rpartition("/")[2], line, low_pc(read, die)))
    assert expected.keys() == wanted
    found = described(elf, (), wanted).copies
    assert {
        name: {(copy.file.rpartition("/")[2], copy.line, copy.address) for copy in each} for name, each in found.items()
    } == expected


def low_pc(read: Any, die: Any) -> int:
    """The lowest address of a DIE's code."""
    if "DW_AT_low_pc" in die.attributes:
        return int(die.attributes["DW_AT_low_pc"].value)
    entries = read.range_lists().get_range_list_at_offset(die.attributes["DW_AT_ranges"].value, cu=die.cu)
    base = die.cu.get_top_DIE().attributes["DW_AT_low_pc"].value
    pieces = []
    for entry in entries:
        if hasattr(entry, "base_address"):
            base = entry.base_address
        elif entry.begin_offset != entry.end_offset:
            pieces.append(entry.begin_offset + (0 if entry.is_absolute else base))
    return int(min(pieces))


def test_each_copy_is_told_with_the_line_that_calls(elf: Elf) -> None:
    lines = (ROOT / "tests/kernels/agreeing/src/main.go").read_text().splitlines()
    found = described(elf, (), ("main.inlined", "main.alsoInlined", "main.only", "main.unreachedInlined")).copies
    places = [(name.removeprefix("main."), copy) for name, each in found.items() for copy in each]
    assert len(places) >= 5
    for name, copy in places:
        assert copy.file == "kernel/main.go"
        assert f"{name}(" in lines[copy.line - 1], copy
        assert copy.inside in {"main.KernelMain", "main.outer", "main.unreached", "main.main", "main.keepReplacing"}


def section(elf: Elf, name: str) -> Section:
    found = elf.section(name)
    assert found
    return found


def test_compressed_sections_are_read_alike(elf: Elf, dwarf: DebugInfo) -> None:
    plain = {die.offset for _, die in dwarf.subprograms(["main.inlined", "main.outer"])}
    data = bytearray(elf.data)
    offset = struct.unpack_from("<Q", data, 40)[0]
    for name in (".debug_info", ".debug_abbrev", ".debug_line"):
        each = section(elf, name)
        packed = struct.pack("<IIQQ", 1, 0, each.size, 1) + zlib.compress(elf.contents(each), 1)
        header = offset + 64 * each.index
        # Elf64_Shdr: flags at 8, offset at 24, size at 32
        struct.pack_into("<Q", data, header + 8, each.flags | SHF_COMPRESSED)
        struct.pack_into("<QQ", data, header + 24, len(data), len(packed))
        data += packed
    other = DebugInfo(Elf(bytes(data), "packed"))
    assert plain
    assert {die.offset for _, die in other.subprograms(["main.inlined", "main.outer"])} == plain
    struct.pack_into("<I", data, section(Elf(bytes(data)), ".debug_info").offset, 2)
    with pytest.raises(Unreadable, match="other than zlib"):
        DebugInfo(Elf(bytes(data), "packed otherwise"))


def test_units_that_are_not_in_go_are_left_out(elf: Elf, dwarf: DebugInfo) -> None:
    (unit, die), *_ = dwarf.subprograms(["main.outer"])
    data = bytearray(elf.data)
    info = section(elf, ".debug_info")
    name = elf.contents(info).index(b"main\0", unit.first)
    data[info.offset + name + 5] = 0x0C  # DW_LANG_C99, which follows the name
    found = DebugInfo(Elf(bytes(data), "another language"))
    assert len(found.units) == len(dwarf.units) - 1
    assert not list(found.subprograms(["main.outer"]))
    with pytest.raises(Unreadable, match="no entry in Go"):
        found.unit_of(die.offset)


def test_an_object_is_not_read(path: Path) -> None:
    with pytest.raises(Unreadable, match="not linked"):
        DebugInfo(Elf.read(path.parent / "go.o"))


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damage_is_unreadable_or_harmless(elf: Elf, dwarf: DebugInfo, data: st.DataObject) -> None:
    info = section(elf, ".debug_info")
    (unit, die), *_ = dwarf.subprograms(["main.outer"])
    contents = bytearray(elf.data)
    for at in data.draw(st.lists(st.integers(unit.start, min(die.end + 400, unit.end) - 1), min_size=1, max_size=4)):
        contents[info.offset + at] ^= data.draw(st.integers(1, 255))
    found = described(Elf(bytes(contents), "damaged"), [], ["main.inlined", "main.outer", "runtime.acquirem"])
    assert found.unreadable or found.copies.keys() <= {"main.inlined", "main.outer", "runtime.acquirem"}


def test_every_entry_of_copies_has_its_call(dwarf: DebugInfo) -> None:
    origins = [die.offset for _, die in dwarf.subprograms(["runtime.acquirem"]) if DW_AT_INLINE in die.values]
    copies = [(unit, die) for unit, die in dwarf.instances(origins) if die.tag == DW_TAG_INLINED_SUBROUTINE]
    assert len(copies) > 20
    for unit, die in copies:
        assert die.number(DW_AT_ABSTRACT_ORIGIN) in origins
        assert dwarf.file(unit, die.number(DW_AT_CALL_FILE) or 0).startswith("runtime/")
        assert (die.number(DW_AT_CALL_LINE) or 0) > 0
        assert all(low < high for low, high in dwarf.ranges(unit, die))
