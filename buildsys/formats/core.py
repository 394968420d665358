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
_STATUS = struct.Struct("<112x34Q8x")  # elf_prstatus: what is before pr_reg is about signals and processes
_EHDR, _PHDR, _NHDR = struct.Struct("<16sHHIQQQIHHHHHH"), struct.Struct("<IIQQQQQQ"), struct.Struct("<III")
_PAGE = 4096
_OWNER = b"CORE\0\0\0\0"


class Piece(NamedTuple):
    """Memory at the address `virtual`, which is `physical` on the bus."""

    virtual: int
    physical: int
    data: bytes


def core(registers: Mapping[str, int], pieces: Sequence[Piece]) -> Iterator[bytes]:
    """A core file, in pieces to be written one after another."""
    status = _STATUS.pack(*(registers.get(name, 0) for name in GENERAL))
    note = _NHDR.pack(5, len(status), NT_PRSTATUS) + _OWNER + status
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
