"""Variables that only a package's initialisers give their values, and which a bare kernel therefore finds empty.

Nothing runs them: `var x = f()` and `func init()` are done before `main.main` by a runtime that was
started. What they store to is told from their instructions; what is set at compile time is in the image.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from buildsys.formats import a64
from buildsys.formats.elf import Elf
from buildsys.formats.symbols import STT_FUNC, Symbol
from buildsys.go.graph import Graph

RUNTIME = "runtime."  # what it does without its own initialisers is told by its services
# cmd/compile: `p.init` for the variables of package p, `p.init.0` and on for its func init, `p.map.init.0`.
_NAME = rb"[^\0]*\.(?:map\.)?init(?:\.[0-9]+)?"
_INITIALISER = re.compile(_NAME.decode())


class Unset(NamedTuple):
    """The function `initialiser` stores to `variable`; `reader` touches it at `site`."""

    variable: Symbol
    initialiser: Symbol
    reader: Symbol
    site: int


def unset(elf: Elf, graph: Graph, functions: Iterable[Symbol]) -> Iterator[Unset]:
    """Of the variables that `functions` touch, those an initialiser stores to, each with the first that touches it.

    An initialiser that is one of `functions` is run by somebody.
    """
    functions = list(functions)
    run = {function.value for function in functions}
    uses: dict[int, tuple[Symbol, int]] = {}
    for function in functions:
        if not _INITIALISER.fullmatch(function.name):
            for place, target in graph.node(function).formed:
                uses.setdefault(target, (function, place))
    variables = {target: elf.symbols.object_at(target) for target in uses}
    named = {target: each for target, each in variables.items() if each and not each.name.startswith(RUNTIME)}
    if not named:
        return
    told = set()
    initialisers = {each.value: each for each in elf.symbols.matching(_NAME) if each.kind == STT_FUNC}
    for address, initialiser in sorted(initialisers.items()):
        if address not in run and graph.may_form(initialiser, named):
            for place, target in graph.node(initialiser).formed:
                variable = named.get(target)
                if variable and variable.value not in told and _stores(graph, initialiser, place):
                    told.add(variable.value)
                    yield Unset(variable, initialiser, *uses[target])


def _stores(graph: Graph, function: Symbol, place: int) -> bool:
    body = graph.body(function)[0]
    access = a64.load_store_unsigned(body.words[place - body.base >> 2])
    return access is not None and not access[4]
