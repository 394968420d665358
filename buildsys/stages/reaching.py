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
from buildsys.go.reach import search
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
    ends = ends_of(users, [*calls, *ending], plan)
    entries = (*entries, *(each.new for each in users if each.name in plan.ends))
    graph = Graph(patched, code_of(patched), ends)
    if any(each.original and each.mode.at_entry for each in users):
        # An original that is called on purpose runs behind its first instruction, which is a branch now.
        reached = search(graph, entries, stops(patched, plan)).functions
        opened = [each for each in users if each.mode.at_entry and each.original in reached]
        first = {each.old: word for each in opened if (word := elf.word(each.old)) is not None}
        patched = with_words(patched, first)
        graph = Graph(patched, code_of(patched), ends)
        entries = (*entries, *(each.new for each in opened))
    replaced = tuple((each.name, each.old, each.new) for each in (*calls, *ending, *users))
    stopped = frozenset(stops(patched, plan))
    provided = tuple(each.name for each in plan.sets)
    return Subject(patched, graph, entries, replaced, stopped, provided)
