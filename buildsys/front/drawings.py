"""Where things go in the two drawings of the proof: geometry only; proof.html.j2 makes SVG of it.

Lengths are in units of the drawings' own view boxes, y grows downwards, and a text's y is its
baseline.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import log2

from buildsys.config.board import Board, Region
from buildsys.front.flow import Flow, Row
from buildsys.front.quantity import amount
from buildsys.proof.claims.memory_map import Extent
from buildsys.proof.observation import HEAD

PAGE = 4096


def fit(text: str, count: int) -> str:
    """`text` in at most `count` characters, its middle left out if it is longer: names differ at their ends."""
    if len(text) <= count:
        return text
    tail = (count - 1) // 2
    return f"{text[: count - 1 - tail]}…{text[len(text) - tail :]}"


# The memory map. From left to right: the arrow of what is copied, addresses, blocks, marks.

MAP_WIDTH = 760
AXIS, LEFT, RIGHT, MARKS = 104, 112, 420, 448
TITLE, LINE, TOLD = 34, 15, 20


@dataclass(frozen=True)
class Piece:
    """An extent as it is drawn: what is said in it beside its name; `style` is one of the page's classes.

    `kept_at` is where its first values are stored, if boot code copies them from there.
    """

    extent: Extent
    style: str
    note: str = ""
    kept_at: int | None = None


@dataclass(frozen=True)
class Mark:
    """An address worth pointing at."""

    address: int
    text: str


@dataclass(frozen=True)
class Block:
    """A piece in its place; `clash` if another one claims some of the same addresses."""

    piece: Piece
    x: float
    y: float
    width: float
    height: float
    clash: bool

    @property
    def size(self) -> str:
        """How large it is."""
        return amount(self.piece.extent.high - self.piece.extent.low)

    @property
    def name(self) -> str:
        """Its name, cut to fit."""
        room = self.width - 20 - (0 if self.clash else 6.6 * len(self.size) + 12)
        return fit(self.piece.extent.name, max(4, int(room / 8.4)))

    @property
    def note(self) -> str:
        """What else is said of it, cut to fit; nothing if there is no room."""
        return fit(self.piece.note, max(4, int((self.width - 20) / 6.7))) if self.height >= 40 else ""


@dataclass(frozen=True)
class Frame:
    """A region of the board, or what lies in none, in its place; `bounds` are (y, address) of its ticks.

    `gaps` are (y, bytes) of what nothing lies in, where there is room to say so.
    """

    title: str
    note: str
    style: str
    y: float
    height: float
    bounds: tuple[tuple[float, int], ...]
    gaps: tuple[tuple[float, int], ...]
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Callout:
    """A mark in its place: `at` is the address's own height, `y` that of the text."""

    mark: Mark
    at: float
    y: float

    @property
    def text(self) -> str:
        """What is said of it, cut to fit."""
        return fit(self.mark.text, 38)


@dataclass(frozen=True)
class Map:
    """The drawing of the memory map. `copies` are the heights (from, to) of what boot code copies."""

    height: float
    frames: tuple[Frame, ...]
    callouts: tuple[Callout, ...]
    copies: tuple[tuple[float, float], ...]
    width: int = MAP_WIDTH
    axis: int = AXIS
    left: int = LEFT
    right: int = RIGHT
    marks: int = MARKS


def memory(board: Board, pieces: Sequence[Piece], marks: Sequence[Mark]) -> Map:
    """The memory map: lowest address on top, heights growing with the logarithm of sizes."""
    top, frames, scales = 2.0, [], []
    for region, inside in _shared_out(board, pieces):
        scale = _Scale(region, inside, [mark.address for mark in marks], top + TITLE)
        bounds = tuple((scale.at(bound), bound) for bound in scale.bounds)
        note = f"{amount(region.length)}{_KINDS.get(region.kind, '')}"
        blocks = tuple(_blocks(inside, scale))
        height = scale.bottom - scale.top
        frames.append(Frame(region.name, note, region.kind, scale.top, height, bounds, tuple(scale.gaps), blocks))
        scales.append(scale)
        top = scale.bottom + 12
    holding = ((next((scale for scale in scales if scale.holds(mark.address)), None), mark) for mark in marks)
    placed = sorted(
        ((scale.at(mark.address), mark) for scale, mark in holding if scale is not None),
        key=lambda each: (each[0], each[1].address),
    )
    callouts, last = [], 0.0
    for at, mark in placed:
        last = max(at + 4, last + LINE)
        callouts.append(Callout(mark, at, last))
    everything = [block for frame in frames for block in frame.blocks]
    copies = tuple(
        (source.y + source.height / 2, block.y + block.height / 2)
        for block in everything
        for source in everything
        if block.piece.kept_at == source.piece.extent.low and block is not source
    )
    return Map(max(top, last + LINE), tuple(frames), tuple(callouts), copies)


_KINDS = {"flash": "; a write is lost", "ram": ", may be written", "device": " of device registers"}


def _shared_out(board: Board, pieces: Sequence[Piece]) -> list[tuple[Region, list[Piece]]]:
    """Each region of the board with what begins in it; a region of its own for what begins in none. Lowest first."""
    found = [(region, [piece for piece in pieces if piece.extent.low in region]) for region in board.regions]
    for piece in pieces:
        low, high = piece.extent.low, piece.extent.high
        if board.region_at(low) is None:
            found.append((Region("in no region of the board", low, max(1, high - low), "nowhere"), [piece]))
    return sorted(found, key=lambda each: each[0].origin)


class _Scale:
    """Addresses of one region to heights: linear between neighbouring ends of what lies there."""

    def __init__(self, region: Region, inside: Sequence[Piece], marks: Sequence[int], top: float) -> None:
        ends = {address for piece in inside for address in (piece.extent.low, piece.extent.high)}
        self.bounds = sorted({region.origin, region.end} | ends)
        self.top, self._heights = top, [top]
        self.gaps: list[tuple[float, int]] = []
        for low, high in pairwise(self.bounds):
            used = any(piece.extent.low < high and low < piece.extent.high for piece in inside)
            marked = sum(low <= mark < high for mark in marks)
            height = max(_height(high - low, used), LINE * marked + 4)
            if not used and height >= TOLD:
                self.gaps.append((self._heights[-1] + height / 2, high - low))
            self._heights.append(self._heights[-1] + height)
        self.bottom = self._heights[-1]

    def holds(self, address: int) -> bool:
        """Whether `address` is drawn here."""
        return self.bounds[0] <= address < self.bounds[-1]

    def at(self, address: int) -> float:
        """The height of `address`, which must lie within the bounds or be the last."""
        for (low, high), (top, bottom) in zip(pairwise(self.bounds), pairwise(self._heights), strict=True):
            if low <= address <= high:
                return top + (bottom - top) * (address - low) / (high - low)
        raise ValueError(f"{address:#x} is not in this drawing")


def _height(count: int, used: bool) -> float:
    pages = log2(max(1.0, count / PAGE))
    return min(92.0, max(34.0, 34 + 5 * pages)) if used else min(34.0, 14 + 1.5 * pages)


def _blocks(inside: Sequence[Piece], scale: _Scale) -> Iterator[Block]:
    """Each piece in its place; those that overlap side by side, in as few lanes as will do."""
    group: list[tuple[int, Piece]] = []
    ends: list[int] = []  # of each lane
    for piece in [*sorted(inside, key=lambda piece: (piece.extent.low, piece.extent.high)), None]:
        if group and (piece is None or piece.extent.low >= max(ends)):
            width = (RIGHT - LEFT) / len(ends)
            for lane, each in group:
                top, bottom = scale.at(each.extent.low), scale.at(each.extent.high)
                yield Block(each, LEFT + lane * width, top, width, bottom - top, len(ends) > 1)
            group, ends = [], []
        if piece is not None:
            lane = next((at for at, end in enumerate(ends) if end <= piece.extent.low), len(ends))
            ends[lane : lane + 1] = [piece.extent.high]
            group.append((lane, piece))


# The flow of one store: numbered boxes from top to bottom, a way round the call on their left.

FLOW_WIDTH, BOX = 660, 34
HEADER, ROW, FOOT, GAP = 32, 20, 10, 30
MARGIN, MNEMONIC, OPERANDS, NOTE = 14, 90, 146, 326  # from a box's left edge


@dataclass(frozen=True)
class Text:
    """One line of a box at height `y`: an instruction, or `cells`, words and where they begin, in the style `style`."""

    y: float
    cells: tuple[tuple[str, int], ...] = ()
    style: str = ""
    row: Row | None = None

    @property
    def operands(self) -> str:
        """The instruction's operands, cut to fit."""
        return fit(self.row.operands, 24) if self.row else ""

    @property
    def note(self) -> str:
        """What the instruction is for, cut to fit."""
        return fit(self.row.note, 46) if self.row else ""


@dataclass(frozen=True)
class Box:
    """One step: numbered from 1.

    `kind` is "source", "check", "call", "ours", "back" (in the compiler's code), "held" (in memory),
    or "instead": what only runs if the flag is clear, and follows no other.
    """

    number: int
    kind: str
    title: str
    y: float
    height: float
    texts: tuple[Text, ...]


@dataclass(frozen=True)
class Way:
    """The drawing of the flow. `skip` are the heights between which a clear flag goes round the call."""

    height: float
    boxes: tuple[Box, ...]
    skip: tuple[float, float]
    width: int = FLOW_WIDTH
    left: int = BOX
    mnemonic: int = BOX + MNEMONIC
    operands: int = BOX + OPERANDS
    note: int = BOX + NOTE


def way(flow: Flow) -> Way:
    """The boxes of `flow`."""
    call = flow.call
    place = f"{flow.line}, {flow.function}" if flow.line else flow.function
    written: list[tuple[str, str, Sequence[Row | tuple[str, ...]]]] = [
        ("source", "The Go source", [("quiet", place), *([("code", fit(flow.source, 80))] if flow.source else [])]),
        ("check", "What the compiler emitted", flow.check),
        (
            "call",
            f"The call at {call.site:#x}, redirected",
            [
                ("before", "before", f"{call.word_before:08x}", f"bl {call.old:#x}", f"{call.name}, Go’s"),
                ("now", "now", f"{call.word_after:08x}", f"bl {call.new:#x}", f"{call.name}, ours"),
            ],
        ),
        ("ours", f"Ours: {fit(call.name, 60)}", flow.ours),
    ]
    if not flow.stores or flow.back:
        rows = flow.back if flow.stores else flow.back + flow.clear
        written.append(("back", "Back in the compiler’s code", rows))
    if flow.held and flow.head is not None:
        written.append(("held", "In memory, when the run has ended", list(_held(flow, flow.head))))
    if flow.stores:
        written.append(("instead", "With a clear flag, instead", flow.clear))
    boxes, y = [], 2.0
    for number, (kind, title, lines) in enumerate(written, 1):
        texts = tuple(_text(line, y + HEADER + ROW * at + 16) for at, line in enumerate(lines))
        height = HEADER + ROW * len(lines) + FOOT
        boxes.append(Box(number, kind, title, y, height, texts))
        y += height + GAP
    heights = {text.row.address: text.y - 4 for box in boxes for text in box.texts if text.row}
    return Way(y - GAP + 2, tuple(boxes), (heights[flow.branch], heights[flow.clear[0].address]))


def _text(line: Row | tuple[str, ...], y: float) -> Text:
    """A line of a box: an instruction, or a style and the words of up to four columns."""
    if isinstance(line, Row):
        return Text(y, row=line)
    columns = (BOX + MARGIN, BOX + MNEMONIC - 14, BOX + OPERANDS, BOX + NOTE)
    return Text(y, tuple(zip(line[1:], columns, strict=False)), line[0])


def _held(flow: Flow, head: int) -> Iterator[tuple[str, ...]]:
    machines: dict[int | None, list[str]] = {}
    for machine, value in flow.held:
        machines.setdefault(value, []).append(machine)
    for value, names in machines.items():
        is_heap = value is not None and value == flow.heap
        held = "not to be read" if value is None else f"{value:#x}{', the heap’s first byte' if is_heap else ''}"
        yield "now" if is_heap else "wrong", f"{head:#x}  {HEAD} = {held}"
        yield "quiet", f"read from outside, on {' and '.join(names)}"
