"""Core files: the memory and registers of an AArch64 machine as ELF, which debuggers read.

Layout: System V ABI, chapters 4 and 5; the notes are Linux's for arm64 (include/uapi/linux/elfcore.h,
struct elf_prstatus), whose general registers are x0 to x30, sp, pc and pstate.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from buildsys.formats.elf import EM_AARCH64, PF_R, PF_W, PF_X, PT_LOAD

ET_CORE, PT_NOTE, NT_PRSTATUS = 4, 4, 1
GENERAL = (*(f"x{number}" for number in range(31)), "sp", "pc", "pstate")
_STATUS = struct.Struct("<32xi76x34Q8x")  # elf_prstatus: pr_pid and pr_reg; the rest is about signals and processes
_EHDR, _PHDR, _NHDR = struct.Struct("<16sHHIQQQIHHHHHH"), struct.Struct("<IIQQQQQQ"), struct.Struct("<III")
_PLACES = struct.Struct("<32xQ14x2H")  # of an ELF header: e_phoff, e_phentsize, e_phnum
_PAGE = 4096
_OWNER = b"CORE\0\0\0\0"


class Piece(NamedTuple):
    """Memory at the address `virtual`, which is `physical` on the bus."""

    virtual: int
    physical: int
    data: bytes


def core(threads: Sequence[tuple[int, Mapping[str, int]]], pieces: Sequence[Piece]) -> Iterator[bytes]:
    """A core file, in pieces to be written one after another.

    `threads` are numbers, none twice, and registers: the first is the one that debuggers show.
    """
    note = b"".join(_note(number, registers) for number, registers in threads)
    at = _EHDR.size + _PHDR.size * (1 + len(pieces))
    headers = [_PHDR.pack(PT_NOTE, 0, at, 0, 0, len(note), 0, 4)]
    end = at + len(note)
    padding = -end % _PAGE
    end += padding
    for piece in pieces:
        size = len(piece.data)
        headers.append(_PHDR.pack(PT_LOAD, PF_R | PF_W | PF_X, end, piece.virtual, piece.physical, size, size, _PAGE))
        end += size
    identification = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)
    yield _EHDR.pack(
        identification, ET_CORE, EM_AARCH64, 1, 0, _EHDR.size, 0, 0, _EHDR.size, _PHDR.size, len(headers), 0, 0, 0
    )
    yield from headers
    yield note + bytes(padding)
    for piece in pieces:
        yield piece.data


def loaded(data: bytes) -> list[Piece]:
    """The pieces of a core file."""
    offset, size, count = _PLACES.unpack_from(data)
    headers = [_PHDR.unpack_from(data, offset + size * each) for each in range(count)]
    return [
        Piece(virtual, physical, data[at : at + length])
        for kind, _, at, virtual, physical, length, _, _ in headers
        if kind == PT_LOAD
    ]


def _note(number: int, registers: Mapping[str, int]) -> bytes:
    status = _STATUS.pack(number, *(registers.get(name, 0) for name in GENERAL))
    return _NHDR.pack(5, len(status), NT_PRSTATUS) + _OWNER + status
