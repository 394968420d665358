"""After a run: how much of the stacks that boot code gives was used.

RAM of an emulator is zero at first, and nothing clears a stack: the lowest byte that is not zero was
written to. A frame may hold zeros, so that it may have been a little more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

from buildsys.crash.places import Stack, stacks
from buildsys.formats.elf import Elf


class Stacks:
    """The stacks of `image`."""

    def __init__(self, image: Path) -> None:
        self._image = image

    @cached_property
    def _stacks(self) -> tuple[Stack, ...]:
        return stacks(Elf.mapped(self._image))

    @property
    def ranges(self) -> Sequence[range]:
        """The memory to read when the run has ended."""
        return [range(each.low, each.high) for each in self._stacks]

    def told(self, memory: Mapping[int, bytes]) -> str:
        """One line on how far each was used; empty if they could not be read."""
        known = [(each, used(memory[each.low])) for each in self._stacks if each.low in memory]
        words = [f"{count:,} of {each.high - each.low:,} bytes of the {each.name} stack" for each, count in known]
        return f"stacks: at least {', '.join(words)} used" if words else ""


def used(contents: bytes) -> int:
    """The bytes from the lowest that is not zero to the end."""
    return len(contents.lstrip(b"\0"))
