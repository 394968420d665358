"""Each barriered store of a run followed to its destination, on the embedded emulator.

Every group of stores (`groups`) whose barrier was called is watched instruction by
instruction: the old pointers it loads and from where, what it records in the slots, what
it then stores and where, and whether memory holds that right behind the store.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from buildsys.proof.groups import ZERO, Access, Group, group_of

if TYPE_CHECKING:
    from buildsys.machines.embedded import Machine
    from buildsys.proof.case import Case


@dataclass(frozen=True)
class Move:
    """The arguments of a function that announces a bulk move: registers; without a source it clears.

    `typed` if the size is not the argument itself but the first word of the type it points to.
    """

    to: str
    source: str | None
    size: str
    typed: bool


# src/runtime/mbarrier.go, mbitmap.go; internal/abi/type.go: Type.Size_.
MOVES = {
    "runtime.wbMove": Move("x1", "x2", "x0", True),
    "runtime.wbZero": Move("x1", None, "x0", True),
    "runtime.bulkBarrierPreWrite": Move("x0", "x1", "x2", False),
    "runtime.bulkBarrierPreWriteSrcOnly": Move("x0", "x1", "x2", False),
}
STORED_TO, STORED = "x2", "x3"  # arguments of the barrier that makes the store itself (Go 1.20 and older)
FOLLOWED = 5000  # executions of one group that are followed; a kernel may make millions


# Variables of ours that the runtime goes on by: templates/sets/alloc.s.j2.
KEPT = frozenset(("buildsys.allocated", "buildsys.p", "buildsys.deferpool"))


@dataclass(frozen=True)
class Followed:
    """What became of the barriered stores of one run.

    `calls` counts the calls followed, by function, `sites` the places they were made at.
    `beyond` counts calls not followed: of functions that do not say what is stored, through
    pointers, and of a group that was followed often enough. `faults` says what went wrong, at
    which addresses and symbols. `destinations` are the addresses of the 64-bit words stored
    to, outside the stack.
    """

    calls: Counter[str]
    sites: int
    beyond: Counter[str]
    faults: tuple[str, ...]
    destinations: frozenset[int]


@dataclass
class _Call:
    """A call under way: the slots it made room for, and what was written to which."""

    site: int
    room: int
    slots: dict[int, int] = field(default_factory=dict)

    def missing(self) -> str:
        if len(self.slots) != self.room:
            return f"{len(self.slots)} of {self.room} pointers were recorded"
        low = min(self.slots, default=0)
        if any(low + 8 * at not in self.slots for at in range(self.room)):
            return f"what was recorded at {low:#x} is not {self.room} words in a row"
        return ""


@dataclass
class _Run:
    """One execution of a group under way.

    `loaded` are the places old pointers were loaded from and their values, `stored` the
    value stored to each place and the one it replaced. `unread` are the stores not read
    back yet, `moving` the bulk moves announced and not seen done: place and contents.
    """

    group: Group
    calls: list[_Call] = field(default_factory=list)
    loaded: dict[int, int] = field(default_factory=dict)
    stored: dict[int, tuple[int, int]] = field(default_factory=dict)
    unread: dict[int, int] = field(default_factory=dict)
    moving: dict[int, bytes] = field(default_factory=dict)

    def missing(self, name: _Namer) -> str:
        """What has not happened yet; nothing if all stores recorded were made and are in memory."""
        if len(self.calls) < len(self.group.calls):
            return f"only {len(self.calls)} of {len(self.group.calls)} barriers were called"
        for place, value in self.unread.items():
            return f"memory at {name(place)} was not seen to hold {value:#x}"
        for place, contents in self.moving.items():
            return f"the {len(contents)} bytes at {name(place)} were not moved or cleared as announced"
        for call in self.calls:
            if found := call.missing():
                return found
        recorded = {value for call in self.calls for value in call.slots.values()}
        for place, value in self.loaded.items():
            if value in recorded and place not in self.stored:
                return f"nothing was stored to {name(place)}, whose old pointer {value:#x} was recorded"
        for value in recorded.difference(*self.stored.values()):
            return f"the pointer {value:#x} was recorded, and no store took it or replaced it"
        return ""

    def may_be_done(self) -> bool:
        """Whether missing() is worth asking; it is not quick."""
        if self.unread or self.moving or len(self.calls) < len(self.group.calls):
            return False
        return len(self.calls[-1].slots) == self.calls[-1].room and len(self.stored) >= len(self.loaded)


class _Namer:
    """Addresses with the variable, or the part of RAM, they are in."""

    def __init__(self, case: Case) -> None:
        self._symbols = case.elf.symbols
        names = ("__stack_low", "__stack_high", "__heap_low", "__heap_high", "__alloc_low", "__alloc_high")
        bounds = self._symbols.addresses(*names)
        self._stack = range(bounds.get("__stack_low", 0), bounds.get("__stack_high", 0))
        self._heap = range(bounds.get("__heap_low", 0), bounds.get("__heap_high", 0))
        self._allocated = range(bounds.get("__alloc_low", 0), bounds.get("__alloc_high", 0))
        self._ram = range(case.board.ram.origin, case.board.ram.end)

    def __call__(self, address: int) -> str:
        found = self.owner(address)
        return f"{address:#x} ({found})" if found else f"{address:#x}"

    def on_stack(self, address: int) -> bool:
        return address in self._stack

    def owner(self, address: int) -> str:
        """Whose memory `address` is to the kernel: nothing for no one's, and for ours that nobody goes on by."""
        if address in self._stack:
            return "the stack"
        if address in self._heap:
            return "the heap"
        if address in self._allocated:
            return "the memory of alloc"
        if address not in self._ram:
            return "outside RAM"
        variable = self._symbols.object_at(address)
        return variable.name if variable and (not variable.is_global or variable.name in KEPT) else ""


class Follower:
    """Watches a machine that has not run yet, for the groups of the call sites that `executions` names.

    These are the calls to be expected, by function and call site.
    """

    def __init__(self, case: Case, machine: Machine, executions: Mapping[tuple[str, int], int]) -> None:
        self._machine, self._name = machine, _Namer(case)
        self._room = {barrier.name: barrier.slots for barrier in case.plan.barriers}
        self._largest = case.board.ram.length
        self._storing = case.plan.abi == "store"
        self._groups: dict[int, Group] = {}
        self._run: _Run | None = None
        self._times: Counter[int] = Counter()
        self._calls: Counter[str] = Counter()
        self._sites: set[int] = set()
        self._beyond: Counter[str] = Counter()
        self._faults: dict[int, tuple[str, int]] = {}
        self._destinations: set[int] = set()
        self._judged: set[tuple[int, int]] = set()
        # Other functions of ours, such as those of ready sets, have no part in a store.
        served = {*case.barriers, *case.plan.readers}
        ours = {pair.new.value: name for name, pair in case.called.items() if pair.new and name in served}
        watched: set[int] = set()
        for name, site in executions:
            if name not in served:
                continue
            group = group_of(case.elf, site, ours, MOVES)
            # An original that runs announces moves on behalf of its caller.
            if group is None or group.function.name in case.pairs:
                self._beyond[name] += executions[name, site]
            elif group.first not in self._groups:
                self._groups[group.first] = group
                watched.update(self._watched(group))
        for address in watched:
            machine.watch(address, self._watcher(address))

    def result(self, cut: bool) -> Followed:
        """What was seen, when the machine has stopped: in the middle of something if it was `cut` short."""
        if not cut:
            self._close()
        faults = [
            text + (f" (and {count - 1} times more)" if count > 1 else "") for text, count in self._faults.values()
        ]
        places = frozenset(place for place in self._destinations if not self._name.on_stack(place))
        return Followed(self._calls, len(self._sites), self._beyond, tuple(faults), places)

    def _watcher(self, at: int) -> Callable[[Machine], None]:
        return lambda _: self._at(at)

    def _watched(self, group: Group) -> Iterator[int]:
        yield from group.calls
        if any(name in MOVES for name in group.calls.values()):
            yield from group.points
        if self._storing:
            yield from (at + 4 for at in group.calls)  # where the barrier that stored returns to
            return
        yield from group.loads
        yield from group.slots
        for at in group.stores:
            behind = group.behind(at)
            if behind is not None:
                yield from (at, behind)

    def _at(self, at: int) -> None:
        """The instruction at `at` is about to run."""
        group = self._groups.get(at)
        if group is not None:
            self._close()
            self._times[at] += 1
            if self._times[at] > FOLLOWED:
                self._beyond.update(group.calls.values())
            else:
                self._run = _Run(group)
        run = self._run
        if run is None:
            return
        if run.unread or run.moving:
            self._read_back(run)
        self._note(run, at)
        if run.may_be_done() and not run.missing(self._name):
            self._close()

    def _note(self, run: _Run, at: int) -> None:
        """Note what the instruction at `at` will do."""
        if name := run.group.calls.get(at):
            run.calls.append(_Call(at, self._room.get(name, 0)))
            if name in MOVES:
                self._announced(run, MOVES[name])
            elif self._storing and name in self._room:  # a reader of the flag, runtime.atomicwb, stores nothing
                self._stores(run, self._machine.register(STORED_TO), self._machine.register(STORED))
        elif found := run.group.loads.get(at):
            run.loaded.update((place, self._word(place)) for place, _ in self._places(found))
        elif found := run.group.slots.get(at):
            if run.calls:
                run.calls[-1].slots.update((place, self._data(number)) for place, number in self._places(found))
                self._judge_slots(run, run.calls[-1])
        elif (found := run.group.stores.get(at)) and not self._storing:
            for place, number in self._places(found):
                self._stores(run, place, self._data(number))

    def _stores(self, run: _Run, place: int, value: int) -> None:
        run.stored[place] = value, self._word(place)
        run.unread[place] = value

    def _announced(self, run: _Run, move: Move) -> None:
        to, size = self._machine.register(move.to), self._machine.register(move.size)
        size = self._word(size) if move.typed else size
        source = self._machine.register(move.source) if move.source else 0
        if size > self._largest:
            self._fault(run, run.calls[-1].site, f"it announces a move of {size:#x} bytes, more than there is RAM")
        else:
            run.moving[to] = self._bytes(source, size) if source else bytes(size)

    def _read_back(self, run: _Run) -> None:
        for place, value in list(run.unread.items()):
            if self._word(place) == value:
                del run.unread[place]
        for place, contents in list(run.moving.items()):
            if self._bytes(place, len(contents)) == contents:
                del run.moving[place]

    def _judge_slots(self, run: _Run, call: _Call) -> None:
        """Slots must be memory that is no one's: else recording destroys something."""
        low = self._machine.register("x25")
        if (low, call.room) in self._judged:
            return
        self._judged.add((low, call.room))
        for place in (low, low + 8 * call.room - 8):
            if owner := self._name.owner(place):
                self._fault(run, call.site, f"x25 has pointers recorded at {place:#x}: {owner}")

    def _close(self) -> None:
        """The group under way is done, or never will be."""
        run, self._run = self._run, None
        if run is None:
            return
        for site, name in run.group.calls.items():
            if name in MOVES or name in self._room:
                self._calls[name] += 1
                self._sites.add(site)
            else:
                self._beyond[name] += 1
        recorded = {value for call in run.calls for value in call.slots.values()}
        for place, (value, _) in run.stored.items():
            # Other words of the same struct are stored in the same line.
            if self._storing or place in run.loaded or (value and value in recorded):
                self._destinations.add(place)
        if missing := run.missing(self._name):
            self._fault(run, next(iter(run.group.calls)), missing)

    def _fault(self, run: _Run, site: int, what: str) -> None:
        text = f"{run.group.calls[site]} called at {site:#x} in {run.group.function.name}: {what}"
        first, count = self._faults.get(site, (text, 0))
        self._faults[site] = first, count + 1

    def _places(self, access: Access) -> list[tuple[int, int]]:
        """Where `access` moves which register: (address, its number)."""
        first = access.address(self._data)
        return [(first + 8 * at, number) for at, number in enumerate(access.registers)]

    def _data(self, number: int) -> int:
        return 0 if number == ZERO else self._machine.register(f"x{number}")

    def _word(self, place: int) -> int:
        return int.from_bytes(self._bytes(place, 8), "little")

    def _bytes(self, place: int, size: int) -> bytes:
        """What the guest sees at `place`; nothing where it sees nothing."""
        try:
            return self._machine.read(place, size)
        except ValueError:
            return b""
