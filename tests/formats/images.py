"""ELF files made by hand: small, and as wrong as a test wants them."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

from buildsys.formats.elf import ET_EXEC, Elf

PROGBITS, SYMTAB, STRTAB, NOBITS = 1, 2, 3, 8
WRITE, ALLOC, CODE = 1, 2, 4
LOCAL, GLOBAL = 0, 1
NOTYPE, OBJECT, FUNC = 0, 1, 2

HEADER, SECTION, SEGMENT, SYMBOL = 64, 64, 56, 24


@dataclass(frozen=True)
class Part:
    """A section with contents; a loaded one gets a program header."""

    name: str
    address: int
    data: bytes
    flags: int = ALLOC | CODE
    kind: int = PROGBITS


@dataclass(frozen=True)
class Name:
    """A symbol in the section numbered `section`, counted from 1 as in the file."""

    name: str
    value: int
    size: int = 0
    kind: int = FUNC
    binding: int = LOCAL
    section: int = 1


@dataclass
class Strings:
    """A string table that grows."""

    data: bytes = b"\0"
    known: dict[str, int] = field(default_factory=dict)

    def at(self, text: str) -> int:
        if text not in self.known:
            self.known[text] = len(self.data)
            self.data += text.encode() + b"\0"
        return self.known[text]


def words(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}I", *values)


def image(parts: Sequence[Part], names: Sequence[Name] = (), kind: int = ET_EXEC, entry: int = 0) -> bytes:
    """An AArch64 ELF file of `parts` in the order given, then symbols, strings and section headers."""
    strings, titles = Strings(), Strings()
    table = bytes(SYMBOL) + b"".join(
        struct.pack("<IBBHQQ", strings.at(n.name), n.binding << 4 | n.kind, 0, n.section, n.value, n.size)
        for n in names
    )
    loaded = [part for part in parts if part.flags & ALLOC]
    at = HEADER + SEGMENT * len(loaded)
    body, headers, segments = b"", [bytes(SECTION)], []
    extra = [
        (Part(".symtab", 0, table, 0, SYMTAB), len(parts) + 2, SYMBOL),
        (Part(".strtab", 0, strings.data, 0, STRTAB), 0, 0),
        (Part(".shstrtab", 0, b"", 0, STRTAB), 0, 0),
    ]
    for part, link, size in [*((part, 0, 0) for part in parts), *extra]:
        title = titles.at(part.name)
        data = titles.data if part.name == ".shstrtab" else part.data
        padding = -(at + len(body)) % 16
        body += bytes(padding)
        offset = at + len(body)
        headers.append(
            struct.pack("<IIQQQQIIQQ", title, part.kind, part.flags, part.address, offset, len(data), link, 0, 4, size)
        )
        if part.flags & ALLOC:
            rights = 4 | 2 * bool(part.flags & WRITE) | bool(part.flags & CODE)
            stored = 0 if part.kind == NOBITS else len(data)
            segments.append(
                struct.pack("<IIQQQQQQ", 1, rights, offset, part.address, part.address, stored, len(data), 4)
            )
        if part.kind != NOBITS:
            body += data
    table_at = at + len(body)
    identity = b"\x7fELF\x02\x01\x01" + bytes(9)
    header = struct.pack(
        "<16sHHIQQQIHHHHHH",
        identity, kind, 183, 1, entry, HEADER if segments else 0, table_at, 0,
        HEADER, SEGMENT, len(segments), SECTION, len(headers), len(headers) - 1,
    )  # fmt: skip
    return header + b"".join(segments) + body + b"".join(headers)


def elf(parts: Sequence[Part], names: Sequence[Name] = ()) -> Elf:
    return Elf(image(parts, names), "made.elf")
