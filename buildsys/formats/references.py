"""Who touches a variable: every instruction that loads it, stores to it or forms its address.

Found twice, so that each way can be held against the other: decoded from the
instructions, and read from the relocations a linker kept (`--emit-relocs`).
Decoding begins at each ADRP or ADR of the variable's page and follows the
register from there. Not found: an address computed in another way (MOVZ and
MOVK, a literal, a pointer), and one kept in a register across a call of a
function that is not known to leave registers alone.
Sections named are those of the Arm Architecture Reference Manual (DDI 0487).
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from buildsys.formats import a64
from buildsys.formats.callsites import adrp_sites, marked, words_of
from buildsys.formats.elf import Elf
from buildsys.formats.symbols import Symbol

_PAGE_RELOCATIONS = (275, 276)  # R_AARCH64_ADR_PREL_PG_HI21 and its _NC

# xxx10000 with bit 7 clear is ADR.
_ADR = bytes(byte & 0x9F == 0x10 for byte in range(256))
# Go's assembler splits one access into ADRP and an instruction that uses it, through
# R27, which then holds nothing: cmd/internal/obj/arm64, REGTMP.
_SCRATCH = 27
# What calls of barriers and of Duff's devices overwrite: cmd/compile/internal/ssa/_gen/ARM64Ops.go,
# LoweredWB, DUFFZERO and DUFFCOPY, and R27 as above.
SPENT = frozenset({16, 17, 20, 21, 26, 27, 30})
_FOLLOWED = 4096  # instructions, in code that no function symbol bounds


class Reference(NamedTuple):
    """One instruction at `address` that touches a variable.

    `kind` is "load", "store" or "address" (formed, and used for neither); `register` is the
    one loaded, stored or given the address, `size` the bytes moved. `formed` is the address
    of the ADRP or ADR it goes back to, `placed` that of the instruction which adds the
    offset within the page (which is itself, unless a load goes through a register). An address may be `left` in its
    register: neither read through, stored, nor computed with, up to where that is overwritten, a call or a return.
    """

    address: int
    kind: str
    register: int
    size: int
    formed: int
    placed: int
    function: Symbol | None
    left: bool = False


class Body(NamedTuple):
    """The instructions of one function, or of data among code: `words` begin at the address `base`."""

    function: Symbol | None
    base: int
    words: array[int]

    @property
    def end(self) -> int:
        """The first address after them."""
        return self.base + 4 * len(self.words)


class Code:
    """The instruction words of an image's executable sections, by address.

    Calls of the functions in `sparing` leave all registers but those in `SPENT` alone;
    calls of others leave none, as is the rule of Go's ABI.
    """

    def __init__(self, elf: Elf, sparing: Iterable[Symbol] = ()) -> None:
        self._elf = elf
        self._sparing = [(function.value, function.end) for function in sparing]
        self._sections = [(section.address, section.end & ~3, words_of(elf, section)) for section in elf.code]
        self._last = Body(None, 0, array("I"))

    def word(self, address: int) -> int | None:
        """The instruction at `address`; None where there is no code."""
        for low, high, words in self._sections:
            if low <= address < high:
                return words[address - low >> 2]
        return None

    def body(self, address: int) -> Body:
        """The function `address` lies in; code from there on if nothing with a size does."""
        if self._last.base <= address < self._last.end:
            return self._last
        function = self._elf.symbols.function_at(address)
        if function is None or not function.size:
            function = self._elf.symbols.object_at(address) or function
        if function is None or not function.size:
            return Body(function, address, self._words(address, address + 4 * _FOLLOWED))
        self._last = Body(function, function.value, self._words(function.value, function.end))
        return self._last

    def spares(self, target: int, register: int) -> bool:
        """Whether a call of `target` leaves `register` alone."""
        return register not in SPENT and any(low <= target < high for low, high in self._sparing)

    def _words(self, low: int, high: int) -> array[int]:
        for start, end, words in self._sections:
            if start <= low < end:
                return words[low - start >> 2 : max(high - start, 0) >> 2]
        return array("I")


def references(elf: Elf, code: Code, target: int, size: int) -> list[Reference]:
    """Every decoded reference to the `size` bytes at `target`, lowest address first."""
    page = target & ~0xFFF
    found: list[Reference] = []
    for site in adrp_sites(elf, page):
        body = code.body(site)
        function, base, words = body
        at = site - base >> 2
        after = a64.load_store_unsigned(words[at + 1]) if at + 1 < len(words) else None
        if after and words[at] & 31 == after[1] == _SCRATCH:
            register, _, offset, moved, loads = after
            place = page + offset
            if place < target + size and target < place + moved:
                kind = "load" if loads else "store"
                found.append(Reference(site + 4, kind, register, moved, site, site + 4, function))
        else:
            found += follow(code, body, site, target, size)
    for site in _adr_sites(elf, target, size):
        found += follow(code, code.body(site), site, target, size)
    return in_order(found)


def in_order(found: Iterable[Reference]) -> list[Reference]:
    """Each of them once, lowest address first; of two functions that claim one instruction, either first."""
    return sorted(set(found), key=lambda use: use[:6])


def kept(elf: Elf, target: int, size: int) -> tuple[set[int], set[int]]:
    """The code that relocations make refer to the `size` bytes at `target`: (ADRPs, all others), by address.

    The symbol of a relocation may be the variable, its section, or a neighbour, and an addend.
    """
    pages: set[int] = set()
    others: set[int] = set()
    executable = {section.index for section in elf.code}
    for table in elf.relocations():
        if table.target not in executable:
            continue
        addends: dict[int, int] = {}
        for number in {info >> 32 for info in table.infos}:
            symbol = elf.symbols.by_index(number)
            if symbol is not None:
                addends[number] = target - symbol.value
        for info, addend, place in zip(table.infos, table.addends, table.offsets, strict=True):
            if 0 <= addend - addends.get(info >> 32, addend + 1) < size:
                kind = info & 0xFFFF_FFFF
                (pages if kind in _PAGE_RELOCATIONS else others).add(place)
    return pages, others


def _adr_sites(elf: Elf, target: int, size: int) -> Iterator[int]:
    for section in elf.code:
        words, base = words_of(elf, section), section.address
        if not (base - (1 << 20) <= target < section.end + (1 << 20)):
            continue  # ADR reaches 1 MiB
        marks = elf.contents(section)[3::4].translate(_ADR)
        for index in marked(marks):
            formed = a64.adr(words[index], base + 4 * index)
            if formed and target <= formed[1] < target + size:
                yield base + 4 * index


def follow(code: Code, body: Body, site: int, target: int, size: int) -> list[Reference]:
    """What the ADRP or ADR at `site` in `body` does to the `size` bytes at `target`; nothing if it is neither."""
    if not body.base <= site < body.end:
        return []  # the file contradicts itself about where the function is
    word = body.words[site - body.base >> 2]
    if (formed := a64.adr(word, site)) and target <= formed[1] < target + size:
        return _uses(code, body, site, formed[0], formed[1], site, target, size)
    formed = a64.adrp(word, site)
    if formed is None:
        return []
    walk = _Walk(code, body, target, size)
    walk.run(site + 4, formed[0], formed[1])
    found = [
        Reference(at, kind, register, moved, site, at, body.function) for at, kind, register, moved in walk.accesses
    ]
    for at, register, value in walk.sums:
        if target <= value < target + size:
            found += _uses(code, body, at, register, value, site, target, size)
    return found


def _uses(
    code: Code, body: Body, at: int, register: int, value: int, site: int, target: int, size: int
) -> list[Reference]:
    """What is done with the variable's own address, formed in `register` by the instruction at `at`."""
    walk = _Walk(code, body, target, size)
    walk.run(at + 4, register, value)
    found = [
        Reference(place, kind, moved, count, site, at, body.function) for place, kind, moved, count in walk.accesses
    ]
    if walk.escapes or not found:
        found.append(Reference(at, "address", register, 0, site, at, body.function, not walk.escapes))
    return found


class _Walk:
    """Follows a register that holds a known value along every path of one function, until it is overwritten.

    `accesses` are (address, kind, register, bytes) of loads and stores that touch the target,
    `sums` are (address, register, value) of what immediates were added to, and `escapes`
    tells that the value itself was stored, copied or computed with.
    """

    def __init__(self, code: Code, body: Body, target: int, size: int) -> None:
        self._code = code
        self._words, self._base, self._target, self._size = body.words, body.base, target, size
        self.accesses: list[tuple[int, str, int, int]] = []
        self.sums: list[tuple[int, int, int]] = []
        self.escapes = False

    def run(self, start: int, register: int, value: int) -> None:
        """Follow from the instruction at `start`."""
        words, count = self._words, len(self._words)
        pending, seen = [start - self._base >> 2], set[int]()
        while pending:
            index = pending.pop()
            while 0 <= index < count and index not in seen:
                seen.add(index)
                word, address = words[index], self._base + 4 * index
                if word & 0x0A00_0000 == 0x0800_0000:
                    self._access(_decode(word), address, register, value)
                elif word & 0x1C00_0000 == 0x1400_0000:
                    after = self._branch(word, address, register)
                    pending += after[1:]
                    index = after[0] if after else count
                    continue
                else:
                    self._compute(word, address, register, value)
                if overwrites(word, register):
                    break
                index += 1

    def _branch(self, word: int, address: int, register: int) -> list[int]:
        """The indices at which control goes on with `register` as it is."""
        index = address - self._base >> 2
        target = a64.conditional_target(word, address)
        if target is not None:
            return [index + 1, target - self._base >> 2]
        target = a64.branch_target(word, address)
        if target is None:
            return [] if word & 0xFE00_0000 == 0xD600_0000 else [index + 1]  # C6.2 BR, BLR, RET
        if not a64.is_bl(word):
            return [target - self._base >> 2]
        return [index + 1] if self._code.spares(target, register) else []

    def _access(self, access: _Access, address: int, register: int, value: int) -> None:
        if access.base == register:
            place = value + (access.offset or 0)
            known = access.offset is not None or value == self._target
            if known and place < self._target + self._size and self._target < place + access.size:
                kind = "load" if access.loads else "store"
                self.accesses.append((address, kind, access.first, access.size))
        stored = not access.loads and not access.vector and register in (access.first, access.second)
        self.escapes |= stored or access.adds == register

    def _compute(self, word: int, address: int, register: int, value: int) -> None:
        source, other = word >> 5 & 31, word >> 16 & 31
        if word & 0x1C00_0000 == 0x1000_0000:  # C4.1 data processing, immediate
            added = a64.add_immediate(word)
            if added and source == register:
                self.sums.append((address, added[0], value + added[2]))
            elif source == register and word >> 23 & 7 not in (0, 1, 5):
                self.escapes = True  # ADR, ADRP (0, 1) and moves (5) have no source
        elif word & 0x0E00_0000 == 0x0A00_0000:  # C4.1 data processing, register
            self.escapes |= register in (source, other)


def overwrites(word: int, register: int) -> bool:
    """Whether the instruction certainly leaves another value in the general register; calls are left out."""
    if word & 0x0A00_0000 == 0x0800_0000:  # C4.1 loads and stores
        access = _decode(word)
        loaded = access.loads and not access.vector and register in (access.first, access.second)
        return loaded or (access.writes_back and access.base == register)
    if word & 31 != register:
        return False
    if word & 0x0E00_0000 == 0x0A00_0000:  # C4.1 data processing, register
        operation = word & 0x1FE0_0000
        # CCMP, and RMIF and SETF among the sums with carry, have no destination.
        return not (operation == 0x1A40_0000 or (operation == 0x1A00_0000 and word & 0xFC00))
    # C4.1 data processing, immediate; C6.2 MRS.
    return word & 0x1C00_0000 == 0x1000_0000 or word & 0xFFF0_0000 == 0xD530_0000


class _Access(NamedTuple):
    """A load or store: registers by number (31: none), `offset` in bytes, None if it is in register `adds`."""

    base: int
    first: int
    second: int
    adds: int
    offset: int | None
    size: int
    loads: bool
    vector: bool
    writes_back: bool


def _decode(word: int) -> _Access:
    """Any word of the group of loads and stores (C4.1). An atomic update counts as a load."""
    vector, opc, base, first = bool(word >> 26 & 1), word >> 22 & 3, word >> 5 & 31, word & 31
    size = 16 if vector and opc >> 1 else 1 << (word >> 30)
    loads = bool(opc & 1) if vector else opc != 0
    if not vector and word >> 30 == 3 and opc == 2 and word & 0x3800_0000 == 0x3800_0000:
        first = 31  # C6.2 PRFM: what would be the register is a hint
    if word & 0x3B00_0000 == 0x1800_0000:  # C6.2 LDR (literal)
        return _Access(31, first, 31, 31, None, 0, True, vector, False)
    if word & 0x3A00_0000 == 0x2800_0000:  # pair
        size = 4 << (word >> 30) if vector else 8 if word >> 31 else 4
        mode = word >> 23 & 3  # 1: post-indexed, 3: pre-indexed
        offset = 0 if mode == 1 else a64.sign_extend(word >> 15, 7) * size
        return _Access(base, first, word >> 10 & 31, 31, offset, 2 * size, bool(word >> 22 & 1), vector, bool(mode & 1))
    if word & 0x3B00_0000 == 0x3900_0000:  # unsigned immediate
        return _Access(base, first, 31, 31, (word >> 10 & 0xFFF) * size, size, loads, vector, False)
    if word & 0x3B20_0000 == 0x3800_0000:  # unscaled, post- or pre-indexed
        mode = word >> 10 & 3
        offset = 0 if mode == 1 else a64.sign_extend(word >> 12, 9)
        return _Access(base, first, 31, 31, offset, size, loads, vector, bool(mode & 1))
    if word & 0x3B20_0C00 == 0x3820_0800:  # register offset
        return _Access(base, first, 31, word >> 16 & 31, None, size, loads, vector, False)
    if word & 0x3B20_0C00 == 0x3820_0000:  # atomic
        return _Access(base, first, 31, 31, 0, size, True, vector, False)
    if word & 0x3F00_0000 == 0x0800_0000:  # exclusive, ordered
        pair = bool(word >> 21 & 1 and not word >> 23 & 1)
        second = word >> 10 & 31 if pair else 31
        return _Access(base, first, second, 31, 0, size << pair, bool(word >> 22 & 1), vector, False)
    return _Access(base, first, 31, 31, 0, 64, bool(word >> 22 & 1), True, bool(word >> 23 & 1))  # structures
