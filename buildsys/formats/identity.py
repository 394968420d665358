"""The identity an image carries: a hash of its contents and configuration, in a note of its read-only data.

The bytes of the hash are zero while it is taken, so that it can be taken again of the finished image.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from buildsys.formats.elf import Elf

if TYPE_CHECKING:
    from _hashlib import HASH

SYMBOL = "buildsys.identity"
SIZE = 32  # bytes
ECHOED = 16  # bytes of it that the exit path hands to the host
SHOWN = 12  # hexadecimal digits that name an image to people


def place(elf: Elf) -> int | None:
    """The address at which the image has its identity; None for an image that has none."""
    found = elf.symbols.named(SYMBOL)[SYMBOL]
    return found[0].value if len(found) == 1 and found[0].size == SIZE else None


def identity(elf: Elf) -> bytes:
    """The identity of `elf`, as it says itself; empty if it has none, or none was filled in."""
    address = place(elf)
    at = None if address is None else elf.file_offset(address)
    found = b"" if at is None else bytes(elf.data[at : at + SIZE])
    return found if any(found) else b""


class Identity:
    """The identity that an image made of `elf` is to carry, by other instructions or more.

    It is the sha256 of what of the file is not code, of its sections with code, and of the configuration. Where calls
    go is found out last: nearly all can be hashed before.
    """

    def __init__(self, elf: Elf) -> None:
        address = place(elf)
        self._data = elf.data
        self._start = None if address is None else elf.file_offset(address)
        self._code = sorted((each.offset, each.offset + each.size) for each in elf.code if each.in_file)
        self._begun: HASH | None = None

    def begin(self) -> None:
        """Hash what is not code, as it is in `elf`; in any thread."""
        if self._start is not None:
            self._begun = self._around([self._data], self._start)

    def of(self, pieces: Sequence[memoryview | bytes], configuration: bytes) -> Iterator[tuple[int, bytes]]:
        """The identity of the image whose contents are `pieces`, and at which byte of its file it belongs.

        Views are of what `elf` has there. `configuration` counts like contents. Nothing for an image that has no
        place for an identity. What takes time, the hashing, is done when the result is gone through.
        """
        if self._start is None:
            return
        if self._begun is None or not self._only_code(pieces):
            hashed = self._around(pieces, self._start)
        else:
            hashed = self._begun.copy()
        for low, high in self._code:
            _hash(hashed, pieces, low, high)
        hashed.update(configuration)
        yield self._start, hashed.digest()

    def _around(self, pieces: Sequence[memoryview | bytes], start: int) -> HASH:
        """The hash of what is not code, with zeros where the identity is."""
        from hashlib import sha256

        hashed, at = sha256(), 0
        pieces = _with(pieces, start, bytes(SIZE))
        for low, high in (*self._code, (sum(map(len, pieces)),) * 2):
            _hash(hashed, pieces, at, low)
            at = max(at, high)
        return hashed

    def _only_code(self, pieces: Sequence[memoryview | bytes]) -> bool:
        """Whether all of `pieces` that is not as it was is code."""
        starts = accumulate(map(len, pieces), initial=0)
        return sum(map(len, pieces)) == len(self._data) and all(
            any(low <= at and at + len(each) <= high for low, high in self._code)
            for at, each in zip(starts, pieces, strict=False)
            if isinstance(each, bytes)
        )


def told(configuration: Mapping[str, Any]) -> bytes:
    """What an identity tells of `configuration`, which is JSON."""
    return json.dumps(dict(configuration), sort_keys=True).encode()


def _hash(hashed: HASH, pieces: Sequence[memoryview | bytes], low: int, high: int) -> None:
    """Add to `hashed` the bytes from `low` to before `high` of what `pieces` are together."""
    at = 0
    for each in pieces:
        if at < high and low < at + len(each):
            hashed.update(memoryview(each)[max(low - at, 0) : high - at])
        at += len(each)


def _with(pieces: Sequence[memoryview | bytes], start: int, data: bytes) -> list[memoryview | bytes]:
    """`pieces` with `data` from byte `start` on."""
    found: list[memoryview | bytes] = []
    at, end = 0, start + len(data)
    for piece in pieces:
        view, stop = memoryview(piece), at + len(piece)
        low, high = max(at, start), min(stop, end)
        if low < high:
            found += [view[: low - at], data[low - start : high - start], view[high - at :]]
        else:
            found.append(view)
        at = stop
    return [each for each in found if len(each)]
