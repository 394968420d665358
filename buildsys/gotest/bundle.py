"""What one boot is given beside the image: arguments, environment, an identity, files.

It is a bundle in memory that the supervisor reads (src/supervisor/given.go), here one more segment of a copy of the
image, on the last pages of RAM. So the image that was built, and what is kept of it, is the same for every boot.
"""

from __future__ import annotations

import os
import stat
import struct
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from buildsys import files
from buildsys.config.board import PAGE, Board
from buildsys.errors import UserError
from buildsys.formats.elf import PF_R, PF_W, PT_LOAD, Elf

MAGIC = int.from_bytes(b"gsbundle", "little")
GIVEN = "supervisor.given"  # the word that is the bundle's address
# Places in an Elf64_Ehdr: e_phoff, e_phentsize; an Elf64_Phdr.
_PHOFF, _PHENTSIZE = 0x20, 0x36
_PHDR = struct.Struct("<IIQQQQQQ")
_HEADER = struct.Struct("<12Q")
_ENTRY = struct.Struct("<7Q")
FOLDER, FILE = stat.S_IFDIR | 0o755, stat.S_IFREG


@dataclass(frozen=True)
class Entry:
    """A file or folder: its absolute path there, and the file here, None for a folder."""

    path: PurePosixPath
    file: Path | None


@dataclass(frozen=True)
class Given:
    """What a boot is given: os.Args, KEY=VALUE, and what the supervisor is to end its report with (sign).

    `files` are put into its tree, with the folders they are in; `folder` is the working folder.
    """

    arguments: tuple[str, ...]
    environment: tuple[str, ...]
    identity: str
    files: tuple[Entry, ...]
    folder: PurePosixPath


def pack(given: Given) -> bytes:
    """The bundle, as src/supervisor/given.go has it. Raises UserError for a string with a zero byte in it."""
    strings = bytearray()
    begins = []
    for texts in (given.arguments, given.environment):
        begins.append(_HEADER.size + len(strings))
        for text in texts:
            if "\0" in text:
                raise UserError(f"{text!r} has a zero byte in it", "strings end there")
            strings += text.encode("utf-8", "surrogateescape") + b"\0"
    end = _HEADER.size + len(strings)
    identity = given.identity.encode()
    strings += identity + bytes(-(len(strings) + len(identity)) % 8)
    entries, contents, folder = _tree(given, _HEADER.size + len(strings))
    return (
        _HEADER.pack(
            MAGIC,
            _HEADER.size + len(strings) + len(entries) + len(contents),
            *(len(given.arguments), begins[0]),
            *(len(given.environment), begins[1]),
            end,
            *(len(identity), end),
            *(len(entries) // _ENTRY.size, _HEADER.size + len(strings)),
            folder,
        )
        + strings
        + entries
        + contents
    )


def _tree(given: Given, begin: int) -> tuple[bytes, bytes, int]:
    """(entries, to lie at `begin`, names and bytes, to lie behind them, number of the working folder)."""
    numbers: dict[PurePosixPath, int] = {PurePosixPath("/"): 0}
    found: list[tuple[int, int, str, bytes]] = []

    def folder(path: PurePosixPath) -> int:
        if path not in numbers:
            parent = folder(path.parent)
            found.append((parent, FOLDER, path.name, b""))
            numbers[path] = len(found)
        return numbers[path]

    for each in given.files:
        if each.file is None:
            folder(each.path)
            continue
        try:
            data, mode = each.file.read_bytes(), FILE | (0o755 if os.access(each.file, os.X_OK) else 0o644)
        except OSError as error:
            raise UserError(f"{each.file}: cannot be read: {error.strerror}") from error
        found.append((folder(each.path.parent), mode, each.path.name, data))
    working = folder(given.folder)
    entries, contents = bytearray(), bytearray()
    behind = begin + len(found) * _ENTRY.size
    for parent, mode, name, data in found:
        text = name.encode("utf-8", "surrogateescape")
        at = behind + len(contents)
        contents += text + data
        entries += _ENTRY.pack(parent, mode, at, len(text), at + len(text), len(data), 0)
    return bytes(entries), bytes(contents), working


def with_bundle(image: Path, board: Board, bundle: bytes, output: Path) -> None:
    """Write `image` with `bundle` on the last pages of the board's RAM to `output`. Raises UserError if that is full.

    System V ABI, chapter 5: the table of program headers may lie anywhere in the file; a longer one goes to its end.
    """
    elf = Elf.read(image)
    address = (board.ram.end - len(bundle)) // PAGE * PAGE
    if any(each.vma + each.memory_size > address and each.vma < board.ram.end for each in elf.segments):
        raise UserError(
            f"{image}: {len(bundle)} bytes of files and arguments do not fit in RAM behind the program",
            f"board {board.name} has {board.ram.length:#x} bytes of RAM; --board names one that has more",
        )
    data = bytearray(elf.data)
    for symbol in elf.symbols.named(GIVEN)[GIVEN]:
        segment = next(each for each in elf.segments if 0 <= symbol.value - each.vma < each.file_size)
        struct.pack_into("<Q", data, segment.offset + symbol.value - segment.vma, address)
    data += bytes(-len(data) % PAGE)
    place = len(data)
    data += bundle
    data += bytes(-len(data) % _PHDR.size)
    headers = len(data)
    for each in elf.segments:
        data += _PHDR.pack(
            each.kind, each.flags, each.offset, each.vma, each.lma, each.file_size, each.memory_size, each.alignment
        )
    data += _PHDR.pack(PT_LOAD, PF_R | PF_W, place, address, address, len(bundle), len(bundle), PAGE)
    struct.pack_into("<Q", data, _PHOFF, headers)
    struct.pack_into("<HH", data, _PHENTSIZE, _PHDR.size, len(elf.segments) + 1)
    files.replace(output, memoryview(data))
