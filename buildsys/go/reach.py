"""What a kernel can reach: a static call graph from its entry, decoded from the image.

Edges are branches (B, BL, B.cond, CBZ, TBZ), function addresses formed by
ADRP+ADD or ADR, or in assembly loaded as literals, and function addresses held in variables whose address is
formed. A variable stands for everything its bytes point to. A type's function
that compares two values counts once something is reached that calls through
types. What cannot be followed is a pointer computed at run time; Go's compiler
makes none.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Iterable
from dataclasses import dataclass

from buildsys.formats import a64
from buildsys.formats.elf import SHF_ALLOC, SHF_EXECINSTR, Elf
from buildsys.formats.references import Body, Code, Reference, follow, in_order, overwrites
from buildsys.formats.symbols import STT_FUNC, Symbol
from buildsys.go.doomed import doomed
from buildsys.go.flag import FLAG_BYTES

# A pointer to something without a symbol of its own: how many bytes from there
# on may hold pointers.
UNSIZED = 64
TYPE_EQUAL = 24  # internal/abi/type.go: Type.Equal, after Size_, PtrBytes, Hash and four bytes of flags
INTERFACE_METHODS = 64  # InterfaceType.Methods' length, after Type (48), PkgPath (8) and the slice's pointer
ITABS = ("go:itab.", "go.itab.")  # go: since Go 1.20; since 1.27 they have no symbols of their own
ITAB_FUN = 24  # internal/abi/iface.go: ITab.Fun, after Inter, Type and Hash


# Who reads Type.Equal and calls it: compiled code calls the function of a type it knows by name,
# and runtime.efaceeq and ifaceeq for an interface.
CALL_THROUGH_TYPES = ("runtime.", "runtime/", "internal/", "reflect.")


@dataclass(frozen=True)
class Reach:
    """The functions reachable from the entries, by address, each with the one it was first reached from.

    `flag_reads` are the loads of the flag among their instructions that can run, `entered` the functions
    taken over at their first instruction and where that branch goes: nothing behind it runs.
    """

    came_from: dict[int, int | None]
    entered: dict[int, int]
    functions: dict[int, Symbol]
    flag_reads: tuple[Reference, ...]

    def path(self, function: int) -> list[str]:
        """The shortest way from an entry to `function`, as names."""
        names, at = [], function
        while True:
            names.append(self.functions[at].name)
            before = self.came_from[at]
            if before is None:
                return names[::-1]
            at = before


def reach(elf: Elf, code: Code, entries: Iterable[int], flag: int, ends: Container[int] = ()) -> Reach:
    """Everything reachable from the functions at `entries`, and each load of the word at `flag` on the way.

    `ends` are functions that do not return: what only leads to a call of one is passed over.
    """
    graph = _Graph(elf, code, flag, ends)
    came_from: dict[int, int | None] = dict.fromkeys(entries)
    functions: dict[int, Symbol] = {}
    queue = deque(came_from)
    while queue:
        address = queue.popleft()
        function = graph.function_at(address)
        if function is None:
            del came_from[address]
            continue
        functions[address] = function
        found = [(target, address) for target in graph.edges(function)]
        for target, origin in found if queue else [*found, *graph.comparisons()]:
            if target not in came_from:
                came_from[target] = origin
                queue.append(target)
    return Reach(came_from, graph.entered, functions, tuple(in_order(graph.flag_reads)))


# By their top byte, the words `edges` asks more of: B and BL, conditional branches, ADR and
# ADRP, LDR (literal), ADD (immediate), load/store (unsigned immediate). Most words are none of them.
_TELLING = bytes(
    top & 0x7C == 0x14
    or top == 0x54
    or top & 0x7C == 0x34
    or top & 0x1F == 0x10
    or top == 0x91
    or top == 0x58
    or top & 0x3B == 0x39
    for top in range(256)
)


class _Graph:
    """Edges of one image, decoded a function at a time."""

    def __init__(self, elf: Elf, code: Code, flag: int, ends: Container[int]) -> None:
        self._ends = ends
        self._elf, self._code, self._flag = elf, code, flag
        self._data = [s for s in elf.sections if s.flags & SHF_ALLOC and s.in_file and not s.flags & SHF_EXECINSTR]
        self._seen: set[int] = set()
        self._comparisons: list[tuple[int, int]] = []  # (what a Type.Equal points to, function that names the type)
        self._compares = False
        self._current = 0
        bounds = elf.symbols.addresses("runtime.types", "runtime.etypes")
        self._types = (bounds.get("runtime.types", 0), bounds.get("runtime.etypes", 0))
        self.flag_reads: list[Reference] = []
        self.entered: dict[int, int] = {}

    def function_at(self, address: int) -> Symbol | None:
        """The function `address` lies in, or what else among code bears a symbol, such as a vector table."""
        return self._code.body(address).function if self._is_code(address) else None

    def edges(self, function: Symbol) -> set[int]:
        """The entry addresses of the functions `function` can transfer control to."""
        body = self._code.body(function.value)
        if not body.words:
            return set()
        target = a64.branch_target(body.words[0], body.base) if a64.is_b(body.words[0]) else None
        if function.kind == STT_FUNC and target is not None and not body.base <= target < body.end:
            self.entered[function.value] = target
            return self._entry_of(target)
        self._current = function.value
        self._compares |= _calls_through_types(body)
        found: set[int] = set()
        pages: dict[int, int] = {}
        dead = doomed(body.words, body.base, self._ends)
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
                    found |= self._entry_of(target)
                if a64.is_bl(word):
                    pages.clear()  # Go's functions save no registers for their callers
                continue
            if formed := a64.adrp(word, address):
                pages[formed[0]] = formed[1]
                if formed[1] == self._flag & ~0xFFF:
                    self._note_reads(body, address)
                continue
            if formed := a64.adr(word, address):
                found |= self._pointed_to(formed[1])
                if formed[1] == self._flag:
                    self._note_reads(body, address)
            elif word >> 24 == 0x58 and function.is_global:
                # C6.2 LDR (literal), 64-bit: assembly's `ldr x0, =main.f`. Go loads no addresses so, but numbers.
                place = address + 4 * a64.sign_extend(word >> 5, 19)
                found |= self._pointed_to(self._elf.word(place, 8) or 0)
            elif (sum_ := a64.add_immediate(word)) and sum_[1] in pages:
                found |= self._pointed_to(pages[sum_[1]] + sum_[2])
            elif (access := a64.load_store_unsigned(word)) and access[1] in pages:
                found |= self._pointed_to(pages[access[1]] + access[2])
            if word & 31 in pages and overwrites(word, word & 31):
                del pages[word & 31]
        return found

    def _note_reads(self, body: Body, address: int) -> None:
        touched = follow(self._code, body, address, self._flag, FLAG_BYTES)
        self.flag_reads += [each for each in touched if each.kind == "load"]

    def comparisons(self) -> list[tuple[int, int]]:
        """Functions that compare values of a type and can now be called: (function, who named the type), each once."""
        found: list[tuple[int, int]] = []
        while self._compares and self._comparisons:
            pointer, self._current = self._comparisons.pop()
            origin = self._current
            found += [(target, origin) for target in self._pointed_to(pointer)]
        return found

    def _entry_of(self, target: int) -> set[int]:
        function = self.function_at(target)
        return {function.value} if function else set()

    def _pointed_to(self, address: int) -> set[int]:
        """Functions that the code or variable at `address` stands for, through any number of pointers."""
        found: set[int] = set()
        pending = [address]
        while pending:
            place = pending.pop()
            if self._is_code(place):
                found |= self._entry_of(place)
            elif place not in self._seen:
                self._seen.add(place)
                pending += [value for at in self._pointers(place) if (value := self._elf.word(at, 8))]
        return found

    def _pointers(self, place: int) -> range:
        """Where the variable at `place` may hold pointers that lead to code."""
        section = next((section for section in self._data if place in section), None)
        if section is None:
            return range(0)
        variable = self._elf.symbols.object_at(place)
        if variable and variable.size:  # up to Go 1.26 some lie between the types, which have no symbols
            skipped = ITAB_FUN if variable.name.startswith(ITABS) else 0
            return range(variable.value + skipped + 7 & ~7, min(variable.end, section.end) - 7, 8)
        if self._is_code(self._elf.word(place, 8) or 0):
            return range(place, place + 8, 8)  # a function value: go:funcdesc is not split into symbols
        if self._types[0] <= place < self._types[1]:
            return self._in_type(place)
        return range(place, min(place + UNSIZED, section.end) - 7, 8)

    def _in_type(self, place: int) -> range:
        """internal/abi: an ITab begins with two type pointers and ends with its methods; a Type holds Equal."""
        first, second = self._elf.word(place, 8) or 0, self._elf.word(place + 8, 8) or 0
        low, high = self._types
        if low <= first < high and low <= second < high:
            methods = self._elf.word(first + INTERFACE_METHODS, 8) or 0
            return range(place + ITAB_FUN, min(place + ITAB_FUN + 8 * methods, high), 8)
        if compares := self._elf.word(place + TYPE_EQUAL, 8):
            self._comparisons.append((compares, self._current))
        return range(0)

    def _is_code(self, address: int) -> bool:
        return any(address in section for section in self._elf.code)


def _calls_through_types(body: Body) -> bool:
    """Whether a function may call the Equal of a type: it loads what lies there, and calls through a register."""
    if body.function is None or not body.function.name.startswith(CALL_THROUGH_TYPES):
        return False
    load = 0xF940_0000 | TYPE_EQUAL // 8 << 10  # C6.2 LDR (immediate), 64-bit
    loads = any(word & 0xFFFF_FC00 == load and word >> 5 & 31 != 31 for word in body.words)
    return loads and any(word & 0xFFFF_FC1F == 0xD63F_0000 for word in body.words)  # C6.2 BLR
