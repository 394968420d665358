"""Loads of the flag, told apart: a compiler's check before a barrier call, or a reader with ideas of its own.

A check is a load of the flag and a CBZ, CBNZ or TBZ, TBNZ of its lowest bit.
Each path taken when the flag is set must first call a function that was
redirected or is one of `COPIES`, or join the path taken when it is clear, before
it loads the flag again; but for a check that is only come to when it is set:
src/runtime/map_fast64.go asks, and has the compiler ask again. Anything else that loads the flag goes on to use the
runtime's own buffers.
"""

from __future__ import annotations

from array import array
from collections.abc import Container
from dataclasses import dataclass

from buildsys.formats import a64
from buildsys.formats.elf import Elf
from buildsys.formats.references import Code, Reference, overwrites
from buildsys.go.runtime import SLOTTED, STORING

# Called by a check of Go 1.20 and older to copy and clear values that hold pointers: they need
# nothing of a runtime but runtime.bulkBarrierPreWrite, which is redirected. Since Go 1.21
# runtime.wbMove and wbZero take their place: cmd/compile/internal/ssa/writebarrier.go.
COPIES = ("runtime.typedmemmove", "runtime.typedmemclr")
FLAG_BYTES = 4  # src/runtime/mgc.go: the compiler tests `enabled` and the three bytes of padding after it
SEARCH = 64  # instructions followed on a path; the longest seen is 19


@dataclass(frozen=True)
class Judgement:
    """What one load of the flag leads to.

    `branch` is the address of the instruction that decides, None if there is none. `when_set` are the
    addresses run when the flag is set, until that joins what is run when it is clear, `when_clear` those
    run when it is, until the next decision or call. `calls` are the sites of functions served on
    `when_set`. `accounted` tells that the load is a check; otherwise `stray` is the first call that
    was not served and where it goes, if that is the reason.
    """

    read: Reference
    branch: int | None = None
    when_set: tuple[int, ...] = ()
    when_clear: tuple[int, ...] = ()
    calls: tuple[int, ...] = ()
    stray: tuple[int, int] | None = None
    accounted: bool = False


def code_of(elf: Elf) -> Code:
    """The code of an image made by Go, where barriers and the devices that copy and clear spare registers."""
    named = elf.symbols.named(*SLOTTED, STORING, "runtime.duffzero", "runtime.duffcopy")
    return Code(elf, (symbol for symbols in named.values() for symbol in symbols))


def judge(code: Code, read: Reference, served: Container[int], loads: Container[int]) -> Judgement:
    """Follow what `read`'s function does when the flag is set, up to the first call on each path.

    `served` are the addresses of functions that may be called then, `loads` those of all loads of the flag.
    """
    _, base, words = code.body(read.address)
    found = _branch(words, base, read)
    if found is None:
        return Judgement(read)
    branch, when_set, when_clear = found
    clear = _straight(words, base, when_clear)
    paths = _Paths(words, base, frozenset(clear), served, loads, (when_clear, read.address))
    fine = paths.follow(when_set)
    return Judgement(
        read=read,
        branch=branch,
        when_set=tuple(paths.addresses),
        when_clear=tuple(clear),
        calls=tuple(paths.calls),
        stray=paths.stray,
        accounted=fine and bool(paths.calls),
    )


def _branch(words: array[int], base: int, read: Reference) -> tuple[int, int, int] | None:
    """The branch that decides on the value loaded: (its address, where it goes if set, and if clear)."""
    first = (read.address - base >> 2) + 1
    for index in range(first, min(first + SEARCH, len(words))):
        word, address = words[index], base + 4 * index
        target = a64.conditional_target(word, address)
        if target is not None:
            tested = a64.compare_branch(word)
            lowest = word & 0x7E00_0000 == 0x3600_0000 and word & 0x80F8_0000 == 0  # C6.2 TBZ, bit 0
            if not (tested or lowest) or word & 31 != read.register:
                return None
            # Bit 24 tells CBNZ and TBNZ from CBZ and TBZ.
            return (address, target, address + 4) if word >> 24 & 1 else (address, address + 4, target)
        if a64.branch_target(word, address) is not None or overwrites(word, read.register):
            return None
    return None


def _straight(words: array[int], base: int, start: int) -> list[int]:
    """The addresses run from `start` on up to the next decision, call or return, and at most SEARCH."""
    found: list[int] = []
    address = start
    while len(found) < SEARCH and 0 <= address - base >> 2 < len(words) and address not in found:
        word = words[address - base >> 2]
        found.append(address)
        target = a64.branch_target(word, address)
        if target is not None and not a64.is_bl(word):
            address = target
        elif target is None and a64.conditional_target(word, address) is None and not _is_indirect(word):
            address += 4
        else:
            break
    return found


class _Paths:
    """Every path from one place to its first call, and on to where it joins the addresses in `clear`."""

    def __init__(
        self,
        words: array[int],
        base: int,
        clear: frozenset[int],
        served: Container[int],
        loads: Container[int],
        otherwise: tuple[int, int],
    ) -> None:
        self._words, self._base, self._clear = words, base, clear
        self._served, self._loads = served, loads
        self._otherwise = otherwise
        self._beside: set[int] | None = None
        self.addresses: list[int] = []
        self.calls: list[int] = []
        self.stray: tuple[int, int] | None = None
        self._pending: list[int] = []
        self._seen: set[int] = set()

    def follow(self, start: int) -> bool:
        """Whether each path from `start` first calls a function that is served, or joins without a call."""
        self._pending.append(start)
        while self._pending:
            if not self._one(self._pending.pop()):
                return False
        return True

    def _is_beside(self, address: int) -> bool:
        """Whether control can come to `address` when the flag is clear, before it is loaded anew."""
        if self._beside is None:
            start, again = self._otherwise
            self._beside, pending = {again}, [start]
            while pending:
                at = pending.pop()
                index = at - self._base >> 2
                if at in self._beside or not 0 <= index < len(self._words):
                    continue
                self._beside.add(at)
                word = self._words[index]
                target = a64.branch_target(word, at)
                if target is not None and not a64.is_bl(word):
                    pending.append(target)
                elif word & 0xFFFF_FC1F not in (0xD61F_0000, 0xD65F_0000):  # C6.2 BR, RET
                    conditional = a64.conditional_target(word, at)
                    pending += [at + 4] if conditional is None else [at + 4, conditional]
        return address in self._beside

    def _one(self, address: int) -> bool:
        """One path, up to its next decision after a call; decisions before it are left pending."""
        called = False
        for _ in range(SEARCH):
            if address in self._clear or address in self._seen:
                return True
            index = address - self._base >> 2
            if not 0 <= index < len(self._words) or (address in self._loads and (called or self._is_beside(address))):
                return called
            word = self._words[index]
            self._seen.add(address)
            self.addresses.append(address)
            target = a64.branch_target(word, address)
            if target is not None and (a64.is_bl(word) or not 0 <= target - self._base >> 2 < len(self._words)):
                if target not in self._served:
                    self.stray = None if called else (address, target)
                    return called
                self.calls.append(address)
                called = True
                if not a64.is_bl(word):
                    return True
                address += 4
                continue
            conditional = a64.conditional_target(word, address)
            if _is_indirect(word) or (conditional is not None and called):
                return called
            if conditional is not None:
                self._pending.append(conditional)
            address = address + 4 if target is None else target
        return called


def _is_indirect(word: int) -> bool:
    """C6.2 BR, BLR, RET: control goes where a register says."""
    return word & 0xFE00_0000 == 0xD600_0000
