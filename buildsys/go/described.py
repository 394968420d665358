"""What the DWARF of an image tells of some functions: their signatures, and every copy that was inlined.

A copy is no call: no redirect reaches it. DWARF tells of those that have
instructions of their own; one that was computed away leaves no trace.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from buildsys.formats.debuginfo import DW_AT_NAME, DW_TAG_SUBPROGRAM, DebugInfo, Die, Unit
from buildsys.formats.dwarf import Unreadable
from buildsys.formats.elf import Elf
from buildsys.go.frames import argument_bytes, in_registers
from buildsys.go.signatures import ABI0, DW_AT_INLINE, Signature, Told, signature
from buildsys.go.types import Types

DW_AT_CALL_FILE, DW_AT_CALL_LINE = 0x58, 0x59


@dataclass(frozen=True)
class Copy:
    """One inlined copy: its code is `pieces`, from an address to before another, in the function `inside`.

    `file` and `line` are those of the call it was put in the place of.
    """

    pieces: tuple[tuple[int, int], ...]
    inside: str
    file: str
    line: int

    @property
    def address(self) -> int:
        """Where it begins."""
        return self.pieces[0][0]

    @property
    def place(self) -> str:
        """Where the call is written, as far as that is told."""
        return f"{self.file}:{self.line}" if self.file else f"{self.address:#x}"


@dataclass(frozen=True)
class Described:
    """The functions asked for: signatures by address, copies by the name of the function copied, lowest first.

    `entries` are the places in .debug_info of what describes a function, by address; `instances` for each
    place of an abstract function those of all that goes back to it. `unreadable` says why nothing is told,
    if that is so.
    """

    signatures: dict[int, Signature]
    copies: dict[str, tuple[Copy, ...]] = field(default_factory=dict)
    entries: dict[int, int] = field(default_factory=dict)
    instances: dict[int, set[int]] = field(default_factory=dict)
    unreadable: str = ""


def described(elf: Elf, addresses: Iterable[int], names: Iterable[str] = ()) -> Described:
    """What is told of the functions at `addresses`; of those called `names`, copies only. Nothing is guessed."""
    symbols = {address: symbol.name for address in addresses if (symbol := elf.symbols.function_at(address))}
    sizes = argument_bytes(elf, symbols)
    nothing = {
        address: Signature(name, Told.NOTHING, argument_bytes=sizes.get(address)) for address, name in symbols.items()
    }
    try:
        dwarf = DebugInfo(elf)
        return _described(elf, dwarf, nothing, {name.removesuffix(ABI0) for name in (*symbols.values(), *names)})
    except Unreadable as error:
        return Described(nothing, unreadable=f"{elf.name}: {error}")


def _described(elf: Elf, dwarf: DebugInfo, found: dict[int, Signature], names: set[str]) -> Described:
    abstract: dict[int, str] = {}
    entries: list[tuple[Unit, Die]] = []
    copies: dict[str, list[Copy]] = {}
    places: dict[int, int] = {}
    instances: dict[int, set[int]] = {}
    for unit, die in dwarf.subprograms(names):
        if DW_AT_INLINE in die.values:
            abstract[die.offset] = die.text(DW_AT_NAME)
            instances[die.offset] = set()
        else:
            entries.append((unit, die))
    for unit, die in dwarf.instances(abstract):
        instances[dwarf.origin(die)].add(die.offset)
        if die.tag == DW_TAG_SUBPROGRAM:
            entries.append((unit, die))
        elif (copy := _copy(elf, dwarf, unit, die)) is not None:
            copies.setdefault(abstract[dwarf.origin(die)], []).append(copy)
    types = Types(dwarf)
    for unit, die in entries:
        address = dwarf.low_pc(unit, die)
        if address in found and found[address].told is Told.NOTHING:
            read = signature(dwarf, types, unit, die, found[address].name)
            size = found[address].argument_bytes
            places[address] = die.offset
            found[address] = replace(read, argument_bytes=size, complete=size == in_registers(read))
    ordered = {name: tuple(sorted(each, key=_by_address)) for name, each in copies.items()}
    return Described(found, ordered, places, instances)


def _copy(elf: Elf, dwarf: DebugInfo, unit: Unit, die: Die) -> Copy | None:
    """None for one that has no code."""
    pieces = tuple(sorted(dwarf.ranges(unit, die)))
    if not pieces:
        return None
    inside = elf.symbols.function_at(pieces[0][0])
    file = dwarf.file(unit, die.number(DW_AT_CALL_FILE) or 0)
    return Copy(pieces, inside.name if inside else "no function", file, die.number(DW_AT_CALL_LINE) or 0)


def _by_address(copy: Copy) -> int:
    return copy.address
