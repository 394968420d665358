"""Chains of calls: how deep each gets, which is the deepest, and what has no bound.

A call through a register can come to every function that a pointer was made of, in what is reached at all
(go.graph): functions for a function value, methods for a method. Functions that call each other in a circle have
no bound.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from buildsys.formats import a64
from buildsys.formats.elf import SHF_ALLOC, SHF_EXECINSTR, Elf
from buildsys.formats.references import Body, Code, overwrites
from buildsys.formats.symbols import STT_FUNC
from buildsys.go.graph import EQUALS, HASHES, METHODS, NAMES, THROUGH, TYPE, Graph
from buildsys.go.held import ITABS, TABLE
from buildsys.go.indirect import METHOD, VALUE
from buildsys.go.reach import Reach
from buildsys.go.typedata import EQUAL, HASHER, TABLE_METHODS
from buildsys.stacks.growth import Call, Growth, Growths, go_code


@dataclass(frozen=True)
class Link:
    """One function of a chain: `bytes` of the stack are in use where it calls the next, or at most if it is the last.

    `site` is the instruction that calls, 0 in the last.
    """

    function: int
    bytes: int
    site: int = 0


@dataclass(frozen=True)
class Height:
    """How far a function and what it calls grow the stack.

    `bytes` are those of the deepest chain that is known, `call` leads on to its next function, `below`.
    `open` are what keeps it from being a bound: functions in a circle, instructions nothing is known of.
    """

    bytes: int
    call: Call | None = None
    below: int | None = None
    open: frozenset[tuple[str, int]] = frozenset()


# Why a height is no bound: what is come to again, a call by a register that can lead back, what sp is put to.
RECURSION, BACK, LOST = "recursion", "call", "sp"
OF_INTERFACES = ("runtime.interequal", "runtime.nilinterequal")  # src/runtime/alg.go
NEAR = 16  # instructions
MOST_METHODS = 64  # of an interface: what is beyond is taken for one of any
Edges = Sequence[tuple[int, Call, int]]


class Pointed:
    """The functions that pointers were made of, in what is reached: what calls through registers can come to.

    `called` are functions of assembly, each with one whose address it forms to call it right there.
    """

    def __init__(self, elf: Elf, graph: Graph, reach: Reach, called: Collection[tuple[int, int]] = ()) -> None:
        self._elf, self._graph = elf, graph
        self._go = go_code(elf)
        functions: dict[int, None] = {}
        methods: dict[int, None] = {}
        by_assembly: dict[int, None] = {}
        for address, function in reach.functions.items():
            if address in reach.entered:
                continue
            for edge in graph.node(function).edges:
                if edge.how == THROUGH and (edge.through == TABLE or edge.through.startswith(ITABS)):
                    methods[edge.to] = None
                elif edge.how in (NAMES, THROUGH) and (address, edge.to) not in called and _is_function(graph, edge.to):
                    (functions if address in self._go else by_assembly)[edge.to] = None
        types: dict[int, None] = {}
        for address, edge in reach.edges.items():
            if edge.how == TYPE:
                (methods if edge.through == METHODS else types)[address] = None
        self.functions, self.methods, self.by_assembly = tuple(functions), tuple(methods), tuple(by_assembly)
        # Of a value in an interface the type is never that of an interface.
        self.types = tuple(each for each in types if reach.functions[each].name not in OF_INTERFACES)

    def of(self, body: Body, call: Call) -> tuple[int, ...]:
        """What `call`, by a register, in the function `body` can come to."""
        if body.base not in self._go:
            return (*self.by_assembly, *self.functions)
        at = call.site - body.base >> 2
        if not 0 <= at < len(body.words):  # the file contradicts itself about where the function is
            return (*self.by_assembly, *self.functions, *self.methods, *self.types)
        if call.how == METHOD:
            return self._in_slot(_loaded(body.words, at, body.words[at] >> 5 & 31))
        opens = self._graph.node(body.function).opens if body.function else frozenset()
        if call.how == VALUE and not opens & {EQUALS, HASHES}:
            return self.functions
        if call.how == VALUE and _by_type(body.words, at):
            return self.types
        return (*self.functions, *self.methods, *self.types)

    def _in_slot(self, loaded: tuple[int, int, int] | None) -> tuple[int, ...]:
        """The methods that some ITab has where the pointer to the one called was loaded; all if that is not told."""
        if loaded is None:
            return self.methods
        return tuple(each for each in self.methods if not self._slots[each] or loaded[2] in self._slots[each])

    @cached_property
    def _slots(self) -> dict[int, set[int]]:
        """At which offsets of ITabs each method is."""
        types, found = self._graph.variables.types, dict[int, set[int]]()
        for method in self.methods:
            slots = found.setdefault(method, set())
            for place in _held(self._elf, method):
                for offset in range(TABLE_METHODS, TABLE_METHODS + 8 * MOST_METHODS, 8):
                    table = types.table(place - offset)
                    if table is not None and place in table[1]:
                        slots.add(offset)
        return found


def _is_function(graph: Graph, address: int) -> bool:
    """Whether there is a function at `address`, and not the vectors of exceptions."""
    function = graph.function_at(address)
    return function is not None and function.kind == STT_FUNC


def _held(elf: Elf, pointer: int) -> Iterator[int]:
    """Where among what can be read `pointer` is."""
    wanted = pointer.to_bytes(8, "little")
    for section in elf.sections:
        if section.flags & SHF_ALLOC and section.in_file and not section.flags & SHF_EXECINSTR:
            contents, at = elf.contents(section), -1
            while (at := contents.find(wanted, at + 1)) >= 0:
                if (section.address + at) % 8 == 0:
                    yield section.address + at


def _by_type(words: Sequence[int], at: int) -> bool:
    """Whether the function value called by the instruction at the index `at` comes out of a type's description."""
    code = _loaded(words, at, words[at] >> 5 & 31)
    value = _loaded(words, code[0], code[1]) if code and code[2] == 0 else None
    return value is not None and value[2] in (EQUAL, HASHER)


def _loaded(words: Sequence[int], at: int, register: int) -> tuple[int, int, int] | None:
    """By which instruction before `at` the register got its value, if a load: its index, base register, offset."""
    for before in range(at - 1, max(-1, at - NEAR), -1):
        if overwrites(words[before], register):
            access = a64.load_store_unsigned(words[before])
            return (before, access[1], access[2]) if access and access[3:] == (8, True) else None
    return None


class Chains:
    """The chains of calls in one image.

    `pointed` tells what calls through registers come to. With `unchecked`, a function that looks at the
    stack's end grows it by no more than its call of morestack does, what Go calls by a pointer is such a function, or
    assembly, and what never returns counts as well.
    """

    def __init__(self, code: Code, growths: Growths, graph: Graph, pointed: Pointed, unchecked: bool = False) -> None:
        self._code, self._growths, self._graph, self._pointed = code, growths, graph, pointed
        self.unchecked = unchecked
        self._growth: dict[int, Growth] = {}
        self._heights: dict[int, Height] = {}
        self._back: dict[int, frozenset[tuple[str, int]]] = {}

    def growth(self, address: int) -> Growth:
        """What the function entered at `address` does."""
        if address not in self._growth:
            body = self._code.body(address)
            dead = self._graph.body(body.function)[1] if body.function else set()
            self._growth[address] = self._growths.of(body, address - body.base >> 2, dead)
        return self._growth[address]

    def height(self, address: int) -> Height:
        """How far the function entered at `address` grows the stack it is called on."""
        if address not in self._heights:
            self._solve(address)
        return self._heights[address]

    def chain(self, address: int) -> list[Link]:
        """The deepest chain that begins with the function entered at `address`."""
        found: list[Link] = []
        at: int | None = address
        while at is not None:
            height = self.height(at)
            if height.call is None or height.below is None:
                found.append(Link(at, height.bytes))
            else:
                found.append(Link(at, height.call.place.number or 0, height.call.site))
            at = height.below
        return found

    def reached(self, roots: Iterable[int]) -> Iterator[int]:
        """Every function that can be come to from those entered at `roots`, on whatever stack, if only to fail."""
        pending, seen = list(roots), set(roots)
        while pending:
            address = pending.pop()
            yield address
            for _, _, target in self._edges(address, every=True):
                if target not in seen:
                    seen.add(target)
                    pending.append(target)

    def _edges(self, address: int, every: bool = False) -> Edges:
        """(bytes in use, call, goal) for each way on from a function; `every`: on whatever stack."""
        growth = self.growth(address)
        found: list[tuple[int, Call, int]] = []
        if address in self._growths.ends and not every:
            return found  # what a report does, it does on a stack of its own
        for call in growth.calls:
            if call.doomed and not self.unchecked and not every:
                continue
            if call.place.absolute and not every:
                continue
            if self.unchecked and growth.checked and call.target not in self._growths.morestack and not every:
                continue
            found += [(call.place.number or 0, call, goal) for goal in self.goals(address, call)]
        return found

    def goals(self, address: int, call: Call) -> tuple[int, ...]:
        """What `call`, of the function entered at `address`, can come to."""
        if call.target is not None:
            return () if call.target in self._growths.program else (call.target,)
        found = self._pointed.of(self._code.body(address), call)
        if self.unchecked and address in self._growths.go:
            # As Go's linker has it: what Go calls by a pointer is Go that looks. Assembly does not.
            found = tuple(each for each in found if each not in self._growths.go)
        return tuple(each for each in found if each not in self._growths.program)  # that has stacks of its own

    def _solve(self, root: int) -> None:
        """Heights of everything from `root` on, innermost first."""
        edges: dict[int, Edges] = {}
        pending = [root]
        while pending:
            at = pending.pop()
            if at not in edges and at not in self._heights:
                edges[at] = self._edges(at)
                pending += [goal for _, _, goal in edges[at]]
        following = {at: [goal for _, _, goal in found if goal in edges] for at, found in edges.items()}
        for members in components(edges, following):
            self._settle(members, {at: edges[at] for at in members})

    def _settle(self, members: Sequence[int], edges: Mapping[int, Edges]) -> None:
        """The heights of functions that can come to each other, when those of all others they call are known."""
        inside = set(members)
        if len(members) > 1 or any(goal in inside for _, _, goal in edges[members[0]]):
            # Calls by a register that can lead back are told of, and left out: what is left may be no circle.
            kept = {
                at: [each for each in edges[at] if each[1].target is not None or each[2] not in inside]
                for at in members
            }
            back = {
                (BACK, call.site)
                for at in members
                for _, call, goal in edges[at]
                if call.target is None and goal in inside
            }
            if back:
                self._back.update(dict.fromkeys(members, frozenset(back)))
                for part in components(
                    members, {at: [goal for _, _, goal in kept[at] if goal in inside] for at in kept}
                ):
                    self._settle(part, {at: kept[at] for at in part})
                return
            self.circles[min(members)] = tuple(members)
            opened = {(RECURSION, min(members))}
        else:
            opened = set()
        for member in members:
            opened |= {(LOST, site) for site, _ in self.growth(member).unknown} | self._back.get(member, frozenset())
            for _, _, goal in edges[member]:
                if goal not in inside:
                    opened |= self._heights[goal].open
        for member in members:
            best = Height(self._local(member), open=frozenset(opened))
            for depth, call, goal in edges[member]:
                if goal not in inside and depth + self._heights[goal].bytes > best.bytes:
                    best = Height(depth + self._heights[goal].bytes, call, goal, frozenset(opened))
            self._heights[member] = best

    def _local(self, address: int) -> int:
        growth = self.growth(address)
        return 0 if self.unchecked and growth.checked else growth.most

    @cached_property
    def circles(self) -> dict[int, tuple[int, ...]]:
        """Functions that can come to each other, by the lowest address of them; of what was asked for so far."""
        return {}


def components(nodes: Iterable[int], following: Mapping[int, Sequence[int]]) -> Iterator[list[int]]:
    """The strongly connected components of a graph, by Tarjan: each after all it leads to."""
    index: dict[int, int] = {}
    low: dict[int, int] = {}
    stack: list[int] = []
    inside: set[int] = set()
    for root in nodes:
        work = [] if root in index else [(root, 0)]
        while work:
            at, number = work.pop()
            if not number:
                index[at] = low[at] = len(index)
                stack.append(at)
                inside.add(at)
            for position in range(number, len(following[at])):
                goal = following[at][position]
                if goal not in index:
                    work += [(at, position + 1), (goal, 0)]
                    break
                if goal in inside:
                    low[at] = min(low[at], low[goal])
            else:
                if low[at] == index[at]:
                    begin = stack.index(at)
                    yield stack[begin:]
                    inside.difference_update(stack[begin:])
                    del stack[begin:]
                if work:
                    above = work[-1][0]
                    low[above] = min(low[above], low[at])
