"""What the configuration promised the kernel, told from the image: `symbols` and `literals`.

The road is another than the build's: it begins at the Go object as Go made it. Each place of it that
refers to a variable which stands for a linker's symbol, and each number that was to become an
address, is looked up in the linked image, by how far the linker moved the section it is in.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from buildsys.config.expected import Literal, Place
from buildsys.formats.callsites import words_of
from buildsys.formats.elf import SHF_ALLOC, Section
from buildsys.formats.rewriting import CHECKED, UNCHECKED, Formed, formed, section_symbols
from buildsys.formats.symbols import SHN_ABS, SHN_UNDEF, STT_FUNC, Symbol
from buildsys.proof.bootcode import at
from buildsys.proof.bound import Binding, Use, wrong_at

if TYPE_CHECKING:
    from buildsys.proof.case import Case

_MOVES = frozenset({*CHECKED, *UNCHECKED})
_HALF = 0xFFFF << 5  # C6.2 MOVZ, MOVK: the immediate


@dataclass(frozen=True)
class Kept:
    """What was found of the promises.

    Where each symbol is, how many places of Go's refer to them, and where the instructions are that hold
    an address in the place of a number.
    """

    symbols: dict[str, int]
    places: int
    instructions: frozenset[int]
    problems: tuple[str, ...]


def kept(case: Case) -> Kept:
    """Look up every promise of the configuration in the image."""
    if not case.expected.symbols and not case.expected.literals:
        return Kept({}, 0, frozenset(), ())
    problems: list[str] = []
    symbols: dict[str, int] = {}
    for name, place in case.expected.symbols:
        wanted, found = address(case, place), _defined(case, name)
        if wanted is None or found is None:
            problems.append(f"{place if wanted is None else name} is no symbol of the image, or several")
        elif wanted != found:
            problems.append(f"{name} is {found:#x}, and {place} is {wanted:#x}")
        else:
            symbols[name] = wanted
    moved = {section.index: _moved(case, section) for section in case.object.sections if section.flags & SHF_ALLOC}
    places = 0
    for name, goal in symbols.items():
        for use in _uses(case, name, goal, moved):
            places += 1
            if wrong := wrong_at(case, use, goal + use.addend):
                problems.append(f"{at(case.elf, use.place)} was made from the address of {name}: {wrong}")
    instructions: set[int] = set()
    for literal in case.expected.literals:
        problems += _literal(case, literal, moved, instructions)
    problems += _others(case, instructions)
    return Kept(symbols, places, frozenset(instructions), tuple(problems))


def address(case: Case, place: Place) -> int | None:
    """The address `place` is in the image; None if its symbol is none there, or several."""
    if not place.base:
        return place.offset
    found = _defined(case, place.base)
    return None if found is None else found + place.offset


def _defined(case: Case, name: str) -> int | None:
    """The one address of `name`; absolute symbols that are bound to another of the name are that one."""
    every = case.elf.symbols.named(name)[name]
    values = {each.value for each in every if each.section != SHN_ABS} or {each.value for each in every}
    return values.pop() if len(values) == 1 else None


def _moved(case: Case, section: Section) -> int | None:
    """How far the linker moved `section` of the Go object: told from its symbols; None if they do not agree."""
    here = [each for each in case.object.symbols.all() if each.section == section.index and each.name]
    named = case.elf.symbols.named(*(each.name for each in here))
    found = set()
    for each in here:
        bearers = [one for one in named[each.name] if not one.is_global and one.section != SHN_ABS]
        if len(bearers) == 1:
            found.add(bearers[0].value - each.value)
    return found.pop() if len(found) == 1 else None


def _uses(case: Case, name: str, goal: int, moved: dict[int, int | None]) -> Iterator[Use]:
    """Every place in memory that Go made from the address of its variable `name`."""
    go = case.object
    bearers = {
        number: symbol
        for number in range(len(go.symbols))
        if (symbol := go.symbols.by_index(number)) and symbol.name == name and symbol.section != SHN_UNDEF
    }
    sections = section_symbols(go) if bearers else {}
    for table in go.relocations() if bearers else ():
        if not go.sections[table.target].flags & SHF_ALLOC:
            continue
        for offset, info, addend in zip(table.offsets, table.infos, table.addends, strict=True):
            number, into = info >> 32, 0
            if number in sections:
                held = (each for each in bearers.values() if each.section == sections[number])
                into = next((each.value for each in held if each.value <= addend < each.end), -1)
            if number in bearers or (number in sections and into >= 0):
                place = offset + (moved[table.target] or 0)
                yield Use(Binding(name, goal, goal), place, info & 0xFFFF_FFFF, addend - into)


def _literal(case: Case, literal: Literal, moved: dict[int, int | None], instructions: set[int]) -> Iterator[str]:
    """What is wrong with the instructions of a function that held a number and are to hold an address."""
    go, wanted = case.object, address(case, literal.place)
    functions = [
        each
        for each in go.symbols.named(literal.function)[literal.function]
        if each.kind == STT_FUNC and each.section != SHN_UNDEF
    ]
    if not functions and wanted is not None and (routine := _routine(case, literal.function)):
        yield from _in_assembly(case, literal, routine, wanted, instructions)
        return
    if len(functions) != 1 or wanted is None:
        yield f"{literal.place if functions else literal.function} is no symbol of the image, or several"
        return
    function = functions[0]
    section, shift = go.sections[function.section], moved[function.section]
    if shift is None:
        yield f"where {section.name} of the Go object is in the image cannot be told"
        return
    words = words_of(go, section)[function.value >> 2 : (function.value + function.size) >> 2]
    held = [each for each in formed(words, function.value) if each.value == literal.value]
    if not held:
        yield f"{literal.function} held no {literal.value:#x} as Go made it"
    for each in held:
        place, count = each.at + shift, len(each.groups)
        instructions.update(range(place, place + 4 * count, 4))
        yield from _held(case, literal, each, place, wanted)


def _routine(case: Case, name: str) -> Symbol | None:
    """The one routine of the user's assembly that is called `name`."""
    found = [each for each in case.elf.symbols.named(name)[name] if each.kind == STT_FUNC and each.is_global]
    return found[0] if len(found) == 1 else None


def _in_assembly(case: Case, literal: Literal, routine: Symbol, wanted: int, instructions: set[int]) -> Iterator[str]:
    """What is wrong with a routine of assembly: as it was assembled it is nowhere kept, so the number must be gone."""
    words = [case.elf.word(place) or 0 for place in range(routine.value, routine.end, 4)]
    every = list(formed(words, routine.value))
    held = [each for each in every if each.value == wanted]
    for each in held:
        instructions.update(range(each.at, each.at + 4 * len(each.groups), 4))
    if not held:
        yield f"{literal.function} does not hold {wanted:#x}, which {literal.place} is"
    if literal.value != wanted and any(each.value == literal.value for each in every):
        yield f"{literal.function} still holds {literal.value:#x}, which was to be {literal.place}"


def _held(case: Case, literal: Literal, before: Formed, place: int, wanted: int) -> Iterator[str]:
    """The instructions at `place` must be the same as `before`, but for what they put into their register."""
    now = 0
    section = case.object.sections[case.object.symbols.named(literal.function)[literal.function][0].section]
    for number, group in enumerate(before.groups):
        word = case.elf.word(place + 4 * number)
        old = words_of(case.object, section)[(before.at >> 2) + number]
        if word is None or (word ^ old) & ~_HALF:
            yield f"{at(case.elf, place + 4 * number)} is not the instruction that held a part of {literal.value:#x}"
            return
        now |= (word >> 5 & 0xFFFF) << 16 * group
    if now != wanted:
        yield f"{at(case.elf, place)} holds {now:#x}, not {wanted:#x}, which {literal.place} is"


def _others(case: Case, instructions: set[int]) -> Iterator[str]:
    """What the linker's relocations made an address of, and no literal of the configuration's is, or the reverse."""
    found: set[int] = set()
    for table in case.elf.relocations():
        if table.target < len(case.elf.sections) and case.elf.sections[table.target].flags & SHF_ALLOC:
            found |= {
                place
                for place, info in zip(table.offsets, table.infos, strict=True)
                if info & 0xFFFF_FFFF in _MOVES and (place in instructions or _of_go(case, place))
            }
    for place in sorted(found - instructions):
        yield f"{at(case.elf, place)} was made from an address by the linker, and `literals` does not say so"
    for place in sorted(instructions - found):
        yield f"{at(case.elf, place)} was to be made from an address by the linker, and was not"


def _of_go(case: Case, place: int) -> bool:
    """Whether the function at `place` is Go's; assembly of the user's may have such relocations of its own."""
    function = case.elf.symbols.function_at(place)
    return function is not None and not function.is_global
