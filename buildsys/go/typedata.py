"""What Go's type descriptions in an image hold that can be called, and which of them name which.

Source: src/internal/abi/type.go, map_*.go and iface.go; before Go 1.21, src/runtime/type.go.
They have no symbols of their own, but lie between `runtime.types` and `runtime.etypes`.
A method of a type is the offset of its code from `runtime.text`, one that the linker left out
is none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from buildsys.formats.dwarf import layout
from buildsys.formats.elf import SHF_COMPRESSED, Elf

WORD = 8
FLAGS, KIND, EQUAL, STRING, POINTER_TO = 20, 23, 24, 40, 44  # Type.TFlag, Kind_, Equal, Str, PtrToThis
TYPE = 48
UNCOMMON = 1  # of Type.TFlag: methods, or a package, are told behind the type
KIND_MASK = 31
ARRAY, CHANNEL, FUNCTION, INTERFACE, MAP, POINTER, SLICE, STRUCTURE = 17, 18, 19, 20, 21, 22, 23, 25
# Where an UncommonType stands: behind what there is to say of a type of that kind.
_LENGTHS = {ARRAY: 72, CHANNEL: 64, FUNCTION: 56, INTERFACE: 80, POINTER: 56, SLICE: 56, STRUCTURE: 80}
KEY, HASHER = 48, 72  # MapType.Key; MapType.Hasher, after Type, Key, Elem and Bucket or Group
_MAPS = ("internal/abi.MapType", "internal/abi.SwissMapType", "internal/abi.OldMapType", "runtime.maptype")
INTERFACE_METHODS = 64  # InterfaceType.Methods' length, after Type, PkgPath and the slice's pointer
METHOD_COUNT, METHODS = 4, 8  # UncommonType.Mcount, Moff
UNCOMMON_LENGTH = 16
METHOD = 16  # Name, Mtyp, Ifn and Tfn, each of 4 bytes
TABLE_TYPE, TABLE_METHODS = 8, 24  # ITab.Type, after Inter; ITab.Fun, after Type and Hash


class Types:
    """The type descriptions of one image; `word` gives the 8 bytes at an address, 0 where there are none."""

    def __init__(self, elf: Elf, word: Callable[[int], int]) -> None:
        self._elf, self._word = elf, word
        bounds = elf.symbols.addresses("runtime.types", "runtime.etypes", "runtime.text")
        self._low, self._high = bounds.get("runtime.types", 0), bounds.get("runtime.etypes", 0)
        self._text = bounds.get("runtime.text", 0)
        self._map_length: int | None = None

    def __contains__(self, place: int) -> bool:
        return self._low <= place < self._high

    def table(self, place: int) -> tuple[int, range] | None:
        """Of an ITab at `place`, the type it is for and the places of its pointers to methods; None for a Type.

        An ITab begins with two pointers to types, a Type with sizes.
        """
        interface, described = self._word(place), self._word(place + TABLE_TYPE)
        if interface not in self or described not in self:
            return None
        count, first = self._word(interface + INTERFACE_METHODS), place + TABLE_METHODS
        return described, range(first, min(first + WORD * count, self._high), WORD)

    def equal(self, place: int) -> int:
        """The address of the function value that compares two values of the type at `place`; 0 if none does."""
        return self._word(place + EQUAL)

    def hasher(self, place: int) -> int:
        """That of the one which hashes keys of the map type at `place`; 0 if it is no map."""
        return self._word(place + HASHER) if self._kind(place) == MAP else 0

    def key(self, place: int) -> int:
        """The type of the keys of the map type at `place`, which maps compare; 0 if it is no map."""
        return self._word(place + KEY) if self._kind(place) == MAP else 0

    def methods(self, place: int) -> list[int]:
        """The addresses of the code of the methods of the type at `place`."""
        found = []
        for method in self._methods(place):
            for at in (8, 12):  # Ifn, called through an interface, and Tfn
                offset = self._number(method + at)
                if offset not in (0, 0xFFFF_FFFF):
                    found.append(self._text + offset)
        return found

    def named(self, place: int) -> Iterator[int]:
        """The types that can be come by through the type at `place`: of elements, fields, arguments, methods."""
        end = place + self._length(place)
        if self._kind(place) == FUNCTION:  # its arguments and results stand behind it
            counts = self._number(place + TYPE)
            end += UNCOMMON_LENGTH * self._is_uncommon(place) + WORD * ((counts & 0xFFFF) + (counts >> 16 & 0x7FFF))
        for at in range(place + TYPE, end, WORD):
            yield from self._type_at(self._word(at))
        if self._kind(place) == STRUCTURE:  # fields: name, type, offset
            first, count = self._word(place + 56), self._word(place + 64)
            for at in range(first + WORD, min(first + 24 * count, self._high), 24):
                yield from self._type_at(self._word(at))
        named = (self._number(each + 4) for each in self._methods(place))
        for offset in (self._number(place + POINTER_TO), *named):
            if offset not in (0, 0xFFFF_FFFF):
                yield from self._type_at(self._low + offset)

    def _type_at(self, place: int) -> Iterator[int]:
        if place in self and not place % WORD and 0 < self._kind(place) <= STRUCTURE + 1:
            yield place

    def _methods(self, place: int) -> range:
        if not self._is_uncommon(place):
            return range(0)
        uncommon = place + self._length(place)
        count = self._number(uncommon + METHOD_COUNT) & 0xFFFF
        first = uncommon + self._number(uncommon + METHODS)
        return range(first, min(first + METHOD * count, self._high), METHOD)

    def _is_uncommon(self, place: int) -> bool:
        return bool(self._number(place + FLAGS) & UNCOMMON)

    def _length(self, place: int) -> int:
        kind = self._kind(place)
        if kind == MAP:
            if self._map_length is None:
                self._map_length = _map_length(self._elf)
            return self._map_length
        return _LENGTHS.get(kind, TYPE)

    def _kind(self, place: int) -> int:
        return self._word(place + KIND) & KIND_MASK

    def _number(self, place: int) -> int:
        return self._word(place) & 0xFFFF_FFFF


def _map_length(elf: Elf) -> int:
    """The size of a MapType, which changes with the maps, by DWARF; that of Go 1.23's if it is not told."""
    info, abbrev = elf.section(".debug_info"), elf.section(".debug_abbrev")
    if info and abbrev and not (info.flags | abbrev.flags) & SHF_COMPRESSED:
        contents = elf.contents(info), elf.contents(abbrev)
        for name in _MAPS:
            if described := layout(bytes(contents[0]), bytes(contents[1]), name):
                return described[""]
    return 88
