"""Where each function of an image can transfer control to: the edges of a static call graph.

An edge goes to what a function calls or jumps to, and to what it may hand on to be called: a
function whose address it forms, and every function held in a variable whose address it forms,
through any number of pointers. So a call through a register (a closure, a method of an
interface) needs no edge of its own: whatever it can come to was named somewhere.

Branches are decoded. Addresses are what the linker's relocations say, in what Go compiled; in
other code, and where no relocations were kept, they are decoded as well: ADRP and what
uses it, ADR, in a user's assembly also literals, and MOVZ with MOVK.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Collection, Container, Iterable, Iterator
from typing import NamedTuple

from buildsys.formats import a64
from buildsys.formats.callsites import adrp_sites, by_top
from buildsys.formats.elf import Elf
from buildsys.formats.references import Body, Code, Reference, follow, overwrites
from buildsys.formats.related import ABS64, BRANCHES, PAGES, Related, Relations
from buildsys.formats.symbols import STT_FUNC, Symbol
from buildsys.go.doomed import doomed, runs
from buildsys.go.flag import FLAG_BYTES
from buildsys.go.held import Held, Variables
from buildsys.go.typedata import EQUAL, HASHER

# How an edge comes about.
CALLS, JUMPS, NAMES = "calls", "jumps to", "takes the address of"
THROUGH, TYPE = "finds a pointer in", "calls by type, for"

# Some of what a type description points to counts only once something is reached that calls through
# such: the function that compares two values, the one that hashes one, and the methods.
EQUALS, HASHES, METHODS, METHODS_OF_NAMED = "comparison", "hash", "method", "reflection"
# Compiled code calls the first two of a type it knows by name, runtime.efaceeq and the maps those of one they
# are given.
CALL_THROUGH_TYPES = ("runtime.", "runtime/", "internal/", "reflect.")
# src/runtime/iface.go makes an ITab at run time, looking the methods up; reflection calls whatever it is asked for,
# of types that other types name, too.
LOOK_UP_METHODS = ("runtime.getitab", "runtime.(*itab).init", "runtime.itabInit")
REFLECTION = ("reflect.", "internal/reflectlite.")
RECOVERED, PANIC = "runtime.deferreturn", "runtime.gopanic"  # src/runtime/panic.go
RUN_INITIALISERS = ("runtime.main",)  # src/runtime/proc.go

# B and BL, conditional branches, by their top byte.
_BRANCHES = bytes(top & 0x7C == 0x14 or top == 0x54 or top & 0x7C == 0x34 for top in range(256))
# The words decoding asks more of: those, ADR and ADRP, LDR (literal), ADD (immediate),
# load/store (unsigned immediate), MOVZ and MOVK of 64 bits.
_TELLING = bytes(
    _BRANCHES[top] or top & 0x1F == 0x10 or top == 0x91 or top == 0x58 or top & 0x3B == 0x39 or top in (0xD2, 0xF2)
    for top in range(256)
)
_BLR, _LOAD = bytes(top == 0xD6 for top in range(256)), bytes(top == 0xF9 for top in range(256))
_OFFSETS = {EQUAL: EQUALS, HASHER: HASHES}
_ADR_REACH = 1 << 20


class Edge(NamedTuple):
    """A function can come to the one at `to`: by the instruction at `site`, 0 if by none of its own.

    `how` is one of the words above; `through` names the variable, or what of a type, holds the pointer.
    """

    to: int
    site: int
    how: str
    through: str = ""


class Node(NamedTuple):
    """What there is to know of one function.

    `opens` are those of EQUALS, HASHES, METHODS that it can call through, `types` the
    descriptions of types it names, `taken_over` where its first instruction goes, if that is a branch away.
    `formed` are the addresses of data it forms: (place of the instruction, address), `ended` the functions
    that do not return which it calls.
    """

    edges: tuple[Edge, ...]
    types: tuple[int, ...] = ()
    opens: frozenset[str] = frozenset()
    taken_over: int | None = None
    formed: tuple[tuple[int, int], ...] = ()
    ended: tuple[int, ...] = ()


class Graph:
    """Edges of one image, found a function at a time, as it is asked for, and once.

    `ends` are functions that do not return: what only leads to a call of one is passed over.
    With `related` false, relocations are not looked at.
    """

    def __init__(self, elf: Elf, code: Code, ends: Collection[int] = (), related: bool = True) -> None:
        self._elf, self._code, self._ends = elf, code, ends
        self._relations = Relations(elf) if related else None
        self.variables = Variables(elf, self._relations)
        text = elf.symbols.addresses("runtime.text", "runtime.etext")
        self._go = (text.get("runtime.text", 0), text.get("runtime.etext", 0))
        self._functions: dict[int, Symbol | None] = {}
        self._nodes: dict[int, Node] = {}
        self._dead: dict[int, set[int]] = {}
        self._by_type: dict[tuple[int, str], tuple[list[Edge], list[int]]] = {}
        self._flag: tuple[int, list[int]] | None = None
        # Functions that defer calls have a place for a recovered panic to land, which calls it. None is recovered
        # if no panic comes back.
        known = elf.symbols.addresses(RECOVERED)
        panics = {each.value for each in elf.symbols.named(PANIC)[PANIC]}
        self._landing = known.get(RECOVERED) if any(each in ends for each in panics) else None

    def function_at(self, address: int) -> Symbol | None:
        """The function `address` lies in, or what else among code bears a symbol, such as a vector table."""
        if address not in self._functions:
            inside = self.variables.is_code(address)
            self._functions[address] = self._code.body(address).function if inside else None
        return self._functions[address]

    def body(self, function: Symbol) -> tuple[Body, set[int]]:
        """The instructions of `function`, and the indices of those that only lead to a call which does not return."""
        body = self._code.body(function.value)
        if body.base not in self._dead:
            self._dead[body.base] = doomed(body.words, body.base, self._ends)
        return body, self._dead[body.base]

    def words(self, function: Symbol) -> array[int]:
        """The instructions of `function`."""
        return self._code.body(function.value).words

    def node(self, function: Symbol) -> Node:
        """Where `function` can transfer control to, each place once, in the order of its instructions."""
        if function.value not in self._nodes:
            self._nodes[function.value] = self._node(function)
        return self._nodes[function.value]

    def may_form(self, function: Symbol, addresses: Container[int]) -> bool:
        """Whether `function` may form one of `addresses`: `node` tells, and takes far longer to."""
        known = self._relations
        low, high = self._go
        if known is None or not low <= function.value < high or function.value not in known:
            return True
        return any(each.target in addresses for each in known.between(function.value, function.end))

    def by_type(self, place: int, kind: str) -> tuple[list[Edge], list[int]]:
        """What calls through the type at `place` can come to, and the types it names that then count as well."""
        if (place, kind) not in self._by_type:
            self._by_type[place, kind] = self._called_by_type(place, kind)
        return self._by_type[place, kind]

    def _called_by_type(self, place: int, kind: str) -> tuple[list[Edge], list[int]]:
        types = self.variables.types
        if kind in (METHODS, METHODS_OF_NAMED):
            edges = [edge for method in types.methods(place) for edge in self._entry_of(method, 0, TYPE, METHODS)]
            return edges, list(types.named(place)) if kind == METHODS_OF_NAMED else []
        pointer = types.equal(place) if kind == EQUALS else types.hasher(place)
        held = self.variables.held(pointer) if pointer else Held()
        edges = [edge for to, _ in held.functions for edge in self._entry_of(to, 0, TYPE, kind)]
        return edges, [types.key(place)] if types.key(place) else []

    def flag_reads(self, function: Symbol, flag: int) -> list[Reference]:
        """The loads of the word at `flag` in `function`, where they can run."""
        if self._flag is None or self._flag[0] != flag:
            self._flag = (flag, adrp_sites(self._elf, flag & ~0xFFF))
        body = self._code.body(function.value)
        sites = self._flag[1]
        found = sites[bisect_left(sites, body.base) : bisect_left(sites, body.end)]
        if body.base - _ADR_REACH <= flag < body.end + _ADR_REACH:
            places = range(body.base, body.end, 4)
            found += [at for at, word in zip(places, body.words, strict=True) if a64.adr(word, at) == (word & 31, flag)]
        dead = self.body(function)[1] if found else ()
        touched: list[Reference] = []
        for site in found:
            if site - body.base >> 2 not in dead:
                touched += follow(self._code, body, site, flag, FLAG_BYTES)
        return [each for each in touched if each.kind == "load"]

    def _node(self, function: Symbol) -> Node:
        body = self._code.body(function.value)
        words = body.words
        if not words:
            return Node(())
        target = a64.branch_target(words[0], body.base) if a64.is_b(words[0]) else None
        if function.kind == STT_FUNC and target is not None and not body.base <= target < body.end:
            return Node(tuple(self._entry_of(target, body.base, JUMPS)), taken_over=target)
        _, dead = self.body(function)
        formed: list[tuple[int, int]] = []
        low, high = self._go
        related = list(self._relations.between(body.base, body.end)) if self._relations is not None else []
        rewritten = self._is_rewritten(body, related)
        if low <= body.base < high and self._relations is not None and body.base in self._relations and not rewritten:
            found = list(self._branches(body, dead))
        else:
            found = list(self._decoded(function, body, dead, formed))
        if not rewritten:
            formed += [
                (place, target)
                for place, kind, target in related
                if kind not in BRANCHES and kind not in PAGES and place - body.base >> 2 not in dead
            ]
        types: dict[int, None] = {}
        data: list[tuple[int, int]] = []
        if function.name in RUN_INITIALISERS:
            initialisers = self.variables.initialisers()
            found += [edge for place in initialisers for edge in self._entry_of(place, 0, THROUGH, "inittasks")]
        for place, target in formed:
            if self.variables.is_code(target):
                found += self._entry_of(target, place, NAMES)
                continue
            data.append((place, target))
            held = self.variables.held(target)
            types.update(dict.fromkeys(held.types))
            for to, through in held.functions:
                found += self._entry_of(to, place, THROUGH if through else NAMES, through)
        if self._landing and any(edge.to == self._landing for edge in found):
            entered = runs(words, body.base, self._ends)
            if entered is not None:
                found = [edge for edge in found if edge.to != self._landing or edge.site - body.base >> 2 in entered]
        first: dict[int, Edge] = {}
        for edge in sorted(found, key=_site):
            first.setdefault(edge.to, edge)
        opened = _opened(function.name, words)
        targets = (a64.branch_target(words[index], body.base + 4 * index) for index in dead)
        ended = {target for target in targets if target in self._ends and target is not None}
        return Node(tuple(first.values()), tuple(types), opened, None, tuple(data), tuple(ended))

    def _is_rewritten(self, body: Body, related: Iterable[Related]) -> bool:
        """Whether it forms the address of a function where its relocations have another: a redirect of pointers.

        What was made another address since the link, they do not tell.
        """
        for place, kind, target in related:
            if kind in BRANCHES or not self.variables.is_code(target):
                continue
            if kind == ABS64:
                if self._elf.word(place, 8) != target:
                    return True
                continue
            word = body.words[place - body.base >> 2]
            page, near, added = a64.adrp(word, place), a64.adr(word, place), a64.add_immediate(word)
            if (
                (page and page[1] != target & ~0xFFF)
                or (near and near[1] != target)
                or (added and added[2] != target & 0xFFF)
            ):
                return True
        return False

    def _branches(self, body: Body, dead: Container[int]) -> Iterator[Edge]:
        """Of the branches of a function, those that leave it."""
        words, base, count = body.words, body.base, len(body.words)
        for index in by_top(words, _BRANCHES):
            word = words[index]
            goal = a64.goal(word, index)
            if goal is not None and not 0 <= goal < count and index not in dead:
                yield from self._entry_of(base + 4 * goal, base + 4 * index, CALLS if a64.is_bl(word) else JUMPS)

    def _decoded(
        self, function: Symbol, body: Body, dead: Container[int], formed: list[tuple[int, int]]
    ) -> Iterator[Edge]:
        """The same, and to `formed` the addresses formed: each with the place of the instruction that does it."""
        # Go loads no addresses as numbers, but numbers that may look like some.
        assembly = function.is_global or not self._go[0] <= body.base < self._go[1]
        pages: dict[int, int] = {}
        numbers: dict[int, int] = {}
        for index, word in enumerate(body.words):
            address = body.base + 4 * index
            if index in dead:
                continue
            if not _TELLING[word >> 24]:
                if word & 31 in pages and overwrites(word, word & 31):
                    del pages[word & 31]
                continue
            target = a64.branch_target(word, address)
            if target is None:
                target = a64.conditional_target(word, address)
            if target is not None:
                if not body.base <= target < body.end:
                    yield from self._entry_of(target, address, CALLS if a64.is_bl(word) else JUMPS)
                if a64.is_bl(word):
                    pages.clear()  # Go's functions save no registers for their callers
                continue
            if page := a64.adrp(word, address):
                pages[page[0]] = page[1]
                continue
            if made := a64.adr(word, address):
                formed.append((address, made[1]))
            elif word >> 24 == 0x58 and assembly:
                # C6.2 LDR (literal), 64-bit: assembly's `ldr x0, =main.f`.
                place = address + 4 * a64.sign_extend(word >> 5, 19)
                formed.append((address, self._elf.word(place, 8) or 0))
            elif assembly and (moved := a64.move_wide(word)):
                name, register, value, shift = moved
                kept = numbers.get(register, 0) & ~(0xFFFF << shift) if name == "movk" else 0
                numbers[register] = kept | value << shift
                if name == "movk":
                    formed.append((address, numbers[register]))
            elif (sum_ := a64.add_immediate(word)) and sum_[1] in pages:
                formed.append((address, pages[sum_[1]] + sum_[2]))
            elif (access := a64.load_store_unsigned(word)) and access[1] in pages:
                formed.append((address, pages[access[1]] + access[2]))
            if word & 31 in pages and overwrites(word, word & 31):
                del pages[word & 31]

    def _entry_of(self, target: int, site: int, how: str, through: str = "") -> list[Edge]:
        function = self.function_at(target)
        return [Edge(function.value, site, how, through)] if function else []


def _site(edge: Edge) -> int:
    return edge.site


def _opened(name: str, words: array[int]) -> frozenset[str]:
    """What of types the function `name` can call through."""
    found = set()
    if name.startswith(LOOK_UP_METHODS):
        found.add(METHODS)
    if name.startswith(REFLECTION):
        found |= {METHODS, METHODS_OF_NAMED}
    # C6.2 BLR; C6.2 LDR (immediate), 64-bit, from another register than sp.
    if name.startswith(CALL_THROUGH_TYPES) and any(
        words[at] & 0xFFFF_FC1F == 0xD63F_0000 for at in by_top(words, _BLR)
    ):
        loaded = {words[at] & 0xFFFF_FC00 for at in by_top(words, _LOAD) if words[at] >> 5 & 31 != 31}
        found |= {kind for offset, kind in _OFFSETS.items() if 0xF940_0000 | offset // 8 << 10 in loaded}
    return frozenset(found)
