"""What a kernel can reach: everything the static call graph leads to from its entry.

How the edges are found is told in `graph`. Breadth first, so that the way kept to each
function is a shortest one; what is called through type descriptions comes last, when nothing else
is left.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Container, Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import NamedTuple

from buildsys.formats.elf import Elf
from buildsys.formats.references import Code, Reference, in_order
from buildsys.formats.symbols import Symbol
from buildsys.go.graph import Edge, Graph, Node

NO_BODIES: Mapping[int, Node] = MappingProxyType({})


class Step(NamedTuple):
    """One step of a way: the function, and the edge it was come to by; None for the first."""

    function: Symbol
    edge: Edge | None


@dataclass(frozen=True)
class Reach:
    """The functions reachable from the entries, by address, each with the one it was first reached from.

    `edges` are the edges they were first reached by.
    `flag_reads` are the loads of the flag among their instructions that can run, `entered` the functions
    taken over at their first instruction and where that branch goes: nothing behind it runs. `graph` is what
    was searched, if that was made for this.
    """

    came_from: dict[int, int | None]
    edges: dict[int, Edge]
    entered: dict[int, int]
    functions: dict[int, Symbol]
    flag_reads: tuple[Reference, ...] = ()
    graph: Graph | None = field(default=None, compare=False, repr=False)

    def way(self, function: int) -> list[Step]:
        """The shortest way from an entry to `function`."""
        found: list[Step] = []
        at: int | None = function
        while at is not None:
            found.append(Step(self.functions[at], self.edges.get(at)))
            at = self.came_from[at]
        return found[::-1]

    def path(self, function: int) -> list[str]:
        """The same, as names."""
        return [step.function.name for step in self.way(function)]


def reach(
    elf: Elf,
    code: Code,
    entries: Iterable[int],
    flag: int,
    ends: Collection[int] = (),
    related: bool = True,
    stops: Container[int] = (),
    bodies: Mapping[int, Node] = NO_BODIES,
) -> Reach:
    """Everything reachable from the functions at `entries`, and each load of the word at `flag` on the way.

    `ends` and `related` are as `Graph` has them, `stops` and `bodies` as for `search`.
    """
    graph = Graph(elf, code, ends, related)
    found = search(graph, entries, stops, bodies)
    reads = (
        read
        for address, function in found.functions.items()
        if address not in found.entered and address not in stops
        for read in graph.flag_reads(function, flag)
    )
    return replace(found, flag_reads=tuple(in_order(reads)), graph=graph)


def search(
    graph: Graph, entries: Iterable[int], stops: Container[int] = (), bodies: Mapping[int, Node] = NO_BODIES
) -> Reach:
    """Everything reachable in `graph`. Functions at `stops` are reached, and not followed further.

    `bodies` are what functions lead to, by address, where that is not what the graph says.
    """
    came_from: dict[int, int | None] = dict.fromkeys(entries)
    by: dict[int, Edge] = {}
    functions: dict[int, Symbol] = {}
    entered: dict[int, int] = {}
    through = _ThroughTypes(graph)
    queue = deque(came_from)
    while queue:
        address = queue.popleft()
        function = graph.function_at(address)
        if function is None:
            del came_from[address]
            continue
        functions[address] = function
        found: list[tuple[Edge, int]] = []
        if address not in stops:
            node = bodies.get(address) or graph.node(function)
            if node.taken_over is not None:
                entered[address] = node.taken_over
            through.note(node, address)
            found = [(edge, address) for edge in node.edges]
        for edge, origin in found if queue else [*found, *through.called()]:
            if edge.to not in came_from:
                came_from[edge.to], by[edge.to] = origin, edge
                queue.append(edge.to)
    return Reach(came_from, by, entered, functions)


class _ThroughTypes:
    """What can be called through the descriptions of types named so far."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._open: set[str] = set()
        self._origins: dict[int, int] = {}
        self._done: dict[str, set[int]] = {}

    def note(self, node: Node, origin: int) -> None:
        """The function at `origin` was reached."""
        self._open |= node.opens
        for place in node.types:
            self._origins.setdefault(place, origin)

    def called(self) -> list[tuple[Edge, int]]:
        """What can be called now that could not before: edges, each with the function that named the type."""
        found: list[tuple[Edge, int]] = []
        for kind in sorted(self._open):
            done = self._done.setdefault(kind, set())
            pending = [place for place in self._origins if place not in done]
            while pending:
                place = pending.pop()
                if place in done:
                    continue
                done.add(place)
                edges, named = self._graph.by_type(place, kind)
                origin = self._origins[place]
                for other in named:
                    self._origins.setdefault(other, origin)
                    pending.append(other)
                found += [(edge, origin) for edge in edges]
        return found
