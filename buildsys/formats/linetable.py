"""The names of the source files of one unit, from the header of its line table.

Which line an instruction is of is told by the program behind the header, which
is not read here. Source: DWARF 4 and 5, section 6.2.4.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from itertools import islice

from buildsys.formats.dwarf import Unreadable, uleb

_PATH, _DIRECTORY = 1, 2  # DW_LNCT_path, DW_LNCT_directory_index
_STRING, _ELSEWHERE, _UDATA = 0x08, (0x0E, 0x1F), 0x0F
_FIXED = {0x0B: 1, 0x05: 2, 0x06: 4, 0x07: 8, 0x1E: 16}


def files(lines: bytes, at: int, text: Callable[[int, int], str]) -> dict[int, str]:
    """Path by number, of the line table at `at` of .debug_line. `text` reads a string that lies in another section.

    Raises Unreadable, IndexError, ValueError or struct.error for what is no such table.
    """
    version, at = _names(lines, at)
    if version < 5:
        return dict(enumerate(_listed(lines, at), 1))
    folders, formats, count, at = _folders(lines, at, text)
    found = {}
    for number in range(count):
        found[number], at = _numbered(lines, at, folders, formats, text)
    return found


def file(lines: bytes, at: int, number: int, text: Callable[[int, int], str]) -> str:
    """The one that is called `number` of these, empty if there is none; those before it are only stepped over.

    Raises what `files` does.
    """
    version, at = _names(lines, at)
    if version < 5:
        return next(islice(_listed(lines, at), number - 1, None), "") if number > 0 else ""
    folders, formats, count, at = _folders(lines, at, text)
    if not 0 <= number < count:
        return ""
    forms = [form for _, form in formats]
    for _ in range(number):
        for form in forms:
            at = _behind(lines, at, form)
    return _numbered(lines, at, folders, formats, text)[0]


def _names(lines: bytes, at: int) -> tuple[int, int]:
    """The version of a table, and where in its header the names of folders and files begin."""
    length, version = struct.unpack_from("<IH", lines, at)
    if length >= 0xFFFF_FFF0 or not 2 <= version <= 5:
        raise Unreadable(f"a line table of version {version}")
    at += 6 + (2 if version == 5 else 0) + 4  # sizes of addresses and selectors; length of the header
    at += 5 if version >= 4 else 4  # sizes of instructions, is_stmt, line base and range
    return version, at + lines[at]  # opcode_base, then the number of arguments of each


def _listed(lines: bytes, at: int) -> Iterator[str]:
    folders = [""]
    while lines[at]:
        folder, at = _string(lines, at)
        folders.append(folder)
    at += 1
    while lines[at]:
        name, at = _string(lines, at)
        folder_number, at = uleb(lines, at)
        _, at = uleb(lines, at)  # when it was changed
        _, at = uleb(lines, at)  # its size
        yield _path(folders, folder_number, name)


def _folders(lines: bytes, at: int, text: Callable[[int, int], str]) -> tuple[list[str], _Formats, int, int]:
    """The folders, then of the files: how each row is made, how many there are, and where they begin."""
    formats, count, at = _formats(lines, at)
    folders = []
    for _ in range(count):
        row, at = _row(lines, at, formats, text)
        folders.append(str(row.get(_PATH, "")))
    return folders, *_formats(lines, at)


def _numbered(
    lines: bytes, at: int, folders: list[str], formats: _Formats, text: Callable[[int, int], str]
) -> tuple[str, int]:
    row, at = _row(lines, at, formats, text)
    return _path(folders, int(row.get(_DIRECTORY, 0)), str(row.get(_PATH, ""))), at


_Formats = list[tuple[int, int]]  # what it is, and how it is written, by number


def _formats(lines: bytes, at: int) -> tuple[_Formats, int, int]:
    """How each row of what follows is made, how many there are, and where they begin."""
    formats, count = [], lines[at]
    at += 1
    for _ in range(count):
        content, at = uleb(lines, at)
        form, at = uleb(lines, at)
        formats.append((content, form))
    number, at = uleb(lines, at)
    return formats, number, at


def _row(lines: bytes, at: int, formats: _Formats, text: Callable[[int, int], str]) -> tuple[dict[int, int | str], int]:
    row: dict[int, int | str] = {}
    for content, form in formats:
        if form == _UDATA and lines[at] < 0x80:  # most are: a call for each would be dear
            row[content], at = lines[at], at + 1
        else:
            row[content], at = _value(lines, at, form, text)
    return row, at


def _behind(lines: bytes, at: int, form: int) -> int:
    """Where a value ends."""
    if form == _STRING:
        return lines.index(b"\0", at) + 1
    if form == _UDATA:
        while lines[at] >= 0x80:
            at += 1
        return at + 1
    if form in _ELSEWHERE:
        return at + 4
    if form not in _FIXED:
        raise Unreadable(f"form {form:#x} in a line table")
    return at + _FIXED[form]


def _value(lines: bytes, at: int, form: int, text: Callable[[int, int], str]) -> tuple[int | str, int]:
    if form == _STRING:
        return _string(lines, at)
    if form == _UDATA:
        return uleb(lines, at)
    if form in _ELSEWHERE:
        return text(form, int.from_bytes(lines[at : at + 4], "little")), at + 4
    if form not in _FIXED:
        raise Unreadable(f"form {form:#x} in a line table")
    return int.from_bytes(lines[at : at + _FIXED[form]], "little"), at + _FIXED[form]


def _string(lines: bytes, at: int) -> tuple[str, int]:
    end = lines.index(b"\0", at)
    return lines[at:end].decode("utf-8", "replace"), end + 1


def _path(folders: list[str], number: int, name: str) -> str:
    folder = folders[number] if 0 <= number < len(folders) else ""
    return f"{folder}/{name}" if folder and folder != "." and not name.startswith("/") else name
