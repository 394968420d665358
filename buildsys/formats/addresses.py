"""Where an image holds the address of a function other than in a call: pointers in data, and code that forms it.

Decoded, which finds them in any image; and from the relocations a linker kept, which alone say what a word is:
only what a relocation says is an address may be made another. Relocation types: ELF for the Arm 64-bit
Architecture, 5.7. Sections named are those of the Arm Architecture Reference Manual (DDI 0487).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from buildsys.formats import a64
from buildsys.formats.callsites import conditional_sites, forming_sites
from buildsys.formats.elf import SHF_ALLOC, Elf
from buildsys.formats.references import Code, Reference, follow
from buildsys.formats.symbols import STT_FUNC, STT_NOTYPE, STT_OBJECT, STT_SECTION, Symbol

ABS64, ADR, ADRP, ADRP_NC, ADD_LO12 = 257, 274, 275, 276, 277
# TSTBR14, CONDBR19, JUMP26, CALL26: branches, which are redirected as such.
BRANCHES = frozenset({279, 280, 282, 283})
NOP = 0xD503_201F  # C6.2 NOP


class Held(NamedTuple):
    """One place that stands for the address `target`, by a relocation of type `kind`."""

    place: int
    kind: int
    target: int


class Moved(NamedTuple):
    """A place that is to stand for another address: `size` bytes, its value before and after."""

    place: int
    size: int
    before: int
    after: int
    target: int


class Left(NamedTuple):
    """A place that goes on to stand for `target`, and why."""

    place: int
    target: int
    why: str


def conditional(elf: Elf, targets: Iterable[int]) -> list[tuple[int, int]]:
    """Conditional branches to one of the functions at `targets` from outside it: (place, target)."""
    found = []
    for address, target in conditional_sites(elf, targets):
        function = elf.symbols.function_at(address)
        if function is None or function.value != target:
            found.append((address, target))
    return found


def formed(elf: Elf, code: Code, targets: Iterable[int]) -> list[tuple[int, Reference]]:
    """Every instruction that forms one of `targets` in a register: (target, the place)."""
    found = set()
    for site, target in forming_sites(elf, targets):
        for use in follow(code, code.body(site), site, target, 4):
            # A load or store that adds the offset within the page itself forms no address.
            if use.kind == "address" or use.placed != use.address:
                found.add((target, use._replace(address=use.placed, kind="address")))
    return sorted(found, key=lambda each: (each[0], each[1].address))


def held(elf: Elf, functions: Mapping[int, str]) -> list[Held] | None:
    """Every place that relocations make stand for one of `functions`, but branches; None if no linker kept any.

    `functions` are names by address. Other symbols may have the same address, such as one that marks where
    code begins: what a relocation makes of that is not the function's.
    """
    found, any_kept = [], False
    shared = {symbol.value for symbol in elf.symbols.valued(*functions) if _other(symbol, functions[symbol.value])}
    for table in elf.relocations():
        if table.target >= len(elf.sections) or not elf.sections[table.target].flags & SHF_ALLOC:
            continue
        any_kept = True
        values: dict[int, int] = {}
        for number in {info >> 32 for info in table.infos}:
            symbol = elf.symbols.place(number)
            values[number] = symbol[1] if symbol else -1 << 64
        for info, addend, place in zip(table.infos, table.addends, table.offsets, strict=True):
            target = values[info >> 32] + addend
            if target in functions and info & 0xFFFF_FFFF not in BRANCHES:
                named = elf.symbols.by_index(info >> 32)
                if named and (named.name == functions[target] or (named.kind == STT_SECTION and target not in shared)):
                    found.append(Held(place, info & 0xFFFF_FFFF, target))
    return sorted(found) if any_kept else None


def _other(symbol: Symbol, name: str) -> bool:
    return symbol.kind in (STT_NOTYPE, STT_OBJECT, STT_FUNC) and symbol.name not in (name, "") and symbol.name[0] != "$"


def moved(elf: Elf, places: Sequence[Held], to: Mapping[int, int]) -> tuple[list[Moved], list[Left]]:
    """What makes `places` stand for the new address, `to` by the old one; and those that cannot be made to.

    In one function it is all of the instructions or none: an ADRP may serve several others.
    """
    data, code = [], defaultdict(list)
    for each in places:
        if any(each.place in section for section in elf.code) and each.kind != ABS64:
            function = elf.symbols.function_at(each.place)
            code[function.value if function else each.place, each.target].append(each)
        else:
            data.append(each)
    changes: list[Moved] = []
    left: list[Left] = []
    for each in data:
        value = elf.word(each.place, 8)
        if each.kind == ABS64 and value == each.target and each.place % 4 == 0:
            changes.append(Moved(each.place, 8, value, to[each.target], each.target))
        else:
            why = f"a relocation of type {each.kind}, not an aligned pointer of 64 bits"
            left.append(Left(each.place, each.target, why))
    for together in code.values():
        found = [_instruction(elf, each, to[each.target]) for each in together]
        if reasons := [each for each in found if isinstance(each, Left)]:
            left += [Left(each.place, each.target, reasons[0].why) for each in together]
        else:
            changes += [each for each in found if isinstance(each, Moved) and each.before != each.after]
    return sorted(changes), sorted(left)


def _instruction(elf: Elf, use: Held, new: int) -> Moved | Left:
    """One instruction of those that form an address, made to form another."""
    word, place, target = elf.word(use.place) or 0, use.place, use.target
    after = None
    if use.kind in (ADRP, ADRP_NC):
        if word == NOP:  # a linker that finds the function near makes NOP and ADR of ADRP and ADD
            after = word
        elif a64.adrp(word, place) == (word & 31, target & ~0xFFF):
            after = _with_immediate(word, (new >> 12) - (place >> 12))
    elif use.kind == ADD_LO12 and (added := a64.add_immediate(word)) and added[2] == target & 0xFFF:
        after = word & ~(0xFFF << 10) | (new & 0xFFF) << 10  # C6.2 ADD (immediate)
    if after is None and a64.adr(word, place) == (word & 31, target) and use.kind in (ADD_LO12, ADR):
        if not -1 << 20 <= new - place < 1 << 20:
            return Left(place, target, f"an ADR at {place:#x} reaches 1 MiB")
        after = _with_immediate(word, new - place)
    if after is None:
        return Left(place, target, f"{word:08x} at {place:#x}, by a relocation of type {use.kind}, forms no address")
    return Moved(place, 4, word, after, target)


def _with_immediate(word: int, value: int) -> int:
    """C6.2 ADR, ADRP: immhi in bits 5 to 23, immlo in bits 29 and 30."""
    return word & 0x9F00_001F | (value & 3) << 29 | (value >> 2 & 0x7FFFF) << 5
