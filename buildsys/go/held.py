"""Which functions the variables of an image hold pointers to, through any number of pointers, and which types."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from buildsys.formats.elf import SHF_ALLOC, SHF_EXECINSTR, Elf
from buildsys.formats.related import Relations
from buildsys.formats.symbols import Symbol
from buildsys.go.typedata import Types

# A pointer to something without a symbol of its own: how many bytes from there
# on may hold pointers.
UNSIZED = 64
ITABS = ("go:itab.", "go.itab.")  # go: since Go 1.20; since 1.27 they have no symbols of their own
ITAB_TYPE, ITAB_FUN = 8, 24  # internal/abi/iface.go: ITab.Type, after Inter; ITab.Fun, after that and Hash
# It tells where everything lies, for tracebacks and the collector. What is called by it are the
# initialisers of packages, by those who run them: src/runtime/symtab.go, proc.go.
TABLE = "method table"  # what an ITab is called that has no symbol
MODULE, INITIALISERS = "runtime.firstmoduledata", "inittask"


class Held(NamedTuple):
    """What a variable stands for: functions, each with the name of the variable that has the pointer, and types.

    The name is empty for a function value, which is no more than the pointer. The address is any in the function.
    """

    functions: tuple[tuple[int, str], ...] = ()
    types: tuple[int, ...] = ()


class Variables:
    """The data of one image, searched for pointers: where relocations made them, or wherever there is a number."""

    def __init__(self, elf: Elf, relations: Relations | None) -> None:
        self._elf, self._relations = elf, relations
        self._code = [(section.address, section.end) for section in elf.code]
        self._data = [
            (section.address, section.end, elf.contents(section))
            for section in elf.sections
            if section.flags & SHF_ALLOC and section.in_file and section.size and not section.flags & SHF_EXECINSTR
        ]
        self._last: tuple[int, int, bytes] = (0, 0, b"")  # where the last word was: the next is often near
        self._known: dict[int, Held] = {}
        self.types = Types(elf, self._word)

    def is_code(self, address: int) -> bool:
        """Whether an instruction lies there. Page tables hold addresses in code, with bits of their own at the end."""
        if not address & 3:
            for low, high in self._code:  # as a loop: it is asked thousands of times
                if low <= address < high:
                    return True
        return False

    def held(self, address: int) -> Held:
        """What the variable at `address` stands for."""
        if address not in self._known:
            self._known[address] = self._held(address)
        return self._known[address]

    def initialisers(self) -> list[int]:
        """The initialisers of packages, which are called by way of a table of the module's."""
        found = []
        for module in self._elf.symbols.named(MODULE)[MODULE]:
            for task in self._pointers(module.value, module.end):
                if self._is_task(task):
                    found += [place for place, _ in self.held(task).functions]
        return found

    def _held(self, address: int) -> Held:
        functions: dict[tuple[int, str], None] = {}
        types: dict[int, None] = {}
        seen: set[int] = set()
        pending = [(address, "")]
        while pending:
            place, through = pending.pop()
            if self.is_code(place):
                functions[place, through] = None
                continue
            if place in seen:
                continue
            seen.add(place)
            end = self._end(place)
            if end is None:
                continue
            variable = self._variable(place)
            if variable is None and place in self.types and not self.is_code(self._word(place)):
                table = self.types.table(place)
                types[table[0] if table else place] = None
                pending += [(self._word(at), TABLE) for at in table[1]] if table else []
                continue
            if variable and variable.name == MODULE:
                continue
            low, high = self._extent(place, end, variable)
            if variable and variable.name.startswith(ITABS):
                types[self._word(variable.value + ITAB_TYPE)] = None
            name = through or (variable.name if variable and variable.size > 8 else "")
            pending += [(value, name) for value in self._pointers(low, high)]
        return Held(tuple(functions), tuple(each for each in types if each in self.types))

    def _variable(self, place: int) -> Symbol | None:
        variable = self._elf.symbols.object_at(place)
        return variable if variable and variable.size else None

    def _extent(self, place: int, end: int, variable: Symbol | None) -> tuple[int, int]:
        """Where pointers are looked for that lead to code: in the variable, or from `place` on."""
        if variable:  # up to Go 1.26 ITabs lie between the types, which have no symbols
            skipped = ITAB_FUN if variable.name.startswith(ITABS) else 0
            return variable.value + skipped + 7 & ~7, min(variable.end, end)
        if self.is_code(self._word(place)):
            return place, place + 8  # a function value: go:funcdesc is not split into symbols
        return place, min(place + UNSIZED, end)

    def _pointers(self, low: int, high: int) -> Iterator[int]:
        """The pointers in a range."""
        if self._relations is not None and low in self._relations:
            for place, _, _ in self._relations.between(low, high - 7):
                yield self._word(place)
        else:
            for place in range(low, high - 7, 8):
                if value := self._word(place):
                    yield value

    def _is_task(self, address: int) -> bool:
        variable = self._elf.symbols.object_at(address)
        return variable is not None and INITIALISERS in variable.name

    def _end(self, address: int) -> int | None:
        """Where the section of data ends that `address` lies in."""
        return next((end for low, end, _ in self._data if low <= address < end), None)

    def _word(self, address: int) -> int:
        low, end, contents = self._last
        if not low <= address < end:
            self._last = next((each for each in self._data if each[0] <= address < each[1]), self._last)
            low, end, contents = self._last
            if not low <= address < end:
                return 0
        return int.from_bytes(contents[address - low : address - low + 8], "little")
