"""A read-only view of an AArch64 ELF file: headers, sections, segments, relocations.

Reads exactly what the build loop needs, straight from the bytes, in
milliseconds for images of tens of megabytes; DWARF is left to pyelftools.
Every offset is checked against the file before it is used.
Source of the layouts: System V ABI, chapter 4; ELF for the Arm 64-bit Architecture.
"""

from __future__ import annotations

import contextlib
import mmap
import struct
from array import array
from collections.abc import Container, Iterator
from collections.abc import Mapping as Dictionary
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import cast

from buildsys.errors import UserError
from buildsys.formats.mapping import Mapping
from buildsys.formats.symbols import Symbols

EM_AARCH64 = 183
ET_REL, ET_EXEC, ET_DYN = 1, 2, 3
PT_LOAD = 1
PF_X, PF_W, PF_R = 1, 2, 4
SHT_SYMTAB, SHT_RELA, SHT_NOBITS = 2, 4, 8
SHF_WRITE, SHF_ALLOC, SHF_EXECINSTR, SHF_TLS, SHF_COMPRESSED = 1, 2, 4, 0x400, 0x800

R_AARCH64_ABS64, R_AARCH64_ABS32, R_AARCH64_JUMP26, R_AARCH64_CALL26 = 257, 258, 282, 283

_EHDR = struct.Struct("<16sHHIQQQIHHHHHH")
_SHDR = struct.Struct("<IIQQQQIIQQ")
_PHDR = struct.Struct("<IIQQQQQQ")
_SYM_SIZE, _RELA_SIZE = 24, 24
_MACHINES = {3: "x86", 40: "32-bit Arm", 62: "x86-64", 243: "RISC-V"}


@dataclass(frozen=True)
class Section:
    """A section header: `offset` and `size` in bytes of the file, `address` at run time."""

    index: int
    name: str
    kind: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    info: int
    alignment: int

    @property
    def end(self) -> int:
        """The first address after the section."""
        return self.address + self.size

    @property
    def in_file(self) -> bool:
        """Whether the file holds its bytes."""
        return self.kind != SHT_NOBITS

    def __contains__(self, address: int) -> bool:
        return self.address <= address < self.end


@dataclass(frozen=True)
class Segment:
    """A program header: `vma` is where bytes live at run time, `lma` where they are stored."""

    kind: int
    flags: int
    offset: int
    vma: int
    lma: int
    file_size: int
    memory_size: int
    alignment: int


@dataclass(frozen=True)
class Relocations:
    """The entries of one RELA section, as three parallel arrays, and the section they apply to.

    In a linked image `offsets` are addresses, in a relocatable file offsets into `target`. `symbols` is the
    index of their symbol table.
    """

    target: int
    offsets: array[int]
    infos: array[int]
    addends: array[int]
    symbols: int = 0

    def kinds(self) -> list[int]:
        """The relocation type of each entry."""
        return [info & 0xFFFF_FFFF for info in self.infos]


class Elf:
    """One AArch64, 64-bit, little-endian ELF file. Raises UserError for anything else."""

    def __init__(self, data: bytes, name: str = "the file") -> None:
        self.data, self.name = data, name
        self._code: dict[int, bytes] = {}  # what `with_code` put in the place of a section's bytes
        if data[:4] != b"\x7fELF":
            raise UserError(f"{name}: not an ELF file", "give the linked image, such as build/kernel.elf")
        if len(data) < _EHDR.size:
            raise UserError(f"{name}: truncated: {len(data)} bytes do not hold an ELF header")
        if data[4] != 2:
            raise UserError(f"{name}: a 32-bit ELF file; only 64-bit AArch64 is understood")
        if data[5] != 1:
            raise UserError(f"{name}: a big-endian ELF file; only little-endian AArch64 is understood")
        fields = _EHDR.unpack_from(data)
        self.kind, machine, self.entry = fields[1], fields[2], fields[4]
        if machine != EM_AARCH64:
            known = _MACHINES.get(machine, "unknown")
            raise UserError(f"{name}: made for machine {machine} ({known}), not for AArch64")
        self._phoff, self._shoff = fields[5], fields[6]
        self._phentsize, self._phnum, self._shentsize, self._shnum, self._shstrndx = fields[9:14]

    @classmethod
    def read(cls, path: Path) -> Elf:
        """The file at `path`. Raises UserError if it cannot be read or is not AArch64 ELF."""
        try:
            if path.exists() and not path.is_file():  # a pipe or device may never end
                raise UserError(f"{path}: is not a regular file")
            return cls(path.read_bytes(), str(path))
        except OSError as error:
            raise UserError(f"{path}: cannot be read: {error.strerror}") from error

    @classmethod
    def mapped(cls, path: Path) -> Elf:
        """As `read`, for a file that is replaced when it changes and never written to: its pages are not copied."""
        if path.is_file():  # to open a pipe would wait for somebody to write to it
            with contextlib.suppress(ValueError, OSError), path.open("rb") as file:
                pages = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
                return cls(cast("bytes", pages), str(path))  # it answers to all that is asked of bytes here
        return cls.read(path)

    def with_code(self, code: Dictionary[int, bytes]) -> Elf:
        """The same file with other instructions: `code` is the contents of sections, by their index.

        Other sections are as they are in this one. What else was read of it is not read again. Its `data` is
        the old file's.
        """
        other = Elf(self.data, self.name)
        read = ("segments", "sections", "code", "symbols", "mapping")
        vars(other).update({name: vars(self)[name] for name in read if name in vars(self)})
        other._code = {**self._code, **code}
        return other

    @cached_property
    def segments(self) -> tuple[Segment, ...]:
        """The program headers."""
        if self._phnum and self._phentsize != _PHDR.size:
            raise self._damaged(f"program headers of {self._phentsize} bytes")
        self._check(self._phoff, self._phnum * _PHDR.size, "the program headers")
        found = []
        for at in range(self._phnum):
            kind, flags, offset, vma, lma, filesz, memsz, align = _PHDR.unpack_from(
                self.data, self._phoff + at * _PHDR.size
            )
            self._check(offset, filesz, f"segment {at}")
            found.append(Segment(kind, flags, offset, vma, lma, filesz, memsz, align))
        return tuple(found)

    @cached_property
    def sections(self) -> tuple[Section, ...]:
        """The section headers, the null one included so that indices match."""
        if self._shnum and self._shentsize != _SHDR.size:
            raise self._damaged(f"section headers of {self._shentsize} bytes")
        self._check(self._shoff, self._shnum * _SHDR.size, "the section headers")
        rows = [_SHDR.unpack_from(self.data, self._shoff + at * _SHDR.size) for at in range(self._shnum)]
        for at, row in enumerate(rows):
            if row[1] not in (0, SHT_NOBITS):
                self._check(row[4], row[5], f"section {at}")
        if not rows:
            return ()
        if self._shstrndx >= len(rows):
            raise self._damaged(f"section names are said to be in section {self._shstrndx}")
        at, size = rows[self._shstrndx][4:6]
        names = self.data[at : at + size]
        return tuple(
            Section(at, _string(names, row[0]), row[1], row[2], row[3], row[4], row[5], row[6], row[7], row[8])
            for at, row in enumerate(rows)
        )

    @property
    def tables(self) -> tuple[tuple[int, int], ...]:
        """Where in the file the ELF header and the two tables of headers lie: each from an offset to before another."""
        sizes = ((0, _EHDR.size), (self._phoff, self._phnum * _PHDR.size), (self._shoff, self._shnum * _SHDR.size))
        return tuple((at, at + size) for at, size in sizes if size)

    def section(self, name: str) -> Section | None:
        """The first section called `name`."""
        return next((section for section in self.sections if section.name == name), None)

    def contents(self, section: Section) -> bytes:
        """The bytes of `section`; none if it is NOBITS."""
        if section.index in self._code:
            return self._code[section.index]
        return self.data[section.offset : section.offset + section.size] if section.in_file else b""

    @cached_property
    def placed(self) -> tuple[tuple[Section, int], ...]:
        """The sections that take memory, each with the address its bytes are stored at (LMA), or its own.

        Zeroed thread-local data is a template, which takes none.
        """
        found = []
        for section in self.sections:
            template = section.flags & SHF_TLS and not section.in_file
            if section.flags & SHF_ALLOC and section.size and not template:
                away = next((each.lma - each.vma for each in self.segments if _loads(each, section)), 0)
                found.append((section, section.address + away))
        return tuple(found)

    @cached_property
    def code(self) -> tuple[Section, ...]:
        """The executable sections that have bytes."""
        return tuple(s for s in self.sections if s.flags & SHF_EXECINSTR and s.in_file and s.size)

    @cached_property
    def symbols(self) -> Symbols:
        """The symbol table. Raises UserError if the file has none."""
        for section in self.sections:
            if section.kind != SHT_SYMTAB:
                continue
            return self._symbols_of(section)
        raise UserError(
            f"{self.name}: has no symbol table", "it was stripped: link without -s, and do not run strip on it"
        )

    def dynamic_symbols(self, index: int) -> Symbols:
        """The symbol table in section `index`. Raises UserError if it holds none."""
        if not 0 < index < len(self.sections):
            raise self._damaged("its dynamic symbol table")
        return self._symbols_of(self.sections[index])

    def _symbols_of(self, section: Section) -> Symbols:
        if section.size % _SYM_SIZE or not 0 < section.link < len(self.sections) or not section.in_file:
            raise self._damaged("its symbol table")
        return Symbols(self.contents(section), self.contents(self.sections[section.link]), self.name)

    @cached_property
    def mapping(self) -> Mapping:
        """Where among code there is data. Raises UserError as `symbols`."""
        return Mapping.of(self.symbols.marks(), self.symbols.function_starts)

    def relocations(self, loaded: bool = False, of: Container[int] | None = None) -> Iterator[Relocations]:
        """Every RELA section, with its entries as arrays; only those that are `loaded`, or `of` sections by index."""
        for section in self.sections:
            wanted = (section.flags & SHF_ALLOC or not loaded) and (of is None or section.info in of)
            if section.kind == SHT_RELA and section.size and wanted:
                if section.size % _RELA_SIZE:
                    raise self._damaged(f"relocation section {section.name}")
                words = array("Q", self.contents(section))
                addends = array("q", words[2::3].tobytes())
                yield Relocations(section.info, words[0::3], words[1::3], addends, section.link)

    def file_offset(self, address: int) -> int | None:
        """Where in the file the byte that lives at `address` is; None if the file does not hold it."""
        for section in self.sections:
            if section.flags & SHF_ALLOC and section.in_file and address in section:
                return section.offset + address - section.address
        return None

    def word(self, address: int, size: int = 4) -> int | None:
        """The little-endian word of `size` bytes at `address`; None where the file holds none."""
        for section in self.sections:
            if section.flags & SHF_ALLOC and section.in_file and address in section:
                within, known = address - section.address, self._code.get(section.index)
                start, data = (within, known) if known is not None else (section.offset + within, self.data)
                return int.from_bytes(data[start : start + size], "little") if start + size <= len(data) else None
        return None

    def _check(self, offset: int, size: int, what: str) -> None:
        # What has no bytes in the file may lie anywhere: GNU ld gives zeroed memory a place behind the file's end.
        if size and offset + size > len(self.data):
            raise UserError(f"{self.name}: truncated: {what} would end at byte {offset + size} of {len(self.data)}")

    def _damaged(self, what: str) -> UserError:
        return UserError(f"{self.name}: damaged: {what} cannot be right")


def _loads(segment: Segment, section: Section) -> bool:
    return segment.kind == PT_LOAD and segment.vma <= section.address < segment.vma + segment.memory_size


def _string(table: bytes, at: int) -> str:
    return table[at : table.find(b"\0", at)].decode("utf-8", "replace")
