"""Which of the slots of a barrier call get the old pointer of a store, and which the new one.

The compiler writes pointers, without a word on what they are: each value stored, unless it is known
to be no heap pointer or was written for another store of the group, and what each place stored to
held, unless that is known to be nil (cmd/compile/internal/ssa/writebarrier.go). So the line of code
around the call is followed with symbols in the place of values: a slot that gets what was loaded
from where a store goes has its old pointer, a slot that gets what it stores the new one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from buildsys.formats import a64
from buildsys.formats.elf import Elf
from buildsys.proof.groups import SLOTS, STACK, ZERO, Access, access, group_of

# A value: ("number", n), ("+", value, n), ("load", place, after how many stores), ("slots", call), or an
# instruction and its operands. Two that are equal are the same value at run time.
Value = tuple[Any, ...]

_CLOBBERED = (16, 17, 27, 30)  # by a call of a barrier
_WORD = (1 << 64) - 1


@dataclass(frozen=True)
class Stored:
    """One store of a group: `old` and `new` are numbers of slots, None where the pointer was not recorded.

    `to` is where it goes and `value` what it stores, where the code alone says so.
    """

    old: int | None
    new: int | None
    to: int | None
    value: int | None


@dataclass(frozen=True)
class Pairing:
    """The stores of one call, and its slots that belong to none of them as far as can be told."""

    stores: tuple[Stored, ...]
    others: tuple[int, ...]


def pairing(elf: Elf, site: int, slots: int, ours: Mapping[int, str]) -> Pairing:
    """What the `slots` slots of the barrier call at `site` are; `ours` are the barriers, by address."""
    group = group_of(elf, site, ours, ())
    if group is None:
        return Pairing((), tuple(range(slots)))
    followed = _Followed()
    for at in group.line:
        word = elf.word(at)
        if word is None:
            break
        followed.execute(word, at, at in group.calls)
    own = followed.slots.get(site, {})
    found: list[Stored] = []
    used: set[int | None] = set()
    for place, value in followed.stores:
        old = next((slot for slot, held in own.items() if held[0] == "load" and held[1] == place), None)
        new = next((slot for slot, held in own.items() if held == value), None)
        if old is not None or new is not None:
            found.append(Stored(old, new, _number(place), _number(value)))
            used.update((old, new))
    return Pairing(tuple(found), tuple(slot for slot in range(slots) if slot not in used))


def _number(value: Value) -> int | None:
    return value[1] if value[0] == "number" else None


@dataclass
class _Followed:
    """Registers and stack as a line of code has them; what it wrote to which slots, and its other stores."""

    registers: list[Value] = field(default_factory=lambda: [("register", number) for number in range(32)])
    stack: dict[Value, Value] = field(default_factory=dict)
    slots: dict[int, dict[int, Value]] = field(default_factory=dict)
    stores: list[tuple[Value, Value]] = field(default_factory=list)

    def execute(self, word: int, at: int, barrier: bool) -> None:
        if barrier:
            self.slots[at] = {}
            for number in _CLOBBERED:
                self.registers[number] = ("after", at, number)
            self.registers[SLOTS] = ("slots", at)
        elif word & 0x0A00_0000 == 0x0800_0000:  # C4.1: loads and stores
            self._access(word, at)
        elif page := a64.adrp(word, at) or a64.adr(word, at):
            self.registers[page[0]] = ("number", page[1])
        elif word & 0x1C00_0000 == 0x1000_0000:  # C4.1: data processing, immediate
            self._immediate(word)
        elif word & 0x0E00_0000 == 0x0A00_0000:  # C4.1: data processing, register
            self._computed(word)
        # What is left are branches, which write no register here, and floating point.
        elif word & 0x0E00_0000 == 0x0E00_0000 and word & 31 != ZERO:
            self.registers[word & 31] = ("unknown", at)  # FMOV and others may write a general register

    def _immediate(self, word: int) -> None:
        rd, rn = word & 31, word >> 5 & 31
        if word & 0xFF80_0000 == 0x9100_0000:  # C6.2 ADD (immediate), 64 bits
            amount = (word >> 10 & 0xFFF) << 12 * (word >> 22 & 1)
            self._set(rd, self._plus(self.registers[rn], amount), stack=True)
        elif word & 0xFF80_0000 == 0xD100_0000:  # C6.2 SUB (immediate)
            amount = (word >> 10 & 0xFFF) << 12 * (word >> 22 & 1)
            self._set(rd, self._plus(self.registers[rn], -amount), stack=True)
        elif word & 0x7F80_0000 == 0x5280_0000:  # C6.2 MOVZ
            self._set(rd, ("number", (word >> 5 & 0xFFFF) << 16 * (word >> 21 & 3)))
        elif word & 0x1F80_0000 == 0x1280_0000:  # C6.2 MOVN, MOVK
            self._set(rd, ("op", word & ~31, self._data(rd)))
        else:
            self._set(rd, ("op", word & ~0x3FF, self._data(rn), self._data(rd)))

    def _computed(self, word: int) -> None:
        rd, rn, rm = word & 31, word >> 5 & 31, word >> 16 & 31
        if word & 0xFFE0_FFE0 == 0xAA00_03E0:  # C6.2 ORR (shifted register): MOV
            self._set(rd, self._data(rm))
        else:
            operands = (self._data(number) for number in (rn, rm, word >> 10 & 31))
            self._set(rd, ("op", word & ~0x1F_03FF, *operands))

    def _access(self, word: int, at: int) -> None:
        found = access(word)
        if found is None:
            for number in _loaded(word):
                self._set(number, ("unknown", at, number))
            if _written_back(word):
                self.registers[word >> 5 & 31] = ("unknown", at, "base")
            return
        first = self._place(found)
        values = [self._data(number) for number in found.registers]
        if moved := _written_back(word):
            self.registers[found.base] = self._plus(self.registers[found.base], moved)
        for number, value, offset in zip(found.registers, values, (0, 8), strict=False):
            place = self._plus(first, offset)
            if found.is_load:
                self._set(number, self.stack.get(place, ("load", place, len(self.stores))))
            else:
                self._store(place, value)

    def _store(self, place: Value, value: Value) -> None:
        base, offset = (place[1], place[2]) if place[0] == "+" else (place, 0)
        if base[0] == "slots" and offset % 8 == 0:
            self.slots[base[1]][offset // 8] = value
        elif base == ("register", STACK):
            self.stack[place] = value
        elif self.slots:  # what is stored before the call is no store of the group
            self.stores.append((place, value))

    def _place(self, found: Access) -> Value:
        base = self._plus(self.registers[found.base], found.offset)
        if found.index is None:
            return base
        return ("indexed", base, self._data(found.index), found.option, found.shift)

    def _plus(self, value: Value, amount: int) -> Value:
        if not amount:
            return value
        if value[0] == "number":
            return ("number", value[1] + amount & _WORD)
        if value[0] == "+":
            return self._plus(value[1], value[2] + amount)
        return ("+", value, amount)

    def _data(self, number: int) -> Value:
        return ("number", 0) if number == ZERO else self.registers[number]

    def _set(self, number: int, value: Value, stack: bool = False) -> None:
        if number != ZERO or stack:
            self.registers[number] = value


def _loaded(word: int) -> tuple[int, ...]:
    """The general registers that a load or store other than of 64 bits may write, its base left out."""
    first, second, third = word & 31, word >> 10 & 31, word >> 16 & 31
    if word >> 26 & 1:  # of vector registers
        return ()
    if word & 0x3800_0000 == 0x2800_0000:  # pairs
        return (first, second) if word >> 22 & 1 else ()
    if word & 0x3B20_0C00 == 0x3820_0000 or not word >> 29 & 1:  # atomics; exclusives and literals
        return first, second, third
    return (first,) if word >> 22 & 3 else ()


def _written_back(word: int) -> int:
    """By how much a load or store moves its base; 0 if it does not."""
    if word & 0x3A00_0000 == 0x2800_0000 and word >> 23 & 1:  # pairs: post- and pre-index
        vector = word >> 26 & 1
        size = 4 << (word >> 30) if vector else 8 if word >> 31 else 4
        return a64.sign_extend(word >> 15, 7) * size
    if word & 0x3B20_0000 == 0x3800_0000 and word >> 10 & 1:
        return a64.sign_extend(word >> 12, 9)
    return 0
