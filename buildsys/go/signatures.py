"""What a function takes and gives, as the DWARF of an image tells.

Told of functions in Go only. An assembly function of Go's has an entry without
parameters, a user's has none: of these nothing is known, and nothing is assumed.

How arguments are passed is told by the symbol. All releases since Go 1.18 pass
them in registers on arm64 (ABIInternal); assembly takes them on the stack (ABI0)
unless it says otherwise. Where a function has both forms, the linker names the
other one `X.abi0` (cmd/link/internal/ld, mangleABIName).

Not told by DWARF: parameters without a name up to Go 1.21, and the dictionary that
is passed to an instance of a generic function up to Go 1.26.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from buildsys.formats.debuginfo import (
    DW_AT_ABSTRACT_ORIGIN,
    DW_AT_NAME,
    DW_TAG_FORMAL_PARAMETER,
    DW_TAG_INLINED_SUBROUTINE,
    DW_TAG_VARIABLE,
    DebugInfo,
    Die,
    Unit,
)
from buildsys.go.types import DW_AT_TYPE, Type, Types

DW_AT_INLINE, DW_AT_DECL_FILE, DW_AT_DECL_LINE, DW_AT_VARIABLE_PARAMETER = 0x20, 0x3A, 0x3B, 0x4B
_BEHIND = (0x0B, DW_TAG_INLINED_SUBROUTINE)  # lexical blocks, and what was inlined
DW_AT_GO_CLOSURE_OFFSET = 0x2907  # cmd/internal/dwarf: where a captured variable lies; not every release tells
ABI0 = ".abi0"
DICTIONARY = ".dict"
_SHAPED = "[go.shape."
# What comes behind the type arguments of an instance of a generic function or method; a closure in one has more.
_INSTANCE = re.compile(r"(?:\)?\.(?!(?:func|deferwrap|gowrap)\d)[^.-]+)?")


class Told(Enum):
    """What is known of a function."""

    GO = "in Go"
    ASSEMBLY = "in Go's assembly"
    NOTHING = "in no language known here"


@dataclass(frozen=True)
class Parameter:
    """One argument or result; without a name of its own it is called ~ and something, or nothing."""

    name: str
    type: Type

    def __str__(self) -> str:
        plain = "_" if self.name[:2] == "~p" else "" if self.name[:1] == "~" else self.name
        return f"{plain} {self.type.name}".strip()


@dataclass(frozen=True)
class Signature:
    """A function as it is described: `place` is the `file:line` it is declared at, as far as that is told.

    `abi0` if its symbol says that it takes arguments on the stack. `generic` if it is passed a dictionary
    besides, `captures` what it takes from the function around it. `argument_bytes` is what its arguments
    take by the runtime's table (go/frames.py), None if that is not known; `complete` that this is what
    those told of take, so that none is left out.
    """

    name: str
    told: Told
    parameters: tuple[Parameter, ...] = ()
    results: tuple[Parameter, ...] = ()
    place: str = ""
    generic: bool = False
    captures: tuple[str, ...] = ()
    argument_bytes: int | None = None
    complete: bool = False

    @property
    def plain_name(self) -> str:
        """Its name as DWARF has it, which does not say how it is called."""
        return self.name.removesuffix(ABI0)

    @property
    def abi0(self) -> bool:
        """Whether it takes its arguments on the stack, as assembly of Go's does unless it says otherwise."""
        return self.name.endswith(ABI0)

    def __str__(self) -> str:
        taken = f"({', '.join(map(str, self.parameters))})"
        given = ", ".join(map(str, self.results))
        several = len(self.results) > 1 or " " in given.removeprefix("chan ").removeprefix("<-chan ")
        return f"{taken} ({given})" if several else f"{taken} {given}".rstrip()


def signature(dwarf: DebugInfo, types: Types, unit: Unit, die: Die, name: str) -> Signature:
    """The function with code that `die` describes; `name` is that of its symbol. Raises Unreadable."""
    parameters: list[Parameter] = []
    results: list[Parameter] = []
    captured: list[str] = []
    line = _described(dwarf, die).number(DW_AT_DECL_LINE)
    for child in dwarf.children(unit, die):
        if child.tag in _BEHIND:
            break  # Go's compiler writes a function's own variables first
        about = _described(dwarf, child)
        if child.tag == DW_TAG_VARIABLE and DW_AT_GO_CLOSURE_OFFSET in child.values:
            captured.append(child.text(DW_AT_NAME).removeprefix("&"))
        if child.tag != DW_TAG_FORMAL_PARAMETER:
            continue
        line = line or child.number(DW_AT_DECL_LINE)
        told = Parameter(about.text(DW_AT_NAME), types.at(about.number(DW_AT_TYPE) or 0))
        (results if about.number(DW_AT_VARIABLE_PARAMETER) else parameters).append(told)
    file = dwarf.file(unit, die.number(DW_AT_DECL_FILE) or 0)
    dictionary = [each for each in parameters if each.name == DICTIONARY]
    return Signature(
        name=name,
        told=Told.ASSEMBLY if file.endswith(".s") else Told.GO,
        parameters=tuple(each for each in parameters if each not in dictionary),
        results=tuple(results),
        place=(f"{file}:{line}" if line else file) if file and not file.startswith(("<", "?")) else "",
        generic=bool(dictionary) or (_SHAPED in name and _INSTANCE.fullmatch(name.rpartition("]")[2]) is not None),
        captures=tuple(captured),
    )


def _described(dwarf: DebugInfo, die: Die) -> Die:
    """The entry that says what `die` is: that of the abstract function, if it is an instance of one."""
    origin = die.number(DW_AT_ABSTRACT_ORIGIN)
    return die if origin is None else dwarf.die(dwarf.unit_of(origin), origin)
