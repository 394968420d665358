"""Renaming: every local symbol of a relocatable object gets a prefix, so that two objects of Go's can be told apart.

All of Go's symbols are local, and two Go objects have thousands of the same names. The linker does not
mind; whoever looks for an address by its name would.
"""

from __future__ import annotations

import struct
from itertools import accumulate

from buildsys.errors import UserError
from buildsys.formats.elf import SHT_SYMTAB, Elf
from buildsys.formats.symbols import SHN_UNDEF, STB_LOCAL

# Places in an Elf64_Ehdr, e_shoff, and in an Elf64_Shdr, sh_offset; an Elf64_Shdr's bytes, an Elf64_Sym's.
_SECTION_HEADERS, _OFFSET_AND_SIZE, _SECTION_SIZE, _SYMBOL_SIZE = 0x28, 24, 64, 24


def prefixed(elf: Elf, prefix: str) -> bytes:
    """The object `elf` with `prefix` before the name of each local symbol that has one. Raises UserError.

    What is undefined or global keeps its name: others know it by that. So do mapping symbols ($x, $d).
    """
    table = next((section for section in elf.sections if section.kind == SHT_SYMTAB), None)
    if table is None or not 0 < table.link < len(elf.sections):
        raise UserError(f"{elf.name}: has no symbol table", "leave -s out of `ldflags`")
    strings = elf.sections[table.link]
    if strings.name == ".shstrtab":
        raise UserError(f"{elf.name}: has the names of its symbols and of its sections in one table")
    old, mark = bytes(elf.contents(strings)), prefix.encode()
    if old[:1] != b"\0" or old[-1:] != b"\0":
        raise UserError(f"{elf.name}: damaged: its symbols' names cannot be right")
    # A name moves by the prefixes before it; what is to keep its name begins behind the prefix.
    new = b"\0" + b"".join(mark + name + b"\0" for name in old[1:].split(b"\0")[:-1])
    counts = list(accumulate(1 if byte == 0 else 0 for byte in old))
    symbols = bytearray(elf.contents(table))
    for at in range(0, len(symbols), _SYMBOL_SIZE):
        name, info, _, section = struct.unpack_from("<IBBH", symbols, at)
        if name == 0 or name >= len(old):
            continue
        start = name + len(mark) * counts[name - 1]  # where its own bytes are now
        local = info >> 4 == STB_LOCAL and section != SHN_UNDEF and old[name : name + 1] != b"$"
        if local and old[name - 1 : name] == b"\0":
            start -= len(mark)
        elif local:
            raise UserError(f"{elf.name}: the name of a symbol is the end of another's: it cannot be renamed")
        struct.pack_into("<I", symbols, at, start)
    changed = bytearray(elf.data)
    changed[table.offset : table.offset + table.size] = symbols
    header = struct.unpack_from("<Q", elf.data, _SECTION_HEADERS)[0] + _SECTION_SIZE * strings.index
    # The longer table goes to the end: what was there stays where it is.
    struct.pack_into("<QQ", changed, header + _OFFSET_AND_SIZE, len(changed), len(new))
    return bytes(changed + new)
