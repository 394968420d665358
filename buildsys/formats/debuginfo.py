"""The debugging information of a linked image: units, single DIEs anywhere, and all DIEs of some kinds in one sweep.

A DIE of a known abbreviation is a regular language: a code, then forms that are
so many bytes, a string up to its zero, or a number up to its last byte. So one
regular expression steps over all DIEs of a unit that nobody asked for, at the
speed of C; it stops at those asked for, and must end where the unit ends. Only
units in Go are read: what other compilers write is left out, and so unknown.
Source of encodings: DWARF 4 and 5, sections 7.5 (forms) and 2.17 (ranges).
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Collection, Iterable, Iterator
from functools import cached_property, lru_cache
from typing import NamedTuple

from buildsys.formats.dwarf import Abbreviation, Unreadable, abbreviations, uleb
from buildsys.formats.elf import ET_EXEC, SHF_COMPRESSED, Elf

DW_TAG_FORMAL_PARAMETER, DW_TAG_COMPILE_UNIT, DW_TAG_INLINED_SUBROUTINE = 0x05, 0x11, 0x1D
DW_TAG_CONSTANT, DW_TAG_SUBPROGRAM, DW_TAG_VARIABLE = 0x27, 0x2E, 0x34
DW_AT_CONST_VALUE = 0x1C
DW_AT_NAME, DW_AT_STMT_LIST, DW_AT_LOW_PC, DW_AT_HIGH_PC, DW_AT_LANGUAGE = 0x03, 0x10, 0x11, 0x12, 0x13
DW_AT_PRODUCER, DW_AT_ABSTRACT_ORIGIN, DW_AT_RANGES, DW_AT_ADDR_BASE = 0x25, 0x31, 0x55, 0x73
DW_LANG_GO = 0x16

Value = int | str | bytes | None

_STRING, _BLOCK1, _SDATA, _UDATA, _REF_ADDR = 0x08, 0x0A, 0x0D, 0x0F, 0x10
_FLAG_PRESENT, _ADDRX, _EXPRLOC, _ADDR = 0x19, 0x1B, 0x18, 0x01
# Forms of fixed size, in bytes (32-bit DWARF, 64-bit addresses).
_FIXED = {
    _ADDR: 8, 0x0B: 1, 0x05: 2, 0x06: 4, 0x07: 8, 0x0C: 1, 0x0E: 4, _REF_ADDR: 4, 0x11: 1, 0x12: 2, 0x13: 4,
    0x14: 8, 0x17: 4, 0x1E: 16, 0x1F: 4, 0x20: 8,
}  # fmt: skip
_LEB = (_SDATA, _UDATA, _ADDRX)
_LONGEST_BLOCK = 24  # bytes the expression steps over; a longer one is rare, and decoded
_FEW = 64  # names or origins that are looked for by the expression itself

_LEB_PATTERN = rb"[\x80-\xff]*+[\x00-\x7f]"
_BLOCK_PATTERN = b"(?:%s)" % b"|".join(
    re.escape(bytes([size])) + b".{%d}" % size for size in (1, 0, 2, 9, 3, *range(4, 9), *range(10, _LONGEST_BLOCK + 1))
)
_SUBPROGRAM_OR_COPY = (DW_TAG_SUBPROGRAM, DW_TAG_INLINED_SUBROUTINE)


class Unit(NamedTuple):
    """One compile unit: the bytes `start` .. `end` of .debug_info, its first DIE at `first`."""

    start: int
    first: int
    end: int
    version: int
    table: int  # where its abbreviations begin in .debug_abbrev


class Die(NamedTuple):
    """One entry: where it is in .debug_info and where its attributes end, its tag, values by attribute."""

    offset: int
    end: int
    tag: int
    has_children: bool
    values: dict[int, Value]

    def number(self, attribute: int) -> int | None:
        """The value of an attribute that is a number, None if it has none."""
        value = self.values.get(attribute)
        return value if isinstance(value, int) else None

    def text(self, attribute: int) -> str:
        """The value of an attribute that is a string, empty if it has none."""
        value = self.values.get(attribute)
        return value if isinstance(value, str) else ""


class DebugInfo:
    """The DWARF of one image. Raises Unreadable wherever it is not what this module reads."""

    def __init__(self, elf: Elf) -> None:
        if elf.kind != ET_EXEC:
            raise Unreadable("it is not linked, so its DWARF is not either")
        self._elf = elf
        self._tops: dict[int, Die] = {}
        self._info = self._section("info")
        if not self._info:
            raise Unreadable("it has no DWARF")
        self._abbrev = self._section("abbrev")

    def _section(self, name: str) -> bytes:
        """The contents of .debug_NAME, unpacked; none if there is none. ELF chapter 4, Compressed Sections."""
        section, old = self._elf.section(f".debug_{name}"), self._elf.section(f".zdebug_{name}")
        try:
            if section is None:
                data = bytes(self._elf.contents(old)) if old else b""
                return zlib.decompress(data[12:]) if data[:4] == b"ZLIB" else data
            data = bytes(self._elf.contents(section))
            if not section.flags & SHF_COMPRESSED:
                return data
            if struct.unpack_from("<I", data)[0] != 1:
                raise Unreadable("its DWARF is compressed in a way other than zlib")
            return zlib.decompress(data[24:])
        except (zlib.error, struct.error) as error:
            raise Unreadable(f"its DWARF cannot be unpacked: {error}") from error

    @cached_property
    def units(self) -> tuple[Unit, ...]:
        """The units in Go, in the order of the file."""
        found, at, info = [], 0, self._info
        while at < len(info):
            if at + 12 > len(info):
                raise Unreadable(f"the last unit, at {at:#x}, is cut off")
            length, version = struct.unpack_from("<IH", info, at)
            end = at + 4 + length
            if length >= 0xFFFF_FFF0 or end > len(info) or length < 8:
                raise Unreadable(f"the unit at {at:#x} ends at {end:#x} of {len(info):#x}")
            # DWARF 4: offset of abbreviations, size of an address; 5: kind of unit, size, offset.
            if 2 <= version <= 5:
                kind = info[at + 6] if version == 5 else 1
                table = int.from_bytes(info[at + 8 : at + 12] if version == 5 else info[at + 6 : at + 10], "little")
                unit = Unit(at, at + (12 if version == 5 else 11), end, version, table)
                if kind == 1 and self._is_go(unit):
                    found.append(unit)
            at = end
        return tuple(found)

    def _is_go(self, unit: Unit) -> bool:
        try:
            top = self.die(unit, unit.first)
        except Unreadable:
            return False  # forms Go does not use
        return top.tag == DW_TAG_COMPILE_UNIT and top.number(DW_AT_LANGUAGE) == DW_LANG_GO

    def unit_of(self, offset: int) -> Unit:
        """The unit in Go that the DIE at `offset` is part of."""
        from bisect import bisect_right

        at = bisect_right(self._starts, offset) - 1
        if at < 0 or not self.units[at].first <= offset < self.units[at].end:
            raise Unreadable(f"there is no entry in Go at {offset:#x}")
        return self.units[at]

    @cached_property
    def _starts(self) -> list[int]:
        return [unit.start for unit in self.units]

    @lru_cache(maxsize=16)  # noqa: B019  as long as the image is looked at
    def _table(self, at: int) -> dict[int, Abbreviation]:
        try:
            return abbreviations(self._abbrev, at)
        except IndexError as error:
            raise Unreadable("its abbreviations are cut off") from error

    def top(self, unit: Unit) -> Die:
        """The DIE of the unit itself."""
        if unit.start not in self._tops:
            self._tops[unit.start] = self.die(unit, unit.first)
        return self._tops[unit.start]

    def die(self, unit: Unit, offset: int) -> Die:
        """The DIE at `offset`."""
        try:
            info = self._info
            code, at = uleb(info, offset)
            abbreviation = self._table(unit.table)[code]
            values: dict[int, Value] = {}
            for attribute, form in abbreviation.attributes:
                # Most are of a fixed size; a call for each would take longer than what it does.
                size = _FIXED.get(form)
                if size is not None and at + size <= unit.end:
                    values[attribute], at = int.from_bytes(info[at : at + size], "little"), at + size
                else:
                    values[attribute], at = _value(info, at, form)
        except (IndexError, KeyError, ValueError) as error:
            raise Unreadable(f"there is no entry at {offset:#x}") from error
        if at > unit.end:
            raise Unreadable(f"the entry at {offset:#x} goes beyond its unit")
        return Die(offset, at, abbreviation.tag, abbreviation.has_children, values)

    def children(self, unit: Unit, die: Die) -> Iterator[Die]:
        """The DIEs directly below `die`."""
        at, depth = die.end, 1
        while die.has_children and depth:
            if at >= unit.end:
                raise Unreadable(f"the entry at {die.offset:#x} has no end")
            if self._info[at] == 0:
                at, depth = at + 1, depth - 1
                continue
            child = self.die(unit, at)
            if depth == 1:
                yield child
            at, depth = child.end, depth + child.has_children

    @staticmethod
    def origin(die: Die) -> int:
        """Where what `die` is an instance of is described. Raises Unreadable if it is none."""
        origin = die.number(DW_AT_ABSTRACT_ORIGIN)
        if origin is None:
            raise Unreadable(f"the entry at {die.offset:#x} goes back to no other")
        return origin

    def constants(self, address: int) -> dict[str, int]:
        """The integer constants of the Go package whose code is at `address`, by name, as in `main.size`."""
        found = {}
        for unit in self.units:
            top = self.top(unit)
            if not any(low <= address < high for low, high in self.ranges(unit, top)):
                continue
            for die in self.children(unit, top):
                value = die.number(DW_AT_CONST_VALUE) if die.tag == DW_TAG_CONSTANT else None
                if value is not None:
                    found[die.text(DW_AT_NAME)] = value
        return found

    def subprograms(self, names: Collection[str]) -> Iterator[tuple[Unit, Die]]:
        """Every function described under one of `names`: an abstract one, or one with code."""
        wanted = frozenset(name.encode() + b"\0" for name in names)
        return self._found((DW_TAG_SUBPROGRAM,), (DW_AT_NAME, _STRING), wanted)

    def instances(self, origins: Collection[int]) -> Iterator[tuple[Unit, Die]]:
        """Every function and inlined copy that goes back to one of the abstract functions at `origins`."""
        wanted = frozenset(struct.pack("<I", origin) for origin in origins)
        return self._found(_SUBPROGRAM_OR_COPY, (DW_AT_ABSTRACT_ORIGIN, _REF_ADDR), wanted)

    def _found(
        self, tags: Collection[int], first: tuple[int, int], wanted: frozenset[bytes]
    ) -> Iterator[tuple[Unit, Die]]:
        """DIEs of one of `tags` whose first attribute is `first`, and has one of the values `wanted`."""
        if not wanted:
            return
        info = self._info
        sweeps: dict[int, re.Pattern[bytes]] = {}
        for unit in self.units:
            if unit.table not in sweeps:
                table = self._table(unit.table)
                stops = {code for code, each in table.items() if each.tag in tags and each.attributes[:1] == [first]}
                sweeps[unit.table] = _sweep(table, stops, wanted)
            sweep, at = sweeps[unit.table], unit.first
            while at < unit.end:
                passed = sweep.match(info, at, unit.end)
                value = passed.lastindex if passed else None
                at = passed.end() if passed else at
                if passed and value:
                    if passed[value] in wanted:
                        yield unit, self.die(unit, passed.start(value) - 1)
                elif at < unit.end:
                    at = self.die(unit, at).end  # raises for what is no DIE

    def low_pc(self, unit: Unit, die: Die) -> int | None:
        """The address of the code a DIE describes: its first, if it is in several pieces."""
        spans = self.ranges(unit, die)
        return min(low for low, _ in spans) if spans else None

    def ranges(self, unit: Unit, die: Die) -> list[tuple[int, int]]:
        """The code a DIE describes: pieces from an address to before another."""
        abbreviation = self._table(unit.table)[self._info[die.offset]]
        forms = dict(abbreviation.attributes)
        low, high, listed = die.number(DW_AT_LOW_PC), die.number(DW_AT_HIGH_PC), die.number(DW_AT_RANGES)
        if listed is not None:
            pieces = self._listed(unit, listed) if unit.version < 5 else self._listed5(unit, listed)
            return [(start, end) for start, end in pieces if start < end]
        if low is None:
            return []
        start = self._address(unit, low) if forms[DW_AT_LOW_PC] == _ADDRX else low
        end = start if high is None else high if forms[DW_AT_HIGH_PC] == _ADDR else start + high
        return [(start, end)]

    def _address(self, unit: Unit, index: int) -> int:
        base = self.top(unit).number(DW_AT_ADDR_BASE)
        if base is None:
            raise Unreadable(f"the unit at {unit.start:#x} has no table of addresses")
        return _word(self._addresses, base + 8 * index)

    @cached_property
    def _addresses(self) -> bytes:
        return self._section("addr")

    @cached_property
    def _ranges(self) -> bytes:
        return self._section("ranges")

    @cached_property
    def _rnglists(self) -> bytes:
        return self._section("rnglists")

    def _base(self, unit: Unit) -> int:
        top = self.top(unit)
        low = top.number(DW_AT_LOW_PC) or 0
        form = dict(self._table(unit.table)[self._info[unit.first]].attributes).get(DW_AT_LOW_PC)
        return self._address(unit, low) if form == _ADDRX else low

    def _listed(self, unit: Unit, at: int) -> Iterator[tuple[int, int]]:
        """DWARF 4, 2.17.3: pairs up to one of zeros, of offsets from a base that a pair may set."""
        base = self._base(unit)
        while True:
            low, high = _word(self._ranges, at), _word(self._ranges, at + 8)
            at += 16
            if low == high == 0:
                return
            if low == (1 << 64) - 1:
                base = high
            else:
                yield base + low, base + high

    def _listed5(self, unit: Unit, at: int) -> Iterator[tuple[int, int]]:
        """DWARF 5, 2.17.3 and 7.25."""
        data, base = self._rnglists, self._base(unit)
        try:
            while True:
                kind, at = data[at], at + 1
                if kind == 0:  # DW_RLE_end_of_list
                    return
                if kind in (5, 6, 7):  # base_address, start_end, start_length
                    first, at = _word(data, at), at + 8
                    if kind == 5:
                        base = first
                        continue
                    second, at = (_word(data, at), at + 8) if kind == 6 else uleb(data, at)
                    yield first, second if kind == 6 else first + second
                    continue
                first, at = uleb(data, at)
                if kind == 1:  # base_addressx
                    base = self._address(unit, first)
                    continue
                second, at = uleb(data, at)
                if kind == 2:  # startx_endx
                    yield self._address(unit, first), self._address(unit, second)
                elif kind == 3:  # startx_length
                    start = self._address(unit, first)
                    yield start, start + second
                elif kind == 4:  # offset_pair
                    yield base + first, base + second
                else:
                    raise Unreadable(f"a piece of code of kind {kind}")
        except IndexError as error:
            raise Unreadable("a list of pieces of code is cut off") from error

    def file(self, unit: Unit, number: int) -> str:
        """The source file a unit calls by a number, empty if there is none."""
        place = self.top(unit).number(DW_AT_STMT_LIST)
        return self._file(place, number) if place is not None else ""

    @cached_property
    def _lines(self) -> bytes:
        return self._section("line")

    @lru_cache(maxsize=512)  # noqa: B019  as above
    def _file(self, at: int, number: int) -> str:
        from buildsys.formats.linetable import file

        def text(form: int, offset: int) -> str:
            data = self._section("line_str" if form == 0x1F else "str")
            return data[offset : data.index(b"\0", offset)].decode("utf-8", "replace")

        try:
            return file(self._lines, at, number, text)
        except (IndexError, ValueError, struct.error) as error:
            raise Unreadable(f"the line table at {at:#x} is damaged") from error


def _sweep(table: dict[int, Abbreviation], stops: Collection[int], wanted: Collection[bytes]) -> re.Pattern[bytes]:
    """Steps over DIEs to behind the first that is one of the codes `stops`; its first attribute is the last group.

    If the values `wanted` are few, those of the codes that begin with none of them are stepped over as well. What is
    not known, such as a long block, is not stepped over: there is then no such group.
    """
    few = b"(?!%s)" % b"|".join(map(re.escape, wanted)) if 0 < len(wanted) <= _FEW else None
    alike: dict[bytes, list[int]] = {}
    stopping: dict[bytes, list[int]] = {}
    for code, abbreviation in table.items():
        pattern = _pattern(abbreviation.attributes) if code < 0x80 else None
        if pattern is None:
            continue
        if code not in stops:
            alike.setdefault(pattern, []).append(code)
            continue
        first, rest = (_pattern(part) or b"" for part in (abbreviation.attributes[:1], abbreviation.attributes[1:]))
        stopping.setdefault(b"(%s)%s" % (first, rest), []).append(code)
        if few is not None:
            alike.setdefault(few + pattern, []).append(code)
    over, stop = b"|".join([rb"\x00", *_rows(alike)]), b"|".join(_rows(stopping)) or b"(?!)"
    # An atomic group, and no possessive quantifier: that of a group is matched wrongly by Python before 3.11.5
    # (github.com/python/cpython, issue 106052), Debian 12's among them.
    return re.compile(b"(?>(?:%s)*)(?:%s)?" % (over, stop), re.DOTALL)


def _rows(alike: dict[bytes, list[int]]) -> list[bytes]:
    return [b"[%s]%s" % (b"".join(rb"\x%02x" % code for code in codes), pattern) for pattern, codes in alike.items()]


def _pattern(attributes: Iterable[tuple[int, int]]) -> bytes | None:
    """What a DIE has for these; None if that is of no known length."""
    parts: list[bytes | int] = []
    for _, form in attributes:
        if form == _FLAG_PRESENT:
            continue
        size = _FIXED.get(form)
        if size is not None:
            if parts and isinstance(parts[-1], int):
                parts[-1] += size
            else:
                parts.append(size)
        elif form == _STRING:
            parts.append(rb"[^\x00]*+\x00")
        elif form in _LEB:
            parts.append(_LEB_PATTERN)
        elif form in (_BLOCK1, _EXPRLOC):
            parts.append(_BLOCK_PATTERN)
        else:
            return None
    return b"".join(b".{%d}" % part if isinstance(part, int) else part for part in parts)


def _value(info: bytes, at: int, form: int) -> tuple[Value, int]:
    if form == _STRING:
        end = info.index(b"\0", at)
        return info[at:end].decode("utf-8", "replace"), end + 1
    if form in (_UDATA, _ADDRX):
        return uleb(info, at)
    if form == _SDATA:
        value, end = uleb(info, at)
        sign = 1 << 7 * (end - at) - 1
        return (value ^ sign) - sign, end
    if form in (_BLOCK1, _EXPRLOC):
        size, at = (info[at], at + 1) if form == _BLOCK1 else uleb(info, at)
        return info[at : at + size], at + size
    if form == _FLAG_PRESENT:
        return 1, at
    fixed = _FIXED.get(form)
    if fixed is None or at + fixed > len(info):
        raise Unreadable(f"form {form:#x} at {at:#x}")
    return int.from_bytes(info[at : at + fixed], "little"), at + fixed


def _word(data: bytes, at: int) -> int:
    if at < 0 or at + 8 > len(data):
        raise Unreadable(f"an address at {at:#x} of a table of {len(data):#x} bytes")
    return int.from_bytes(data[at : at + 8], "little")
