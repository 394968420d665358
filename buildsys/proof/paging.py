"""Stage 1 page tables, read back: which addresses they map where, what may be done there, and what a board needs.

Arm Architecture Reference Manual (DDI 0487), VMSAv8-64, 4 KiB granule.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import NamedTuple

from buildsys.config.board import Board, Region
from buildsys.formats.elf import SHF_ALLOC, SHF_EXECINSTR, SHF_WRITE, Elf

TABLES = 4096  # more than 16 MiB of tables is no table but something else
PAGE, ENTRIES = 1 << 12, 512
ADDRESS = 0x0000_FFFF_FFFF_F000  # of a table, in TTBRn_EL1 and in an entry


class NoTableError(ValueError):
    """These registers or bytes are no page table that is understood; the message says why."""


@dataclass(frozen=True)
class Mapping:
    """Addresses `start` up to `end`, mapped to `physical` and on, and what may be done there.

    `writable` and `executable` are for EL1, where the kernel runs; `el0_executable` is for EL0.
    """

    start: int
    end: int
    physical: int
    writable: bool
    executable: bool
    el0_executable: bool
    device: bool

    @property
    def rights(self) -> str:
        """As `ls` would show them (u: executable at EL0 only), and "device" for device memory."""
        code = "x" if self.executable else "u" if self.el0_executable else "-"
        letters = f"r{'w' if self.writable else '-'}{code}"
        return f"{letters} device" if self.device else letters


@dataclass(frozen=True)
class _Table:
    """One table: the first address it translates, its level, what tables above it forbid."""

    base: int
    start: int
    level: int
    read_only: bool
    execute_never: bool
    el0_execute_never: bool


class Range(NamedTuple):
    """The addresses that one table base register is for: `start` up to `end`, from table level `level` on."""

    start: int
    end: int
    level: int


def addressed(tcr: int, upper: bool = False) -> Range | None:
    """What TTBR0_EL1, or for the `upper` range TTBR1_EL1, translates; None if it is not used. Raises NoTableError."""
    # Arm ARM, TCR_EL1: T1SZ, EPD1 and TG1 for the upper range, T0SZ, EPD0 and TG0 for the lower.
    size, disabled, granule = (64 - (tcr >> 16 & 63), 23, 30) if upper else (64 - (tcr & 63), 7, 14)
    if tcr >> disabled & 1:
        return None
    if tcr >> granule & 3 != (2 if upper else 0):
        raise NoTableError(f"TCR_EL1 {tcr:#x} asks for another granule than 4 KiB")
    if not 25 <= size <= 48:
        raise NoTableError(f"TCR_EL1 {tcr:#x} asks for addresses of {size} bits")
    start = (1 << 64) - (1 << size) if upper else 0
    return Range(start, start + (1 << size), 3 - (size - 13) // 9)


def mappings(read: Callable[[int], int | None], ttbr: int, tcr: int, mair: int, upper: bool = False) -> list[Mapping]:
    """What the tables at `ttbr` map, lowest address first, neighbours of one kind joined.

    `read` gives the 64-bit word at an address, None if nothing is known to be there. `upper` tells that `ttbr` is
    TTBR1_EL1. Raises NoTableError.
    """
    of = addressed(tcr, upper)
    if of is None:
        return []
    joined: list[list[Mapping]] = []  # the first of each row of neighbours, and its last
    count = [0]
    for found in _walk(read, _Table(ttbr & ADDRESS, of.start, of.level, False, False, False), of.end, mair, count):
        last = joined[-1][-1] if joined else None
        if last and last.end == found.start and _continues(last, found):
            joined[-1][1:] = [found]
        else:
            joined.append([found])
    return [replace(row[0], end=row[-1].end) for row in joined]


def by_pages(read: Callable[[int, int], int | None]) -> Callable[[int], int | None]:
    """What gives the 64-bit word at an address, where `read` gives any number of bytes: it is asked for a page once."""

    @cache
    def page(start: int) -> array[int] | None:
        whole = read(start, PAGE)
        if whole is None:
            return None
        words = array("Q", whole.to_bytes(PAGE, "little"))
        if sys.byteorder == "big":
            words.byteswap()
        return words

    def word(address: int) -> int | None:
        words = None if address % 8 else page(address & ~(PAGE - 1))
        return read(address, 8) if words is None else words[address % PAGE // 8]

    return word


def _continues(last: Mapping, found: Mapping) -> bool:
    return found.physical - last.physical == found.start - last.start and found.rights == last.rights


def _walk(read: Callable[[int], int | None], table: _Table, end: int, mair: int, count: list[int]) -> Iterator[Mapping]:
    count[0] += 1
    if count[0] > TABLES:
        raise NoTableError(f"there are more than {TABLES} tables")
    span = 1 << 39 - 9 * table.level
    index, most = 0, min(ENTRIES, -(-(end - table.start) // span))
    while index < most:
        start, place = table.start + index * span, table.base + 8 * index
        entry = read(place)
        index += 1
        if entry is None:
            raise NoTableError(f"the image holds no table entry at {place:#x}")
        if not entry & 1:
            continue
        if entry & 2 and table.level < 3:
            below = _Table(
                entry & ADDRESS,
                start,
                table.level + 1,
                table.read_only or bool(entry >> 62 & 1),  # APTable[1]
                table.execute_never or bool(entry >> 59 & 1),  # PXNTable
                table.el0_execute_never or bool(entry >> 60 & 1),  # UXNTable
            )
            yield from _walk(read, below, end, mair, count)
        elif bool(entry & 2) != (table.level == 3) or table.level == 0:
            raise NoTableError(f"the table entry {entry:#x} at {place:#x} is reserved at level {table.level}")
        elif entry >> 10 & 1:  # AF; without it every access faults
            # As many as go on where the one before ends, and differ in nothing else.
            many = 1
            last = entry & ADDRESS | span - 1
            while index < most and last + span <= ADDRESS | PAGE - 1 and read(place + 8 * many) == entry + many * span:
                index, many, last = index + 1, many + 1, last + span
            yield _leaf(entry, start, span, many, table, mair)


def _leaf(entry: int, start: int, span: int, many: int, table: _Table, mair: int) -> Mapping:
    """What `entry` maps, and the many - 1 behind it that go on where it ends."""
    attributes = mair >> 8 * (entry >> 2 & 7) & 0xFF
    writable = not (table.read_only or entry >> 7 & 1)  # AP[2]
    never = table.execute_never or bool(entry >> 53 & 1)  # PXN
    return Mapping(
        start,
        start + many * span,
        entry & ADDRESS & ~(span - 1),
        writable,
        not (never or (writable and entry >> 6 & 1)),  # what EL0 may write EL1 never executes
        not (table.el0_execute_never or entry >> 54 & 1),  # UXN
        device=attributes >> 4 == 0,
    )


class Need(NamedTuple):
    """Addresses `low` up to `high` of `region` must be mapped for `use`: "code", "constants", "writable", "device"."""

    low: int
    high: int
    region: Region
    use: str


class Guard(NamedTuple):
    """Addresses `low` up to `high`, right below the stack called `stack`: nothing may be mapped there."""

    low: int
    high: int
    stack: str


def needs(board: Board, elf: Elf, guards: Sequence[Guard] = ()) -> list[Need]:
    """What must be mapped, and for what, told from the board and from the sections of the image.

    Just the pages with code may be run. In the region it is in, nothing below it is mapped, so
    that following a nil pointer faults; what follows it may not be written as far as read-only
    sections go, nor anywhere in flash. `guards` are left out.
    """
    allocated = [section for section in elf.sections if section.flags & SHF_ALLOC and section.size]
    found = []
    for region in board.regions:
        inside = [section for section in allocated if section.address in region]
        code = [section for section in inside if section.flags & SHF_EXECINSTR]
        rest = {"flash": "constants", "ram": "writable", "device": "device"}[region.kind]
        if not code or region.kind == "device":
            found.append(Need(region.origin, region.end, region, rest))
            continue
        low = min(section.address for section in code) // PAGE * PAGE
        high = min(-(-max(section.end for section in code) // PAGE) * PAGE, region.end)
        constants = [section.end for section in inside if not section.flags & SHF_WRITE]
        fixed = min(-(-max(constants, default=high) // PAGE) * PAGE, region.end)
        found += [
            Need(low, high, region, "code"),
            Need(high, fixed, region, "constants"),
            Need(fixed, region.end, region, rest),
        ]
    holes = [(guard.low, guard.high) for guard in guards]
    return [Need(*part, need.region, need.use) for need in found for part in gaps(need.low, need.high, holes)]


def wrong(board: Board, elf: Elf, mapped: Sequence[Mapping], guards: Sequence[Guard] = ()) -> Iterator[str]:
    """What `mapped` does that it must not: each need identical, whole, with the rights it has; nothing else."""
    needed = needs(board, elf, guards)
    for each in mapped:
        if each.physical != each.start:
            yield f"map {each.start:#x} to {each.physical:#x}, not to itself"
        for low, high in gaps(each.start, each.end, [(need.low, need.high) for need in needed]):
            guard = next((guard for guard in guards if low < guard.high and guard.low < high), None)
            what = f": it guards the {guard.stack} stack" if guard else ""
            yield f"map {low:#x}..{high:#x}, where nothing may be mapped{what}"
    for need in needed:
        for start, end in gaps(need.low, need.high, [(each.start, each.end) for each in mapped]):
            yield f"do not map {start:#x}..{end:#x} of {need.region.name}"
        for each in mapped:
            if each.start < need.high and need.low < each.end:
                yield from _rights(each, need, f"{max(need.low, each.start):#x} ({need.region.name})")


def gaps(low: int, high: int, ranges: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """What of `low` up to `high` none of `ranges` covers."""
    found = []
    for start, end in sorted(ranges):
        if low < start and low < high:
            found.append((low, min(start, high)))
        low = max(low, end)
    return [*found, (low, high)] if low < high else found


def _rights(mapping: Mapping, need: Need, place: str) -> Iterator[str]:
    """What memory must not allow that is for `need`, and what it must."""
    fixed = need.use in ("code", "constants")
    name = {"code": "code", "constants": "read-only memory", "writable": "RAM", "device": "devices"}[need.use]
    if fixed and mapping.writable:
        yield f"make {name} writable at {place}"
    if need.use == "code" and not mapping.executable:
        yield f"do not let the code run at {place}"
    if need.use != "code" and (mapping.executable or mapping.el0_executable):
        yield f"make {name} executable at {place}"
    if not fixed and not mapping.writable:
        yield f"make {name} read-only at {place}"
    if mapping.device != (need.use == "device"):
        yield f"map {place} as {'device' if mapping.device else 'normal'} memory"
