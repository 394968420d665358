"""Ways to a function that is more than 128 MiB from a branch to it: the linker's veneers, or ours.

A branch that goes to the old function by a veneer of the linker's stays, and the
veneer is made to go to the new one: whoever comes there wants the old function.
For one that has none, a veneer to the new function that the linker made for
somebody else will do. Else one of ours is put where provably nothing is: zeros
between a code section and the next of its segment, which no symbol names, or the
rest of the last page of a segment that is only code, for which the file is made
longer if need be. The code section before it then includes it, so that whoever
reads the file later, we ourselves first, finds it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from math import lcm

from buildsys.errors import UserError
from buildsys.formats.a64 import BRANCH_RANGE, OutOfRangeError, branch_target, encode_branch
from buildsys.formats.elf import PF_W, PF_X, PT_LOAD, SHF_ALLOC, Elf, Section, Segment
from buildsys.formats.veneers import Veneer, retargeted, veneer_to, veneers_to

PAGE = 4096
SIZE = 12  # bytes of a veneer of ours
LONGEST_SHIFT = 16 << 20  # bytes; what the rest of a file is moved by is a multiple of its segments' alignment
TOO_FAR = (
    "a branch reaches 128 MiB: place the new function nearer to the code, or leave unused bytes (zeros) "
    "behind a code section within that distance"
)


@dataclass(frozen=True)
class Island:
    """A veneer of ours at `address` that goes to `target`."""

    address: int
    target: int


@dataclass
class _Gap:
    """Unused bytes from `start` to `end` behind a code section; `used` of them are taken.

    `segment` is the index of the one that must grow for them, None if they are within one.
    """

    section: Section
    start: int
    end: int
    segment: int | None
    used: int = 0


class Far:
    """Branches of one image to the functions `news` that may be too far away for one, and what is made for them.

    `olds` are the functions whose veneers may be turned, and for each what they are to go to instead. One that
    a branch at one of `keeping` goes by is left as it is.
    """

    def __init__(self, elf: Elf, olds: dict[int, int], news: Iterable[int], keeping: Iterable[int] = ()) -> None:
        self._elf = elf
        self._olds = olds
        found = veneers_to(elf, {*olds, *news})
        kept = {branch_target(elf.word(at) or 0, at) for at in keeping} if found else set()
        self._veneers = {at: each for at, each in found.items() if each.target in olds and at not in kept}
        self._known = {at: each.target for at, each in found.items() if at not in self._veneers}
        self._needed: set[int] = set()
        self.islands: list[Island] = []

    def branch(self, address: int, word: int, target: int) -> int:
        """`word`, a branch at `address`, made to lead to `target`. Raises ValueError if it cannot, as a64 does."""
        try:
            return encode_branch(word, address, target)
        except OutOfRangeError as error:
            goes = branch_target(word, address)
            if goes in self._veneers and self._olds[self._veneers[goes].target] == target:
                self._needed.add(goes)
                return word
            return encode_branch(word, address, self._near(address, target, error))

    def turned(self) -> Iterator[tuple[int, bytes]]:
        """The old functions' veneers made to go to the new ones: bytes, by address. Raises UserError."""
        for at, veneer in sorted(self._veneers.items()):
            new = self._olds[veneer.target]
            try:
                self._landing(new)
                yield from retargeted(self._elf, veneer, new).items()
            except OutOfRangeError as error:
                if at in self._needed:
                    raise UserError(f"{self._elf.name}: {error}", TOO_FAR) from error

    @property
    def veneers(self) -> list[Veneer]:
        """The linker's veneers of the old functions."""
        return list(self._veneers.values())

    def _near(self, address: int, target: int, error: OutOfRangeError) -> int:
        """A veneer to `target` that a branch at `address` reaches."""
        for at, goal in self._known.items():
            if goal == target and _reaches(address, at):
                return at
        self._landing(target)
        for gap in self._gaps:
            at = gap.start + gap.used
            if at + SIZE <= gap.end and _reaches(address, at):
                try:
                    veneer_to(at, target)
                except OutOfRangeError:
                    continue
                gap.used += SIZE
                self._known[at] = target
                self.islands.append(Island(at, target))
                return at
        raise OutOfRangeError(f"{error}, and nowhere within reach are unused bytes for a veneer")

    def _landing(self, target: int) -> None:
        """Raise OutOfRangeError if the image has its pages guarded and `target` cannot be branched to by a register."""
        if is_guarded(self._elf) and self._elf.word(target) not in PADS:
            raise OutOfRangeError(
                f"a veneer's branch to {target:#x} would be an exception: it begins with no landing pad (BTI)"
            )

    @cached_property
    def _gaps(self) -> list[_Gap]:
        return [gap for gap in _gaps(self._elf) if gap.end - gap.start >= SIZE]

    def placed(self, contents: bytes) -> bytes:
        """The file `contents`, patched, with the islands in it."""
        made = bytearray(contents)
        used = [gap for gap in self._gaps if gap.used] if self.islands else []
        # From the end on, so that what is moved moves nothing that is still to be done.
        for gap in sorted(used, key=lambda gap: gap.section.offset, reverse=True):
            offset = gap.section.offset + gap.section.size
            code = b"".join(
                veneer_to(each.address, each.target) for each in self.islands if gap.start <= each.address < gap.end
            )
            code = bytes(gap.start - gap.section.end) + code
            if gap.segment is not None:
                _make_room(made, self._elf, offset, len(code), gap.segment)
            made[offset : offset + len(code)] = code
            _grow_section(made, gap.section.index, len(code))
        return bytes(made)


# C6.2 BTI c, BTI jc, PACIASP, PACIBSP: where a guarded page may be entered by BR x16.
PADS = (0xD503_245F, 0xD503_24DF, 0xD503_233F, 0xD503_237F)


def is_guarded(elf: Elf) -> bool:
    """Whether the image says that its code has landing pads (AAELF64, 6.2: GNU_PROPERTY_AARCH64_FEATURE_1_BTI)."""
    section = elf.section(".note.gnu.property")
    data = elf.contents(section) if section else b""
    at = data.find(struct.pack("<II", 0xC000_0000, 4))
    return 0 <= at <= len(data) - 12 and bool(data[at + 8] & 1)


def _reaches(address: int, target: int) -> bool:
    return -BRANCH_RANGE <= target - address < BRANCH_RANGE


def _gaps(elf: Elf) -> Iterator[_Gap]:
    """Unused bytes behind code sections, as far as they can be proved to be unused."""
    allocated = [each for each in elf.sections if each.flags & SHF_ALLOC and each.size]
    for section in elf.code:
        number, segment = next(
            ((at, each) for at, each in enumerate(elf.segments) if each.kind == PT_LOAD and _holds(each, section)),
            (0, None),
        )
        if segment is None or not segment.flags & PF_X:
            continue
        start = -(-section.end // 4) * 4
        ends = segment.vma + segment.file_size
        following = [each.address for each in allocated if each.end > section.end and each.index != section.index]
        if section.end < ends:
            end = min([ends, *following])
            gap = _Gap(section, start, _unnamed(elf, section.end, end), None)
            offset, size = section.offset + section.size, gap.end - section.end
            if size > 0 and not any(elf.data[offset : offset + size]) and not _described(elf, offset, size):
                yield gap
        elif segment.file_size == segment.memory_size and not segment.flags & PF_W:
            end = min([-(-ends // PAGE) * PAGE, *following, *_in_the_way(elf, segment)])
            offset = segment.offset + segment.file_size
            if not _across(elf, number, offset) and _shift(elf, offset) <= LONGEST_SHIFT:
                yield _Gap(section, start, _unnamed(elf, section.end, end), number)


def _holds(segment: Segment, section: Section) -> bool:
    return segment.vma <= section.address and section.end <= segment.vma + segment.file_size


def _unnamed(elf: Elf, start: int, end: int) -> int:
    """`end`, or the first address before it and behind `start` that a symbol names or covers."""
    return min([end, *(each for each in elf.symbols.values_between(start, end))])


def _described(elf: Elf, offset: int, size: int) -> bool:
    """Whether the ELF header or a table of headers lies in the `size` bytes at `offset` of the file."""
    return any(low < offset + size and offset < high for low, high in elf.tables)


def _in_the_way(elf: Elf, segment: Segment) -> Iterator[int]:
    """Where, behind `segment`, memory begins that another one uses, as addresses of `segment`."""
    end, stored = segment.vma + segment.memory_size, segment.lma + segment.memory_size
    for other in elf.segments:
        if other.kind == PT_LOAD and other is not segment and other.memory_size:
            if other.vma + other.memory_size > end:
                yield max(other.vma // PAGE * PAGE, end) if other.vma >= end else end
            if other.lma + other.memory_size > stored:
                yield end + max(other.lma - stored, 0)


def _across(elf: Elf, number: int, offset: int) -> bool:
    """Whether anything but segment `number` lies on both sides of `offset`."""
    spans = [
        *((each.offset, each.offset + each.file_size) for at, each in enumerate(elf.segments) if at != number),
        *((each.offset, each.offset + each.size) for each in elf.sections if each.in_file),
        *elf.tables,
    ]
    return any(low < offset < high for low, high in spans)


def _shift(elf: Elf, offset: int) -> int:
    """By how many bytes all that lies at `offset` of the file and behind it can be moved: the least."""
    behind = [each.alignment for each in elf.segments if each.kind == PT_LOAD and each.offset >= offset]
    aligned = [each.alignment for each in elf.sections if each.offset >= offset]
    return lcm(PAGE, *(each for each in (*behind, *aligned) if each))


def _room(elf: Elf, offset: int) -> int:
    """How many bytes of the file at `offset` nothing uses."""
    starts = [
        *(each.offset for each in elf.segments if each.file_size),
        *(each.offset for each in elf.sections if each.in_file and each.size),
        *(low for low, _ in elf.tables),
        len(elf.data),
    ]
    end = min(start for start in starts if start >= offset)
    return end - offset if not any(elf.data[offset:end]) else 0


# System V ABI, chapter 4: where the header has e_phoff and e_shoff, and a program and a section header theirs.
_E_PHOFF, _E_SHOFF, _P_OFFSET, _P_FILESZ, _P_MEMSZ, _SH_OFFSET, _SH_SIZE = 32, 40, 8, 32, 40, 24, 32
_PHDR, _SHDR = 56, 64


def _add(made: bytearray, at: int, number: int) -> None:
    struct.pack_into("<Q", made, at, struct.unpack_from("<Q", made, at)[0] + number & (1 << 64) - 1)


def _make_room(made: bytearray, elf: Elf, offset: int, size: int, segment: int) -> None:
    """Have the segment numbered `segment`, which ends at `offset` of the file, hold `size` bytes more."""
    (segments,) = struct.unpack_from("<Q", made, _E_PHOFF)
    for field in (_P_FILESZ, _P_MEMSZ):
        _add(made, segments + _PHDR * segment + field, size)
    if _room(elf, offset) >= size:
        return
    shift = _shift(elf, offset)
    (sections,) = struct.unpack_from("<Q", made, _E_SHOFF)
    for number in range(len(elf.segments)):
        place = segments + _PHDR * number + _P_OFFSET
        if number != segment and struct.unpack_from("<Q", made, place)[0] >= offset:
            _add(made, place, shift)
    for number in range(1, len(elf.sections)):
        place = sections + _SHDR * number + _SH_OFFSET
        if struct.unpack_from("<Q", made, place)[0] >= offset:
            _add(made, place, shift)
    for field in (_E_PHOFF, _E_SHOFF):
        if struct.unpack_from("<Q", made, field)[0] >= offset:
            _add(made, field, shift)
    made[offset:offset] = bytes(shift)


def _grow_section(made: bytearray, index: int, size: int) -> None:
    (sections,) = struct.unpack_from("<Q", made, _E_SHOFF)
    _add(made, sections + _SHDR * index + _SH_SIZE, size)
