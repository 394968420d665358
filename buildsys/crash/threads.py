"""The threads of a program, as its supervisor keeps them: src/supervisor/task/task.go, process.go."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from buildsys.crash.view import Memory
from buildsys.formats.dwarf import layout
from buildsys.formats.elf import Elf

PACKAGE, SPACE = "kernel/supervisor/task", "kernel/supervisor/space"
MOST = 1024  # mostThreads
STATES = {1: "ready", 2: "waiting at a futex", 3: "asleep", 4: "in a system call", 5: "lending its memory to a child"}
READY = 1
# templates/supervisor.s.j2: where the stack of a supervisor begins, before the thread is in memory and behind that.
SAVING, SERVING = ("supervisor.synchronous", "supervisor.interrupt"), ("supervisor.handle", "supervisor.resume")
ON_SP_ELX = 1  # Arm ARM C5.2, PSTATE.SP: the program runs with it clear, the supervisor with it set


@dataclass(frozen=True)
class Thread:
    """One thread: its number, what it does, and its registers, by name, where it stands.

    `runs` says that it is the program that the machine runs, and not the supervisor; `served`, that it is what the
    supervisor was asked by, or interrupted, and goes on with unless it chooses another. `process` is the number of the
    process it is of, `tables` the address of the level 1 table of that one's memory, and `here` says that this is the
    memory the machine translates addresses to.
    """

    number: int
    state: str
    registers: dict[str, int]
    runs: bool
    process: int
    tables: int
    here: bool
    served: bool


def in_program(now: Mapping[str, int]) -> bool:
    """Whether a machine with the registers `now` runs the program, and not the supervisor."""
    return not now.get("pstate", ON_SP_ELX) & ON_SP_ELX


def threads(elf: Elf, memory: Memory, now: Mapping[str, int]) -> Iterator[Thread]:
    """Every thread that has not ended. `now` are the registers of the core; none if the image has no program."""
    info, abbrev = elf.section(".debug_info"), elf.section(".debug_abbrev")
    names = {name: f"{PACKAGE}.{name}" for name in ("threads", "highest", "Current")}
    names["current"] = f"{SPACE}.current"
    found = elf.symbols.addresses(*names.values())
    if info is None or abbrev is None or len(found) < len(names):
        return
    tables = bytes(elf.contents(info)), bytes(elf.contents(abbrev))
    thread = layout(*tables, f"{PACKAGE}.Thread")
    saved = layout(*tables, "kernel/supervisor/machine.Context")
    process, space = layout(*tables, f"{PACKAGE}.Process"), layout(*tables, f"{SPACE}.Space")
    if not thread or not saved or not process or not space:
        return
    places = {f"x{number}": saved["X"] + 8 * number for number in range(31)}
    places |= {"sp": saved["SP"], "pc": saved["PC"], "pstate": saved["State"]}
    current, mapped = memory.word(found[names["Current"]]), memory.word(found[names["current"]])
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
        of = memory.word(at + thread["Process"]) or 0
        where = memory.word(of + process["Space"]) or 0
        numbers = [memory.word(each) or 0 for each in (at + thread["ID"], of + process["ID"], where + space["root"])]
        served = at == current and not runs and state == READY
        yield Thread(numbers[0], words, known, runs, numbers[1], numbers[2], where == mapped, served)


def served(elf: Elf, memory: Memory, now: Mapping[str, int], within: str) -> dict[str, int] | None:
    """The registers of the thread that a supervisor serves which is `within` its function of that name.

    None if it serves none: it is in no function that every exception of a thread leads through, or the thread waits.
    """
    if within in SAVING:  # not all is in memory yet; but for x0 to x3 the core still has what the thread had
        return {**now, "pc": now.get("elr_el1", 0), "sp": now.get("sp_el0", 0)}
    if within not in SERVING:
        return None
    return next((each.registers for each in threads(elf, memory, now) if each.served and each.here), None)
