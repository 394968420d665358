"""What all commands share: the image, where its sources are, and the machine behind it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from buildsys.crash.goroutine import Goroutines
from buildsys.crash.report import frame_told
from buildsys.crash.source import Source
from buildsys.crash.unwind import Unwinder
from buildsys.debugging.machine import Alive, Kept, Machine, there_is_one
from buildsys.formats.elf import Elf


class Session:
    """One gdb, on one `image`. `kept` is the folder of a crash, None if the machine is alive."""

    def __init__(self, image: Path, roots: Sequence[tuple[str, str]], goroot: str, kept: Path | None) -> None:
        self._image, self._kept = image, kept
        self._roots = [(name, Path(folder)) for name, folder in roots]
        self._goroot = Path(goroot) if goroot else None

    @cached_property
    def elf(self) -> Elf:
        """The image."""
        return Elf.mapped(self._image)

    @cached_property
    def source(self) -> Source:
        """Its sources."""
        return Source(self.elf, self._roots, self._goroot)

    def machine(self) -> Machine:
        """The machine as it is now. Raises gdb.GdbError if there is none any more."""
        there_is_one()
        return Alive() if self._kept is None else Kept(self._kept, self.elf)

    @property
    def alive(self) -> bool:
        """Whether the machine can go on."""
        return self._kept is None

    def goroutines(self, machine: Machine) -> Goroutines:
        """The goroutines of a program."""
        return Goroutines(self.elf, machine)

    def frames(self, machine: Machine, registers: Mapping[str, int], most: int) -> Iterator[dict[str, Any]]:
        """The innermost frames of what has these registers, as reports have them."""
        unwinder = Unwinder(self.elf, machine, self.source)
        for frame in islice(unwinder.frames(registers), most):
            yield frame_told(frame, self.source)
