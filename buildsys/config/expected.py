"""What a kernel that was built otherwise expects of its build: symbols, addresses in its code, sections, a last line.

All of it is the user's: no address here is the tool's own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from buildsys.config.toml import Table, nearest

_PLACE = re.compile(r"(?P<base>[^\d\s+\-]\S*?)(?:\s*(?P<sign>[+-])\s*(?P<number>0x[0-9A-Fa-f]+|\d+))?")
_NUMBER = re.compile(r"0x[0-9A-Fa-f]+|\d+")
_NAME = re.compile(r"[A-Za-z_.$][\w.$/]*")
# What `.section NAME, FLAGS` of GNU's assembler takes and an image has a place for.
FLAGS = ("a", "ax", "aw")
LIMIT = 1 << 64


@dataclass(frozen=True)
class Place:
    """An address: that of the symbol `base` and `offset` bytes; a number if `base` is empty."""

    base: str
    offset: int = 0

    def __str__(self) -> str:
        if not self.base:
            return hex(self.offset)
        return self.base + (f" {'+' if self.offset > 0 else '-'} {abs(self.offset):#x}" if self.offset else "")


@dataclass(frozen=True)
class Literal:
    """In the code of `function`, `value` stands for the address `place`."""

    function: str
    value: int
    place: Place


@dataclass(frozen=True)
class Expected:
    """What the configuration says a kernel expects.

    `symbols` are defined for the linker, by name; where Go has a variable of that name, its address is the
    symbol's. `sections` are flags for sections of the user's assembly, by name. Names of files that its assembly
    includes, and that begin with the first of a pair in `paths`, begin with the second instead. `until` is
    what a kernel that does not end by itself sends last; empty for one that does.
    """

    symbols: tuple[tuple[str, Place], ...] = ()
    literals: tuple[Literal, ...] = ()
    sections: tuple[tuple[str, str], ...] = ()
    paths: tuple[tuple[str, str], ...] = ()
    until: str = ""


NOTHING = Expected()


def expected(table: Table) -> Expected:
    """What `symbols`, `literals`, `sections`, `paths` and `until` in `table` say. Raises UserError."""
    until = table.string("until", "")
    if table.has("until") and not until:
        raise table.error("until", "is empty", "it is the text a kernel that does not end by itself sends last")
    return Expected(
        symbols=tuple(_symbols(table.table("symbols"))),
        literals=tuple(_literals(table.table("literals"))),
        sections=tuple(_sections(table.table("sections"))),
        paths=tuple(_paths(table.table("paths"))),
        until=until,
    )


def _symbols(table: Table) -> Iterator[tuple[str, Place]]:
    for name in table:
        if isinstance(table.any(name), dict):
            raise table.error(name, "is a table", f'put the names of symbols in quotes: "{name}.…" = "…"')
        if not _NAME.fullmatch(name):
            raise table.error(name, "is no name of a symbol")
        place = _place(table, name)
        if place.base == name:
            raise table.error(name, "is said to be where it is itself")
        yield name, place


def _literals(table: Table) -> Iterator[Literal]:
    for function in table:
        if not isinstance(table.any(function), dict):
            raise table.error(
                function, "is no table", f'literals are those of a function: [{table.prefix}"main.F"], 0x… = "symbol"'
            )
        own = table.table(function)
        for key in own:
            if isinstance(own.any(key), dict):
                raise own.error(key, "is a table", f'put the name of the function in quotes: "{function}.{key}"')
            if not _NUMBER.fullmatch(key) or not 0 < int(key, 0) < LIMIT:
                raise own.error(key, "is no number that code could hold", 'write 0x40026b40 = "main.x"')
            yield Literal(function, int(key, 0), _place(own, key))


def _sections(table: Table) -> Iterator[tuple[str, str]]:
    for name in table:
        flags = table.string(name)
        if flags not in FLAGS:
            raise table.error(name, f"is {flags!r}", nearest(flags, FLAGS))
        yield name, flags


def _paths(table: Table) -> Iterator[tuple[str, str]]:
    for name in table:
        if isinstance(table.any(name), dict):
            raise table.error(name, "is a table", f'put the path in quotes: "{name}.…" = "…"')
        yield name, table.string(name)


def _place(table: Table, key: str) -> Place:
    value = table.any(key)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < LIMIT:
        return Place("", value)
    found = _PLACE.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None:
        raise table.error(key, f"is {value!r}", 'it is a number or a symbol: 0x60000000, "__heap_low", "main.x + 8"')
    offset = int(found["number"] or "0", 0)
    return Place(found["base"], -offset if found["sign"] == "-" else offset)
