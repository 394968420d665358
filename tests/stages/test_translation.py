"""Walked as the processor walks them, the page tables map what the board has, as what it is, and nothing else."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buildsys.config.board import Board, Region, Uart
from buildsys.errors import UserError
from buildsys.formats.elf import Elf
from buildsys.front.steps import Steps
from buildsys.stages.translation import MAIR, SCTLR, TCR, Translation, translation

PAGE, BLOCK, GIB, TOP = 1 << 12, 1 << 21, 1 << 30, 1 << 39
ENTRIES = 512

# A walk: the descriptor that decides over an address, and the bytes it maps; 0 if none is valid.
Walk = Callable[[int], tuple[int, int]]


@dataclass(frozen=True)
class Placed:
    """A board, where an image's code and what else of it is read-only end, and which pages are to guard stacks."""

    board: Board
    code_end: int
    constants_end: int
    guards: tuple[int, ...] = ()

    def translation(self) -> Translation:
        return translation(self.board, self.code_end, self.constants_end, self.guards)


def board_of(regions: list[Region], text: int, bss: int) -> Board:
    uart = Uart("pl011", 0, 1)
    return Board("random", Path("random.toml"), "", tuple(regions), text, bss, 16, 16, uart, "cortex-a72", ())


def edges_of(draw: st.DrawFn, blocks: int) -> list[int]:
    """Addresses of pages, some of them of blocks."""
    edge = st.integers(0, blocks).map(lambda at: at * BLOCK) | st.integers(0, blocks * ENTRIES).map(
        lambda at: at * PAGE
    )
    return sorted(draw(st.sets(edge, min_size=4, max_size=12)))


@st.composite
def boards(draw: st.DrawFn, blocks: int = 8 * ENTRIES) -> Placed:
    """A board of two to six regions that do not overlap, in random order; its code in flash, or in RAM."""
    edges = edges_of(draw, blocks)
    pairs = [(low, high) for low, high in zip(edges[::2], edges[1::2], strict=False)]
    rest = st.sampled_from(["flash", "ram", "device"])
    kinds = draw(st.permutations(["flash", "ram", *(draw(rest) for _ in pairs[2:])]))
    regions = [
        Region(f"region{at}", low, high - low, kind)
        for at, ((low, high), kind) in enumerate(zip(pairs, kinds, strict=True))
    ]
    home = draw(st.sampled_from([region for region in regions if region.kind != "device"]))
    ram = next(region for region in regions if region.kind == "ram")
    ends = sorted(draw(st.lists(st.integers(0, home.length // PAGE - 1), min_size=3, max_size=3)))
    text, code, constants = (home.origin + end * PAGE for end in ends)
    code += draw(st.integers(1, PAGE))
    writable = st.integers(0, ram.length // PAGE - 1).map(lambda at: ram.origin + at * PAGE)
    guards = tuple(draw(st.lists(writable | st.sampled_from([ram.origin, ram.end - PAGE]), max_size=3)))
    return Placed(board_of(draw(st.permutations(regions)), text, ram.origin), code, max(code, constants), guards)


def walk_of(tables: Translation) -> Walk:
    """The walk the templates' tables make: level 1, then level 2 and perhaps level 3, each of 512 entries."""
    named: dict[str, list[int | str]] = {}
    for name, runs in tables.level2 + tables.level3:
        entries: list[int | str] = []
        for count, run in runs:
            assert count == 1 or not run.table
            entries += [run.table or ((run.first + at * run.step) | run.attributes) for at in range(count)]
        assert len(entries) == ENTRIES
        assert name not in named
        named[name] = entries
    assert len(tables.level1) <= ENTRIES

    def walk(address: int) -> tuple[int, int]:
        index = address // GIB
        name = tables.level1[index] if index < len(tables.level1) else None
        entry = named[name][address // BLOCK % ENTRIES] if name else 0
        if isinstance(entry, int):
            return entry, BLOCK
        page = named[entry][address // PAGE % ENTRIES]
        assert isinstance(page, int)
        return page, PAGE

    return walk


def use_of(placed: Placed, address: int) -> str:
    """What the page at `address` is for; nothing if it must not be mapped."""
    board, page = placed.board, address // PAGE * PAGE
    region = board.region_at(address)
    if region is None:
        return ""
    if region is board.code:
        if page < board.text:
            return ""
        if page < placed.code_end:
            return "code"
        if page < placed.constants_end:
            return "constants"
    if page in placed.guards and region.kind == "ram":
        return ""
    return {"flash": "constants", "ram": "data", "device": "device"}[region.kind]


def check(placed: Placed, walk: Walk, tables: Translation, address: int) -> None:
    """Arm ARM, VMSAv8-64 block and page descriptors: what `address` maps to is what the board has there."""
    descriptor, size = walk(address)
    use = use_of(placed, address)
    if not use:
        assert descriptor & 1 == 0, f"{address:#x} is mapped"
        return
    assert descriptor & 0b11 == (0b01 if size == BLOCK else 0b11), f"{address:#x} is not mapped"
    assert descriptor & (TOP - size) == address // size * size, f"{address:#x} is not mapped to itself"
    memory = MAIR >> 8 * (descriptor >> 2 & 7) & 0xFF
    assert memory == (0x04 if use == "device" else 0xFF)  # Device-nGnRE; normal, write-back
    writable, executable = descriptor >> 7 & 1 == 0, descriptor >> 53 & 3 == 0
    assert (writable, executable) == {
        "code": (False, True),
        "constants": (False, False),
        "data": (True, False),
        "device": (True, False),
    }[use]
    assert descriptor >> 53 & 3 in (0, 3)  # PXN and UXN
    assert descriptor >> 6 & 1 == 0  # AP[1]: not for EL0
    assert descriptor >> 10 & 1 == 1  # AF: no access flag fault
    assert use == "device" or descriptor >> 8 & 3 == 3  # SH: inner shareable
    assert descriptor & ~(TOP - size | 3 << 53 | 0xFFF) == 0  # reserved bits


def edges(placed: Placed) -> set[int]:
    """The addresses at which anything changes, and their neighbours, below the top of what can be mapped."""
    places = {0, TOP - 1, placed.board.text, placed.code_end, placed.constants_end, *placed.guards}
    for region in placed.board.regions:
        places |= {region.origin, region.end, region.origin // GIB * GIB, -(-region.end // GIB) * GIB}
    return {place + by for place in places for by in (-1, 0, PAGE, BLOCK) if 0 <= place + by < TOP}


@settings(max_examples=60)
@given(boards(), st.data())
def test_every_address_maps_to_what_the_board_has_there(placed: Placed, data: st.DataObject) -> None:
    tables = placed.translation()
    walk = walk_of(tables)
    top = max(region.end for region in placed.board.regions)
    for address in edges(placed) | data.draw(st.sets(st.integers(0, top), max_size=20)):
        check(placed, walk, tables, address)


@settings(max_examples=3)
@given(boards(blocks=TOP // BLOCK))
def test_memory_far_up_can_be_mapped(placed: Placed) -> None:
    tables = placed.translation()
    walk = walk_of(tables)
    for address in edges(placed):
        check(placed, walk, tables, address)


@settings(max_examples=40)
@given(boards(), st.data())
def test_the_tables_are_as_large_wherever_the_code_ends(placed: Placed, data: st.DataObject) -> None:
    """Else the image's layout would depend on its own addresses; a guess from another image is no harm."""
    guess = st.integers(0, 2 * TOP)
    guards = tuple(data.draw(guess) for _ in placed.guards)
    other = dataclasses.replace(placed, code_end=data.draw(guess), constants_end=data.draw(guess), guards=guards)
    sizes = {
        len(tables.level2) + len(tables.level3) + tables.spare for tables in (placed.translation(), other.translation())
    }
    assert len(sizes) == 1
    assert placed.translation().spare >= 0


def test_the_last_address_that_can_be_mapped_is_mapped() -> None:
    regions = [Region("flash", 0, GIB, "flash"), Region("ram", TOP - BLOCK, BLOCK, "ram")]
    placed = Placed(board_of(regions, BLOCK, TOP - BLOCK), 2 * BLOCK, 2 * BLOCK)
    tables = placed.translation()
    check(placed, walk_of(tables), tables, TOP - 1)
    assert len(tables.level1) == ENTRIES
    assert [at for at, name in enumerate(tables.level1) if name] == [0, ENTRIES - 1]


@settings(max_examples=30)
@given(boards(), st.integers(1, PAGE - 1), st.booleans(), st.data())
def test_a_region_that_is_not_made_of_whole_pages_is_refused(
    placed: Placed, part: int, at_end: bool, data: st.DataObject
) -> None:
    board = placed.board
    at = data.draw(st.integers(0, len(board.regions) - 1))
    region = board.regions[at]
    length = region.length + part if at_end else region.length
    broken = Region(region.name, region.origin + (0 if at_end else part), length, region.kind)
    regions = [*board.regions[:at], broken, *board.regions[at + 1 :]]
    with pytest.raises(UserError) as caught:
        translation(board_of(regions, board.text, board.bss), placed.code_end, placed.constants_end)
    assert caught.value.message == f"random.toml: memory.{region.name} cannot be mapped"
    assert f"{PAGE:#x}" in caught.value.hint


def test_a_region_beyond_what_can_be_mapped_is_refused() -> None:
    regions = [Region("flash", 0, GIB, "flash"), Region("ram", TOP - BLOCK, 2 * BLOCK, "ram")]
    with pytest.raises(UserError, match=r"memory\.ram cannot be mapped"):
        translation(board_of(regions, 0, TOP - BLOCK), PAGE, PAGE)


def test_the_registers_describe_these_tables() -> None:
    field = {name: TCR >> low & (1 << bits) - 1 for name, low, bits in (
        ("T0SZ", 0, 6), ("EPD0", 7, 1), ("IRGN0", 8, 2), ("ORGN0", 10, 2), ("SH0", 12, 2), ("TG0", 14, 2),
        ("EPD1", 23, 1), ("TG1", 30, 2), ("IPS", 32, 3),
    )}  # fmt: skip
    assert 1 << 64 - field["T0SZ"] == TOP
    assert (field["TG0"], field["TG1"]) == (0b00, 0b10)  # 4 KiB each: another code in each field
    assert (field["EPD0"], field["EPD1"]) == (0, 1)
    assert (field["IRGN0"], field["ORGN0"], field["SH0"]) == (1, 1, 3)
    assert 1 << (32, 36, 40, 42, 44, 48, 52)[field["IPS"]] >= TOP
    assert SCTLR == 1 | 1 << 2 | 1 << 12


def test_the_tables_in_the_image_are_those_of_the_board(built: Steps) -> None:
    board, elf = built.project.board, Elf.read(built.image)
    root = elf.symbols.addresses("buildsys.translation")["buildsys.translation"]
    assert root % PAGE == 0
    assert root in board.flash

    def word(place: int) -> int:
        found = elf.word(place, 8)
        assert found is not None
        return found

    def walk(address: int) -> tuple[int, int]:
        entry = word(root + 8 * (address // GIB))
        if entry & 1 == 0:
            return 0, GIB
        assert entry & 0b11 == 0b11  # a table
        block = word((entry & ~0xFFF) + 8 * (address // BLOCK % ENTRIES))
        if block & 0b11 != 0b11:
            return block, BLOCK
        return word((block & ~0xFFF) + 8 * (address // PAGE % ENTRIES)), PAGE

    text, rodata = elf.section(".text"), elf.section(".rodata")
    assert text is not None
    assert rodata is not None
    names = ("__exception_stack_guard", "__stack_guard")
    placed = Placed(board, text.end, rodata.end, tuple(elf.symbols.addresses(*names)[name] for name in names))
    tables = placed.translation()
    top = max(region.end for region in board.regions)
    blocks = {each // BLOCK * BLOCK for each in placed.guards}
    near = {*range(board.text - BLOCK, rodata.end + BLOCK, PAGE)}
    near.update(page for block in blocks for page in range(block, block + BLOCK, PAGE))
    for address in {*range(0, top + GIB, BLOCK), *range(0, TOP, GIB), *near, *edges(placed)}:
        check(placed, walk, tables, address)
