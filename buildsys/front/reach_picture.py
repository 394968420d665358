"""The ways to each service as a drawing: layers from left to right, a box for each run of functions, in SVG.

Lengths are in pixels, y grows downwards, and a text's y is its baseline. A box holds functions that
are come to one after another without a fork, so that a layer is a decision and not a call.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from buildsys.front.drawings import fit

if TYPE_CHECKING:
    from buildsys.front.reach import Answer
    from buildsys.front.reach_text import Branch

CHARACTER, LINE = 6.7, 18  # of the fonts below
PADDING, GAP, BETWEEN = 10, 14, 56  # inside a box, between boxes of a layer, between layers
MARGIN, HEADING = 16, 44
LONGEST = 44  # characters of a name that are shown

STYLE = """
 text { font: 11px ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; fill: #1c2530; }
 .paper { fill: #ffffff; } .title { font: 600 14px system-ui, sans-serif; }
 .quiet { fill: #6b7785; } .said { font: 12px system-ui, sans-serif; fill: #6b7785; }
 .box { fill: #f4f6f9; stroke: #b8c2cf; } .entry { fill: #e3edfa; stroke: #4a7ab8; }
 .service { fill: #fbe9e7; stroke: #c0392b; } .named { font: 600 12px system-ui, sans-serif; fill: #9c2a1e; }
 .good { fill: #e6f4ea; stroke: #2e7d4f; } .way { fill: none; stroke: #8a97a6; stroke-width: 1.3; }
"""


@dataclass(frozen=True)
class Row:
    """One line of a box: a function, and where it was come to from."""

    name: str
    line: str = ""


@dataclass
class Box:
    """A box: its rows, `style` one of the classes above, its layer, and the boxes its ways go on to."""

    rows: tuple[Row, ...]
    style: str
    layer: int
    below: list[Box]
    x: float = 0
    y: float = 0

    @property
    def width(self) -> float:
        """Wide enough for its longest row."""
        longest = max(len(row.name) + (len(row.line) + 2 if row.line else 0) for row in self.rows)
        return 2 * PADDING + CHARACTER * longest

    @property
    def height(self) -> float:
        """High enough for all of them."""
        return 2 * PADDING + LINE * len(self.rows) - 6


def picture(answer: Answer) -> str:
    """The drawing of what `answer` found."""
    from buildsys.front.reach_text import tree

    found = answer.touched
    counts = {use.service.name: len(use.first) + len(use.behind) for use in found.uses}
    roots = [_box(root, 0, counts) for root in tree(answer)]
    if not roots:
        roots = [Box((Row(answer.entry),), "entry", 0, [Box((Row("no service"),), "good", 1, [])])]
    bottom = _place(roots)
    boxes = [box for root in roots for box in _all(root)]
    width = max(box.x + box.width for box in boxes) + MARGIN
    said = f"{len(found.reach.functions)} functions reached; the shortest way to each service"
    area = f'width="{width:.0f}" height="{bottom:.0f}"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {bottom:.0f}" {area} role="img">',
            f"<title>What {escape(answer.entry)} reaches</title>",
            f"<style>{STYLE}</style>",
            f'<rect class="paper" {area}/>',
            f'<text class="title" x="{MARGIN}" y="20">What {escape(answer.entry)} reaches</text>',
            f'<text class="said" x="{MARGIN}" y="36">{escape(said)}</text>',
            *(line for box in boxes for line in _ways(box)),
            *(line for box in boxes for line in _drawn(box)),
            "</svg>",
            "",
        ]
    )


def _box(branch: Branch, layer: int, counts: dict[str, int]) -> Box:
    """`branch` and what it leads to."""
    from buildsys.front.reach_text import run_of

    run = run_of(branch)
    rows = tuple(Row(fit(each.name, LONGEST), each.line) for each in run)
    services = [
        Box((Row(name), Row(f"{counts[name]} functions")), "service", layer + 1, []) for name in run[-1].services
    ]
    below = [_box(each, layer + 1, counts) for each in run[-1].below.values()]
    return Box(rows, "box" if layer else "entry", layer, [*services, *below])


def _place(roots: Sequence[Box]) -> float:
    """Put every box in its layer, and beside the middle of what it leads to; returns where the drawing ends."""
    everything = [box for root in roots for box in _all(root)]
    widths: dict[int, float] = {}
    for box in everything:
        widths[box.layer] = max(widths.get(box.layer, 0), box.width)
    for box in everything:
        box.x = MARGIN + sum(widths[layer] + BETWEEN for layer in range(box.layer))
    bottom = float(HEADING)
    for root in roots:
        bottom = _stack(root, bottom)
    return bottom - GAP + MARGIN


def _stack(box: Box, top: float) -> float:
    """Place `box` and what is below it from the height `top` on; returns where the next may begin."""
    at = top
    for each in box.below:
        at = _stack(each, at)
    room = at - GAP - top if box.below else 0
    box.y = top + max(0.0, (room - box.height) / 2)
    return max(at, top + box.height + GAP)


def _all(box: Box) -> Iterator[Box]:
    yield box
    for each in box.below:
        yield from _all(each)


def _ways(box: Box) -> Iterator[str]:
    """A curve from the middle of the right side of `box` to that of the left side of each it leads to."""
    x, y = box.x + box.width, box.y + box.height / 2
    for each in box.below:
        to = each.y + each.height / 2
        middle = each.x - BETWEEN / 2
        yield (
            f'<path class="way" d="M{x:.1f} {y:.1f} H{each.x - BETWEEN:.1f} '
            f'C{middle:.1f} {y:.1f} {middle:.1f} {to:.1f} {each.x:.1f} {to:.1f}"/>'
        )


def _drawn(box: Box) -> Iterator[str]:
    round_ = 12 if box.style in ("service", "good") else 4
    yield (
        f'<rect class="{box.style}" x="{box.x:.1f}" y="{box.y:.1f}" width="{box.width:.1f}" '
        f'height="{box.height:.1f}" rx="{round_}"/>'
    )
    for at, row in enumerate(box.rows):
        x, y = box.x + PADDING, box.y + PADDING + 10 + LINE * at
        style = "" if box.style in ("box", "entry") else ' class="named"' if at == 0 else ' class="quiet"'
        yield f'<text{style} x="{x:.1f}" y="{y:.1f}">{escape(row.name)}</text>'
        if row.line:
            x = box.x + box.width - PADDING
            yield f'<text class="quiet" text-anchor="end" x="{x:.1f}" y="{y:.1f}">{escape(row.line)}</text>'
