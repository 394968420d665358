"""What one function does to its stack: how far it grows it, and how far it has where it calls others.

Of Go functions the runtime's own tables tell that (`pcsp`). Of others the instructions that move sp
are followed along every way through the function, with what little has to be known of other registers
to tell where sp is put: numbers, and addresses formed. Sections named are those of the Arm Architecture
Reference Manual (DDI 0487).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from buildsys.formats import a64
from buildsys.formats.callsites import by_top
from buildsys.formats.elf import Elf
from buildsys.formats.references import Body, Code, overwrites
from buildsys.go.indirect import CASE, OTHER, indirect
from buildsys.machines import semihosting
from buildsys.stacks.pcsp import StackTables

SP, G = 31, 28
BLS = 0x5400_0009  # C6.2 B.cond: LS, which stacksplit ends with
CALLING = 40  # instructions to the call of morestack: arguments in registers are saved before it
BLR = 0xD63F_0000  # C6.2 BLR, of x0
VBAR = 0xD518_C000  # C6.2 MSR (register): VBAR_EL1
SAVED = 8  # bytes below sp where a Go function with a frame keeps x29: cmd/internal/obj/arm64/obj7.go
PROLOGUE = 10  # instructions of which a check of the stack's end may consist: the same, stacksplit
MORESTACK = ("runtime.morestack", "runtime.morestack_noctxt", "runtime.morestackc")
ABI0, PROGRAM = ".abi0", "program."  # src/supervisor's program: buildsys.stages.programs
ENDLESS = 1 << 16  # bytes: what grows so far without a call moves sp in a loop
LOOP = "moves sp in a loop"
LOST = "uses a stack that it cannot be told here where it is"
# B and BL, conditional branches, by their top byte.
_BRANCHES = bytes(top & 0x7C == 0x14 or top == 0x54 or top & 0x7C == 0x34 for top in range(256))


class Place(NamedTuple):
    """Where sp is: `number` bytes below where it was at the entry, or, if it was put there, at the address `number`.

    None of either is known if `number` is None.
    """

    absolute: bool
    number: int | None

    def moved(self, by: int) -> Place:
        """`by` bytes up, or down if that is negative."""
        return self if self.number is None else Place(self.absolute, self.number + (by if self.absolute else -by))


ENTRY, UNKNOWN = Place(False, 0), Place(True, None)


class Call(NamedTuple):
    """The instruction at `site` goes to `target`, or by a register (`how`, see go.indirect), with sp at `place`.

    `doomed` says that from there only calls follow that do not return.
    """

    site: int
    place: Place
    target: int | None
    how: str = ""
    doomed: bool = False


@dataclass(frozen=True)
class Growth:
    """What a function does to the stack it was called on, and to others.

    `most` are bytes below sp at its entry; `calls` what it calls and jumps to; `placed` the addresses sp was put to,
    or came to from there, each with the instruction. `checked` says that it begins with a look at the stack's end.
    `unknown` says what could not be told, at which instruction; `vectors` are where VBAR_EL1 was told to be.
    """

    most: int
    calls: tuple[Call, ...]
    placed: tuple[tuple[int, int], ...] = ()
    checked: bool = False
    unknown: tuple[tuple[int, str], ...] = ()
    vectors: tuple[int, ...] = ()


class Growths:
    """The functions of one image, whose instructions are `code`.

    `guards` are the offsets in runtime.g of what sp is compared with, `ends` functions of ours that end the run.
    """

    def __init__(self, elf: Elf, code: Code, guards: Iterable[int], ends: frozenset[int] = frozenset()) -> None:
        self._elf, self._code, self.ends = elf, code, ends
        self._tables = StackTables(elf)
        self.go = go_code(elf)
        self.program = go_code(elf, PROGRAM)
        self._loads = {0xF940_0000 | offset // 8 << 10 | G << 5 for offset in guards}  # C6.2 LDR, from x28
        names = [each + abi for each in MORESTACK for abi in ("", ABI0)]
        found = elf.symbols.named(*names).values()
        self.morestack = {each.value for every in found for each in every if each.value in self.go}

    def of(self, body: Body, enter: int, doomed: Container[int] = ()) -> Growth:
        """That of the function `body`, entered at the index `enter`. `doomed` are indices of what only fails."""
        words, base = body.words, body.base
        depths = self._tables.of(base, len(words))
        if depths is None:
            return self._followed(body, enter, doomed)
        first = _away(words, base, enter)
        if first is not None:
            return Growth(0, (Call(base, ENTRY, first),))
        begun = depths[enter] if enter < len(depths) else 0
        places = {at: Place(False, max(depths[at] - begun, 0)) for at in range(enter, len(words))}
        most = max((each.number or 0 for each in places.values()), default=0)
        calls = tuple(_calls(body, places, doomed))
        return Growth(most + SAVED if most else 0, calls, checked=not enter and self._checks(words, base))

    def _checks(self, words: Sequence[int], base: int) -> bool:
        """Whether it looks at the stack's end before all else: it loads where that is, and can call morestack."""
        if not any(word & ~31 in self._loads for word in words[:PROLOGUE]):
            return False
        for at, word in enumerate(words[:PROLOGUE]):
            if word & 0xFF00_001F == BLS:
                behind = at + a64.sign_extend(word >> 5, 19)
                asked = range(behind, min(behind + CALLING, len(words)))
                return any(a64.branch_target(words[each], base + 4 * each) in self.morestack for each in asked)
        return False

    def _followed(self, body: Body, enter: int, doomed: Container[int]) -> Growth:
        way = _Followed(self._elf, self._code, (self.go, self.program), self.ends)
        way.run(body.base + 4 * enter)
        calls = []
        for (address, _), state in way.known.items():
            word = self._code.word(address) or 0
            gone = body.base <= address < body.end and address - body.base >> 2 in doomed
            target = a64.branch_target(word, address)
            if target is None:
                target = a64.conditional_target(word, address)
            if target is not None and (a64.is_bl(word) or self._is_elsewhere(target)):
                calls.append(Call(address, state.sp, target, doomed=gone))
            elif word & 0xFFDF_FC1F == 0xD61F_0000:  # C6.2 BR, and bit 21 for BLR
                goals = state.numbers.get(word >> 5 & 31) or (None,)
                calls += [Call(address, state.sp, goal, OTHER, gone) for goal in goals]
        placed = [(at, each.sp.number) for (at, _), each in way.known.items() if each.sp.absolute and each.sp.number]
        lost = [(at, LOST) for (at, _), each in way.known.items() if each.sp.number is None and self._returns(at)]
        return Growth(way.most, tuple(calls), tuple(placed), False, (*way.unknown, *lost), tuple(way.vectors))

    def _is_elsewhere(self, target: int) -> bool:
        """Whether a jump to `target` is told as a call: it goes to Go, or to what ends the run."""
        return target in self.go or target in self.program or target in self.ends

    def _returns(self, address: int) -> bool:
        """Whether the instruction is a call that comes back: BL or BLR."""
        word = self._code.word(address) or 0
        return a64.is_bl(word) or word & 0xFFFF_FC1F == BLR


Numbers = dict[int, frozenset[int]]  # by register
ANY = frozenset({-1})  # what a register holds of which nothing is known
ENDING = frozenset({semihosting.SYS_EXIT, semihosting.SYS_EXIT_EXTENDED})  # operations that do not come back
ALTERNATIVES = 4  # numbers a register may hold that are told apart


class _State(NamedTuple):
    """What is known in front of an instruction: where sp is, and which numbers registers may hold."""

    sp: Place
    numbers: Numbers

    @property
    def stack(self) -> str:
        """On which stack it is: what is known of each is kept apart."""
        return "entry" if not self.sp.absolute else "unknown" if self.sp.number is None else "other"


class _Followed:
    """The ways through code that is no Go: through a function, and on where it jumps to another."""

    def __init__(self, elf: Elf, code: Code, go: tuple[range, range], ends: Collection[int]) -> None:
        self._elf, self._code, self._go, self._ends = elf, code, go, ends
        self.known: dict[tuple[int, str], _State] = {}
        self.unknown: list[tuple[int, str]] = []
        self.vectors: list[int] = []
        self.most = 0

    def run(self, entry: int) -> None:
        """From the instruction at `entry`."""
        pending = [(entry, _State(ENTRY, {}))]
        while pending:
            address, state = pending.pop()
            left = any(address in each for each in self._go) or (address in self._ends and address != entry)
            word = None if left else self._code.word(address)
            if word is None:
                continue
            key = address, state.stack
            merged = _merged(self.known.get(key), state)
            if merged is None:
                continue
            if not merged.sp.absolute and (merged.sp.number or 0) > ENDLESS:
                self.unknown.append((address, LOOP))
                return
            self.known[key] = merged
            if word == semihosting.INSTRUCTION and merged.numbers.get(0, ANY) <= ENDING:
                continue
            after = self._after(word, address, merged)
            pending += [(following, after) for following in _following(word, address)]

    def _after(self, word: int, address: int, state: _State) -> _State:
        """What is known behind the instruction `word` at `address`."""
        sp, numbers = state
        if word & 0xFFFF_FFE0 == VBAR and word & 31 in numbers:
            self.vectors += sorted(numbers[word & 31])
        if a64.is_bl(word) or word & 0xFFFF_FC1F == BLR:
            return _State(sp, {number: value for number, value in numbers.items() if 19 <= number <= 29})
        if word & 0xFFFF_F0FF == 0xD500_40BF:  # C6.2 MSR (immediate): SPSel
            return _State(UNKNOWN, numbers)
        moved = _moved(word)
        if sp.number is None and moved is not None and moved < 0:
            self.unknown.append((address, LOST))
        if moved is not None:
            sp = sp.moved(moved)
            if not sp.absolute and sp.number is not None:
                self.most = max(self.most, sp.number)
        elif _sets_sp(word):
            sp = self._put(word, sp, numbers)
        formed = self._formed(word, address, numbers)
        if formed is None:
            return _State(sp, {number: value for number, value in numbers.items() if not overwrites(word, number)})
        return _State(sp, {**numbers, formed[0]: formed[1]})

    def _put(self, word: int, sp: Place, numbers: Numbers) -> Place:
        """Where sp is after an instruction that sets it to something else than itself and a number."""
        added, taken = a64.add_immediate(word), _sub_immediate(word)
        if added and len(numbers.get(added[1], ())) == 1:
            return Place(True, min(numbers[added[1]]) + added[2])
        if taken and len(numbers.get(taken[1], ())) == 1:
            return Place(True, min(numbers[taken[1]]) - taken[2])
        if word & 0xFFC0_0000 == 0x9240_0000 and word >> 5 & 31 == SP:  # C6.2 AND (immediate), 64-bit: aligned
            return sp.moved(-_MOST_ALIGNED)
        return UNKNOWN

    def _formed(self, word: int, address: int, numbers: Numbers) -> tuple[int, frozenset[int]] | None:
        """The register that gets a number that is known, and the number, or those it may be."""
        if formed := a64.adrp(word, address) or a64.adr(word, address):
            return formed[0], frozenset({formed[1]})
        if word & 0xFF80_0000 == 0x5280_0000:  # C6.2 MOVZ, 32-bit
            return word & 31, frozenset({(word >> 5 & 0xFFFF) << (16 * (word >> 21 & 3))})
        if word & 0xFF00_0000 == 0x5800_0000:  # C6.2 LDR (literal), 64-bit
            held = self._elf.word(address + 4 * a64.sign_extend(word >> 5, 19), 8)
            return None if held is None else (word & 31, frozenset({held}))
        if moved := a64.move_wide(word):
            name, register, value, shift = moved
            if name == "movz":
                return register, frozenset({value << shift})
            return _each(numbers, register, register, lambda number: number & ~(0xFFFF << shift) | value << shift)
        if (added := a64.add_immediate(word)) and added[0] != SP:
            return _each(numbers, added[0], added[1], lambda number: number + added[2])
        if (taken := _sub_immediate(word)) and taken[0] != SP:
            return _each(numbers, taken[0], taken[1], lambda number: number - taken[2])
        if (by := _indexed(word)) is not None:
            return _each(numbers, word >> 5 & 31, word >> 5 & 31, lambda number: number + by)
        if word & 0xFFE0_FFE0 == 0xAA00_03E0:  # C6.2 MOV (register), 64-bit
            return _each(numbers, word & 31, word >> 16 & 31, lambda number: number)
        return None


def _each(numbers: Numbers, to: int, of: int, make: Callable[[int], int]) -> tuple[int, frozenset[int]] | None:
    """What the register `to` may hold that is made of what the register `of` may; None if nothing is known of that."""
    return (to, frozenset(map(make, numbers[of]))) if of in numbers else None


def _sub_immediate(word: int) -> tuple[int, int, int] | None:
    """C6.2 SUB (immediate), 64-bit: (destination, source, what is taken away); else None."""
    return (word & 31, word >> 5 & 31, _immediate(word)) if word & 0xFF80_0000 == 0xD100_0000 else None


_MOST_ALIGNED = 4096  # bytes that aligning sp may take


def _merged(before: _State | None, now: _State) -> _State | None:
    """What holds whichever way an instruction is come to; None if that is what was known."""
    if before is None:
        return now
    sp = before.sp
    if before.sp != now.sp and before.sp.number is not None and now.sp.number is not None:
        pick = min if sp.absolute else max
        sp = Place(sp.absolute, pick(before.sp.number, now.sp.number))
        if sp.absolute and abs(before.sp.number - now.sp.number) > ENDLESS:
            sp = UNKNOWN
    both = {name: value | now.numbers[name] for name, value in before.numbers.items() if name in now.numbers}
    numbers = {name: value for name, value in both.items() if len(value) <= ALTERNATIVES}
    merged = _State(sp, numbers)
    return None if merged == before else merged


def _moved(word: int) -> int | None:
    """By how many bytes the instruction moves sp up, if it moves it by a number."""
    if word & 31 == SP and word >> 5 & 31 == SP:
        if word & 0xFF80_0000 == 0x9100_0000:
            return _immediate(word)
        if word & 0xFF80_0000 == 0xD100_0000:
            return -_immediate(word)
    return _indexed(word) if word >> 5 & 31 == SP else None


def _indexed(word: int) -> int | None:
    """By how many bytes a load or store moves its base register; None if it does not."""
    if word & 0x3A80_0000 == 0x2880_0000:  # C4.1 load/store register pair, pre- and post-indexed
        scale = (4 << (word >> 30)) if word >> 26 & 1 else (8 if word >> 31 else 4)
        return a64.sign_extend(word >> 15, 7) * scale
    if word & 0x3B20_0400 == 0x3800_0400:  # C4.1 load/store register, immediate pre- and post-indexed
        return a64.sign_extend(word >> 12, 9)
    return None


def _sets_sp(word: int) -> bool:
    """Whether register 31 as a destination is sp: ADD and SUB (immediate, extended), AND, ORR, EOR (immediate)."""
    if word & 31 != SP:
        return False
    return (
        word & 0x3F80_0000 == 0x1100_0000  # C6.2 ADD, SUB (immediate) that set no flags
        or word & 0x3FE0_0000 == 0x0B20_0000  # C6.2 ADD, SUB (extended register)
        or (word & 0x1F80_0000 == 0x1200_0000 and word & 0x6000_0000 != 0x6000_0000)  # C6.2 AND, ORR, EOR (immediate)
    )


def _immediate(word: int) -> int:
    return (word >> 10 & 0xFFF) << (12 if word >> 22 & 1 else 0)


def _jumps(words: Sequence[int], base: int, site: int) -> bool:
    """Whether nothing comes back to behind the instruction at `site`: no BL or BLR."""
    word = words[site - base >> 2]
    return not (a64.is_bl(word) or word & 0xFFFF_FC1F == 0xD63F_0000)


def _following(word: int, address: int) -> Iterator[int]:
    """Where control can go to after the instruction `word` at `address`, but into what it calls."""
    if a64.is_b(word):
        yield address + 4 * a64.sign_extend(word, 26)
        return
    if word & 0xFE00_0000 == 0xD600_0000 and word & 0xFFFF_FC1F != BLR:
        return  # C6.2 BR, RET, ERET
    yield address + 4
    target = a64.conditional_target(word, address)
    if target is not None:
        yield target


def _calls(body: Body, places: Mapping[int, Place], doomed: Container[int]) -> Iterator[Call]:
    """What leaves a function of Go's, of the instructions at the indices in `places`."""
    for at in by_top(body.words, _BRANCHES):
        word, address = body.words[at], body.base + 4 * at
        target = a64.branch_target(word, address)
        if target is None:
            target = a64.conditional_target(word, address)
        if at in places and target is not None and (a64.is_bl(word) or not body.base <= target < body.end):
            yield Call(address, places[at], target, doomed=at in doomed)
    for at, kind in indirect(body.words):
        if at in places and kind != CASE:
            yield Call(body.base + 4 * at, places[at], None, kind, at in doomed)


def _away(words: Sequence[int], base: int, enter: int) -> int | None:
    """Where a function goes at once: another took its place at its entry."""
    if enter or not words or not a64.is_b(words[0]):
        return None
    target = a64.branch_target(words[0], base)
    return target if target is not None and not base <= target < base + 4 * len(words) else None


def go_code(elf: Elf, prefix: str = "") -> range:
    """Where Go's code is: the kernel's, or that of a program beside it, by the prefix of its names."""
    low, high = f"{prefix}runtime.text", f"{prefix}runtime.etext"
    found = elf.symbols.addresses(low, high)
    return range(found.get(low, 0), found.get(high, 0))
