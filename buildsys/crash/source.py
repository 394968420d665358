"""Which lines of which source files an instruction is of: the function it was inlined from first, then its callers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from buildsys.formats.debuginfo import DW_AT_NAME, DebugInfo, Die, Unit
from buildsys.formats.debuginfo import DW_TAG_INLINED_SUBROUTINE as INLINED
from buildsys.formats.dwarf import Unreadable
from buildsys.formats.elf import Elf
from buildsys.formats.lines import Lines
from buildsys.formats.symbols import Symbol
from buildsys.go.described import DW_AT_CALL_FILE, DW_AT_CALL_LINE
from buildsys.go.signatures import ABI0, DW_AT_INLINE

PROGRAM = "program."  # before the names of a program's symbols: buildsys.stages.programs


@dataclass(frozen=True)
class Position:
    """A line of source: `file` as the compiler knew it, empty if unknown; `inlined` into what comes next."""

    function: str
    file: str = ""
    line: int = 0
    inlined: bool = False

    def __str__(self) -> str:
        """Such as "main.go:33"."""
        return f"{self.file.rpartition('/')[2]}:{self.line}" if self.file else ""


class Source:
    """The sources of one image. `roots` are module paths and the folders they stand for; the rest is Go's own."""

    def __init__(self, elf: Elf, roots: Sequence[tuple[str, Path]] = (), goroot: Path | None = None) -> None:
        self._elf, self._roots, self._goroot = elf, tuple(roots), goroot
        self._lines = Lines(elf, whole=True)
        self._known: dict[int, list[Position]] = {}
        self._dies: dict[int, tuple[Unit, Die] | None] = {}

    def function(self, address: int) -> Symbol | None:
        """The function that `address` is in. A symbol without a size reaches no farther than code does."""
        inside = any(address in section for section in self._elf.code)
        return self._elf.symbols.function_at(address) if inside else None

    def positions(self, address: int) -> list[Position]:
        """Where the instruction at `address` comes from, innermost first; only the name if no line is known."""
        if address not in self._known:
            self._known[address] = self._positions(address)
        return self._known[address]

    def _positions(self, address: int) -> list[Position]:
        function = self.function(address)
        if function is None:
            return []
        name = function.name.removeprefix(PROGRAM).removesuffix(ABI0)
        file, _, line = self._lines.of(function.value, [address]).get(address, "").rpartition(":")
        at = (file, int(line)) if file else ("", 0)
        found = []
        with suppress(Unreadable, IndexError, KeyError, ValueError):
            for copied, call in reversed(list(self._copies(function, address))):
                found.append(Position(copied, *at, inlined=True))
                at = call
        return [*found, Position(name, *at)]

    def text(self, position: Position) -> str:
        """The line itself; empty if its file is not here any more."""
        path = self.path(position.file)
        if path is None or not position.line:
            return ""
        with suppress(OSError):
            lines = path.read_text("utf-8", "replace").splitlines()
            if position.line <= len(lines):
                return lines[position.line - 1].strip()
        return ""

    def path(self, file: str) -> Path | None:
        """Where a file that the compiler knew as `file` is."""
        for module, folder in self._roots:
            if file.startswith(f"{module}/"):
                inside = folder / file.removeprefix(f"{module}/")
                if inside.is_file():
                    return inside
        own = self._goroot / "src" / file if self._goroot and file else None
        return own if own is not None and own.is_file() else None

    @cached_property
    def _dwarf(self) -> DebugInfo:
        return DebugInfo(self._elf)

    def _copies(self, function: Symbol, address: int) -> Iterator[tuple[str, tuple[str, int]]]:
        """The functions inlined at `address`, outermost first, and where each was called."""
        if function.value not in self._dies:
            self._dies[function.value] = self._entry(function)
        entry, dwarf = self._dies[function.value], self._dwarf
        while entry is not None:
            unit, above = entry
            entry = None
            for die in dwarf.children(unit, above):
                if die.tag == INLINED and any(low <= address < high for low, high in dwarf.ranges(unit, die)):
                    origin = dwarf.origin(die)
                    name = dwarf.die(dwarf.unit_of(origin), origin).text(DW_AT_NAME)
                    file = dwarf.file(unit, die.number(DW_AT_CALL_FILE) or 0)
                    yield name, (file, die.number(DW_AT_CALL_LINE) or 0)
                    entry = unit, die
                    break

    def _entry(self, function: Symbol) -> tuple[Unit, Die] | None:
        dwarf, name = self._dwarf, function.name.removeprefix(PROGRAM).removesuffix(ABI0)
        abstract, entries = [], []
        for unit, die in dwarf.subprograms({name}):
            if DW_AT_INLINE in die.values:
                abstract.append(die.offset)
            else:
                entries.append((unit, die))
        entries += dwarf.instances(abstract)
        return next(
            ((unit, die) for unit, die in entries if die.tag != INLINED and dwarf.low_pc(unit, die) == function.value),
            None,
        )
