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
from functools import partial
from itertools import compress, islice
from operator import gt, itemgetter
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
_RUNS = 16


class Related(NamedTuple):
    """One relocation: the address it applies to, its kind, and the address it names."""

    place: int
    kind: int
    target: int


_related = partial(tuple.__new__, Related)  # without a call of Python code: there are thousands


class Relations:
    """The relocations of what an image loads, by place."""

    def __init__(self, elf: Elf) -> None:
        self._symbols = elf.symbols
        self._values: dict[int, int] = {}
        loaded = {section.index: section for section in elf.sections if section.flags & SHF_ALLOC}
        tables = [(loaded[table.target], table) for table in elf.relocations(of=loaded)]
        self._kept = [(section.address, section.end) for section, _ in tables]
        self._runs = [(section.address, section.end, run) for section, table in tables for run in _in_order(table)]

    def __contains__(self, address: int) -> bool:
        """Whether relocations were kept of the section `address` lies in."""
        return any(low <= address < high for low, high in self._kept)

    def between(self, low: int, high: int) -> list[Related]:
        """Each relocation that names an address and applies to a place from `low` to before `high`, in order."""
        found: list[Related] = []
        sources = 0
        values = self._values
        for first, end, (offsets, infos, addends) in self._runs:
            if first < high and low < end:
                before = len(found)
                start, stop = bisect_left(offsets, low), bisect_left(offsets, high)
                for place, info, addend in zip(
                    offsets[start:stop], infos[start:stop], addends[start:stop], strict=True
                ):
                    kind = info & 0xFFFF_FFFF
                    if kind < _NO_ADDRESS and kind not in _NOTHING:
                        number = info >> 32
                        value = values.get(number)
                        if value is None:
                            value = values[number] = (self._symbols.place(number) or (0, 0))[1]
                        found.append(_related((place, kind, value + addend)))
                sources += len(found) > before
        return sorted(found, key=itemgetter(0)) if sources > 1 else found


class _Run(NamedTuple):
    """Relocations in the order of their places: arrays of what `elf.Relocations` has, of one length."""

    offsets: array[int]
    infos: array[int]
    addends: array[int]


def _in_order(table: Relocations) -> list[_Run]:
    """The entries in as few runs as they are in order.

    A linker writes them in the order of its inputs, each of which is in order but for a few places.
    What is in no order at all is sorted: to look into each of many runs would take longer.
    """
    whole = _Run(table.offsets, table.infos, table.addends)
    offsets = whole.offsets.tolist()
    if offsets == sorted(offsets):  # which of what is in order is quickly said
        return [whole]
    count = len(offsets)
    ends = [*compress(range(1, count), map(gt, whole.offsets, islice(whole.offsets, 1, None))), count]
    if len(ends) > _RUNS:
        order = sorted(range(count), key=whole.offsets.__getitem__)
        return [_Run(*(array(each.typecode, map(each.__getitem__, order)) for each in whole))]
    bounds = zip([0, *ends], ends, strict=False)
    return [whole] if len(ends) == 1 else [_Run(*(each[low:high] for each in whole)) for low, high in bounds]
