"""Two accounts held against one another: what grew, what shrank; the changes add up to that of the whole."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from buildsys.sizes.account import Account


@dataclass(frozen=True)
class Change:
    """Bytes of one row before and now; it is new if there were none, gone if there are none."""

    name: tuple[str, ...]
    before: int
    now: int

    @property
    def delta(self) -> int:
        """Bytes more now: positive if it grew."""
        return self.now - self.before


def changes(before: Account, now: Account, *fields: str) -> list[Change]:
    """Every row, by fields of a piece, in bytes of memory taken; the largest change first, then by name."""
    old, new = _sums(before, *fields), _sums(now, *fields)
    rows = [Change(name, old[name], new[name]) for name in {**old, **new}]
    return sorted(rows, key=lambda row: (-abs(row.delta), row.name))


def _sums(found: Account, *fields: str) -> Counter[tuple[str, ...]]:
    sums: Counter[tuple[str, ...]] = Counter()
    for piece in found.taken:
        sums[tuple(getattr(piece, each) for each in fields)] += piece.size
    return sums
