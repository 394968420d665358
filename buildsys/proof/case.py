"""The facts a proof is made from: the files, read once, decoded once, run once per machine.

Nothing here comes from what the build said of itself (patch.json, build/.done):
what is to be redirected is told again from the Go object.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from buildsys.config.board import Board
from buildsys.formats.callsites import CallSite, call_sites
from buildsys.formats.elf import Elf
from buildsys.formats.symbols import STT_FUNC, Symbol
from buildsys.go.runtime import FLAG, Plan, plan
from buildsys.proof.observation import Observation, observe_embedded, observe_qemu


@dataclass(frozen=True)
class Pair:
    """The two functions of one name: the runtime's local one, and ours, global. None where there is none."""

    name: str
    old: Symbol | None
    new: Symbol | None


@dataclass(frozen=True)
class Case:
    """One image on trial. `rebuild` makes the same image in another folder and returns its path."""

    image: Path
    unpatched: Path
    go_object: Path
    board: Board
    entry: str
    package: Path
    time_limit: float
    rebuild: Callable[[Path], Path]

    @cached_property
    def elf(self) -> Elf:
        """The patched image."""
        return Elf.read(self.image)

    @cached_property
    def before(self) -> Elf:
        """The unpatched image."""
        return Elf.read(self.unpatched)

    @cached_property
    def object(self) -> Elf:
        """The Go object."""
        return Elf.read(self.go_object)

    @cached_property
    def plan(self) -> Plan:
        """What must have been taken over, told from the names the Go object defines."""
        return plan({function.name for function in self.object.symbols.functions()}, str(self.go_object))

    @cached_property
    def flag(self) -> int:
        """The address of the flag in the patched image. Raises LookupError if it is not one symbol."""
        return self.elf.symbols.addresses(FLAG)[FLAG]

    @cached_property
    def pairs(self) -> dict[str, Pair]:
        """Old and new function by name, for every function of the plan, from the patched image."""
        named = self.elf.symbols.named(*self.plan.functions)
        return {name: _pair(name, symbols) for name, symbols in named.items()}

    @cached_property
    def barriers(self) -> dict[str, Pair]:
        """The pairs that are barriers."""
        names = {barrier.name for barrier in self.plan.barriers}
        return {name: pair for name, pair in self.pairs.items() if name in names}

    @cached_property
    def called(self) -> dict[str, Pair]:
        """The pairs redirected at their call sites: barriers and readers of the flag."""
        return {name: self.pairs[name] for name in self.plan.called}

    @cached_property
    def fatal(self) -> dict[str, Pair]:
        """The pairs redirected at the old function's entry."""
        return {name: self.pairs[name] for name in self.plan.fatal}

    @cached_property
    def sites(self) -> list[CallSite]:
        """Every branch in the patched image to an old or new function of `called`, lowest address first."""
        return call_sites(self.elf, self._targets(self.called))

    @cached_property
    def sites_before(self) -> list[CallSite]:
        """The same in the unpatched image, where the addresses of the functions are the same."""
        return call_sites(self.before, self._targets(self.called))

    @cached_property
    def embedded(self) -> Observation:
        """What a run on the embedded emulator did, seen from outside."""
        return observe_embedded(self)

    @cached_property
    def qemu(self) -> Observation | None:
        """The same on QEMU; None if it is not installed."""
        return observe_qemu(self)

    @staticmethod
    def _targets(pairs: dict[str, Pair]) -> set[int]:
        return {symbol.value for pair in pairs.values() for symbol in (pair.old, pair.new) if symbol}


def _pair(name: str, symbols: list[Symbol]) -> Pair:
    functions = [symbol for symbol in symbols if symbol.kind == STT_FUNC]
    old = [symbol for symbol in functions if not symbol.is_global]
    new = [symbol for symbol in functions if symbol.is_global]
    return Pair(name, old[0] if len(old) == 1 else None, new[0] if len(new) == 1 else None)
