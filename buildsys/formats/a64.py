"""A64 instruction words: the branches and address-forming pairs this project reads and writes.

Every function takes the 32-bit word and the address it stands at; offsets are
in bytes and signed. Sections named are those of the Arm Architecture Reference
Manual (DDI 0487).
"""

from __future__ import annotations

WORD = 0xFFFF_FFFF
BRANCH_RANGE = 1 << 27  # imm26, signed, times 4: -128 MiB .. +128 MiB - 4
OPCODE, IMM26 = 0xFC00_0000, 0x03FF_FFFF  # of B and BL
BRANCH = 0x1400_0000  # C6.2 B, to itself
RET = 0xD65F_03C0  # C6.2 RET x30
NOP = 0xD503_201F  # C6.2 NOP


class OutOfRangeError(ValueError):
    """A branch cannot reach its target."""


def sign_extend(value: int, bits: int) -> int:
    """`value`, whose lowest `bits` bits are a two's complement number, as a Python integer."""
    sign = 1 << (bits - 1)
    return (value & (sign - 1)) - (value & sign)


def is_bl(word: int) -> bool:
    """C6.2 BL: 100101 imm26."""
    return word & 0xFC00_0000 == 0x9400_0000


def is_b(word: int) -> bool:
    """C6.2 B: 000101 imm26."""
    return word & 0xFC00_0000 == 0x1400_0000


def branch_target(word: int, address: int) -> int | None:
    """Where a `B` or `BL` at `address` goes; None for any other word."""
    if word & 0x7C00_0000 != 0x1400_0000:  # bit 31 tells BL from B
        return None
    return address + 4 * sign_extend(word, 26)


def encode_branch(word: int, address: int, target: int) -> int:
    """`word`, a `B` or `BL`, made to go from `address` to `target`.

    Raises OutOfRangeError when the target is 128 MiB or more away, ValueError when
    the word is no such branch or an address is not a multiple of 4.
    """
    if word & 0x7C00_0000 != 0x1400_0000:
        raise ValueError(f"{word:#010x} is neither B nor BL")
    offset = target - address
    if (address | target) & 3:
        raise ValueError(f"a branch from {address:#x} to {target:#x} is not aligned to 4 bytes")
    if not -BRANCH_RANGE <= offset < BRANCH_RANGE:
        raise OutOfRangeError(f"a branch from {address:#x} to {target:#x} spans {offset:+#x} bytes")
    return word & OPCODE | offset >> 2 & IMM26


def conditional_target(word: int, address: int) -> int | None:
    """Where `B.cond`, `BC.cond`, `CBZ`, `CBNZ`, `TBZ` or `TBNZ` at `address` goes; else None."""
    if word & 0xFF00_0000 == 0x5400_0000 or word & 0x7E00_0000 == 0x3400_0000:
        return address + 4 * sign_extend(word >> 5, 19)  # C6.2 B.cond, C6.2 CBZ
    if word & 0x7E00_0000 == 0x3600_0000:
        return address + 4 * sign_extend(word >> 5, 14)  # C6.2 TBZ
    return None


def goal(word: int, at: int) -> int | None:
    """Where any of those branches goes, the index of a word, `at` being its own; else None. It is asked most of all."""
    top = word >> 24
    if top & 0x7C == 0x14:
        return at + ((word & 0x1FF_FFFF) - (word & 0x200_0000))  # C6.2 B, C6.2 BL: imm26
    if top == 0x54 or top & 0x7E == 0x34:
        return at + ((word >> 5 & 0x3_FFFF) - (word >> 5 & 0x4_0000))  # C6.2 B.cond, C6.2 CBZ: imm19
    if top & 0x7E == 0x36:
        return at + ((word >> 5 & 0x1FFF) - (word >> 5 & 0x2000))  # C6.2 TBZ: imm14
    return None


def adrp(word: int, address: int) -> tuple[int, int] | None:
    """C6.2 ADRP: (destination register, the 4 KiB page it forms); else None."""
    if word & 0x9F00_0000 != 0x9000_0000:
        return None
    pages = sign_extend((word >> 5 & 0x7FFFF) << 2 | word >> 29 & 3, 21)
    return word & 31, (address & ~0xFFF) + (pages << 12)


def adr(word: int, address: int) -> tuple[int, int] | None:
    """C6.2 ADR: (destination register, the address it forms); else None."""
    if word & 0x9F00_0000 != 0x1000_0000:
        return None
    return word & 31, address + sign_extend((word >> 5 & 0x7FFFF) << 2 | word >> 29 & 3, 21)


def add_immediate(word: int) -> tuple[int, int, int] | None:
    """C6.2 ADD (immediate), 64-bit: (destination, source, addend); else None."""
    if word & 0xFF80_0000 != 0x9100_0000:
        return None
    shift = 12 if word >> 22 & 1 else 0
    return word & 31, word >> 5 & 31, (word >> 10 & 0xFFF) << shift


def load_store_unsigned(word: int) -> tuple[int, int, int, int, bool] | None:
    """Load/store register (unsigned immediate), C4.1, general registers only.

    Gives (transfer register, base register, byte offset, bytes moved, is a load); else None.
    """
    if word & 0x3F00_0000 != 0x3900_0000:
        return None
    size, operation = word >> 30, word >> 22 & 3  # store, load, load signed to 64 bits, and to 32
    if size + operation > 4:
        return None  # PRFM, which moves nothing, or unallocated
    return word & 31, word >> 5 & 31, (word >> 10 & 0xFFF) << size, 1 << size, bool(operation)


def move_wide(word: int) -> tuple[str, int, int, int] | None:
    """C6.2 MOVZ, C6.2 MOVK, 64-bit: (name, destination, imm16, shift in bits); else None."""
    names = {0xD280_0000: "movz", 0xF280_0000: "movk"}
    name = names.get(word & 0xFF80_0000)
    if name is None:
        return None
    return name, word & 31, word >> 5 & 0xFFFF, 16 * (word >> 21 & 3)


def is_relative(word: int) -> bool:
    """Whether what the instruction does depends on where it stands: branches, ADR, ADRP, LDR (literal)."""
    return (
        word & 0x7C00_0000 == 0x1400_0000
        or conditional_target(word, 0) is not None
        or word & 0x1F00_0000 == 0x1000_0000  # C6.2 ADR, ADRP
        or word & 0x3B00_0000 == 0x1800_0000  # C4.1 load register (literal)
    )


def compare_branch(word: int) -> tuple[bool, int] | None:
    """CBZ or CBNZ: (branches when not zero, register tested); else None."""
    if word & 0x7E00_0000 != 0x3400_0000:
        return None
    return bool(word >> 24 & 1), word & 31
