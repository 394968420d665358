"""The abstract interpreter against a processor: what it says is known is what Unicorn computes."""

from __future__ import annotations

import importlib
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from buildsys.proof.events import CURRENT_EL, MPIDR_EL1, Descent, Dsb, Store, SystemWrite, Trace
from buildsys.proof.interpreter import Interpreter
from buildsys.proof.values import MASK, UNKNOWN, Value, holds, known, rounds_until
from buildsys.toolchains import zig

CODE, DATA, SIZE = 0x10000, 0x20000, 0x10000
Assemble = Callable[[str], bytes]


@pytest.fixture
def assemble(tmp_path: Path) -> Assemble:
    """The bytes of a few instructions that refer to nothing but themselves."""
    from buildsys.formats.elf import Elf

    def assemble(text: str) -> bytes:
        source, made = tmp_path / "code.s", tmp_path / "code.o"
        source.write_text(text + "\n")
        zig.toolchain().assemble(source, made)
        elf = Elf.read(made)
        section = elf.section(".text")
        assert section is not None
        return elf.contents(section)

    return assemble


def interpreter(code: bytes, registers: list[Value] | None = None) -> Interpreter:
    def read(address: int, size: int) -> int | None:
        at = address - CODE
        return int.from_bytes(code[at : at + size], "little") if 0 <= at <= len(code) - size else None

    found = Interpreter(read, frozenset(), {CURRENT_EL: known(4)})
    if registers is not None:
        found.registers = registers
    return found


def follow(code: bytes) -> Trace:
    return interpreter(code).follow(CODE)


def processor(code: bytes, data: bytes = b"") -> Any:
    """A processor with `code` and `data` in memory."""
    unicorn: Any = importlib.import_module("unicorn")  # it has no types
    machine = unicorn.Uc(unicorn.UC_ARCH_ARM64, unicorn.UC_MODE_ARM)
    machine.mem_map(CODE, SIZE)
    machine.mem_map(DATA, SIZE)
    machine.mem_write(CODE, code)
    machine.mem_write(DATA, data)
    return machine


def computed(word: int, registers: list[int], sp: int) -> tuple[list[int], int] | None:
    """(x0 to x30 and sp, flags) after the instruction `word`; None if the processor refuses it."""
    from unicorn.arm64_const import UC_ARM64_REG_NZCV, UC_ARM64_REG_SP, UC_ARM64_REG_X0, UC_ARM64_REG_X29
    from unicorn.unicorn import UcError

    machine = processor(struct.pack("<I", word))
    numbers = [UC_ARM64_REG_X0 + at if at < 29 else UC_ARM64_REG_X29 + at - 29 for at in range(31)]
    for number, value in zip([*numbers, UC_ARM64_REG_SP], [*registers, sp], strict=True):
        machine.reg_write(number, value)
    try:
        machine.emu_start(CODE, CODE + 4)
    except UcError:
        return None
    return [machine.reg_read(number) for number in [*numbers, UC_ARM64_REG_SP]], machine.reg_read(UC_ARM64_REG_NZCV)


def variants(base: int, mask: int) -> st.SearchStrategy[int]:
    """Words whose bits outside `mask` are random."""
    return st.integers(0, 0xFFFF_FFFF).map(lambda word: base | word & ~mask & 0xFFFF_FFFF)


# C4.1: the groups of data processing instructions, by what their encodings have in common.
WORDS = st.one_of(
    variants(0x1100_0000, 0x1F80_0000),  # add, sub (immediate)
    variants(0x1200_0000, 0x1F80_0000),  # logical (immediate)
    variants(0x1280_0000, 0x1F80_0000),  # move wide
    variants(0x1300_0000, 0x1F80_0000),  # bit field
    variants(0x1000_0000, 0x1F00_0000),  # adr, adrp
    variants(0x0A00_0000, 0x1F00_0000),  # logical (register)
    variants(0x0B00_0000, 0x1F20_0000),  # add, sub (shifted)
    variants(0x0B20_0000, 0x1FE0_0000),  # add, sub (extended)
    variants(0x1A00_0000, 0x1E00_0000),  # with carry, conditional, of two or three sources
)
REGISTERS = st.lists(
    st.one_of(st.integers(0, MASK), st.integers(0, 64), st.integers(DATA, DATA + SIZE)), min_size=31, max_size=31
)


@settings(max_examples=600, deadline=None)
@given(word=WORDS, values=REGISTERS, unknown=st.sets(st.integers(0, 30), max_size=8))
@example(word=0xF240_5C1F, values=[0x8000_0001] * 31, unknown=set())  # tst x0, #0xffffff
@example(word=0x8B2163FF, values=[16] * 31, unknown=set())  # add sp, sp, x1
def test_what_is_known_is_what_a_processor_computes(word: int, values: list[int], unknown: set[int]) -> None:
    sp = DATA + SIZE // 2
    done = computed(word, values, sp)
    assume(done is not None)
    assert done is not None
    after, nzcv = done
    followed = interpreter(
        struct.pack("<I", word), [UNKNOWN if at in unknown else known(value) for at, value in enumerate(values)]
    )
    followed.stack_pointers = [known(sp), known(sp)]
    followed.follow(CODE)
    told = [*followed.registers, followed.stack_pointers[1]]
    for number, (value, real) in enumerate(zip(told, after, strict=True)):
        assert value.bits & value.known == real & value.known, f"register {number} after {word:#010x}"
        assert not value.bits & ~value.known
    if followed.flags is not None:
        negative, zero, carry, overflow = (bool(nzcv >> bit & 1) for bit in (31, 30, 29, 28))
        truth = (zero, carry, negative, overflow, carry and not zero, negative == overflow)
        for index, expected in enumerate((*truth, not zero and negative == overflow)):
            assert followed.flags.satisfy(2 * index) in (None, expected), f"condition {2 * index} after {word:#010x}"
            assert followed.flags.satisfy(2 * index + 1) in (None, not expected)


@pytest.mark.parametrize(
    "text",
    [
        "mov x0, #0x20000; mov x1, #7; str x1, [x0, #8]; ldr x2, [x0, #8]",
        "mov x0, #0x20000; mov x1, #7; strb w1, [x0], #1; strh w1, [x0, #2]!; stur x1, [x0, #-3]",
        "mov x0, #0x20000; mov x1, #7; mov x2, #8; stp x1, x2, [x0, #16]!; ldp x3, x4, [x0], #-16; str w3, [x0]",
        "mov x0, #0x20000; add sp, x0, #0x100; stp x29, x30, [sp, #-16]!; mov x1, sp; str x1, [sp, #8]",
        "mov x0, #0x20000; mov x1, #2; mov x2, #3; str x2, [x0, x1, lsl #3]; str w2, [x0, x1]",
        "mov x0, #0x20000; ldr x1, 1f; str x1, [x0]; b 2f; 1: .quad 0x1122334455667788; 2:",
        "mov x0, #0x20000; movi v0.2d, #0; mov x1, #-1; str x1, [x0, #8]; stp q0, q0, [x0, #16]; str q0, [x0]",
        "mov x0, #0x20000; mov x1, #5; bl 1f; b 2f; 1: str x1, [x0]; add x1, x1, #1; ret; 2: str x1, [x0, #8]",
        "mov x0, #0x20000; mov x1, #5; cmp x1, #4; b.ls 1f; str x1, [x0]; 1: cbz x1, 2f; str x1, [x0, #8]; 2:",
        "mov x0, #0x20000; mov x1, #5; tbz x1, #1, 1f; str x1, [x0]; 1: tbnz x1, #2, 2f; str x1, [x0, #8]; 2: nop",
        "mov x0, #0x20000; mov x1, #-1; str x1, [x0]; strb wzr, [x0, #3]; ldr x2, [x0]; str x2, [x0, #8]",
    ],
)
def test_stores_are_those_of_a_processor(assemble: Assemble, text: str) -> None:
    assert_same_memory(assemble(text.replace(";", "\n")))


LOOPS = {
    "tested at the top, by pairs": "1: cmp x0, x1; b.hs 2f; stp xzr, xzr, [x0], #16; b 1b; 2:",
    "tested at the bottom": "1: str xzr, [x0], #8; cmp x0, x1; b.lo 1b",
    "not equal": "1: str wzr, [x0]; add x0, x0, #4; cmp x0, x1; b.ne 1b",
    "counted down": "sub x2, x1, x0; 1: strb wzr, [x0], #1; subs x2, x2, #1; b.ne 1b",
    "counted down, compared with zero": "sub x2, x1, x0; 1: str xzr, [x0], #8; sub x2, x2, #8; cbnz x2, 1b",
    "counted down, signed": "sub x2, x1, x0; 1: str xzr, [x0], #8; subs x2, x2, #8; b.gt 1b",
    "unrolled": "1: stp xzr, xzr, [x0]; stp xzr, xzr, [x0, #16]; add x0, x0, #32; cmp x0, x1; b.lo 1b",
    "vector registers": "movi v0.2d, #0; 1: stp q0, q0, [x0], #32; cmp x0, x1; b.lo 1b",
    "with a hole": "1: str xzr, [x0], #16; cmp x0, x1; b.lo 1b",
    "from the top down": "1: str xzr, [x1, #-8]!; cmp x1, x0; b.hi 1b",
    "in a loop": "mov x3, #3; 3: mov x2, x0; 1: str xzr, [x2], #8; cmp x2, x1; b.lo 1b; subs x3, x3, #1; b.ne 3b",
    "of ones": "mov x4, #-1; 1: str x4, [x0], #8; cmp x0, x1; b.lo 1b",
    "with a bit that ends it": "1: str xzr, [x0], #8; tbnz x0, #9, 2f; cmp x0, x1; b.lo 1b; 2:",
    "copying": "mov x2, #0x10000; 1: cmp x0, x1; b.hs 2f; ldp x3, x4, [x2], #16; stp x3, x4, [x0], #16; b 1b; 2:",
    "copying by vectors": "mov x2, #0x10000; 1: ldr q1, [x2], #16; str q1, [x0], #16; cmp x0, x1; b.lo 1b",
    "copying one word": "mov x2, #0x10000; 1: ldr x3, [x2]; str x3, [x0], #8; cmp x0, x1; b.lo 1b",
}


@pytest.mark.parametrize("text", LOOPS.values(), ids=LOOPS.keys())
@pytest.mark.parametrize("length", [0, 32, 64, 96, 0x1000])
def test_a_loop_taken_at_once_does_what_each_round_does(assemble: Assemble, text: str, length: int) -> None:
    # Those tested at the bottom run once more than is asked of them when nothing is.
    length = length or 0 if text.startswith("1: cmp") else length or 32
    setup = f"mov x0, #{DATA}; mov x1, #{DATA}; add x1, x1, #{length & 0xFFF}; add x1, x1, #{length & 0xF000}; "
    code = assemble((setup + text + "; nop").replace(";", "\n"))
    # Enough bytes to copy: they follow the code.
    assert_same_memory(code + bytes(range(256)) * (0x1000 // 256 + 1), len(code))


HALT = b"\x00\x00\x40\xd4"  # hlt #0


def assert_same_memory(code: bytes, length: int | None = None) -> None:
    """The stores that are told of the first `length` bytes of `code` make of memory what a processor makes of it."""
    length = len(code) if length is None else length
    code = code[:length] + HALT + code[length + 4 :]
    before = b"\xaa" * SIZE
    machine = processor(code, before)
    machine.emu_start(CODE, CODE + length)
    after = bytes(machine.mem_read(DATA, SIZE))
    trace = follow(code)
    assert trace.end.endswith("ends it"), trace.end
    assert trace.pc == CODE + length
    memory = bytearray(before)
    for store in stores(trace):
        assert store.address is not None
        at = store.address - DATA
        memory[at : at + store.size] = content(store, after, code)
    assert memory == after


def content(store: Store, after: bytes, code: bytes) -> bytes:
    """What a store puts into memory; where that is not told, the processor's own answer."""
    assert store.address is not None
    if store.value is not None:
        return store.value.to_bytes(8, "little")[: store.size] if store.value else bytes(store.size)
    if store.source is not None and CODE <= store.source < CODE + len(code):
        return code[store.source - CODE : store.source - CODE + store.size]
    return after[store.address - DATA : store.address - DATA + store.size]


def stores(trace: Trace) -> Iterator[Store]:
    return (event for event in trace.events if isinstance(event, Store))


def test_a_long_loop_is_one_event(assemble: Assemble) -> None:
    text = "mov x0, #0x40000000\nmov x1, #0x48000000\n" + LOOPS["tested at the top, by pairs"].replace(";", "\n")
    trace = follow(assemble(text + "\nhlt #0"))
    (store,) = stores(trace)
    assert (store.address, store.end, store.value) == (0x4000_0000, 0x4800_0000, 0)


def test_a_loop_with_a_barrier_in_it_is_not_taken_at_once(assemble: Assemble) -> None:
    text = "mov x0, #0x40000000\nmov x1, #10\n1: str xzr, [x0], #8\ndsb sy\nsubs x1, x1, #1\nb.ne 1b\nhlt #0"
    assert sum(isinstance(event, Dsb) for event in follow(assemble(text)).events) == 10


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("1: wfe; b 1b", "a loop without a way out"),
        ("b .", "a loop without a way out"),
        ("cbz x0, 1f; 1: hlt #0", "it depends on a value that is not known"),
        ("b.eq 1f; 1: hlt #0", "it depends on flags that are not known"),
        ("mov x0, #1; br x0", "the code it went to does not come back here"),
        ("ret", "it is not known where this returns to"),
        ("nop", "there is no code in the image"),
        (".word 0", "0x00000000 is no instruction"),
        ("1: add x0, x0, #1; mov x1, #0; b 1b", "a loop without a way out"),
        ("mov x0, #0; 1: add x0, x0, #1; eor x1, x1, x0; b 1b", "100000 instructions were not enough"),
        ("1: ldr w1, [x0]; tbnz w1, #5, 1b; b .", "a loop without a way out"),
        ("1: cbz x0, 2f; b 1b; 2: b .", "it depends on a value that is not known"),
        ("1: ldr w1, [x0]; strb w2, [x0]; cbnz w1, 1b; b .", "it depends on a value that is not known"),
    ],
)
def test_following_ends_where_nothing_more_can_be_told(assemble: Assemble, text: str, end: str) -> None:
    trace = follow(assemble(text.replace(";", "\n")))
    assert trace.end == end
    assert trace.parked == (end == "a loop without a way out")


def test_what_a_waiting_loop_changes_is_not_known_behind_it(assemble: Assemble) -> None:
    """It is left as it may be after any number of rounds: x2 counts them, x3 does not."""
    text = "mov x2, #0; mov x3, #7; mov x4, #9; 1: add x2, x2, #1; mov x4, x2; ldr w1, [x0]; tst w1, #32; b.ne 1b"
    found = interpreter(assemble(f"{text}; b .".replace(";", "\n")))
    assert found.follow(CODE).parked
    assert [found.registers[each] for each in (2, 3, 4)] == [UNKNOWN, known(7), UNKNOWN]


def test_a_loop_whose_bound_was_loaded_is_taken_at_once(assemble: Assemble) -> None:
    """As those are that clear memory between two literals, and begin with the comparison."""
    text = f"""
    ldr     x4, low
    ldr     x9, high
    b       2f
1:  stp     xzr, xzr, [x4], #16
    stp     xzr, xzr, [x4], #16
2:  cmp     x4, x9
    b.lo    1b
    b       .
    .balign 8
low:    .quad {DATA:#x}
high:   .quad {DATA + 0x1008:#x}
"""
    trace = follow(assemble(text))
    (store,) = stores(trace)
    assert (store.address, store.size, trace.parked) == (DATA, 0x1020, True)


def test_a_call_through_a_register_is_followed_into_a_routine_of_ones_own(assemble: Assemble) -> None:
    code = assemble("adr x0, 1f\nblr x0\nb .\n1: mov x1, #5\nret")
    for routines, value in ((frozenset({CODE + 12}), known(5)), (frozenset[int](), UNKNOWN)):
        found = interpreter(code)
        found.routines = routines
        assert found.follow(CODE).parked
        assert found.registers[1] == value


@pytest.mark.parametrize(
    "text", ["str x1, [x0]", "stlr x1, [x0]", "stxr w2, x1, [x0]", "dc zva, x0", "st1 {v0.2d}, [x0]"]
)
def test_a_store_nobody_can_place_is_told(assemble: Assemble, text: str) -> None:
    (store,) = stores(follow(assemble(text)))
    assert store.address is None
    assert store.overlaps(0, 1)


@given(
    condition=st.sampled_from([0, 1, 2, 3, 8, 9, 10, 11, 12, 13]),
    first=st.tuples(st.integers(0, 400), st.integers(0, 400)),
    steps=st.tuples(st.integers(-9, 9), st.integers(-9, 9)),
)
def test_the_round_a_comparison_turns_over_is_foretold(
    condition: int, first: tuple[int, int], steps: tuple[int, int]
) -> None:
    def at(index: int) -> tuple[Value, Value]:
        # Far from where addresses wrap round.
        left, right = (start + step * index for start, step in zip(first, steps, strict=True))
        return known((1 << 32) + left), known((1 << 32) + right)

    now = holds(condition, *at(1))
    turned = next((index for index in range(1, 500) if holds(condition, *at(1 + index)) != now), None)
    assert rounds_until(condition, at(0), at(1)) == turned


def at_level(level: int, code: bytes) -> tuple[Interpreter, Trace]:
    found = interpreter(code)
    found.system[CURRENT_EL] = known(level << 2)
    return found, found.follow(CODE)


LEAVE = """
        mov     x0, #{state}
        msr     spsr_el{level}, x0
        adr     x0, 1f
        msr     elr_el{level}, x0
        eret
        brk     #1
1:      mrs     x1, CurrentEL
        mov     x2, sp
        hlt     #0
"""


@pytest.mark.parametrize(("level", "below", "state"), [(3, 2, 0x3C9), (3, 1, 0x3C5), (2, 1, 0x3C5), (3, 2, 0x3C8)])
def test_an_exception_return_goes_down(assemble: Assemble, level: int, below: int, state: int) -> None:
    found, trace = at_level(level, assemble(LEAVE.format(level=level, state=state)))
    assert [event for event in trace.events if isinstance(event, Descent)] == [Descent(CODE + 16, level, below, state)]
    assert found.registers[1] == known(below << 2)
    assert found.registers[2] == UNKNOWN  # another level, another stack pointer
    assert found.selected == state & 1
    assert trace.pc == CODE + 8 * 4


@pytest.mark.parametrize("state", [0x3C0, 0x3CD, 0x3D3, 0x3C9])
def test_an_exception_return_that_is_none_ends_it(assemble: Assemble, state: int) -> None:
    """To EL0, to where it is, to AArch32, to EL2 from EL2."""
    _, trace = at_level(2, assemble(LEAVE.format(level=2, state=state)))
    assert "not a lower level" in trace.end
    assert not [event for event in trace.events if isinstance(event, Descent)]


@pytest.mark.parametrize("left_out", ["msr     spsr_el2, x0", "msr     elr_el2, x0"])
def test_an_exception_return_to_what_is_not_known_ends_it(assemble: Assemble, left_out: str) -> None:
    text = LEAVE.format(level=2, state=0x3C5)
    assert left_out in text
    _, trace = at_level(2, assemble(text.replace(left_out, "nop")))
    assert "not known where this returns to" in trace.end


def test_an_exception_return_at_an_unknown_level_ends_it(assemble: Assemble) -> None:
    found = interpreter(assemble(LEAVE.format(level=2, state=0x3C5)))
    del found.system[CURRENT_EL]
    assert "at which exception level" in found.follow(CODE).end


@pytest.mark.parametrize(
    ("instruction", "lowest"),
    [
        ("msr hcr_el2, x0", 2),
        ("mrs x0, hcr_el2", 2),
        ("msr sp_el1, x0", 2),
        ("msr elr_el2, x0", 2),
        ("msr scr_el3, x0", 3),
        ("mrs x0, spsr_el3", 3),
        ("msr vbar_el1, x0", 1),
        ("mrs x0, midr_el1", 1),
        ("msr tpidr_el0, x0", 1),
        ("msr spsel, #1", 1),
        ("msr daifset, #15", 1),
    ],
)
def test_a_register_of_a_higher_level_cannot_be_reached(assemble: Assemble, instruction: str, lowest: int) -> None:
    code = assemble(f"{instruction}\nhlt #0")
    for level in (1, 2, 3):
        _, trace = at_level(level, code)
        reached = trace.pc == CODE + 4
        assert reached is (level >= lowest), f"EL{level}: {trace.end}"
        assert ("undefined here" in trace.end) is not reached


def test_the_core_number_at_el1_is_what_el2_says(assemble: Assemble) -> None:
    code = assemble("mov x3, #7\nmsr vmpidr_el2, x3\n" + LEAVE.format(level=2, state=0x3C5) + "\n")
    found, _ = at_level(2, code)
    assert found.system[MPIDR_EL1] == known(7)
    found, _ = at_level(2, assemble(LEAVE.format(level=2, state=0x3C5)))
    assert found.system[MPIDR_EL1] == UNKNOWN


def test_the_stack_pointer_set_from_above_is_the_one_below(assemble: Assemble) -> None:
    code = assemble("mov x3, #64\nmsr sp_el1, x3\n" + LEAVE.format(level=2, state=0x3C5))
    found, trace = at_level(2, code)
    assert found.registers[2] == known(64)
    assert sum(isinstance(event, SystemWrite) for event in trace.events) == 3
