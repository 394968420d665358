"""Whose a symbol is: a Go package, one of the linker's own tables, a file of assembly.

Go's linker makes symbols that are no package's: cmd/link/internal/ld/data.go and symtab.go, pcln.go,
cmd/compile/internal/reflectdata. Up to Go 1.19 they are spelt `type.*` and `go.string.*`, with a dot; no package is
called `type` or `go`, which are keywords. Names in parentheses are no packages either.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from buildsys.formats.symbols import STB_LOCAL, STT_FUNC, STT_NOTYPE, STT_OBJECT, Symbol
from buildsys.go.packages import package_of
from buildsys.stages.programs import PREFIX

TYPES, ITABS, EQUAL = "(types)", "(interface tables)", "(comparing and hashing)"
STRINGS, CONSTANTS, POINTERS = "(strings)", "(constants)", "(pointer maps)"
FUNCTIONS, OTHER, WRAPPERS = "(function tables)", "(other of Go)", "(nameless types)"
ASSEMBLY = "(assembly)"
SUPERVISOR = "supervisor: "

# By the whole name or, where one of these ends with a sign, its beginning; a dot behind `type` and `go` is a colon.
_TABLES = (
    (("type:",), TYPES),
    (("go:itab.", "runtime.itablink"), ITABS),
    (("go:string.",), STRINGS),
    (("$f32.", "$f64.", "$i32.", "$i64.", "$i128."), CONSTANTS),
    (("runtime.gcbits.", "runtime.gcdata", "runtime.gcbss", "gcargs.", "gclocals·", "runtime.gcdatamask"), POINTERS),
    (
        (
            "go:func.",
            "go:funcrel.",
            "go:funcdesc",
            "runtime.pclntab",
            "runtime.findfunctab",
            "runtime.functab",
            "runtime.pctab",
            "runtime.filetab",
            "runtime.cutab",
            "runtime.funcnametab",
            "runtime.pcheader",
        ),
        FUNCTIONS,
    ),
    (("runtime.typelink",), TYPES),
    (("struct {", "go:shape.", "interface {"), WRAPPERS),
    (("go:",), OTHER),
)
_OLD = re.compile(r"^(type|go)\.(?=[*.a-z\[])")
_FUNCTION_OF_TYPE = re.compile(r"^type:\.(?:eq|hash)\.")
# Labels of Go's linker behind which lie bytes that have no symbols: what else is without a size only marks a place.
_HOLDS = re.compile(r"^(?:go:.*|type:\*|runtime\.(?:gcbits\.\*|pclntab|itablink|typelink))$")
# Marks of ours and of linkers, by which nothing is meant.
_MARKS = re.compile(r"^(?:__.*|\$[xda](?:\..*)?|_end|_edata|_etext|end|edata|etext)$")


def spelt(name: str) -> str:
    """`name` as Go spells it since 1.20, without what is put before the symbols of a program."""
    return _OLD.sub(r"\1:", name.removeprefix(PREFIX))


def holds(symbol: Symbol) -> bool:
    """Whether the bytes behind `symbol`, which has no size, are what it names; not if it is only a mark."""
    name = spelt(symbol.name)
    if symbol.kind == STT_NOTYPE or symbol.binding != STB_LOCAL:  # a label of assembly
        return bool(name) and not _MARKS.match(name) and not name.startswith("runtime.")
    if symbol.kind == STT_FUNC:
        return name not in ("runtime.text", "runtime.etext")
    return bool(_HOLDS.match(name))


def is_mark(symbol: Symbol) -> bool:
    """Whether `symbol` names no bytes: a mapping symbol, an edge of the linker script."""
    return symbol.kind == STT_NOTYPE and bool(_MARKS.match(symbol.name))


def group_of(name: str) -> str:
    """The package of a symbol of Go's, or the group it is in; empty if its name does not tell."""
    plain = spelt(name)
    if made_for := _FUNCTION_OF_TYPE.match(plain):
        return package_of(plain[made_for.end() :]) or EQUAL
    for known, group in _TABLES:
        if any(plain.startswith(each) if each[-1] in ".:{·" else plain == each for each in known):
            return group
    found = package_of(plain)
    # Since Go 1.27 some closures are `_.goready.func1`; and no package but of cgo is called so.
    return found if not found.startswith("_") or "/" in found else ""


@dataclass(frozen=True)
class Names:
    """Whose the symbols of one image are.

    `files` are the sources of assembly by (name, kind, binding) of what they define, `code` the addresses
    between which Go's code lies, ascending. In a `program` the other Go symbols are the supervisor's.
    """

    files: Mapping[tuple[str, int, int], str] = field(default_factory=dict)
    code: tuple[tuple[int, int], ...] = ()
    program: bool = False

    def package(self, symbol: Symbol) -> str:
        """The package, group or file `symbol` is of."""
        file = self.files.get((symbol.name, symbol.kind, symbol.binding))
        if symbol.binding != STB_LOCAL or symbol.kind not in (STT_FUNC, STT_OBJECT):
            return file or ASSEMBLY
        if symbol.kind == STT_FUNC and self.code and not self._in_go(symbol.value):
            return file or ASSEMBLY
        found = group_of(symbol.name)
        if not found and file:
            return file
        found = found or OTHER  # a function of Go's assembler whose name has no package: `gogo<>`
        return SUPERVISOR + found if self.program and not symbol.name.startswith(PREFIX) else found

    def _in_go(self, address: int) -> bool:
        at = bisect_right(self.code, (address, 1 << 64)) - 1
        return at >= 0 and address < self.code[at][1]


def definitions(file: str, symbols: Iterable[Symbol]) -> dict[tuple[str, int, int], str]:
    """`Names.files` for one object, made from `file`."""
    return {(each.name, each.kind, each.binding): file for each in symbols if each.section and each.name}
