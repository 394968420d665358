"""What a proof knows of a program and of its supervisor: where which of the two is in an image."""

from __future__ import annotations

from collections.abc import Iterator

from buildsys.formats.elf import Elf
from buildsys.formats.references import Code
from buildsys.formats.symbols import Symbol
from buildsys.stages.programs import PREFIX, STARTS


def is_program(name: str) -> bool:
    """Whether a function of that name is the program's, and not the supervisor's or ours."""
    return name.startswith(PREFIX)


def functions(elf: Elf) -> set[int]:
    """The addresses of the program's own functions; what counts its barriers is ours."""
    return {each.value for each in elf.symbols.functions() if is_program(each.name) and not each.is_global}


def starts(elf: Elf) -> set[int]:
    """The address of its first instruction, which the supervisor returns to from no exception that came."""
    return set(elf.symbols.addresses(*(PREFIX + name for name in STARTS)).values())


def words(code: Code, wanted: Symbol) -> Iterator[tuple[int, int]]:
    """The instructions of a function: address and word."""
    body = code.body(wanted.value)
    for at, word in enumerate(body.words):
        yield body.base + 4 * at, word
