"""How many calls of the runtime's barrier functions an object has, before it is linked: from its relocations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from buildsys.formats.elf import R_AARCH64_CALL26, R_AARCH64_JUMP26, Elf

_CALLS = (R_AARCH64_CALL26, R_AARCH64_JUMP26)

PAIRS_OF_A_PAGE = 4096 // 16


@dataclass(frozen=True)
class SiteTable:
    """A table with a pair of words for each of so many call sites, as templates/barrier-count.s.j2 describes it.

    A site's pair is looked for from the number that `bits` bits of its return address make, upwards; of
    `pairs` there are enough for every site if all began at the last number, and they fill whole pages.
    """

    bits: int = 0
    pairs: int = 0


NO_SITES = SiteTable()


def table_for(sites: int) -> SiteTable:
    """The table for `sites` call sites: twice as many numbers, or more, so that most are found at once."""
    bits = max(8, (2 * sites - 1).bit_length())
    return SiteTable(bits, ((1 << bits) + sites + PAIRS_OF_A_PAGE - 1) // PAIRS_OF_A_PAGE * PAIRS_OF_A_PAGE)


def calls(elf: Elf, names: Iterable[str]) -> int:
    """How many branches of `elf`, an object with all its relocations, go to a local function of one of `names`."""
    goals = {
        (symbol.section, symbol.value)
        for symbols in elf.symbols.named(*names).values()
        for symbol in symbols
        if not symbol.is_global
    }
    found = 0
    for table in elf.relocations():
        for (info, addend), count in Counter(zip(table.infos, table.addends, strict=True)).items():
            place = elf.symbols.place(info >> 32) if info & 0xFFFF_FFFF in _CALLS else None
            # An assembler may refer to a local function by its section and an offset.
            if place and (place[0], place[1] + addend) in goals:
                found += count
    return found
