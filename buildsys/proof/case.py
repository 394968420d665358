"""The facts a proof is made from: the files, read once, decoded once, run once per machine.

Nothing here comes from what the build said of itself (patch.json, build/.done):
what is to be redirected is told again from the Go object.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from buildsys.config.barrier import DISCARDING, BarrierPolicy
from buildsys.config.board import Board
from buildsys.config.expected import NOTHING, Expected
from buildsys.config.redirects import Redirection
from buildsys.errors import UserError
from buildsys.formats.callsites import CallSite, call_sites
from buildsys.formats.elf import Elf
from buildsys.formats.references import Code, Reference, references
from buildsys.formats.symbols import STT_FUNC, Symbol
from buildsys.go.flag import COPIES, FLAG_BYTES, Judgement, code_of, judge
from buildsys.go.packages import own_modules
from buildsys.go.passing import Passed, reached
from buildsys.go.reach import Reach
from buildsys.go.runtime import FLAG, Plan
from buildsys.go.stops import stops
from buildsys.proof.bootcode import Boot, boot
from buildsys.proof.expected import Kept, kept
from buildsys.proof.following import Followed
from buildsys.proof.goobject import GoObject
from buildsys.proof.observation import Observation, Places, follow_stores, observe_embedded, places
from buildsys.proof.programs import functions
from buildsys.proof.redirects import Redirected
from buildsys.stages.originals import ORIGINAL
from buildsys.stages.redirects import expanded


@dataclass(frozen=True)
class Pair:
    """The two functions of one name: the runtime's local one, and ours, global. None where there is none."""

    name: str
    old: Symbol | None
    new: Symbol | None


@dataclass(frozen=True)
class Case:
    """One image on trial. `rebuild` makes the same image in another folder and returns its path.

    `arguments` are what the entry is to be called with, `barrier` what barriers do, `sets` the ready sets,
    `allocator` and `alloc_memory` for one of them, as `config.project.Project` has them, and `asked` tells what
    is to take the place of what; `own_boot` says that boot code is the user's; `expected` is what else was
    promised to the kernel.
    `program` says that the kernel is the supervisor of a program, which is in the image beside it: nothing here is
    about that. `alone` asks about the embedded emulator by itself: QEMU is left out, and no claim misses it.
    `known` is the Go object, if it was read before as it is now. `configuration` is what the image's identity tells
    of beside its contents; None if that is not known.
    """

    image: Path
    unpatched: Path
    go_object: Path
    board: Board
    entry: str
    package: Path
    time_limit: float
    rebuild: Callable[[Path], Path]
    arguments: tuple[int | str, ...] = ("board",)
    asked: Callable[[], tuple[Redirection, ...]] = tuple
    barrier: BarrierPolicy = DISCARDING
    sets: tuple[str, ...] = ()
    allocator: str = ""
    alloc_memory: int | None = None
    own_boot: bool = False
    expected: Expected = NOTHING
    alone: bool = False
    program: bool = False
    known: GoObject | None = None
    configuration: Callable[[], bytes | None] = lambda: None

    @cached_property
    def redirects(self) -> tuple[Redirection, ...]:
        """What is to take the place of what."""
        return self.asked()

    @cached_property
    def elf(self) -> Elf:
        """The patched image."""
        return Elf.read(self.image)

    @cached_property
    def before(self) -> Elf:
        """The unpatched image."""
        return Elf.read(self.unpatched)

    @cached_property
    def of_go(self) -> GoObject:
        """What the Go object says by itself."""
        asked = GoObject(self.go_object, self.sets)
        return self.known if self.known and self.known == asked else asked

    @cached_property
    def object(self) -> Elf:
        """The Go object."""
        return self.of_go.elf

    @cached_property
    def plan(self) -> Plan:
        """What must have been taken over, told from the names the Go object defines."""
        return self.of_go.plan

    @cached_property
    def flag(self) -> int:
        """The address of the flag in the patched image. Raises UserError if it is not one symbol."""
        found = self.elf.symbols.addresses(FLAG)
        if FLAG not in found:
            raise UserError(f"{self.image}: {FLAG} is no symbol, or several that differ")
        return found[FLAG]

    @cached_property
    def pairs(self) -> dict[str, Pair]:
        """Old and new function by name, for every function of the plan, from the patched image."""
        named = self.elf.symbols.named(*self.plan.functions)
        return {name: _pair(name, symbols) for name, symbols in named.items()}

    @cached_property
    def dead_ends(self) -> dict[int, str]:
        """Functions of the user's that no good end follows, for they stand in for a panic, say: names by address."""
        names = set(self.plan.ending)
        return {one.new.value: one.asked.to for one in self.redirected.values() if one.new and one.name in names}

    @cached_property
    def redirected(self) -> dict[str, Redirected]:
        """Each function the user replaces, by its name: families are told again from this image's names."""
        names = [each.name for each in self.elf.symbols.functions()] if self.redirects else []
        return {
            asked.old: Redirected(
                asked,
                self._old(asked.old),
                self._named(asked.to),
                self._named(asked.original) if asked.original else self._standing(asked.old),
                asked.mode.at_entry or asked.old in self.plan.entered,
            )
            for asked in expanded(self.redirects, names)
        }

    def _standing(self, name: str) -> Symbol | None:
        """What stands for the original of `name` if the sources call it so."""
        found = self._named(ORIGINAL + name)
        return found if found and found.is_global else None

    def _old(self, name: str) -> Symbol | None:
        """The function called `name` that is replaced: of one that is taken over anyway, the runtime's."""
        return self.pairs[name].old if name in self.pairs else self._named(name)

    def _named(self, name: str) -> Symbol | None:
        """The one function called `name`; what is bound to a function of Go's is none itself."""
        found = {each.value: each for each in self.elf.symbols.named(name)[name] if each.kind == STT_FUNC}
        return next(iter(found.values())) if len(found) == 1 else None

    @cached_property
    def kept(self) -> Kept:
        """What became of the promises in `expected`."""
        return kept(self)

    @cached_property
    def barriers(self) -> dict[str, Pair]:
        """The pairs that are barriers."""
        names = {barrier.name for barrier in self.plan.barriers}
        return {name: pair for name, pair in self.pairs.items() if name in names}

    @cached_property
    def called(self) -> dict[str, Pair]:
        """The pairs redirected at their call sites, but the user's: barriers, readers of the flag, some of sets."""
        return {name: self.pairs[name] for name in self.plan.called if name not in self.redirected}

    @cached_property
    def entered(self) -> dict[str, Pair]:
        """The pairs redirected at the old function's entry, but those the user begins in another way."""
        users = {name for name, each in self.redirected.items() if each.asked.mode.at_entry}
        return {name: self.pairs[name] for name in self.plan.entered if name not in users}

    @cached_property
    def names(self) -> dict[int, str]:
        """The names of our functions that calls are redirected to, by address."""
        return {pair.new.value: name for name, pair in self.called.items() if pair.new}

    @cached_property
    def olds(self) -> dict[int, str]:
        """The names of the functions calls are redirected away from, by address."""
        return {pair.old.value: name for name, pair in self.called.items() if pair.old}

    @cached_property
    def entered_olds(self) -> dict[int, int | None]:
        """The functions redirected at their entry: the address of the old one and of ours, or the user's."""
        users = [each for each in self.redirected.values() if each.asked.mode.at_entry]
        pairs: list[Pair | Redirected] = [*self.entered.values(), *users]
        return {pair.old.value: pair.new.value if pair.new else None for pair in pairs if pair.old}

    @cached_property
    def sites(self) -> list[CallSite]:
        """Every branch in the patched image to an old or new function of `called`, lowest address first."""
        return call_sites(self.elf, self._targets(self.called))

    @cached_property
    def sites_before(self) -> list[CallSite]:
        """The same in the unpatched image, where the addresses of the functions are the same."""
        return call_sites(self.before, self._targets(self.called))

    @cached_property
    def code(self) -> Code:
        """The instructions of the patched image."""
        return code_of(self.elf)

    @cached_property
    def flag_uses(self) -> list[Reference]:
        """Every instruction of the patched image that loads the flag, stores to it or forms its address."""
        return references(self.elf, self.code, self.flag, FLAG_BYTES)

    @cached_property
    def flag_loads(self) -> list[Judgement]:
        """Every load of the flag, with the calls it leads to; those to ours are what should be called."""
        served = self.names.keys() | set(self.elf.symbols.addresses(*COPIES).values())
        served |= {each.new.value for each in self.redirected.values() if each.new}
        loads = {use.address: use for use in self.flag_uses if use.kind == "load"}
        return [judge(self.code, use, served, loads) for use in loads.values()]

    @property
    def reach(self) -> Reach:
        """What boot code and the kernel can run."""
        return self._reached[0]

    @property
    def unasked(self) -> Reach:
        """What of it they could run if no original were called on purpose."""
        return self._reached[1]

    @cached_property
    def _reached(self) -> tuple[Reach, Reach]:
        """Assembly calls some functions by addresses it computes."""
        called = [self.entry, self.barrier.function] if self.barrier.function else [self.entry]
        users = [each for each in self.redirected.values() if each.name in self.plan.ends]
        entries = (*self.elf.symbols.addresses(*called).values(), self.elf.entry)
        passed = [
            Passed(
                each.old.value,
                each.new.value,
                each.original.value,
                self.before.word(each.old.value) if each.taken else None,
            )
            for each in self.redirected.values()
            if each.old and each.new and each.original
        ]
        roots = (*entries, *(each.new.value for each in users if each.new))
        # The supervisor holds the address of the program's first instruction, and calls nothing there.
        ending = stops(self.elf, self.plan) | (functions(self.elf) if self.program else set())
        # Not by relocations, as the build does it, but by decoding: an image can differ from what they say.
        return reached(self.elf, roots, self.flag, self.ends, passed, ending, related=False)

    @cached_property
    def ends(self) -> set[int]:
        """The addresses of functions that do not return: what only leads to a call of one is passed over."""
        ours = [pair for name, pair in (self.called | self.entered).items() if name in self.plan.ends]
        users = [each for each in self.redirected.values() if each.name in self.plan.ends]
        pairs: list[Pair | Redirected] = [*ours, *users]
        return {each.value for pair in pairs for each in (pair.old, pair.new) if each}

    @cached_property
    def modules(self) -> frozenset[str]:
        """The paths of the modules the image was built from: packages of theirs are the kernel's own."""
        return own_modules(self.elf)

    @cached_property
    def boot(self) -> Boot:
        """What boot code does, told from its instructions in the patched image."""
        return boot(self)

    @cached_property
    def offsets(self) -> dict[str, int]:
        """Byte offsets of the runtime's fields that boot code sets, from the DWARF of the Go object."""
        return self.of_go.offsets

    @cached_property
    def places(self) -> Places:
        """Where a run is watched."""
        return places(self)

    @cached_property
    def embedded(self) -> Observation:
        """What runs on the embedded emulator did, seen from outside."""
        return observe_embedded(self)

    @cached_property
    def followed(self) -> Followed:
        """Each store whose barrier was called, followed to its destination on the embedded emulator."""
        return follow_stores(self)

    @cached_property
    def qemu(self) -> Observation | None:
        """What runs on QEMU did; None if it is not installed, or left out."""
        if self.alone:
            return None
        from buildsys.proof.on_qemu import observe_qemu

        return observe_qemu(self)

    @property
    def runs(self) -> tuple[Observation, ...]:
        """What was observed on each emulator there is."""
        return (self.embedded,) if self.qemu is None else (self.embedded, self.qemu)

    @staticmethod
    def _targets(pairs: dict[str, Pair]) -> set[int]:
        return {symbol.value for pair in pairs.values() for symbol in (pair.old, pair.new) if symbol}


def _pair(name: str, symbols: list[Symbol]) -> Pair:
    functions = [symbol for symbol in symbols if symbol.kind == STT_FUNC]
    old = [symbol for symbol in functions if not symbol.is_global]
    new = [symbol for symbol in functions if symbol.is_global]
    return Pair(name, old[0] if len(old) == 1 else None, new[0] if len(new) == 1 else None)
