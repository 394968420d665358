"""A relocatable object made to refer to other symbols, and to symbols where its code holds numbers.

Nothing is moved: tables that grow are written anew behind the file's end. Source of the
layouts: System V ABI, chapter 4; ELF for the Arm 64-bit Architecture, 5.7.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from buildsys.errors import UserError
from buildsys.formats.elf import SHT_RELA, SHT_SYMTAB, Elf, Section
from buildsys.formats.symbols import SHN_UNDEF, STB_GLOBAL, STT_SECTION, Symbol

# R_AARCH64_MOVW_UABS_G0 to G3, by 16-bit group: checked for overflow, and not (there is no unchecked G3).
CHECKED, UNCHECKED = (263, 265, 267, 269), (264, 266, 268)
_MOVE, _MOVZ, _MOVK = 0x7F80_0000, 0x5280_0000, 0x7280_0000  # C6.2 MOVZ, MOVK, of 32 or 64 bits
_HALF = 0xFFFF << 5  # the immediate
_ALL = (1 << 64) - 1

_SECTION_HEADERS, _SECTION_SIZE, _OFFSET_AND_SIZE = 0x28, 64, 24  # e_shoff; sh_offset and sh_size in an Elf64_Shdr
_SYMBOL = struct.Struct("<IBBHQQ")
_RELA = struct.Struct("<QQq")


class Formed(NamedTuple):
    """Instructions in a row that put `value` into a register: where the first is, and the 16-bit group each fills."""

    at: int
    value: int
    groups: tuple[int, ...]

    @property
    def whole(self) -> bool:
        """Whether they can hold any address of 16 bits for each of them."""
        return len(self.groups) > 1 and sorted(self.groups) == list(range(len(self.groups)))


class Use(NamedTuple):
    """At `formed`, in section `section` of an object, the address of `symbol` and `addend` bytes is meant."""

    section: Section
    formed: Formed
    symbol: str
    addend: int


def formed(words: Sequence[int], base: int) -> Iterator[Formed]:
    """Every MOVZ in `words`, the first of which is at `base`, with the MOVKs of its register right behind it."""
    index = 0
    while index < len(words):
        word = words[index]
        if word & _MOVE != _MOVZ:
            index += 1
            continue
        start, value = index, 0
        groups: list[int] = []
        while index < len(words) and words[index] & _MOVE == (_MOVK if groups else _MOVZ):
            if (words[index] ^ word) & 0x8000_001F or (words[index] >> 21 & 3) in groups:
                break
            group = words[index] >> 21 & 3
            value |= (words[index] >> 5 & 0xFFFF) << 16 * group
            groups.append(group)
            index += 1
        yield Formed(base + 4 * start, value, tuple(groups))


def rewritten(elf: Elf, retargeted: Iterable[str], uses: Sequence[Use]) -> bytes:
    """The object `elf` with each local variable in `retargeted` left to others to define, and with `uses` relocated.

    What refers to such a variable refers to a symbol of that name, which the object no longer has. Raises
    UserError if one is a function, or several.
    """
    image = _Tables(elf)
    changed: dict[int, int] = {}
    for name in retargeted:
        for old in image.locals(name):
            changed[old] = image.undefined(name)
            image.forget(old)
    if changed:
        image.rename(changed)
    for use in uses:
        image.relocate(use)
    return image.contents()


def section_symbols(elf: Elf) -> dict[int, int]:
    """The sections that the object's section symbols stand for, by the symbol's number."""
    found = {}
    for number in range(len(elf.symbols)):
        symbol = elf.symbols.by_index(number)
        if symbol is not None and symbol.kind == STT_SECTION:
            found[number] = symbol.section
    return found


def _within(elf: Elf, number: int, section: int, offset: int) -> bool:
    """Whether `offset` into `section` is in the variable that has this number."""
    symbol = elf.symbols.by_index(number)
    return symbol is not None and symbol.section == section and symbol.value <= offset < symbol.end


class _Tables:
    """The bytes of an object whose symbol table, names and relocations can grow."""

    def __init__(self, elf: Elf) -> None:
        self._elf, self._data = elf, bytearray(elf.data)
        self._table = next(section for section in elf.sections if section.kind == SHT_SYMTAB)
        self._strings = elf.sections[self._table.link]
        self._symbols = bytearray(elf.contents(self._table))
        self._names = bytearray(elf.contents(self._strings))
        self._grown: dict[int, bytearray] = {}
        self._values: dict[int, int] = {}
        self._numbers = {symbol.name: at for at, symbol in self._globals()}

    def _globals(self) -> Iterator[tuple[int, Symbol]]:
        """What others define or this object does, by number: all behind the local ones (sh_info)."""
        for at in range(self._table.info, self._table.size // _SYMBOL.size):
            symbol = self._elf.symbols.by_index(at)
            if symbol is not None:
                yield at, symbol

    def locals(self, name: str) -> list[int]:
        """The numbers of the local symbols called `name`."""
        found = []
        for at in range(self._table.info):
            symbol = self._elf.symbols.by_index(at)
            if symbol is not None and symbol.name == name and symbol.section != SHN_UNDEF:
                found.append(at)
                self._values[at] = symbol.value
        return found

    def number(self, name: str) -> int:
        """The number of the symbol called `name`: this object's, else one that others define. 0, which is 0, for ""."""
        if not name:
            return 0
        return next(iter(self.locals(name)), 0) or self.undefined(name)

    def undefined(self, name: str) -> int:
        """The number of the global symbol `name`, which is made if there is none."""
        if name not in self._numbers:
            self._numbers[name] = len(self._symbols) // _SYMBOL.size
            self._symbols += _SYMBOL.pack(len(self._names), STB_GLOBAL << 4, 0, SHN_UNDEF, 0, 0)
            self._names += name.encode() + b"\0"
        return self._numbers[name]

    def forget(self, number: int) -> None:
        """Take the name from a symbol."""
        struct.pack_into("<I", self._symbols, number * _SYMBOL.size, 0)

    def rename(self, changed: dict[int, int]) -> None:
        """Let every relocation to a symbol in `changed`, by number, be to another."""
        sections = section_symbols(self._elf)
        for section in self._elf.sections:
            if section.kind != SHT_RELA or not section.size:
                continue
            words = array("Q", self._elf.contents(section))
            infos = words[1::3]
            if places := [at for at, info in enumerate(infos) if info >> 32 in changed or info >> 32 in sections]:
                for at in places:
                    number, into = infos[at] >> 32, 0
                    if number in sections:  # the variable may be named by its section and an offset
                        addend = words[3 * at + 2]
                        found = [each for each in changed if _within(self._elf, each, sections[number], addend)]
                        if not found:
                            continue
                        number, into = found[0], self._values[found[0]]
                    words[3 * at + 1] = changed[number] << 32 | infos[at] & 0xFFFF_FFFF
                    words[3 * at + 2] = words[3 * at + 2] - into & _ALL
                self._data[section.offset : section.offset + section.size] = words.tobytes()

    def relocate(self, use: Use) -> None:
        """Let the instructions of `use` be filled in by the linker."""
        section, symbol = use.section, self.number(use.symbol)
        table = next(
            (each for each in self._elf.sections if each.kind == SHT_RELA and each.info == section.index), None
        )
        if table is None:
            raise UserError(f"{self._elf.name}: section {section.name} has no relocations, and none can be added")
        entries = self._grown.get(table.index)
        if entries is None:
            entries = self._data[table.offset : table.offset + table.size]
            self._grown[table.index] = entries
        for number, group in enumerate(use.formed.groups):
            offset = use.formed.at + 4 * number
            place = section.offset + offset
            word = int.from_bytes(self._data[place : place + 4], "little") & ~_HALF  # a linker may only add to it
            self._data[place : place + 4] = word.to_bytes(4, "little")
            last = group == max(use.formed.groups)
            kind = CHECKED[group] if last else UNCHECKED[group]
            entries += _RELA.pack(offset, symbol << 32 | kind, use.addend)

    def contents(self) -> bytes:
        """The object's bytes."""
        tables = {self._table.index: self._symbols, self._strings.index: self._names, **self._grown}
        headers = struct.unpack_from("<Q", self._data, _SECTION_HEADERS)[0]
        for index, table in tables.items():
            self._data += bytes(-len(self._data) % 8)
            header = headers + _SECTION_SIZE * index
            struct.pack_into("<QQ", self._data, header + _OFFSET_AND_SIZE, len(self._data), len(table))
            self._data += table
        return bytes(self._data)
