"""A program beside its supervisor: its object made fit to be linked with another of Go's, and where it begins."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from buildsys.config.program import Program
from buildsys.errors import UserError
from buildsys.files import replace
from buildsys.formats.elf import Elf
from buildsys.formats.prefix import prefixed
from buildsys.formats.symbols import SHN_UNDEF
from buildsys.go.runtime import SLOTTED
from buildsys.go.sites import calls

# Before the names of the program's symbols: the kernel of the image, whose symbols keep theirs, is the supervisor.
PREFIX = "program."
# src/runtime/asm_arm64.s; the suffix marks a function of assembly since Go 1.17 where there is a Go wrapper as well.
STARTS = ("runtime.rt0_go.abi0", "runtime.rt0_go")
ARCHIVE = "runtime.isarchive"  # src/runtime/runtime2.go: in an archive nobody calls main.main
OLDEST = (1, 21)


class Placed(NamedTuple):
    """What templates are told of a program: the symbols of its first instruction and of `ARCHIVE`; what it is given.

    `barriers` are the names of its barriers, if they are to be counted, and `sites` is how many places call one.
    """

    start: str
    archive: str
    arguments: tuple[str, ...]
    environment: tuple[str, ...]
    barriers: tuple[str, ...] = ()
    sites: int = 0


def adopt_program(go_object: Path, made: Path, described: Path) -> None:
    """Write the program's object with its symbols renamed to `made`, and to `described` where it begins.

    Raises UserError if it names what nobody defines, or has no beginning.
    """
    elf = Elf.read(go_object)
    if absent := sorted({each.name for each in elf.symbols.all() if each.section == SHN_UNDEF and each.name}):
        raise UserError(
            f"{go_object}: the program declares {absent[0]}, and nothing defines it",
            "a function without a body needs one in a .s file of Go's assembler, in its package",
        )
    there = elf.symbols.named(*STARTS, ARCHIVE)
    starts = [name for name in STARTS if there[name]]
    if not starts or not there[ARCHIVE]:
        raise UserError(f"{go_object}: has no {ARCHIVE if starts else STARTS[-1]}: no Go runtime that is known")
    replace(made, prefixed(elf, PREFIX))
    functions = {each.name for each in elf.symbols.functions()}
    barriers = [name for name in SLOTTED if name in functions]
    if not barriers:
        raise UserError(f"{go_object}: has no {SLOTTED[0]}: no Go runtime that is known")
    told = {
        "start": PREFIX + starts[0],
        "archive": PREFIX + ARCHIVE,
        "barriers": [PREFIX + name for name in barriers],
        "sites": calls(elf, barriers),
    }
    replace(described, json.dumps(told).encode() + b"\n")


def placed(described: Path, given: Program, counted: bool) -> Placed:
    """What `adopt_program` wrote, and what the configuration gives the program: whether its barriers are `counted`."""
    found = json.loads(described.read_text("utf-8"))
    barriers = tuple(found["barriers"]) if counted else ()
    return Placed(found["start"], found["archive"], given.arguments, given.environment, barriers, found["sites"])
