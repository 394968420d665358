"""What to watch for in a run, so that its end can be believed: the image's way out, and the ways of one that failed.

A status of 0 is a good end only if the guest took an exit that is in the image, of the image that was
loaded, and came to nothing before from which no good end leads. The host sees to that by itself:
the guest's memory and registers are read while it stands at its exit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from buildsys.formats.elf import Elf
from buildsys.formats.identity import ECHOED, identity, place
from buildsys.machines.semihosting import calls_in

EXIT, BOOTED = "buildsys.exit", "buildsys.booted"
BOOTS = 16  # starts that are enough to end a run: more than a machine has cores
OVERFLOW = 128  # bytes at the lower end of a stack that none comes to which is large enough: internal/abi, StackSmall
STACKS = (("boot", "__stack", "the exception stack"), ("exception", "__exception_stack", "the kernel's data"))
NO_IDENTITY = "the image carries no identity"
NOTHING: Mapping[int, str] = MappingProxyType({})
# From where nothing leads to a good end, and what it means to have come there. The first three are of
# templates/fatal.s.j2, the fourth of templates/sets/panic.s.j2; the others of a program's
# runtime, src/runtime/panic.go.
EXCEPTION, AGAIN, FATAL, PANIC = "buildsys.exception", "buildsys.again", "buildsys.fatal", "buildsys.panic"
PROGRAM = "program."  # before the names of a program's symbols: buildsys.stages.programs
# The process whose memory is in use, and the first of all: src/supervisor/task/process.go.
RUNNING, FIRST = "kernel/supervisor/task.running", "kernel/supervisor/task.processes"
DEAD_ENDS = {
    EXCEPTION: "an exception",
    AGAIN: "an exception in the handling of another, or on its stack",
    FATAL: "a function that bare metal cannot serve",
    PANIC: "a panic",
    "program.runtime.fatalpanic": "a panic of the program",
    "program.runtime.throw": "a fatal error of the program's runtime",
    "program.runtime.fatal": "a fatal error of the program",
}


@dataclass(frozen=True)
class DeadEnd:
    """What a run came to that no good end follows: where that begins, its name, and what it means."""

    address: int
    name: str
    meaning: str

    def __str__(self) -> str:
        return f"{self.meaning} ({self.name})"


@dataclass(frozen=True)
class Stack:
    """One of the stacks that boot code gives: it grows down to `low`, and `below` that is what it would overwrite."""

    name: str
    low: int
    below: str


@dataclass
class Ends:
    """The ends of one image. `identity` is empty if it carries none; `exits` are its semihosting calls.

    `booted` is where boot code comes to once, on its first core; the entry of a user's own, where each core comes to.
    `dead` are the places from which no good end leads. `came_to` and `boots` are what was seen of the run.
    `processes` are where the supervisor of a program has the process that runs, and the first.
    """

    identity: bytes
    identity_at: int
    exits: frozenset[int]
    echoing: range
    booted: int | None
    stacks: tuple[Stack, ...]
    dead: Mapping[int, DeadEnd]
    processes: tuple[int, int] | None = None
    came_to: DeadEnd | None = field(default=None)
    boots: int = field(default=0)

    @classmethod
    def of(cls, elf: Elf, more: Mapping[int, str] = NOTHING) -> Ends:
        """Those of `elf`. `more` are further functions that no good end follows: names by address."""
        named = elf.symbols.named(*DEAD_ENDS, EXIT, BOOTED, RUNNING, FIRST)
        dead = {at: DeadEnd(at, name, "a function that ends a kernel that failed") for at, name in more.items()}
        for name, meaning in DEAD_ENDS.items():
            dead |= {each.value: DeadEnd(each.value, name, meaning) for each in named[name]}
        carried = identity(elf)
        leave, booted = named[EXIT], named[BOOTED]
        return cls(
            identity=carried,
            identity_at=place(elf) or 0,
            exits=frozenset(calls_in(elf)),
            echoing=range(leave[0].value, leave[0].end) if leave else range(0),
            booted=booted[0].value if booted else elf.entry if carried else None,
            stacks=tuple(_stacks(elf)),
            dead=dead,
            processes=(named[RUNNING][0].value, named[FIRST][0].value) if named[RUNNING] and named[FIRST] else None,
        )

    def ended_at(self, pc: int, read: Callable[[int, int], bytes | None]) -> DeadEnd | None:
        """The dead end that the code at `pc` has come to; None if there is none, or it is a child's of the program.

        A process that the program started may fail: that is for the program to see, and no end of the run.
        """
        dead = self.dead.get(pc)
        if dead is not None and self.processes is not None and dead.name.startswith(PROGRAM):
            running, first = (read(at, 8) for at in self.processes)
            return dead if running == first else None
        return dead

    @property
    def watched(self) -> bool:
        """Whether there is anything to tell a good end from others by."""
        return bool(self.identity)

    @property
    def doubted(self) -> str:
        """Why no end of this run is a good one, if the run came to where none follows."""
        return f"it came to {self.came_to} before" if self.came_to else ""

    def doubt(self, pc: int, block: int, read: Callable[[int, int], bytes | None]) -> str:
        """Why a status of 0, given at `pc` with its parameters at `block`, is no good end; empty if it is one."""
        if not self.identity:
            return NO_IDENTITY
        if self.came_to is not None:
            return self.doubted
        if pc not in self.exits:
            return f"the exit at {pc:#x} is no instruction of this image"
        if read(self.identity_at, len(self.identity)) != self.identity:
            return f"memory at {self.identity_at:#x} does not hold the identity of this image any more"
        if pc in self.echoing and read(block + 16, ECHOED) != self.identity[:ECHOED]:
            return f"the exit at {pc:#x} was come to from elsewhere than its beginning: it did not name this image"
        return self.overflow(read)

    def overflow(self, read: Callable[[int, int], bytes | None]) -> str:
        """Which stack was written to its very end, so that what lies below it may be overwritten; empty if none was.

        Memory of an emulator is zero at first, and nothing clears a stack. A frame that is larger than what is
        looked at, and leaves it alone, is not seen.
        """
        for each in self.stacks:
            if any(read(each.low, OVERFLOW) or b""):
                return (
                    f"the {each.name} stack was used to its end at {each.low:#x}, and maybe beyond: "
                    f"{each.below} lies below it (`doit stack` tells which calls need how much)"
                )
        return ""


def _stacks(elf: Elf) -> Iterator[Stack]:
    found = elf.symbols.addresses(*(f"{prefix}_low" for _, prefix, _ in STACKS))
    for name, prefix, below in STACKS:
        if f"{prefix}_low" in found:
            yield Stack(name, found[f"{prefix}_low"], below)
