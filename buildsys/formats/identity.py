"""The identity an image carries: a hash of its contents and configuration, in a note of its read-only data.

The bytes of the hash are zero while it is taken, so that it can be taken again of the finished image.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from buildsys.formats.elf import Elf

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


def identified(
    elf: Elf, pieces: Sequence[memoryview | bytes], configuration: bytes
) -> Iterable[tuple[int, memoryview | bytes]]:
    """The identity of an image whose contents are `pieces`, and at which byte of its file it belongs.

    `elf` has its headers and symbols. `configuration` counts like contents. Nothing for an image that has no
    place for an identity. What takes time, the hashing, is done when the result is gone through.
    """
    address = place(elf)
    start = None if address is None else elf.file_offset(address)
    return () if start is None else _identified(pieces, start, configuration)


def _identified(pieces: Sequence[memoryview | bytes], start: int, configuration: bytes) -> Iterator[tuple[int, bytes]]:
    from hashlib import sha256

    hashed = sha256()
    for piece in _with(pieces, start, bytes(SIZE)):
        hashed.update(piece)
    hashed.update(configuration)
    yield start, hashed.digest()


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
