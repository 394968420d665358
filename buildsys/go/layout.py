"""Where the fields of runtime structures lie, read from the DWARF of the Go object at hand.

The Go linker writes one structure DIE per type, its name inline as the first
attribute (cmd/internal/dwarf, DW_ABRV_STRUCTTYPE), so the name is searched for
in the bytes and only that DIE is parsed: a full walk of the runtime's compile
units would cost more than the rest of the build.
"""

from __future__ import annotations

from collections.abc import Iterable
from io import BytesIO
from typing import Any

from buildsys.errors import UserError

# The fields boot code fills in: src/runtime/runtime2.go, type g and type stack.
WANTED = {
    "runtime.g": ("stack", "stackguard0", "stackguard1", "m"),
    "runtime.stack": ("lo", "hi"),
}


def layouts(go_object: bytes, name: str) -> dict[str, int]:
    """Byte offsets of the `WANTED` fields: {"runtime.g.stack": 0, ..., "runtime.g": size}.

    Raises UserError if the object has no DWARF for one of them.
    """
    from elftools.common.exceptions import DWARFError, ELFError
    from elftools.elf.elffile import ELFFile

    try:
        elf: Any = ELFFile(BytesIO(go_object))
        if not elf.has_dwarf_info():
            raise UserError(f"{name}: has no DWARF", "do not build with -ldflags=-w: struct offsets come from it")
        # Fields lie at constant offsets: nothing that is needed is relocated.
        dwarf: Any = elf.get_dwarf_info(relocate_dwarf_sections=False)
        info = dwarf.debug_info_sec.stream.getvalue()
        found: dict[str, int] = {}
        for structure, fields in WANTED.items():
            die = _structure(dwarf, info, structure)
            if die is None:
                raise UserError(f"{name}: its DWARF does not describe {structure}")
            found[structure] = die.attributes["DW_AT_byte_size"].value
            found |= _offsets(die, structure, fields, name)
    except (ELFError, DWARFError) as error:
        raise UserError(f"{name}: its DWARF cannot be read: {error}") from error
    return found


def _structure(dwarf: Any, info: bytes, structure: str) -> Any | None:
    needle, at = structure.encode() + b"\0", 0
    while (at := info.find(needle, at + 1)) >= 0:
        # The abbreviation code before the name is one byte: Go uses fewer than 128.
        try:
            die = dwarf.get_CU_containing(at).get_DIE_from_refaddr(at - 1)
        except (KeyError, ValueError, IndexError):
            continue  # these bytes are not the start of a DIE
        named = die.attributes.get("DW_AT_name") if die.tag == "DW_TAG_structure_type" else None
        if named and named.offset == at and named.value == structure.encode():
            return die
    return None


def _offsets(die: Any, structure: str, fields: Iterable[str], name: str) -> dict[str, int]:
    members = {
        child.attributes["DW_AT_name"].value.decode(): child.attributes["DW_AT_data_member_location"].value
        for child in die.iter_children()
        if child.tag == "DW_TAG_member"
    }
    for field in fields:
        if field not in members:
            raise UserError(f"{name}: {structure} has no field {field!r} in this Go release")
    return {f"{structure}.{field}": members[field] for field in fields}
