"""QEMU's firmware configuration device, as far as a kernel that sets up a `ramfb` screen uses it.

Registers and DMA are those of QEMU's docs/specs/fw_cfg.rst, memory-mapped: everything is
big-endian. It has a signature, an identity and a directory of files; what is written to
`etc/ramfb` is accepted and shown nowhere, other files are empty.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

DATA, SELECTOR, DMA_HIGH, DMA_LOW = 0x00, 0x08, 0x10, 0x14
SIGNATURE_KEY, ID_KEY, DIRECTORY_KEY, FIRST_FILE = 0x00, 0x01, 0x19, 0x20
SIGNATURE, DMA_SIGNATURE = b"QEMU", b"QEMU CFG"
IDENTITY = (0x3).to_bytes(4, "little")  # the traditional interface and DMA
ERROR, READ, SKIP, SELECT, WRITE = 1, 2, 4, 8, 16  # of the control word; the key is in its upper half
NAME = 56  # bytes of a directory entry that are its name
RAMFB = "etc/ramfb"
SIZES = {RAMFB: 28}  # include/hw/display/ramfb.h: address, fourcc, flags, width, height, stride


class FwCfg:
    """One device with files of these names, in this order.

    `load(address, size)` and `store(address, data)` are its way to memory; the first gives None where there is none.
    """

    def __init__(
        self, files: Sequence[str], load: Callable[[int, int], bytes | None], store: Callable[[int, bytes], None]
    ) -> None:
        self._load, self._store = load, store
        self._contents = {SIGNATURE_KEY: bytearray(SIGNATURE), ID_KEY: bytearray(IDENTITY)}
        self._writable: set[int] = set()
        directory = bytearray(len(files).to_bytes(4, "big"))
        for key, name in enumerate(files, FIRST_FILE):
            size = SIZES.get(name, 0)
            self._contents[key] = bytearray(size)
            self._writable |= {key} if name in SIZES else set()
            directory += size.to_bytes(4, "big") + key.to_bytes(2, "big") + bytes(2) + name.encode().ljust(NAME, b"\0")
        self._contents[DIRECTORY_KEY] = directory
        self._key = self._at = self._address = 0

    def read(self, offset: int, size: int) -> int:
        """`size` bytes at `offset`, as the processor sees them."""
        if offset < SELECTOR:
            return int.from_bytes(self._take(size), "little")
        if offset >= DMA_HIGH and offset + size <= DMA_HIGH + len(DMA_SIGNATURE):
            return int.from_bytes(DMA_SIGNATURE[offset - DMA_HIGH :][:size], "little")
        return 0

    def write(self, offset: int, size: int, value: int) -> None:
        """Write `size` bytes at `offset`."""
        number = int.from_bytes(value.to_bytes(size, "little"), "big")
        if offset == SELECTOR and size == 2:
            self._key, self._at = number, 0
        elif offset == DMA_HIGH and size == 4:
            self._address = number << 32
        elif offset == DMA_LOW and size == 4:
            self._transfer(self._address | number)
        elif offset == DMA_HIGH and size == 8:
            self._transfer(number)

    def _take(self, size: int) -> bytes:
        """The next `size` bytes of what is selected; zeros behind its end."""
        data = bytes(self._contents.get(self._key, b"")[self._at : self._at + size])
        self._at += size
        return data.ljust(size, b"\0")

    def _transfer(self, place: int) -> None:
        """What the descriptor at `place` asks for: control and length of 32 bits, an address of 64."""
        self._address = 0
        descriptor = self._load(place, 16)
        if descriptor is None:
            return  # nobody could be told
        control, length = int.from_bytes(descriptor[:4], "big"), int.from_bytes(descriptor[4:8], "big")
        address = int.from_bytes(descriptor[8:], "big")
        if control & SELECT:
            self._key, self._at = control >> 16, 0
        done = True
        if control & READ:
            self._store(address, self._take(length))
        elif control & WRITE:
            done = self._put(self._load(address, length))
        elif control & SKIP:
            self._at += length
        self._store(place, (0 if done else ERROR).to_bytes(4, "big"))

    def _put(self, data: bytes | None) -> bool:
        contents = self._contents.get(self._key)
        if data is None or contents is None or self._key not in self._writable:
            return False
        if self._at + len(data) > len(contents):
            return False
        contents[self._at : self._at + len(data)] = data
        self._at += len(data)
        return True
