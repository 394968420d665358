"""The Arm PL011 serial port, as far as a kernel that does without its interrupts can tell it from QEMU's.

What is sent goes out at once; received is what is given, if anything is. Source of the registers:
Arm PrimeCell UART (PL011) Technical Reference Manual, chapter 3.
"""

from __future__ import annotations

from collections.abc import Callable

from buildsys.machines.given import Given

DR, FR, CR, IFLS, IMSC, RIS, MIS, ICR = 0x00, 0x18, 0x30, 0x34, 0x38, 0x3C, 0x40, 0x44
TXFE, RXFE = 1 << 7, 1 << 4  # of FR: nothing left to send, nothing received
TX_INTERRUPT = 1 << 5  # of RIS: the transmit queue has room again

# UARTPeriphID0-3 (part 0x011, designer Arm, revision 1) and UARTPCellID0-3, from offset 0xfe0.
IDENTITY_OFFSET = 0xFE0
IDENTITY = (0x11, 0x10, 0x14, 0x00, 0x0D, 0xF0, 0x05, 0xB1)

# Offset: (value after reset, bits that can be written).
STORED = {
    0x20: (0, 0xFF),  # ILPR
    0x24: (0, 0xFFFF),  # IBRD
    0x28: (0, 0x3F),  # FBRD
    0x2C: (0, 0xFF),  # LCR_H
    CR: (0x300, 0xFFFF),
    IFLS: (0x12, 0x3F),
    IMSC: (0, 0x7FF),
    0x48: (0, 0x7),  # DMACR
}


class Pl011:
    """One port; `send` gets each byte the guest writes to the data register, which reads as what is `given`."""

    def __init__(self, send: Callable[[bytes], None]) -> None:
        self._send = send
        self.given: Given | None = None
        self._values = {offset: reset for offset, (reset, _) in STORED.items()}
        self._raw_interrupts = 0

    def read(self, offset: int) -> int:
        """The register at `offset`; 0 where there is none."""
        offset &= ~3
        if offset == FR:
            return TXFE if self.given else TXFE | RXFE
        if offset == DR and self.given:
            return self.given.take()
        if offset == RIS:
            return self._raw_interrupts
        if offset == MIS:
            return self._raw_interrupts & self._values[IMSC]
        if offset >= IDENTITY_OFFSET:
            return IDENTITY[(offset - IDENTITY_OFFSET) // 4]
        return self._values.get(offset, 0)

    def write(self, offset: int, value: int) -> None:
        """Write `value` to the register at `offset`."""
        offset &= ~3
        if offset == DR:
            self._raw_interrupts |= TX_INTERRUPT
            self._send(bytes((value & 0xFF,)))
        elif offset == ICR:
            self._raw_interrupts &= ~value
        elif offset in STORED:
            self._values[offset] = value & STORED[offset][1]
