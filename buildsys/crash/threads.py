"""The threads of a program that its supervisor keeps, each with the registers it goes on with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from buildsys.crash.view import Memory
from buildsys.formats.dwarf import layout
from buildsys.formats.elf import Elf

TASK = "kernel/supervisor/task."
MOST = 1024  # src/supervisor/task: mostThreads
GENERAL = (*(f"x{number}" for number in range(31)), "sp", "pc", "pstate")  # as machine.Context begins


@dataclass(frozen=True)
class Thread:
    """One thread: its number, and its registers when the supervisor took over from it."""

    number: int
    registers: dict[str, int]


def threads(elf: Elf, memory: Memory, in_program: bool) -> Iterator[Thread]:
    """The threads that do not run; while the machine is in the supervisor none does, else one (`in_program`)."""
    info, abbrev = elf.section(".debug_info"), elf.section(".debug_abbrev")
    found = elf.symbols.addresses(f"{TASK}threads", f"{TASK}Current")
    if info is None or abbrev is None or len(found) < 2:
        return
    fields = layout(bytes(elf.contents(info)), bytes(elf.contents(abbrev)), f"{TASK}Thread")
    if fields is None:
        return
    current = memory.word(found[f"{TASK}Current"])
    for index in range(MOST):
        at = memory.word(found[f"{TASK}threads"] + 8 * index)
        if not at:
            return
        if (in_program and at == current) or not memory.word(at + fields["State"]):
            continue
        words = [memory.word(at + fields["Context"] + 8 * number) for number in range(len(GENERAL))]
        registers = {name: word for name, word in zip(GENERAL, words, strict=True) if word is not None}
        if len(registers) == len(GENERAL):
            yield Thread(memory.word(at + fields["ID"]) or 0, registers)
