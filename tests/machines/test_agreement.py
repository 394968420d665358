"""Both emulators, given the same image, tell the same: how it ended and what it sent."""

from __future__ import annotations

from pathlib import Path

import pytest

from buildsys.config.board import Board
from buildsys.machines import embedded, qemu
from buildsys.machines.outcome import End, Outcome

from .conftest import Image

pytestmark = pytest.mark.usefixtures("needs_qemu")

LIMIT = 20.0


def agreed(path: Path, board: Board, limit: float = LIMIT) -> Outcome:
    ours, theirs = embedded.run(path, board, limit), qemu.run(path, board, limit)
    assert (ours.end, ours.exit_code) == (theirs.end, theirs.exit_code), (ours.detail, theirs.detail)
    assert ours.serial.decode() == theirs.serial.decode()
    return ours


@pytest.mark.parametrize("code", [0, 7, 255])
def test_the_exit_code_is_the_guests(image: Image, board: Board, code: int) -> None:
    outcome = agreed(image(f"test: exit {code}"), board)
    assert (outcome.end, outcome.exit_code) == (End.EXIT, code)


def test_an_exit_code_has_eight_bits(image: Image, board: Board) -> None:
    assert agreed(image("test: exit 0x107"), board).exit_code == 7


def test_an_exit_for_another_reason_is_failure(image: Image, board: Board) -> None:
    source = """
test:   address x1, RAM
        address x2, 0x20023                 // ADP_Stopped_RunTimeErrorUnknown
        stp     x2, xzr, [x1]
        mov     w0, #0x18
        hlt     #0xf000
"""
    assert agreed(image(source), board).exit_code == 1


def test_an_extended_exit_is_an_exit(image: Image, board: Board) -> None:
    source = """
test:   address x1, RAM
        address x2, 0x20026
        mov     x3, #9
        stp     x2, x3, [x1]
        mov     w0, #0x20
        hlt     #0xf000
"""
    assert agreed(image(source), board).exit_code == 9


def test_every_byte_value_gets_through_the_uart(image: Image, board: Board) -> None:
    source = """
test:   mov     w0, #0
1:      mov     w19, w0
        bl      send
        add     w0, w0, #1
        cmp     w0, #256
        b.ne    1b
        exit    0
"""
    path = image(source)
    expected = bytes(range(256))
    assert embedded.run(path, board, LIMIT).serial == expected
    assert qemu.run(path, board, LIMIT).serial == expected


def test_the_uarts_registers_read_the_same(image: Image, board: Board) -> None:
    offsets = [0x00, 0x04, *range(0x18, 0x4C, 4), *range(0xFE0, 0x1000, 4)]
    reads = "".join(f"\n address x1, UART + {offset:#x}\n ldr w0, [x1]\n puthex x0" for offset in offsets)
    writes = """
        address x1, UART
        mov     w0, #0x7
        str     w0, [x1, #0x24]
        str     w0, [x1, #0x28]
        mov     w0, #0x70
        str     w0, [x1, #0x2c]
        mov     w0, #0x301
        str     w0, [x1, #0x30]
        mov     w0, #0x20
        str     w0, [x1, #0x38]
        mov     w0, #0x7ff
        str     w0, [x1, #0x44]
        ldr     w2, [x1, #0x3c]
"""
    outcome = agreed(image(f"test: {reads} {writes}\n puthex x2 {reads}\n exit 0"), board)
    assert outcome.end is End.EXIT
    assert len(outcome.serial.split()) == 2 * len(offsets) + 1


def test_the_semihosting_console_joins_the_serial_output(image: Image, board: Board) -> None:
    source = """
test:   putc    'a'
        adr     x1, character
        mov     w0, #0x03
        hlt     #0xf000
        putc    'c'
        adr     x1, text
        mov     w0, #0x04
        hlt     #0xf000
        putc    'f'
        address x1, RAM
        adr     x2, console
        mov     x3, #4
        stp     x2, x3, [x1]
        str     x3, [x1, #16]
        sub     x3, x3, #1
        str     x3, [x1, #16]
        mov     w0, #0x01                   // SYS_OPEN ":tt" for writing
        hlt     #0xf000
        adr     x2, text
        mov     x3, #2
        stp     x0, x2, [x1]
        str     x3, [x1, #16]
        mov     w0, #0x05
        hlt     #0xf000
        puthex  x0                          // nothing was left unwritten
        exit    0
character: .byte 'b'
text:      .asciz "de"
console:   .asciz ":tt"
"""
    assert agreed(image(source), board).serial == b"abcdefde0000000000000000 "


def test_wfi_sleeps_until_the_time_limit(image: Image, board: Board) -> None:
    outcome = agreed(image("test: putc 'z'\n1: wfi\n b 1b"), board, 1)
    assert (outcome.end, outcome.serial) == (End.TIME_LIMIT, b"z")


def test_a_spin_loop_runs_until_the_time_limit(image: Image, board: Board) -> None:
    outcome = agreed(image("test: putc 'z'\n b ."), board, 1)
    assert (outcome.end, outcome.serial) == (End.TIME_LIMIT, b"z")


@pytest.mark.parametrize(("function", "end"), [(0x84000008, End.POWER_OFF), (0x84000009, End.RESET)])
def test_psci_ends_the_run(image: Image, board: Board, function: int, end: End) -> None:
    outcome = agreed(image(f"test: putc 'z'\n address x0, {function:#x}\n hvc #0\n exit 3"), board)
    assert (outcome.end, outcome.exit_code, outcome.serial) == (end, None, b"z")


def test_the_machine_starts_the_same(image: Image, board: Board) -> None:
    registers = ["CurrentEL", "DAIF", "SPSel", "MIDR_EL1", "MPIDR_EL1", "CPACR_EL1", "VBAR_EL1", "CNTFRQ_EL0"]
    registers += ["SCTLR_EL1", "ID_AA64MMFR0_EL1", "ID_AA64ISAR0_EL1", "CTR_EL0", "DCZID_EL0", "TCR_EL1"]
    reads = "".join(f"\n mrs x0, {register}\n puthex x0" for register in registers)
    outcome = agreed(image(f"test: {reads}\n mrs x0, NZCV\n puthex x0\n exit 0"), board)
    assert len(outcome.serial.split()) == len(registers) + 1


def test_a_store_to_flash_changes_nothing(image: Image, board: Board) -> None:
    source = """
test:   adr     x1, word
        ldr     x2, [x1]
        puthex  x2
        str     xzr, [x1]
        stp     xzr, xzr, [x1]
        ldr     x2, [x1]
        puthex  x2
        exit    0
        .balign 16
word:   .quad   0x123456789abcdef0, 0
"""
    assert agreed(image(source), board).serial == b"123456789abcdef0 " * 2


SIMPLE = {
    "svc": "svc #0x1234",
    "brk": "brk #0x55",
    "an undefined instruction": ".word 0",
    "another halt": "hlt #7",
    "smc": "mov x0, #0\n smc #3",
    "an unknown system register": "mrs x0, S3_5_C11_C0_0",
    "a write to a read-only system register": "msr S3_0_C0_C0_0, x0",
    "a misaligned exclusive load": "address x0, RAM + 1\n ldxr x1, [x0]",
    "a misaligned acquiring load": "address x0, RAM + 1\n ldaxr x1, [x0]",
    "a misaligned jump": "adr x18, 1f\n address x0, RAM + 2\n br x0\n1:",
}


@pytest.mark.parametrize("instruction", SIMPLE.values(), ids=SIMPLE.keys())
@pytest.mark.parametrize("stack", [0, 1], ids=["on SP_EL0", "on SP_EL1"])
def test_a_handler_sees_the_same(image: Image, board: Board, vectors: str, instruction: str, stack: int) -> None:
    source = f"{vectors}\ntest: handle\n msr SPSel, #{stack}\n {instruction}\n mov x0, sp\n puthex x0\n exit 0"
    outcome = agreed(image(source), board)
    first = outcome.serial.split()
    assert len(first) == 11, "the handler ran once and returned"
    assert int(first[0], 16) == (0x200 if stack else 0)


def test_an_unknown_call_to_the_firmware_is_not_supported(image: Image, board: Board, vectors: str) -> None:
    outcome = agreed(image(f"{vectors}\ntest: handle\n mov x0, #5\n hvc #3\n puthex x0\n exit 0"), board)
    assert outcome.serial == b"ffffffffffffffff "


def test_exceptions_from_el0_use_their_own_vectors(image: Image, board: Board, vectors: str) -> None:
    source = f"""
{vectors}
test:   handle
        mov     x0, #0x3c0                  // EL0, on the stack handle gave it
        msr     SPSR_EL1, x0
        adr     x0, 1f
        msr     ELR_EL1, x0
        eret
1:      svc     #1
        mrs     x0, VBAR_EL1
        mrs     x0, CTR_EL0
        brk     #2
        .word   0
        hlt     #0xf000                     // semihosting does not serve EL0
        mov     x0, sp
        mov     x17, #0x3c5                 // EL1
        svc     #2
        puthex  x0
        exit    0
"""
    outcome = agreed(image(source), board)
    *exceptions, stack = outcome.serial.splitlines()
    assert [line.split()[0][-3:] for line in exceptions] == [b"400"] * 7
    assert stack == f"{board.ram.end - board.stack:016x} ".encode()


PAGE, BLOCK, GIGABYTE = 1 << 12, 1 << 21, 1 << 30
# Arm ARM D8.3: block descriptors with the access flag; AttrIndx 0 is device, 1 normal memory.
DEVICE, NORMAL = 0x401, 0x705
READ_ONLY, NO_EXECUTE = 1 << 7, 1 << 53 | 1 << 54


def tables(board: Board) -> str:
    """Page tables of 39-bit addresses: the first block of code read-only, the UART, the RAM never executed.

    Levels 1 and 2 only; everything else is unmapped.
    """
    assert board.text // GIGABYTE == board.uart.base // GIGABYTE == 0
    second = {
        board.text // BLOCK: board.text // BLOCK * BLOCK | NORMAL | READ_ONLY,
        board.uart.base // BLOCK: board.uart.base // BLOCK * BLOCK | DEVICE | NO_EXECUTE,
    }
    first = {board.ram.origin // GIGABYTE: board.ram.origin // GIGABYTE * GIGABYTE | NORMAL | NO_EXECUTE}

    def table(entries: dict[int, int]) -> str:
        return "\n".join(f" .quad {entries.get(index, 0):#x}" for index in range(1, 512))

    return f"""
        .balign {PAGE}
second: .quad   0
        {table(second)}
first:  .quad   second + 3
        {table(first)}

        .macro  translate
        adr     x0, first
        msr     TTBR0_EL1, x0
        mov     x0, #0xff00                 // attribute 0: device nGnRnE, 1: normal, write-back
        msr     MAIR_EL1, x0
        address x0, 0x803519                // EPD1, inner shareable, write-back, 4 kB, 39 bits
        msr     TCR_EL1, x0
        isb
        mrs     x0, SCTLR_EL1
        mov     x1, #0x1005                 // M, C, I
        orr     x0, x0, x1
        msr     SCTLR_EL1, x0
        isb
        .endm
"""


TRANSLATED = {
    "a load from nowhere": "address x0, NOTHING - 0x20000000\n ldr x1, [x0]",
    "a store to nowhere": "address x0, SPARE_FLASH + 0x400008\n str x1, [x0]",
    "a load from another gigabyte": "address x0, RAM + 0x40000000\n ldr x1, [x0]",
    "a load from beyond the tables": "mov x0, #1 << 45\n ldr x1, [x0]",
    "a null load": "mov x0, #0\n ldr x1, [x0]",
    "a store to flash": "address x0, SPARE_FLASH\n str x1, [x0]",
    "a pair stored to flash": "address x0, SPARE_FLASH + 16\n stp x1, x2, [x0, #-8]!",
    "an exclusive store to flash": "address x0, SPARE_FLASH\n ldxr x1, [x0]\n stxr w2, x1, [x0]",
    "a load across the end of what is mapped": "address x0, SPARE_FLASH + 0xffffc\n ldr x1, [x0]",
    "a jump into RAM": "adr x18, 1f\n address x0, RAM\n br x0\n1:",
    "a jump to nowhere": "adr x18, 1f\n address x0, SPARE_FLASH + 0x400000\n br x0\n1:",
    "svc": "svc #3",
    "floating point": "mov x0, #3 << 20\n msr CPACR_EL1, x0\n isb\n fmov d0, #1.0\n .word 0",
}


@pytest.mark.parametrize("instruction", TRANSLATED.values(), ids=TRANSLATED.keys())
def test_a_handler_sees_the_same_fault_of_translation(
    image: Image, board: Board, vectors: str, instruction: str
) -> None:
    source = f"{vectors} {tables(board)}\ntest: handle\n translate\n {instruction}\n putc '.'\n exit 0"
    outcome = agreed(image(source), board)
    assert len(outcome.serial.split()) == 11, "the handler ran once and returned"
