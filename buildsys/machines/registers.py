"""Registers that hold what was written to them, and do nothing: for a device that a kernel sets up and then leaves."""

from __future__ import annotations


class Registers:
    """A bank of bytes, all 0 at first."""

    def __init__(self) -> None:
        self._bytes: dict[int, int] = {}

    def read(self, offset: int, size: int) -> int:
        """`size` bytes at `offset`, as the processor sees them."""
        return int.from_bytes(bytes(self._bytes.get(at, 0) for at in range(offset, offset + size)), "little")

    def write(self, offset: int, size: int, value: int) -> None:
        """Write `size` bytes at `offset`."""
        for at, byte in enumerate(value.to_bytes(size, "little"), offset):
            self._bytes[at] = byte
