"""The configuration space of a PCIe host with nothing behind it but its own bridge, as QEMU's `virt` has it.

Every function takes 4 KiB: bus, device and function are bits 27:20, 19:15 and 14:12 of the offset (PCI
Express Base Specification, 7.2.2, enhanced configuration access). What is not there reads as ones.
"""

from __future__ import annotations

# hw/pci-host/gpex.c: gpex-root; Red Hat's vendor and subsystem numbers (include/hw/pci/pci.h).
BRIDGE = {0x00: 0x0008_1B36, 0x08: 0x0600_0000, 0x2C: 0x1100_1AF4}
FUNCTION = 0x1000  # bytes


class Pcie:
    """The registers of one such space."""

    def read(self, offset: int, size: int) -> int:
        """`size` bytes at `offset`, as the processor sees them."""
        if offset >= FUNCTION:
            return (1 << 8 * size) - 1
        word = BRIDGE.get(offset & ~3, 0)
        return word >> 8 * (offset & 3) & (1 << 8 * size) - 1

    def write(self, offset: int, size: int, value: int) -> None:
        """Nothing that is written has an effect."""
