"""Mapping symbols: where among code there is data (ELF for the Arm 64-bit Architecture, 4.5.4).

Assemblers put `$d` before data in a code section, a literal or a table of
jumps, and `$x` where instructions begin again; either may have a suffix, such
as `$d.3`. A word of data may look like a branch and is none. Go's own objects
hold no data among code, and no such symbols.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True)
class Mapping:
    """Where data lies among the code of a linked file: from each of `starts`, ascending, to before one of `ends`."""

    starts: Sequence[int]
    ends: Sequence[int]

    @classmethod
    def of(cls, marks: Sequence[tuple[int, bool]], functions: Sequence[int]) -> Mapping:
        """What `marks`, in the order of their addresses, say: of several at one address the last holds.

        A mark holds to the end of what was one object's section, of which nothing is left: so also no
        further than to the next of `functions`, ascending, which may be of an object without marks.
        """
        starts, ends = [], []
        for (address, data), (end, _) in pairwise([*marks, (1 << 64, False)]):
            if data and end > address:
                at = bisect_right(functions, address)
                starts.append(address)
                ends.append(min(end, functions[at]) if at < len(functions) else end)
        return cls(starts, ends)

    def within(self, low: int, high: int) -> Iterator[tuple[int, int]]:
        """Where from `low` to before `high` data lies: each from an address to before another."""
        for start, end in zip(self.starts, self.ends, strict=True):
            if start < high and low < end:
                yield max(start, low), min(end, high)

    def is_data(self, address: int) -> bool:
        """Whether the word at `address` is marked as data. What no symbol tells of is code."""
        at = bisect_right(self.starts, address) - 1
        return at >= 0 and address < self.ends[at]
