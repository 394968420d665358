"""Where the fields of runtime structures lie, read from the DWARF of the Go object at hand."""

from __future__ import annotations

from buildsys.errors import UserError
from buildsys.formats.dwarf import layout
from buildsys.formats.elf import SHF_COMPRESSED, Elf

# The fields boot code and reports fill in: src/runtime/runtime2.go.
WANTED = {
    "runtime.g": ("stack", "stackguard0", "stackguard1", "m"),
    "runtime.stack": ("lo", "hi"),
    "runtime.m": ("g0", "curg", "p"),
    "runtime.p": ("deferpool",),
    "runtime._panic": ("arg",),
    "runtime.moduledata": ("minpc", "maxpc"),
}
# What some releases only have: up to Go 1.26 a module's itabs are in a list of their own.
SOMETIMES = {"runtime.moduledata": ("itablinks",)}


def layouts(elf: Elf) -> dict[str, int]:
    """Byte offsets of the fields `WANTED`, and of those there are of `SOMETIMES`: {"runtime.g.stack": 0, ...}.

    And each structure's size, by its name.

    Raises UserError if the object has no DWARF for one of them.
    """
    info, abbrev = elf.section(".debug_info"), elf.section(".debug_abbrev")
    if info is None or abbrev is None:
        raise UserError(f"{elf.name}: has no DWARF", "leave -w and -s out of `ldflags`: struct offsets come from it")
    if (info.flags | abbrev.flags) & SHF_COMPRESSED:
        raise UserError(f"{elf.name}: its DWARF is compressed", "add -compressdwarf=false to ldflags")
    found: dict[str, int] = {}
    for structure, fields in WANTED.items():
        described = layout(elf.contents(info), elf.contents(abbrev), structure)
        if described is None:
            raise UserError(f"{elf.name}: its DWARF does not describe {structure}")
        found[structure] = described[""]
        for field in fields:
            if field not in described:
                raise UserError(f"{elf.name}: {structure} has no field {field!r} in this Go release")
            found[f"{structure}.{field}"] = described[field]
        found |= {f"{structure}.{at}": described[at] for at in SOMETIMES.get(structure, ()) if at in described}
    return found
