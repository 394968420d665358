"""The claim about where everything lies, and images in which something lies elsewhere."""

from __future__ import annotations

import dataclasses
import re
import struct
import subprocess
from pathlib import Path

import pytest

from buildsys.front.steps import Steps
from buildsys.go.runtime import FLAG
from buildsys.machines import qemu
from buildsys.proof.case import Case
from buildsys.proof.claims import boot_code, memory_map
from buildsys.proof.claims.memory_map import DEVICE_TREE, device_tree
from tests.binutils import binutils
from tests.machines.conftest import needs

from .conftest import OnlyRed
from .mutants import edited, relinked

PHDR = struct.Struct("<IIQQQQQQ")
HEAP = "    __heap_low   = __stack_high;\n"


def segment_at(case: Case, index: int) -> int:
    """The file offset of a program header."""
    (start,) = struct.unpack_from("<Q", case.elf.data, 32)
    return int(start) + PHDR.size * index


def segment_of(case: Case, name: str) -> int:
    """The index of the segment that a section lies in."""
    section = case.elf.section(name)
    assert section is not None
    return next(index for index, each in enumerate(case.elf.segments) if each.vma == section.address)


def symbol(case: Case, name: str) -> int:
    return case.elf.symbols.addresses(name)[name]


def test_the_reference_kernel_passes(case: Case) -> None:
    verdict = memory_map.check(case)
    assert verdict.passed, verdict.details
    bss = case.elf.section(".bss")
    assert bss is not None
    assert bss.address == case.board.bss


def test_readelf_sees_the_same_sections(case: Case) -> None:
    """Addresses, sizes and load addresses as GNU readelf tells them, told from what the claim reports."""
    said = binutils("readelf", "-lSW", case.image)
    section = re.compile(r"^ +\[ *\d+\] (\S+) +(?:PROGBITS|NOBITS) +([0-9a-f]+) \S+ ([0-9a-f]+) \S+ +(\S*A\S*) ", re.M)
    segment = re.compile(r"^ +LOAD +0x\S+ 0x(\S+) 0x(\S+) 0x\S+ 0x(\S+) ", re.M)
    loads = [tuple(int(field, 16) for field in match) for match in segment.findall(said)]
    told = {}
    for name, at, size, flags in section.findall(said):
        if "T" not in flags:
            address = int(at, 16)
            (stored,) = (lma + address - vma for vma, lma, length in loads if vma <= address < vma + length)
            told[name] = {"address": hex(address), "size": int(size, 16), "load address": hex(stored)}
    assert {".text", ".rodata", ".data", ".bss"} <= told.keys()
    assert memory_map.check(case).evidence["sections"] == told


def test_zeroed_data_elsewhere_is_seen(built: Steps, case: Case, tmp_path: Path, only_red: OnlyRed) -> None:
    board = dataclasses.replace(case.board, bss=case.board.bss + 0x1000)
    mutant = relinked(built, case, tmp_path, {}, board)
    said = only_red(".bss a page further", mutant, "memory-map").figure
    assert f"begins at {board.bss:#x}" in said
    assert f"{case.board.bss:#x}" in said


def test_code_elsewhere_is_seen(built: Steps, case: Case, tmp_path: Path, only_red: OnlyRed) -> None:
    board = dataclasses.replace(case.board, text=case.board.text + 0x1000)
    mutant = relinked(built, case, tmp_path, {}, board)
    said = only_red(".text a page further", mutant, "memory-map").figure
    assert f"({board.text:#x}.." in said
    assert "with _start" in said


def test_writable_data_in_flash_is_seen(built: Steps, case: Case, tmp_path: Path, only_red: OnlyRed) -> None:
    """What was wrong with the seed's first image, but for variables with initial values."""
    script = {"*(.rodata .rodata.*)": "*(.rodata .rodata.*) *(.noptrdata)", "*(.data) *(.noptrdata)": "*(.data)"}
    mutant = relinked(built, case, tmp_path, {"kernel.ld.j2": script})
    verdict = only_red(".noptrdata in flash", mutant, "memory-map")
    rodata = mutant.elf.section(".rodata")
    assert rodata is not None
    assert f".rodata ({rodata.address:#x}" in verdict.figure
    assert "but lies in flash: a write there is lost" in verdict.figure


def test_data_moved_to_flash_is_seen(built: Steps, case: Case, tmp_path: Path, only_red: OnlyRed) -> None:
    """Boot code is wrong, too: it then copies .data onto itself, in flash, where nothing can be stored."""
    script = {"} >RAM{{ stored }} :data\n    __data_load": "} >FLASH :data\n    __data_load"} | {
        "ALIGN(__data_end, 4096)": "ALIGN(__bss_end, 4096)",
        ".tbss : { *(.tbss .tbss.*) } >RAM{{ stored }}": ".tbss : { *(.tbss .tbss.*) } >FLASH",
    }
    mutant = relinked(built, case, tmp_path, {"kernel.ld.j2": script})
    verdict = only_red(".data in flash", mutant, "memory-map", also={"boot-code"})
    data = mutant.elf.section(".data")
    assert data is not None
    assert f".data ({data.address:#x}" in verdict.figure
    assert "flash" in verdict.figure


def test_bss_in_flash_is_seen(built: Steps, case: Case, tmp_path: Path, only_red: OnlyRed) -> None:
    """The seed's "before the fix".

    Boot code is wrong, too: it clears, and sets the flag, where nothing is stored; so are
    our barrier functions, whose slots are in .bss.
    """
    script = {"} >{{ variant.zeroed }} :bss": "} >FLASH :bss"}
    mutant = relinked(built, case, tmp_path, {"kernel.ld.j2": script})
    verdict = only_red(".bss in flash", mutant, "memory-map", also={"boot-code", "handlers"})
    assert any("may be written, but lies in flash" in detail for detail in verdict.details)
    said = boot_code.check(mutant).figure
    assert f"{FLAG} at {mutant.flag:#x} lies in flash" in said


def test_a_segment_written_and_run_is_seen(case: Case, tmp_path: Path, only_red: OnlyRed) -> None:
    data = segment_of(case, ".data")
    mutant = edited(case, tmp_path, {segment_at(case, data) + 4: b"\x07"})
    said = only_red("the segment of .data made RWX", mutant, "memory-map").figure
    segment = case.elf.segments[data]
    assert f"segment {data} at {segment.vma:#x}" in said
    assert "both written and executed" in said


def test_a_segment_with_other_rights_than_its_section_is_seen(case: Case, tmp_path: Path, only_red: OnlyRed) -> None:
    rodata = segment_of(case, ".rodata")
    mutant = edited(case, tmp_path, {segment_at(case, rodata) + 4: b"\x06"})
    # The page tables are in it, and what may be written may be another table when it is used.
    said = only_red("the segment of .rodata made writable", mutant, "memory-map", also={"boot-code"}).figure
    assert ".rodata" in said
    assert "disagree on whether they may be written" in said


def test_a_segment_that_lies_beside_its_section_is_seen(case: Case, tmp_path: Path, only_red: OnlyRed) -> None:
    rodata = segment_of(case, ".rodata")
    at = segment_at(case, rodata) + 16
    moved = case.elf.segments[rodata].vma - 0x1000
    mutant = edited(case, tmp_path, {at: moved.to_bytes(8, "little")})
    verdict = only_red("the address of the segment of .rodata a page lower", mutant, "memory-map")
    beside = f"and segment {rodata} ({moved:#x}.."
    assert any(detail.startswith(".rodata (") and beside in detail for detail in verdict.details)


@pytest.mark.parametrize(
    ("what", "old", "new", "said"),
    [
        (
            "the exception stack on .data",
            "ALIGN(__data_end, 4096)",
            "__data_start",
            ".data",
        ),
        (
            "the guard of the stack on that of exceptions",
            "ALIGN(__exception_stack_high, 4096)",
            "__exception_stack_high - 4096",
            "the guard of the stack",
        ),
        ("the heap on the stack", HEAP, "    __heap_low = __stack_low;\n", "the heap"),
        ("the stack 16 bytes short", "= __stack_low + {{", "= __stack_low - 16 + {{", "__stack_high"),
        (
            "the heap beyond RAM",
            "__heap_high  = __alloc_low",
            "__heap_high = {{ board.ram.end }} + 4096",
            "the heap",
        ),
        ("the heap in a device", HEAP, "    __heap_low = {{ board.uart.base }};\n", "__heap_low"),
    ],
)
def test_what_lies_on_something_else_is_seen(
    built: Steps, case: Case, tmp_path: Path, only_red: OnlyRed, what: str, old: str, new: str, said: str
) -> None:
    mutant = relinked(built, case, tmp_path, {"kernel.ld.j2": {old: new}})
    assert said in only_red(what, mutant, "memory-map").figure


def test_code_on_qemus_device_tree_is_seen(built: Steps, case: Case, tmp_path: Path, only_red: OnlyRed) -> None:
    board = dataclasses.replace(case.board, text=DEVICE_TREE // 2)
    mutant = dataclasses.replace(relinked(built, case, tmp_path, {}, board), board=board)
    said = only_red("code where QEMU puts its device tree", mutant, "memory-map").figure
    assert f".text {board.text:#x}" in said
    assert "device tree 0x0..0x100000" in said


def test_a_section_outside_the_board_is_seen(built: Steps, case: Case, tmp_path: Path, only_red: OnlyRed) -> None:
    """Our barrier functions cannot be shown right, too: the emulator does not load what lies outside the board."""
    beyond = case.board.ram.end + 0x1000_0000
    script = {
        "MEMORY\n{": f"MEMORY\n{{\n    BEYOND : ORIGIN = {beyond:#x}, LENGTH = 64M\n",
        "PHDRS\n{": "PHDRS\n{\n    beyond PT_LOAD FLAGS(4);\n",
        " *(.gopclntab) ": " ",
        "    .bss {{": "    .gopclntab : { *(.gopclntab) } >BEYOND :beyond\n    .bss {{",
    }
    mutant = relinked(built, case, tmp_path, {"kernel.ld.j2": script})
    said = only_red("a section where the board has nothing", mutant, "memory-map", also={"handlers"}).figure
    assert f".gopclntab ({beyond:#x}" in said
    assert "runtime.pclntab" in said
    assert "no region of the board" in said


def test_initial_values_in_zeroed_memory_are_seen(built: Steps, case: Case, tmp_path: Path, only_red: OnlyRed) -> None:
    script = {"*(.bss .bss.*) *(.noptrbss)": "*(.bss .bss.*) *(.noptrbss) *(.noptrdata)"} | {
        "*(.data) *(.noptrdata)": "*(.data)"
    }
    mutant = relinked(built, case, tmp_path, {"kernel.ld.j2": script})
    said = only_red(".noptrdata in .bss", mutant, "memory-map").figure
    assert ".noptrdata of the Go object lies in .bss" in said
    assert "its bytes are lost" in said


def test_a_section_left_out_is_seen(case: Case, tmp_path: Path, only_red: OnlyRed) -> None:
    """As if the linker had dropped .go.fipsinfo: its symbol is gone."""
    strings = case.elf.section(".strtab")
    assert strings is not None
    at = case.elf.data.index(b"go:fipsinfo\0", strings.offset)
    mutant = edited(case, tmp_path, {at: b"gone"})
    said = only_red(".go.fipsinfo not in the image", mutant, "memory-map").figure
    assert ".go.fipsinfo of the Go object" in said
    assert "go:fipsinfo" in said


def test_vectors_out_of_line_are_seen(built: Steps, case: Case, tmp_path: Path, only_red: OnlyRed) -> None:
    mutant = relinked(
        built, case, tmp_path, {"fatal.s.j2": {"    .balign 2048\n": "    .balign 2048\n    .space 128\n"}}
    )
    said = only_red("the exception vectors 128 bytes further", mutant, "memory-map").figure
    assert f"{symbol(mutant, 'buildsys.vectors'):#x} (buildsys.vectors)" in said
    assert "2048" in said


def test_a_stack_out_of_line_is_seen(built: Steps, case: Case, tmp_path: Path, only_red: OnlyRed) -> None:
    """Boot code is wrong, too: it loads sp with that address, and sp must be a multiple of 16."""
    script = {"__stack_low  = __stack_guard + 4096;": "__stack_low = __stack_guard + 4104;"}
    mutant = relinked(built, case, tmp_path, {"kernel.ld.j2": script})
    verdict = only_red("the stack 8 bytes further", mutant, "memory-map", also={"boot-code"})
    assert f"__stack_low {symbol(mutant, '__stack_low'):#x}" in verdict.figure


def test_a_stack_without_a_guard_is_seen(built: Steps, case: Case, tmp_path: Path, only_red: OnlyRed) -> None:
    """Boot code is wrong, too: its tables unmap the first page of the stack, and map what is below it."""
    script = {"__stack_low  = __stack_guard + 4096;": "__stack_low = __stack_guard;"}
    mutant = relinked(built, case, tmp_path, {"kernel.ld.j2": script})
    verdict = only_red("no room for a guard below the stack", mutant, "memory-map", also={"boot-code"})
    assert "the guard of the stack (__stack_guard" in verdict.figure
    assert "has 0x0 bytes, and must have 0x1000 bytes" in verdict.figure


@pytest.mark.parametrize(
    ("vma", "lma", "expected"),
    [
        ("straddles the start of RAM", None, 0),
        ("below RAM", "flash", "base"),
        ("above the start of RAM, room below", "above", "base"),
        ("above the start of RAM, no room below", "just above", None),
    ],
)
def test_qemu_puts_its_device_tree_where_the_claim_says(
    case: Case, tmp_path: Path, vma: str, lma: str | None, expected: str | int | None
) -> None:
    """QEMU's own list of what it loads (`info roms`), for images stored elsewhere."""
    needs(qemu.PROGRAM, qemu.INSTALL)
    base = case.board.ram.origin
    path = case.image
    if lma is not None:
        start = {"flash": case.board.text, "above": base + 16 * DEVICE_TREE, "just above": base + DEVICE_TREE // 2}[lma]
        changes, at = {}, start
        for index, segment in enumerate(case.elf.segments):
            changes[segment_at(case, index) + 24] = at.to_bytes(8, "little")
            at += segment.memory_size + 0xFFFF & ~0xFFFF
        contents = bytearray(case.elf.data)
        for offset, new in changes.items():
            contents[offset : offset + 8] = new
        path = tmp_path / "stored-elsewhere.elf"
        path.write_bytes(contents)
    elf = dataclasses.replace(case, image=path).elf
    monitor = ["-S", "-monitor", "stdio", "-serial", "none", "-chardev", "null,id=console"]
    command = list(qemu.command(path, case.board))
    at = command.index("-monitor")
    del command[at : at + 2]
    done = subprocess.run([*command, *monitor], input="info roms\nquit\n", capture_output=True, text=True, check=True)
    found = re.search(r'addr=([0-9a-f]+) size=0x([0-9a-f]+) .*name="dtb"', done.stdout)
    told = None if found is None else int(found[1], 16)
    assert found is None or int(found[2], 16) == DEVICE_TREE
    assert told == (base if expected == "base" else expected), vma
    assert device_tree(elf, case.board) == told
