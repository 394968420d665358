"""Finding every `B` and `BL` that goes to one of a set of addresses, in one pass over the code.

Plain Python is made fast enough by two observations. The top byte of a word
says whether it is a `B` or `BL`, so `bytes.translate` marks the candidates at
C speed. And for the word at index i of a section that begins at `base`,
imm26 + i = (target - base) / 4 (mod 2**26): one addition and one set look-up
decide, however many targets there are.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import compress

from buildsys.formats.a64 import branch_target, is_bl
from buildsys.formats.elf import Elf, Section

# 000101xx is B, 100101xx is BL: top bytes 0x14-0x17 and 0x94-0x97.
_BRANCH = bytes(byte & 0x7C == 0x14 for byte in range(256))
# 1xx10000 is ADRP.
_ADRP = bytes(byte & 0x9F == 0x90 for byte in range(256))
_MASK26 = 0x03FF_FFFF


@dataclass(frozen=True)
class CallSite:
    """One `BL` or `B`: its address, the instruction word, and where it goes."""

    address: int
    word: int
    target: int

    @property
    def kind(self) -> str:
        """ "bl" or "b"."""
        return "bl" if is_bl(self.word) else "b"


def words_of(elf: Elf, section: Section) -> array[int]:
    """The instruction words of an executable section, as unsigned 32-bit integers."""
    contents = elf.contents(section)
    return array("I", contents[: len(contents) & ~3])


def call_sites(elf: Elf, targets: Iterable[int]) -> list[CallSite]:
    """Every `B` and `BL` in executable sections that goes to one of `targets`, lowest first."""
    wanted = frozenset(targets)
    found = []
    for section in elf.code:
        words = words_of(elf, section)
        base = section.address
        keys = {(target - base) >> 2 & _MASK26 for target in wanted}
        marks = elf.contents(section)[3::4].translate(_BRANCH)
        for index in compress(range(len(words)), marks):
            if (words[index] + index) & _MASK26 in keys:
                address = base + 4 * index
                target = branch_target(words[index], address)
                if target in wanted:  # the key wraps round every 256 MiB
                    found.append(CallSite(address, words[index], target))
    return found


def adrp_sites(elf: Elf, page: int) -> list[int]:
    """The address of every `ADRP` in executable sections that forms `page` (a multiple of 4096)."""
    found = []
    number = page >> 12
    for section in elf.code:
        words = words_of(elf, section)
        base = section.address
        marks = elf.contents(section)[3::4].translate(_ADRP)
        for index in compress(range(len(words)), marks):
            word = words[index]
            pages = (word >> 3 & 0x1F_FFFC) | (word >> 29 & 3)
            if (number - (base + 4 * index >> 12)) & 0x1F_FFFF == pages:
                found.append(base + 4 * index)
    return found
