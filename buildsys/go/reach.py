"""What a kernel can reach: a static call graph from its entry, decoded from the image.

Edges are branches (B, BL, B.cond, CBZ, TBZ), function addresses formed by
ADRP+ADD or ADR, and function addresses held in variables whose address is
formed. A variable stands for everything its bytes point to. What cannot be
followed is a pointer computed at run time; Go's compiler makes none.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from buildsys.formats import a64
from buildsys.formats.elf import SHF_ALLOC, SHF_EXECINSTR, Elf
from buildsys.formats.symbols import Symbol

# A pointer to something without a symbol of its own: how many bytes from there
# on may hold pointers.
UNSIZED = 64
TYPE_EQUAL = 24  # internal/abi/type.go: Type.Equal, after Size_, PtrBytes, Hash and four bytes of flags
INTERFACE_METHODS = 64  # InterfaceType.Methods' length, after Type (48), PkgPath (8) and the slice's pointer
ITAB_FUN = 24  # internal/abi/iface.go: ITab.Fun, after Inter, Type and Hash


@dataclass(frozen=True)
class FlagRead:
    """One load of the flag: its address, the register loaded, and the function it stands in."""

    address: int
    register: int
    function: Symbol


@dataclass(frozen=True)
class Reach:
    """The functions reachable from an entry, each with the one it was first reached from."""

    entry: int
    came_from: dict[int, int | None]
    functions: dict[int, Symbol]
    flag_reads: tuple[FlagRead, ...]

    def path(self, function: int) -> list[str]:
        """The shortest way from the entry to `function`, as names."""
        names, at = [], function
        while True:
            names.append(self.functions[at].name)
            before = self.came_from[at]
            if before is None:
                return names[::-1]
            at = before


def reach(elf: Elf, entry: int, flag: int) -> Reach:
    """Everything reachable from the function at `entry`, and each load of the word at `flag` on the way."""
    graph = _Graph(elf, flag)
    came_from: dict[int, int | None] = {entry: None}
    functions: dict[int, Symbol] = {}
    queue = deque([entry])
    while queue:
        address = queue.popleft()
        function = elf.symbols.function_at(address)
        if function is None:
            del came_from[address]
            continue
        functions[address] = function
        for target in graph.edges(function):
            if target not in came_from:
                came_from[target] = address
                queue.append(target)
    return Reach(entry, came_from, functions, tuple(graph.flag_reads))


class _Graph:
    """Edges of one image, decoded a function at a time."""

    def __init__(self, elf: Elf, flag: int) -> None:
        self._elf, self._flag = elf, flag
        self._data = [s for s in elf.sections if s.flags & SHF_ALLOC and s.in_file and not s.flags & SHF_EXECINSTR]
        self._seen: set[int] = set()
        bounds = elf.symbols.addresses("runtime.types", "runtime.etypes")
        self._types = (bounds.get("runtime.types", 0), bounds.get("runtime.etypes", 0))
        self.flag_reads: list[FlagRead] = []

    def edges(self, function: Symbol) -> set[int]:
        """The entry addresses of the functions `function` can transfer control to."""
        first = self._elf.word(function.value)
        target = a64.branch_target(first, function.value) if first is not None and a64.is_b(first) else None
        if target is not None and not function.value <= target < function.end:
            return self._entry_of(target)  # redirected at its entry: nothing behind it runs
        found: set[int] = set()
        pages: dict[int, int] = {}
        for address, word in self._words(function):
            target = a64.branch_target(word, address)
            if target is None:
                target = a64.conditional_target(word, address)
            if target is not None:
                if not function.value <= target < function.end:
                    found |= self._entry_of(target)
                continue
            if formed := a64.adrp(word, address):
                pages[formed[0]] = formed[1]
            elif formed := a64.adr(word, address):
                found |= self._pointed_to(formed[1])
            elif (sum_ := a64.add_immediate(word)) and sum_[1] in pages:
                found |= self._pointed_to(pages[sum_[1]] + sum_[2])
            elif (access := a64.load_store_unsigned(word)) and access[1] in pages:
                place = pages[access[1]] + access[2]
                if place == self._flag and access[4]:
                    self.flag_reads.append(FlagRead(address, access[0], function))
                else:
                    found |= self._pointed_to(place)
        return found

    def _words(self, function: Symbol) -> Iterator[tuple[int, int]]:
        at = self._elf.file_offset(function.value)
        if at is None:
            return
        for offset in range(0, function.size & ~3, 4):
            yield function.value + offset, int.from_bytes(self._elf.data[at + offset : at + offset + 4], "little")

    def _entry_of(self, target: int) -> set[int]:
        function = self._elf.symbols.function_at(target)
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
        if self._types[0] <= place < self._types[1]:
            return self._in_type(place)
        variable = self._elf.symbols.object_at(place)
        if variable and variable.size:
            return range(variable.value + 7 & ~7, min(variable.end, section.end) - 7, 8)
        if self._is_code(self._elf.word(place, 8) or 0):
            return range(place, place + 8, 8)  # a function value: go:funcdesc is not split into symbols
        return range(place, min(place + UNSIZED, section.end) - 7, 8)

    def _in_type(self, place: int) -> range:
        """internal/abi: an ITab begins with two type pointers and ends with its methods; a Type holds Equal."""
        first, second = self._elf.word(place, 8) or 0, self._elf.word(place + 8, 8) or 0
        low, high = self._types
        if low <= first < high and low <= second < high:
            methods = self._elf.word(first + INTERFACE_METHODS, 8) or 0
            return range(place + ITAB_FUN, min(place + ITAB_FUN + 8 * methods, high), 8)
        return range(place + TYPE_EQUAL, place + TYPE_EQUAL + 8, 8)

    def _is_code(self, address: int) -> bool:
        return any(address in section for section in self._elf.code)
