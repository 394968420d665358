"""What a kernel touches of the runtime: the services it comes to first, and how.

The graph is searched twice. Once through everything: that is what can run. Once up to
the first function of a service on each way: these are what the kernel's own code, and what it
uses of packages, asks of the runtime. What lies behind them is the services' own affair: who deals
with the allocator need not deal with the locks the allocator takes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from buildsys.formats.elf import Elf
from buildsys.formats.symbols import Symbol
from buildsys.go.graph import NAMES, THROUGH, TYPE, Edge, Graph
from buildsys.go.held import ITABS, TABLE
from buildsys.go.indirect import OTHER, indirect
from buildsys.go.initialised import Unset, unset
from buildsys.go.packages import is_own, own_modules, package_of
from buildsys.go.reach import Reach, search
from buildsys.go.services import Classes, Service, services


@dataclass(frozen=True)
class Use:
    """One service: its functions that are come to first, nearest first, and those that lie behind, of any service."""

    service: Service
    first: tuple[Symbol, ...]
    behind: tuple[Symbol, ...]


@dataclass(frozen=True)
class Cause:
    """The kernel's own function `caller` comes, by `edge`, to `called`, which is not its own and leads to a service."""

    caller: Symbol
    edge: Edge
    called: Symbol


@dataclass(frozen=True)
class Values:
    """Calls through registers in what is reached before any service.

    `calls` counts them by kind; `functions` and `methods` are how many any of them can come to, `others`
    the functions with calls that cannot be told to be either.
    """

    calls: Counter[str] = field(default_factory=Counter)
    functions: int = 0
    methods: int = 0
    others: tuple[str, ...] = ()


@dataclass(frozen=True)
class Touched:
    """What the entries lead to: `reach` is all of it, `near` what comes before any service.

    `causes` are the calls in the kernel's own functions without which no service would be come to.
    `served` names what was taken over and is come to: (the runtime's function, its service or "").
    """

    graph: Graph
    reach: Reach
    near: Reach
    uses: tuple[Use, ...]
    causes: tuple[Cause, ...]
    served: tuple[tuple[str, str], ...]
    unset: tuple[Unset, ...]
    values: Values

    @property
    def unserved(self) -> tuple[Use, ...]:
        """The services come to first."""
        return tuple(use for use in self.uses if use.first)


def touched(
    elf: Elf,
    graph: Graph,
    entries: Collection[int],
    thread: int,
    replaced: Iterable[tuple[str, int, int]] = (),
    stops: Collection[int] = (),
    sets: Collection[str] = (),
) -> Touched:
    """What the functions at `entries` touch. `thread` is the offset of `m` in `runtime.g`.

    `replaced` are the functions taken over: name, address, and that of the one in its place. Those at `stops`
    are not followed. A service that one of the ready sets `sets` provides is none that is missing, nor one that
    works with it as it is: what lies behind that is its own affair.
    """
    known = services()
    modules = own_modules(elf)
    classes = Classes(known, thread, modules)
    reach = search(graph, entries, stops)
    ours = {new for _, _, new in replaced}
    missing = {
        address: service
        for address, function in reach.functions.items()
        if address not in reach.entered and address not in ours and address not in entries
        if (service := classes.of(function, graph.words(function))) and service.set not in sets
    }
    found = {address: service for address, service in missing.items() if service.by_itself not in sets}
    near = search(graph, entries, {*missing, *stops})
    # What works by itself may come to the kernel's own code again: to its allocator.
    back = [new for new in ours if new in reach.functions and new not in near.functions]
    near = search(graph, (*entries, *back), {*missing, *stops}) if back else near
    named: dict[str, tuple[list[Symbol], list[Symbol]]] = {}
    for address, service in found.items():
        first, behind = named.setdefault(service.name, ([], []))
        (first if address in near.functions else behind).append(reach.functions[address])
    distance = {address: at for at, address in enumerate(near.functions)}
    uses = [
        Use(
            service,
            tuple(sorted(named[service.name][0], key=lambda each: distance[each.value])),
            tuple(named[service.name][1]),
        )
        for service in known
        if service.name in named
    ]
    uses.sort(key=lambda use: distance[use.first[0].value] if use.first else len(distance))
    before = [function for address, function in near.functions.items() if address not in {*missing, *stops}]
    return Touched(
        graph,
        reach,
        near,
        tuple(uses),
        tuple(_causes(graph, near, found, modules)),
        tuple(_served(classes, graph, reach, replaced)),
        tuple(sorted(unset(elf, graph, before), key=lambda each: distance[each.reader.value])),
        _values(graph, near, before),
    )


def _causes(graph: Graph, near: Reach, found: Container[int], modules: Collection[str]) -> Iterator[Cause]:
    """The edges out of the kernel's own functions that lead to one of `found`, in the order they were reached."""
    before: dict[int, list[int]] = {}
    edges = {
        address: graph.node(function).edges for address, function in near.functions.items() if address not in found
    }
    for address, leaving in edges.items():
        for edge in leaving:
            before.setdefault(edge.to, []).append(address)
    leading = {address for address in near.functions if address in found}
    pending = list(leading)
    while pending:
        for address in before.get(pending.pop(), ()):
            if address not in leading:
                leading.add(address)
                pending.append(address)
    own = {address: None for address in edges if is_own(package_of(near.functions[address].name), modules)}
    for address in own:
        for edge in edges[address]:
            if edge.to in leading and edge.to not in own:
                yield Cause(near.functions[address], edge, near.functions[edge.to])


def _served(
    classes: Classes, graph: Graph, reach: Reach, replaced: Iterable[tuple[str, int, int]]
) -> Iterator[tuple[str, str]]:
    ended = {target for function in reach.functions.values() for target in graph.node(function).ended}
    for name, old, new in replaced:
        if new in reach.functions or old in reach.entered or old in ended:
            service = classes.by_name(name)
            yield name, service.name if service else ""


def _values(graph: Graph, near: Reach, functions: Sequence[Symbol]) -> Values:
    calls: Counter[str] = Counter()
    others: dict[str, None] = {}
    named: set[int] = set()
    methods: set[int] = set()
    for function in functions:
        body, dead = graph.body(function)
        for _, kind in indirect(body.words, dead):
            calls[kind] += 1
            if kind == OTHER:
                others[function.name] = None
        for edge in graph.node(function).edges:
            if edge.how == THROUGH and (edge.through == TABLE or edge.through.startswith(ITABS)):
                methods.add(edge.to)
            elif edge.how in (NAMES, THROUGH):
                named.add(edge.to)
    methods |= {address for address, edge in near.edges.items() if edge.how == TYPE}
    return Values(calls, len(named), len(methods), tuple(others))
