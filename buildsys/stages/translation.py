"""The identity page tables boot code turns on, computed from the board's memory map and where the image's code ends.

With the MMU off every access is to Device memory, where an unaligned one
faults; Go makes unaligned accesses. Tables are constants in read-only memory: 4 KiB
granule, 39-bit addresses, level 1 entries of 1 GiB, level 2 blocks of 2 MiB, and level 3
pages where a block would have to be two things at once.
Source: Arm ARM, VMSAv8-64 translation table format; registers MAIR_EL1, TCR_EL1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

from buildsys.config.board import Board
from buildsys.errors import UserError

GIB, BLOCK, PAGE = 1 << 30, 1 << 21, 1 << 12
ADDRESS_BITS = 39

NORMAL, DEVICE = 0, 1  # indices into MAIR_EL1
MAIR = 0xFF << 8 * NORMAL | 0x04 << 8 * DEVICE  # write-back, read and write allocate; Device-nGnRE

# T0SZ, inner and outer write-back walks, inner shareable, 4 KiB; the upper
# half unused (EPD1), its granule named all the same: 0b00 is reserved for TG1.
TCR = (64 - ADDRESS_BITS) | 1 << 8 | 1 << 10 | 3 << 12 | 1 << 23 | 2 << 30 | 2 << 32
SCTLR = 1 << 0 | 1 << 2 | 1 << 12  # M, C, I: translation, data and instruction caches on

_BLOCK, _PAGE, _ACCESSED, _INNER = 0b01, 0b11, 1 << 10, 3 << 8
_READ_ONLY = 1 << 7
_EXECUTE_NEVER = 1 << 53 | 1 << 54  # PXN, UXN
_MEMORY = _ACCESSED | _INNER | NORMAL << 2
ATTRIBUTES = {
    "code": _MEMORY | _READ_ONLY,
    "constants": _MEMORY | _READ_ONLY | _EXECUTE_NEVER,
    "writable": _MEMORY | _EXECUTE_NEVER,
    "device": _ACCESSED | DEVICE << 2 | _EXECUTE_NEVER,
}
USES = {"flash": "constants", "ram": "writable", "device": "device"}

# The ends of code and of read-only data, and each guard, need at most one level 3 table, wherever they are.
_MOVING = 2


@dataclass(frozen=True)
class Run:
    """Neighbouring entries: blocks or pages from `first` on, `step` bytes apart; nothing mapped if step is 0.

    Or one entry, which is the level 3 table called `table`.
    """

    first: int
    step: int
    attributes: int
    table: str = ""


Runs = tuple[tuple[int, Run], ...]  # how many entries of each
Table = tuple[str, Runs]


@dataclass(frozen=True)
class Translation:
    """What the templates need of the tables: level 1 entries, and runs of entries by table.

    A level 1 entry is None (nothing there) or the name of a level 2 table. `spare` is how many
    empty tables stand in for level 3 tables that other addresses of the image would need: so the
    layout of the image does not depend on its addresses.
    """

    level1: tuple[str | None, ...]
    level2: tuple[Table, ...]
    level3: tuple[Table, ...]
    spare: int


@dataclass(frozen=True)
class Span:
    """Addresses `low` up to `high`, which are mapped for one of the uses in `ATTRIBUTES`."""

    low: int
    high: int
    use: str


def translation(
    board: Board, code_end: int, constants_end: int, guards: Sequence[int] = (), flash_writable: bool = False
) -> Translation:
    """The tables of `board` for an image whose code ends at `code_end`, what else is read-only at `constants_end`.

    Both are rounded up to pages; a guess that cannot be is taken for the nearest that can. The pages `guards`
    are not mapped; a guess that is no page of what may be written is none. With
    `flash_writable` a store to flash, other than to code, does not fault, it is lost.
    Raises UserError if a region does not consist of whole pages or ends too far up.
    """
    for region in board.regions:
        if region.origin % PAGE or region.length % PAGE or region.end > 1 << ADDRESS_BITS:
            raise UserError(
                f"{board.path}: memory.{region.name} cannot be mapped",
                f"origin and length must be multiples of {PAGE:#x}, and it must end below {1 << ADDRESS_BITS:#x}",
            )
    attributes = ATTRIBUTES | ({"constants": ATTRIBUTES["writable"]} if flash_writable else {})
    mapped = list(_without(spans(board, code_end, constants_end), guards))
    level1: list[str | None] = []
    level2: list[Table] = []
    level3: list[Table] = []
    for start in range(0, max(span.high for span in mapped), GIB):
        inside = [span for span in mapped if span.low < start + GIB and start < span.high]
        runs, below = _level2(inside, start, attributes)
        name = f"buildsys.translation.{start // GIB}" if any(run.step or run.table for _, run in runs) else None
        level1.append(name)
        if name:
            level2.append((name, runs))
            level3 += below
    fixed = {edge // BLOCK for region in board.regions for edge in (region.origin, region.end) if edge % BLOCK}
    room = len(fixed | {board.text // BLOCK}) + _MOVING + len(guards)
    return Translation(tuple(level1), tuple(level2), tuple(level3), room - len(level3))


def spans(board: Board, code_end: int, constants_end: int) -> list[Span]:
    """What is mapped for what, lowest address first. Below the code nothing is: following a nil pointer faults."""
    code = board.code
    code_end = min(max(-(-code_end // PAGE) * PAGE, board.text + PAGE), code.end)
    constants_end = min(max(-(-constants_end // PAGE) * PAGE, code_end), code.end)
    found = [Span(each.origin, each.end, USES[each.kind]) for each in board.regions if each is not code]
    found += [
        Span(board.text, code_end, "code"),
        Span(code_end, constants_end, "constants"),
        Span(constants_end, code.end, USES[code.kind]),
    ]
    return sorted((span for span in found if span.low < span.high), key=lambda span: span.low)


def _without(mapped: Sequence[Span], guards: Sequence[int]) -> Iterator[Span]:
    """`mapped` less the pages `guards` of what may be written."""
    for span in mapped:
        low = span.low
        if span.use == "writable":
            for guard in sorted(each for each in set(guards) if each % PAGE == 0 and span.low <= each < span.high):
                if low < guard:
                    yield Span(low, guard, span.use)
                low = guard + PAGE
        if low < span.high:
            yield Span(low, span.high, span.use)


def _level2(mapped: Sequence[Span], start: int, attributes: dict[str, int]) -> tuple[Runs, list[Table]]:
    """The entries of the level 2 table for the GiB from `start` on, and the level 3 tables they lead to."""
    runs: list[tuple[int, Run]] = []
    below: list[Table] = []
    edges = {start, start + GIB}
    for span in mapped:
        for edge in (span.low, span.high):
            edges |= {edge // BLOCK * BLOCK, -(-edge // BLOCK) * BLOCK}
    for low, high in pairwise(sorted(edge for edge in edges if start <= edge <= start + GIB)):
        pieces = list(_pieces(mapped, low, high))
        if len(pieces) == 1:
            runs += _runs(pieces, BLOCK, _BLOCK, attributes)
        else:  # one block: there are no edges inside a wider piece
            name = f"buildsys.translation.pages.{low // BLOCK}"
            runs.append((1, Run(low, 0, 0, name)))
            below.append((name, tuple(_runs(pieces, PAGE, _PAGE, attributes))))
    return tuple(_joined(runs)), below


def _pieces(mapped: Sequence[Span], low: int, high: int) -> Iterator[tuple[int, int, str]]:
    """`low` to `high` cut where its use changes; the use of what is not mapped is empty."""
    for span in mapped:
        if span.high <= low or high <= span.low:
            continue
        if low < span.low:
            yield low, span.low, ""
        low = max(low, span.low)
        yield low, min(span.high, high), span.use
        low = min(span.high, high)
    if low < high:
        yield low, high, ""


def _runs(
    pieces: Sequence[tuple[int, int, str]], step: int, kind: int, attributes: dict[str, int]
) -> Iterator[tuple[int, Run]]:
    for low, high, use in pieces:
        yield (high - low) // step, Run(low, step, attributes[use] | kind) if use else Run(0, 0, 0)


def _joined(runs: Sequence[tuple[int, Run]]) -> Iterator[tuple[int, Run]]:
    """Neighbouring runs of one kind as one."""
    for _, group in groupby(runs, lambda each: (each[1].step, each[1].attributes, each[1].table)):
        same = list(group)
        yield sum(count for count, _ in same), same[0][1]
