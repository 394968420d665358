"""A few lines of assembly, linked as an image is: code in flash, variables in RAM, relocations kept."""

from __future__ import annotations

from pathlib import Path

from buildsys.formats.elf import Elf
from buildsys.toolchains import choice

TEXT, DATA = 0x20_0000, 0x4000_0000
SCRIPT = """SECTIONS
{{
    .text {text:#x} : {{ *(.text) }}
    .data {data:#x} : {{ *(.data) }}
    .bss : {{ *(.bss) }}
    .stacks : {{ *(.stacks) }}
    .symtab 0 : {{ *(.symtab) }}
    .strtab 0 : {{ *(.strtab) }}
    .shstrtab 0 : {{ *(.shstrtab) }}
    .comment 0 : {{ *(.comment) }}
    .debug_frame 0 : {{ *(.debug_frame) }}
    /DISCARD/ : {{ *(.note.GNU-stack) *(.ARM.attributes) }}
}}
"""


def linked(folder: Path, source: str, data: int = DATA) -> Elf:
    """The image of `source`; its variables begin at `data`."""
    assembly, script, image = folder / "snippet.s", folder / "snippet.ld", folder / "snippet.elf"
    assembly.write_text(source + "\n")
    script.write_text(SCRIPT.format(text=TEXT, data=data))
    tools = choice.find("zig")
    tools.assemble(assembly, assembly.with_suffix(".o"))
    tools.link(script, [assembly.with_suffix(".o")], image)
    return Elf.read(image)


def function(name: str, *code: str) -> str:
    """Assembly of a local function."""
    body = "\n    ".join(code)
    return f"    .type {name}, %function\n{name}:\n    {body}\n    .size {name}, . - {name}\n"


def variable(name: str, size: int) -> str:
    """Assembly of a local variable of zeros."""
    return f".bss\n.balign 8\n.type {name}, %object\n{name}: .space {size}\n.size {name}, {size}\n.text\n"
