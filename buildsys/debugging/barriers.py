"""`info barriers` and `break-barrier`: the flag, who handles barriers, from where, and what was counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import gdb

from buildsys.barriers.counts import Counts, read_counts
from buildsys.barriers.kept import VARIABLES, Kept
from buildsys.config.barrier import COUNT, DISCARD
from buildsys.crash.source import PROGRAM
from buildsys.debugging.command import Command
from buildsys.debugging.machine import Machine
from buildsys.debugging.session import Session
from buildsys.formats import a64
from buildsys.formats.elf import Elf
from buildsys.go.runtime import SLOTTED, STORING

# ELF for the Arm 64-bit Architecture, R_AARCH64_JUMP26 and R_AARCH64_CALL26.
BRANCHES = (282, 283)
FLAG = "runtime.writeBarrier"
SHOWN = 20


@dataclass(frozen=True)
class Site:
    """A call of a barrier: its address, the function it was compiled to call, the address it goes to."""

    address: int
    meant: str
    goal: int


class InfoBarriers(Command):
    """Show the write barrier: the flag, who handles each barrier and from how many places, and what was counted."""

    name, kind, completed = "info barriers", gdb.COMMAND_DATA, gdb.COMPLETE_NONE

    def invoke(self, argument: str, from_tty: bool) -> None:
        """Carry it out."""
        print("\n".join(described(self._session, self._session.machine())))


class BreakBarrier(Command):
    """Stop where a line calls a barrier: break-barrier FILE:LINE."""

    name, kind, completed = "break-barrier", gdb.COMMAND_BREAKPOINTS, gdb.COMPLETE_LOCATION

    def invoke(self, argument: str, from_tty: bool) -> None:
        """Carry it out."""
        file, _, line = argument.strip().rpartition(":")
        if not file or not line.isdecimal():
            raise gdb.GdbError("usage: break-barrier FILE:LINE")
        lines = Lines(self._session)
        found = {site.address: lines.of(site.address) for site in sites(self._session.elf)}
        chosen = [at for at, place in found.items() if _same(place, f"{file}:{line}")]
        if not chosen:
            others = {place for place in found.values() if _same(place.rpartition(":")[0], file)}
            near = sorted((int(place.rpartition(":")[2]) for place in others), key=lambda each: abs(each - int(line)))
            told = (
                f"; lines that do: {', '.join(map(str, sorted(near[:8])))}" if near else f", and no line of {file} does"
            )
            raise gdb.GdbError(f"{argument.strip()} calls no barrier{told}")
        for address in chosen:
            gdb.execute(f"break *{address:#x}")


class Lines:
    """Source lines of call sites."""

    def __init__(self, session: Session) -> None:
        self._source = session.source

    def of(self, address: int) -> str:
        """`file:line`, the file as the compiler knew it; empty if it is not known."""
        positions = self._source.positions(address)
        return f"{positions[0].file}:{positions[0].line}" if positions and positions[0].file else ""

    def function(self, address: int) -> str:
        """The function's name."""
        found = self._source.function(address)
        return found.name.removeprefix(PROGRAM) if found else ""


def _same(place: str, asked: str) -> bool:
    return place == asked or place.endswith(f"/{asked}")


def sites(elf: Elf) -> list[Site]:
    """Every call that was compiled to call a barrier, by the relocations the linker kept."""
    names = [f"{prefix}{name}" for prefix in ("", PROGRAM) for name in (*SLOTTED, STORING)]
    old = {symbol.value: name for name, symbols in elf.symbols.named(*names).items() for symbol in symbols}
    found = []
    for table in elf.relocations():
        values: dict[int, int | None] = {}
        for at, info, addend in zip(table.offsets, table.infos, table.addends, strict=True):
            if info & 0xFFFF_FFFF not in BRANCHES:
                continue
            index = info >> 32
            if index not in values:
                place = elf.symbols.by_index(index)
                values[index] = None if place is None else place.value
            base = values[index]
            meant = None if base is None else old.get(base + addend)
            word = elf.word(at)
            goal = None if meant is None or word is None else a64.branch_target(word, at)
            if meant is not None and goal is not None:
                found.append(Site(at, meant, goal))
    return sorted(found, key=lambda each: each.address)


def policy(elf: Elf) -> str:
    """The policy whose variables the image has."""
    for name, variables in VARIABLES.items():
        if len(elf.symbols.addresses(*variables)) == len(variables):
            return name
    return DISCARD


def described(session: Session, machine: Machine) -> Iterator[str]:
    """The lines of `info barriers`."""
    elf = session.elf
    flags = elf.symbols.addresses(FLAG, f"{PROGRAM}{FLAG}")
    for name, address in sorted(flags.items()):
        value = machine.word(address, 4)
        means = "cannot be read" if value is None else f"is {value}: barriers are {'called' if value else 'not called'}"
        yield f"flag {name} at {address:#x} {means}"
    chosen = policy(elf)
    yield f'policy "{chosen}"'
    every = sites(elf)
    groups = Counter((site.meant, site.goal) for site in every)
    wide = max((len(name) for name, _ in groups), default=0)
    for (meant, goal), count in sorted(groups.items()):
        function = elf.symbols.function_at(goal)
        own = function is not None and not function.is_global
        name = function.name if function else "no function"
        yield (
            f"  {meant:{wide}}  {goal:#x} {'Go’s own' if own else 'ours, ' + name if name != meant else 'ours'}"
            f"  {count:,} call site{'' if count == 1 else 's'}"
        )
    if chosen == COUNT:
        yield from _counted(session, machine)


def _counted(session: Session, machine: Machine) -> Iterator[str]:
    kept = Kept(session.elf, COUNT)
    memory = {each.start: data for each in kept.ranges if (data := machine.read(each.start, len(each))) is not None}
    counts: Counts | None = read_counts(kept, memory)
    if counts is None:
        yield "the counts cannot be read"
        return
    lines = Lines(session)
    by_line: Counter[tuple[str, str]] = Counter()
    for site, count in counts.sites.items():
        by_line[lines.of(site) or hex(site), lines.function(site)] += count
    yield f"calls counted: {counts.total:,}, from {len(counts.sites):,} call sites"
    most = sorted(by_line.items(), key=lambda each: (-each[1], each[0]))
    for (line, function), count in most[:SHOWN]:
        yield f"  {count:10,}  {line}  {function}"
    if len(most) > SHOWN:
        yield f"  … and {len(most) - SHOWN:,} more lines"
