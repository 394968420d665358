"""The account of an image: every byte of the memory it has room in, and every byte of its file, in rows that add up.

Sections say what lies where at run time, segments where it is stored (System V ABI, chapter 5);
what lies between is padding, a row of its own; so is what no symbol names. What boot code copies
takes room twice, in flash and in RAM.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

from buildsys.config.board import Board, Region
from buildsys.formats.elf import SHF_EXECINSTR, SHF_WRITE, Elf, Section
from buildsys.formats.symbols import Symbol
from buildsys.sizes.names import Names, holds, is_mark
from buildsys.sizes.partition import partition

CODE, RODATA, DATA, BSS, STACK, PADDING, LEFT = "code", "rodata", "data", "bss", "stack", "padding", "left"
KINDS = (CODE, RODATA, DATA, BSS)
# What stands for a package or a symbol where there is none.
BETWEEN, NAMELESS, STACKS, FREE = "(padding)", "(no symbol)", "(stacks)", "(left)"
# What lies in RAM behind the sections: section, kind, package, its bounds in the linker script.
RESERVED = (
    ("guard", STACK, STACKS, "__exception_stack_guard", "__exception_stack_low"),
    ("exception stack", STACK, STACKS, "__exception_stack_low", "__exception_stack_high"),
    ("guard", STACK, STACKS, "__stack_guard", "__stack_low"),
    ("stack", STACK, STACKS, "__stack_low", "__stack_high"),
    ("heap", LEFT, FREE, "__heap_low", "__heap_high"),
    ("alloc", LEFT, FREE, "__alloc_low", "__alloc_high"),
)
NOWHERE = "(no region)"
NOP = 0xD503201F.to_bytes(4, "little")  # Arm ARM C6.2.238; what linkers and assemblers fill code with
LEAST = 64  # bytes of a gap that may be padding whatever the section's alignment: a cache line


@dataclass(frozen=True)
class Piece:
    """`size` bytes from `address` on, and whose they are. `stored` are initial values, which boot code copies."""

    region: str
    section: str
    kind: str
    package: str
    symbol: str
    address: int
    size: int
    stored: bool = False


@dataclass(frozen=True)
class Room:
    """Memory of the board that the linker script may use: `low` to before `high`; `used` bytes of it are taken."""

    name: str
    low: int
    high: int
    used: int

    @property
    def length(self) -> int:
        """Bytes in all."""
        return self.high - self.low

    @property
    def share(self) -> float:
        """The used part, 0 to 1."""
        return self.used / self.length if self.length else 0.0


@dataclass(frozen=True)
class Account:
    """What an image takes. The `pieces` of each room are the whole of it; the rows of `file` the whole file."""

    image: str
    board: str
    rooms: tuple[Room, ...]
    pieces: tuple[Piece, ...]
    file: tuple[tuple[str, int], ...]

    @cached_property
    def taken(self) -> tuple[Piece, ...]:
        """The pieces but what is left."""
        return tuple(piece for piece in self.pieces if piece.kind != LEFT)

    def by(self, *fields: str) -> dict[tuple[str, ...], dict[str, int]]:
        """Bytes taken, by the given fields of a piece: those of each kind, and those of each region.

        A kind counts a byte where it is at run time, a region wherever it takes room.
        """
        found: dict[tuple[str, ...], Counter[str]] = {}
        for piece in self.taken:
            row = found.setdefault(tuple(getattr(piece, each) for each in fields), Counter())
            row[f"in {piece.region}"] += piece.size
            if not piece.stored:
                row[piece.kind] += piece.size
        return {key: dict(row) for key, row in found.items()}

    @property
    def file_size(self) -> int:
        """Bytes of the file."""
        return sum(size for _, size in self.file)


def account(elf: Elf, board: Board, names: Names) -> Account:
    """The account of a linked image. Raises UserError if it is damaged or has no symbols."""
    regions = {region.name: region for region in (board.code, board.ram)}
    lows = {board.ram.name: board.bss} | {board.code.name: board.text}
    if board.code == board.ram:
        lows = {board.ram.name: min(board.text, board.bss)}
    found: dict[str, list[Piece]] = {name: [] for name in (*regions, NOWHERE)}
    for piece in (*_sections(elf, board, names), *_reserved(elf, board)):
        found[piece.region if piece.region in regions else NOWHERE].append(piece)
    rooms, pieces = [], list[Piece]()
    for name, region in regions.items():
        inside = list(_whole(found[name], name, lows[name], region))
        low = min(lows[name], *(piece.address for piece in inside))
        high = max(region.end, *(piece.address + piece.size for piece in inside))
        rooms.append(Room(name, low, high, sum(piece.size for piece in inside if piece.kind != LEFT)))
        pieces += inside
    if lost := found[NOWHERE]:
        inside = [replace(piece, region=NOWHERE) for piece in lost]
        size = sum(piece.size for piece in inside)
        rooms.append(Room(NOWHERE, 0, size, size))
        pieces += inside
    return Account(elf.name, board.name, tuple(rooms), tuple(pieces), tuple(_file(elf)))


def _sections(elf: Elf, board: Board, names: Names) -> Iterator[Piece]:
    """What the sections hold, at run time and, where that is elsewhere, stored."""
    symbols: dict[int, list[Symbol]] = {}
    for symbol in elf.symbols.all():
        if symbol.name and not is_mark(symbol):
            symbols.setdefault(symbol.section, []).append(symbol)
    for section, stored in elf.placed:
        pieces = list(_pieces(elf, section, symbols.get(section.index, []), names, _region(board, section.address)))
        yield from pieces
        if section.in_file and stored != section.address:
            region = _region(board, stored)
            for piece in pieces:
                yield replace(piece, region=region, address=piece.address - section.address + stored, stored=True)


def _pieces(elf: Elf, section: Section, symbols: Iterable[Symbol], names: Names, region: str) -> Iterator[Piece]:
    kind = (
        CODE
        if section.flags & SHF_EXECINSTR
        else BSS
        if not section.in_file
        else DATA
        if section.flags & SHF_WRITE
        else RODATA
    )
    contents = elf.contents(section)
    for each in partition(section.address, section.end, symbols, holds):
        if each.symbol is not None:
            package, symbol = names.package(each.symbol), each.symbol.name
        else:
            at = each.low - section.address
            fill = contents[at : at + each.high - each.low]
            package, symbol = (BETWEEN, "") if _is_padding(section, fill, each.high - each.low) else (NAMELESS, "")
        yield Piece(region, section.name, kind, package, symbol, each.low, each.high - each.low)


def _is_padding(section: Section, fill: bytes, size: int) -> bool:
    """Whether a gap is what alignment leaves: not longer than that asks for, and nothing in it."""
    if size >= max(section.alignment, LEAST):
        return False
    rest = fill[-size % 4 :] if section.flags & SHF_EXECINSTR else fill
    return not any(fill) or (len(rest) % 4 == 0 and rest == NOP * (len(rest) // 4))


def _reserved(elf: Elf, board: Board) -> Iterator[Piece]:
    """The stacks, and what is left, as the linker script says."""
    bounds = elf.symbols.addresses(*(name for *_, low, high in RESERVED for name in (low, high)))
    for section, kind, package, low, high in RESERVED:
        if low in bounds and high in bounds and bounds[low] < bounds[high]:
            size = bounds[high] - bounds[low]
            yield Piece(_region(board, bounds[low]), section, kind, package, "", bounds[low], size)


def _region(board: Board, address: int) -> str:
    region = board.region_at(address)
    return region.name if region else NOWHERE


def _whole(pieces: Iterable[Piece], name: str, low: int, region: Region) -> Iterator[Piece]:
    """`pieces` in ascending order with what lies between them: nothing twice, nothing left out from `low` on."""
    at = low
    ordered = sorted(pieces, key=lambda piece: (piece.address, piece.size))
    if ordered:
        at = min(at, ordered[0].address)
    for piece in ordered:
        if piece.address > at:
            yield Piece(name, "", PADDING, BETWEEN, "", at, piece.address - at)
        begins, ends = max(at, piece.address), max(at, piece.address + piece.size)
        if begins < ends:
            yield replace(piece, address=begins, size=ends - begins)
        at = ends
    if at < region.end:
        yield Piece(name, "", LEFT, FREE, "", at, region.end - at)


def _file(elf: Elf) -> list[tuple[str, int]]:
    """(name, bytes) of each part of the file, in its order; of two that overlap, the first has what is both's."""
    titles = ["ELF header", *(["program headers"] if elf.segments else []), "section headers"]
    extents = [(low, high, title) for (low, high), title in zip(elf.tables, titles, strict=False)]
    extents += [
        (section.offset, section.offset + section.size, section.name)
        for section in elf.sections
        if section.in_file and section.size and section.kind
    ]
    rows: list[tuple[str, int]] = []
    at, padding = 0, 0
    for low, high, title in sorted(extents):
        padding += max(0, low - at)
        if high > max(at, low):
            rows.append((title, high - max(at, low)))
        at = max(at, high)
    padding += max(0, len(elf.data) - at)
    return [*rows, (BETWEEN, padding)] if padding else rows
