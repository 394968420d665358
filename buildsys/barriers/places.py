"""Call sites as a reader knows them: what is called there, in which function, on which line of which file."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from buildsys.formats import a64
from buildsys.formats.elf import Elf
from buildsys.proof.lines import source_lines


@dataclass(frozen=True)
class Place:
    """One call site: `called` is the function called there, `line` is `file:line`, empty where it is not known."""

    address: int
    called: str
    function: str
    line: str


def places(image: Path, elf: Elf, sites: Iterable[int]) -> dict[int, Place]:
    """The place of each of `sites`."""
    wanted = sorted(set(sites))
    functions = {site: found.name for site in wanted if (found := elf.symbols.function_at(site))}
    lines = source_lines(image, functions.items())
    return {
        site: Place(site, _called(elf, site), functions.get(site, "no function"), lines.get(site, ""))
        for site in wanted
    }


def _called(elf: Elf, site: int) -> str:
    word = elf.word(site)
    target = a64.branch_target(word, site) if word is not None else None
    found = elf.symbols.function_at(target) if target is not None else None
    return found.name if found else ""
