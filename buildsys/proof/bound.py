"""Go's symbols that assembly names: bound to the addresses they have in this very image, at every place.

Go's symbols are local, so the build defines a global, absolute one of the same name beside
each. What that is worth is told from the image: from the symbol table, and from what every
relocation the linker kept made of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from buildsys.formats import a64
from buildsys.formats.elf import R_AARCH64_ABS64, R_AARCH64_CALL26, R_AARCH64_JUMP26, SHF_ALLOC
from buildsys.formats.symbols import SHN_ABS
from buildsys.proof.bootcode import at
from buildsys.proof.far import leads

if TYPE_CHECKING:
    from buildsys.proof.case import Case, Pair
    from buildsys.proof.redirects import Redirected

# ELF for the Arm 64-bit Architecture, 5.7: relocation codes.
R_AARCH64_ABS32, R_AARCH64_ADD_ABS_LO12_NC = 258, 277
_PAGES = (275, 276)  # ADR_PREL_PG_HI21 and its _NC
_NEAR = (274, R_AARCH64_ADD_ABS_LO12_NC)  # ADR_PREL_LO21, and what a linker may make an ADR of
_SCALES = {278: 0, 284: 1, 285: 2, 286: 3, 299: 4}  # LDST8 to LDST128_ABS_LO12_NC: log2 of the bytes moved
_GROUPS = {263: 0, 264: 0, 265: 1, 266: 1, 267: 2, 268: 2, 269: 3}  # MOVW_UABS_G0 to G3


class Binding(NamedTuple):
    """A symbol of Go's that assembly names: where Go's is, None if that cannot be told, and what it is bound to."""

    name: str
    real: int | None
    bound: int


class Use(NamedTuple):
    """A place that was made from a binding: its address, the relocation's type and addend."""

    binding: Binding
    place: int
    kind: int
    addend: int


def bindings(case: Case) -> dict[int, Binding]:
    """Every binding in the image, by the number of the absolute symbol."""
    absolutes = case.elf.symbols.absolutes()
    named = case.elf.symbols.named(*(symbol.name for symbol in absolutes.values()))
    found = {}
    for index, symbol in absolutes.items():
        gos = {each.value for each in named[symbol.name] if not each.is_global and each.section != SHN_ABS}
        if gos:
            found[index] = Binding(symbol.name, gos.pop() if len(gos) == 1 else None, symbol.value)
    return found


def uses(case: Case, bound: dict[int, Binding]) -> list[Use]:
    """Every place in memory that a relocation to one of `bound` filled in, lowest first."""
    found = []
    if bound:
        sections = case.elf.sections
        for table in case.elf.relocations():
            if table.target < len(sections) and sections[table.target].flags & SHF_ALLOC:
                for place, info, addend in zip(table.offsets, table.infos, table.addends, strict=True):
                    if info >> 32 in bound:
                        found.append(Use(bound[info >> 32], place, info & 0xFFFF_FFFF, addend))
    return sorted(found, key=lambda use: use.place)


def problems(case: Case, bound: dict[int, Binding], used: list[Use]) -> Iterator[str]:
    """What is wrong with bindings, each naming symbol and address."""
    for binding in bound.values():
        if binding.real is None:
            yield f"{binding.name} is several symbols of Go's: assembly that names it may mean any"
        elif binding.bound != binding.real:
            yield f"{binding.name} is at {binding.real:#x}, and bound to {binding.bound:#x} for assembly"
    for use in used:
        if use.binding.real is None:
            continue
        goal = use.binding.real + use.addend
        # A place that the user wants to stand for another function may: claim call-sites says whether it must.
        if wrong := min((wrong_at(case, use, each) for each in (goal, *_pointed(case, goal))), key=bool):
            yield f"{at(case.elf, use.place)} was made from the address of {use.binding.name}: {wrong}"


def wrong_at(case: Case, use: Use, goal: int) -> str:
    """What is wrong at a place that should stand for the address `goal`."""
    size = 8 if use.kind == R_AARCH64_ABS64 else 4
    word = case.elf.word(use.place, size)
    if word is None:
        return "the image has nothing there"
    if use.kind in (R_AARCH64_CALL26, R_AARCH64_JUMP26):
        target = a64.branch_target(word, use.place)
        return "" if leads(case.elf, target, _goals(case, goal)) else _differs("it goes to", target, goal)
    found: int | None
    if use.kind in (R_AARCH64_ABS64, R_AARCH64_ABS32):
        found, wanted = word, goal & (1 << 8 * size) - 1
    elif use.kind in _NEAR and (near := a64.adr(word, use.place)):  # a linker makes NOP and ADR of ADRP and ADD
        found, wanted = near[1], goal
    elif use.kind in _PAGES and word == a64.NOP:
        near = a64.adr(case.elf.word(use.place + 4) or 0, use.place + 4)
        found, wanted = near and near[1], goal
    elif use.kind in _PAGES:
        page = a64.adrp(word, use.place)
        found, wanted = page and page[1], goal & ~0xFFF
    elif use.kind == R_AARCH64_ADD_ABS_LO12_NC:
        found, wanted = word >> 10 & 0xFFF, goal & 0xFFF  # C6.2 ADD (immediate)
    elif use.kind in _SCALES:
        found, wanted = (word >> 10 & 0xFFF) << _SCALES[use.kind], goal & 0xFFF  # C6.2 LDR (immediate), unsigned
    elif use.kind in _GROUPS:
        found, wanted = word >> 5 & 0xFFFF, goal >> 16 * _GROUPS[use.kind] & 0xFFFF  # C6.2 MOVZ, MOVK
    else:
        return f"relocations of type {use.kind} are not understood"
    return "" if found == wanted else _differs("it holds", found, wanted)


def _differs(verb: str, found: int | None, wanted: int) -> str:
    return f"{verb} {'no address' if found is None else hex(found)}, not {wanted:#x}"


def _pointed(case: Case, goal: int) -> Iterator[int]:
    """What pointers to the function at `goal` are to point to instead, if the user asked for that."""
    for each in case.redirected.values():
        if each.asked.pointers and each.old and each.new and each.old.value == goal:
            yield each.new.value


def _goals(case: Case, goal: int) -> set[int]:
    """Where a branch to the function at `goal` may go: there, or, if calls of it are redirected, to ours instead."""
    users = [each for each in case.redirected.values() if each.asked.mode.at_calls]
    pairs: list[Pair | Redirected] = [*case.called.values(), *users]
    ours = {pair.new.value for pair in pairs if pair.old and pair.new and pair.old.value == goal}
    return ours or {goal}
