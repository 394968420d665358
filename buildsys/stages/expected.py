"""The Go object made to agree with what the kernel expects of its build: `symbols` and `literals` of the configuration.

A variable of Go's that stands for a symbol of the linker's, as `//go:linkname __end __end` makes one, is left for
the linker to define. Numbers in the code of a function, Go's or one of assembly, that stand for the address of a
symbol become that address. Both are done by relocations, so the linker does the rest, and keeps them for `doit verify`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path

from buildsys.config.expected import Literal, Place
from buildsys.errors import UserError
from buildsys.files import replace
from buildsys.formats.callsites import words_of
from buildsys.formats.elf import Elf
from buildsys.formats.rewriting import Formed, Use, formed, rewritten
from buildsys.formats.symbols import SHN_UNDEF, STT_FUNC, STT_OBJECT, Symbol
from buildsys.stages.assembly import defined, undefined


def expect(go_object: Path, others: Sequence[Path], script: Path, symbols: Sequence[tuple[str, Place]],
           literals: Sequence[Literal], made: Path) -> None:  # fmt: skip
    """Write `made`, the Go object as it is to be linked, by `script` and with the objects `others`.

    Raises UserError for what it has not, and for a symbol that nobody names.
    """
    elf = Elf.read(go_object)
    _refuse_unnamed(elf, [Elf.read(path) for path in others], [name for name, _ in symbols])
    ours = {name for name, _ in symbols}
    for name, bearers in elf.symbols.named(*ours).items():
        if any(bearer.kind == STT_FUNC for bearer in bearers):
            raise UserError(f"`symbols` names {name}, which is a function of Go's", "only variables can be placed")
    known = {*ours, *re.findall(r'(?m)^\s*"?([\w.$/]+)"?\s*=', script.read_text("utf-8"))}
    known = known.union(*(defined(Elf.read(path)) for path in others))
    for name, place in symbols:
        if place.base and place.base not in known:
            raise _no_base(f"`symbols` has {name} = {str(place)!r}", place.base, known, elf, gos=False)
    of_assembly = set().union(*(defined(Elf.read(path)) for path in others)) - elf.symbols.all_names()
    for literal in literals:
        if literal.place.base and literal.place.base not in known | elf.symbols.all_names():
            where = f"`literals` has {literal.value:#x} = {str(literal.place)!r} in {literal.function}"
            raise _no_base(where, literal.place.base, known, elf, gos=True)
    gos = [each for each in literals if each.function not in of_assembly]
    replace(made, rewritten(elf, sorted(ours), uses(elf, gos)))


def with_literals(contents: bytes, name: str, literals: Iterable[Literal]) -> bytes:
    """The object `contents`, of the user's assembly, with those of `literals` as addresses that its routines hold.

    Raises UserError for a number that a routine of its does not hold, or not so that it could be another.
    """
    elf = Elf(contents, name)
    here = {each.name for each in elf.symbols.functions() if each.is_global and each.section != SHN_UNDEF}
    ours = [each for each in literals if each.function in here]
    return rewritten(elf, (), uses(elf, ours)) if ours else contents


def _no_base(where: str, base: str, known: set[str], elf: Elf, gos: bool) -> UserError:
    names = elf.symbols.all_names()
    if base in names:
        return UserError(f"{where}, and {base} is Go's, which a linker cannot name", "assembly may name it itself")
    near = get_close_matches(base, known | names if gos else known, 1)
    return UserError(f"{where}, and nothing is called {base}", f"did you mean {near[0]}?" if near else "")


def _refuse_unnamed(elf: Elf, others: Sequence[Elf], names: Sequence[str]) -> None:
    """Raise UserError for a symbol that neither Go nor assembly names: it would change nothing."""
    wanted = undefined(elf).union(*map(undefined, others))
    for name, bearers in elf.symbols.named(*names).items():
        if not bearers and name not in wanted:
            known = [each.name for each in elf.symbols.all() if each.kind == STT_OBJECT]
            same = [each for each in known if each.rpartition(".")[2] == name]
            near = same or get_close_matches(name, [*wanted, *known], 1)
            raise UserError(
                f"`symbols` has {name}, which neither Go nor assembly names",
                f"did you mean {near[0]}?" if near else "a variable of Go's is named with its package: main.x",
            )


def uses(elf: Elf, literals: Iterable[Literal]) -> list[Use]:
    """Where in the object the code holds each of `literals`. Raises UserError for one that is nowhere."""
    found: list[Use] = []
    for literal in literals:
        function = function_of(elf, literal.function)
        section = elf.sections[function.section]
        base = function.value - section.address
        words = words_of(elf, section)[base >> 2 : (base + function.size) >> 2]
        every = list(formed(words, base))
        here = [each for each in every if each.value == literal.value]
        if not here:
            raise _absent(literal, every)
        for each in here:
            if not each.whole:
                raise UserError(
                    f"{literal.function} forms {literal.value:#x} by an instruction that no other address fits into",
                    "only a number that takes a movz and a movk can become an address: redirect the function",
                )
            found.append(Use(section, each, literal.place.base, literal.place.offset))
    return found


def function_of(elf: Elf, name: str) -> Symbol:
    """The one function called `name` in an object. Raises UserError."""
    bearers = [each for each in elf.symbols.named(name)[name] if each.kind == STT_FUNC and each.section != SHN_UNDEF]
    if len(bearers) == 1:
        return bearers[0]
    near = get_close_matches(name, [function.name for function in elf.symbols.functions()], 1)
    raise UserError(
        f"`literals` names {name}, and there is no such function of Go's, nor a global label of assembly",
        (f"did you mean {near[0]}? " if near else "")
        + "Go keeps only what main.main can reach, and may put a small function into its callers",
    )


def _absent(literal: Literal, every: Iterable[Formed]) -> UserError:
    there = sorted({each.value for each in every if each.whole}, key=lambda value: abs(value - literal.value))
    return UserError(
        f"`literals` says that {literal.function} holds {literal.value:#x}, and it does not",
        ("it holds " + ", ".join(map(hex, there[:8])) + ": " if there else "")
        + "it is held by a movz and the movk behind it, or has been computed with; Go may put a function into another",
    )
