"""What relocations say an image refers to: the places in a range, each with what it names.

A linker told to keep them (`--emit-relocs`) leaves every relocation of its inputs in the
image, with addresses for offsets. They owe nothing to decoding, and say exactly what an
instruction or a pointer in data was written to mean. What they do not know: a reference
resolved before linking (the assembler's, within one section), and what was changed afterwards.
Kinds are those of ELF for the Arm 64-bit Architecture, tables of section 5.7.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterator
from typing import NamedTuple

from buildsys.formats.elf import SHF_ALLOC, Elf, Relocations

ABS64 = 257
ADR_PREL_PG_HI21, ADR_PREL_PG_HI21_NC = 275, 276
TSTBR14, CONDBR19, JUMP26, CALL26 = 279, 280, 282, 283
PAGES = frozenset({ADR_PREL_PG_HI21, ADR_PREL_PG_HI21_NC})
BRANCHES = frozenset({TSTBR14, CONDBR19, JUMP26, CALL26})
# R_AARCH64_NONE, both of its numbers; thread-local storage, whose symbols are offsets; dynamic linking.
_NOTHING = (0, 256)
_NO_ADDRESS = 512


class Related(NamedTuple):
    """One relocation: the address it applies to, its kind, and the address it names."""

    place: int
    kind: int
    target: int


class Relations:
    """The relocations of what an image loads, by place."""

    def __init__(self, elf: Elf) -> None:
        self._symbols = elf.symbols
        self._values: dict[int, int] = {}
        loaded = {section.index: section for section in elf.sections if section.flags & SHF_ALLOC}
        self._tables = [
            (loaded[table.target].address, loaded[table.target].end, _in_order(table))
            for table in elf.relocations()
            if table.target in loaded
        ]

    def __contains__(self, address: int) -> bool:
        """Whether relocations were kept of the section `address` lies in."""
        return any(low <= address < high for low, high, _ in self._tables)

    def between(self, low: int, high: int) -> Iterator[Related]:
        """Each relocation that names an address and applies to a place from `low` to before `high`, in order."""
        for first, end, table in self._tables:
            if first < high and low < end:
                offsets, infos, addends = table.offsets, table.infos, table.addends
                for at in range(bisect_left(offsets, low), bisect_left(offsets, high)):
                    info = infos[at]
                    kind = info & 0xFFFF_FFFF
                    if kind < _NO_ADDRESS and kind not in _NOTHING:
                        number = info >> 32
                        value = self._values.get(number)
                        if value is None:
                            value = self._values[number] = (self._symbols.place(number) or (0, 0))[1]
                        yield Related(offsets[at], kind, value + addends[at])


def _in_order(table: Relocations) -> Relocations:
    """The same entries, lowest place first: a linker writes them in the order of its inputs."""
    offsets = table.offsets
    order = sorted(range(len(offsets)), key=offsets.__getitem__)
    if all(at == place for at, place in enumerate(order)):
        return table
    return Relocations(
        table.target,
        array("Q", map(offsets.__getitem__, order)),
        array("Q", map(table.infos.__getitem__, order)),
        array("q", map(table.addends.__getitem__, order)),
    )
