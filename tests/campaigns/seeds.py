"""A small image of the structure a kernel's has, to begin with: assembled and linked in a moment."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from buildsys.config import board as boards
from buildsys.errors import UserError
from buildsys.formats.elf import Elf
from buildsys.formats.patch import patch, resolve
from buildsys.go.runtime import plan
from buildsys.toolchains import gnu, zig
from buildsys.toolchains.binary import BinaryToolchain
from tests.campaigns.fuzzing import Seed

ENTRY = "main.KernelMain"
GO = """
.macro function name
    .type \\name, %function
\\name:
.endm
.macro end name
    .size \\name, . - \\name
.endm
    .section .text.runtime, "ax"
    function runtime.gcWriteBarrier1
    adrp x27, runtime.writeBarrier
    ldr w27, [x27, :lo12:runtime.writeBarrier]
    bl runtime.throw
    ret
    end runtime.gcWriteBarrier1
    function runtime.gcWriteBarrier2
    ret
    end runtime.gcWriteBarrier2
    function runtime.wbZero
    cbz x0, runtime.wbZero
    ret
    end runtime.wbZero
    function runtime.throw
    bl runtime.throw
    end runtime.throw
    .section .text.main, "ax"
    function main.idle
    adr x1, main.idle
    adrp x2, main.methods
    add x2, x2, :lo12:main.methods
    ldr x3, [x2, #8]
    blr x3
    b.ne main.idle
    ret
    end main.idle
    .globl main.KernelMain
    function main.KernelMain
    adrp x0, runtime.writeBarrier
    ldr w0, [x0, :lo12:runtime.writeBarrier]
    cbz w0, 1f
    bl runtime.gcWriteBarrier2
    stp x1, x2, [x25]
1:  adrp x3, main.head
    str x1, [x3, :lo12:main.head]
    adrp x27, runtime.writeBarrier
    ldr w27, [x27, :lo12:runtime.writeBarrier]
    tbz w27, #0, 2f
    bl runtime.gcWriteBarrier1
    bl runtime.wbZero
2:  bl main.idle
    bl runtime.throw
    end main.KernelMain
    .section .rodata
    .type main.methods, %object
main.methods: .quad main.idle, main.idle, main.head
    .size main.methods, 24
    .data
    .type main.data, %object
main.data: .quad main.methods, 7
    .size main.data, 16
    .bss
    .balign 16
    .globl runtime.writeBarrier, main.heapSegmentListHead, runtime.g0
    .type runtime.writeBarrier, %object
runtime.writeBarrier: .space 16
    .size runtime.writeBarrier, 4
    .type main.head, %object
main.heapSegmentListHead:
main.head: .space 16
    .size main.head, 8
    .type runtime.g0, %object
runtime.g0: .space 512
    .size runtime.g0, 512
"""
OURS = """
    .globl _start, runtime.gcWriteBarrier1, runtime.gcWriteBarrier2, runtime.wbZero, runtime.throw
    .type _start, %function
_start:
    ldr x1, =__stack_high
    mov sp, x1
    adrp x0, __data_low
    add x0, x0, :lo12:__data_low
    adrp x2, runtime.writeBarrier
    add x2, x2, :lo12:runtime.writeBarrier
    mov w3, #1
    str w3, [x2]
    dsb sy
    isb
    adrp x28, runtime.g0
    add x28, x28, :lo12:runtime.g0
    ldr x4, =main.KernelMain
    blr x4
1:  wfi
    b 1b
    .size _start, . - _start
    .type runtime.gcWriteBarrier1, %function
runtime.gcWriteBarrier1:
    adrp x25, buildsys.slots
    add x25, x25, :lo12:buildsys.slots
    ret
    .size runtime.gcWriteBarrier1, . - runtime.gcWriteBarrier1
    .type runtime.gcWriteBarrier2, %function
runtime.gcWriteBarrier2:
    adrp x25, buildsys.slots
    add x25, x25, :lo12:buildsys.slots
    ret
    .size runtime.gcWriteBarrier2, . - runtime.gcWriteBarrier2
    .type runtime.wbZero, %function
runtime.wbZero: ret
    .size runtime.wbZero, 4
    .type runtime.throw, %function
runtime.throw: b runtime.throw
    .size runtime.throw, 4
    .bss
    .balign 16
    .type buildsys.slots, %object
buildsys.slots: .space 64
    .size buildsys.slots, 64
"""
SCRIPT = """ENTRY(_start)
PHDRS {{ text PT_LOAD FLAGS(5); rodata PT_LOAD FLAGS(4); bss PT_LOAD FLAGS(6); data PT_LOAD FLAGS(6); }}
SECTIONS
{{
    . = {text:#x};
    .text : {{ *(.text .text.*) }} :text
    .rodata ALIGN(4096) : {{ *(.rodata) }} :rodata
    __data_source = ALIGN(16);
    .bss {bss:#x} : {{ *(.bss) }} :bss
    .data ALIGN(16) : AT(__data_source) {{ __data_low = .; *(.data) . = ALIGN(16); __data_high = .; }} :data
    __exception_stack_low = ALIGN(16); __exception_stack_high = __exception_stack_low + {exceptions:#x};
    __stack_low = __exception_stack_high; __stack_high = __stack_low + {stack:#x};
    __heap_low = __stack_high; __heap_high = {ram:#x};
    .symtab 0 : {{ *(.symtab) }}
    .strtab 0 : {{ *(.strtab) }}
    .shstrtab 0 : {{ *(.shstrtab) }}
    /DISCARD/ : {{ *(.comment .note.GNU-stack .ARM.attributes .eh_frame) }}
}}
"""


def small(folder: Path, name: str, tools: BinaryToolchain) -> tuple[Seed, ...]:
    """The small image linked by `tools`: redirected, as it was before, and its Go object in the place of an image."""
    board = boards.load("qemu-virt", "the tests")
    sources = {"go": GO, "ours": OURS}
    objects = []
    for each, text in sources.items():
        (folder / f"{each}.s").write_text(text)
        objects.append(folder / f"{name}.{each}.o")
        zig.toolchain().assemble(folder / f"{each}.s", objects[-1])
    script, unpatched, image = folder / "small.ld", folder / f"{name}.unpatched.elf", folder / f"{name}.elf"
    script.write_text(
        SCRIPT.format(
            text=board.text,
            bss=board.bss,
            ram=board.ram.end,
            exceptions=board.exception_stack,
            stack=board.stack,
        )
    )
    # GNU ld has sections of its own to place, empty ones.
    replace(tools, linker=(*tools.linker, "--orphan-handling=place")).link(script, objects, unpatched)
    made = Elf.read(objects[0])
    asked = plan({function.name for function in made.symbols.functions()}, name)
    before = Elf.read(unpatched)
    done = patch(before, resolve(before, asked.called), resolve(before, asked.entered))
    assert done.rewrites
    assert done.entries
    image.write_bytes(done.contents)
    barrier = "runtime.gcWriteBarrier1"

    def seed(title: str, path: Path) -> Seed:
        redirects = (f"{barrier}={barrier}", "main.idle=main.KernelMain", f"{board.text:#x}=main.idle")
        return Seed(title, path, unpatched, objects[0], board, ENTRY, asked, redirects)

    return seed(name, image), seed(f"{name}, unpatched", unpatched), seed(f"{name}, object", objects[0])


def toolchains() -> dict[str, BinaryToolchain]:
    """By the name of the linker; GNU's where it is installed."""
    found = {"lld": zig.toolchain()}
    with suppress(UserError):
        found["GNU ld"] = gnu.toolchain()
    return found
