"""The ways to a function that no re-encoded call catches, as far as one file tells.

What cannot be told: a copy the compiler put into a caller, and an address computed in another way than by
ADRP or ADR and what follows, or held only at run time.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NamedTuple

from buildsys.formats.addresses import conditional, formed
from buildsys.formats.callsites import data_sites, marked, marking
from buildsys.formats.elf import SHT_RELA, Elf
from buildsys.formats.patch import address_takers
from buildsys.formats.references import Code
from buildsys.formats.symbols import SHN_UNDEF

SHT_DYNSYM = 11
# AAELF64, 5.7.12: relocations a dynamic linker resolves.
ABS64, GLOB_DAT, JUMP_SLOT, RELATIVE, IRELATIVE = 257, 1025, 1026, 1027, 1032


class Way(NamedTuple):
    """Something at `address` that leads to the function at `target`, and is no call of it.

    `kind` is "conditional" (a branch), "formed" (an instruction that makes the address), "pointer" (in data),
    "literal" (a pointer among code), "relocation" (a pointer the loader makes), "import" (a slot that calls of the
    function by its name go through), or "data" (marked as data among code, and looks like a call).
    """

    target: int
    address: int
    kind: str


def other_ways(elf: Elf, targets: Collection[int]) -> list[Way]:
    """Every other way to one of `targets`, by target and address.

    The function's own conditional branches back to its first instruction are not among them.
    """
    found = {
        *(Way(target, at, "pointer") for at, target in address_takers(elf, list(targets))),
        *(Way(to, at, "conditional") for at, to in conditional(elf, targets) if not elf.mapping.is_data(at)),
        *_formed(elf, targets),
        *_literals(elf, targets),
        *_dynamic(elf, targets),
        *(Way(target, at, "data") for at, target in data_sites(elf, targets)),
    }
    # In a file whose pointers the loader makes, some linkers write them as well; and its tables hold addresses.
    made = {(way.target, way.address) for way in found if way.kind == "relocation"}
    tables = [each for each in elf.sections if each.kind in (SHT_RELA, SHT_DYNSYM)]
    return sorted(
        way
        for way in found
        if way.kind != "pointer"
        or ((way.target, way.address) not in made and not any(way.address in table for table in tables))
    )


def _formed(elf: Elf, targets: Collection[int]) -> Iterator[Way]:
    for target, use in formed(elf, Code(elf), targets):
        if not elf.mapping.is_data(use.formed):
            yield Way(target, use.address, "formed")


def _literals(elf: Elf, targets: Collection[int]) -> Iterator[Way]:
    tables = [marking(target >> 8 * at for target in targets) for at in range(4)]
    for section in elf.code:
        contents = elf.contents(section)[: section.size & ~3]
        for at in marked(*(contents[lane::4].translate(table) for lane, table in enumerate(tables))):
            value = int.from_bytes(contents[4 * at : 4 * at + 8], "little")
            if value in targets:
                yield Way(value, section.address + 4 * at, "literal")


def _dynamic(elf: Elf, targets: Collection[int]) -> Iterator[Way]:
    """What the relocations for a dynamic linker make of the functions."""
    for table in elf.relocations(loaded=True):
        named = elf.dynamic_symbols(table.symbols) if any(info >> 32 for info in table.infos) else None
        for info, addend, place in zip(table.infos, table.addends, table.offsets, strict=True):
            kind = info & 0xFFFF_FFFF
            if kind in (RELATIVE, IRELATIVE) and addend in targets:
                yield Way(addend, place, "relocation")
            elif named and kind in (ABS64, GLOB_DAT, JUMP_SLOT) and (symbol := named.by_index(info >> 32)):
                value = symbol.value + (addend if kind == ABS64 else 0)
                if value in targets and symbol.section != SHN_UNDEF:
                    yield Way(value, place, "import" if kind == JUMP_SLOT else "relocation")
