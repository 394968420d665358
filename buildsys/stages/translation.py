"""The identity page tables boot code turns on, computed from the board's memory map.

With the MMU off every access is to Device memory, where an unaligned one
faults; Go makes unaligned accesses. Tables are constants in flash: 4 KiB
granule, 39-bit addresses, level 1 entries of 1 GiB and level 2 blocks of 2 MiB.
Source: Arm ARM, VMSAv8-64 translation table format; registers MAIR_EL1, TCR_EL1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby

from buildsys.config.board import Board, Region
from buildsys.errors import UserError

GIB, BLOCK = 1 << 30, 1 << 21
ADDRESS_BITS = 39

NORMAL, DEVICE = 0, 1  # indices into MAIR_EL1
MAIR = 0xFF << 8 * NORMAL | 0x04 << 8 * DEVICE  # write-back, read and write allocate; Device-nGnRE

# T0SZ, inner and outer write-back walks, inner shareable, 4 KiB; the upper
# half unused (EPD1), its granule named all the same: 0b00 is reserved for TG1.
TCR = (64 - ADDRESS_BITS) | 1 << 8 | 1 << 10 | 3 << 12 | 1 << 23 | 2 << 30 | 2 << 32
SCTLR = 1 << 0 | 1 << 2 | 1 << 12  # M, C, I: translation, data and instruction caches on

_BLOCK, _ACCESSED, _INNER = 0b01, 1 << 10, 3 << 8
_READ_ONLY = 1 << 7
_EXECUTE_NEVER = 1 << 53 | 1 << 54  # PXN, UXN
ATTRIBUTES = {
    "flash": _BLOCK | _ACCESSED | _INNER | NORMAL << 2 | _READ_ONLY,
    "ram": _BLOCK | _ACCESSED | _INNER | NORMAL << 2 | _EXECUTE_NEVER,
    "device": _BLOCK | _ACCESSED | DEVICE << 2 | _EXECUTE_NEVER,
}


@dataclass(frozen=True)
class Run:
    """Neighbouring level 2 entries: blocks from `first` on, `step` bytes apart; nothing mapped if step is 0."""

    first: int
    step: int
    attributes: int


@dataclass(frozen=True)
class Translation:
    """What the templates need: register values, level 1 entries, and runs of level 2 entries by table.

    A level 1 entry is None (nothing there) or the name of a level 2 table.
    """

    mair: int
    tcr: int
    sctlr: int
    level1: tuple[str | None, ...]
    level2: tuple[tuple[str, tuple[tuple[int, Run], ...]], ...]


def translation(board: Board, flash_writable: bool = False) -> Translation:
    """The tables of `board`; with `flash_writable` a store to flash does not fault, it is lost.

    Raises UserError if a region does not consist of whole 2 MiB blocks.
    """
    for region in board.regions:
        if region.origin % BLOCK or region.length % BLOCK or region.end > 1 << ADDRESS_BITS:
            raise UserError(
                f"{board.path}: memory.{region.name} cannot be mapped",
                f"origin and length must be multiples of {BLOCK:#x}, and it must end below {1 << ADDRESS_BITS:#x}",
            )
    top = max(region.end for region in board.regions)
    attributes = ATTRIBUTES | ({"flash": ATTRIBUTES["flash"] & ~_READ_ONLY} if flash_writable else {})
    level1: list[str | None] = []
    level2 = []
    for start in range(0, top, GIB):
        runs = _runs(board, start, attributes)
        name = f"buildsys.translation.{start // GIB}" if any(run.step for _, run in runs) else None
        level1.append(name)
        if name:
            level2.append((name, runs))
    return Translation(MAIR, TCR, SCTLR, tuple(level1), tuple(level2))


def _runs(board: Board, start: int, attributes: Mapping[str, int]) -> tuple[tuple[int, Run], ...]:
    def region(address: int) -> Region | None:
        # What lies below the code stays unmapped, so that following a nil pointer faults.
        return None if address + BLOCK <= board.text and _is_flash(board, address) else board.region_at(address)

    runs = []
    for found, blocks in groupby(range(start, start + GIB, BLOCK), region):
        addresses = list(blocks)
        run = Run(addresses[0], BLOCK, attributes[found.kind]) if found else Run(0, 0, 0)
        runs.append((len(addresses), run))
    return tuple(runs)


def _is_flash(board: Board, address: int) -> bool:
    return address in board.flash
