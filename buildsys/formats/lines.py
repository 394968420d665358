"""Source lines of a few addresses of a linked image, without decoding more of its line tables than their functions.

Go writes a sequence of its own for each function, which begins by setting the function's
address (cmd/internal/obj, generateDebugLinesSymbol). So that is searched for in the bytes, and only the
sequence behind it is run. A line is a convenience: what cannot be read has none.
Source: DWARF 4 and 5, section 6.2.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from contextlib import suppress
from itertools import pairwise
from pathlib import PurePosixPath
from typing import NamedTuple

from buildsys.formats import linetable
from buildsys.formats.dwarf import Unreadable, uleb
from buildsys.formats.elf import SHF_COMPRESSED, Elf

# DW_LNS_*: the standard opcodes that matter here; others are stepped over by their number of arguments.
_COPY, _ADVANCE_PC, _ADVANCE_LINE, _SET_FILE, _CONST_ADD_PC, _FIXED_ADVANCE_PC = 1, 2, 3, 4, 8, 9
_END_SEQUENCE, _SET_ADDRESS = 1, 2  # DW_LNE_*, behind a 0 and a length
_PATH = 1  # DW_LNCT_path
_STRING, _LINE_STRP, _STRP, _UDATA = 0x08, 0x1F, 0x0E, 0x0F
_FIXED = {0x0B: 1, 0x05: 2, 0x06: 4, 0x07: 8, 0x1E: 16}


class _Header(NamedTuple):
    """What the line table of one unit begins with; `program` is where its instructions begin."""

    step: int
    line_base: int
    line_range: int
    arguments: tuple[int, ...]  # of each standard opcode, from 1 on
    files: dict[int, str]


class Lines:
    """The line tables of one image. Files are told by their names alone, or by their `whole` paths."""

    def __init__(self, elf: Elf, whole: bool = False) -> None:
        self._whole = whole
        self._data = _contents(elf, ".debug_line")
        self._strings = {_LINE_STRP: _contents(elf, ".debug_line_str"), _STRP: _contents(elf, ".debug_str")}
        self._headers: dict[int, _Header | None] = {}
        self._units = _units(self._data)

    def of(self, function: int, addresses: Iterable[int]) -> dict[int, str]:
        """`file:line` of those of `addresses`, in the function that begins at `function`, that have one."""
        wanted = sorted(set(addresses))
        start = self._data.find(struct.pack("<BBBQ", 0, 9, _SET_ADDRESS, function))
        unit = next((at for at, end in self._units if at < start < end), None)
        found: dict[int, str] = {}
        with suppress(Unreadable, IndexError, KeyError, ValueError, struct.error):
            header = self._header(unit) if unit is not None else None
            rows = _run(self._data, start, header) if header else []
            for (low, file, line), (high, _, _) in pairwise(rows):
                for address in wanted:
                    if low <= address < high and header and file in header.files:
                        found[address] = f"{header.files[file]}:{line}"
        return found

    def _header(self, at: int) -> _Header | None:
        if at not in self._headers:
            self._headers[at] = None
            header = _header(self._data, at, self._strings)
            if self._whole:
                header = header._replace(files=linetable.files(self._data, at, self._text))
            self._headers[at] = header
        return self._headers[at]

    def _text(self, form: int, place: int) -> str:
        text = self._strings[form]
        return text[place : text.index(b"\0", place)].decode("utf-8", "replace")


def _contents(elf: Elf, name: str) -> bytes:
    section = elf.section(name)
    return bytes(elf.contents(section)) if section and not section.flags & SHF_COMPRESSED else b""


def _units(data: bytes) -> list[tuple[int, int]]:
    """Where the table of each unit begins and ends."""
    found, at = [], 0
    while at + 4 <= len(data):
        (length,) = struct.unpack_from("<I", data, at)
        if length >= 0xFFFF_FFF0:
            break
        found.append((at, at + 4 + length))
        at += 4 + length
    return found


def _header(data: bytes, at: int, strings: dict[int, bytes]) -> _Header:
    (version,) = struct.unpack_from("<H", data, at + 4)
    if not 2 <= version <= 5:
        raise Unreadable(f"a line table of version {version}")
    at += 6 + (2 if version == 5 else 0) + 4
    step = data[at]
    at += 3 if version >= 4 else 2  # operations in an instruction since DWARF 4, default_is_stmt
    line_base, line_range, opcodes = struct.unpack_from("<bBB", data, at)
    arguments = tuple(data[at + 3 : at + 2 + opcodes])
    at += 2 + opcodes
    names = _numbered(data, at, strings) if version == 5 else _listed(data, at)
    files = {number: PurePosixPath(name).name for number, name in names.items()}
    return _Header(step, line_base, line_range, arguments, files)


def _listed(data: bytes, at: int) -> dict[int, str]:
    while data[at]:  # folders
        at = data.index(b"\0", at) + 1
    at += 1
    found: dict[int, str] = {}
    while data[at]:
        end = data.index(b"\0", at)
        found[len(found) + 1] = data[at:end].decode("utf-8", "replace")
        at = end + 1
        for _ in range(3):  # its folder, when it was changed, its size
            _, at = uleb(data, at)
    return found


def _numbered(data: bytes, at: int, strings: dict[int, bytes]) -> dict[int, str]:
    _, at = _entries(data, at, strings)
    names, _ = _entries(data, at, strings)
    return dict(enumerate(names))


def _entries(data: bytes, at: int, strings: dict[int, bytes]) -> tuple[list[str], int]:
    """The paths of a list of folders or files, and where it ends."""
    formats, count = [], data[at]
    at += 1
    for _ in range(count):
        content, at = uleb(data, at)
        form, at = uleb(data, at)
        formats.append((content, form))
    number, at = uleb(data, at)
    found = []
    for _ in range(number):
        path = ""
        for content, form in formats:
            value, at = _value(data, at, form, strings)
            path = value if content == _PATH else path
        found.append(path)
    return found, at


def _value(data: bytes, at: int, form: int, strings: dict[int, bytes]) -> tuple[str, int]:
    """A string; empty if it is another kind of value."""
    if form == _STRING:
        end = data.index(b"\0", at)
        return data[at:end].decode("utf-8", "replace"), end + 1
    if form in strings:
        (place,) = struct.unpack_from("<I", data, at)
        text = strings[form]
        return text[place : text.index(b"\0", place)].decode("utf-8", "replace"), at + 4
    if form == _UDATA:
        return "", uleb(data, at)[1]
    return "", at + _FIXED[form]


def _run(data: bytes, at: int, header: _Header) -> list[tuple[int, int, int]]:
    """The rows of the sequence that begins at `at`: (address, file, line), the last of them the end."""
    rows: list[tuple[int, int, int]] = []
    address, file, line = 0, 1, 1
    first_special = len(header.arguments) + 1
    while True:
        opcode = data[at]
        at += 1
        if opcode >= first_special:
            change = opcode - first_special
            address += change // header.line_range * header.step
            line += header.line_base + change % header.line_range
            rows.append((address, file, line))
        elif opcode == 0:
            length, at = uleb(data, at)
            if data[at] == _END_SEQUENCE:
                return [*rows, (address, file, line)]
            if data[at] == _SET_ADDRESS:
                (address,) = struct.unpack_from("<Q", data, at + 1)
            at += length
        elif opcode == _COPY:
            rows.append((address, file, line))
        elif opcode == _ADVANCE_LINE:
            change, end = uleb(data, at)
            line += change - (1 << 7 * (end - at) if data[end - 1] & 0x40 else 0)
            at = end
        elif opcode == _CONST_ADD_PC:
            address += (255 - first_special) // header.line_range * header.step
        elif opcode == _FIXED_ADVANCE_PC:
            address += struct.unpack_from("<H", data, at)[0]
            at += 2
        else:
            argument = 0
            for _ in range(header.arguments[opcode - 1]):
                argument, at = uleb(data, at)
            if opcode == _ADVANCE_PC:
                address += argument * header.step
            elif opcode == _SET_FILE:
                file = argument
