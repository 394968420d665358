"""Go types as DWARF tells them: what a value is made of, piece by piece, where it is passed.

A string is a pointer and an integer, a slice a pointer and two, an interface two
words; a structure or array is what its members are. Two types of the same pieces
at the same offsets are passed in the same registers and places of the stack
(ABIInternal, src/cmd/compile/abi-internal.md), whatever they are called.
Attributes of Go's own: cmd/internal/dwarf, DW_AT_go_kind.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

from buildsys.formats.debuginfo import DW_AT_NAME, DebugInfo, Die
from buildsys.formats.dwarf import Unreadable

DW_TAG_ARRAY, DW_TAG_MEMBER, DW_TAG_POINTER, DW_TAG_STRUCTURE = 0x01, 0x0D, 0x0F, 0x13
DW_TAG_SUBROUTINE_TYPE, DW_TAG_TYPEDEF, DW_TAG_SUBRANGE, DW_TAG_BASE, DW_TAG_UNSPECIFIED = 0x15, 0x16, 0x21, 0x24, 0x3B
DW_AT_BYTE_SIZE, DW_AT_COUNT, DW_AT_DATA_MEMBER_LOCATION, DW_AT_ENCODING, DW_AT_TYPE = 0x0B, 0x37, 0x38, 0x3E, 0x49
DW_ATE_BOOLEAN, DW_ATE_COMPLEX, DW_ATE_FLOAT = 0x02, 0x03, 0x04
WORD = 8
_LARGEST = 64  # elements of an array that are told one by one
_DEEPEST = 100  # typedefs and members within each other

# What a piece is. A table of methods goes with one interface type, and what calls through it knows no other.
INTEGER, BOOLEAN, FLOAT, POINTER, FUNCTION = "integer", "boolean", "float", "pointer", "function"
METHODS, DYNAMIC, ARRAY = "table of methods", "type word", "array"
_INTERFACES = {"runtime.iface": METHODS, "runtime.eface": DYNAMIC}
_SLICE = "[]"  # runtime.slice is none of something
_UNTYPED = ("unsafe.Pointer", "void")
_BUILT_IN = ("map[", "chan ", "<-chan ", "func(")


class Piece(NamedTuple):
    """One part of a value: `offset` and `size` in bytes, what `kind` it is; `of` says more where that must agree."""

    offset: int
    size: int
    kind: str
    of: str = ""


@dataclass(frozen=True)
class Type:
    """A type by its name, its size and alignment in bytes, and the pieces a value is made of.

    `is_in_memory` if it is always passed on the stack: an array of more than one element is, and what has one in it.
    `element` is the size in bytes of what a slice is of, None for anything else.
    """

    name: str
    size: int
    pieces: tuple[Piece, ...]
    alignment: int = WORD
    is_in_memory: bool = False
    element: int | None = None

    @property
    def is_any_pointer(self) -> bool:
        """Whether it is a pointer of which nothing is told, as unsafe.Pointer."""
        return self.name in _UNTYPED


class Types:
    """The types of one image, each read once. Raises Unreadable."""

    def __init__(self, dwarf: DebugInfo) -> None:
        self._dwarf = dwarf
        self._known: dict[int, Type] = {}

    def at(self, offset: int, depth: int = 0) -> Type:
        """The type whose DIE is at `offset` of .debug_info."""
        if offset not in self._known:
            if depth > _DEEPEST:
                raise Unreadable(f"the type at {offset:#x} has no end")
            self._known[offset] = self._read(offset, depth)
        return self._known[offset]

    def _read(self, offset: int, depth: int) -> Type:
        unit = self._dwarf.unit_of(offset)
        die = self._dwarf.die(unit, offset)
        name, size = die.text(DW_AT_NAME), die.number(DW_AT_BYTE_SIZE) or 0
        if die.tag == DW_TAG_POINTER:
            return Type(name or "unsafe.Pointer", WORD, (Piece(0, WORD, POINTER),))
        if die.tag == DW_TAG_SUBROUTINE_TYPE:
            return Type(name, WORD, (Piece(0, WORD, FUNCTION, name),))
        if die.tag == DW_TAG_BASE:
            pieces = _base(size, die.number(DW_AT_ENCODING))
            return Type(name, size, pieces, pieces[0].size or 1)
        if die.tag == DW_TAG_TYPEDEF:
            return self._named(die, name, depth)
        if die.tag == DW_TAG_STRUCTURE:
            found: list[Piece] = []
            members: list[Type] = []
            element = None
            for child in self._dwarf.children(unit, die):
                if child.tag == DW_TAG_MEMBER:
                    if name.startswith(_SLICE) and child.text(DW_AT_NAME) == "array":
                        element = self._size_behind(self._type(child))
                    members.append(self.at(self._type(child), depth + 1))
                    found += _moved(members[-1].pieces, child.number(DW_AT_DATA_MEMBER_LOCATION) or 0)
            alignment = max((each.alignment for each in members), default=1)
            in_memory = any(each.is_in_memory for each in members)
            return Type(name, size, tuple(found), alignment, in_memory, element)
        if die.tag == DW_TAG_ARRAY:
            counts = [c.number(DW_AT_COUNT) for c in self._dwarf.children(unit, die) if c.tag == DW_TAG_SUBRANGE]
            return _array(name, size, self.at(self._type(die), depth + 1), (counts or [None])[0])
        raise Unreadable(f"a type with tag {die.tag:#x} at {offset:#x}")

    def _named(self, die: Die, name: str, depth: int) -> Type:
        """A typedef: a name for another, an interface, a map or a channel."""
        meant = self.at(self._type(die), depth + 1)
        if meant.name in _INTERFACES:
            kind = _INTERFACES[meant.name]
            return Type(name, 2 * WORD, (Piece(0, WORD, kind, name * (kind == METHODS)), Piece(WORD, WORD, POINTER)))
        return replace(meant, name=name)

    def _size_behind(self, pointer: int) -> int | None:
        """The size of what the pointer at `pointer` of .debug_info is to. None of its members is read."""
        die = self._dwarf.die(self._dwarf.unit_of(pointer), pointer)
        for _ in range(_DEEPEST):
            offset = die.number(DW_AT_TYPE)
            if offset is None:
                break
            die = self._dwarf.die(self._dwarf.unit_of(offset), offset)
            if die.tag in (DW_TAG_POINTER, DW_TAG_SUBROUTINE_TYPE):
                return WORD
            if die.tag != DW_TAG_TYPEDEF:
                break
        return die.number(DW_AT_BYTE_SIZE)

    @staticmethod
    def _type(die: Die) -> int:
        offset = die.number(DW_AT_TYPE)
        if offset is None:
            raise Unreadable(f"the entry at {die.offset:#x} has no type")
        return offset


def _base(size: int, encoding: int | None) -> tuple[Piece, ...]:
    if encoding == DW_ATE_COMPLEX:
        return Piece(0, size // 2, FLOAT), Piece(size // 2, size // 2, FLOAT)
    return (Piece(0, size, {DW_ATE_BOOLEAN: BOOLEAN, DW_ATE_FLOAT: FLOAT}.get(encoding or 0, INTEGER)),)


def _array(name: str, size: int, element: Type, count: int | None) -> Type:
    if count is None:
        count = size // element.size if element.size else 0
    if count > _LARGEST:
        pieces: tuple[Piece, ...] = (Piece(0, size, ARRAY, f"{count} of {element.pieces}"),)
    else:
        pieces = tuple(each for at in range(count) for each in _moved(element.pieces, at * element.size))
    return Type(name, size, pieces, element.alignment, count > 1 or (count == 1 and element.is_in_memory))


def _moved(pieces: tuple[Piece, ...], by: int) -> list[Piece]:
    return [piece._replace(offset=piece.offset + by) for piece in pieces]
