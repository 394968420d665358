"""Our reading and writing of instruction words is that of capstone and of GNU objdump."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from buildsys.formats import a64
from buildsys.formats.a64 import BRANCH_RANGE, OutOfRangeError

from .disassembly import Instruction, by_capstone, by_objdump, register

B, BL = 0x1400_0000, 0x9400_0000
# Above every offset of a branch and of ADRP, so that no address is negative.
BASE = 1 << 40

# The bits that make an encoding what it is; the rest are its operands.
CLASSES = {
    "b, bl": (0x7C00_0000, 0x1400_0000),
    "b.cond": (0xFF00_0010, 0x5400_0000),
    "cbz, cbnz": (0x7E00_0000, 0x3400_0000),
    "tbz, tbnz": (0x7E00_0000, 0x3600_0000),
    "adr": (0x9F00_0000, 0x1000_0000),
    "adrp": (0x9F00_0000, 0x9000_0000),
    "add": (0xFF80_0000, 0x9100_0000),
    "ldr, str": (0x3F00_0000, 0x3900_0000),
    "movz, movk": (0xDF80_0000, 0xD280_0000),
}

WORDS = st.integers(0, (1 << 32) - 1)
addresses = st.integers(0, (1 << 47) // 4).map(lambda at: BASE + 4 * at)
offsets = st.one_of(
    st.integers(-BRANCH_RANGE // 4, BRANCH_RANGE // 4 - 1),
    st.sampled_from(
        [-BRANCH_RANGE // 4, -BRANCH_RANGE // 4 + 1, -1, 0, 1, BRANCH_RANGE // 4 - 2, BRANCH_RANGE // 4 - 1]
    ),
).map(lambda words: 4 * words)


@st.composite
def near(draw: st.DrawFn) -> int:
    """A word of one of the classes, or one that differs from such a word in a single bit; seldom any other."""
    mask, value = draw(st.sampled_from(sorted(CLASSES.values())))
    word = draw(WORDS) & ~mask & 0xFFFF_FFFF | value
    flip = draw(st.one_of(st.none(), st.integers(0, 31)))
    return word if flip is None else word ^ 1 << flip


def is_bc_cond(word: int) -> bool:
    """FEAT_HBC, of 2022: newer than these disassemblers."""
    return word & 0xFF00_0010 == 0x5400_0010


def branch(found: Instruction) -> int | None:
    return found.target if found.mnemonic in ("b", "bl") else None


def conditional(found: Instruction) -> int | None:
    decides = found.mnemonic.startswith("b.") or found.mnemonic in ("cbz", "cbnz", "tbz", "tbnz")
    return found.target if decides else None


def formed(name: str) -> Callable[[Instruction], tuple[int, int] | None]:
    def read(found: Instruction) -> tuple[int, int] | None:
        operands = re.match(r"(x\d+|xzr), #?0x", found.operands)  # SVE has an ADR of its own
        return (register(operands[1]), found.target) if operands and found.mnemonic == name else None

    return read


def compared(found: Instruction) -> tuple[bool, int] | None:
    if found.mnemonic not in ("cbz", "cbnz"):
        return None
    return found.mnemonic == "cbnz", register(found.operands.split(",")[0])


SIZES = {"strb": 1, "ldrb": 1, "ldrsb": 1, "strh": 2, "ldrh": 2, "ldrsh": 2, "ldrsw": 4}
UNSIGNED = re.compile(r"([wx])(\d+|zr), \[(x\d+|sp)(?:, #(0x[0-9a-f]+|\d+))?\]$")


def access(found: Instruction) -> tuple[int, int, int, int, bool] | None:
    operands = UNSIGNED.match(found.operands)
    if operands is None or found.mnemonic not in (*SIZES, "ldr", "str"):
        return None
    size = SIZES.get(found.mnemonic) or (8 if operands[1] == "x" else 4)
    offset = int(operands[4] or "0", 0)
    return register("x" + operands[2]), register(operands[3]), offset, size, found.mnemonic.startswith("ldr")


def added(found: Instruction) -> tuple[int, int, int] | None:
    operands = re.match(r"(x\d+|sp), (x\d+|sp), #(0x[0-9a-f]+|\d+)(?:, lsl #(\d+))?$", found.operands)
    if operands is None or found.mnemonic != "add":
        return None
    return register(operands[1]), register(operands[2]), int(operands[3], 0) << int(operands[4] or "0")


def moved(found: Instruction) -> tuple[str, int, int, int] | None:
    operands = re.match(r"(x\d+|xzr), #(0x[0-9a-f]+|\d+)(?:, lsl #(\d+))?$", found.operands)
    if operands is None or found.mnemonic not in ("movz", "movk"):
        return None
    return found.mnemonic, register(operands[1]), int(operands[2], 0), int(operands[3] or "0")


def led(word: int, address: int) -> int | None:
    goal = a64.goal(word, address >> 2)
    return None if goal is None else 4 * goal


OURS: dict[str, tuple[Callable[[int, int], object], Callable[[Instruction], object]]] = {
    "branch_target": (a64.branch_target, branch),
    "conditional_target": (a64.conditional_target, conditional),
    "goal": (led, lambda found: branch(found) or conditional(found)),
    "adrp": (a64.adrp, formed("adrp")),
    "adr": (a64.adr, formed("adr")),
    "load_store_unsigned": (lambda word, _: a64.load_store_unsigned(word), access),
    "compare_branch": (lambda word, _: a64.compare_branch(word), compared),
    # Capstone writes these two by other names where it can.
    "add_immediate": (lambda word, _: a64.add_immediate(word), added),
    "move_wide": (lambda word, _: a64.move_wide(word), moved),
}


@pytest.mark.parametrize("name", [name for name in OURS if name not in ("add_immediate", "move_wide")])
def test_every_word_is_what_capstone_says(name: str) -> None:
    ours, theirs = OURS[name]

    @given(st.one_of(near(), WORDS), addresses)
    @example(0xF980_0000, BASE)  # prfm is no load
    @example(0xB9C0_0000, BASE)  # size 2, opc 3: unallocated
    def check(word: int, address: int) -> None:
        if not is_bc_cond(word):
            assert ours(word, address) == theirs(by_capstone(word, address))

    check()


def test_every_word_is_what_objdump_says(tmp_path: Path) -> None:
    rng = random.Random(64)
    words = [rng.getrandbits(32) for _ in range(5_000)]
    for mask, value in CLASSES.values():
        for _ in range(1_500):
            word = rng.getrandbits(32) & ~mask & 0xFFFF_FFFF | value
            words += [word, word ^ 1 << rng.randrange(32)]
    words = [word for word in words if not is_bc_cond(word)]
    seen = dict.fromkeys(OURS, 0)
    for at, found in enumerate(by_objdump(words, BASE, tmp_path)):
        for name, (ours, theirs) in OURS.items():
            expected = theirs(found)
            assert ours(words[at], BASE + 4 * at) == expected, f"{name}({words[at]:#010x}): {found}"
            seen[name] += expected is not None
    assert min(seen.values()) > 500


@given(st.sampled_from([B, BL]), addresses, offsets)
def test_a_branch_encoded_is_the_branch_capstone_reads(word: int, address: int, offset: int) -> None:
    made = a64.encode_branch(word, address, address + offset)
    found = by_capstone(made, address)
    assert found.mnemonic == ("bl" if word == BL else "b")
    assert found.target == address + offset
    assert a64.branch_target(made, address) == address + offset
    assert (a64.is_bl(made), a64.is_b(made)) == (word == BL, word == B)


def test_branches_of_every_length_are_what_objdump_reads(tmp_path: Path) -> None:
    lengths = {0, 4, BRANCH_RANGE - 4, BRANCH_RANGE - 8} | {1 << bit for bit in range(2, 27)}
    lengths |= {length - 4 for length in lengths if length}
    signed = sorted(lengths | {-length for length in lengths} | {-BRANCH_RANGE})
    plan = [(word, offset) for word in (B, BL) for offset in signed]
    words = [a64.encode_branch(word, BASE + 4 * at, BASE + 4 * at + offset) for at, (word, offset) in enumerate(plan)]
    for at, found in enumerate(by_objdump(words, BASE, tmp_path)):
        word, offset = plan[at]
        assert (found.mnemonic, found.target) == ("bl" if word == BL else "b", BASE + 4 * at + offset)


@given(WORDS, addresses, addresses, offsets)
def test_a_branch_sent_elsewhere_stays_what_it_was(word: int, address: int, other: int, offset: int) -> None:
    word = word & ~0x7C00_0000 & 0xFFFF_FFFF | 0x1400_0000
    made = a64.encode_branch(word, address, address + offset)
    assert made & 0xFC00_0000 == word & 0xFC00_0000
    # And back again: nothing but the target is in the word.
    old = a64.branch_target(word, address)
    assert old is not None
    assert a64.encode_branch(made, address, old) == word
    assert a64.branch_target(made, other) == other + offset


def test_a_backward_call_keeps_its_sign() -> None:
    back = a64.encode_branch(BL, BASE, BASE - 4)
    assert back == 0x97FF_FFFF
    assert a64.branch_target(back, BASE) == BASE - 4


@pytest.mark.parametrize("word", [B, BL])
@pytest.mark.parametrize(
    ("offset", "reaches"),
    [
        (BRANCH_RANGE - 4, True),
        (BRANCH_RANGE, False),
        (BRANCH_RANGE + 4, False),
        (-BRANCH_RANGE, True),
        (-BRANCH_RANGE - 4, False),
        (2 * BRANCH_RANGE, False),
        (-2 * BRANCH_RANGE, False),
    ],
)
def test_a_branch_reaches_128_mib_and_not_a_word_more(word: int, offset: int, reaches: bool) -> None:
    if reaches:
        made = a64.encode_branch(word, BASE, BASE + offset)
        assert by_capstone(made, BASE).target == BASE + offset
    else:
        with pytest.raises(OutOfRangeError, match=re.escape(f"from {BASE:#x} to {BASE + offset:#x}")):
            a64.encode_branch(word, BASE, BASE + offset)


@given(st.integers(1, 3), st.booleans())
def test_a_branch_is_aligned_at_both_ends(by: int, at_target: bool) -> None:
    with pytest.raises(ValueError, match="not aligned") as caught:
        a64.encode_branch(B, BASE + (0 if at_target else by), BASE + (by if at_target else 0))
    assert not isinstance(caught.value, OutOfRangeError)


@given(st.one_of(near(), WORDS))
def test_only_b_and_bl_can_be_sent_elsewhere(word: int) -> None:
    if by_capstone(word, BASE).mnemonic in ("b", "bl"):
        assert a64.branch_target(a64.encode_branch(word, BASE, BASE + 8), BASE) == BASE + 8
    else:
        with pytest.raises(ValueError, match="neither B nor BL"):
            a64.encode_branch(word, BASE, BASE + 8)


@given(st.integers(1, 64), st.integers(0, (1 << 64) - 1))
def test_sign_extension_is_twos_complement(bits: int, value: int) -> None:
    low = value % (1 << bits)
    expected = low - (1 << bits) if low >= 1 << bits - 1 else low
    assert a64.sign_extend(value, bits) == expected


def test_a_return_is_a_return() -> None:
    assert by_capstone(a64.RET, BASE) == Instruction("ret", "")
