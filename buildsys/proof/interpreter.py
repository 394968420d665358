"""A small abstract interpreter of A64 code, for code that runs once and alone: boot code.

It follows instructions from one address with every register and all of RAM
unknown, and keeps what can be told: constants, addresses, sums and masks of
them, and for a value loaded from memory the address it came from. What it does
not know, it takes for unknown, never for something: an instruction it does not
decode makes its destination unknown, a store to an unknown place is an event
with no address, and a branch it cannot decide is where it stops and says so.

A loop is followed for a few rounds; when two rounds in a row took the same
path and moved every register and every store by the same steps, the rounds up
to the one that leaves it are taken at once, and that last one is followed again.
A loop that waits, for a bit of a device, say, and does nothing meanwhile, is
followed until its rounds leave the same behind, and left then: what comes after
it is what happens if anything more does.
Sections named are those of the Arm Architecture Reference Manual (DDI 0487).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from buildsys.formats import a64
from buildsys.formats.a64 import sign_extend
from buildsys.proof.events import (
    CURRENT_EL,
    ELR,
    ID_AA64PFR0_EL1,
    MPIDR_EL1,
    SP_EL0,
    SP_EL1,
    SP_SEL,
    SPSR,
    VMPIDR_EL2,
    Call,
    Descent,
    Dsb,
    Event,
    Store,
    SystemWrite,
    Trace,
)
from buildsys.proof.values import ALWAYS, MASK, UNKNOWN, ZERO, Flags, Value, holds, known, rounds_until

STEPS = 100_000  # instructions; boot code takes a few hundred, its loops are not counted round by round
UNKNOWN_VALUE, UNKNOWN_FLAGS = "it depends on a value that is not known", "it depends on flags that are not known"
UNDECIDED = (UNKNOWN_VALUE, UNKNOWN_FLAGS)  # ends that say nothing of the code
SP = 31  # register 31 where it means the stack pointer
ERET = 0xD69F_03E0
# The lowest exception level at which MRS and MSR reach a register, by its op1 (C5.1.3): 5 is the EL1 register
# of a host at EL2, 7 secure EL1's.
LOWEST = {4: 2, 5: 2, 6: 3}


@dataclass
class _Arrival:
    """The state when a loop comes back to its head: registers, and what was noted so far."""

    registers: list[Value]
    path: int
    stores: int
    decisions: int
    others: int


@dataclass(frozen=True)
class _Decision:
    """A conditional branch at `pc` and what it compared: it was taken or not because of `lhs - rhs`."""

    pc: int
    taken: bool
    condition: int
    lhs: Value
    rhs: Value


@dataclass(frozen=True)
class _Wait:
    """The state at a branch back that cannot be decided: what a round of the loop may have changed is unknown."""

    registers: list[Value]
    stack_pointers: list[Value]
    vectors: list[Value]
    flags: Flags | None
    selected: int
    events: int


class _EndError(Exception):
    """Following ends here."""


@dataclass
class Interpreter:
    """Follows code: `read(address, size)` gives what memory holds at reset, None if unknown.

    A call of an address in `opaque`, and any call through a register but of one of `routines`, is an
    event, not followed; what it leaves in the registers is unknown. So it is of one in `opening`, which comes back
    and is none: the runtime is asked to make itself ready.
    """

    read: Callable[[int, int], int | None]
    opaque: frozenset[int]
    system: dict[int, Value]
    registers: list[Value] = field(default_factory=lambda: [UNKNOWN] * 31)
    vectors: list[Value] = field(default_factory=lambda: [UNKNOWN] * 32)
    stack_pointers: list[Value] = field(default_factory=lambda: [UNKNOWN, UNKNOWN])
    selected: int = 1  # SPSel after reset: SP_ELx
    flags: Flags | None = None
    memory: dict[int, tuple[int, Value]] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    pc: int = 0
    opening: frozenset[int] = frozenset()
    routines: frozenset[int] = frozenset()
    _path: list[int] = field(default_factory=list)
    _stores: list[Store] = field(default_factory=list)
    _decisions: list[_Decision] = field(default_factory=list)
    _others: int = 0
    _arrivals: dict[int, list[_Arrival]] = field(default_factory=dict)
    _waits: dict[int, _Wait] = field(default_factory=dict)

    def follow(self, start: int) -> Trace:
        """Follow the code at `start` until it halts, loops for ever, or cannot be followed."""
        self.pc = start
        parked = False
        try:
            for _ in range(STEPS):
                word = self.read(self.pc, 4)
                if word is None:
                    raise _EndError("there is no code in the image")
                self._path.append(self.pc)
                before, self.pc = self.pc, self.pc + 4
                self._step(word, before)
                if self.pc <= before and self._arrive(before):
                    parked = True
                    raise _EndError("a loop without a way out")
            end = f"{STEPS} instructions were not enough"
        except _EndError as reason:
            end = str(reason)
        return Trace(tuple(self.events), self._path[-1] if self._path else start, end, parked)

    # Registers

    def _get(self, number: int, wide: bool = True, stack: bool = False) -> Value:
        last = self.stack_pointers[self.selected] if stack else ZERO
        value = self.registers[number] if number != 31 else last
        return value if wide else value.low(32)

    def _set(self, number: int, value: Value, wide: bool = True, stack: bool = False) -> None:
        value = value if wide else value.low(32)
        if number != 31:
            self.registers[number] = value
        elif stack:
            self.stack_pointers[self.selected] = value

    # Instructions, by the groups of C4.1

    def _step(self, word: int, pc: int) -> None:
        group = word >> 25 & 0xF
        if group in (0b1000, 0b1001):
            self._immediate(word, pc)
        elif group in (0b1010, 0b1011):
            self._branch_or_system(word, pc)
        elif group & 0b0101 == 0b0100:
            self._load_or_store(word, pc)
        elif group & 0b0111 == 0b0101:
            self._register(word)
        elif group & 0b0111 == 0b0111:
            self._vector(word)
        else:
            raise _EndError(f"{word:#010x} is no instruction")

    def _immediate(self, word: int, pc: int) -> None:
        destination, source, wide = word & 31, word >> 5 & 31, bool(word >> 31)
        if formed := a64.adrp(word, pc) or a64.adr(word, pc):
            self._set(formed[0], known(formed[1]))
        elif word & 0x1F80_0000 == 0x1100_0000:  # ADD, SUB (immediate)
            addend = known((word >> 10 & 0xFFF) << (12 if word >> 22 & 1 else 0))
            self._add(word, self._get(source, wide, stack=True), addend, to_stack=True)
        elif word & 0x1F80_0000 == 0x1200_0000:  # AND, ORR, EOR, ANDS (immediate)
            mask = _bit_mask(word)
            if mask is None:
                raise _EndError(f"{word:#010x} is no instruction")
            self._logic(word, self._get(source, wide), known(mask), to_stack=True)
        elif word & 0x1F80_0000 == 0x1280_0000:  # MOVN, MOVZ, MOVK
            shift = 16 * (word >> 21 & 3)
            number = known((word >> 5 & 0xFFFF) << shift)
            kind = word >> 29 & 3
            if kind == 3:
                number = self._get(destination).masked(MASK ^ 0xFFFF << shift) | number
            self._set(destination, ~number if kind == 0 else number, wide)
        elif word & 0x1F80_0000 == 0x1300_0000:  # SBFM, BFM, UBFM
            before, field = self._get(destination, wide), self._get(source, wide)
            self._set(destination, _bit_field(word, before, field), wide)
        else:
            self._set(destination, UNKNOWN)

    def _register(self, word: int) -> None:
        wide, source, other = bool(word >> 31), word >> 5 & 31, word >> 16 & 31
        if word & 0x1F00_0000 == 0x0A00_0000:  # AND, ORR, EOR, ANDS and their complements (shifted register)
            operand = self._get(other, wide).shifted(word >> 22 & 3, word >> 10 & 63)
            self._logic(word, self._get(source, wide), ~operand if word >> 21 & 1 else operand)
        elif word & 0x1F20_0000 == 0x0B00_0000:  # ADD, SUB (shifted register)
            operand = self._get(other, wide).shifted(word >> 22 & 3, word >> 10 & 63)
            self._add(word, self._get(source, wide), operand)
        elif word & 0x1FE0_0000 == 0x0B20_0000:  # ADD, SUB (extended register)
            whole = word >> 13 & 3 == 3  # UXTX, SXTX
            operand = self._get(other).shifted(0, word >> 10 & 7) if whole else UNKNOWN
            self._add(word, self._get(source, wide, stack=True), operand, to_stack=True)
        else:
            self.flags = None
            self._set(word & 31, UNKNOWN)

    def _vector(self, word: int) -> None:
        # MOVI Vd.2D, #0 clears; whatever else is done, general registers may be written, too.
        self.vectors[word & 31] = ZERO if word & 0xFFFF_FFE0 == 0x6F00_E400 else UNKNOWN
        if word & 0xFFFF_FFE0 != 0x6F00_E400:
            self.flags = None
            self._set(word & 31, UNKNOWN)

    def _add(self, word: int, left: Value, right: Value, to_stack: bool = False) -> None:
        wide, subtract, sets = bool(word >> 31), bool(word >> 30 & 1), bool(word >> 29 & 1)
        if sets:
            self.flags = Flags("sub" if subtract else "add", left, right, 64 if wide else 32)
        result = left - right if subtract else left + right
        self._set(word & 31, result, wide, stack=to_stack and not sets)

    def _logic(self, word: int, left: Value, right: Value, to_stack: bool = False) -> None:
        wide, kind = bool(word >> 31), word >> 29 & 3
        result = (left & right, left | right, left ^ right, left & right)[kind]
        if kind == 3:
            self.flags = Flags("and", result if wide else result.low(32), ZERO, 64 if wide else 32)
        self._set(word & 31, result, wide, stack=to_stack and kind != 3)

    def _branch_or_system(self, word: int, pc: int) -> None:
        if (target := a64.branch_target(word, pc)) is not None:
            if a64.is_bl(word):
                self._call(pc, target, follow=target not in self.opaque | self.opening)
            elif target in self.opaque:
                self._call(pc, target, follow=False)
                raise _EndError("the code it went to does not come back here")
            else:
                self.pc = target
        elif (target := a64.conditional_target(word, pc)) is not None:
            if self._decide(word, pc):
                self.pc = target
        elif word & 0xFF9F_FC1F == 0xD61F_0000:  # BR, BLR, RET
            self._branch_register(word, pc)
        elif word & 0xFFC0_0000 == 0xD500_0000:
            self._system(word, pc)
        elif word == ERET:
            self._descend(pc)
        else:
            raise _EndError(f"{word:#010x} ends it")  # HLT, BRK, SVC, …

    def _level(self) -> int | None:
        """The exception level, if it is known."""
        now = self.system.get(CURRENT_EL, UNKNOWN).number
        return None if now is None else now >> 2 & 3

    def _descend(self, pc: int) -> None:
        """C6.2 ERET, to a lower level and in AArch64 state."""
        level = self._level()
        if level not in SPSR:
            raise _EndError("at which exception level it returns from an exception is not known")
        state, target = (self.system.get(each[level], UNKNOWN).number for each in (SPSR, ELR))
        if state is None or target is None:
            raise _EndError("it is not known where this returns to")
        below = state >> 2 & 3
        if state & 0x10 or not 0 < below < level:
            raise _EndError(
                f"it returns from EL{level} with the state {state:#x}, which is not a lower level for a kernel"
            )
        if below == 2 and self.system.get(ID_AA64PFR0_EL1, UNKNOWN).masked(0xF << 8).number == 0:
            raise _EndError("it returns to EL2, of which there is none")
        self._event(Descent(pc, level, below, state))
        if level == 2:  # Arm ARM: VMPIDR_EL2 is what EL1 reads
            self.system[MPIDR_EL1] = self.system.get(VMPIDR_EL2, UNKNOWN)
        # Each level has a stack pointer of its own; EL0's is the same.
        self.stack_pointers[1] = self.system.get(SP_EL1, UNKNOWN) if below == 1 else UNKNOWN
        self.selected, self.flags = state & 1, None
        self.system[CURRENT_EL] = known(below << 2)
        self.pc = target

    def _branch_register(self, word: int, pc: int) -> None:
        target = self._get(word >> 5 & 31).number
        kind = word >> 21 & 3
        if kind == 2 and target is not None:
            self.pc = target
        elif kind == 2:
            raise _EndError("it is not known where this returns to")
        else:
            if kind == 1 and target in self.routines:
                self._call(pc, target, follow=True)
                return
            self._call(pc, target, follow=False)
            if kind == 0:
                raise _EndError("the code it went to does not come back here")

    def _call(self, pc: int, target: int | None, follow: bool) -> None:
        if follow and target is not None:
            self.registers[30] = known(pc + 4)
            self.pc = target
            return
        if target not in self.opening:
            self._event(Call(pc, target, tuple(self.registers), self._get(SP, stack=True)))
        # The callee may use everything but the stack pointer.
        self.registers = [UNKNOWN] * 31
        self.vectors = [UNKNOWN] * 32
        self.flags = None
        self.memory = {}

    def _decide(self, word: int, pc: int) -> bool:
        if word & 0xFF00_0000 == 0x5400_0000:  # B.cond, BC.cond
            condition, flags = word & 15, self.flags
            if flags is None:
                raise _EndError(UNKNOWN_FLAGS)
            taken = flags.satisfy(condition)
            left, right = flags.left, flags.right
        else:
            value = self._get(word & 31, wide=bool(word >> 31))
            condition, left, right = word >> 24 & 1, value, ZERO  # EQ, NE
            if word & 0x7E00_0000 == 0x3600_0000:  # TBZ, TBNZ
                left = self._get(word & 31)
                value = left.masked(1 << (word >> 31 << 5 | word >> 19 & 31))
            taken = holds(condition, value, ZERO)
            if value is not left:
                condition = ALWAYS  # not to be foretold by `rounds_until`
        if taken is None:
            return self._wait(word, pc)
        self._decisions.append(_Decision(pc, taken, condition, left, right))
        return taken

    def _wait(self, word: int, pc: int) -> bool:
        """Whether to take a branch that cannot be decided: back, as long as rounds of it leave other values behind.

        Any other such branch, and one of a loop that does something, is the end.
        """
        head = a64.conditional_target(word, pc)
        if head is None or head > pc or head not in self._path:
            raise _EndError(UNKNOWN_VALUE)
        noted = len(self._stores) + self._others
        now = _Wait(self.registers[:], self.stack_pointers[:], self.vectors[:], self.flags, self.selected, noted)
        last = self._waits.pop(pc, None)
        if last is not None and (last.events, last.selected) != (noted, self.selected):
            raise _EndError(UNKNOWN_VALUE)
        if last == now:
            return False
        if last is not None:
            self.registers = _same(last.registers, now.registers)
            self.stack_pointers = _same(last.stack_pointers, now.stack_pointers)
            self.vectors = _same(last.vectors, now.vectors)
            self.flags = last.flags if last.flags == now.flags else None
            now = _Wait(self.registers[:], self.stack_pointers[:], self.vectors[:], self.flags, self.selected, noted)
        self._waits[pc] = now
        self._arrivals[head] = []  # no loop without a way out
        return True

    def _system(self, word: int, pc: int) -> None:
        register = word >> 5 & 0x7FFF
        moves = word & 0xFFD0_0000 == 0xD510_0000 and word >> 19 & 1  # MRS, MSR of what is no debug register
        if moves and (self._level() or 3) < (lowest := LOWEST.get(register >> 11 & 7, 1)):
            raise _EndError(f"{word:#010x} is for EL{lowest}, and undefined here")
        if word & 0xFFF0_0000 == 0xD530_0000:  # MRS
            self._set(word & 31, self.system.get(register, UNKNOWN))
        elif word & 0xFFF0_0000 == 0xD510_0000:  # MSR (register)
            value = self._get(word & 31)
            if register == SP_EL0:
                self.stack_pointers[0] = value
            elif register == SP_SEL:
                if value.masked(1).number is None:
                    raise _EndError("which stack pointer is in use is not known")
                self.selected = value.bits & 1
            self.system[register] = value
            self._event(SystemWrite(pc, register, value))
        elif word & 0xFFFF_F0FF == 0xD500_40BF:  # MSR SPSel, #imm
            self.selected = word >> 8 & 1
        elif word & 0xFFFF_F0FF == 0xD503_309F and word >> 9 & 1:  # DSB of stores or of all; not SSBB, PSSBB
            self._event(Dsb(pc))
        elif word & 0xFFFF_FFE0 == 0xD50B_7420:  # DC ZVA
            self._write(pc, UNKNOWN, 0, UNKNOWN)
        elif word >> 21 & 1:  # SYSL
            self._set(word & 31, UNKNOWN)

    # Memory

    def _load_or_store(self, word: int, pc: int) -> None:
        base, vector = word >> 5 & 31, bool(word >> 26 & 1)
        if word & 0x3A00_0000 == 0x2800_0000:
            self._pair(word, pc)
            return
        if word & 0x3B00_0000 == 0x1800_0000:  # LDR (literal)
            address = known(pc + 4 * sign_extend(word >> 5, 19))
            self._move(pc, word & 31, vector, address, 4 << (word >> 30 & 1), loads=True)
            return
        size = 1 << (word >> 30)
        if vector and word >> 23 & 1:
            size = 16
        loads = bool(word >> 22 & (1 if vector else 3))
        start = self._get(base, stack=True)
        if word & 0x3B00_0000 == 0x3900_0000:  # unsigned immediate
            self._move(pc, word & 31, vector, start + known((word >> 10 & 0xFFF) * size), size, loads)
        elif word & 0x3B20_0000 == 0x3800_0000:  # unscaled, post-, pre-indexed
            moved = start + known(sign_extend(word >> 12, 9))
            after = word >> 10 & 3 == 1
            if word >> 10 & 1:
                self._set(base, moved, stack=True)
            self._move(pc, word & 31, vector, start if after else moved, size, loads)
        elif word & 0x3B20_0C00 == 0x3820_0800:  # register offset
            scale = size.bit_length() - 1 if word >> 12 & 1 else 0
            offset = self._get(word >> 16 & 31).shifted(0, scale) if word >> 13 & 7 == 3 else UNKNOWN
            self._move(pc, word & 31, vector, start + offset, size, loads)
        else:
            # Exclusive, atomic and structure accesses: any of them may store, and load into these.
            for number in (word & 31, word >> 10 & 31, word >> 16 & 31):
                self._set(number, UNKNOWN)
            self._set(base, UNKNOWN, stack=True)
            self.vectors = [UNKNOWN] * 32
            self._write(pc, UNKNOWN, size, UNKNOWN)

    def _pair(self, word: int, pc: int) -> None:
        """LDP, STP: C4.1 load/store register pair."""
        vector, mode, base = bool(word >> 26 & 1), word >> 23 & 3, word >> 5 & 31
        size = (4 << (word >> 30)) if vector else (8 if word >> 31 else 4)
        start = self._get(base, stack=True)
        moved = start + known(sign_extend(word >> 15, 7) * size)
        first = start if mode == 1 else moved
        values = [self._transfer(number, vector) for number in (word & 31, word >> 10 & 31)]
        if mode in (1, 3):
            self._set(base, moved, stack=True)
        for number, value, address in zip(
            (word & 31, word >> 10 & 31), values, (first, first + known(size)), strict=True
        ):
            if word >> 22 & 1:
                self._load(number, vector, address, size)
            else:
                self._write(pc, address, size, value)

    def _move(self, pc: int, number: int, vector: bool, address: Value, size: int, loads: bool) -> None:
        if loads:
            self._load(number, vector, address, size)
        else:
            self._write(pc, address, size, self._transfer(number, vector))

    def _transfer(self, number: int, vector: bool) -> Value:
        return self.vectors[number] if vector else self._get(number)

    def _load(self, number: int, vector: bool, address: Value, size: int) -> None:
        place = address.number
        value = UNKNOWN
        if place is not None:
            written = self.memory.get(place)
            bits = self.read(place, size) if size <= 8 and not written else None
            value = known(bits) if bits is not None else UNKNOWN
            if written:
                value = written[1] if written[0] == size else UNKNOWN
            value = replace(value, source=place)
        if vector:
            self.vectors[number] = value
        else:
            self._set(number, value)

    def _write(self, pc: int, address: Value, size: int, value: Value) -> None:
        place = address.number
        number = value.low(8 * size).number if size <= 8 or value == ZERO else None
        store = Store(pc, place, size, number, value.source)
        self._stores.append(store)
        self._note(store)
        if place is None:
            self.memory = {}
        else:
            for other in range(place - 15, place + size):
                if other in self.memory and other + self.memory[other][0] > place:
                    del self.memory[other]
            self.memory[place] = (size, value)

    def _event(self, event: Dsb | SystemWrite | Call | Descent) -> None:
        self._others += 1
        self.events.append(event)

    def _note(self, store: Store) -> None:
        """Put `store` among the events, joined to the one before where they are one piece of work."""
        last = self.events[-1] if self.events else None
        if isinstance(last, Store) and last.address is not None and last.end == store.address:
            zeros = last.value == store.value == 0 and last.source is store.source is None
            copied = last.source is not None and store.source == last.source + last.size
            if zeros or copied:
                self.events[-1] = replace(last, size=last.size + store.size, value=0 if zeros else None)
                return
        self.events.append(store)

    # Loops

    def _arrive(self, back: int) -> bool:
        """The branch at `back` came to a loop's head; True if the loop has no way out."""
        arrivals = self._arrivals.setdefault(self.pc, [])
        everything = [*self.registers, *self.stack_pointers]
        arrivals.append(_Arrival(everything, len(self._path), len(self._stores), len(self._decisions), self._others))
        del arrivals[:-3]
        if len(arrivals) < 3:
            return False
        first, second, third = arrivals
        if self._path[first.path : second.path] != self._path[second.path : third.path]:
            return False
        rounds = self._rounds(first, second, third)
        if rounds is None:
            # Nothing that decides changes any more.
            return first.registers == second.registers == third.registers
        if rounds > 1 and first.others == third.others and self._skip(first, second, third, rounds - 1):
            self._arrivals[self.pc] = []
        return False

    def _rounds(self, first: _Arrival, second: _Arrival, third: _Arrival) -> int | None:
        """After how many more rounds a branch in the loop goes another way; None: never, 0: it cannot be told."""
        earlier = self._decisions[first.decisions : second.decisions]
        later = self._decisions[second.decisions : third.decisions]
        return min(
            (
                rounds
                for a, b in zip(earlier, later, strict=True)
                if (rounds := rounds_until(b.condition, (a.lhs, a.rhs), (b.lhs, b.rhs))) is not None
            ),
            default=None,
        )

    def _skip(self, first: _Arrival, second: _Arrival, third: _Arrival, rounds: int) -> bool:
        """Take `rounds` rounds at once, if the last two show what each does; else change nothing."""
        earlier = self._stores[first.stores : second.stores]
        later = self._stores[second.stores : third.stores]
        work = _joined(later)
        steps = {_step(a.address, b.address) for a, b in zip(earlier, later, strict=True)}
        sources = {_step(a.source, b.source) for a, b in zip(earlier, later, strict=True)}
        if later:
            # One piece of work a round, each right after the one before: more cannot be told apart.
            if len(work) != 1 or steps != {work[0].size} or work[0].address is None:
                return False
            if work[0].source is None and work[0].value != 0:
                return False
            if work[0].source is not None and sources != steps:
                return False
            self._note(
                replace(
                    work[0],
                    address=work[0].end,
                    size=work[0].size * rounds,
                    source=None if work[0].source is None else work[0].source + work[0].size,
                )
            )
            self.memory = {}
        moved = [
            value.advanced(before, rounds) for before, value in zip(second.registers, third.registers, strict=True)
        ]
        same = [
            a.step(b) == b.step(c) for a, b, c in zip(first.registers, second.registers, third.registers, strict=True)
        ]
        everything = [value if fits else UNKNOWN for value, fits in zip(moved, same, strict=True)]
        self.registers, self.stack_pointers = everything[:31], everything[31:]
        self.vectors = [UNKNOWN] * 32
        self.flags = None
        return True


def _same(before: list[Value], after: list[Value]) -> list[Value]:
    """The values that are the same in both; the others unknown."""
    return [one if one == other else UNKNOWN for one, other in zip(before, after, strict=True)]


def _step(before: int | None, after: int | None) -> int | None:
    return None if before is None or after is None else after - before


def _joined(stores: list[Store]) -> list[Store]:
    """The stores of one round, neighbours joined as `_note` does."""
    joined = Interpreter(lambda address, size: None, frozenset(), {})
    for store in stores:
        joined._note(store)
    return [event for event in joined.events if isinstance(event, Store)]


def _bit_field(word: int, before: Value, source: Value) -> Value:
    """C6.2 SBFM, BFM, UBFM: bits of `source` in their place, among zeros, copies of the highest, or those of `before`.

    Shifts by a number, UBFX, SXTW, BFI and the like are names of these.
    """
    width, kind = (64 if word >> 31 else 32), word >> 29 & 3
    rotate, last = word >> 16 & 63, word >> 10 & 63
    if kind == 3 or word >> 22 & 1 != word >> 31 or (width == 32 and (rotate | last) & 32):
        raise _EndError(f"{word:#010x} is no instruction")
    if last >= rotate:
        low, size = 0, last - rotate + 1
        moved = source.shifted(1, rotate)
    else:
        low, size = width - rotate, last + 1
        moved = source.shifted(0, low)
    mask = (1 << size) - 1 << low
    field = moved.masked(mask)
    if kind == 1:
        return before.masked(MASK ^ mask) | field
    highest = 1 << low + size - 1
    above = MASK ^ (highest << 1) - 1
    if kind == 0 and not field.known & highest:
        return Value(field.bits, field.known & ~above)
    return replace(field, bits=field.bits | above) if kind == 0 and field.bits & highest else field


def _bit_mask(word: int) -> int | None:
    """The immediate of AND, ORR, EOR or ANDS (C6.2, DecodeBitMasks); None if the encoding is reserved."""
    wide, n, rotate, length = word >> 31, word >> 22 & 1, word >> 16 & 63, word >> 10 & 63
    combined = n << 6 | (~length & 63)
    if combined < 2 or (n and not wide):
        return None
    size = 1 << (combined.bit_length() - 1)
    ones, turn = (length & (size - 1)) + 1, rotate & (size - 1)
    if ones == size:
        return None
    element = (1 << ones) - 1
    element = (element >> turn | element << (size - turn)) & ((1 << size) - 1)
    mask = sum(element << at for at in range(0, 64, size))
    return mask if wide else mask & 0xFFFF_FFFF
