"""Calling the allocator of an image thousands of times, its own bytes, on a core of the embedded emulator.

Memory holds noise, as after a reset. Each block must lie where blocks may, be aligned, zeroed and apart from
all others; whoever asks for more than is left must come to the end of the run instead. Some calls are
interrupted, after each instruction in turn, by another call, as by an interrupt handler that allocates.
At the end nothing else in memory may have changed.
"""

from __future__ import annotations

import importlib
import random
from bisect import bisect, insort
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from buildsys.config.board import Board, Region
from buildsys.errors import UserError
from buildsys.formats.elf import PF_W, PT_LOAD, Elf
from buildsys.formats.symbols import Symbol
from buildsys.go.sets import ALLOC
from buildsys.machines.processor import CPACR_EL1, MODELS, SCR_EL3, SCR_RW
from buildsys.proof.case import Case

SEED = 20260801
CALLS = 1500  # beside those that interrupt and are interrupted
INTERRUPTED = 48  # instructions after which a call is interrupted: more than one runs before its first store
ALIGNMENT = 16  # of every block
NOISE = 8 << 20  # bytes at its beginning, for all others
LARGEST = 4096  # bytes of a block, where there is room
TAIL = 1 << 16  # bytes at the end of the memory, for blocks that just fit
_LIMIT = 1 << 20  # instructions of one call
_PAGE = 0x1000
# What Go's functions leave as it is, src/cmd/compile/abi-internal.md: R18, g, the frame pointer.
_KEPT = (18, 28, 29)
_ALIGNS = "persistentalloc"  # its second argument is the alignment wished for: src/runtime/malloc.go
MALLOC = "runtime.mallocgc"
MEMORY = ("__alloc_low", "__alloc_high")
ZERO, COUNT = "runtime.zerobase", "buildsys.allocated"
# Ours of this name; where it comes to that, the run ends. Without the set `panic` it is a branch to the second.
THROW, FATAL = "runtime.throw", "buildsys.fatal"


@dataclass
class Tried:
    """What came of it: how many calls returned a block, how many were refused and interrupted; what was wrong."""

    blocks: int = 0
    refused: int = 0
    interrupted: int = 0
    problems: list[str] = field(default_factory=list)


def tried(case: Case) -> Tried:
    """Call the functions of our allocator in turn, until something is wrong; none if the image has another, or none.

    Raises UserError for an unknown processor.
    """
    found, elf, board = Tried(), case.elf, case.board
    if case.allocator or not case.plan.allocates:
        return found
    pairs = {name: case.pairs[name].new for name in (*case.plan.of_set(ALLOC).calls, THROW) if name in case.pairs}
    names = elf.symbols.addresses(*MEMORY, ZERO, COUNT, FATAL)
    names |= {name: function.value for name, function in pairs.items() if function}
    if missing := [name for name in (*MEMORY, ZERO, COUNT, FATAL, THROW, *pairs) if name not in names]:
        found.problems.append(f"the allocator cannot be tried: there is no symbol {missing[0]}, or several")
        return found
    functions = [function for name, function in pairs.items() if function and name != THROW]
    memory = range(*(names[name] for name in MEMORY))
    if not memory or memory[0] not in board.ram or memory[-1] not in board.ram:
        found.problems.append(f"what it hands out, {memory.start:#x}..{memory.stop:#x}, is not in RAM")
        return found
    try:
        _Bench(elf, board, functions, names, found).work()
    except _WrongError as wrong:
        found.problems.append(f"{wrong} (seed {SEED})")
    return found


def costs(case: Case, sizes: Sequence[int]) -> dict[int, int]:
    """How many instructions a call of our `runtime.mallocgc` takes, for each of `sizes` in bytes.

    Raises UserError if the image has no allocator of ours.
    """
    names = case.elf.symbols.addresses(*MEMORY, ZERO, COUNT, FATAL)
    names |= {name: pair.new.value for name in (THROW,) if (pair := case.pairs.get(name)) and pair.new}
    function = case.pairs[MALLOC].new if MALLOC in case.pairs else None
    if function is None or len(names) < len((*MEMORY, ZERO, COUNT, FATAL, THROW)):
        raise UserError(f"{case.image}: has no allocator of ours")
    bench = _Bench(case.elf, case.board, [function], names, Tried())
    return {size: bench.instructions(_Wish(function, size)) for size in sizes}


class _WrongError(Exception):
    """What the allocator did wrong, in words."""


@dataclass(frozen=True)
class _Wish:
    """One call to make: `align` is 0 if the function is not asked for one."""

    function: Symbol
    size: int
    align: int = 0

    def __str__(self) -> str:
        wish = f" aligned to {self.align}" if self.align else ""
        return f"{self.function.name} asked for {self.size:#x} bytes{wish}"


class _Bench:
    """A core with the image in its memory, and what memory must hold."""

    def __init__(
        self, elf: Elf, board: Board, functions: Sequence[Symbol], names: dict[str, int], found: Tried
    ) -> None:
        self._elf, self._functions, self._names, self._found = elf, functions, names, found
        self._low, self._high = (names[name] for name in MEMORY)
        self._random = random.Random(SEED)
        self._unicorn: Any = importlib.import_module("unicorn")
        self._arm: Any = importlib.import_module("unicorn.arm64_const")
        if board.cpu not in MODELS:
            raise UserError(f"{board.path}: the embedded emulator has no processor {board.cpu!r}")
        self._uc: Any = self._unicorn.Uc(self._unicorn.UC_ARCH_ARM64, self._unicorn.UC_MODE_ARM)
        self._uc.ctl_set_cpu_model(getattr(self._arm, MODELS[board.cpu]))
        self._uc.reg_write(self._arm.UC_ARM64_REG_CP_REG, (*SCR_EL3, SCR_RW))
        self._uc.reg_write(self._arm.UC_ARM64_REG_CP_REG, (*CPACR_EL1, 3 << 20))
        for region in board.regions:
            if region.kind != "device":
                self._map(region)
        self._returned = max(region.end for region in board.regions) + _PAGE & -_PAGE
        self._stack = self._returned + 2 * _PAGE
        self._uc.mem_map(self._returned, 2 * _PAGE)
        # Where it goes that has no memory left; the core stops there.
        for fatal in (names[THROW], names[FATAL]):
            self._uc.hook_add(self._unicorn.UC_HOOK_CODE, self._end, begin=fatal, end=fatal)
        self._fatal = False
        self._registers = {
            name: getattr(self._arm, f"UC_ARM64_REG_{name.upper()}")
            for name in (*(f"x{number}" for number in range(31)), "sp", "pc")
        }
        self._largest = min(LARGEST, (self._high - self._low) // 8)
        self._blocks: list[tuple[int, int]] = []
        self._slack: list[range] = []
        self._filled: dict[int, bytes] = {}
        # What memory must hold at the end, from each address on.
        self._expected: dict[int, bytearray] = {}
        self._fill()

    def work(self) -> None:
        """Make every kind of call."""
        telling = [0, 1, 7, 8, 9, 15, 16, 17, 24, 31, 32, 33, 48, 64, LARGEST - 1, LARGEST]
        sizes = [size for size in telling if size <= self._largest]
        for at in range(CALLS):
            self._call(self._wish(at, sizes[at] if at < len(sizes) else self._size()))
        for size in (self._high - self._low + 1, 1 << 32, 1 << 47, 1 << 63, (1 << 64) - 16, (1 << 64) - 1):
            for at in range(len(self._functions)):
                self._refused(self._wish(at, size))
        for at in range(INTERRUPTED * len(self._functions)):
            self._interrupted(self._wish(at, self._size()), at // len(self._functions))
        self._to_the_end()
        self._untouched()

    def instructions(self, wish: _Wish) -> int:
        """How many instructions a call takes, its return included."""
        seen: list[int] = []
        hook = self._uc.hook_add(self._unicorn.UC_HOOK_CODE, lambda uc, at, size, data: seen.append(at))
        self._call(wish)
        self._uc.hook_del(hook)
        return len(seen)

    # The calls

    def _size(self) -> int:
        most = min(1500, self._largest)
        return self._random.choice((1, self._random.randrange(1, 64), self._random.randrange(1, most)))

    def _wish(self, at: int, size: int) -> _Wish:
        if self._count() + 4 * self._largest > min(NOISE, self._high - self._low):
            self._begin_anew()
        function = self._functions[at % len(self._functions)]
        align = 1 << self._random.randrange(0, self._largest.bit_length()) if _ALIGNS in function.name else 0
        return _Wish(function, size or int(bool(align)), align)

    def _call(self, wish: _Wish) -> None:
        kept = self._enter(wish)
        self._run(wish, self._uc.reg_read(self._arm.UC_ARM64_REG_PC))
        if self._fatal:
            raise _WrongError(f"{wish}, and ended the run, though there is room")
        self._judge(wish, kept)

    def _refused(self, wish: _Wish) -> None:
        """A call that must not return."""
        before = self._count()
        self._enter(wish)
        self._run(wish, self._uc.reg_read(self._arm.UC_ARM64_REG_PC))
        if not self._fatal:
            given = self._register(0)
            raise _WrongError(f"{wish}, more than is left, and got {given:#x}")
        if self._count() != before:
            raise _WrongError(f"{wish}, more than is left, and {COUNT} became {self._count():#x}, from {before:#x}")
        self._found.refused += 1

    def _interrupted(self, wish: _Wish, after: int) -> None:
        """A call that another one interrupts, when as many instructions were executed."""
        kept = self._enter(wish)
        if after:
            self._run(wish, self._uc.reg_read(self._arm.UC_ARM64_REG_PC), after)
        pc = self._uc.reg_read(self._arm.UC_ARM64_REG_PC)
        if self._fatal:
            raise _WrongError(f"{wish}, and ended the run, though there is room")
        if pc == self._returned:  # it was over before
            self._judge(wish, kept)
            return
        context = self._uc.context_save()
        sp = self._uc.reg_read(self._arm.UC_ARM64_REG_SP)
        nested = _Wish(self._functions[0], self._size())
        nested_kept = self._enter(nested, sp - 256)
        self._run(nested, nested.function.value)
        if self._fatal:
            raise _WrongError(f"{nested}, and ended the run, though there is room")
        self._judge(nested, nested_kept)
        self._uc.context_restore(context)
        self._run(wish, pc)
        if self._fatal:
            raise _WrongError(f"{wish}, was interrupted, and ended the run, though there is room")
        self._judge(wish, kept)
        self._found.interrupted += 1

    def _to_the_end(self) -> None:
        """The last bytes are handed out, and then none."""
        self._begin_anew()
        function, room = self._functions[0], self._high - self._low
        self._uc.mem_write(self._names[COUNT], (room - 3 * ALIGNMENT).to_bytes(8, "little"))
        self._refused(_Wish(function, 3 * ALIGNMENT + 1))
        self._call(_Wish(function, 2 * ALIGNMENT - 1))
        self._call(_Wish(function, ALIGNMENT))
        self._refused(_Wish(function, 1))

    # What must come of them

    def _judge(self, wish: _Wish, kept: dict[str, int]) -> None:
        given = self._register(0)
        held = self._uc.reg_read_batch([self._registers[name] for name in kept])
        for (name, value), now in zip(kept.items(), held, strict=True):
            if now != value:
                raise _WrongError(f"{wish}, and {name} became {now:#x}, from {value:#x}")
        if not wish.size:
            if given != self._names[ZERO]:
                raise _WrongError(f"{wish}, and got {given:#x}, not {ZERO}, {self._names[ZERO]:#x}")
            return
        align = max(wish.align, ALIGNMENT)
        if given % align:
            raise _WrongError(f"{wish}, and got {given:#x}, which is not aligned to {align}")
        if given < self._low or given + wish.size > self._high:
            raise _WrongError(f"{wish}, and got {given:#x}, not within {self._low:#x}..{self._high:#x}")
        if other := self._owner(given, wish.size):
            raise _WrongError(f"{wish}, and got {given:#x}, part of {other[1]} bytes given before at {other[0]:#x}")
        if any(self._uc.mem_read(given, wish.size)):
            raise _WrongError(f"{wish}, and got {given:#x}, which is not zeroed")
        insort(self._blocks, (given, wish.size))
        # What is left of the unit it ends in, and what was skipped for the sake of alignment, may be anything.
        self._slack.append(range(given - align + ALIGNMENT, given + wish.size + align))
        self._filled[given] = self._random.randbytes(wish.size)  # by its owner
        self._uc.mem_write(given, self._filled[given])
        self._found.blocks += 1

    def _owner(self, low: int, size: int) -> tuple[int, int] | None:
        """A block, address and size, that has some of the `size` bytes at `low`."""
        at = bisect(self._blocks, (low, 0))
        neighbours = self._blocks[max(at - 1, 0) : at + 1]
        return next((one for one in neighbours if one[0] < low + size and low < sum(one)), None)

    def _untouched(self) -> None:
        """Nothing may have changed but what was handed out, and how much that is."""
        count = self._names[COUNT]
        for start, model in self._expected.items():
            held = bytearray(self._uc.mem_read(start, len(model)))
            if start <= count < start + len(model):
                held[count - start : count - start + 8] = model[count - start : count - start + 8]
            for slack in self._slack:
                _copy(model, held, start, slack)
            for low, contents in self._filled.items():
                _copy(model, contents, start, range(low, low + len(contents)), low)
            if held != model:
                at = next(at for at, (one, other) in enumerate(zip(held, model, strict=True), start) if one != other)
                raise _WrongError(f"the allocator wrote to {at:#x}, which it had not handed out, or not just then")

    def _begin_anew(self) -> None:
        """Nothing is handed out, as after a reset; what was, and all else, must be as it was left."""
        self._untouched()
        self._blocks, self._slack, self._filled = [], [], {}
        self._uc.mem_write(self._names[COUNT], bytes(8))
        self._fill()

    # The core

    def _fill(self) -> None:
        """The image as after boot, and noise in what is to be handed out."""
        for segment in self._elf.segments:
            if segment.kind == PT_LOAD and segment.memory_size:
                size = min(segment.file_size, segment.memory_size)
                data = bytearray(segment.memory_size)
                data[:size] = self._elf.data[segment.offset : segment.offset + size]
                self._write(segment.vma, data)
                if segment.flags & PF_W:
                    self._expected[segment.vma] = data
        first = min(self._low + NOISE, self._high)
        for low, high in ((self._low, first), (max(first, self._high - TAIL), self._high)):
            self._expected[low] = bytearray(self._random.randbytes(high - low))
            self._write(low, self._expected[low])

    def _write(self, start: int, data: bytearray) -> None:
        try:
            self._uc.mem_write(start, bytes(data))
        except self._unicorn.UcError as error:
            raise UserError(f"{self._elf.name}: {start:#x} does not lie in memory: {error}") from error

    def _map(self, region: Region) -> None:
        """Give the core the memory of `region`: what the image or we hand out can be written, and no more.

        In pieces, each mapped as it is to be: to protect a part of one afterwards has all of it copied.
        """
        writable = [(self._low, self._high)]
        loaded = [each for each in self._elf.segments if each.kind == PT_LOAD and each.flags & PF_W]
        writable += [(each.vma, each.vma + each.memory_size) for each in loaded]
        readable, at = self._unicorn.UC_PROT_READ | self._unicorn.UC_PROT_EXEC, region.origin
        for start, end in (*sorted(writable), (region.end, region.end)):
            low, high = max(start & -_PAGE, at), min(end + _PAGE - 1 & -_PAGE, region.end)
            if at < low <= region.end:
                self._uc.mem_map(at, low - at, readable)
                at = low
            if low < high:
                self._uc.mem_map(low, high - low, self._unicorn.UC_PROT_ALL)
                at = high

    def _enter(self, wish: _Wish, sp: int | None = None) -> dict[str, int]:
        """Set every register for a call; gives those that must be the same after it."""
        self._fatal = False
        values = {f"x{number}": self._random.getrandbits(64) for number in range(30)}
        values |= {"x0": wish.size, "x30": self._returned, "sp": self._stack if sp is None else sp & -16}
        if wish.align:
            values["x1"] = wish.align
        values["pc"] = wish.function.value
        self._uc.reg_write_batch([(self._registers[name], value) for name, value in values.items()])
        return {name: values[name] for name in (*(f"x{number}" for number in _KEPT), "sp")}

    def _run(self, wish: _Wish, pc: int, count: int = _LIMIT) -> None:
        try:
            self._uc.emu_start(pc, self._returned, count=count)
        except self._unicorn.UcError as error:
            at = self._uc.reg_read(self._arm.UC_ARM64_REG_PC)
            raise _WrongError(f"{wish}: {error}, at pc {at:#x}") from error
        at = self._uc.reg_read(self._arm.UC_ARM64_REG_PC)
        if count == _LIMIT and not self._fatal and at != self._returned:
            raise _WrongError(f"{wish}, and did not return: it was at {at:#x} after {_LIMIT} instructions")

    def _end(self, uc: Any, at: int, size: int, data: object) -> None:
        self._fatal = True
        uc.emu_stop()

    def _register(self, number: int) -> int:
        value: int = self._uc.reg_read(getattr(self._arm, f"UC_ARM64_REG_X{number}"))
        return value

    def _count(self) -> int:
        return int.from_bytes(self._uc.mem_read(self._names[COUNT], 8), "little")


def _copy(to: bytearray, source: bytes | bytearray, start: int, which: range, source_start: int | None = None) -> None:
    """Copy the bytes at the addresses `which`; `to` begins at `start`, `source` there too, or at `source_start`."""
    low, high = max(which.start, start), min(which.stop, start + len(to))
    if low < high:
        first = start if source_start is None else source_start
        to[low - start : high - start] = source[low - first : high - first]
