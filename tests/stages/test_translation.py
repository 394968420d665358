"""Walked as the processor walks them, the page tables map what the board has, as what it is, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buildsys.config.board import Board, Region, Uart
from buildsys.errors import UserError
from buildsys.formats.elf import Elf
from buildsys.front.steps import Steps
from buildsys.stages.translation import Translation, translation

BLOCK, GIB, TOP = 1 << 21, 1 << 30, 1 << 39
ENTRIES = 512

# A walk: the descriptor that decides over an address, 0 if none is valid.
Walk = Callable[[int], int]


def board_of(regions: list[Region], text: int, bss: int) -> Board:
    uart = Uart("pl011", 0, 1)
    return Board("random", Path("random.toml"), "", tuple(regions), text, bss, 16, 16, uart, "cortex-a72", ())


@st.composite
def boards(draw: st.DrawFn, blocks: int = 8 * ENTRIES) -> Board:
    """A board of two to six regions that do not overlap, in random order, with flash and RAM among them."""
    edges = sorted(draw(st.sets(st.integers(0, blocks), min_size=4, max_size=12)))
    pairs = [(low, high) for low, high in zip(edges[::2], edges[1::2], strict=False)]
    rest = st.sampled_from(["flash", "ram", "device"])
    kinds = draw(st.permutations(["flash", "ram", *(draw(rest) for _ in pairs[2:])]))
    regions = [
        Region(f"region{at}", low * BLOCK, (high - low) * BLOCK, kind)
        for at, ((low, high), kind) in enumerate(zip(pairs, kinds, strict=True))
    ]
    flash = next(region for region in regions if region.kind == "flash")
    ram = next(region for region in regions if region.kind == "ram")
    text = flash.origin + draw(st.integers(0, flash.length // 4096 - 1)) * 4096
    return board_of(draw(st.permutations(regions)), text, ram.origin)


def walk_of(tables: Translation) -> Walk:
    """The walk the templates' tables make: level 1, then level 2, each of 512 entries."""
    level2 = {}
    for name, runs in tables.level2:
        entries: list[int] = []
        for count, run in runs:
            entries += [(run.first + at * run.step) | run.attributes for at in range(count)]
        assert len(entries) == ENTRIES
        level2[name] = entries
    assert len(tables.level1) <= ENTRIES

    def walk(address: int) -> int:
        index = address // GIB
        name = tables.level1[index] if index < len(tables.level1) else None
        return level2[name][address // BLOCK % ENTRIES] if name else 0

    return walk


def check(board: Board, walk: Walk, tables: Translation, address: int) -> None:
    """Arm ARM, VMSAv8-64 block descriptor: what `address` maps to is what the board has there."""
    descriptor = walk(address)
    region = board.region_at(address)
    hidden = region is board.flash and address // BLOCK < board.text // BLOCK
    if region is None or hidden:
        assert descriptor & 1 == 0, f"{address:#x} is mapped"
        return
    assert descriptor & 0b11 == 0b01, f"{address:#x} is not mapped by a block"
    assert descriptor & (TOP - BLOCK) == address // BLOCK * BLOCK, f"{address:#x} is not mapped to itself"
    memory = tables.mair >> 8 * (descriptor >> 2 & 7) & 0xFF
    assert memory == (0x04 if region.kind == "device" else 0xFF)  # Device-nGnRE; normal, write-back
    writable, executable = descriptor >> 7 & 1 == 0, descriptor >> 53 & 3 == 0
    assert (writable, executable) == {
        "flash": (False, True),
        "ram": (True, False),
        "device": (True, False),
    }[region.kind]
    assert descriptor >> 53 & 3 in (0, 3)  # PXN and UXN
    assert descriptor >> 6 & 1 == 0  # AP[1]: not for EL0
    assert descriptor >> 10 & 1 == 1  # AF: no access flag fault
    assert region.kind == "device" or descriptor >> 8 & 3 == 3  # SH: inner shareable
    assert descriptor & ~(TOP - BLOCK | 3 << 53 | 0xFFF) == 0  # reserved bits


def edges(board: Board) -> set[int]:
    """The addresses at which anything changes, and their neighbours, below the top of what can be mapped."""
    places = {0, TOP - 1, board.text}
    for region in board.regions:
        places |= {region.origin, region.end, region.origin // GIB * GIB, -(-region.end // GIB) * GIB}
    return {place + by for place in places for by in (-1, 0, BLOCK) if 0 <= place + by < TOP}


@settings(max_examples=60)
@given(boards(), st.data())
def test_every_address_maps_to_what_the_board_has_there(board: Board, data: st.DataObject) -> None:
    tables = translation(board)
    walk = walk_of(tables)
    top = max(region.end for region in board.regions)
    for address in edges(board) | data.draw(st.sets(st.integers(0, top), max_size=20)):
        check(board, walk, tables, address)


@settings(max_examples=3)
@given(boards(blocks=TOP // BLOCK))
def test_memory_far_up_can_be_mapped(board: Board) -> None:
    tables = translation(board)
    walk = walk_of(tables)
    for address in edges(board):
        check(board, walk, tables, address)


def test_the_last_address_that_can_be_mapped_is_mapped() -> None:
    regions = [Region("flash", 0, GIB, "flash"), Region("ram", TOP - BLOCK, BLOCK, "ram")]
    board = board_of(regions, BLOCK, TOP - BLOCK)
    tables = translation(board)
    check(board, walk_of(tables), tables, TOP - 1)
    assert len(tables.level1) == ENTRIES
    assert [at for at, name in enumerate(tables.level1) if name] == [0, ENTRIES - 1]


@settings(max_examples=30)
@given(boards(), st.integers(1, BLOCK - 1), st.booleans(), st.data())
def test_a_region_that_is_not_made_of_whole_blocks_is_refused(
    board: Board, part: int, at_end: bool, data: st.DataObject
) -> None:
    at = data.draw(st.integers(0, len(board.regions) - 1))
    region = board.regions[at]
    length = region.length + part if at_end else region.length
    broken = Region(region.name, region.origin + (0 if at_end else part), length, region.kind)
    regions = [*board.regions[:at], broken, *board.regions[at + 1 :]]
    with pytest.raises(UserError) as caught:
        translation(board_of(regions, board.text, board.bss))
    assert caught.value.message == f"random.toml: memory.{region.name} cannot be mapped"
    assert f"{BLOCK:#x}" in caught.value.hint


def test_a_region_beyond_what_can_be_mapped_is_refused() -> None:
    regions = [Region("flash", 0, GIB, "flash"), Region("ram", TOP - BLOCK, 2 * BLOCK, "ram")]
    with pytest.raises(UserError, match=r"memory\.ram cannot be mapped"):
        translation(board_of(regions, 0, TOP - BLOCK))


def test_the_registers_describe_these_tables(built: Steps) -> None:
    tables = translation(built.project.board)
    field = {name: tables.tcr >> low & (1 << bits) - 1 for name, low, bits in (
        ("T0SZ", 0, 6), ("EPD0", 7, 1), ("IRGN0", 8, 2), ("ORGN0", 10, 2), ("SH0", 12, 2), ("TG0", 14, 2),
        ("EPD1", 23, 1), ("TG1", 30, 2), ("IPS", 32, 3),
    )}  # fmt: skip
    assert 1 << 64 - field["T0SZ"] == TOP
    assert (field["TG0"], field["TG1"]) == (0b00, 0b10)  # 4 KiB each: another code in each field
    assert (field["EPD0"], field["EPD1"]) == (0, 1)
    assert (field["IRGN0"], field["ORGN0"], field["SH0"]) == (1, 1, 3)
    assert 1 << (32, 36, 40, 42, 44, 48, 52)[field["IPS"]] >= TOP
    assert tables.sctlr == 1 | 1 << 2 | 1 << 12


def test_the_tables_in_the_image_are_those_of_the_board(built: Steps) -> None:
    board, elf = built.project.board, Elf.read(built.image)
    root = elf.symbols.addresses("buildsys.translation")["buildsys.translation"]
    assert root % 4096 == 0
    assert root in board.flash

    def walk(address: int) -> int:
        entry = elf.word(root + 8 * (address // GIB), 8)
        assert entry is not None
        if entry & 1 == 0:
            return 0
        assert entry & 0b11 == 0b11  # a table
        descriptor = elf.word((entry & ~0xFFF) + 8 * (address // BLOCK % ENTRIES), 8)
        assert descriptor is not None
        return descriptor

    tables = translation(board)
    top = max(region.end for region in board.regions)
    for address in {*range(0, top + GIB, BLOCK), *range(0, TOP, GIB), *edges(board)}:
        check(board, walk, tables, address)
