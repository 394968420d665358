"""The names of the source files of one unit, from the header of its line table.

Which line an instruction is of is told by the program behind the header, which
is not read here. Source: DWARF 4 and 5, section 6.2.4.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from buildsys.formats.dwarf import Unreadable, uleb

_PATH, _DIRECTORY = 1, 2  # DW_LNCT_path, DW_LNCT_directory_index
_STRING, _ELSEWHERE, _UDATA = 0x08, (0x0E, 0x1F), 0x0F
_FIXED = {0x0B: 1, 0x05: 2, 0x06: 4, 0x07: 8, 0x1E: 16}


def files(lines: bytes, at: int, text: Callable[[int, int], str]) -> dict[int, str]:
    """Path by number, of the line table at `at` of .debug_line. `text` reads a string that lies in another section.

    Raises Unreadable, IndexError, ValueError or struct.error for what is no such table.
    """
    length, version = struct.unpack_from("<IH", lines, at)
    if length >= 0xFFFF_FFF0 or not 2 <= version <= 5:
        raise Unreadable(f"a line table of version {version}")
    at += 6 + (2 if version == 5 else 0) + 4  # sizes of addresses and selectors; length of the header
    at += 5 if version >= 4 else 4  # sizes of instructions, is_stmt, line base and range
    at += lines[at]  # opcode_base, then the number of arguments of each
    return _numbered(lines, at, text) if version == 5 else _listed(lines, at)


def _listed(lines: bytes, at: int) -> dict[int, str]:
    folders = [""]
    while lines[at]:
        folder, at = _string(lines, at)
        folders.append(folder)
    found: dict[int, str] = {}
    at += 1
    while lines[at]:
        name, at = _string(lines, at)
        folder_number, at = uleb(lines, at)
        _, at = uleb(lines, at)  # when it was changed
        _, at = uleb(lines, at)  # its size
        found[len(found) + 1] = _path(folders, folder_number, name)
    return found


def _numbered(lines: bytes, at: int, text: Callable[[int, int], str]) -> dict[int, str]:
    rows, at = _entries(lines, at, text)
    folders = [str(row.get(_PATH, "")) for row in rows]
    rows, at = _entries(lines, at, text)
    return {
        number: _path(folders, int(row.get(_DIRECTORY, 0)), str(row.get(_PATH, ""))) for number, row in enumerate(rows)
    }


def _entries(lines: bytes, at: int, text: Callable[[int, int], str]) -> tuple[list[dict[int, int | str]], int]:
    formats, count = [], lines[at]
    at += 1
    for _ in range(count):
        content, at = uleb(lines, at)
        form, at = uleb(lines, at)
        formats.append((content, form))
    number, at = uleb(lines, at)
    rows: list[dict[int, int | str]] = []
    for _ in range(number):
        row: dict[int, int | str] = {}
        for content, form in formats:
            if form == _UDATA and lines[at] < 0x80:  # most are: a call for each would be dear
                row[content], at = lines[at], at + 1
            else:
                row[content], at = _value(lines, at, form, text)
        rows.append(row)
    return rows, at


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
