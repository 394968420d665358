"""What the Go runtime in an object asks of a bare-metal image, told from the names it defines.

Three kinds of function are taken over for a bare kernel:

* barriers: called by compiled code before a pointer store (the barrier ABI);
* readers: runtime functions that test the flag, or are called when it is set,
  and then record pointers in `getg().m.p`, which bare metal does not have;
* fatal: functions that never return to compiled code (stack growth, panics,
  throws) and need the scheduler and the collector to say why. Nothing calls
  an original on, so these are taken over at their first instruction, which
  catches calls through pointers as well.

What ready sets (buildsys.go.sets) serve comes on top, and takes the place of the fatal ones.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from buildsys.errors import UserError
from buildsys.go.sets import ALLOC, PANIC, Taken, matching, taken

FLAG = "runtime.writeBarrier"
G0 = "runtime.g0"
M0 = "runtime.m0"

# src/runtime/asm_arm64.s: gcWriteBarrier1..8 since Go 1.21, one gcWriteBarrier before.
SLOTTED = tuple(f"runtime.gcWriteBarrier{slots}" for slots in range(1, 9))
STORING = "runtime.gcWriteBarrier"

# src/runtime/mbarrier.go, mbitmap.go, atomic_pointer.go. All of these only tell
# the collector about pointers: with no collector there is nothing to tell.
READERS = (
    "runtime.wbZero",
    "runtime.wbMove",
    "runtime.bulkBarrierPreWrite",
    "runtime.bulkBarrierPreWriteSrcOnly",
    "runtime.bulkBarrierBitmap",
    "runtime.typeBitsBulkBarrier",
    "runtime.atomicwb",
)

# src/runtime/panic.go, stack.go, asm_arm64.s; compiled code calls these and expects no return.
FATAL = (
    "runtime.morestack",
    "runtime.morestack_noctxt",
    "runtime.gopanic",
    "runtime.goPanic*",
    "runtime.panic*",
    "runtime.throw",
    "runtime.fatal",
)
NOT_FATAL = ("runtime.panicCheck1", "runtime.panicCheck2")  # called on the way to a panic: they return

STACK_GUARD = 928  # internal/abi/stack.go StackGuard without instrumentation: 800 + 128


@dataclass(frozen=True)
class Barrier:
    """One barrier function: `slots` is how many pointers a call makes room for, 0 if it stores itself."""

    name: str
    slots: int


@dataclass(frozen=True)
class Plan:
    """The functions of one Go object that an image takes over."""

    barriers: tuple[Barrier, ...]
    readers: tuple[str, ...]
    fatal: tuple[str, ...]
    sets: tuple[Taken, ...] = ()

    @property
    def slot_bytes(self) -> int:
        """How many bytes the largest barrier call may write through x25; 0 for the storing ABI."""
        return 8 * max(barrier.slots for barrier in self.barriers)

    @property
    def abi(self) -> str:
        """The barrier ABI: "slots" (Go >= 1.21) or "store" (Go <= 1.20)."""
        return "slots" if self.slot_bytes else "store"

    @property
    def collecting(self) -> tuple[str, ...]:
        """The functions that serve a collector: barriers and readers of the flag."""
        return (*(barrier.name for barrier in self.barriers), *self.readers)

    @property
    def called(self) -> tuple[str, ...]:
        """The functions taken over call site by call site: their originals stay as they are."""
        of_sets = (name for each in self.sets for name in each.calls)
        return (*self.collecting, *of_sets)

    @property
    def entered(self) -> tuple[str, ...]:
        """The functions taken over at their first instruction."""
        return (*self.fatal, *(name for each in self.sets for name in (*each.entries, *each.spare)))

    @property
    def ends(self) -> tuple[str, ...]:
        """Those that do not return to who called them."""
        return (*self.fatal, *(name for each in self.sets if not each.returns for name in (*each.calls, *each.entries)))

    @property
    def ending(self) -> tuple[str, ...]:
        """Those that a kernel comes to when it fails: after them there is no good end, whoever stands in for them.

        Not what is only on the way to one, such as allocating for a panic: another may do so for what it likes.
        """
        panic = self.of_set(PANIC)
        return (*self.fatal, *panic.calls, *panic.entries)

    @property
    def allocates(self) -> bool:
        """Whether the image has an allocator of ours, with memory set aside for it."""
        return bool(self.of_set(ALLOC).calls)

    @property
    def spare(self) -> tuple[str, ...]:
        """Those that serve only what is on its way to a function that does not return."""
        return tuple(name for each in self.sets for name in each.spare)

    def of_set(self, name: str) -> Taken:
        """What the ready set `name` takes over; nothing if it was not chosen."""
        return next((each for each in self.sets if each.name == name), Taken(name))

    @property
    def functions(self) -> tuple[str, ...]:
        """Every function taken over."""
        return (*self.called, *self.entered)


def plan(functions: Collection[str], name: str, sets: Collection[str] = ()) -> Plan:
    """The plan for an object that defines `functions`, with the ready sets called `sets`.

    Raises UserError if the object has no known barrier ABI.
    """
    slotted = tuple(Barrier(barrier, slots) for slots, barrier in enumerate(SLOTTED, 1) if barrier in functions)
    storing = (Barrier(STORING, 0),) if STORING in functions else ()
    if bool(slotted) == bool(storing):
        found = ", ".join(sorted(each for each in functions if "gcWriteBarrier" in each)) or "none"
        raise UserError(
            f"{name}: an unknown write barrier ABI: its barrier functions are {found}",
            f"known are {SLOTTED[0]}..{len(SLOTTED)} (Go 1.21 and newer) and {STORING} (Go 1.20 and older)",
        )
    served = taken(functions, sets)
    by_sets = {function for each in served for function in each.functions}
    return Plan(
        barriers=slotted or storing,
        readers=tuple(reader for reader in READERS if reader in functions),
        fatal=tuple(sorted(_fatal(functions) - by_sets)),
        sets=served,
    )


def _fatal(functions: Collection[str]) -> set[str]:
    return matching(functions, FATAL) - matching(functions, NOT_FATAL)
