"""The image a build would make, in memory: redirected as `patch` does it, whatever the kernel can reach."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from buildsys.config.redirects import Redirection
from buildsys.errors import UserError
from buildsys.formats.elf import Elf
from buildsys.formats.patch import resolve
from buildsys.go.flag import code_of
from buildsys.go.graph import Graph
from buildsys.go.passing import with_words
from buildsys.go.runtime import Plan
from buildsys.go.stops import stops
from buildsys.stages.patch import ends_of, redirect_all, shared
from buildsys.stages.redirects import resolved


class Subject(NamedTuple):
    """An image to be asked what it reaches, the entries of boot code and kernel, and what was taken over.

    `replaced` are name, address, and the address of what took its place, `stops` functions not to be followed, and
    `sets` the ready sets there are.
    """

    elf: Elf
    graph: Graph
    entries: tuple[int, ...]
    replaced: tuple[tuple[str, int, int], ...]
    stops: frozenset[int] = frozenset()
    sets: tuple[str, ...] = ()


def subject(
    unpatched: Path, plan: Plan, called: Sequence[str], wanted: Sequence[Redirection], redirected: bool, package: str
) -> Subject:
    """The image at `unpatched`, in memory, `redirected` or as it is. Raises UserError.

    Assembly calls the functions `called` by addresses it computes. `package` is the folder of the kernel
    package, by which messages name source files.
    """
    elf = Elf.mapped(unpatched)
    found = elf.symbols.addresses(*called)
    for name in called:
        if name not in found:
            raise UserError(f"{elf.name}: there is no symbol {name}")
    entries = (*(found[name] for name in called), elf.entry)
    if not redirected:
        return Subject(elf, Graph(elf, code_of(elf)), entries, ())
    users = resolved(elf, wanted, plan, package)
    calls, ending = shared(resolve(elf, plan.functions), users, plan)
    patched = elf.with_code(redirect_all(elf, calls, ending, users).contents_of)
    # Behind a branch at its first instruction an original runs all the same, if somebody calls it by its other name.
    opened = {each.old: elf.word(each.old) for each in users if each.original and each.mode.at_entry}
    whole = {place: word for place, word in opened.items() if word is not None}
    patched = with_words(patched, whole) if whole else patched
    entries = (*entries, *(each.new for each in users if each.old in whole))
    ends = ends_of(users, [*calls, *ending], plan)
    replaced = tuple((each.name, each.old, each.new) for each in (*calls, *ending, *users))
    stopped = frozenset(stops(patched, plan))
    provided = tuple(each.name for each in plan.sets)
    return Subject(patched, Graph(patched, code_of(patched), ends), entries, replaced, stopped, provided)
