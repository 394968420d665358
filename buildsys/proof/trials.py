"""Executing one function of an image with random registers, flags and memory, thousands of times.

A driver, which runs on the emulated core beside the image, takes one case after
another from a table: it loads every register, enters the function by ERET
(which needs no register), and writes every register to a second table when the
function returns. So a case costs a hundred instructions, not a hundred calls.
Memory cannot be written by the guest, except for that table: each store of the
function is caught, noted and dropped.
Instruction encodings: Arm Architecture Reference Manual (DDI 0487), C6.2 and C7.2.
"""

from __future__ import annotations

import importlib
import random
from array import array
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, NamedTuple

from buildsys.config.board import Board
from buildsys.errors import UserError
from buildsys.formats import a64
from buildsys.formats.elf import PF_X, PT_LOAD, Elf
from buildsys.formats.symbols import Symbol
from buildsys.machines.processor import CPACR_EL1, MODELS, SCR_EL3, SCR_RW

SEED = 20260801
CASES = 2000  # for each function
CORNERS = 500  # of them with registers from a few telling values
LIMIT = 1000  # instructions a function may take, on average over its cases

# One case: x0-x30, sp, PSTATE, FPSR, then v0-v31 of 16 bytes.
_SP, _PSTATE, _FPSR, _VECTORS = 31, 32, 33, 34
FLAGS = _PSTATE  # among the registers that may change
_WORDS = _VECTORS + 64
_BYTES = 8 * _WORDS
_EL1H = 0x3C5  # SPSR_EL1: EL1 with SP_EL1, exceptions masked
_NZCV = 0xF000_0000
_PAGE = 0x1000

# MSR to a system register, from x0; MRS has bit 21 set.
_MSR_NZCV, _MSR_FPSR, _MSR_SPSR = 0xD51B_4200, 0xD51B_4420, 0xD518_4000
# The driver's own registers: where the case is, where its outcome goes, and room for x0.
_MSR_CASE, _MSR_OUTCOME, _MSR_SPARE = 0xD518_D080, 0xD51B_D060, 0xD51B_D040  # TPIDR_EL1, TPIDRRO_EL0, TPIDR_EL0
# CRn, CRm, op0, op1, op2, as Unicorn wants them.
_CASE, _OUTCOME, _ELR_EL1 = (13, 0, 3, 0, 4), (13, 0, 3, 3, 3), (4, 0, 3, 0, 1)
_ERET = 0xD69F_03E0


class Store(NamedTuple):
    """`size` bytes of `value` that the instruction at `pc` would have written at `address`."""

    pc: int
    address: int
    size: int
    value: int


@dataclass(frozen=True)
class Trial:
    """What came of the cases of one function.

    `changed` is a register that differs though it must not, its value before and after; `fault`
    is how the function did not return; `case` is the number of the case either concerns.
    `ran_off` tells that execution went past the function's last instruction.
    """

    cases: int
    before: array[int]
    after: array[int]
    stores: tuple[Store, ...]
    changed: tuple[str, int, int] | None
    fault: str
    case: int
    ran_off: bool

    def input(self, register: int) -> array[int]:
        """The value of x`register` in each case before the call."""
        return self.before[register::_WORDS]

    def output(self, register: int) -> array[int]:
        """The same after it; zero from the case on that did not return."""
        return self.after[register::_WORDS]


@dataclass(frozen=True)
class State:
    """Memory that functions on trial may write: `ranges` of it, zero before each trial but for `preset`.

    `preset` are 64-bit words by address. The cases come from `returns` places whose addresses
    agree in all bits below the multiples of `spread` that they are apart, or in none.
    """

    ranges: tuple[range, ...] = ()
    preset: tuple[tuple[int, int], ...] = ()
    returns: int = 1
    spread: int = 1 << 16

    def holds(self, store: Store) -> bool:
        """Whether `store` is to this memory alone."""
        return any(store.address in each and store.address + store.size - 1 in each for each in self.ranges)


NO_STATE = State()
WIDEST = 16  # bytes of a store, at most
PADS = 4  # pages of places to return to


class Trials:
    """The cases, and a core to try functions of `elf` with. `count` is how many were executed."""

    def __init__(self, elf: Elf, board: Board, state: State = NO_STATE) -> None:
        self._elf, self._board, self.state = elf, board, state
        self.count, self._beyond = 0, 0
        self._random = random.Random(SEED)
        self._unicorn: Any = importlib.import_module("unicorn")
        self._arm: Any = importlib.import_module("unicorn.arm64_const")
        if board.cpu not in MODELS:
            raise UserError(f"{board.path}: the embedded emulator has no processor {board.cpu!r}")
        self._uc: Any = self._unicorn.Uc(self._unicorn.UC_ARCH_ARM64, self._unicorn.UC_MODE_ARM)
        self._uc.ctl_set_cpu_model(getattr(self._arm, MODELS[board.cpu]))
        self._system(SCR_EL3, SCR_RW)  # or ERET would leave for AArch32
        self._system(CPACR_EL1, 3 << 20)  # no trap of floating point
        self._stores: list[Store] = []
        self._uc.hook_add(self._unicorn.UC_HOOK_MEM_WRITE_PROT, self._note_store)
        self._written = _pages(state.ranges)
        self._map_image()
        self._map_driver()
        self._map_state()
        self._cases = self._random_cases()

    def run(self, function: Symbol, may_change: Collection[int], destination: int | None) -> Trial:
        """Try `function`, which may leave other values in the registers x`may_change`.

        `destination` is the register that holds the address of a pointer in RAM, if one does.
        """
        before = array("Q", self._cases)
        if destination is not None:
            before[destination::_WORDS] = self._addresses()
        self._uc.mem_write(self._table, before.tobytes())
        self._uc.mem_write(self._results, bytes(len(before) * 8))
        for each in self.state.ranges:
            self._uc.mem_write(each.start, bytes(len(each)))
        for address, value in self.state.preset:
            self._uc.mem_write(address, value.to_bytes(8, "little"))
        self._system(_CASE, self._table)
        self._system(_OUTCOME, self._results)
        self._system(_ELR_EL1, function.value)
        self._stores = []
        at_end: list[int] = []
        end = function.end if self._may_run_off(function) else None
        hook = self._watch(end, at_end) if end is not None else None
        fault, pc = self._start()
        if hook is not None:
            self._uc.hook_del(hook)
        after = array("Q", bytes(self._uc.mem_read(self._results, len(before) * 8)))
        done = (self._uc.reg_read(self._arm.UC_ARM64_REG_TPIDRRO_EL0) - self._results) // _BYTES
        self.count += CASES
        changed, case = _first_change(before, after, may_change) if not fault else (None, done)
        ran_off = bool(at_end) or (bool(fault) and pc == end)
        return Trial(CASES, before, after, tuple(self._stores), changed, fault, case, ran_off)

    def read(self, address: int, size: int) -> bytes:
        """What memory holds, after the last trial as before it but for its state."""
        return bytes(self._uc.mem_read(address, size))

    def put(self, address: int, words: Collection[int]) -> None:
        """Other instructions, from `address` on."""
        self._uc.mem_write(address, array("I", words).tobytes())

    def add_memory(self, size: int) -> int:
        """Memory beside the board's, which may be read, written and executed, all zero: its address."""
        self._beyond = self._beyond + (1 << 20) & -(1 << 20)
        address, self._beyond = self._beyond, self._beyond + size
        self._uc.mem_map(address, size + _PAGE & -_PAGE, self._unicorn.UC_PROT_ALL)
        return address

    # The cases

    def _random_cases(self) -> array[int]:
        """Every register of every case; the last `CORNERS` cases have telling values in x0 to x29."""
        values = array("Q", self._random.randbytes(CASES * _BYTES))
        ram = self._board.ram
        corners = [0, 1, (1 << 64) - 1, 1 << 63, ram.origin, ram.end - 8, self._board.bss, self._board.text]
        for register in range(30):
            chosen = self._random.choices(corners, k=CORNERS)
            values[(CASES - CORNERS) * _WORDS + register :: _WORDS] = array("Q", chosen)
        values[30::_WORDS] = array("Q", self._random.choices(self._returns, k=CASES))
        values[_SP::_WORDS] = array("Q", [value & ~15 for value in values[_SP::_WORDS]])
        values[_PSTATE::_WORDS] = array("Q", [value & _NZCV | _EL1H for value in values[_PSTATE::_WORDS]])
        values[_FPSR::_WORDS] = array("Q", bytes(8 * CASES))
        return values

    def _addresses(self) -> array[int]:
        ram = self._board.ram
        found: list[int] = []
        while len(found) < CASES:
            address = ram.origin + 8 * self._random.randrange(ram.length // 8)
            if not any(address in pages for pages in self._written):
                found.append(address)
        return array("Q", found)

    # The core

    def _system(self, register: tuple[int, int, int, int, int], value: int) -> None:
        self._uc.reg_write(self._arm.UC_ARM64_REG_CP_REG, (*register, value))

    def _map_image(self) -> None:
        """Flash and RAM, the image in them as after boot, and random bytes where it has none."""
        rights = self._unicorn
        loaded = [segment for segment in self._elf.segments if segment.kind == PT_LOAD and segment.memory_size]
        for region in self._board.regions:
            if region.kind == "device":
                continue
            runs = any(segment.flags & PF_X and segment.vma in region for segment in loaded)
            access = rights.UC_PROT_READ | (rights.UC_PROT_EXEC if runs else 0)
            # Protecting a part of what is mapped would copy all of it.
            begin = region.origin
            for pages in [*(pages for pages in self._written if pages.start in region), range(region.end, region.end)]:
                if begin < pages.start:
                    self._uc.mem_map(begin, pages.start - begin, access)
                if pages:
                    self._uc.mem_map(pages.start, len(pages), access | rights.UC_PROT_WRITE)
                begin = pages.stop
        for segment in loaded:
            # What is in the file beyond the segment's end in memory is not loaded; another claim is about that.
            size = min(segment.file_size, segment.memory_size)
            data = self._elf.data[segment.offset : segment.offset + size]
            noise = self._random.randbytes(min(segment.memory_size - size, 1 << 20))
            try:
                self._uc.mem_write(segment.vma, data)
                self._uc.mem_write(segment.vma + segment.file_size, noise)
            except self._unicorn.UcError as error:
                where = f"{segment.vma:#x} to {segment.vma + segment.memory_size:#x}"
                raise UserError(f"{self._elf.name}: the segment {where} does not lie in memory: {error}") from error

    def _map_driver(self) -> None:
        """The driver and its two tables, beyond the board's memory."""
        size = CASES * _BYTES + _PAGE & -_PAGE
        free = max(region.end for region in self._board.regions) + _PAGE & -_PAGE
        self._table, self._results, start = free, free + size, free + 2 * size
        rights = self._unicorn
        self._uc.mem_map(self._table, size, rights.UC_PROT_READ)
        self._uc.mem_map(self._results, size, rights.UC_PROT_READ | rights.UC_PROT_WRITE)
        self._uc.mem_map(start, _PAGE, rights.UC_PROT_READ | rights.UC_PROT_EXEC)
        enter, leave = _enter(), _leave(self._table + CASES * _BYTES)
        back = -(len(enter) + len(leave))
        code = array("I", [*enter, *leave, 0x5400_0001 | (back & 0x7FFFF) << 5])  # b.ne
        self._first, self._returned, self._stop = start, start + 4 * len(enter), start + 4 * len(code)
        self._returns, self._beyond = [self._returned], start + _PAGE
        self._uc.mem_write(start, code.tobytes())
        self._limit = CASES * (len(code) + LIMIT)

    def _map_state(self) -> None:
        """What notices stores beside the state, on its pages; and places to return to, as many as are asked for."""
        beside = [(pages.start, pages.stop) for pages in self._written]
        for each in self.state.ranges:
            # A store that begins in the state's last bytes may end behind it.
            beside = [
                part
                for low, high in beside
                for part in ((low, min(high, each.start)), (max(low, each.stop - WIDEST + 1), high))
                if part[0] < part[1]
            ]
        for low, high in beside:
            self._uc.hook_add(self._unicorn.UC_HOOK_MEM_WRITE, self._note_store, begin=low, end=high - 1)
        rights = self._unicorn
        if self.state.returns < 2:
            return
        spread = self.state.spread
        first = self._beyond + spread & -spread
        # As many on each page, at the same offsets: also at its last words.
        offsets = [_PAGE - 4, _PAGE - 8]
        offsets += [4 * each for each in self._random.sample(range(_PAGE // 4 - 2), self.state.returns // PADS)]
        self._returns = []
        for page in range(first, first + PADS * spread, spread):
            self._uc.mem_map(page, _PAGE, rights.UC_PROT_READ | rights.UC_PROT_EXEC)
            self._beyond = page + _PAGE
            for place in offsets[: self.state.returns // PADS]:
                self.put(page + place, [a64.encode_branch(a64.BRANCH, page + place, self._returned)])
                self._returns.append(page + place)

    def _start(self) -> tuple[str, int]:
        """Run the driver over the table: how it did not come to its end, or "", and where it stopped."""
        fault = ""
        try:
            self._uc.emu_start(self._first, self._stop, count=self._limit)
        except self._unicorn.UcError as error:
            fault = str(error)
        pc: int = self._uc.reg_read(self._arm.UC_ARM64_REG_PC)
        if not fault and pc != self._stop:
            fault = f"does not return within {LIMIT} instructions"
        return (f"{fault}, at pc {pc:#x}" if fault else ""), pc

    def _may_run_off(self, function: Symbol) -> bool:
        """Whether control can come past the function's last instruction other than by a branch there."""
        last = self._elf.word(function.end - 4)
        if not function.size or last is None or a64.is_b(last):
            return False
        return last & 0xFE00_0000 != 0xD600_0000 or last & 0xFFFF_FC1F == 0xD63F_0000  # C6.2 BR, RET; BLR

    def _watch(self, address: int, seen: list[int]) -> object:
        hook: object = self._uc.hook_add(
            self._unicorn.UC_HOOK_CODE, lambda uc, at, size, data: seen.append(at), begin=address, end=address
        )
        return hook

    def _note_store(self, uc: Any, access: int, address: int, size: int, value: int, data: object) -> bool:
        pc = uc.reg_read(self._arm.UC_ARM64_REG_PC)
        store = Store(pc, address, size, value & (1 << 8 * size) - 1)
        if not self.state.holds(store):
            self._stores.append(store)
        return True  # go on; the store is dropped


def _pages(ranges: Collection[range]) -> list[range]:
    """The pages that `ranges` have a byte on, in order, those that touch as one."""
    found: list[range] = []
    for each in sorted(ranges, key=lambda each: each.start):
        low, high = each.start & -_PAGE, each.stop + _PAGE - 1 & -_PAGE
        if found and low <= found[-1].stop:
            found[-1] = range(found[-1].start, max(high, found[-1].stop))
        else:
            found.append(range(low, high))
    return found


def _enter() -> list[int]:
    """Load the registers of a case, x0 last, and go to ELR_EL1."""
    return [
        _mrs(0, _MSR_CASE),
        _load(1, _PSTATE),
        _MSR_SPSR | 1,
        _load(1, _FPSR),
        _MSR_FPSR | 1,
        _load(1, _SP),
        0x9100_003F,  # mov sp, x1
        *(_vectors(at, loads=True) for at in range(0, 32, 2)),
        *(_pair(at, loads=True) for at in range(2, 30, 2)),
        _load(30, 30),
        _pair(0, loads=True),
        _ERET,
    ]


def _leave(end: int) -> list[int]:
    """Keep the registers of a case, go on to the next, and compare its address with `end`."""
    step = 0x9100_0000 | _BYTES << 10  # add x0, x0, #_BYTES
    return [
        _MSR_SPARE | 0,
        _mrs(0, _MSR_OUTCOME),
        _store(1, 1),
        *(_pair(at, loads=False) for at in range(2, 30, 2)),
        _store(30, 30),
        _mrs(1, _MSR_SPARE),
        _store(1, 0),
        0x9100_03E1,  # mov x1, sp
        _store(1, _SP),
        _mrs(1, _MSR_NZCV),
        _store(1, _PSTATE),
        _mrs(1, _MSR_FPSR),
        _store(1, _FPSR),
        *(_vectors(at, loads=False) for at in range(0, 32, 2)),
        step,
        _MSR_OUTCOME | 0,
        _mrs(0, _MSR_CASE),
        step,
        _MSR_CASE | 0,
        *(0xD280_0001 | (shift // 16) << 21 | (end >> shift & 0xFFFF) << 5 | (0x2000_0000 if shift else 0)
          for shift in (0, 16, 32, 48)),  # movz, movk x1
        0xEB01_001F,  # cmp x0, x1
    ]  # fmt: skip


# Words of the table the register x0 points at.


def _load(register: int, word: int) -> int:
    return 0xF940_0000 | word << 10 | register


def _store(register: int, word: int) -> int:
    return 0xF900_0000 | word << 10 | register


def _pair(first: int, loads: bool) -> int:
    return 0xA900_0000 | loads << 22 | first << 15 | first + 1 << 10 | first


def _vectors(first: int, loads: bool) -> int:
    return 0xAD00_0000 | loads << 22 | _VECTORS // 2 + first << 15 | first + 1 << 10 | first  # units of 16 bytes


def _mrs(register: int, system: int) -> int:
    return system | 1 << 21 | register


def _first_change(
    before: array[int], after: array[int], may_change: Collection[int]
) -> tuple[tuple[str, int, int] | None, int]:
    """The first register of the first case that differs and is not in `may_change`, and that case."""
    expected = array("Q", before)
    expected[_PSTATE::_WORDS] = array("Q", [value & _NZCV for value in expected[_PSTATE::_WORDS]])
    for register in may_change:
        expected[register::_WORDS] = after[register::_WORDS]
    if expected == after:
        return None, 0
    at = next(at for at, (a, b) in enumerate(zip(expected, after, strict=True)) if a != b)
    case, word = divmod(at, _WORDS)
    names = {_SP: "sp", _PSTATE: "the flags (NZCV)", _FPSR: "FPSR"}
    name = names.get(word, f"x{word}" if word < _SP else f"v{(word - _VECTORS) // 2}")
    return (name, expected[at], after[at]), case
