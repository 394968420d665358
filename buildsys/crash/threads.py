"""The threads of a program, as its supervisor keeps them: src/supervisor/task/task.go."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from buildsys.crash.view import Memory
from buildsys.formats.dwarf import layout
from buildsys.formats.elf import Elf

PACKAGE = "kernel/supervisor/task"
MOST = 1024  # mostThreads
STATES = {1: "ready", 2: "waiting at a futex", 3: "asleep", 4: "in a system call"}
ON_SP_ELX = 1  # Arm ARM C5.2, PSTATE.SP: the program runs with it clear, the supervisor with it set


@dataclass(frozen=True)
class Thread:
    """One thread: its number, what it does, and its registers, by name, where it stands.

    `runs` says that it is the program that the machine runs, and not the supervisor.
    """

    number: int
    state: str
    registers: dict[str, int]
    runs: bool


def in_program(now: Mapping[str, int]) -> bool:
    """Whether a machine with the registers `now` runs the program, and not the supervisor."""
    return not now.get("pstate", ON_SP_ELX) & ON_SP_ELX


def threads(elf: Elf, memory: Memory, now: Mapping[str, int]) -> Iterator[Thread]:
    """Every thread that has not ended. `now` are the registers of the core; none if the image has no program."""
    info, abbrev = elf.section(".debug_info"), elf.section(".debug_abbrev")
    names = {name: f"{PACKAGE}.{name}" for name in ("threads", "highest", "Current")}
    found = elf.symbols.addresses(*names.values())
    if info is None or abbrev is None or len(found) < len(names):
        return
    tables = bytes(elf.contents(info)), bytes(elf.contents(abbrev))
    thread = layout(*tables, f"{PACKAGE}.Thread")
    saved = layout(*tables, "kernel/supervisor/machine.Context")
    if not thread or not saved:
        return
    places = {f"x{number}": saved["X"] + 8 * number for number in range(31)}
    places |= {"sp": saved["SP"], "pc": saved["PC"], "pstate": saved["State"]}
    current = memory.word(found[names["Current"]])
    for index in range(min(memory.word(found[names["highest"]]) or 0, MOST)):
        at = memory.word(found[names["threads"]] + 8 * index)
        state = memory.word(at + thread["State"]) if at else None
        if not at or not state:
            continue
        runs = at == current and in_program(now)
        context = at + thread["Context"]
        registers = {name: now.get(name) if runs else memory.word(context + offset) for name, offset in places.items()}
        words = "running" if at == current else STATES.get(state, f"in state {state}")
        known = {name: each or 0 for name, each in registers.items()}
        yield Thread(memory.word(at + thread["ID"]) or 0, words, known, runs)
