"""The image a build would make, in memory: redirected as `patch` does it, whatever the kernel can reach."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from buildsys.errors import UserError
from buildsys.formats.elf import Elf
from buildsys.formats.patch import patch, resolve, resolve_named
from buildsys.go.flag import code_of
from buildsys.go.graph import Graph
from buildsys.go.runtime import Plan


class Subject(NamedTuple):
    """An image to be asked what it reaches, the entries of boot code and kernel, and what was taken over.

    `replaced` are name, address, and the address of what took its place.
    """

    elf: Elf
    graph: Graph
    entries: tuple[int, ...]
    replaced: tuple[tuple[str, int, int], ...]


def subject(unpatched: Path, plan: Plan, entry: str, wanted: Mapping[str, str], redirected: bool) -> Subject:
    """The image at `unpatched`, in memory, `redirected` or as it is. Raises UserError."""
    elf = Elf.mapped(unpatched)
    found = elf.symbols.addresses(entry)
    if entry not in found:
        raise UserError(f"{elf.name}: there is no symbol {entry}")
    entries = (found[entry], elf.entry)
    if not redirected:
        return Subject(elf, Graph(elf, code_of(elf)), entries, ())
    redirects = resolve(elf, plan.functions)
    calls, ending = redirects[: len(plan.called)], redirects[len(plan.called) :]
    users = resolve_named(elf, wanted, plan.functions)
    patched = elf.with_code(patch(elf, [*calls, *users], ending).code)
    ends = {address for each in ending for address in (each.old, each.new)}
    replaced = tuple((each.name, each.old, each.new) for each in (*redirects, *users))
    return Subject(patched, Graph(patched, code_of(patched), ends), entries, replaced)
