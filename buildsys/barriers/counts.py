"""What the policy `count` kept: how often each place that calls a barrier did."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from buildsys.barriers.kept import COUNTS, UNCOUNTED, Kept


@dataclass(frozen=True)
class Counts:
    """`sites` counts calls by the address of the instruction that calls; `uncounted` those of which it is not known."""

    sites: Counter[int]
    uncounted: int

    @property
    def total(self) -> int:
        """All calls."""
        return self.sites.total() + self.uncounted


def read_counts(kept: Kept, memory: Mapping[int, bytes]) -> Counts | None:
    """The counts in `memory`; None if they could not be read."""
    table, beyond = kept.words(memory, COUNTS), kept.words(memory, UNCOUNTED)
    if table is None or beyond is None:
        return None
    sites: Counter[int] = Counter()
    for count, back in zip(table[0::2], table[1::2], strict=True):
        if count:
            sites[back - 4] += count
    return Counts(sites, beyond[0])
