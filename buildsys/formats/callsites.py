"""Finding every branch to one of a set of addresses, and what may form them, in one pass over the code.

Plain Python is made fast by doing to all words at once what can be done so, at
C speed. The top byte of a word says whether it is a `B` or `BL`, which
`bytes.translate` marks. And for the word at index i of a section that begins
at `base`, imm26 + i = (target - base) / 4 (mod 2**26). Of each number three bytes
are looked at. The lower two: one addition of two very long integers, a lane of 8 bits
for each word, makes all those sums but for carries. The third: in a part of the
section of 65536 words, i moves it by less than one. Each byte is looked up in a table
that has a bit for each eighth of the targets, so that with hundreds of them, too, the three
must be those of some few. What has a bit in common is decoded and looked up: any number of
targets costs little more than one.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Container, Iterable, Iterator, Set
from itertools import compress
from typing import NamedTuple

from buildsys.formats.a64 import adr, adrp, branch_target, conditional_target, is_bl
from buildsys.formats.elf import Elf, Section
from buildsys.formats.veneers import veneers_to

# 000101xx is B, 100101xx is BL: top bytes 0x14-0x17 and 0x94-0x97.
_BRANCH = bytes(0xFF * (byte & 0x7C == 0x14) for byte in range(256))
# xxx10000 is ADR and ADRP.
_FORMING = bytes(byte & 0x1F == 0x10 for byte in range(256))
# 01010100 is B.cond, x011010x CBZ and CBNZ, x011011x TBZ and TBNZ.
_CONDITIONAL = bytes(byte == 0x54 or byte & 0x7C == 0x34 for byte in range(256))
_MASK26, _MASK21, _MASK14 = 0x3FF_FFFF, 0x1F_FFFF, 0x3FFF
_SIGN26 = 0x200_0000
_PART = 1 << 16  # words that are looked at together
# Long integers of a lane of 8 bits a word: the first byte of its index, and the second.
_FIRST = int.from_bytes(bytes(range(256)) * 256, "little")
_SECOND = int.from_bytes(b"".join(bytes([second]) * 256 for second in range(256)), "little")
_ANY = bytes([0, *[1] * 255])


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
    """The branches of one section that go to wanted targets: `indices` into `words`, and the target of each.

    The target of one that goes there by a linker's veneer is the veneer's.
    """

    section: Section
    words: array[int]
    indices: list[int]
    targets: list[int]


def hits(elf: Elf, targets: Iterable[int]) -> Iterator[Hits]:
    """Every `B` and `BL` to one of `targets`, itself or by a linker's veneer, section by section of the code.

    What the file marks as data among code (`mapping`) is no branch.
    """
    wanted = {target: target for target in targets}
    if wanted:
        wanted = {address: each.target for address, each in veneers_to(elf, wanted).items()} | wanted
    for section in elf.code:
        words, base, contents = words_of(elf, section), section.address, elf.contents(section)
        found, goals = [], []
        # a64.branch_target of what is known to be one: a call for each of tens of thousands would be dear
        for at in _candidates(contents, len(words), {target - base >> 2 & _MASK26 for target in wanted}):
            target = base + 4 * (at + ((words[at] & _MASK26 ^ _SIGN26) - _SIGN26))
            if target in wanted:
                found.append(at)
                goals.append(wanted[target])
        for start, end in elf.mapping.within(base, section.end) if found else ():
            data = slice(bisect_left(found, -(-(start - base) // 4)), bisect_left(found, -(-(end - base) // 4)))
            del found[data], goals[data]
        yield Hits(section, words, found, goals)


def data_sites(elf: Elf, targets: Container[int]) -> list[tuple[int, int]]:
    """What would be a branch to one of `targets` and is marked as data: (its address, where it would go)."""
    found = []
    for section in elf.code:
        contents = elf.contents(section)
        for start, end in elf.mapping.within(section.address, section.end):
            for address in range(-(-start // 4) * 4, end - 3, 4):
                at = address - section.address
                target = branch_target(int.from_bytes(contents[at : at + 4], "little"), address)
                if target is not None and target in targets:
                    found.append((address, target))
    return sorted(found)


def _candidates(contents: bytes, count: int, goals: Set[int]) -> Iterator[int]:
    """The indices of branches among `count` words to one of `goals`, which are such indices too, and of few others."""
    first, second, high = bytearray(256), bytearray(256), dict[int, int]()
    for at, goal in enumerate(sorted(goals)):
        bit = 1 << 8 * at // len(goals)
        for value in (goal, goal + 1):  # what the lane before carries is not known
            first[value & 0xFF] |= bit
        for value in (goal >> 8, (goal >> 8) - 1, (goal >> 8) + 1):  # nor is what the lowest bytes do
            second[value & 0xFF] |= bit
        high[goal >> 16] = high.get(goal >> 16, 0) | bit
    for start in range(0, count if goals else 0, _PART):
        part = contents[4 * start : 4 * min(start + _PART, count)]
        third = bytearray(256)
        for goal, bits in high.items():
            for value in (goal - start // _PART, goal - start // _PART - 1):
                third[value & 0xFF] |= bits
        fits = int.from_bytes(part[3::4].translate(_BRANCH), "little")
        fits &= int.from_bytes(part[2::4].translate(third), "little")
        for place, indices, table in ((0, _FIRST, first), (1, _SECOND, second)):
            sums = int.from_bytes(part[place::4], "little") + indices
            fits &= int.from_bytes(sums.to_bytes(_PART + 1, "little")[: len(part) // 4].translate(table), "little")
        for at in marked(fits.to_bytes(len(part) // 4, "little").translate(_ANY)):
            yield start + at


def by_top(words: array[int], table: bytes) -> Iterator[int]:
    """The indices of the `words` whose top byte `table` makes 1."""
    return compress(range(len(words)), words.tobytes()[3::4].translate(table))


def marking(values: Iterable[int]) -> bytes:
    """A table for `bytes.translate` that makes the lowest bytes of `values` 1 and all others 0."""
    table = bytearray(256)
    for value in values:
        table[value & 0xFF] = 1
    return bytes(table)


def marked(*marks: bytes) -> Iterator[int]:
    """Where all of `marks`, of one length, have a 1; fast where that is seldom."""
    both = int.from_bytes(marks[0], "little")
    for each in marks[1:]:
        both &= int.from_bytes(each, "little")
    found = both.to_bytes(len(marks[0]), "little") if len(marks) > 1 else marks[0]
    at = found.find(1)
    while at >= 0:
        yield at
        at = found.find(1, at + 1)


def call_sites(elf: Elf, targets: Iterable[int]) -> list[CallSite]:
    """The same as a list of sites, lowest address first."""
    return sorted(
        CallSite(each.section.address + 4 * at, each.words[at], target)
        for each in hits(elf, targets)
        for at, target in zip(each.indices, each.targets, strict=True)
    )


def conditional_sites(elf: Elf, targets: Iterable[int]) -> list[tuple[int, int]]:
    """Every conditional branch to one of `targets`: (its address, where it goes), lowest address first."""
    wanted = frozenset(targets)
    found = []
    for section in elf.code:
        words, base = words_of(elf, section), section.address
        # imm19 + i as above, and imm14 + i for TBZ, which in the lowest 14 bits say the same.
        keys = {target - base >> 2 & _MASK14 for target in wanted}
        marks = elf.contents(section)[3::4].translate(_CONDITIONAL)
        for at in marked(marks):
            if (words[at] >> 5) + at & _MASK14 in keys:
                target = conditional_target(words[at], base + 4 * at)
                if target in wanted:
                    found.append((base + 4 * at, target))
    return sorted(found)


def forming_sites(elf: Elf, targets: Iterable[int]) -> list[tuple[int, int]]:
    """Every instruction that may begin to form one of `targets`: an ADR of it, or an ADRP of its page.

    (address, target), lowest address first. Whether what follows makes the target of the page is for
    others to say.
    """
    wanted = frozenset(targets)
    pages: dict[int, list[int]] = {}
    for target in wanted:
        pages.setdefault(target >> 12, []).append(target)
    keys = {page & _MASK21 for page in pages}
    found = []
    for section in elf.code:
        words, base = words_of(elf, section), section.address
        marks = elf.contents(section)[3::4].translate(_FORMING)
        for at in marked(marks):
            word, address = words[at], base + 4 * at
            if word >> 31:
                if (address >> 12) + (word >> 3 & 0x1F_FFFC | word >> 29 & 3) & _MASK21 in keys:
                    page = adrp(word, address) or (0, 0)
                    found += [(address, target) for target in pages.get(page[1] >> 12, ())]
            elif (formed := adr(word, address)) and formed[1] in wanted:
                found.append((address, formed[1]))
    return sorted(found)


def adrp_sites(elf: Elf, page: int) -> list[int]:
    """The address of every `ADRP` in executable sections that forms `page` (a multiple of 4096)."""
    # All that form it from one page of code are one word, but for the register in its lowest five bits.
    found = []
    for section in elf.code:
        contents, base = bytes(elf.contents(section)), section.address
        for first in range(base & ~0xFFF, section.end, 0x1000):
            pages = (page - first >> 12) & _MASK21
            word = 0x9000_0000 | (pages & 3) << 29 | pages >> 2 << 5  # C6.2 ADRP
            if adrp(word, first) != (0, page):
                continue  # too far away
            high, low = (word >> 8).to_bytes(3, "little"), word & 0xE0
            start, end = max(first - base, 0), first + 0x1000 - base
            at = contents.find(high, start, end)
            while at >= 0:
                if at % 4 == 1 and contents[at - 1] & 0xE0 == low:
                    found.append(base + at - 1)
                at = contents.find(high, at + 1, end)
    return found
