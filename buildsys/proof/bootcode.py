"""What boot code does, told from its instructions in the image: followed, not run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from buildsys.formats.elf import PF_W, PT_LOAD, Elf
from buildsys.go.stops import ITABS
from buildsys.proof.events import CURRENT_EL, ID_AA64PFR0_EL1, MPIDR_EL1, Call, Event, Store, Trace
from buildsys.proof.interpreter import Interpreter
from buildsys.proof.values import Value, known

if TYPE_CHECKING:
    from buildsys.proof.case import Case

# MPIDR_EL1: bit 31 is always set; the affinity fields Aff0, Aff1, Aff2 number the cores.
FIRST_CORE = 1 << 31
OTHER_CORES = tuple(FIRST_CORE | affinity for affinity in (1, 0xFF, 1 << 8, 1 << 16))
# ID_AA64PFR0_EL1: bits 11:8 tell whether there is an EL2; of the others nothing is assumed.
WITH_EL2, WITHOUT_EL2 = Value(1 << 8, 0xF << 8), Value(0, 0xF << 8)


@dataclass(frozen=True)
class Start:
    """How a core leaves reset: at exception level `level`, of a machine with or without an EL2."""

    level: int
    has_el2: bool = True

    def __str__(self) -> str:
        return f"EL{self.level}" + ("" if self.has_el2 else " without an EL2")


STARTS = (Start(1), Start(2), Start(3), Start(3, has_el2=False))


@dataclass(frozen=True)
class Boot:
    """What the first core does from reset, and where every other one ends.

    `before` are the events up to `call`, the first call of what is not boot code. All of this is
    for a board whose cores leave reset at its own level; `starts` are the first core's traces, and
    `parked` the others', for each of `STARTS`.
    """

    first: Trace
    others: dict[int, Trace]
    before: tuple[Event, ...]
    call: Call | None
    starts: dict[Start, Trace]
    parked: dict[Start, dict[int, Trace]]

    def stores(self) -> list[Store]:
        """The stores before the call, in order."""
        return [event for event in self.before if isinstance(event, Store)]


@dataclass(frozen=True)
class FlagStore:
    """The store that sets the flag: its address, the address it writes, and how many bytes."""

    address: int
    target: int
    size: int


def boot(case: Case) -> Boot:
    """Follow the code at the image's entry point, on the first core and on others."""
    read = reset_memory(case.elf)
    entry = frozenset(case.elf.symbols.addresses(case.entry).values())
    opening = frozenset(case.elf.symbols.addresses(ITABS).values())
    start = case.elf.entry
    # A user's boot code calls parts of itself as it likes: `ldr x0, =kernel_main`, `blr x0`.
    own = case.elf.symbols.functions() if case.own_boot else ()
    routines = frozenset(each.value for each in own if each.is_global) - entry

    def trace(core: int, begins: Start) -> Trace:
        features = WITH_EL2 if begins.has_el2 else WITHOUT_EL2
        system = {MPIDR_EL1: known(core), CURRENT_EL: known(begins.level << 2), ID_AA64PFR0_EL1: features}
        return Interpreter(read, entry, system, opening=opening, routines=routines).follow(start)

    begun = Start(case.board.exception_level)
    # Boot code of the user's is for the user's board; ours is for any.
    levels = [begins for begins in STARTS if begins.level == begun.level or not case.own_boot]
    starts = {begins: trace(FIRST_CORE, begins) for begins in levels}
    cores = others(case)
    parked = {begins: {core: trace(core, begins) for core in cores} for begins in levels}
    before, call = until_call(starts[begun])
    return Boot(starts[begun], parked[begun], before, call, starts, parked)


def others(case: Case) -> tuple[int, ...]:
    """MPIDR_EL1 of the cores that must not do what the first does: a user's own boot code parks those the board has."""
    if case.own_boot and case.board.cores:
        return tuple(FIRST_CORE | affinity for affinity in range(1, case.board.cores))
    return OTHER_CORES


def until_call(trace: Trace) -> tuple[tuple[Event, ...], Call | None]:
    """The events of `trace` before its first call of what is not boot code, and that call if there is one."""
    for index, event in enumerate(trace.events):
        if isinstance(event, Call):
            return trace.events[:index], event
    return trace.events, None


def flag_store(case: Case) -> FlagStore | None:
    """The store that sets the flag; if none does, the store of a 1 that comes nearest to it."""
    stores = [
        (event.pc, event.address, event.size)
        for event in case.boot.first.events
        if isinstance(event, Store) and event.address is not None and event.value == 1
    ]
    nearest = min(stores, key=lambda store: abs(store[1] - case.flag), default=None)
    return FlagStore(*nearest) if nearest else None


def reset_memory(elf: Elf) -> Callable[[int, int], int | None]:
    """What memory holds when the image is loaded: bytes are where they are stored (LMA), the rest is unknown.

    So is what is stored where it may be written: it may have been since.
    """
    loaded = [
        segment
        for segment in elf.segments
        if segment.kind == PT_LOAD and segment.file_size and not (segment.flags & PF_W and segment.lma == segment.vma)
    ]

    def read(address: int, size: int) -> int | None:
        for segment in loaded:
            if segment.lma <= address and address + size <= segment.lma + segment.file_size:
                at = segment.offset + address - segment.lma
                return int.from_bytes(elf.data[at : at + size], "little")
        return None

    return read


def last_store(stores: Sequence[Store], low: int, high: int) -> Store | None:
    """The last of `stores` that writes, or may write, a byte from `low` up to `high`."""
    return next((store for store in reversed(stores) if store.overlaps(low, high)), None)


def at(elf: Elf, address: int) -> str:
    """An address and the function it lies in, as messages name it."""
    function = elf.symbols.function_at(address)
    return f"{address:#x} in {function.name}" if function else f"{address:#x}"
