"""Where an address lies, in words: on the board's memory map, in the image, on a stack."""

from __future__ import annotations

from dataclasses import dataclass

from buildsys.config.board import Board
from buildsys.crash.view import View
from buildsys.formats.elf import SHF_ALLOC, SHF_EXECINSTR, SHF_WRITE, Elf

NEAR = 1 << 20  # bytes: what is farther from a stack than that is told by its own place
OF_BATCHES, GUARD_OF_BATCHES = "buildsys.batch_stack", "buildsys.batch_guard"
NIL = 1 << 12  # src/runtime/signal_unix.go, sigpanic: so near to 0 a pointer was nil


@dataclass(frozen=True)
class Stack:
    """One of the stacks that boot code gives: it begins at `high` and grows down to `low`.

    What lies from `guard` on to `low` is not mapped; None if the image has no guard below this stack.
    """

    name: str
    low: int
    high: int
    guard: int | None = None


class Places:
    """The places of one image on one board, in the memory of a machine that runs it, if there is one."""

    def __init__(self, elf: Elf, board: Board, view: View | None = None) -> None:
        self._elf, self._board, self._view = elf, board, view
        self.stacks = stacks(elf)

    def stack_of(self, address: int) -> Stack | None:
        """The stack `address` is on; its upper bound counts as well, for there it is empty."""
        inside = (each for each in self.stacks if each.low < address <= each.high)
        return next(inside, next((each for each in self.stacks if each.low == address), None))

    def below(self, address: int) -> Stack | None:
        """The stack that `address` is near below, if it is on none."""
        near = [each for each in self.stacks if address < each.low and each.low - address < NEAR]
        return min(near, key=lambda each: each.low, default=None) if not self.stack_of(address) else None

    def guarded(self, address: int) -> Stack | None:
        """The stack in whose guard `address` is, if nothing is mapped there."""
        above = (each for each in self.stacks if each.guard is not None and each.guard <= address < each.low)
        return next(above, None) if self._unmapped(address) else None

    def stack(self, address: int) -> str:
        """Where a stack pointer points."""
        if on := self.stack_of(address):
            return f"on the {on.name} stack, {on.high - address:,} of its {on.high - on.low:,} bytes in use"
        if below := self.below(address):
            return f"{_bytes(below.low - address)} below the {below.name} stack{self._unguarded(below)}"
        return f"on no stack that boot code gave: {self.of(address)}"

    def of(self, address: int) -> str:
        """What is at `address`."""
        if address < NIL and self._unmapped(address):
            return "nil" if not address else f"nil, and {_bytes(address)} on"
        for each in self.stacks:
            if each.low <= address < each.high:
                return f"in the {each.name} stack, {_bytes(address - each.low)} above its lower end"
        if over := self.guarded(address):
            return f"{_bytes(over.low - address)} below the {over.name} stack, in its guard"
        if named := self._named(address):
            return named
        region = self._board.region_at(address)
        if region is None:
            return self._outside(address)
        where = f"in {region.name}"
        if uart := self._device(address):
            return f"{uart}, {where}"
        if region.kind == "flash":
            where += ": writes are lost there"
        if self._unmapped(address):
            return f"{where}, where nothing is mapped"
        if heap := self._bound("heap", address):
            return f"{where}, {heap}"
        return where

    def _unguarded(self, stack: Stack) -> str:
        """That nothing stops who runs off the end of `stack`, if so."""
        if stack.guard is None:
            return ", which has no guard, for boot code is the kernel's own"
        if self._view is not None and not self._unmapped(stack.guard):
            return ", whose guard is off, for the page tables of boot code are not in use"
        return ""

    def _named(self, address: int) -> str:
        """In which function or variable it is, and of which section."""
        section = next((each for each in self._elf.sections if each.flags & SHF_ALLOC and address in each), None)
        if section is None:
            return ""
        symbols = self._elf.symbols
        symbol = symbols.function_at(address) if section.flags & SHF_EXECINSTR else symbols.object_at(address)
        what = f"{symbol.name}+{address - symbol.value:#x}, " if symbol else ""
        if section.flags & SHF_EXECINSTR:
            return f"{what}in code"
        return f"{what}in {section.name}{'' if section.flags & SHF_WRITE else ', which cannot be written'}"

    def _device(self, address: int) -> str:
        board = self._board
        if board.uart.base <= address < board.uart.base + board.uart.size:
            return f"a register of the uart ({board.uart.model}), {address - board.uart.base:#x}"
        for each in board.devices:
            if each.base <= address < each.base + each.size:
                return f"a register of {each.name} ({each.model}), {address - each.base:#x}"
        return ""

    def _bound(self, name: str, address: int) -> str:
        found = self._elf.symbols.addresses(f"__{name}_low", f"__{name}_high")
        if len(found) == 2 and found[f"__{name}_low"] <= address < found[f"__{name}_high"]:
            return f"in the {name}"
        return ""

    def _outside(self, address: int) -> str:
        below = [each for each in self._board.regions if each.end <= address]
        if self._view is not None and self._view.mapping(address):
            return "in memory that the program has mapped"
        if below:
            last = max(below, key=lambda each: each.end)
            if address - last.end < NEAR:
                return f"{_bytes(address - last.end)} beyond the end of {last.name}, where nothing is"
        return "in no region of the board"

    def _unmapped(self, address: int) -> bool:
        return self._view is not None and self._view.translates and self._view.mapping(address) is None


def stacks(elf: Elf) -> tuple[Stack, ...]:
    """The stacks of an image, as the linker script bounds them; that of batches as templates/barrier-user.s.j2 does."""
    pairs = (("boot", "__stack"), ("exception", "__exception_stack"))
    found = elf.symbols.addresses(*(f"{prefix}_{end}" for _, prefix in pairs for end in ("low", "high", "guard")))
    stacks = [
        Stack(name, found[f"{prefix}_low"], found[f"{prefix}_high"], found.get(f"{prefix}_guard"))
        for name, prefix in pairs
        if f"{prefix}_low" in found and f"{prefix}_high" in found
    ]
    guards = elf.symbols.addresses(GUARD_OF_BATCHES)
    batches = elf.symbols.named(OF_BATCHES)[OF_BATCHES]
    stacks += [Stack("batch", each.value, each.end, guards.get(GUARD_OF_BATCHES)) for each in batches]
    return tuple(stacks)


def _bytes(count: int) -> str:
    return f"{count:,} byte{'' if count == 1 else 's'}"
