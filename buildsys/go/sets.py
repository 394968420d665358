"""Ready sets: groups of the runtime's functions that buildsys can take over for a kernel, each with its assembly.

`sets` in the configuration chooses them. A set is a template and the names of the functions it serves; which
of these an object has is told from the names it defines, so no table of Go releases is needed.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass

BARRIER = "barrier"  # what every image has: templates/writebarrier.s.j2
ALLOC = "alloc"  # the one that has memory of its own: linker/kernel.ld.j2
ADD_ITABS = "runtime.addModuleItabs"  # since Go 1.27: src/runtime/iface.go
WAIT = "wait"
PARK = "runtime.gopark"  # what ends there waits for another goroutine: src/runtime/proc.go
CLOCKS = ("runtime.walltime", "runtime.nanotime1")  # what asks the system for the time: src/runtime/sys_linux_arm64.s
LEAVE, YIELD = "runtime.Goexit", "runtime.mcall"  # the second is what runtime.Gosched calls, which is inlined
# When a mutex began to be waited for, which only those that wait with it want to know: src/runtime/sema.go. Since
# Go 1.24 it is internal/sync's.
SINCE = ("sync.runtime_nanotime", "internal/sync.runtime_nanotime")
PANIC = "panic"  # the one whose functions a kernel comes to when it fails


@dataclass(frozen=True)
class ReadySet:
    """One set: its name, its template (without `.j2`), and the functions it serves.

    `calls` are taken over call site by call site, so that their originals can still be called, `entries` at
    their first instruction; both are patterns of names, and `but` are exceptions to them. `returns` tells that
    these functions return to their callers. `spare` are patterns of further ones, taken over at their first
    instruction unless another set has them: they return, but serve only what is on its way to a function that
    does not; a kernel that can reach them otherwise is refused. `uses` are functions of the runtime that the
    template may call, if the object has them. `needs` are sets that come with this one.
    """

    name: str
    template: str
    calls: tuple[str, ...] = ()
    entries: tuple[str, ...] = ()
    but: tuple[str, ...] = ()
    spare: tuple[str, ...] = ()
    uses: tuple[str, ...] = ()
    returns: bool = True
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Taken:
    """What one set takes over of one object, by name; the rest as in `ReadySet`."""

    name: str
    calls: tuple[str, ...] = ()
    entries: tuple[str, ...] = ()
    spare: tuple[str, ...] = ()
    uses: tuple[str, ...] = ()
    returns: bool = True

    @property
    def functions(self) -> tuple[str, ...]:
        """Every function taken over."""
        return (*self.calls, *self.entries, *self.spare)


# Earlier ones come first where two would serve a function.
SETS = (
    # src/runtime/print.go: whatever print and println print is written by gwrite; the lock is getg().m's.
    ReadySet("print", "sets/print.s", calls=("runtime.gwrite", "runtime.printlock", "runtime.printunlock")),
    # src/runtime/malloc.go: whatever allocates calls mallocgc; since Go 1.27 the compiler calls a variant for a size
    # class itself (malloc_generated.go, the same arguments). What is never to be freed comes from persistentalloc.
    ReadySet(
        ALLOC,
        "sets/alloc.s",
        calls=(
            "runtime.mallocgc",
            "runtime.mallocgcTinySC*",
            "runtime.mallocgcTinySize*",
            "runtime.mallocgcSmallNoScanSC*",
            "runtime.mallocgcSmallScanNoHeaderSC*",
            "runtime.persistentalloc",
            "runtime.persistentalloc1",
        ),
        uses=(ADD_ITABS,),
        needs=(WAIT,),
    ),
    # src/runtime/proc.go: whatever waits, at a channel, in a select or for a lock, is put aside by gopark. Who
    # sleeps, or only asks for the time, comes to no clock first.
    ReadySet(WAIT, "sets/wait.s", calls=(PARK, LEAVE, YIELD, *CLOCKS, *SINCE)),
    # src/runtime/panic.go, stack.go, asm_arm64.s, error.go. What is called by compiled code prepares a value and
    # calls gopanic; on the way there, and to make a text of the value, memory is allocated.
    ReadySet(
        PANIC,
        "sets/panic.s",
        calls=("runtime.goPanic*", "runtime.panic*"),
        entries=("runtime.gopanic", "runtime.throw", "runtime.fatal", "runtime.morestack", "runtime.morestack_noctxt"),
        but=("runtime.panicCheck1", "runtime.panicCheck2"),  # called on the way: they return
        spare=("runtime.mallocgc", "runtime.mallocgc*SC[0-9]*", "runtime.persistentalloc"),
        uses=("runtime.(*PanicNilError).Error", "runtime.(*unwinder).initAt"),
        returns=False,
        needs=("print",),
    ),
)


def known() -> tuple[str, ...]:
    """The names a user can give."""
    return (BARRIER, *(each.name for each in SETS))


def chosen(names: Collection[str]) -> tuple[ReadySet, ...]:
    """The sets called `names`, and those they need, in the order they are looked at."""
    by_name = {each.name: each for each in SETS}
    wanted, pending = set[str](), [name for name in names if name != BARRIER]
    while pending:
        name = pending.pop()
        if name not in wanted:
            wanted.add(name)
            pending += by_name[name].needs
    return tuple(each for each in SETS if each.name in wanted)


def templates(names: Collection[str]) -> tuple[str, ...]:
    """The templates of the sets called `names`, without `.j2`."""
    return tuple(each.template for each in chosen(names))


def taken(functions: Collection[str], names: Collection[str]) -> tuple[Taken, ...]:
    """What the sets called `names` take over of an object that defines `functions`."""
    served: set[str] = set()
    found = []
    for each in chosen(names):
        found_by_use = [
            sorted(matching(functions, patterns) - matching(functions, each.but))
            for patterns in (each.calls, each.entries, each.spare)
        ]
        calls, entries, spare = (tuple(name for name in names if name not in served) for names in found_by_use)
        served.update(*found_by_use)
        uses = tuple(name for name in each.uses if name in functions)
        found.append(Taken(each.name, calls, entries, spare, uses, each.returns))
    return tuple(found)


def matching(functions: Iterable[str], patterns: Collection[str]) -> set[str]:
    """Those of `functions` that have one of the names `patterns`, in either ABI.

    A pattern names functions as the source does: a further dot marks a closure inside one, which only it calls.
    """
    by_dots: dict[int, list[str]] = {}
    for each in patterns:
        by_dots.setdefault(each.count("."), []).append(fnmatch.translate(each))
    one_of = {dots: re.compile("|".join(each)) for dots, each in by_dots.items()}
    # Few names begin as a pattern does: the others need no closer look.
    begins = tuple({re.split(r"[*?[]", each, maxsplit=1)[0] for each in patterns})
    found = set()
    for function in functions:
        if not function.startswith(begins):
            continue
        plain = function.removesuffix(".abi0")
        pattern = one_of.get(plain.count("."))
        if pattern and pattern.match(plain):
            found.add(function)
    return found
