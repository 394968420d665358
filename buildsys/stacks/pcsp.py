"""How many bytes of the stack a Go function has in use at each of its instructions, as the runtime itself is told.

Go's linker writes a table for every function it places, in assembly too: `pcsp` in `runtime._func`
(src/runtime/runtime2.go), runs of instructions with the distance of sp from where it was at the entry. The
runtime unwinds by it, and Go's linker checks chains of `nosplit` functions by it (cmd/link/internal/ld/stackcheck.go).
Source of the encoding: src/runtime/symtab.go, pcvalue and step.
"""

from __future__ import annotations

from array import array
from functools import cached_property

from buildsys.formats.dwarf import uleb
from buildsys.formats.elf import Elf

TABLE, TEXT = "runtime.pclntab", "runtime.text"
_MAGIC = (0xFFFF_FFF0, 0xFFFF_FFF1)  # Go 1.18, and Go 1.20 and newer: internal/abi/symtab.go
_COUNT, _TABLES, _FUNCTIONS = 8, 56, 64  # nfunc, pctabOffset and pclnOffset in runtime.pcHeader
_PCSP = 16  # pcsp in runtime._func
_WORD = 4  # bytes of an instruction: minLC in runtime.pcHeader


class StackTables:
    """The tables of one image; without any, if it has none that can be read."""

    def __init__(self, elf: Elf) -> None:
        self._elf = elf
        found = elf.symbols.addresses(TABLE, TEXT)
        self._table, self._text = found.get(TABLE, 0), found.get(TEXT, 0)
        self._readable = len(found) == 2 and elf.word(self._table) in _MAGIC

    @cached_property
    def _rows(self) -> dict[int, int]:
        """Where the row of each function is, by the function's address."""
        if not self._readable:
            return {}
        count, functions = self._header(_COUNT), self._header(_FUNCTIONS)
        at = self._elf.file_offset(self._table + functions)
        if at is None or at + 8 * count > len(self._elf.data):
            return {}
        pairs = memoryview(self._elf.data)[at : at + 8 * count].cast("I")
        return {self._text + pairs[2 * index]: self._table + functions + pairs[2 * index + 1] for index in range(count)}

    def of(self, function: int, instructions: int) -> array[int] | None:
        """Bytes in use at each of the `instructions` of the function at `function`; None if there is no table."""
        row = self._rows.get(function)
        table = self._elf.word(row + _PCSP) if row is not None else None
        if not table:
            return None
        at = self._elf.file_offset(self._table + self._header(_TABLES) + table)
        if at is None:
            return None
        depths = array("i")
        depth = -1
        while len(depths) < instructions:
            change, at = uleb(self._elf.data, at)
            if change == 0 and depths:
                break
            depth += -(change >> 1) - 1 if change & 1 else change >> 1  # zigzag
            run, at = uleb(self._elf.data, at)
            depths.extend([depth] * min(run, instructions - len(depths)))
        depths.extend([0] * (instructions - len(depths)))  # padding behind the function
        return depths

    def _header(self, offset: int) -> int:
        return self._elf.word(self._table + offset, 8) or 0
