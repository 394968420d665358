"""Which rows there are: all, the selected ones, and the part of them that one machine of several takes."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import NamedTuple

from buildsys.config.project import TOOLCHAINS
from buildsys.config.toml import nearest
from buildsys.errors import UserError

EMBEDDED, QEMU = "embedded", "qemu"
EMULATORS = (EMBEDDED, QEMU)


class Row(NamedTuple):
    """One image: the Go it is compiled by, as `go` in [tool.buildsys] names it, and its toolchain."""

    go: str
    toolchain: str


class Selection(NamedTuple):
    """What a matrix is of."""

    gos: tuple[str, ...]
    toolchains: tuple[str, ...]
    emulators: tuple[str, ...]

    @property
    def rows(self) -> list[Row]:
        """Every row, in the order of the table."""
        return [Row(go, toolchain) for go in self.gos for toolchain in self.toolchains]


class Shard(NamedTuple):
    """Part `number`, from 1 on, of `parts`."""

    number: int
    parts: int

    def __str__(self) -> str:
        return f"{self.number}/{self.parts}"

    def part(self, rows: Sequence[Row]) -> list[Row]:
        """The rows of this part. Neighbours stay together: fewer Gos are fetched, and compiled with, in a part."""
        return list(rows[len(rows) * (self.number - 1) // self.parts : len(rows) * self.number // self.parts])


WHOLE = Shard(1, 1)


def selection(gos: str, toolchains: str, emulators: str) -> Selection:
    """What the options, lists with commas, name; all there is where they are empty. Raises UserError."""
    return Selection(
        _words("--go", gos) or every_go(),
        _words("--toolchain", toolchains, TOOLCHAINS) or TOOLCHAINS,
        _words("--emulator", emulators, EMULATORS) or EMULATORS,
    )


def every_go() -> tuple[str, ...]:
    """The system's Go, and the newest release of every line that can be fetched."""
    from buildsys.go.releases import lines

    return ("system", *lines())


def shard(said: str) -> Shard:
    """The part that `--shard` names as "2/3"; the whole if it is empty. Raises UserError."""
    if not said:
        return WHOLE
    found = re.fullmatch(r"(\d{1,4})/(\d{1,4})", said, re.ASCII)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise UserError(f"--shard is {said!r}", "write it as I/N, the Ith of N parts: 1/3, 2/3 and 3/3")
    return Shard(int(found[1]), int(found[2]))


def _words(option: str, said: str, known: Collection[str] = ()) -> tuple[str, ...]:
    """The words of a list with commas, each once. Raises UserError for one that is not `known`."""
    words = tuple(dict.fromkeys(word.strip() for word in said.split(","))) if said else ()
    for word in words:
        if known and word not in known:
            raise UserError(f"{option}: there is no {word!r}", nearest(word, known))
    return words
