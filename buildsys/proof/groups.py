"""The straight line of code around a barrier call: what the compiler made of one group of pointer stores.

    the flag is tested; where it is set:
    old pointers are loaded from the places to be stored to;
    the barrier is called;
    old and new pointers are written to the slots at x25;
    the stores themselves follow, where both ways meet again.

A line begins behind the test and follows the code as it runs, through calls of
functions taken over, to the first instruction that may go elsewhere. After a bulk
move was announced (`runtime.wbMove` …) it also goes on through calls and loops:
the move itself may be either. Encodings: Arm ARM C4.1, Loads and stores.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from buildsys.formats import a64
from buildsys.formats.elf import Elf
from buildsys.formats.symbols import Symbol

LONGEST = 128  # instructions of a line; the longest the compiler makes before its last store is 40
SLOTS = 25  # a barrier returns in x25 where to write
STACK = ZERO = 31  # register 31 is sp as a base, zero as data


@dataclass(frozen=True)
class Access:
    """A load or store of one or two 64-bit general registers, at base + offset + (index << shift)."""

    is_load: bool
    registers: tuple[int, ...]
    base: int
    offset: int = 0
    index: int | None = None
    option: int = 0
    shift: int = 0

    def address(self, register: Callable[[int], int]) -> int:
        """The address accessed; `register` tells what the general register of a number holds."""
        index = register(self.index) if self.index is not None else 0
        if self.index is not None and not self.option & 1:  # UXTW, SXTW
            index = a64.sign_extend(index, 32) if self.option & 4 else index & 0xFFFF_FFFF
        return (register(self.base) + self.offset + (index << self.shift)) & (1 << 64) - 1


@dataclass
class Group:
    """One line of code: the addresses of its instructions as they run, and of some of them what they do.

    `calls` are the calls of functions taken over, by name. Of loads and stores of 64-bit
    registers, `loads` come before a call, `slots` write at x25, `stores` write elsewhere;
    those at sp are left out, as they are the function's own spills. `points` are the
    addresses behind every instruction that may complete a bulk move.
    """

    function: Symbol
    line: list[int] = field(default_factory=list)
    calls: dict[int, str] = field(default_factory=dict)
    loads: dict[int, Access] = field(default_factory=dict)
    slots: dict[int, Access] = field(default_factory=dict)
    stores: dict[int, Access] = field(default_factory=dict)
    points: set[int] = field(default_factory=set)

    @property
    def first(self) -> int:
        """The first load or call."""
        return next(at for at in self.line if at in self.loads or at in self.calls)

    def behind(self, at: int) -> int | None:
        """The instruction that runs after the one at `at`, if that is still on the line."""
        return next((after for before, after in pairwise(self.line) if before == at), None)


def group_of(elf: Elf, site: int, ours: Mapping[int, str], moves: Container[str]) -> Group | None:
    """The group that the call at `site` is part of; None if it is a call of none of `ours` in a function.

    `ours` names each function taken over by its address, `moves` those that announce a bulk move.
    """
    function = elf.symbols.function_at(site)
    if function is None:
        return None
    start = site
    while start - 4 >= max(function.value, site - 4 * LONGEST):
        word = elf.word(start - 4)
        if word is None or (_leaves(word, start - 4) and not _is_call(word, start - 4, ours)):
            break
        start -= 4
    group, at = Group(function), start
    for _ in range(LONGEST):
        word = elf.word(at)
        if word is None:
            break
        group.line.append(at)
        following = _enter(group, at, word, ours, any(name in moves for name in group.calls.values()))
        if following is None:
            break
        at = following
    return group if site in group.calls else None


def _enter(group: Group, at: int, word: int, ours: Mapping[int, str], moving: bool) -> int | None:
    """Note what the instruction `word` at `at` does; the address of the next one on the line, if there is one."""
    target = a64.branch_target(word, at)
    if target is not None and a64.is_b(word):
        return target if group.function.value <= target < group.function.end else None
    if target is not None:
        if target in ours:
            group.calls[at] = ours[target]
        group.points.add(at + 4)
        return at + 4 if target in ours or moving else None
    if _leaves(word, at):
        back = a64.conditional_target(word, at)
        group.points.add(at + 4)
        return at + 4 if moving and back is not None and group.line[0] <= back < at else None
    if group.calls and word & 0x0A00_0000 == 0x0800_0000:  # C4.1: loads and stores, of any register
        group.points.add(at + 4)
    found = access(word)
    if found is None or found.base == STACK:
        return at + 4
    if found.is_load:
        if not group.stores:
            group.loads[at] = found
    elif found.base == SLOTS:
        group.slots[at] = found
    elif group.calls:
        group.stores[at] = found
    return at + 4


def access(word: int) -> Access | None:
    """The load or store of 64-bit general registers that `word` is; None for any other instruction."""
    first, base = word & 31, word >> 5 & 31
    if word & 0xFE00_0000 == 0xA800_0000:  # a pair; bits 24:23 are no-allocate, post-index, offset, pre-index
        offset = 0 if word >> 23 & 3 == 1 else 8 * a64.sign_extend(word >> 15, 7)
        return Access(bool(word >> 22 & 1), (first, word >> 10 & 31), base, offset)
    if word & 0xFE80_0000 != 0xF800_0000:  # size 64 bits, no vector, opc 00 (store) or 01 (load)
        return None
    is_load = bool(word >> 22 & 1)
    if word >> 24 & 1:  # unsigned immediate
        return Access(is_load, (first,), base, (word >> 10 & 0xFFF) << 3)
    mode = word >> 10 & 3
    if not word >> 21 & 1:  # unscaled, post-index, unprivileged, pre-index
        return Access(is_load, (first,), base, 0 if mode == 1 else a64.sign_extend(word >> 12, 9))
    if mode != 2:  # atomics
        return None
    return Access(is_load, (first,), base, 0, word >> 16 & 31, word >> 13 & 7, 3 * (word >> 12 & 1))


def _is_call(word: int, at: int, ours: Mapping[int, str]) -> bool:
    return a64.is_bl(word) and a64.branch_target(word, at) in ours


def _leaves(word: int, at: int) -> bool:
    """Whether control may go elsewhere than to the next instruction."""
    return (
        a64.branch_target(word, at) is not None
        or a64.conditional_target(word, at) is not None
        or word & 0xFE00_0000 == 0xD600_0000  # C4.1: unconditional branch (register)
        or word & 0xFF00_0000 == 0xD400_0000  # C4.1: exception generation
    )
