"""The runtime's services: which functions of an image are part of one, told by name and by their instructions.

Which services there are is in `services.toml`. System calls and loads of `getg().m` are found by
decoding, so that a function of a release nobody has seen, or of a package of any name, is known
by what it does.
"""

from __future__ import annotations

import tomllib
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fnmatch import translate
from pathlib import Path
from re import compile as compiled

from buildsys.formats.callsites import by_top
from buildsys.formats.references import overwrites
from buildsys.formats.symbols import Symbol
from buildsys.go import sets
from buildsys.go.packages import is_own, package_of

FILE = Path(__file__).with_name("services.toml")
THREAD = "runtime.g.m"
SVC, THREAD_LOAD = "svc", "g.m"

_G = 28  # src/cmd/compile/abi-internal.md: the register that holds the goroutine
_EXCEPTIONS = bytes(top == 0xD4 for top in range(256))
_LOADS_AND_MOVES = bytes(top in (0xF9, 0xAA) for top in range(256))
_AHEAD = 16  # instructions that a copy of g is followed for


@dataclass(frozen=True)
class Service:
    """One service. `why` it cannot be had on bare metal, what to do `instead`, and the ready `set` that serves it.

    `by_itself` is the ready set with which its functions work as they are.
    """

    name: str
    why: str
    instead: str
    functions: tuple[str, ...] = ()
    found: str = ""
    set: str = ""
    by_itself: str = ""

    @property
    def ready_set(self) -> str:
        """The ready set with which it is none that is missing; empty if there is none."""
        return self.set or self.by_itself


def services() -> tuple[Service, ...]:
    """Every service, in the order that decides whose a function is."""
    told = tomllib.loads(FILE.read_text("utf-8"))["service"]
    for each in told:
        each["by_itself"] = each.pop("with", "")
    return tuple(replace(Service(**each), functions=tuple(each["functions"])) for each in told)


def available(name: str) -> bool:
    """Whether there is a ready set of that name."""
    return name in sets.known()


class Classes:
    """Tells the service a function is part of.

    `thread` is the offset of `m` in `runtime.g`, `modules` the paths of the kernel's own, whose functions
    are part of none.
    """

    def __init__(self, known: Sequence[Service], thread: int, modules: Iterable[str]) -> None:
        self._modules = frozenset(modules)
        self._thread = thread
        self._patterns = [
            (compiled(translate(pattern)), pattern.count("."), each) for each in known for pattern in each.functions
        ]
        self._found = {each.found: each for each in known if each.found}

    def by_name(self, name: str) -> Service | None:
        """The service that a function of this name is part of."""
        plain = name.removesuffix(".abi0")
        if not plain.startswith(("runtime.", "sync", "internal/", "syscall.", "time.", "runtime/")):
            return None
        dots = plain.count(".")
        return next((each for pattern, count, each in self._patterns if count == dots and pattern.match(plain)), None)

    def of(self, function: Symbol, words: array[int]) -> Service | None:
        """The service that `function` is part of, its instructions being `words`."""
        if is_own(package_of(function.name), self._modules):
            return None
        named = self.by_name(function.name)
        if named is not None:
            return named
        if SVC in self._found and makes_system_calls(words):
            return self._found[SVC]
        if THREAD_LOAD in self._found and loads_thread(words, self._thread):
            return self._found[THREAD_LOAD]
        return None


def makes_system_calls(words: array[int]) -> bool:
    """C6.2 SVC."""
    return any(words[at] & 0xFFE0_001F == 0xD400_0001 for at in by_top(words, _EXCEPTIONS))


def loads_thread(words: array[int], offset: int) -> bool:
    """Whether the word at `offset` of what x28 points to is loaded, or of a copy of x28 made just before."""
    load = 0xF940_0000 | offset // 8 << 10  # C6.2 LDR (immediate), 64-bit
    direct = load | _G << 5
    for at in by_top(words, _LOADS_AND_MOVES):
        word = words[at]
        if word & 0xFFFF_FFE0 == direct:
            return True
        if word & 0xFFFF_FFE0 == 0xAA1C_03E0:  # C6.2 MOV (register) from x28
            copy = word & 31
            for after in words[at + 1 : at + 1 + _AHEAD]:
                if after & 0xFFFF_FFE0 == load | copy << 5:
                    return True
                if overwrites(after, copy):
                    break
    return False
