"""An allocator of the kernel's own, in the place of the runtime's: it may use nothing that allocates."""

from __future__ import annotations

from collections.abc import Collection

from buildsys.errors import UserError
from buildsys.formats.elf import Elf
from buildsys.go.flag import code_of
from buildsys.go.graph import Graph
from buildsys.go.reach import search

ALLOCATE = "buildsys.allocate"  # whatever allocates comes by there: templates/sets/alloc.s.j2


def refuse_recursion(elf: Elf, allocator: str, ends: Collection[int]) -> None:
    """Raise UserError if the function `allocator` of a patched image comes to what calls it; "" is none.

    `ends` are functions that do not return: what is allocated on the way there does not count.
    """
    found = elf.symbols.addresses(allocator, ALLOCATE) if allocator else {}
    if len(found) < 2:
        return
    reached = search(Graph(elf, code_of(elf), ends), (found[allocator],))
    if found[ALLOCATE] in reached.functions:
        path = reached.path(found[ALLOCATE])[:-1]
        raise UserError(
            f"{allocator} is to allocate, and allocates itself:\n  " + "\n  → ".join(path),
            "it would call itself for ever: let it do without new, make, append, closures, …",
        )
