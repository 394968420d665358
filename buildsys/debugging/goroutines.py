"""`info goroutines` and `goroutine N COMMAND`, in the place of those of Go's own helper (runtime-gdb.py).

That one asks for runtime.allgs, of which an image with a program has two, finds no goroutine that runs on
a thread the supervisor keeps, and writes to registers, which a core file has not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import gdb

from buildsys.crash.goroutine import Goroutine, Goroutines
from buildsys.crash.text import OF_RUNTIME, START, stack
from buildsys.debugging.command import Command
from buildsys.debugging.machine import MASK, Machine
from buildsys.debugging.session import Session

DEEPEST = 64  # frames that are looked at for the user's own
SHOWN = 4  # of these, the ones that are shown
MOVED = ("sp", "pc", "x29", "x30")


class InfoGoroutines(Command):
    """List all goroutines: number, state or what it waits for, and the innermost frames of the program's own.

    Those that stand at the same place are told together. `*` marks the one that the machine runs.
    """

    name, kind, completed = "info goroutines", gdb.COMMAND_STACK, gdb.COMPLETE_NONE

    def invoke(self, argument: str, from_tty: bool) -> None:
        """Carry it out."""
        print("\n".join(listed(self._session, self._session.machine())))


class OnGoroutine(Command):
    """Carry out a gdb command on a goroutine: goroutine N COMMAND, or goroutine all COMMAND.

    For example `goroutine 7 bt`. It is only for looking: the command must not let the machine go on.
    """

    name, kind, completed = "goroutine", gdb.COMMAND_STACK, gdb.COMPLETE_COMMAND

    def invoke(self, argument: str, from_tty: bool) -> None:
        """Carry it out."""
        which, _, command = argument.strip().partition(" ")
        if not which or not command.strip():
            raise gdb.GdbError("usage: goroutine N COMMAND, or goroutine all COMMAND; such as: goroutine 1 bt")
        machine = self._session.machine()
        goroutines = _of_program(self._session, machine)
        live, every = machine.registers(), list(goroutines.all())
        chosen = every if which == "all" else [each for each in every if each.number == _number(which)]
        if not chosen:
            raise gdb.GdbError(f"there is no goroutine {which}; `info goroutines` lists all")
        for each in chosen:
            stands = goroutines.stands(each, live)
            if which == "all":
                print(f"goroutine {each.number} [{each.state}]")
            if stands is None:
                print(f"goroutine {each.number} runs, and where is not known")
            elif self._session.alive:
                _moved(stands, command)
            else:
                _chosen(each.number, command)


def listed(session: Session, machine: Machine) -> Iterator[str]:
    """The lines of the list."""
    goroutines, live = _of_program(session, machine), machine.registers()
    alike: dict[tuple[str, ...], list[Goroutine]] = {}
    for each in goroutines.all():
        stands = goroutines.stands(each, live)
        frames = list(session.frames(machine, stands, DEEPEST)) if stands else []
        own = [frame for frame in frames if not str(frame["function"]).startswith(OF_RUNTIME)]
        lines = stack(own, 0, SHOWN) if own else [f"  {_of_runtime(frames)}"]
        runs = stands is not None and stands.get("x28") == live["x28"] == each.address
        alike.setdefault((f"{'* ' if runs else '  '}goroutine", each.state, *lines), []).append(each)
    for (head, state, *lines), those in alike.items():
        numbers = ", ".join(str(each.number) for each in those)
        yield f"{head}{'s' if len(those) > 1 else ''} {numbers} [{state}]"
        yield from (f"  {line}" for line in lines)


def _of_runtime(frames: Sequence[Mapping[str, Any]]) -> str:
    """What a goroutine of the runtime's own is for: the function it began with."""
    names = [str(each["function"]) for each in frames if each["function"] not in ("", START)]
    return names[-1] if names else "where is not known"


def _of_program(session: Session, machine: Machine) -> Goroutines:
    goroutines = session.goroutines(machine)
    if not goroutines.of_program:
        g = machine.registers()["x28"]
        raise gdb.GdbError(
            f'a bare kernel has no goroutines: this is {goroutines.current(g)}; kind = "program" has them'
        )
    return goroutines


def _number(text: str) -> int:
    return int(gdb.parse_and_eval(text))


def _moved(registers: dict[str, int], command: str) -> None:
    """Carry out `command` while the processor seems to stand elsewhere."""
    selected = gdb.selected_frame()
    gdb.newest_frame().select()
    # gdb changes registers of the innermost frame only.
    before = {name: int(gdb.parse_and_eval(f"${name}")) & MASK for name in MOVED}
    try:
        _set(registers)
        gdb.execute(command)
    finally:
        gdb.newest_frame().select()
        _set(before)
        if selected.is_valid():
            selected.select()


def _set(registers: dict[str, int]) -> None:
    for name in MOVED:
        if name in registers:
            gdb.execute(f"set ${name} = {registers[name]:#x}", to_string=True)


def _chosen(number: int, command: str) -> None:
    """Carry out `command` on a goroutine of a core file, where each is a thread."""
    before = gdb.selected_thread()
    try:
        next(each for each in gdb.selected_inferior().threads() if each.ptid[1] == number).switch()
        gdb.execute(command)
    finally:
        before.switch()
