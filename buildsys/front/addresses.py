"""Addresses in what a guest sends, resolved as they appear: which function and line of the image each is in."""

from __future__ import annotations

import re
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from buildsys.crash.source import Source

# Shorter numbers are offsets and counts.
ADDRESS = re.compile(r"\b0x0*([0-9a-fA-F]{5,16})\b")
LONGEST = 4096  # characters of a line that are looked at


class Addresses:
    """Resolves the addresses of code of `image` in text that comes in pieces."""

    def __init__(self, image: Path) -> None:
        self._image, self._line = image, ""

    def add(self, text: str) -> list[str]:
        """Words for the addresses in the lines that `text` ends, a line for each address."""
        *lines, rest = (self._line + text).split("\n")
        self._line = rest[-LONGEST:]
        return [words for line in lines for found in ADDRESS.findall(line) if (words := self._told(int(found, 16)))]

    @cached_property
    def _source(self) -> Source:
        from buildsys.crash.source import Source
        from buildsys.formats.elf import Elf

        return Source(Elf.mapped(self._image))

    def _told(self, address: int) -> str:
        function = self._source.function(address)
        if function is None:
            return ""
        lines = " in ".join(f"{each.file}:{each.line}" for each in self._source.positions(address) if each.file)
        return f"  {address:#x} is {function.name}+{address - function.value:#x}" + (f", {lines}" if lines else "")
