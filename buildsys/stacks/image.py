"""What of the stacks an image tells by its symbols: where they are, and which functions end its run."""

from __future__ import annotations

from collections.abc import Mapping

from buildsys.crash.places import stacks
from buildsys.formats.elf import Elf
from buildsys.stacks.account import EXCEPTION, Extent

GUARDS = ("runtime.g.stackguard0", "runtime.g.stackguard1")  # what compiled code compares sp with
BOOT = "boot"


def extents(elf: Elf) -> list[Extent]:
    """The stacks that there is room for."""
    return [Extent(each.name, each.low, each.high) for each in stacks(elf)]


def handled_on(program: bool) -> str:
    """The stack that exceptions are handled on: of a program, that of the supervisor, which boot code began on."""
    return BOOT if program else EXCEPTION


def ends_of(elf: Elf, news: Mapping[str, int]) -> frozenset[int]:
    """Of the functions that end the run, by the name of what they took over, ours: the user's have names of their own.

    They go on where a stack is whole before they use any of it: templates/fatal.s.j2, templates/sets/panic.s.j2.
    """
    named = elf.symbols.named(*news)
    return frozenset(
        new for name, new in news.items() if any(each.is_global and each.value == new for each in named[name])
    )
