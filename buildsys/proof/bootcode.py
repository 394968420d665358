"""The instructions of the boot code, read back from the image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from buildsys.formats import a64

if TYPE_CHECKING:
    from buildsys.formats.elf import Elf
    from buildsys.proof.case import Case

START = "_start"


@dataclass(frozen=True)
class FlagStore:
    """The store that sets the flag: its address, the address it writes, and how many bytes."""

    address: int
    target: int
    size: int


def flag_store(case: Case) -> FlagStore | None:
    """The first store in `_start` whose base register was built by movz and movk to address the flag's page."""
    for address, target, size in constant_stores(case.elf):
        if target & ~0xFFF == case.flag & ~0xFFF:
            return FlagStore(address, target, size)
    return None


def constant_stores(elf: Elf) -> list[tuple[int, int, int]]:
    """Stores in `_start` through a register that movz and movk built: (address, target, bytes)."""
    found = []
    values: dict[int, int] = {}
    for address, word in boot_words(elf):
        if moved := a64.move_wide(word):
            name, register, value, shift = moved
            kept = 0 if name == "movz" else values.get(register, 0) & ~(0xFFFF << shift)
            values[register] = kept | value << shift
        elif access := a64.load_store_unsigned(word):
            _, base, offset, size, is_load = access
            if not is_load and base in values:
                found.append((address, values[base] + offset, size))
    return found


def boot_words(elf: Elf) -> list[tuple[int, int]]:
    """(address, word) of each instruction of `_start`; none if the image has no such function."""
    symbols = elf.symbols.named(START)[START]
    if len(symbols) != 1:
        return []
    start = symbols[0]
    found = []
    for address in range(start.value, start.end & ~3, 4):
        word = elf.word(address)
        if word is not None:
            found.append((address, word))
    return found
