"""The machine that gdb shows: its registers, its memory by virtual and by physical addresses.

A machine that is alive is QEMU behind its gdb stub; one that was kept is a core file and, beside it,
registers.json (buildsys.crash.folder), for a core file has no system registers.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import gdb

from buildsys.crash.folder import CORE, REGISTERS
from buildsys.crash.view import View
from buildsys.formats.core import GENERAL, loaded
from buildsys.formats.elf import Elf
from buildsys.machines.snapshot import Snapshot

# As QEMU's stub calls them, which knows no others (target/arm/helper.c).
NAMES = {
    "sctlr_el1": ("SCTLR_EL1", "SCTLR"),
    "pstate": ("cpsr",),
    "tcr_el1": ("TCR_EL1",),
    "ttbr0_el1": ("TTBR0_EL1",),
    "ttbr1_el1": ("TTBR1_EL1",),
    "mair_el1": ("MAIR_EL1",),
}
MASK = (1 << 64) - 1


class Alive:
    """A machine that can go on."""

    def registers(self) -> dict[str, int]:
        """x0 to x30, sp, pc and pstate."""
        return _registers()

    def system(self, name: str) -> int:
        """The system register `name`, in small letters. Raises gdb.GdbError if it is not known here."""
        for known in NAMES[name]:
            with contextlib.suppress(gdb.error, ValueError):
                return _number(gdb.newest_frame().read_register(known))
        raise gdb.GdbError(f"this target does not tell {name.upper()}")

    def read(self, address: int, size: int) -> bytes | None:
        """`size` bytes at a virtual address; None where nothing is mapped."""
        return _memory(address, size)

    def word(self, address: int, size: int = 8) -> int | None:
        """The little-endian word at a virtual address."""
        return _word(self.read(address, size))

    def physical(self, address: int, size: int) -> bytes | None:
        """`size` bytes at a physical address."""
        with _physical_addresses():
            return _memory(address, size)


class Kept:
    """A machine that was kept in `folder`, beside its image `elf`."""

    def __init__(self, folder: Path, elf: Elf) -> None:
        self._folder = folder
        try:
            kept = json.loads((folder / REGISTERS).read_text("utf-8"))["registers"]
            self._pieces = loaded((folder / CORE).read_bytes())
        except (OSError, ValueError, KeyError) as error:
            raise gdb.GdbError(f"{folder}: cannot be read as a crash that was kept: {error}") from None
        self._system = {name: int(value, 16) for name, value in kept.items()}
        self._image = View(Snapshot(self._system, {}, ()), elf)

    def registers(self) -> dict[str, int]:
        """x0 to x30, sp, pc and pstate of the code that failed."""
        before = gdb.selected_thread()
        try:
            min(gdb.selected_inferior().threads(), key=lambda each: each.num).switch()
            return _registers()
        finally:
            before.switch()

    def system(self, name: str) -> int:
        """The system register `name`, in small letters. Raises gdb.GdbError if it was not kept."""
        try:
            return self._system[name]
        except KeyError:
            raise gdb.GdbError(f"{self._folder / REGISTERS} does not tell {name.upper()}") from None

    def read(self, address: int, size: int) -> bytes | None:
        """`size` bytes at a virtual address; None where nothing was mapped, or kept."""
        return _memory(address, size)

    def word(self, address: int, size: int = 8) -> int | None:
        """The little-endian word at a virtual address."""
        return _word(self.read(address, size))

    def physical(self, address: int, size: int) -> bytes | None:
        """`size` bytes at a physical address; None if they were not kept."""
        for piece in self._pieces:
            start = address - piece.physical
            if start >= 0 and start + size <= len(piece.data):
                return piece.data[start : start + size]
        return self._image.physical(address, size)


Machine = Alive | Kept


def _registers() -> dict[str, int]:
    frame = gdb.newest_frame()
    return {name: _number(frame.read_register("cpsr" if name == "pstate" else name)) for name in GENERAL}


@contextlib.contextmanager
def _physical_addresses() -> Iterator[None]:
    """Addresses are physical ones: QEMU's manual, "GDB usage". Raises gdb.GdbError if the target is not QEMU's."""
    if '"OK"' not in gdb.execute("maintenance packet Qqemu.PhyMemMode:1", to_string=True):
        raise gdb.GdbError("this target does not give physical memory, where page tables are: QEMU does")
    try:
        yield
    finally:
        gdb.execute("maintenance packet Qqemu.PhyMemMode:0", to_string=True)


def _memory(address: int, size: int) -> bytes | None:
    with contextlib.suppress(gdb.MemoryError, OverflowError):
        return bytes(gdb.selected_inferior().read_memory(address, size))
    return None


def _word(data: bytes | None) -> int | None:
    return None if data is None else int.from_bytes(data, "little")


def _number(value: gdb.Value) -> int:
    """A register: gdb has some with a sign, and some as pointers."""
    return int(value) & MASK


def there_is_one() -> None:
    """Raise gdb.GdbError if gdb shows no machine."""
    if not gdb.selected_inferior().threads():
        raise gdb.GdbError("there is no machine: it has ended, or was not started")
