"""Structure layouts from DWARF, found by name without walking the whole of it.

Go's linker writes one DIE per structure type, its name inline as the first
attribute (cmd/internal/dwarf, DW_ABRV_STRUCTTYPE and DW_ABRV_STRUCTFIELD), so
the name is searched for in the bytes and only that DIE and its members are
decoded. A reader for everything takes a hundred times as long, in every build.
Offsets are constants: in an object, nothing that is read here is relocated.
Source of encodings: DWARF 5, section 7.5 (abbreviations, attribute forms).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

DW_TAG_MEMBER, DW_TAG_STRUCTURE_TYPE = 0x0D, 0x13
DW_AT_NAME, DW_AT_BYTE_SIZE, DW_AT_DATA_MEMBER_LOCATION = 0x03, 0x0B, 0x38
_STRING, _IMPLICIT_CONST, _FLAG_PRESENT = 0x08, 0x21, 0x19
# Forms of fixed size, in bytes (32-bit DWARF, 64-bit addresses).
_FIXED = {0x01: 8, 0x0B: 1, 0x05: 2, 0x06: 4, 0x07: 8, 0x0C: 1, 0x10: 4, 0x11: 1, 0x12: 2, 0x13: 4, 0x17: 4, 0x20: 8}
_SDATA, _UDATA = 0x0D, 0x0F


class Unreadable(Exception):  # noqa: N818  it is caught beside this module, and says what it is
    """These bytes are not what this module reads."""


class Abbreviation(NamedTuple):
    """One form of DIE: its tag, whether children follow, its attributes as (attribute, form)."""

    tag: int
    has_children: bool
    attributes: list[tuple[int, int]]


def layout(info: bytes, abbrev: bytes, structure: str) -> dict[str, int] | None:
    """Byte offsets of the fields of `structure` by name, its size under ""; None if it is not described.

    `info` and `abbrev` are the contents of .debug_info and .debug_abbrev.
    """
    try:
        table = abbreviations(abbrev)
    except (Unreadable, IndexError):
        return None
    name = structure.encode() + b"\0"
    at = -1
    while (at := info.find(name, at + 1)) >= 0:
        # The abbreviation code before the name is one byte: Go uses fewer than 128.
        abbreviation = table.get(info[at - 1]) if at else None
        if abbreviation is None or abbreviation.tag != DW_TAG_STRUCTURE_TYPE:
            continue
        if abbreviation.attributes[:1] != [(DW_AT_NAME, _STRING)]:
            continue
        try:
            return _fields(info, at - 1, table)
        except (Unreadable, IndexError, KeyError, ValueError):
            continue  # the name in some other place
    return None


def _fields(info: bytes, at: int, table: dict[int, Abbreviation]) -> dict[str, int]:
    found = {}
    for depth, tag, values in _tree(info, at, table):
        if depth == 0:
            found[""] = _number(values, DW_AT_BYTE_SIZE)
        elif tag == DW_TAG_MEMBER and depth == 1:
            member = values[DW_AT_NAME]
            if not isinstance(member, str):
                raise Unreadable("a member without a name")
            found[member] = _number(values, DW_AT_DATA_MEMBER_LOCATION)
    return found


def _number(values: dict[int, int | str | None], attribute: int) -> int:
    value = values.get(attribute)
    if not isinstance(value, int):
        raise Unreadable(f"attribute {attribute:#x} is no number")
    return value


def _tree(
    info: bytes, at: int, table: dict[int, Abbreviation]
) -> Iterator[tuple[int, int, dict[int, int | str | None]]]:
    """The DIE at `at` and all below it: (depth, tag, values by attribute)."""
    depth = 0
    while True:
        code, at = uleb(info, at)
        if code == 0:
            depth -= 1
            if depth <= 0:
                return
            continue
        if code not in table:
            raise Unreadable(f"abbreviation {code}")
        abbreviation = table[code]
        values: dict[int, int | str | None] = {}
        for attribute, form in abbreviation.attributes:
            values[attribute], at = _value(info, at, form)
        yield depth, abbreviation.tag, values
        if abbreviation.has_children:
            depth += 1
        elif depth == 0:
            return


def _value(info: bytes, at: int, form: int) -> tuple[int | str | None, int]:
    if form == _STRING:
        end = info.index(b"\0", at)
        return info[at:end].decode("utf-8", "replace"), end + 1
    if form in (_UDATA, _SDATA):
        return uleb(info, at)  # sizes and offsets are never negative
    if form == _FLAG_PRESENT:
        return 1, at
    size = _FIXED.get(form)
    if size is None:
        raise Unreadable(f"form {form:#x}")
    return int.from_bytes(info[at : at + size], "little"), at + size


def abbreviations(abbrev: bytes, at: int = 0) -> dict[int, Abbreviation]:
    """The table of .debug_abbrev that begins at `at`, by code; Go writes only one. Raises Unreadable, IndexError."""
    table = {}
    while at < len(abbrev):
        code, at = uleb(abbrev, at)
        if code == 0:
            break
        tag, at = uleb(abbrev, at)
        has_children, at = bool(abbrev[at]), at + 1
        attributes = []
        while True:
            attribute, at = uleb(abbrev, at)
            form, at = uleb(abbrev, at)
            if form == _IMPLICIT_CONST:
                _, at = uleb(abbrev, at)
            if not attribute and not form:
                break
            attributes.append((attribute, form))
        table[code] = Abbreviation(tag, has_children, attributes)
    return table


def uleb(data: bytes, at: int) -> tuple[int, int]:
    """The unsigned LEB128 number at `at`, and where it ends. Raises Unreadable if it is too large, IndexError."""
    value, shift = 0, 0
    while True:
        byte = data[at]
        if shift > 63:
            raise Unreadable("a number of more than 64 bits")
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not byte & 0x80:
            return value, at
