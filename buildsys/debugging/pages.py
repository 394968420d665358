"""`info pages`: what the page tables map, and how they translate one address, from the guest's own registers."""

from __future__ import annotations

from collections.abc import Iterator

import gdb

from buildsys.debugging.command import Command
from buildsys.debugging.machine import MASK, Machine
from buildsys.proof.paging import ADDRESS, Mapping, NoTableError, Range, addressed, mappings

MMU = 1 << 0  # Arm ARM, SCTLR_EL1: M
LEVEL = 2  # Arm ARM C5.2, CurrentEL, as PSTATE has it: bits 3:2
TABLE = 4096  # bytes
SIZES = {1: "1 GiB", 2: "2 MiB", 3: "4 KiB"}


class InfoPages(Command):
    """Show what the page tables map: info pages [ADDRESS].

    Without ADDRESS every range, with its rights for EL1 (r read, w write, x execute; u: execute at EL0 only). With one,
    the entry at each level that translates it; it may be any expression.
    """

    name, kind, completed = "info pages", gdb.COMMAND_DATA, gdb.COMPLETE_EXPRESSION

    def invoke(self, argument: str, from_tty: bool) -> None:
        """Carry it out."""
        tables = Tables(self._session.machine())
        try:
            lines = tables.of(_address(argument)) if argument.strip() else tables.all()
            print("\n".join(lines))
        except NoTableError as error:
            raise gdb.GdbError(str(error)) from None


class Tables:
    """The page tables of `machine`, as they are now."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._tables: dict[int, bytes | None] = {}
        self._level = machine.registers()["pstate"] >> LEVEL & 3
        self._on = bool(machine.system("sctlr_el1") & MMU)

    def all(self) -> Iterator[str]:
        """Every range that is mapped."""
        yield from self._head()
        for name, upper, base in self._bases() if self._on else ():
            found = mappings(self._word, base, *self._controls(), upper)
            yield f"{name} {base:#x}{'' if found else ': maps nothing'}"
            wide = max((len(f"{each.end:#x}") for each in found), default=0)
            for each in found:
                to = "itself" if each.physical == each.start else f"{each.physical:#x}"
                yield f"  {each.start:#{wide}x} .. {each.end:#{wide}x}  {each.rights:10}  {to}"

    def of(self, address: int) -> Iterator[str]:
        """How `address` is translated."""
        yield from self._head()
        if not self._on:
            yield f"{address:#x} is {address:#x}"
            return
        tcr, mair = self._controls()
        for name, upper, base in self._bases():
            of = addressed(tcr, upper)
            if of is not None and of.start <= address < of.end:
                yield f"{address:#x} by {name} {base:#x}, {(of.end - of.start).bit_length() - 1} bits, granule 4 KiB"
                yield from self._walk(base & ADDRESS, of, address)
                mapped = mappings(self._word, base, tcr, mair, upper)
                yield _end(address, next((each for each in mapped if each.start <= address < each.end), None))
                return
        yield f"{address:#x} is in no range that is translated: every access faults"

    def _head(self) -> Iterator[str]:
        if not self._on:
            yield "the MMU is off (SCTLR_EL1.M is 0): addresses are physical, all memory is Device memory"
        elif self._level != 1:
            yield f"the processor is at EL{self._level}; these are the tables of EL1"

    def _bases(self) -> Iterator[tuple[str, bool, int]]:
        for upper in (False, True):
            name = f"TTBR{int(upper)}_EL1"
            if addressed(self._machine.system("tcr_el1"), upper) is not None:
                yield name, upper, self._machine.system(name.lower())

    def _controls(self) -> tuple[int, int]:
        return self._machine.system("tcr_el1"), self._machine.system("mair_el1")

    def _walk(self, table: int, of: Range, address: int) -> Iterator[str]:
        """Arm ARM D8.3, VMSAv8-64 descriptors: the one at each level."""
        for level in range(of.level, 4):
            shift = 39 - 9 * level
            # Above the first level's own bits there are those that choose the range.
            index = (address - of.start) >> shift & 511
            place = table + 8 * index
            entry = self._word(place)
            if entry is None:
                raise NoTableError(f"the table entry at {place:#x} cannot be read")
            leads = bool(entry & 2) and level < 3
            what = (
                "invalid"
                if not entry & 1
                else "table"
                if leads
                else f"{'page' if level == 3 else 'block'} of {SIZES[level]}"
            )
            yield f"  level {level}  entry {index:3} at {place:#x}  {entry:#018x}  {what}"
            if not leads or not entry & 1:
                return
            table = entry & ADDRESS

    def _word(self, address: int) -> int | None:
        """The 64-bit word at a physical address; tables are read as a whole."""
        table = address - address % TABLE
        if table not in self._tables:
            self._tables[table] = self._machine.physical(table, TABLE)
        data, at = self._tables[table], address - table
        if data is None:
            return _number(self._machine.physical(address, 8))
        return _number(data[at : at + 8])


def _number(data: bytes | None) -> int | None:
    return None if data is None else int.from_bytes(data, "little")


def _end(address: int, mapping: Mapping | None) -> str:
    if mapping is None:
        return f"{address:#x} is not mapped: every access faults"
    return f"{address:#x} is {mapping.physical + address - mapping.start:#x}, {mapping.rights}"


def _address(text: str) -> int:
    value = gdb.parse_and_eval(text)
    return int(value.address if value.type.code == gdb.TYPE_CODE_FUNC else value) & MASK
