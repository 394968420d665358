"""Page tables read back as rows of neighbours: held against a walk of each address by itself."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildsys.proof.paging import ADDRESS, PAGE, Mapping, NoTableError, by_pages, mappings

TCR, MAIR = 25 | 1 << 23, 0x00FF  # 39 bits, 4 KiB, no upper range; attributes 0 are Normal, 1 Device
ROOT, MIDDLE, LOW = 0x1000, 0x2000, 0x3000
SPANS = {1: 1 << 30, 2: 1 << 21, 3: 1 << 12}
# What entries differ in: AP[2], AP[1], AF, PXN, UXN, the attributes.
RIGHTS = (0, 1 << 7, 1 << 6, 1 << 53, 1 << 54, 1 << 2)
Words = dict[int, int]


@st.composite
def tables(draw: st.DrawFn) -> Words:
    """A table of each level, below one another, with rows of entries that go on, or nearly."""
    words = {at: 0 for table in (ROOT, MIDDLE, LOW) for at in range(table, table + PAGE, 8)}
    for level, table in ((1, ROOT), (2, MIDDLE), (3, LOW)):
        index = draw(st.integers(0, 500))
        for _ in range(draw(st.integers(0, 6))):
            count, step = draw(st.integers(1, 6)), draw(st.sampled_from([SPANS[level]] * 4 + [0, 2 * SPANS[level]]))
            first = draw(st.integers(0, (1 << 48 - 30) - 1)) << 30
            if draw(st.booleans()):
                first = (1 << 48) - draw(st.integers(1, 4)) * SPANS[level]  # to the end of what there is
            kind = sum(draw(st.sets(st.sampled_from(RIGHTS)))) | draw(st.sampled_from([1 << 10] * 5 + [0]))
            for number in range(count):
                if index < 512:
                    to = (first + number * step) & ADDRESS & ~(SPANS[level] - 1)
                    words[table + 8 * index] = to | kind | (3 if level == 3 else 1)
                    index += 1
            index += draw(st.integers(0, 2))
    forbids = st.sampled_from([0, 1 << 62, 1 << 59, 1 << 60])
    if draw(st.booleans()):
        words[ROOT + 8 * draw(st.integers(0, 511))] = MIDDLE | 3 | draw(forbids)
        if draw(st.booleans()):
            words[MIDDLE + 8 * draw(st.integers(0, 511))] = LOW | 3 | draw(forbids)
    return words


def rights(entry: int, above: int) -> tuple[bool, bool, bool, bool]:
    """What a leaf allows, `above` being all bits of the entries that led to it: Arm ARM, VMSAv8-64."""
    writable = not (entry >> 7 & 1 or above >> 62 & 1)
    executable = not (entry >> 53 & 1 or above >> 59 & 1 or (writable and entry >> 6 & 1))
    at_el0 = not (entry >> 54 & 1 or above >> 60 & 1)
    return writable, executable, at_el0, bool(entry >> 2 & 7)


def leaves(words: Words, table: int = ROOT, level: int = 1, start: int = 0, above: int = 0) -> Iterator[Mapping]:
    """Each entry that maps something, by itself."""
    for index in range(512):
        entry, low = words[table + 8 * index], start + index * SPANS[level]
        if entry & 1 and level < 3 and entry & 2:
            yield from leaves(words, entry & ADDRESS, level + 1, low, above | entry)
        elif entry & 1 and entry >> 10 & 1:
            yield Mapping(low, low + SPANS[level], entry & ADDRESS & ~(SPANS[level] - 1), *rights(entry, above))


def joined(single: Iterator[Mapping]) -> list[Mapping]:
    found: list[Mapping] = []
    for each in single:
        last = found[-1] if found else each
        goes_on = last.end == each.start and each.physical - last.physical == each.start - last.start
        if goes_on and last.rights == each.rights:
            found[-1] = Mapping(last.start, each.end, last.physical, *_rights(last))
        else:
            found.append(each)
    return found


def _rights(mapping: Mapping) -> tuple[bool, bool, bool, bool]:
    return mapping.writable, mapping.executable, mapping.el0_executable, mapping.device


@given(tables())
def test_what_is_mapped_is_what_each_entry_maps_with_neighbours_joined(words: Words) -> None:
    found = mappings(words.get, ROOT, TCR, MAIR)
    assert [(each.start, each.end, each.physical, each.rights) for each in found] == [
        (each.start, each.end, each.physical, each.rights) for each in joined(leaves(words))
    ]


def test_a_table_of_which_a_word_is_not_known_is_no_table() -> None:
    words = {ROOT + 8 * index: index << 30 | 1 << 10 | 1 for index in range(300)}
    with pytest.raises(NoTableError, match=hex(ROOT + 8 * 300)):
        mappings(words.get, ROOT, TCR, MAIR)


@given(st.integers(), st.lists(st.integers(0, 4 * PAGE)))
def test_words_by_pages_are_the_words_that_are_there(seed: int, addresses: list[int]) -> None:
    memory, base = Random(seed).randbytes(3 * PAGE), 0x1000
    asked: list[tuple[int, int]] = []

    def read(address: int, size: int) -> int | None:
        asked.append((address, size))
        at = address - base
        return int.from_bytes(memory[at : at + size], "little") if 0 <= at <= len(memory) - size else None

    words = by_pages(read)
    for address in addresses:
        at = address - base
        there = int.from_bytes(memory[at : at + 8], "little") if 0 <= at <= len(memory) - 8 else None
        assert words(address) == there
    of_pages = [each for each in asked if each[1] == PAGE]
    assert len(of_pages) == len(set(of_pages)), "each page is asked for once"
