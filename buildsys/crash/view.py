"""Memory of a stopped machine as its kernel saw it: virtual addresses, through the page tables it had."""

from __future__ import annotations

from functools import cached_property
from typing import Protocol

from buildsys.formats.elf import PT_LOAD, Elf
from buildsys.machines.snapshot import Snapshot
from buildsys.proof.paging import Mapping, NoTableError, mappings

MMU = 1 << 0  # Arm ARM, SCTLR_EL1: M


class Memory(Protocol):
    """Memory as code on a machine sees it, kept or alive."""

    def read(self, address: int, size: int) -> bytes | None:
        """`size` bytes at `address`; None where nothing is seen."""

    def word(self, address: int, size: int = 8) -> int | None:
        """The little-endian word at `address`."""


class View:
    """The memory of `snapshot`, in which `elf` runs; what is in flash is read from the file."""

    def __init__(self, snapshot: Snapshot, elf: Elf) -> None:
        self._snapshot, self._elf = snapshot, elf
        self._stored = [each for each in elf.segments if each.kind == PT_LOAD and each.file_size]

    @property
    def translates(self) -> bool:
        """Whether the MMU is on."""
        return bool(self._snapshot.registers.get("sctlr_el1", 0) & MMU)

    @cached_property
    def mapped(self) -> tuple[Mapping, ...]:
        """What the page tables map, lowest address first; nothing if the MMU is off, or they cannot be read."""
        registers = self._snapshot.registers
        if not self.translates:
            return ()
        try:
            return tuple(
                mappings(
                    lambda address: self._number(self.physical(address, 8)),
                    registers["ttbr0_el1"],
                    registers["tcr_el1"],
                    registers["mair_el1"],
                )
            )
        except (NoTableError, KeyError):
            return ()

    def mapping(self, address: int) -> Mapping | None:
        """The mapping `address` is in."""
        return next((each for each in self.mapped if each.start <= address < each.end), None)

    def read(self, address: int, size: int) -> bytes | None:
        """`size` bytes at `address`; None where the kernel saw nothing, or nothing is known."""
        if not self.mapped:
            return self.physical(address, size)
        found = b""
        while len(found) < size:
            at = address + len(found)
            mapping = self.mapping(at)
            if mapping is None:
                return None
            step = min(size - len(found), mapping.end - at)
            data = self.physical(mapping.physical + at - mapping.start, step)
            if data is None:
                return None
            found += data
        return found

    def word(self, address: int, size: int = 8) -> int | None:
        """The little-endian word at `address`."""
        return self._number(self.read(address, size))

    def physical(self, address: int, size: int) -> bytes | None:
        """`size` bytes at a physical address: of RAM as it was, else of the file."""
        found = self._snapshot.read(address, size)
        if found is not None:
            return found
        for each in self._stored:
            if each.lma <= address and address + size <= each.lma + each.file_size:
                start = each.offset + address - each.lma
                return bytes(self._elf.data[start : start + size])
        return None

    @staticmethod
    def _number(data: bytes | None) -> int | None:
        return None if data is None else int.from_bytes(data, "little")
