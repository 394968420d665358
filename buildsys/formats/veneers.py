"""Veneers: the few instructions a linker puts in the way of a branch whose target is more than 128 MiB away.

A branch to a veneer is a branch to where the veneer goes. What a veneer is, its
instructions say: from the first on, they do nothing but compute an address in
x16 or x17, the registers that are a linker's for this (AAPCS64, 6.1.1), and
branch to it. GNU ld and gold write ADRP, ADD, BR, or a distance after the BR
that is added to where it stands; lld the same, or the address itself after the
BR, or four moves. Go's linker does as GNU ld, with x27.

Somebody's own function may do that too, and mean the very function it names. So
what bears a name of its own, or lies inside a function, is no linker's.
A veneer that is a single `b` is a call site like any other and none of these.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from buildsys.formats import a64
from buildsys.formats.a64 import BRANCH_RANGE, OutOfRangeError
from buildsys.formats.elf import Elf

SCRATCH = (16, 17, 27)
LONGEST = 6  # instructions: a landing pad, four moves, the branch
# The names linkers give: lld, GNU ld, mold, Go's. gold gives none.
_MADE = re.compile(r"__AArch64\w*Thunk_|__.*_veneer$|.*\$thunk|.*-tramp\d+$", re.DOTALL)
_GOS = re.compile(r".*-tramp\d+$", re.DOTALL)
_PADS = (0xD503_201F, 0xD503_241F, 0xD503_245F, 0xD503_249F, 0xD503_24DF)  # C6.2 NOP, BTI
_JUMPS = frozenset(0xD61F_0000 | register << 5 for register in SCRATCH)  # C6.2 BR
_PAGE, _MASK64 = 0xFFF, (1 << 64) - 1


@dataclass(frozen=True)
class Veneer:
    """A veneer at `address` .. `end` that goes to `target`.

    `parts` says by which instructions it knows its target: by address, what each is ("adrp", "add",
    "literal", "move").
    """

    address: int
    end: int
    target: int
    register: int
    parts: Mapping[int, str] = field(default_factory=lambda: MappingProxyType({}))


def decode(elf: Elf, address: int) -> Veneer | None:
    """The veneer that begins at `address`; None if what stands there is none, whatever it is called."""
    known: dict[int, int] = {}
    parts: dict[int, str] = {}
    end = 0
    for at in range(address, address + 4 * LONGEST, 4):
        word = elf.word(at)
        if word is None:
            return None
        if word & 0xFFFF_FC1F == 0xD61F_0000:  # C6.2 BR
            register = word >> 5 & 31
            if register not in known:
                return None
            return Veneer(address, max(end, at + 4), known[register], register, parts)
        if word in _PADS and not known:
            continue
        made = _computed(elf, word, at, known)
        if made is None or made[0] not in SCRATCH:
            return None
        known[made[0]] = made[1] & _MASK64
        if made[2]:
            parts[made[3]] = made[2]
            end = made[3] + 8 if made[2] == "literal" else end
    return None


def _computed(elf: Elf, word: int, at: int, known: Mapping[int, int]) -> tuple[int, int, str, int] | None:
    """What an instruction of a veneer computes: (register, value, what part it is, where that stands); else None."""
    if formed := a64.adrp(word, at):
        return (*formed, "adrp", at)
    if formed := a64.adr(word, at):
        return (*formed, "", at)
    if (added := a64.add_immediate(word)) and added[1] in known:
        return added[0], known[added[1]] + added[2], "add", at
    if moved := a64.move_wide(word):
        name, register, value, shift = moved
        if name == "movk" and register not in known:
            return None
        kept = known[register] & ~(0xFFFF << shift) if name == "movk" else 0
        return register, kept | value << shift, "move", at
    if word & 0xFFE0_FC00 == 0x8B00_0000:  # C6.2 ADD (shifted register), not shifted
        first, second = word >> 5 & 31, word >> 16 & 31
        return (word & 31, known[first] + known[second], "", at) if first in known and second in known else None
    if word >> 24 == 0x58:  # C6.2 LDR (literal), 64-bit
        place = at + 4 * a64.sign_extend(word >> 5, 19)
        # Its own literal: right behind it, among the same code.
        own = at < place <= at + 4 * LONGEST and any(at in each and place + 8 <= each.end for each in elf.code)
        loaded = elf.word(place, 8) if own else None
        return None if loaded is None else (word & 31, loaded, "literal", place)
    return None


def retargeted(elf: Elf, veneer: Veneer, target: int) -> dict[int, bytes]:
    """What must stand where for `veneer` to go to `target`, by address. Raises OutOfRangeError if it cannot."""
    delta, made = target - veneer.target, dict[int, bytes]()
    kinds = sorted(veneer.parts.values())
    for at, kind in veneer.parts.items():
        word = elf.word(at) or 0
        if kind == "literal" and kinds == ["literal"]:  # the address itself, or the distance to it
            made[at] = ((elf.word(at, 8) or 0) + delta & _MASK64).to_bytes(8, "little")
        elif kind == "adrp" and kinds == ["add", "adrp"]:
            made[at] = encode_adrp(word & 31, at, target).to_bytes(4, "little")
        elif kind == "add" and kinds == ["add", "adrp"] and not word >> 22 & 1:
            made[at] = (word & ~(_PAGE << 10) | (target & _PAGE) << 10).to_bytes(4, "little")
        elif kind == "move" and set(kinds) == {"move"}:
            shift = 16 * (word >> 21 & 3)
            made[at] = (word & ~(0xFFFF << 5) | (target >> shift & 0xFFFF) << 5).to_bytes(4, "little")
        else:
            raise OutOfRangeError(f"the veneer at {veneer.address:#x} is of no kind that can be changed")
    shifts = {16 * ((elf.word(at) or 0) >> 21 & 3) for at, kind in veneer.parts.items() if kind == "move"}
    if shifts and any(target >> shift & 0xFFFF for shift in range(0, 64, 16) if shift not in shifts):
        raise OutOfRangeError(f"the veneer at {veneer.address:#x} has no room for the address {target:#x}")
    return made


def encode_adrp(register: int, address: int, target: int) -> int:
    """C6.2 ADRP at `address` of the 4 KiB page `target` is in. Raises OutOfRangeError beyond 4 GiB."""
    pages = (target >> 12) - (address >> 12)
    if not -(1 << 20) <= pages < 1 << 20:
        raise OutOfRangeError(f"{target:#x} is more than 4 GiB from {address:#x}")
    return 0x9000_0000 | (pages & 3) << 29 | (pages >> 2 & 0x7_FFFF) << 5 | register


def veneer_to(address: int, target: int) -> bytes:
    """A veneer for `address` that goes to `target`: ADRP, ADD, BR, by x16. Raises OutOfRangeError beyond 4 GiB."""
    words = (encode_adrp(16, address, target), 0x9100_0210 | (target & _PAGE) << 10, 0xD61F_0200)
    return b"".join(word.to_bytes(4, "little") for word in words)


def is_far(elf: Elf) -> bool:
    """Whether a branch may be unable to reach all of the code, so that a linker has reason to make veneers."""
    code = elf.code
    return bool(code) and max(each.end for each in code) - min(each.address for each in code) > BRANCH_RANGE


def veneers_to(elf: Elf, targets: Container[int]) -> dict[int, Veneer]:
    """The linker's veneers that go to one of `targets`, by where they begin. None in an image a branch can span."""
    if not is_far(elf):
        return {}
    return {veneer.address: veneer for veneer in _all(elf) if veneer.target in targets and made_by_linker(elf, veneer)}


def final(elf: Elf, address: int) -> int:
    """Where a branch to `address` leads: what is there, or where the veneer that is there goes."""
    veneer = decode(elf, address) if is_far(elf) else None
    return veneer.target if veneer and made_by_linker(elf, veneer) else address


def _all(elf: Elf) -> Iterator[Veneer]:
    """Whatever has the form of a veneer; one with a landing pad twice, for it may be entered behind it."""
    for section in elf.code:
        contents = elf.contents(section)
        at = contents.find(b"\x1f\xd6")  # the upper half of C6.2 BR; a search that begins with zeros would be slow
        while at >= 0:
            last = section.address + at - 2
            branch = int.from_bytes(contents[max(at - 2, 0) : at + 2], "little")
            if last % 4 == 0 and branch in _JUMPS:
                for first in range(last - 4, max(last - 4 * LONGEST, section.address - 4), -4):
                    found = decode(elf, first)
                    if found and first + 4 * LONGEST > last and found.end >= last + 4:
                        yield found
            at = contents.find(b"\x1f\xd6", at + 1)


def made_by_linker(elf: Elf, veneer: Veneer) -> bool:
    """Whether nobody else claims it: it bears a linker's name, or none and lies in no function."""
    function = elf.symbols.function_at(veneer.address)
    if function and function.value == veneer.address:
        return bool(_MADE.match(function.name)) and (veneer.register != 27 or bool(_GOS.match(function.name)))
    inside = function is not None and function.size and veneer.address < function.end
    return not inside and veneer.register != 27
