"""What is told of a Go object by itself, whatever image it is linked into."""

from __future__ import annotations

from bisect import insort
from collections.abc import Container
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter
from pathlib import Path

from buildsys.formats.elf import SHF_ALLOC, Elf
from buildsys.formats.symbols import STT_FUNC, STT_OBJECT, Symbol
from buildsys.go.layout import layouts
from buildsys.go.runtime import Plan, plan

SAMPLES = 4  # symbols of each section


@dataclass(frozen=True)
class GoObject:
    """The Go object at `path`, of which a kernel with the ready `sets` is made. Read once, decoded once."""

    path: Path
    sets: tuple[str, ...] = ()

    @cached_property
    def elf(self) -> Elf:
        """The object itself. Raises UserError, OSError."""
        return Elf.read(self.path)

    @cached_property
    def plan(self) -> Plan:
        """What must have been taken over, told from the names the object defines. Raises UserError."""
        return plan({function.name for function in self.elf.symbols.functions()}, str(self.path), self.sets)

    @cached_property
    def offsets(self) -> dict[str, int]:
        """Byte offsets of the runtime's fields that boot code sets, from DWARF. Raises UserError."""
        return layouts(self.elf)

    @cached_property
    def samples(self) -> dict[int, list[Symbol]]:
        """A few variables or functions of each section that takes memory, by its index."""
        return samples(self.elf)


def samples(elf: Elf, elsewhere: Container[str] = ()) -> dict[int, list[Symbol]]:
    """A few variables or functions of each section that takes memory, by its index: its first and its last, too.

    Not those whose names are in `elsewhere`.
    """
    wanted = {section.index for section in elf.sections if section.flags & SHF_ALLOC}
    found: dict[int, list[Symbol]] = {}
    for symbol in elf.symbols.all():
        if symbol.section not in wanted or symbol.kind not in (STT_OBJECT, STT_FUNC) or symbol.name in elsewhere:
            continue
        chosen = found.setdefault(symbol.section, [])
        insort(chosen, symbol, key=attrgetter("value"))
        if len(chosen) > SAMPLES:
            del chosen[SAMPLES // 2]
    return found
