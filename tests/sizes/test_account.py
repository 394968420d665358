"""The account of real images, held against GNU size, nm and readelf; and of any image, that it adds up."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildsys.config import board as boards
from buildsys.config.project import load
from buildsys.errors import UserError
from buildsys.formats.elf import Elf
from buildsys.front.share import memory_line, taken
from buildsys.front.size import measured
from buildsys.front.steps import Steps
from buildsys.sizes import snapshot
from buildsys.sizes.account import BSS, CODE, DATA, LEFT, NAMELESS, RODATA, Account, account
from buildsys.sizes.change import changes
from buildsys.sizes.names import ASSEMBLY, Names
from tests.binutils import INSTALL, PREFIX, binutils
from tests.conftest import copy_project
from tests.formats.images import ALLOC, NOBITS, NOTYPE, OBJECT, PROGBITS, WRITE, Name, Part, image
from tests.formats.images import CODE as EXECUTED
from tests.machines.conftest import needs

BOARD = boards.load("qemu-virt", "the tests")
IN_RAM = boards.load("qemu-virt-ram", "the tests")


@pytest.fixture(scope="module")
def found(built: Steps) -> Account:
    return measured(built, built.image)


def adds_up(found: Account) -> None:
    """Every table's rows are the whole of what they are of."""
    for room in found.rooms:
        inside = sorted((each.address, each.size) for each in found.pieces if each.region == room.name)
        assert inside[0][0] == room.low
        assert all(at + size == following for (at, size), (following, _) in pairwise(inside))
        assert sum(inside[-1]) == room.high
        assert room.used == sum(each.size for each in found.taken if each.region == room.name)
    for fields in (("region",), ("section",), ("package",), ("kind",), ("package", "symbol")):
        rows = found.by(*fields)
        for room in found.rooms:
            assert sum(row.get(f"in {room.name}", 0) for row in rows.values()) == room.used


def test_the_rows_add_up(found: Account) -> None:
    adds_up(found)


def test_sections_are_as_large_as_gnu_size_says(found: Account, built: Steps) -> None:
    printed = re.findall(r"^(\.\w+)\s+(\d+)\s+(\d+)$", binutils("size", "-A", "-d", built.image), re.MULTILINE)
    theirs = {name: int(size) for name, size, address in printed if int(address) and name != ".tbss"}
    ours = {
        key[0]: sum(row.get(kind, 0) for kind in (CODE, RODATA, DATA, BSS))
        for key, row in found.by("section").items()
        if key[0].startswith(".")
    }
    assert len(theirs) == 4
    assert ours == theirs


def test_symbols_are_as_large_as_nm_says(found: Account, built: Steps) -> None:
    ours: Counter[str] = Counter()
    for piece in found.taken:
        if not piece.stored:
            ours[piece.symbol] += piece.size
    rows = [
        line.split(maxsplit=3) for line in binutils("nm", "-S", "--size-sort", "--radix=d", built.image).splitlines()
    ]
    known = {(address, size) for address, size, _, name in rows if name in ours}
    theirs: Counter[str] = Counter()
    for address, size, letter, name in rows:
        # Bytes that have two names are counted under one of them.
        second = name not in ours and (address, size) in known
        if letter not in "Aa" and (letter != "b" or int(address) >= BOARD.ram.origin) and not second:
            theirs[name] += int(size)
    different = {name: (size, ours[name]) for name, size in theirs.items() if ours[name] != size}
    assert len(theirs) > 1500
    assert different == {}


def test_regions_are_as_full_as_readelf_says_the_segments_make_them(found: Account, built: Steps) -> None:
    printed = binutils("readelf", "-lW", built.image)
    loads = [
        [int(each, 16) for each in row]
        for row in re.findall(r"LOAD\s+" + r"(0x\w+) +" * 5, printed)  # offset, VMA, LMA, in file, in memory
    ]
    assert len(loads) == 4
    flash, ram = found.rooms
    assert flash.used == max(lma + size for _, _, lma, size, _ in loads if lma < BOARD.ram.origin) - BOARD.text
    end = max(vma + size for _, vma, _, _, size in loads)
    assert ram.used == -(-end // 4096) * 4096 - BOARD.bss + BOARD.stack + BOARD.exception_stack + 2 * 4096  # guards


def test_the_end_of_a_build_tells_the_same(found: Account, built: Steps) -> None:
    told = taken(built.records.facts("patch")["sections"], built.project.board, guarded=True)
    assert told == [(room.name, room.used, room.length) for room in found.rooms]
    words = memory_line(built.records.facts("patch")["sections"], built.project.board, guarded=True)
    for room in found.rooms:
        assert f"{room.name} {room.used / 1024:.0f} KiB of {room.length >> 20} MiB, {100 * room.share:.1f} %" in words


@pytest.mark.parametrize(
    ("toolchain", "board", "rooms"),
    [("gnu", "qemu-virt", ["flash", "ram"]), ("zig", "qemu-virt-ram", ["ram"]), ("zig", "raspi3b", ["ram"])],
)
def test_on_other_boards_and_by_another_linker_it_adds_up_too(
    built: Steps, tmp_path: Path, toolchain: str, board: str, rooms: list[str]
) -> None:
    if toolchain == "gnu":
        needs(PREFIX + "ld", INSTALL)
    project = replace(load(copy_project(tmp_path)), toolchain=toolchain, board=boards.load(board, "the tests"))
    steps = Steps(project)
    steps.project.build.mkdir()
    for theirs, ours in zip(built.of_go, steps.of_go, strict=True):
        shutil.copy2(theirs, ours)
    for action in (steps.link, steps.patch):
        steps.records.perform(action())
    found = measured(steps, steps.image)
    adds_up(found)
    assert [room.name for room in found.rooms] == rooms
    told = taken(steps.records.facts("patch")["sections"], steps.project.board, guarded=True)
    assert told == [(room.name, room.used, room.length) for room in found.rooms]
    assert not [piece for piece in found.taken if piece.package in (NAMELESS, ASSEMBLY)]


def test_what_no_symbol_names_is_little(found: Account) -> None:
    nameless = sum(piece.size for piece in found.taken if piece.package == NAMELESS)
    assert nameless < 0.001 * sum(room.used for room in found.rooms)


def test_the_parts_of_the_file_are_the_file(found: Account, built: Steps) -> None:
    assert found.file_size == built.image.stat().st_size
    parts = dict(found.file)
    headers = binutils("readelf", "-hW", built.image)
    number, size = (
        int(re.findall(rf"(?:{what}):\s+(\d+)", headers)[0])
        for what in ("Number of section headers", "Size of section headers")
    )
    assert parts["section headers"] == number * size
    assert parts["ELF header"] == 64


def test_zeroed_data_takes_nothing_in_the_file(found: Account) -> None:
    assert ".bss" not in dict(found.file)
    assert found.by("section")[(".bss",)].keys() == {"in ram", BSS}


def test_what_is_saved_is_read_as_it_was(found: Account, tmp_path: Path) -> None:
    snapshot.save(found, tmp_path / "sizes" / "x.json")
    assert snapshot.read(tmp_path / "sizes" / "x.json") == found


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 1}', '{"format": 1, "pieces": [1]}', '{"format": 9}'])
def test_what_is_no_account_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(UserError, match=re.escape(str(path))):
        snapshot.read(path)


def test_changes_add_up_to_the_change_of_the_whole(found: Account) -> None:
    grown = [replace(each, size=each.size + 8) if each.package == "main" else each for each in found.pieces]
    now = replace(found, pieces=tuple(each for each in grown if each.package != "kernel/uart"))
    for fields in (("region",), ("package",), ("package", "symbol")):
        rows = changes(found, now, *fields)
        assert sum(row.delta for row in rows) == sum(p.size for p in now.taken) - sum(p.size for p in found.taken)
    by_package = {row.name[0]: row.delta for row in changes(found, now, "package")}
    assert by_package["main"] > 0
    assert by_package["kernel/uart"] < 0
    assert by_package["runtime"] == 0
    assert changes(found, found, "package")[0].delta == 0


# ---- any image ----


def _parts(sizes: tuple[int, int, int, int], gaps: tuple[int, int, int], low: int, ram: int) -> list[Part]:
    text, rodata, bss, data = sizes
    starts = [low, low + text + gaps[0], ram, ram + bss + gaps[1]]
    return [
        Part(".text", starts[0], bytes(text), ALLOC | EXECUTED),
        Part(".rodata", starts[1], bytes(rodata), ALLOC),
        Part(".bss", starts[2], bytes(bss), ALLOC | WRITE, NOBITS),
        Part(".data", starts[3], bytes(data), ALLOC | WRITE, PROGBITS),
    ]


numbers = st.integers(0, 5000)
marks = st.lists(
    st.tuples(
        st.sampled_from(["main.f", "a/b%2ec.X", "type:*", "go:string.*", "runtime.etext", "$d", "local", "__bss_end"]),
        st.integers(0, 6000),
        st.one_of(st.just(0), st.integers(1, 6000)),
        st.sampled_from([NOTYPE, OBJECT, 2]),
        st.sampled_from([0, 1]),
        st.integers(1, 4),
    ),
    max_size=20,
)


@given(st.tuples(numbers, numbers, numbers, numbers), st.tuples(numbers, numbers, numbers), marks, st.booleans())
def test_whatever_an_image_holds_its_account_adds_up(
    sizes: tuple[int, int, int, int],
    gaps: tuple[int, int, int],
    given: list[tuple[str, int, int, int, int, int]],
    in_ram: bool,
) -> None:
    board = IN_RAM if in_ram else BOARD
    ram = board.text + 0x10000 if in_ram else board.bss
    parts = _parts(sizes, gaps, board.text, ram)
    names = [
        Name(name, parts[section - 1].address + at, size, kind, binding, section)
        for name, at, size, kind, binding, section in given
    ]
    data = image(parts, names)
    found = account(Elf(data), board, Names())
    adds_up(found)
    assert found.file_size == len(data)
    assert sum(row.get(CODE, 0) for row in found.by("section").values()) == sizes[0]
    assert sum(piece.size for piece in found.pieces if piece.kind == LEFT) == sum(
        r.length - r.used for r in found.rooms
    )


def test_sections_on_top_of_one_another_and_in_no_region_are_counted_once() -> None:
    parts = [
        Part(".text", BOARD.text, bytes(64), ALLOC | EXECUTED),
        Part(".rodata", BOARD.text + 32, bytes(64), ALLOC),
        Part(".lost", 1 << 40, bytes(16), ALLOC),
    ]
    found = account(Elf(image(parts)), BOARD, Names())
    assert [(room.name, room.used) for room in found.rooms] == [("flash", 96), ("ram", 0), ("(no region)", 16)]
