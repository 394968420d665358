"""Sources of random numbers, as far as it takes to be given some: of the host's, by os.urandom.

An entropy device on the last of the transports QEMU's `virt` machine has (Virtual I/O Device Specification 1.1:
4.2.4, the legacy interface of the memory-mapped transport; 2.6, queues; 5.4), and the generator of the BCM2835
(Linux's drivers/char/hw_random/bcm2835-rng.c).
"""

from __future__ import annotations

import os
from collections.abc import Callable

SLOT = 0x200  # bytes of a transport: hw/arm/virt.c, VIRT_MMIO
MAGIC, LEGACY, ENTROPY, VENDOR = 0x74726976, 1, 4, 0x554D4551
IDENTITY = {0x000: MAGIC, 0x004: LEGACY, 0x008: 0, 0x00C: VENDOR}
SIZE_LIMIT, SIZE, ALIGN, PAGE, NOTIFY, INTERRUPT, STATUS = 0x034, 0x038, 0x03C, 0x040, 0x050, 0x060, 0x070
PAGE_SIZE = 0x028
LARGEST = 1024  # descriptors of a queue
FOR_DEVICE = 2  # VIRTQ_DESC_F_WRITE


class Virtio:
    """The transports in `size` bytes; `load` and `store` are the device's way to memory, as for `fw_cfg.FwCfg`."""

    def __init__(
        self, size: int, load: Callable[[int, int], bytes | None], store: Callable[[int, bytes], None]
    ) -> None:
        self._last = size - SLOT
        self._load, self._store = load, store
        self._values: dict[int, int] = {}
        self._done = 0  # requests, modulo 2**16

    def read(self, offset: int, size: int) -> int:
        """The register at `offset`."""
        here = offset % SLOT & ~3
        if offset < self._last:
            return IDENTITY.get(here, 0)
        if here == 0x008:
            return ENTROPY
        if here == SIZE_LIMIT:
            return LARGEST
        return IDENTITY.get(here, self._values.get(here, 0))

    def write(self, offset: int, size: int, value: int) -> None:
        """Write `value` to the register at `offset`."""
        if offset < self._last:
            return
        here = offset % SLOT & ~3
        self._values[here] = value
        if here == STATUS and value == 0:
            self._values, self._done = {}, 0
        if here == NOTIFY:
            self._serve()

    def _serve(self) -> None:
        """Fill what was made available since the last time."""
        size, align = self._values.get(SIZE, 0), self._values.get(ALIGN, 0)
        queue = self._values.get(PAGE, 0) * self._values.get(PAGE_SIZE, 0)
        if not size or not align:
            return
        available = queue + 16 * size
        used = (available + 6 + 2 * size + align - 1) // align * align
        while self._done != self._word(available + 2, 2):
            descriptor = self._word(available + 4 + self._done % size * 2, 2)
            address, length = self._word(queue + 16 * descriptor, 8), self._word(queue + 16 * descriptor + 8, 4)
            if self._word(queue + 16 * descriptor + 12, 2) & FOR_DEVICE:
                self._store(address, os.urandom(length))
            element = descriptor.to_bytes(4, "little") + length.to_bytes(4, "little")
            self._store(used + 4 + self._done % size * 8, element)
            self._done = (self._done + 1) % (1 << 16)
            self._store(used + 2, self._done.to_bytes(2, "little"))
            self._values[INTERRUPT] = 1

    def _word(self, address: int, size: int) -> int:
        return int.from_bytes(self._load(address, size) or b"", "little")


class Bcm2835:
    """The generator: always on, and always with a word to read."""

    STATUS, DATA = 0x4, 0x8

    def read(self, offset: int, size: int) -> int:
        """The register at `offset`; the count of words is in bits 31:24 of STATUS."""
        if offset == self.DATA:
            return int.from_bytes(os.urandom(4), "little")
        return 1 << 24 if offset == self.STATUS else 0

    def write(self, offset: int, size: int, value: int) -> None:
        """Nothing comes of it."""
