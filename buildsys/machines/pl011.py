"""The Arm PL011 serial port, as far as a kernel that does without its interrupts can tell it from QEMU's.

What is sent goes out at once, unless the port was turned off: then it waits, as on hardware, and QEMU
sends it all the same. Received is what is given, if anything is. Source of the registers:
Arm PrimeCell UART (PL011) Technical Reference Manual, chapter 3.
"""

from __future__ import annotations

from collections.abc import Callable

from buildsys.machines.given import Given

DR, FR, LCR_H, CR, IFLS, IMSC, RIS, MIS, ICR = 0x00, 0x18, 0x2C, 0x30, 0x34, 0x38, 0x3C, 0x40, 0x44
TXFE, RXFE = 1 << 7, 1 << 4  # of FR: nothing left to send, nothing received
TXFF, BUSY = 1 << 5, 1 << 3  # of FR: no room for more, not all has left yet
UARTEN, TXE = 1 << 0, 1 << 8  # of CR: the port is on, and sends
FEN, QUEUE = 1 << 4, 16  # of LCR_H: there is a transmit queue, of so many characters; else it holds one
TX_INTERRUPT = 1 << 5  # of RIS: the transmit queue has room again

# UARTPeriphID0-3 (part 0x011, designer Arm, revision 1) and UARTPCellID0-3, from offset 0xfe0.
IDENTITY_OFFSET = 0xFE0
IDENTITY = (0x11, 0x10, 0x14, 0x00, 0x0D, 0xF0, 0x05, 0xB1)

# Offset: (value after reset, bits that can be written).
STORED = {
    0x20: (0, 0xFF),  # ILPR
    0x24: (0, 0xFFFF),  # IBRD
    0x28: (0, 0x3F),  # FBRD
    LCR_H: (0, 0xFF),
    CR: (0x300, 0xFFFF),
    IFLS: (0x12, 0x3F),
    IMSC: (0, 0x7FF),
    0x48: (0, 0x7),  # DMACR
}


class Pl011:
    """One port; `send` gets each byte the guest writes to the data register, which reads as what is `given`.

    `unsent` is what waits to be sent in a port that was turned off.
    """

    def __init__(self, send: Callable[[bytes], None]) -> None:
        self._send = send
        self.given: Given | None = None
        self._values = {offset: reset for offset, (reset, _) in STORED.items()}
        self._raw_interrupts = 0
        # Off is a port that was turned off: one that nobody has turned on yet sends, as QEMU's does.
        self._off = False
        self.unsent = bytearray()

    def read(self, offset: int) -> int:
        """The register at `offset`; 0 where there is none."""
        offset &= ~3
        if offset == FR:
            waiting = 0 if not self.unsent else BUSY | (TXFF if len(self.unsent) >= self._room else 0)
            return (waiting or TXFE) | (0 if self.given else RXFE)
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
            if not self._off:
                self._send(bytes((value & 0xFF,)))
            elif len(self.unsent) < self._room:
                self.unsent.append(value & 0xFF)
        elif offset == ICR:
            self._raw_interrupts &= ~value
        elif offset in STORED:
            self._values[offset] = value & STORED[offset][1]
            if offset == CR:
                self._off = value & (UARTEN | TXE) != UARTEN | TXE
                if self.unsent and not self._off:
                    self._send(bytes(self.unsent))
                    self.unsent.clear()

    @property
    def _room(self) -> int:
        """How many characters wait at most."""
        return QUEUE if self._values[LCR_H] & FEN else 1
