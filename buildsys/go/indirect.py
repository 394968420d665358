"""Calls and jumps through a register, told apart by how the register came by what it holds.

    ldr x1, [x26] ; blr x1          the code of a function value: a closure, a method value, a func variable
    ldr x1, [x0, #24] ; blr x1      a method, out of an interface's table: they begin at byte 24
    ldr x1, [x1, x2, lsl #3] ; br x1    a case of a switch, out of a jump table
    adr x1, f ; blr x1              a function named just before

Only the instructions just before are looked at, in the order they stand: it is to say what a call is, and
decides nothing of what is reached.
"""

from __future__ import annotations

from array import array
from collections.abc import Container, Iterator, Sequence

from buildsys.formats import a64
from buildsys.formats.callsites import by_top
from buildsys.formats.references import overwrites

VALUE, METHOD, CASE, NAMED, OTHER = "function value", "method", "jump table", "named", "other"
FIRST_METHOD = 24  # internal/abi/iface.go: ITab.Fun
_BEFORE = 32  # instructions looked back
_SP = 31
_TO_REGISTERS = bytes(top == 0xD6 for top in range(256))


def indirect(words: array[int], dead: Container[int] = ()) -> Iterator[tuple[int, str]]:
    """The index of each BLR and BR among `words` that is not in `dead`, and what it goes by."""
    for at in by_top(words, _TO_REGISTERS):
        word = words[at]
        if word & 0xFFDF_FC1F == 0xD61F_0000 and at not in dead:  # C6.2 BR, and bit 21 for BLR
            yield at, _by(words, at, word >> 5 & 31)


def _by(words: Sequence[int], at: int, register: int, spilled: bool = False) -> str:
    """What the register at the index `at` got its value by; `spilled` if it was put on the stack there."""
    for before in range(at - 1, max(-1, at - 1 - _BEFORE), -1):
        word = words[before]
        if not overwrites(word, register):
            continue
        if word & 0xFFE0_FFE0 == 0xAA00_03E0:  # C6.2 MOV (register): what that one got its value by
            register = word >> 16 & 31
            continue
        access = a64.load_store_unsigned(word)
        if access and access[3] == 8:
            if access[1] == _SP:
                return OTHER if spilled else _stored(words, access[2])
            return VALUE if access[2] == 0 else METHOD if access[2] >= FIRST_METHOD else OTHER
        if word & 0xFFE0_FC00 == 0xF860_7800:  # C6.2 LDR (register), 64-bit, the index times 8
            return CASE if words[at] & 0x0020_0000 == 0 else OTHER
        return NAMED if a64.adr(word, 0) or a64.add_immediate(word) or a64.move_wide(word) else OTHER
    return OTHER


def _stored(words: Sequence[int], slot: int) -> str:
    """What is kept in the slot of the stack, if all that is stored there came by it in one way."""
    store = 0xF900_03E0 | slot // 8 << 10  # C6.2 STR (immediate), 64-bit, to sp
    kinds = {_by(words, at, word & 31, True) for at, word in enumerate(words) if word & 0xFFFF_FFE0 == store}
    return kinds.pop() if len(kinds) == 1 else OTHER
