"""Call frame information: where a function's caller goes on, and with which registers.

Only the entry of the function asked for is decoded. Registers are numbered as DWARF for the
Arm 64-bit Architecture (AADWARF64) has it: 0 to 30 are x0 to x30, 31 is sp.
Source: DWARF 5, section 6.4; Go writes version 3, assemblers 1 to 4.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import NamedTuple

from buildsys.formats.dwarf import Unreadable, uleb
from buildsys.formats.elf import SHF_COMPRESSED, Elf

FP, LR, SP = 29, 30, 31
_CIE = 0xFFFF_FFFF
# DW_CFA_*: the first three hold an operand in their lower six bits.
_ADVANCE, _OFFSET, _RESTORE = 0x40, 0x80, 0xC0
_NOP, _SET_LOC, _ADVANCE1, _ADVANCE2, _ADVANCE4 = 0x00, 0x01, 0x02, 0x03, 0x04
_OFFSET_EXTENDED, _RESTORE_EXTENDED, _UNDEFINED, _SAME, _REGISTER = 0x05, 0x06, 0x07, 0x08, 0x09
_REMEMBER, _RESTORE_STATE, _DEF_CFA, _DEF_CFA_REGISTER, _DEF_CFA_OFFSET = 0x0A, 0x0B, 0x0C, 0x0D, 0x0E
_OFFSET_SF, _DEF_CFA_SF, _DEF_CFA_OFFSET_SF, _VAL_OFFSET, _VAL_OFFSET_SF = 0x11, 0x12, 0x13, 0x14, 0x15
_NEGATE_RA_STATE = 0x2D


class Rule(NamedTuple):
    """How a register's value in the caller is found: "same", "undefined", or by a number.

    That is for "offset" and "value" relative to the frame's address, for "register" another register's.
    """

    how: str
    number: int = 0


class Row(NamedTuple):
    """What is known at one instruction: the frame's address is register `base` plus `offset`; rules by register."""

    base: int
    offset: int
    rules: dict[int, Rule]


class _Common(NamedTuple):
    code: int
    data: int
    instructions: bytes


class Frames:
    """The call frame information of a linked image."""

    def __init__(self, elf: Elf) -> None:
        section = elf.section(".debug_frame")
        self._data = bytes(elf.contents(section)) if section and not section.flags & SHF_COMPRESSED else b""
        self._common: dict[int, _Common] = {}
        self._rows: dict[int, Row | None] = {}

    @cached_property
    def _entries(self) -> list[tuple[int, int, int, int, int]]:
        """(from, to, place of its common entry, where instructions begin and end) of each function, lowest first."""
        return sorted(self._listed())

    def _listed(self) -> Iterator[tuple[int, int, int, int, int]]:
        at, data = 0, self._data
        while at + 8 <= len(data):
            length, common = struct.unpack_from("<II", data, at)
            if length >= 0xFFFF_FFF0 or at + 4 + length > len(data):
                return
            if length >= 20 and common != _CIE:
                start, size = struct.unpack_from("<QQ", data, at + 8)
                if size:
                    yield start, start + size, common, at + 24, at + 4 + length
            at += 4 + length

    def row(self, address: int) -> Row | None:
        """What is known at the instruction at `address`; None if nothing is."""
        if address not in self._rows:
            self._rows[address] = self._row(address)
        return self._rows[address]

    def _row(self, address: int) -> Row | None:
        place = bisect_right(self._entries, (address, 1 << 64, 0, 0, 0)) - 1
        if place < 0 or not self._entries[place][0] <= address < self._entries[place][1]:
            return None
        start, _, common_at, begin, end = self._entries[place]
        try:
            common = self._common.get(common_at) or self._read_common(common_at)
            self._common[common_at] = common
            program = _Program(common)
            program.run(common.instructions, 0, 1 << 64)
            program.initial = dict(program.rules)
            program.run(self._data[begin:end], start, address)
            return Row(program.base, program.offset, program.rules)
        except (Unreadable, IndexError, struct.error):
            return None

    def _read_common(self, at: int) -> _Common:
        data = self._data
        length, kind = struct.unpack_from("<II", data, at)
        version, end = data[at + 8], at + 4 + length
        if kind != _CIE or data[at + 9]:
            raise Unreadable("an augmented entry of call frame information")
        at += 10
        at += 2 if version >= 4 else 0  # sizes of addresses and selectors
        code, at = uleb(data, at)
        scale, at = sleb(data, at)
        link, at = (data[at], at + 1) if version == 1 else uleb(data, at)
        if link != LR:
            raise Unreadable(f"a return address in register {link}")
        return _Common(code, scale, data[at:end])


class _Program:
    """The instructions of one entry, run up to an address."""

    def __init__(self, common: _Common) -> None:
        self.base, self.offset, self.rules = SP, 0, dict[int, Rule]()
        self.initial: dict[int, Rule] = {}
        self._common = common
        self._kept: list[tuple[int, int, dict[int, Rule]]] = []

    def run(self, data: bytes, location: int, goal: int) -> None:
        """Run `data`, which begins to be true at `location`, as far as it is about `goal`."""
        at, code, scale = 0, self._common.code, self._common.data
        while at < len(data):
            opcode = data[at]
            at += 1
            high, low = opcode & 0xC0, opcode & 0x3F
            step = None
            if high == _ADVANCE:
                step = low * code
            elif high == _OFFSET:
                number, at = uleb(data, at)
                self.rules[low] = Rule("offset", number * scale)
            elif high == _RESTORE:
                self._restore(low)
            elif opcode in (_ADVANCE1, _ADVANCE2, _ADVANCE4):
                size = {_ADVANCE1: 1, _ADVANCE2: 2, _ADVANCE4: 4}[opcode]
                step = int.from_bytes(data[at : at + size], "little") * code
                at += size
            elif opcode == _SET_LOC:
                step = struct.unpack_from("<Q", data, at)[0] - location
                at += 8
            else:
                at = self._define(opcode, data, at)
            if step is not None:
                location += step
                if location > goal:
                    return

    def _define(self, opcode: int, data: bytes, at: int) -> int:
        scale = self._common.data
        if opcode in (_NOP, _NEGATE_RA_STATE):
            return at
        if opcode == _REMEMBER:
            self._kept.append((self.base, self.offset, dict(self.rules)))
        elif opcode == _RESTORE_STATE:
            self.base, self.offset, self.rules = self._kept.pop()
        elif opcode == _DEF_CFA_OFFSET:
            self.offset, at = uleb(data, at)
        elif opcode == _DEF_CFA_OFFSET_SF:
            number, at = sleb(data, at)
            self.offset = number * scale
        elif opcode in (
            _DEF_CFA, _DEF_CFA_SF, _DEF_CFA_REGISTER, _UNDEFINED, _SAME, _RESTORE_EXTENDED, _REGISTER,
            _OFFSET_EXTENDED, _OFFSET_SF, _VAL_OFFSET, _VAL_OFFSET_SF,
        ):  # fmt: skip
            register, at = uleb(data, at)
            at = self._define_register(opcode, register, data, at)
        else:
            raise Unreadable(f"instruction {opcode:#x} of call frame information")
        return at

    def _define_register(self, opcode: int, register: int, data: bytes, at: int) -> int:
        scale = self._common.data
        if opcode == _DEF_CFA:
            self.base = register
            self.offset, at = uleb(data, at)
        elif opcode == _DEF_CFA_SF:
            self.base = register
            number, at = sleb(data, at)
            self.offset = number * scale
        elif opcode == _DEF_CFA_REGISTER:
            self.base = register
        elif opcode == _UNDEFINED:
            self.rules[register] = Rule("undefined")
        elif opcode == _SAME:
            self.rules[register] = Rule("same")
        elif opcode == _RESTORE_EXTENDED:
            self._restore(register)
        elif opcode == _REGISTER:
            number, at = uleb(data, at)
            self.rules[register] = Rule("register", number)
        else:
            number, at = uleb(data, at) if opcode in (_OFFSET_EXTENDED, _VAL_OFFSET) else sleb(data, at)
            how = "value" if opcode in (_VAL_OFFSET, _VAL_OFFSET_SF) else "offset"
            self.rules[register] = Rule(how, number * scale)
        return at

    def _restore(self, register: int) -> None:
        if register in self.initial:
            self.rules[register] = self.initial[register]
        else:
            self.rules.pop(register, None)


def caller(row: Row, registers: Mapping[int, int], read: Callable[[int], int | None]) -> dict[int, int] | None:
    """The registers of the caller: those that can be told, by number; LR is where it goes on.

    `registers` are the callee's, `read` reads a 64-bit word. None if the frame's address or where the caller
    goes on cannot be told, as at the end of a stack.
    """
    base = registers.get(row.base)
    if base is None:
        return None
    frame = base + row.offset
    found: dict[int, int] = {}
    for register in range(31):
        rule = row.rules.get(register, Rule("same"))
        value: int | None = None
        if rule.how == "same":
            value = registers.get(register)
        elif rule.how == "offset":
            value = read(frame + rule.number)
        elif rule.how == "value":
            value = frame + rule.number
        elif rule.how == "register":
            value = registers.get(rule.number)
        if value is not None:
            found[register] = value
    if LR not in found or row.rules.get(LR, Rule("same")).how == "undefined":
        return None
    rule = row.rules.get(SP, Rule("value"))
    above = read(frame + rule.number) if rule.how == "offset" else frame + rule.number
    return None if above is None else {**found, SP: above}


def sleb(data: bytes, at: int) -> tuple[int, int]:
    """A signed LEB128 number and where it ends: DWARF 5, 7.6."""
    number, end = uleb(data, at)
    return number - (1 << 7 * (end - at) if data[end - 1] & 0x40 else 0), end
