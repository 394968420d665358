"""The embedded emulator: what it refuses, what it reports, and how a run is watched and ended."""

from __future__ import annotations

import dataclasses
import signal
import struct
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from buildsys.config.board import Board
from buildsys.errors import UserError
from buildsys.formats.elf import Elf
from buildsys.machines import embedded
from buildsys.machines.embedded import Machine
from buildsys.machines.outcome import End, LostWrite, Outcome

from .conftest import Image, driven, rest

LIMIT = 20.0


def run(image: Path, board: Board, limit: float = LIMIT) -> Outcome:
    return embedded.run(image, board, limit)


def address_of(image: Path, name: str) -> int:
    return Elf.read(image).symbols.addresses(name)[name]


def test_importing_it_does_not_import_unicorn() -> None:
    code = "import sys, buildsys.machines.embedded; sys.exit('unicorn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# Serial output.


def test_serial_output_arrives_while_the_guest_runs(image: Image, board: Board) -> None:
    class SeenError(Exception):
        pass

    def stop(data: bytes) -> None:
        assert data == b"z"
        raise SeenError

    with pytest.raises(SeenError):
        embedded.run(image("test: putc 'z'\n b ."), board, 600, on_serial=stop)


def test_serial_output_comes_once_and_in_order(image: Image, board: Board) -> None:
    pieces: list[bytes] = []
    outcome = embedded.run(image("test: putc 'a'\n putc 'b'\n exit 0"), board, LIMIT, on_serial=pieces.append)
    assert b"".join(pieces) == outcome.serial == b"ab"


# Flash.


def test_a_store_to_flash_is_lost_and_reported(image: Image, board: Board) -> None:
    path = image("""
test:   address x1, SPARE_FLASH
        mov     x2, #-1
        .globl  one, two
one:    str     w2, [x1]
two:    stp     x2, x2, [x1, #16]
        ldr     x3, [x1]
        ldr     x4, [x1, #16]
        orr     x3, x3, x4
        cbnz    x3, 1f
        exit    0
1:      exit    1
""")
    outcome = run(path, board)
    one, two, spare = address_of(path, "one"), address_of(path, "two"), board.text + 0x10_0000
    assert outcome.exit_code == 0
    assert outcome.lost_writes == (
        LostWrite(one, spare, 4),
        LostWrite(two, spare + 16, 8),
        LostWrite(two, spare + 24, 8),
    )
    assert outcome.lost_write_count == 3


def test_a_store_across_two_pages_of_flash_is_one_lost_write(image: Image, board: Board) -> None:
    path = image(
        "test: address x1, SPARE_FLASH + 0xffc\n mov x2, #-1\n str x2, [x1]\n ldr x0, [x1]\n puthex x0\n exit 0"
    )
    outcome = run(path, board)
    assert outcome.serial == b"0" * 16 + b" "
    assert [(lost.address, lost.size) for lost in outcome.lost_writes] == [(board.text + 0x10_0FFC, 8)]


def test_a_store_from_flash_into_ram_keeps_the_part_in_ram(image: Image, board: Board) -> None:
    low = dataclasses.replace(board.flash, name="low", length=board.ram.origin - 0x1000, kind="ram")
    high = dataclasses.replace(board.ram, name="high", origin=low.end, length=0x1000, kind="flash")
    regions = (low, high, board.ram)
    uart = dataclasses.replace(board.uart, base=board.ram.end)
    path = image("test: address x1, RAM - 4\n mov x2, #-1\n str x2, [x1]\n ldr x19, [x1]\n lsr x19, x19, #56\n b leave")
    outcome = run(path, dataclasses.replace(board, regions=regions, uart=uart, devices=()))
    assert outcome.exit_code == 0xFF
    assert outcome.lost_write_count == 1


def test_an_exclusive_store_to_flash_is_lost(image: Image, board: Board) -> None:
    path = image(
        "test: address x1, SPARE_FLASH\n mov x2, #-1\n ldxr x0, [x1]\n stxr w3, x2, [x1]\n ldr x19, [x1]\n b leave"
    )
    outcome = run(path, board)
    assert (outcome.exit_code, outcome.lost_write_count) == (0, 1)


def test_a_flood_of_lost_writes_is_counted_and_its_beginning_kept(image: Image, board: Board) -> None:
    path = image("""
test:   address x1, SPARE_FLASH
        address x2, 5000
1:      str     xzr, [x1], #8
        subs    x2, x2, #1
        b.ne    1b
        exit    0
""")
    outcome = run(path, board)
    assert outcome.lost_write_count == 5000
    assert len(outcome.lost_writes) == embedded.LOST_WRITES_KEPT


def test_the_image_itself_is_not_changed_by_a_store(image: Image, board: Board) -> None:
    path = image("test: adr x1, next\n str wzr, [x1]\nnext: exit 5")
    outcome = run(path, board)
    assert (outcome.exit_code, outcome.lost_write_count) == (5, 1)


# Faults.


def test_a_load_from_nowhere_is_a_fault_with_pc_and_address(image: Image, board: Board) -> None:
    path = image("test: address x1, NOTHING\n .globl here\nhere: ldr w0, [x1]\n exit 0")
    outcome = run(path, board)
    here = address_of(path, "here")
    assert outcome.end is End.FAULT
    assert outcome.detail == f"load of 4 bytes from {board.ram.end:#x}, at pc {here:#x}: no memory is there"
    assert outcome.registers["pc"] == here
    assert outcome.registers["x1"] == board.ram.end
    assert outcome.exit_code is None


def test_a_store_to_a_device_that_is_not_there_is_a_fault(image: Image, board: Board) -> None:
    path = image(f"test: address x1, UART + {board.uart.size}\n .globl here\nhere: strb w0, [x1]\n exit 0")
    outcome = run(path, board)
    assert outcome.end is End.FAULT
    assert outcome.detail == (
        f"store of 1 bytes to {board.uart.base + board.uart.size:#x}, "
        f"at pc {address_of(path, 'here'):#x}: no device is there"
    )


def test_a_jump_to_nowhere_is_a_fault(image: Image, board: Board) -> None:
    outcome = run(image("test: address x1, NOTHING\n br x1"), board)
    assert outcome.end is End.FAULT
    assert outcome.detail.startswith(f"instruction fetch from {board.ram.end:#x}, at pc {board.ram.end:#x}")


def test_nothing_runs_after_a_fault(image: Image, board: Board) -> None:
    path = image("test: address x1, NOTHING\n address x2, RAM\n mov x3, #1\n ldr w0, [x1]\n str x3, [x2]\n exit 0")
    machine = Machine(board)
    machine.load(path)
    assert machine.run(LIMIT).end is End.FAULT
    assert machine.read(board.bss, 8) == bytes(8)


def test_a_jump_to_zero_is_not_an_end(image: Image, board: Board) -> None:
    assert board.flash.origin == 0
    outcome = run(image("test: br xzr"), board)
    assert (outcome.end, outcome.registers["pc"]) == (End.FAULT, 0)
    assert "undefined instruction, at pc 0x0" in outcome.detail


@pytest.mark.parametrize(
    ("instruction", "words"),
    [
        ("svc #0x1234", "svc #0x1234, at pc"),
        ("brk #0x55", "brk #0x55, at pc"),
        (".word 0x1234", "undefined instruction, at pc"),
        ("smc #0", "undefined instruction, at pc"),
        ("address x0, RAM + 1\n .globl here\nhere: ldxr x1, [x0]", "data abort: alignment fault, read from 0x"),
    ],
)
def test_an_exception_without_a_handler_is_a_fault_in_words(
    image: Image, board: Board, instruction: str, words: str
) -> None:
    label = "" if "here:" in instruction else " .globl here\nhere:"
    path = image(f"test: mov x0, #0\n{label} {instruction}\n exit 0")
    here = address_of(path, "here")
    outcome = run(path, board)
    assert outcome.end is End.FAULT
    assert outcome.detail.startswith(words)
    word = Elf.read(path).word(here)
    assert f"at pc {here:#x} (instruction {word:#010x}); its vector" in outcome.detail
    assert outcome.detail.endswith("holds no handler")


def test_a_vector_that_faults_itself_is_a_fault(image: Image, board: Board) -> None:
    path = image("""
        .balign 2048
vectors: .space 0x200
        .word   1                           // undefined
        .balign 0x800
test:   adr     x0, vectors
        msr     VBAR_EL1, x0
        svc     #9
""")
    outcome = run(path, board)
    assert outcome.end is End.FAULT
    assert "the exception vector itself faults" in outcome.detail
    assert "last exception: svc #0x9" in outcome.detail


def test_a_handler_that_spins_is_told_with_its_cause(image: Image, board: Board) -> None:
    path = image("""
        .balign 2048
vectors: .space 0x200
        b       .
        .balign 0x800
test:   adr     x0, vectors
        msr     VBAR_EL1, x0
        brk     #0x77
""")
    outcome = run(path, board, 0.2)
    assert outcome.end is End.TIME_LIMIT
    assert "last exception: brk #0x77, at pc" in outcome.detail


@pytest.mark.parametrize(
    ("operation", "words"), [(0x10, "SYS_CLOCK (0x10)"), (0x12, "SYS_SYSTEM (0x12)"), (0x99, "unknown (0x99)")]
)
def test_an_unsupported_semihosting_operation_is_named(image: Image, board: Board, operation: int, words: str) -> None:
    outcome = run(image(f"test: mov w0, #{operation}\n hlt #0xf000\n exit 0"), board)
    assert outcome.end is End.FAULT
    assert f"semihosting operation {words} is not supported" in outcome.detail


def test_semihosting_opens_no_file(image: Image, board: Board) -> None:
    path = image("""
test:   address x1, RAM
        adr     x2, name
        mov     x3, #4
        stp     x2, x3, [x1]
        str     x3, [x1, #16]
        mov     w0, #1
        hlt     #0xf000
        exit    0
name:   .asciz  "/tmp"
""")
    outcome = run(path, board)
    assert outcome.end is End.FAULT
    assert "SYS_OPEN of b'/tmp'" in outcome.detail


def test_a_semihosting_block_outside_memory_is_a_fault(image: Image, board: Board) -> None:
    outcome = run(image("test: address x1, NOTHING\n mov w0, #0x18\n hlt #0xf000"), board)
    assert outcome.end is End.FAULT
    assert f"SYS_EXIT (0x18): there is no memory at {board.ram.end:#x}" in outcome.detail


def test_an_unsupported_psci_function_is_named(image: Image, board: Board) -> None:
    outcome = run(image("test: address x0, 0xc4000003\n hvc #0\n exit 0"), board)
    assert outcome.end is End.FAULT
    assert "PSCI function 0xc4000003 is not supported" in outcome.detail


# Ends.


def test_the_time_limit_tells_where_it_was(image: Image, board: Board) -> None:
    path = image("test: mov x5, #77\n .globl here\nhere: b .")
    outcome = run(path, board, 0.2)
    assert outcome.end is End.TIME_LIMIT
    assert outcome.detail == f"running, at pc {address_of(path, 'here'):#x}"
    assert outcome.registers["x5"] == 77
    assert set(outcome.registers) == {*(f"x{number}" for number in range(31)), "sp", "pc"}


def test_sleep_is_told_from_running(image: Image, board: Board) -> None:
    path = image("test: nop\n .globl here\nhere: wfi\n b here")
    outcome = run(path, board, 0.2)
    assert outcome.end is End.TIME_LIMIT
    assert outcome.detail == f"asleep in wfi, at pc {address_of(path, 'here'):#x}"


def test_a_time_limit_that_is_over_ends_at_once(image: Image, board: Board) -> None:
    assert run(image("test: b ."), board, 0).end is End.TIME_LIMIT


def test_it_runs_in_any_thread(image: Image, board: Board) -> None:
    path, outcomes = image("test: b ."), list[Outcome]()
    thread = threading.Thread(target=lambda: outcomes.append(run(path, board, 0.2)))
    thread.start()
    thread.join()
    assert [outcome.end for outcome in outcomes] == [End.TIME_LIMIT]


@pytest.mark.parametrize("loop", ["b .", "1: wfi\n b 1b", "1: putc 'z'\n b 1b"], ids=["spin", "sleep", "send"])
def test_ctrl_c_ends_the_run_as_an_outcome(image: Image, board: Board, loop: str) -> None:
    path = image(f"test: putc 'z'\n {loop}")
    with driven("embedded", path, board) as process:
        process.send_signal(signal.SIGINT)
        assert rest(process).lstrip(b"z") == b"[INTERRUPTED]\n"
        assert process.wait() == 0


def test_the_handler_of_ctrl_c_is_put_back(image: Image, board: Board) -> None:
    before = signal.getsignal(signal.SIGINT)
    run(image("test: exit 0"), board)
    assert signal.getsignal(signal.SIGINT) is before
    assert signal.set_wakeup_fd(-1) == -1


# Watching.


def test_a_watched_instruction_is_counted(image: Image, board: Board) -> None:
    path = image("""
test:   mov     x5, #0
        .globl  loop, after
loop:   add     x5, x5, #1
        cmp     x5, #100
        b.ne    loop
after:  exit    0
""")
    counts = {"loop": 0, "after": 0}

    def prepare(machine: Machine) -> None:
        for name in counts:

            def count(machine: Machine, name: str = name) -> None:
                counts[name] += 1

            machine.watch(address_of(path, name), count)

    assert embedded.run(path, board, LIMIT, prepare=prepare).exit_code == 0
    assert counts == {"loop": 100, "after": 1}


def test_a_watch_sees_memory_and_registers_before_the_instruction(image: Image, board: Board) -> None:
    path = image("""
test:   address x1, RAM
        mov     x2, #42
        .globl  here, behind
here:   str     x2, [x1]
behind: mov     x2, #43
        exit    0
""")
    seen: list[tuple[str, int, int]] = []
    machine = Machine(board)
    machine.load(path)
    for name in ("here", "behind"):

        def look(machine: Machine, name: str = name) -> None:
            (value,) = struct.unpack("<Q", machine.read(board.bss, 8))
            seen.append((name, value, machine.register("x2")))

        machine.watch(address_of(path, name), look)
    assert machine.run(LIMIT).exit_code == 0
    assert seen == [("here", 0, 42), ("behind", 42, 42)]


def test_an_error_in_a_watch_is_raised(image: Image, board: Board) -> None:
    path = image("test: exit 0")

    def fail(machine: Machine) -> None:
        raise ZeroDivisionError

    def prepare(machine: Machine) -> None:
        machine.watch(address_of(path, "test"), fail)

    with pytest.raises(ZeroDivisionError):
        embedded.run(path, board, LIMIT, prepare=prepare)


def test_memory_can_be_read_after_the_run(image: Image, board: Board) -> None:
    path = image("test: address x1, RAM + 64\n mov x2, #0x1234\n str x2, [x1]\n exit 0")
    machine = Machine(board)
    machine.load(path)
    machine.run(LIMIT)
    assert machine.read(board.bss + 64, 8) == struct.pack("<Q", 0x1234)
    with pytest.raises(ValueError, match="no memory"):
        machine.read(board.ram.end, 1)


def test_memory_is_read_where_the_guest_has_mapped_it(image: Image, board: Board) -> None:
    """A gigabyte of addresses after RAM's is mapped to RAM's."""
    assert board.text >> 30 == 0
    window = (board.ram.origin >> 30) + 1
    entries = {0: 0x405, board.ram.origin >> 30: (board.ram.origin >> 30 << 30) | 0x705}
    entries[window] = entries[board.ram.origin >> 30]
    quads = "\n".join(f" .quad {entries.get(index, 0):#x}" for index in range(512))
    path = image(f"""
        .balign 4096
table:  {quads}
test:   address x1, RAM + 8
        mov     x2, #0x99
        str     x2, [x1]
        adr     x0, table
        msr     TTBR0_EL1, x0
        mov     x0, #0xff00
        msr     MAIR_EL1, x0
        address x0, 0x803519
        msr     TCR_EL1, x0
        isb
        mrs     x0, SCTLR_EL1
        orr     x0, x0, #1
        msr     SCTLR_EL1, x0
        isb
        address x1, {(window << 30) + 0x100:#x} // the block of semihosting, at its new address
        movz    x3, #0x26
        movk    x3, #2, lsl #16
        mov     x4, #6
        stp     x3, x4, [x1]
        mov     w0, #0x18
        hlt     #0xf000
""")
    machine = Machine(board)
    machine.load(path)
    outcome = machine.run(LIMIT)
    assert (outcome.end, outcome.exit_code) == (End.EXIT, 6), outcome.detail
    offset = board.bss - board.ram.origin + 8
    assert machine.read((window << 30) + offset, 8) == struct.pack("<Q", 0x99)


# What it refuses.


def test_an_unknown_processor_is_refused(image: Image, board: Board) -> None:
    with pytest.raises(UserError, match="no processor 'cortex-m3'") as caught:
        run(image("test: exit 0"), dataclasses.replace(board, cpu="cortex-m3"))
    assert "cortex-a72" in caught.value.hint


def test_an_image_that_does_not_fit_the_board_is_refused(image: Image, board: Board) -> None:
    small = dataclasses.replace(board.flash, length=board.text - board.flash.origin)
    regions = (small, *(region for region in board.regions if region != board.flash))
    with pytest.raises(UserError, match="does not fit the board's memory") as caught:
        run(image("test: exit 0"), dataclasses.replace(board, regions=regions))
    assert f"{board.text:#x}" in caught.value.message


def test_an_image_with_nothing_to_load_is_refused(image: Image, board: Board) -> None:
    path = image("test: exit 0")
    with pytest.raises(UserError, match="nothing in it is to be loaded"):
        run(path.with_suffix(".o"), board)


def test_a_file_that_is_no_image_is_refused(tmp_path: Path, board: Board) -> None:
    path = tmp_path / "kernel.elf"
    path.write_text("not an image")
    with pytest.raises(UserError, match="not an ELF file"):
        run(path, board)


def test_the_entry_is_where_the_code_is_stored(image: Image, board: Board, tmp_path: Path) -> None:
    """The header's entry is an address of the running program; the core starts at the load address."""
    path = image("test: adr x19, .\n lsr x19, x19, #20\n b leave")
    data = bytearray(path.read_bytes())
    entry, headers = struct.unpack_from("<QQ", data, 24)
    shift = 1 << 36
    struct.pack_into("<Q", data, 24, entry + shift)
    (virtual,) = struct.unpack_from("<Q", data, headers + 16)
    struct.pack_into("<Q", data, headers + 16, virtual + shift)
    moved = tmp_path / "moved.elf"
    moved.write_bytes(data)
    assert run(moved, board).exit_code == board.text >> 20


# Exception levels above the kernel's.


@pytest.mark.parametrize("level", [1, 2, 3])
def test_a_core_leaves_reset_at_the_boards_level(image: Image, board: Board, level: int) -> None:
    path = image("test: mrs x0, CurrentEL\n lsr x19, x0, #2\n b leave")
    assert run(path, dataclasses.replace(board, exception_level=level)).exit_code == level


@pytest.mark.parametrize(
    ("level", "instruction", "words"),
    [
        (3, "svc #5", "svc #0x5 at EL3, which is taken to EL3"),
        (3, "brk #6", "brk #0x6 at EL3, which is taken to EL3"),
        (2, "svc #7", "svc #0x7 at EL2, which is taken to EL2"),
        (2, ".word 0", "undefined instruction at EL2, which is taken to EL2"),
        (2, "msr scr_el3, x0", "undefined instruction at EL2, which is taken to EL2"),
        (2, "hvc #0", "at EL2, which is taken to EL2"),
    ],
)
def test_an_exception_above_el1_ends_the_run(
    image: Image, board: Board, level: int, instruction: str, words: str
) -> None:
    path = image(f"test: nop\n .globl here\nhere: {instruction}\n exit 0")
    outcome = run(path, dataclasses.replace(board, exception_level=level))
    assert outcome.end is End.FAULT
    assert words in outcome.detail
    assert outcome.detail.endswith(": nothing handles it there")


BELOW_EL2 = """
test:   mov     x0, #0x80000000
        msr     HCR_EL2, x0
        mov     x0, #0x3c5
        msr     SPSR_EL2, x0
        adr     x0, below
        msr     ELR_EL2, x0
        eret
below:  address x0, RAM_END
        mov     sp, x0
"""


def test_a_call_of_what_is_above_the_kernel_ends_the_run(image: Image, board: Board) -> None:
    outcome = run(image(f"{BELOW_EL2} hvc #0\n exit 0"), dataclasses.replace(board, exception_level=2))
    assert outcome.end is End.FAULT
    assert "hvc at EL1, which is taken to EL2" in outcome.detail


def test_exceptions_of_el1_are_taken_there_also_below_an_el2(image: Image, board: Board, vectors: str) -> None:
    path = image(f"{vectors} {BELOW_EL2} handle\n svc #9\n exit 0")
    outcome = run(path, dataclasses.replace(board, exception_level=2))
    assert outcome.end is End.EXIT
    (report,) = outcome.serial.splitlines()
    assert int(report.split()[1], 16) >> 26 == 0x15  # ESR_EL1: svc
    assert int(report.split()[5], 16) >> 2 == 1  # CurrentEL
