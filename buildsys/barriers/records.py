"""What the policies `record` and `user` kept: the last calls with their pointers, and how many went where."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from buildsys.barriers.kept import BATCH, RING, Kept

ENTRY = 10  # words: the return address, how many slots, eight slots


@dataclass(frozen=True)
class Record:
    """One call: the address of the instruction that calls, and what was written to its slots (None: nothing)."""

    site: int
    slots: tuple[int | None, ...]


@dataclass(frozen=True)
class Records:
    """`calls` is how many there were; `kept` are the last of them, oldest first."""

    calls: int
    kept: tuple[Record, ...]


@dataclass(frozen=True)
class Batches:
    """Calls by what became of them: `given` in `batches`, `left` when the run ended, `dropped` during a batch."""

    batches: int
    given: int
    left: int
    dropped: int


def read_records(kept: Kept, memory: Mapping[int, bytes]) -> Records | None:
    """The records in `memory`; None if they could not be read."""
    words = kept.words(memory, RING)
    if words is None:
        return None
    calls, size = words[0], len(words) // ENTRY
    found = []
    for number in range(max(0, calls - size), calls):
        at = 2 + ENTRY * (number % size)
        back, count = words[at], min(words[at + 1], ENTRY - 2)
        # Until its caller wrote it a slot holds the return address, which is nothing a kernel stores.
        slots = tuple(None if word == back else word for word in words[at + 2 : at + 2 + count])
        found.append(Record(back - 4, slots))
    return Records(calls, tuple(found))


def read_batches(kept: Kept, memory: Mapping[int, bytes]) -> Batches | None:
    """What became of the calls; None if it could not be read."""
    words = kept.words(memory, BATCH)
    return None if words is None else Batches(words[2], words[3], words[0], words[4])
