"""Finding every `B` and `BL` that goes to one of a set of addresses, in one pass over the code.

Plain Python is made fast enough by two observations. The top byte of a word
says whether it is a `B` or `BL`, so `bytes.translate` marks the candidates at
C speed. And for the word at index i of a section that begins at `base`,
imm26 + i = (target - base) / 4 (mod 2**26): one addition and one look-up
decide, however many targets there are.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from itertools import compress
from typing import NamedTuple

from buildsys.formats.a64 import BRANCH_RANGE, branch_target, is_bl
from buildsys.formats.elf import Elf, Section

# 000101xx is B, 100101xx is BL: top bytes 0x14-0x17 and 0x94-0x97.
_BRANCH = bytes(byte & 0x7C == 0x14 for byte in range(256))
# 1xx10000 is ADRP.
_ADRP = bytes(byte & 0x9F == 0x90 for byte in range(256))
_MASK26 = 0x03FF_FFFF


class CallSite(NamedTuple):
    """One `BL` or `B`: its address, the instruction word, and where it goes."""

    address: int
    word: int
    target: int

    @property
    def kind(self) -> str:
        """`bl` or `b`, whichever it is."""
        return "bl" if is_bl(self.word) else "b"


def words_of(elf: Elf, section: Section) -> array[int]:
    """The instruction words of an executable section, as unsigned 32-bit integers."""
    contents = elf.contents(section)
    return array("I", contents[: len(contents) & ~3])


class Hits(NamedTuple):
    """The branches of one section that go to wanted targets: `indices` into `words`, and the target of each."""

    section: Section
    words: array[int]
    indices: list[int]
    targets: list[int]


def hits(elf: Elf, targets: Iterable[int]) -> Iterator[Hits]:
    """Every `B` and `BL` to one of `targets`, executable section by executable section."""
    wanted = frozenset(targets)
    for section in elf.code:
        words, base = words_of(elf, section), section.address
        keys = {target - base >> 2 & _MASK26: target for target in wanted}
        marks = elf.contents(section)[3::4].translate(_BRANCH)
        found = [at for at in compress(range(len(words)), marks) if words[at] + at & _MASK26 in keys]
        goals = [keys[words[at] + at & _MASK26] for at in found]
        # A key repeats every 256 MiB. Of an address in this range no other with its key can be reached from here.
        near = range(section.end - BRANCH_RANGE, base + BRANCH_RANGE)
        if any(target not in near for target in wanted):
            exact = [(at, branch_target(words[at], base + 4 * at)) for at in found]
            found, goals = [at for at, goal in exact if goal in wanted], [goal for _, goal in exact if goal in wanted]
        yield Hits(section, words, found, goals)


def call_sites(elf: Elf, targets: Iterable[int]) -> list[CallSite]:
    """The same as a list of sites, lowest address first."""
    return sorted(
        CallSite(each.section.address + 4 * at, each.words[at], target)
        for each in hits(elf, targets)
        for at, target in zip(each.indices, each.targets, strict=True)
    )


def adrp_sites(elf: Elf, page: int) -> list[int]:
    """The address of every `ADRP` in executable sections that forms `page` (a multiple of 4096)."""
    found = []
    number = page >> 12
    for section in elf.code:
        words, base = words_of(elf, section), section.address
        marks = elf.contents(section)[3::4].translate(_ADRP)
        for index in compress(range(len(words)), marks):
            word = words[index]
            pages = (word >> 3 & 0x1F_FFFC) | (word >> 29 & 3)
            if (number - (base + 4 * index >> 12)) & 0x1F_FFFF == pages:
                found.append(base + 4 * index)
    return found
