"""A machine as it stood at one moment: the registers of its first core, and what is in its RAM.

Memory is that of physical addresses; of RAM only what is not zero is kept, in whole blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

from buildsys.config.board import Board
from buildsys.machines.ends import DeadEnd

BLOCK = 1 << 16  # bytes
STEP = 1 << 20  # bytes read at a time
GENERAL = (*(f"x{number}" for number in range(31)), "sp", "pc")
# Arm ARM, D17.2 and C5.2. `sp_el1` is out of date while the core is on it: `sp` is then the one.
SYSTEM = (
    "pstate", "esr_el1", "far_el1", "elr_el1", "spsr_el1", "sp_el0", "sp_el1",
    "vbar_el1", "sctlr_el1", "tcr_el1", "ttbr0_el1", "ttbr1_el1", "mair_el1", "tpidr_el1",
)  # fmt: skip


@dataclass(frozen=True)
class Snapshot:
    """What was there: `registers` by name, `memory` by physical address in ascending order.

    `ram` are the ranges that were looked at: what `memory` has not of them is zero. `at` is what
    the machine had come to, None if it was stopped from outside. `fault` are syndrome and address of an
    exception that the emulator did not deliver, for nothing would have handled it.
    """

    registers: dict[str, int]
    memory: dict[int, bytes]
    ram: tuple[range, ...]
    at: DeadEnd | None = None
    fault: tuple[int, int] | None = None

    def read(self, address: int, size: int) -> bytes | None:
        """`size` bytes of RAM at a physical address; None if some of them were not looked at."""
        if not any(each.start <= address and address + size <= each.stop for each in self.ram):
            return None
        found, at = bytearray(), address
        while at < address + size:
            block = at - at % BLOCK
            end = min(block + BLOCK, address + size)
            data = self._blocks.get(block)
            found += data[at - block : end - block] if data is not None else bytes(end - at)
            at = end
        return bytes(found)

    @cached_property
    def _blocks(self) -> dict[int, memoryview]:
        return {
            start + at: memoryview(data)[at : at + BLOCK]
            for start, data in self.memory.items()
            for at in range(0, len(data), BLOCK)
        }


def ram_of(board: Board) -> tuple[range, ...]:
    """The RAM of `board`."""
    return tuple(range(each.origin, each.end) for each in board.regions if each.kind == "ram")


def held(ram: tuple[range, ...], load: Callable[[int, int], bytes]) -> dict[int, bytes]:
    """What is not zero in `ram`, by address; `load` gives so many bytes at an address."""
    found: dict[int, bytearray] = {}
    end, last = -1, bytearray()
    for start, data in _blocks(ram, load):
        if start != end:
            found[start] = last = bytearray()
        last += data
        end = start + len(data)
    return {start: bytes(data) for start, data in found.items()}


def _blocks(ram: tuple[range, ...], load: Callable[[int, int], bytes]) -> Iterator[tuple[int, bytes]]:
    """The blocks that are not zero. A region begins and ends with a page, a block with a multiple of its size."""
    nothing, empty = bytes(STEP), bytes(BLOCK)
    for region in ram:
        for at in range(region.start, region.stop, STEP):
            data = load(at, min(STEP, region.stop - at))
            if data == nothing:
                continue
            for within in range(0, len(data), BLOCK):
                block = data[within : within + BLOCK]
                if block != empty[: len(block)]:
                    yield at + within, block
