"""Which goroutine a thread runs, by x28, and for a program what all of them were doing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from buildsys.crash.source import PROGRAM
from buildsys.crash.threads import in_program, threads
from buildsys.crash.view import Memory
from buildsys.formats.dwarf import layout
from buildsys.formats.elf import Elf

MOST = 10_000
# src/runtime/runtime2.go: the states of a goroutine, of which the bit above says that a collector scans its stack.
STATES = {
    0: "idle", 1: "runnable", 2: "running", 3: "in a system call", 4: "waiting", 6: "dead", 8: "growing its stack",
    9: "preempted",
}  # fmt: skip
WAITING, DEAD, SCAN = 4, 6, 0x1000
FIELDS = ("goid", "atomicstatus", "waitreason", "sched", "stack", "m", "gopc")


@dataclass(frozen=True)
class Goroutine:
    """One goroutine: where its runtime.g is, its number, its state in words, what its runtime.g keeps of registers."""

    address: int
    number: int
    state: str
    registers: dict[str, int]
    running: bool = False


class Goroutines:
    """The goroutines of one image, in the memory of a machine that runs it."""

    def __init__(self, elf: Elf, view: Memory) -> None:
        self._elf, self._view = elf, view
        info, abbrev = elf.section(".debug_info"), elf.section(".debug_abbrev")
        tables = (bytes(elf.contents(info)), bytes(elf.contents(abbrev))) if info and abbrev else (b"", b"")
        self._g, self._m, self._buffer = (
            layout(*tables, name) or {} for name in ("runtime.g", "runtime.m", "runtime.gobuf")
        )

    def current(self, g: int) -> str:
        """Which goroutine the runtime.g at `g` is, in words."""
        prefix = PROGRAM if self.of_program else ""
        named = {
            "runtime.g0": "g0, which boot code runs the kernel on",
            "buildsys.report_g": "the g of a report",
            "buildsys.batch_g": "the g that batches of barriers are handled on",
            f"{PROGRAM}runtime.g0": "g0 of the program's first thread: its runtime, no goroutine",
        }
        found = self._elf.symbols.addresses(*named)
        for name, words in named.items():
            if found.get(name) == g:
                return words
        if prefix and any(each.address == g for each in self.all()):
            return f"goroutine {self._word(g, 'goid')}"
        user = self._user(g) if prefix else 0
        if user:
            return f"g0 of the thread that runs goroutine {self._word(user, 'goid')}"
        return f"{g:#x}, which is no g that is known"

    def of(self, g: int) -> int:
        """The goroutine's runtime.g that the thread with the runtime.g at `g` runs."""
        return self._user(g) or g

    @property
    def of_program(self) -> bool:
        """Whether the image has a program, with goroutines."""
        return bool(self._elf.symbols.addresses(f"{PROGRAM}runtime.allglen"))

    def all(self) -> Iterator[Goroutine]:
        """Every goroutine of a program that is not dead: src/runtime/proc.go, allgs."""
        found = self._elf.symbols.addresses(f"{PROGRAM}runtime.allgs")
        if not found or not self._g:
            return
        at = found[f"{PROGRAM}runtime.allgs"]
        first, count = self._view.word(at), self._view.word(at + 8)
        for index in range(min(count or 0, MOST)):
            g = self._view.word((first or 0) + 8 * index)
            state = None if not g else self._word(g, "atomicstatus", 4)
            if g and state is not None and state & ~SCAN != DEAD:
                yield self._goroutine(g, state & ~SCAN)

    def stands(self, goroutine: Goroutine, live: Mapping[str, int]) -> dict[str, int] | None:
        """The registers `goroutine` goes on with, `live` being those of the machine; None if they are not known."""
        running = [dict(live)] if in_program(live) else []
        running += [each.registers for each in threads(self._elf, self._view, live) if each.here and not each.runs]
        for registers in running:
            g = registers.get("x28", 0)
            if g == goroutine.address:
                return registers
            if self._user(g) == goroutine.address:
                return _complete(goroutine.registers)  # its thread is on another stack for a moment
        return None if goroutine.running else _complete(goroutine.registers)

    def _goroutine(self, g: int, state: int) -> Goroutine:
        words = STATES.get(state, f"in state {state}")
        if state == WAITING:
            words = self._reason(self._word(g, "waitreason", 1) or 0) or words
        sched = g + self._g["sched"]
        saved = {
            name: self._view.word(sched + self._buffer[field]) or 0
            for name, field in (("pc", "pc"), ("sp", "sp"), ("x29", "bp"), ("x30", "lr"))
            if field in self._buffer
        }
        return Goroutine(g, self._word(g, "goid") or 0, words, saved, running=state == 2)

    def _reason(self, number: int) -> str:
        """What it waits for: src/runtime/runtime2.go, waitReasonStrings."""
        found = self._elf.symbols.named(f"{PROGRAM}runtime.waitReasonStrings")[f"{PROGRAM}runtime.waitReasonStrings"]
        if not found or 16 * number >= found[0].size:
            return ""
        text, length = self._view.word(found[0].value + 16 * number), self._view.word(found[0].value + 16 * number + 8)
        data = self._view.read(text or 0, min(length or 0, 80))
        return data.decode("utf-8", "replace") if data else ""

    def _user(self, g: int) -> int:
        """The goroutine that the thread whose g0 is `g` runs, 0 if `g` is no g0."""
        m = self._word(g, "m") if g else None
        if not m or "curg" not in self._m or self._view.word(m + self._m["g0"]) != g:
            return 0
        return self._view.word(m + self._m["curg"]) or 0

    def _word(self, g: int, field: str, size: int = 8) -> int | None:
        return self._view.word(g + self._g[field], size) if field in self._g else None


def _complete(registers: Mapping[str, int]) -> dict[str, int]:
    """Where a goroutine that does not run goes on: it has stored all but these on its stack."""
    return {"sp": 0, "pc": 0, **registers}
