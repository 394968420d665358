"""Call sites as a reader knows them: what is called there, in which function, on which line of which file."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from buildsys.formats import a64
from buildsys.formats.elf import Elf
from buildsys.formats.lines import Lines


@dataclass(frozen=True)
class Place:
    """One call site: `called` is the function called there, `line` is `file:line`, empty where it is not known."""

    address: int
    called: str
    function: str
    line: str


def places(elf: Elf, sites: Iterable[int]) -> dict[int, Place]:
    """The place of each of `sites`."""
    wanted = sorted(set(sites))
    functions = {site: found for site in wanted if (found := elf.symbols.function_at(site))}
    inside: dict[int, list[int]] = {}
    for site, function in functions.items():
        inside.setdefault(function.value, []).append(site)
    tables = Lines(elf)
    lines = {site: line for function, sites in inside.items() for site, line in tables.of(function, sites).items()}
    names = {site: function.name for site, function in functions.items()}
    return {
        site: Place(site, _called(elf, site), names.get(site, "no function"), lines.get(site, "")) for site in wanted
    }


def _called(elf: Elf, site: int) -> str:
    word = elf.word(site)
    target = a64.branch_target(word, site) if word is not None else None
    found = elf.symbols.function_at(target) if target is not None else None
    return found.name if found else ""
