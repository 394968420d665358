"""C programs, compiled without a system under them, linked by two linkers and run on the embedded emulator."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from buildsys.config import board as boards
from buildsys.machines import embedded
from buildsys.machines.outcome import End
from buildsys.toolchains import choice

LINKERS = ("zig", "gnu")
LEVELS = ("-O0", "-O2")

START = """
        .globl  _start
        .type   _start, %function
_start: ldr     x1, =0x48000000
        mov     sp, x1
        bl      main
        ldr     x1, =0x47000000             // the reason, and the status
        mov     x2, #0x26
        movk    x2, #2, lsl #16
        stp     x2, x0, [x1]
        mov     w0, #0x18                   // SYS_EXIT
        hlt     #0xf000
        .size   _start, . - _start

        .globl  original.old                // filled in by the pass
        .type   original.old, %function
original.old:
        brk     #0
        brk     #0
        .size   original.old, . - original.old
"""

# Code in flash; what is called `.far` in RAM, 1 GiB away.
SCRIPT = """
PHDRS { text PT_LOAD FLAGS(5); far PT_LOAD FLAGS(5); data PT_LOAD FLAGS(6); }
SECTIONS {
    .text 0x200000 : { *(.text .text.*) *(.rodata .rodata.*) } :text
    .far 0x40000000 : { *(.far) } :far
    .data 0x41000000 : { *(.data .data.*) *(.bss .bss.*) } :data
    /DISCARD/ : { *(.comment) *(.note.GNU-stack) *(.ARM.attributes) }
}
"""

Compiled = Callable[..., Path]


@pytest.fixture(scope="session")
def linked(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    """Compile C sources with a level of optimisation and macros, link them with one of LINKERS; once for each."""
    folder = tmp_path_factory.mktemp("programs")
    made: dict[tuple[object, ...], Path] = {}

    def make(linker: str, level: str, *sources: str, macros: tuple[str, ...] = (), flags: tuple[str, ...] = ()) -> Path:
        key = (linker, level, sources, macros, flags)
        if key not in made:
            here = folder / str(len(made))
            here.mkdir()
            made[key] = _make(here, linker, level, sources, macros, flags)
        return made[key]

    return make


def _make(
    folder: Path, linker: str, level: str, sources: tuple[str, ...], macros: tuple[str, ...], flags: tuple[str, ...]
) -> Path:
    start, script, image = folder / "start.s", folder / "program.ld", folder / "program.elf"
    start.write_text(START)
    script.write_text(SCRIPT)
    compiler = choice.find("zig").assembler
    objects = [folder / "start.o"]
    subprocess.run([*compiler, str(start), "-o", str(objects[0])], check=True)
    for number, source in enumerate(sources):
        path = folder / f"{number}.c"
        path.write_text(source)
        objects.append(path.with_suffix(".o"))
        subprocess.run(
            [*compiler, level, "-ffreestanding", "-fno-asynchronous-unwind-tables", "-mgeneral-regs-only",
             "-mstrict-align", *(f"-D{macro}" for macro in macros), str(path), "-o", str(objects[-1])],
            check=True,
        )  # fmt: skip
    command = [
        *choice.find(linker).linker,
        "--orphan-handling=place",
        *flags,
        "-T",
        str(script),
        "-o",
        str(image),
        *map(str, objects),
    ]
    subprocess.run(command, check=True, capture_output=True)
    return image


def run(image: Path) -> str:
    """What the program sends before it exits with status 0."""
    outcome = embedded.run(image, boards.load("qemu-virt", "the tests"), 20)
    assert outcome.end is End.EXIT, (outcome.end, outcome.detail)
    assert outcome.exit_code == 0
    return outcome.serial.decode()
