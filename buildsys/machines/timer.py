"""The virtual timer of the embedded emulator's core, and the controllers that bring its interrupt to the core.

Unicorn has the counter, but the timer's registers read as 0 and forget what is written. So each
instruction of an image that writes one of them is watched. What reads them still reads 0.
Source: Arm ARM, D11.2, the Generic Timer; A64 encodings C6.2 MSR (register).
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple, Protocol

from buildsys.formats.elf import Elf
from buildsys.machines.processor import Processor

# MSR (register), without the register it writes from: CNTV_TVAL_EL0, CNTV_CTL_EL0, CNTV_CVAL_EL0.
VALUE, CONTROL, COMPARE = 0xD51BE300, 0xD51BE320, 0xD51BE340
ENABLE, MASKED = 1, 2  # CNTV_CTL_EL0: ENABLE, IMASK
CNTFRQ, CNTVCT = (14, 0, 3, 3, 0), (14, 0, 3, 3, 2)


class Write(NamedTuple):
    """An instruction that writes a register of the timer: `register` is one of those above, from x`source`."""

    address: int
    register: int
    source: int


def writes(elf: Elf) -> Iterator[Write]:
    """Every instruction of the image that writes one."""
    for section in elf.code:
        words = array("I", bytes(elf.contents(section))[: section.size & ~3])
        data = words.tobytes()
        at = -1
        while (at := data.find(b"\xe3\x1b\xd5", at + 1)) >= 0:  # the three high bytes of all three
            word = words[(at - 1) // 4]
            if at % 4 == 1 and word & ~31 in (VALUE, CONTROL, COMPARE):
                yield Write(section.address + at - 1, word & ~31, word & 31)


class Timer:
    """The timer of `core`."""

    def __init__(self, core: Processor) -> None:
        self._core = core
        self._compare, self._control = 0, 0
        self._due: float | None = None
        self.on_armed: Callable[[], None] | None = None  # called when it is to interrupt, and was not before

    def watch(self, elf: Elf) -> bool:
        """Heed the instructions of `elf`, and tell whether there are any."""
        found = list(writes(elf))
        for write in found:
            self._core.on_execution(write.address, partial(self._written, write))
        return bool(found)

    @property
    def due(self) -> float | None:
        """When it is to interrupt, by time.monotonic(); None if it is not to."""
        return self._due

    @property
    def pending(self) -> bool:
        """Whether it asks for an interrupt."""
        return self._due is not None and self._core.system(CNTVCT) >= self._compare

    def _written(self, write: Write) -> None:
        value = 0 if write.source == 31 else self._core.get(f"x{write.source}")
        count = self._core.system(CNTVCT)
        if write.register == CONTROL:
            self._control = value
        elif write.register == COMPARE:
            self._compare = value
        else:
            self._compare = count + (value & 0xFFFF_FFFF ^ 1 << 31) - (1 << 31)
        on = self._control & (ENABLE | MASKED) == ENABLE
        left = max(0, self._compare - count) / self._core.system(CNTFRQ)
        idle, self._due = self._due is None, time.monotonic() + left if on else None
        if idle and on and self.on_armed is not None:
            self.on_armed()


class Controller(Protocol):
    """An interrupt controller as a device."""

    @property
    def enabled(self) -> bool:
        """Whether the timer's interrupt reaches the core."""

    def read(self, offset: int, size: int) -> int:
        """The register at `offset`."""

    def write(self, offset: int, size: int, value: int) -> None:
        """Write `value` to the register at `offset`."""


class Gicv2:
    """As much of a GICv2 (IHI 0048) as one interrupt takes: `timer` is its number, `line` whether it is asked for.

    `interface` is the offset of the registers of a core.
    """

    CTLR, ISENABLER, ICENABLER = 0x000, 0x100, 0x180  # of the distributor
    PMR, IAR = 0x004, 0x00C  # of the interface, beside CTLR
    SPURIOUS = 1023

    def __init__(self, interface: int, timer: int, line: Callable[[], bool]) -> None:
        self._interface, self._timer, self._line = interface, timer, line
        self._words: dict[int, int] = {}

    @property
    def enabled(self) -> bool:
        """Whether the distributor, the interface and the interrupt are on, and its priority, 0, is not masked."""
        enabled = self._words.get(self.ISENABLER + self._timer // 32 * 4, 0) >> self._timer % 32 & 1
        on = self._words.get(self.CTLR, 0) & self._words.get(self._interface + self.CTLR, 0) & 1
        return bool(on and enabled and self._words.get(self._interface + self.PMR, 0))

    def read(self, offset: int, size: int) -> int:
        """The register at `offset`."""
        if offset == self._interface + self.IAR:
            return self._timer if self.enabled and self._line() else self.SPURIOUS
        return self._words.get(offset & ~3, 0)

    def write(self, offset: int, size: int, value: int) -> None:
        """Write `value` to the register at `offset`."""
        if self.ISENABLER <= offset < self.ICENABLER:
            self._words[offset] = self._words.get(offset, 0) | value
        elif self.ICENABLER <= offset < self.ICENABLER + 0x80:
            place = offset - self.ICENABLER + self.ISENABLER
            self._words[place] = self._words.get(place, 0) & ~value
        else:
            self._words[offset & ~3] = value


class Bcm2836:
    """As much of the BCM2836's ARM-local peripherals (QA7 rev 3.4) as the first core's virtual timer takes."""

    CONTROL, SOURCE = 0x40, 0x60
    VIRTUAL = 1 << 3

    def __init__(self, line: Callable[[], bool]) -> None:
        self._line = line
        self._words: dict[int, int] = {}

    @property
    def enabled(self) -> bool:
        """Whether the timer may interrupt."""
        return bool(self._words.get(self.CONTROL, 0) & self.VIRTUAL)

    def read(self, offset: int, size: int) -> int:
        """The register at `offset`."""
        if offset == self.SOURCE:
            return self.VIRTUAL if self.enabled and self._line() else 0
        return self._words.get(offset & ~3, 0)

    def write(self, offset: int, size: int, value: int) -> None:
        """Write `value` to the register at `offset`."""
        self._words[offset & ~3] = value


class Pl031:
    """A real-time clock (DDI 0224) that tells the host's time, and does nothing else."""

    def read(self, offset: int, size: int) -> int:
        """The register at `offset`: RTCDR is the seconds since 1970."""
        return int(time.time()) & 0xFFFF_FFFF if offset == 0 else 0

    def write(self, offset: int, size: int, value: int) -> None:
        """Nothing comes of it."""
