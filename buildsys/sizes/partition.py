"""A section cut into pieces, each of one symbol or of none: together they are the section, to the byte.

Symbols overlap, repeat one another, have no size or leave gaps, whatever made them. So the rules:
a byte belongs to the symbol that begins last before it and still reaches it; of several that
begin there, to the one that ends first, then to the one that is first by name. A byte no symbol reaches belongs to
the label (a symbol without a size) before it, if nothing ended or began in between, and if
that label is one that `holds`; else to nothing.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from buildsys.formats.symbols import Symbol


@dataclass(frozen=True)
class Stretch:
    """The bytes from `low` to before `high`, and whose they are: a symbol's, or None for nobody's."""

    low: int
    high: int
    symbol: Symbol | None


def partition(low: int, high: int, symbols: Iterable[Symbol], holds: Callable[[Symbol], bool]) -> list[Stretch]:
    """`low` to `high` as stretches in ascending order without gap or overlap; none is empty."""
    if low >= high:
        return []
    sized, labels = [], []
    for symbol in symbols:
        if symbol.size and symbol.value < high and symbol.end > low:
            sized.append(symbol)
        elif not symbol.size and low <= symbol.value < high:
            labels.append(symbol)
    labels.sort(key=lambda each: (each.value, not holds(each), each.name))
    places = [each.value for each in labels]
    found: list[Stretch] = []
    for stretch in _covered(low, high, sized):
        if stretch.symbol is not None:
            found.append(stretch)
            continue
        at, owner = stretch.low, None
        for label in labels[bisect_left(places, stretch.low) : bisect_left(places, stretch.high)]:
            if label.value == at and owner is not None and owner.value == at:
                continue  # the first of those at one place
            if label.value > at:
                found.append(Stretch(at, label.value, owner))
            at, owner = label.value, label if holds(label) else None
        found.append(Stretch(at, stretch.high, owner))
    return [each for each in _joined(found) if each.low < each.high]


def _covered(low: int, high: int, sized: list[Symbol]) -> Iterator[Stretch]:
    """What symbols with a size reach, and the gaps between."""
    sized.sort(key=lambda each: (each.value, -each.size, [-ord(letter) for letter in each.name]))
    at, open_ = low, list[Symbol]()  # those that began, the last one on top

    def up_to(end: int) -> Iterator[Stretch]:
        nonlocal at
        while at < end:
            while open_ and open_[-1].end <= at:
                open_.pop()
            stop = min(end, open_[-1].end) if open_ else end
            yield Stretch(at, stop, open_[-1] if open_ else None)
            at = stop

    for symbol in sized:
        yield from up_to(min(max(symbol.value, low), high))
        open_.append(symbol)
    yield from up_to(high)


def _joined(stretches: Iterable[Stretch]) -> Iterator[Stretch]:
    """Neighbours of one owner as one."""
    last: Stretch | None = None
    for each in stretches:
        if last is not None and last.symbol is each.symbol and last.high == each.low:
            last = Stretch(last.low, each.high, last.symbol)
        else:
            if last is not None:
                yield last
            last = each
    if last is not None:
        yield last
