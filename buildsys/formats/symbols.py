"""The symbol table of an ELF file, searched without turning it into objects first.

A table is four parallel arrays over the raw entries (System V ABI, figure
4-16), so that looking up a few names among tens of thousands costs little.
"""

from __future__ import annotations

import re
import sys
from array import array
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, compress
from operator import add
from struct import Struct

STB_LOCAL, STB_GLOBAL = 0, 1
STT_NOTYPE, STT_OBJECT, STT_FUNC, STT_SECTION, STT_GNU_IFUNC = 0, 1, 2, 3, 10
SHN_UNDEF, SHN_ABS = 0, 0xFFF1
_ENDS = (b"\0", b".")  # of `$d`, or before its suffix
_FEW = 16  # names, for which it is quicker to search than to go through all
_pack = Struct("<I").pack


@dataclass(frozen=True)
class Symbol:
    """One symbol: `value` is its address, `size` in bytes, `section` the index it is defined in."""

    name: str
    value: int
    size: int
    kind: int
    binding: int
    section: int

    @property
    def is_global(self) -> bool:
        """Whether its binding is STB_GLOBAL."""
        return self.binding == STB_GLOBAL

    @property
    def end(self) -> int:
        """The first address after it."""
        return self.value + self.size

    def letter(self) -> str:
        """`t` or `T` as nm prints it for a function; only functions are told apart here."""
        return "T" if self.is_global else "t"


class Symbols:
    """Every symbol of one file; `name` is the file's, for messages."""

    def __init__(self, entries: bytes, strings: bytes, name: str) -> None:
        self._strings, self._name = strings, name
        self._asked = 0  # names looked for so far
        self._made: dict[int, Symbol] = {}  # by index, those somebody asked for
        halves, wholes = array("I", entries), array("Q", entries)
        if sys.byteorder == "big":
            halves.byteswap()
            wholes.byteswap()
        # Elf64_Sym: u32 name, u8 info, u8 other, u16 shndx, u64 value, u64 size
        self._names, self._infos = halves[0::6], halves[1::6]
        self._values, self._sizes = wholes[1::3], wholes[2::3]

    def __len__(self) -> int:
        return len(self._names)

    def named(self, *names: str) -> dict[str, list[Symbol]]:
        """Every defined symbol that bears one of `names`, by name; a name nobody bears has none."""
        self._asked += len(names)
        places = self._indexed if self._asked > _FEW else self._search
        wanted = {at: name for name in names for at in places(name.encode("utf-8", "surrogateescape"))}
        found: dict[str, list[Symbol]] = {name: [] for name in names}
        for index in self._bearers(wanted):
            symbol = self._symbol(index)
            if symbol.section != SHN_UNDEF:
                found[wanted[self._names[index]]].append(symbol)
        return found

    def _bearers(self, places: Collection[int]) -> Iterable[int]:
        """The symbols, by number, whose names stand at one of `places` of the string table."""
        if len(places) > _FEW:
            return compress(range(len(self._names)), map(places.__contains__, self._names))
        found, raw = [], self._raw_names
        for needle in map(_pack, places):
            at = raw.find(needle)
            while at >= 0:
                if at % 4 == 0:
                    found.append(at // 4)
                at = raw.find(needle, at + 1)
        return sorted(found)

    @cached_property
    def _raw_names(self) -> bytes:
        return b"".join(map(_pack, self._names)) if sys.byteorder == "big" else self._names.tobytes()

    def _search(self, name: bytes) -> Iterator[int]:
        """Where a name stands in the string table: alone or, as GNU ld shares tails, as the end of another."""
        needle, at = name + b"\0", -1
        while (at := self._strings.find(needle, at + 1)) >= 0:
            yield at

    def _indexed(self, name: bytes) -> Iterator[int]:
        """The same by a dictionary, which is made in the time of some thirty searches."""
        last, others = self._places
        if name in last:
            yield last[name]
        yield from others.get(name, ())

    @cached_property
    def _places(self) -> tuple[dict[bytes, int], dict[bytes, list[int]]]:
        """Where in the string table each text stands; and where else, of those that symbols bear."""
        texts = self._strings.split(b"\0")
        last = dict(zip(texts, map(add, accumulate(map(len, texts), initial=0), range(len(texts))), strict=True))
        others: dict[bytes, list[int]] = defaultdict(list)
        for at in set(self._names).difference(last.values()):
            others[self._text(at)].append(at)  # one more of the same, or the tail of another
        return last, others

    def _text(self, start: int) -> bytes:
        """The text that begins at `start` of the string table."""
        return self._strings[start : max(self._strings.find(b"\0", start), start)]

    def matching(self, pattern: bytes) -> list[Symbol]:
        """Every defined symbol whose whole name `pattern`, a regular expression that matches no zero byte, matches."""
        whole = re.compile(rb"(?<=\0)(?:%s)(?=\0)" % pattern)
        names = {found[0] for found in whole.finditer(self._strings)}
        names |= {text for text in self._places[1] if re.fullmatch(pattern, text)}  # tails of other names
        found = self.named(*(name.decode("utf-8", "surrogateescape") for name in names))
        return [symbol for each in sorted(found) for symbol in found[each]]

    def addresses(self, *names: str) -> dict[str, int]:
        """The address of each of `names` that exactly one value can be told for."""
        return {
            name: symbols[0].value
            for name, symbols in self.named(*names).items()
            if len({symbol.value for symbol in symbols}) == 1
        }

    def all(self) -> Iterable[Symbol]:
        """Every symbol but the null one; slow, for tools that list."""
        return (self._symbol(index) for index in range(1, len(self)))

    def all_names(self) -> set[str]:
        """Every name a symbol of the file bears."""
        strings = self._strings
        return {strings[at : strings.find(b"\0", at)].decode("utf-8", "replace") for at in set(self._names)}

    def marks(self) -> list[tuple[int, bool]]:
        """The mapping symbols, by address: whether data (`$d`) begins there, or code (`$x`); of both, code last."""
        strings, places = self._strings, dict[int, bool]()
        for needle in (b"$d", b"$x"):
            at = strings.find(needle)
            if at < 0 and needle == b"$d":
                return []
            while at >= 0:
                if strings[at + 2 : at + 3] in _ENDS:
                    places[at] = needle == b"$d"
                at = strings.find(needle, at + 1)
        found = []
        for at in compress(range(len(self)), map(places.__contains__, self._names)):
            if not self._infos[at] & 0xFF and self._infos[at] >> 16 != SHN_UNDEF:  # STB_LOCAL, STT_NOTYPE
                found.append((self._values[at], places[self._names[at]]))
        return sorted(found, key=lambda mark: (mark[0], not mark[1]))

    def beginning(self, prefix: str) -> list[Symbol]:
        """Every symbol whose name begins with `prefix`, defined or not; quick if there is none."""
        needle, at, places = prefix.encode(), -1, set[int]()
        while (at := self._strings.find(needle, at + 1)) >= 0:
            places.add(at)
        if not places:
            return []
        return [self._symbol(index) for index in compress(range(len(self)), map(places.__contains__, self._names))]

    def valued(self, *values: int) -> list[Symbol]:
        """Every defined symbol with one of `values`."""
        wanted = frozenset(values)
        found = map(self._symbol, compress(range(len(self)), map(wanted.__contains__, self._values)))
        return [symbol for symbol in found if symbol.section != SHN_UNDEF]

    def absolutes(self) -> dict[int, Symbol]:
        """The global symbols that are numbers, in no section, by their number in the table."""
        wanted = [at for at, info in enumerate(self._infos) if info >> 16 == SHN_ABS and info >> 4 & 0xF == STB_GLOBAL]
        return {at: self._symbol(at) for at in wanted}

    @cached_property
    def _functions(self) -> tuple[list[int], list[int]]:
        return self._sorted(STT_FUNC)

    @cached_property
    def _objects(self) -> tuple[list[int], list[int]]:
        return self._sorted(STT_OBJECT)

    def _sorted(self, kind: int) -> tuple[list[int], list[int]]:
        """Addresses and indices of the symbols of one kind; of several at one address, the largest last."""
        infos = self._infos
        chosen = [at for at, info in enumerate(infos) if info & 0xF == kind and info >> 16 != SHN_UNDEF]
        triples = sorted(
            zip(map(self._values.__getitem__, chosen), map(self._sizes.__getitem__, chosen), chosen, strict=True)
        )
        return [value for value, _, _ in triples], [index for _, _, index in triples]

    def function_at(self, address: int) -> Symbol | None:
        """The function whose bytes include `address`; one without a size reaches to the next."""
        return self._at(self._functions, address)

    def function_names(self, addresses: Iterable[int]) -> Iterator[str]:
        """The name of the function each address lies in, empty if in none; quick for ascending addresses."""
        values, indices = self._functions
        low, high, name = 0, 0, ""
        for address in addresses:
            if not low <= address < high:
                place = bisect_right(values, address)
                index = indices[place - 1] if place else -1
                end = self._values[index] + self._sizes[index] if place and self._sizes[index] else 1 << 64
                name = self._name_of(index) if place and address < end else ""
                low, high = address, values[place] if place < len(values) else address + 1
                high = min(high, end) if address < end else high
            yield name

    def object_at(self, address: int) -> Symbol | None:
        """The variable whose bytes include `address`."""
        return self._at(self._objects, address)

    def overlapping(self, low: int, high: int) -> list[Symbol]:
        """The variables that have a byte between `low` and `high`, in the order of the table; slow."""
        return [
            self._symbol(index)
            for index, (value, size, info) in enumerate(zip(self._values, self._sizes, self._infos, strict=True))
            if value < high and low < value + size and info & 0xF == STT_OBJECT and info >> 16 != SHN_UNDEF
        ]

    def values_between(self, low: int, high: int) -> Iterator[int]:
        """Where between `low` and `high`, neither included, a symbol stands, or one from before reaches; slow."""
        for value, size, info in zip(self._values, self._sizes, self._infos, strict=True):
            if info >> 16 != SHN_UNDEF and info & 0xF in (STT_NOTYPE, STT_OBJECT, STT_FUNC, STT_GNU_IFUNC):
                if low < value < high:
                    yield value
                elif value <= low < value + size:
                    yield low

    def function_outside(self, ranges: Iterable[tuple[int, int]]) -> Symbol | None:
        """A function that does not lie within one of `ranges`, from an address to before another; None if all do."""
        values, indices = self._functions
        end = 0
        for low, high in [*sorted(ranges), (1 << 64, 1 << 64)]:
            for index in indices[bisect_left(values, end) : bisect_left(values, low)]:
                # Go marks the end of its code by a function without a size, which may lie at the very end.
                if self._values[index] > end or self._sizes[index]:
                    return self._symbol(index)
            last = bisect_left(values, high) - 1
            if last >= 0 and values[last] >= low and values[last] + self._sizes[indices[last]] > high:
                return self._symbol(indices[last])
            end = high
        return None

    @property
    def function_starts(self) -> Sequence[int]:
        """The addresses of all functions, ascending."""
        return self._functions[0]

    def functions(self) -> list[Symbol]:
        """Every function, lowest address first."""
        return [self._symbol(index) for index in self._functions[1]]

    def names_of_functions(self) -> list[str]:
        """The name of every function, lowest address first."""
        return [self._name_of(index) for index in self._functions[1]]

    def _at(self, table: tuple[list[int], list[int]], address: int) -> Symbol | None:
        values, indices = table
        place = bisect_right(values, address) - 1
        if place < 0:
            return None
        symbol = self._symbol(indices[place])
        return symbol if not symbol.size or address < symbol.end else None

    def by_index(self, index: int) -> Symbol | None:
        """The symbol a relocation entry names by number; None if there is no such number."""
        return self._symbol(index) if 0 <= index < len(self) else None

    def place(self, index: int) -> tuple[int, int] | None:
        """The section and value of a symbol, by number: what `by_index` gives, without the rest."""
        return (self._infos[index] >> 16, self._values[index]) if 0 <= index < len(self) else None

    def _name_of(self, index: int) -> str:
        start = self._names[index]
        return self._strings[start : self._strings.find(b"\0", start)].decode("utf-8", "replace")

    def _symbol(self, index: int) -> Symbol:
        found = self._made.get(index)
        if found is None:
            info = self._infos[index]
            found = self._made[index] = Symbol(
                self._name_of(index),
                self._values[index],
                self._sizes[index],
                info & 0xF,
                info >> 4 & 0xF,
                info >> 16,
            )
        return found
