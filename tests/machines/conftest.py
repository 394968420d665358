"""Small AArch64 images, assembled and linked where the board says, for both emulators."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from buildsys.config import board as boards
from buildsys.config.board import Board
from buildsys.machines import qemu

Image = Callable[[str], Path]

# x19 to x30 belong to these routines; a test's own code keeps to x0 to x18.
PRELUDE = """
        .equ    UART, {uart}
        .equ    FLASH, {flash}
        .equ    FLASH_SIZE, {flash_size}
        .equ    RAM, {ram}
        .equ    RAM_END, {ram_end}
        .equ    EXCEPTION_STACK, {exception_stack}
        .equ    SPARE_FLASH, {spare_flash}
        .equ    NOTHING, {nothing}

        .macro  address register, value
        movz    \\register, #(\\value) & 0xffff
        movk    \\register, #(\\value) >> 16 & 0xffff, lsl #16
        .endm

        .macro  putc byte
        mov     w19, #\\byte
        bl      send
        .endm

        .macro  puthex register             // 16 digits and a space
        mov     x20, \\register
        bl      send_hex
        .endm

        .macro  exit code
        mov     x19, #\\code
        b       leave
        .endm

        .text
        .globl  _start
_start: address x19, RAM_END
        mov     sp, x19
        b       test

send:   address x22, UART                   // in: w19; clobbered: x22
        str     w19, [x22]
        ret

send_hex:                                   // in: x20; clobbered: x19 to x24
        mov     x24, x30
        mov     x23, #60
1:      lsr     x19, x20, x23
        and     w19, w19, #15
        cmp     w19, #10
        add     w21, w19, #'0'
        add     w19, w19, #'a' - 10
        csel    w19, w21, w19, lo
        bl      send
        subs    x23, x23, #4
        b.pl    1b
        mov     w19, #' '
        bl      send
        ret     x24

leave:  address x1, RAM                     // in: x19, the exit code
        movz    x20, #0x26
        movk    x20, #2, lsl #16
        stp     x20, x19, [x1]
        mov     w0, #0x18
        hlt     #0xf000
        b       .
"""

SCRIPT = """
ENTRY(_start)
PHDRS { text PT_LOAD FLAGS(5); data PT_LOAD FLAGS(6); }
SECTIONS {
    . = %#x;
    .text : { *(.text*) *(.rodata*) } :text
    .data %#x : AT(ADDR(.text) + SIZEOF(.text)) { *(.data*) *(.bss*) } :data
}
"""


@pytest.fixture(scope="session")
def board() -> Board:
    return boards.load("qemu-virt", "the tests")


@pytest.fixture(scope="session")
def image(board: Board, tmp_path_factory: pytest.TempPathFactory) -> Image:
    """Make an image of assembly text that defines `test`, where execution gets after the stack is set."""
    folder = tmp_path_factory.mktemp("images")
    script = folder / "image.ld"
    script.write_text(SCRIPT % (board.text, board.bss))

    def make(source: str) -> Path:
        path = folder / f"{len(list(folder.iterdir()))}.elf"
        text = prelude(board) + source
        assemble(text, path, script)
        return path

    return make


def prelude(board: Board) -> str:
    """The routines every image has, with the board's addresses."""
    ram = board.ram
    nothing = board.ram.end
    assert board.region_at(nothing) is None, "the board has something right after its RAM"
    return PRELUDE.format(
        uart=board.uart.base,
        flash=board.flash.origin,
        flash_size=board.flash.length,
        ram=board.bss,
        ram_end=ram.end,
        exception_stack=ram.end - board.stack,
        spare_flash=board.text + 0x10_0000,
        nothing=nothing,
    )


def assemble(text: str, path: Path, script: Path) -> None:
    package = importlib.util.find_spec("ziglang")
    assert package is not None, "zig is a dependency of the project"
    assert package.origin is not None
    zig = str(Path(package.origin).parent / "zig")
    source, made = path.with_suffix(".s"), path.with_suffix(".o")
    source.write_text(text)
    subprocess.run([zig, "clang", "-target", "aarch64-none-elf", "-c", source, "-o", made], check=True)
    subprocess.run([zig, "ld.lld", "-m", "aarch64elf", "-T", script, made, "-o", path], check=True)


@pytest.fixture(scope="session")
def needs_qemu() -> None:
    needs(qemu.PROGRAM, qemu.INSTALL)


def needs(program: str, install: str) -> None:
    """Skip where `program` is missing; on CI, where nothing may be skipped, fail."""
    if shutil.which(program):
        return
    reason = f"{program} is not installed ({install})"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


DRIVER = """
import sys
from pathlib import Path
from buildsys.config import board
from buildsys.machines import {module}

def show(data):
    sys.stdout.buffer.write(data)
    sys.stdout.flush()

outcome = {module}.run(Path({image!r}), board.load({board!r}, "the test"), {limit}, on_serial=show)
print(f"[{{outcome.end.name}}]")
"""


def driver(module: str, image: Path, board: Board, limit: float = 600) -> list[str]:
    """A command that runs `image` in a process of its own, shows its serial output and then how it ended."""
    text = DRIVER.format(module=module, image=str(image), board=str(board.path), limit=limit)
    return [sys.executable, "-c", text]


@contextlib.contextmanager
def driven(module: str, image: Path, board: Board) -> Iterator[subprocess.Popen[bytes]]:
    """driver()'s process, just when the guest has sent its "z"; ended afterwards, whatever happens."""
    with subprocess.Popen(driver(module, image, board), stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert read(process.stdout.fileno(), 1) == b"z"
            yield process
        finally:
            process.kill()


def running(image: Path) -> list[int]:
    """The processes, other than this one, that name `image` in their arguments and are no Python."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                arguments = (entry / "cmdline").read_bytes().split(b"\0")
                if str(image).encode() in arguments[1:] and b"python" not in arguments[0]:
                    found.append(int(entry.name))
    return found


def read(file: int, size: int = 65536) -> bytes:
    """What `file` has next, at most `size` bytes, none at its end; fails if there is nothing for a minute."""
    assert select.select([file], [], [], 60)[0], "nothing more was said"
    return os.read(file, size)


def rest(process: subprocess.Popen[bytes]) -> bytes:
    """What `process` still says up to its end."""
    assert process.stdout is not None
    file = process.stdout.fileno()
    return b"".join(iter(lambda: read(file), b""))


def gone(image: Path) -> bool:
    """Whether nothing runs `image` any more, given a moment to die."""
    for _ in range(200):
        if not running(image):
            return True
        time.sleep(0.05)
    return False


# Every synchronous vector prints what an exception changes and returns behind the
# instruction, or to the address in x18 and with the PSTATE in x17 if those are not 0.
VECTORS = """
        .balign 2048
vectors:
        .rept   16
        .balign 128
        adr     x25, .
        b       report
        .endr

report: adr     x26, vectors
        sub     x25, x25, x26
        puthex  x25
        mrs     x25, ESR_EL1
        puthex  x25
        mrs     x25, ELR_EL1
        puthex  x25
        mrs     x25, SPSR_EL1
        puthex  x25
        mrs     x25, FAR_EL1
        puthex  x25
        mrs     x25, CurrentEL
        puthex  x25
        mrs     x25, DAIF
        puthex  x25
        mrs     x25, SPSel
        puthex  x25
        mov     x25, sp
        puthex  x25
        mrs     x25, SP_EL0
        puthex  x25
        putc    '\\n'
        mrs     x25, ELR_EL1
        mrs     x26, ESR_EL1
        lsr     x26, x26, #26
        cmp     x26, #0x15                  // an svc already returns behind itself
        b.eq    1f
        add     x25, x25, #4
1:      cmp     x18, #0
        csel    x25, x18, x25, ne
        mov     x18, #0
        msr     ELR_EL1, x25
        cbz     x17, 1f
        msr     SPSR_EL1, x17
1:
        eret

        .macro  handle                      // use the vectors; SP_EL0 gets a stack of its own
        adr     x0, vectors
        msr     VBAR_EL1, x0
        address x0, EXCEPTION_STACK
        msr     SP_EL0, x0
        mov     x17, #0
        mov     x18, #0
        isb
        .endm
"""


@pytest.fixture(scope="session")
def vectors() -> str:
    return VECTORS
