"""What the user wants redirected, held against an image: names become addresses, families their members.

A name may have one `*`, which stands for any characters but a dot and a hyphen: no closure of a function, no
method of a type, no wrapper for a method's value (`-fm`) and no `.abi0` is meant by accident. In the new name it
stands for the same characters. That of a receiver, as in `main.(*T).*`, is a part of the name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from buildsys.config.redirects import Redirection
from buildsys.errors import UserError
from buildsys.formats.elf import Elf
from buildsys.formats.patch import ROOM, Redirect
from buildsys.formats.symbols import STT_FUNC, Symbol
from buildsys.go.runtime import Plan
from buildsys.stages.originals import ORIGINAL

ANY = re.compile(r"(?<!\()\*")


def resolved(elf: Elf, wanted: Sequence[Redirection], plan: Plan, package: str = "") -> list[Redirect]:
    """A redirect for each function that `wanted` means. Raises UserError, which says where it was asked for.

    A function that `plan` takes over may be redirected by the user instead, but for the barriers. `package` is
    the folder of the kernel package, by which messages name source files.
    """
    each = expanded(wanted, elf.symbols.names_of_functions() if any(map(is_family, wanted)) else ())
    found = [_redirect(one, symbols) for one, symbols in zip(each, _functions(elf, each, plan, package), strict=True)]
    by_old = {redirect.old: one for redirect, one in zip(found, each, strict=True)}
    for redirect, one in zip(found, each, strict=True):
        if by_old[redirect.old] is not one:
            raise UserError(f"{_at(one)}{one.old} is redirected already, as {by_old[redirect.old].old}")
        if redirect.new in by_old:
            raise UserError(f"{_at(one)}{one.old} is redirected to {one.to}, which is redirected itself")
        if redirect.original in by_old:
            raise UserError(f"{_at(one)}{one.original} is to call the original of {one.old}, and is redirected itself")
    _refuse_unused(elf, found)
    return found


def _refuse_unused(elf: Elf, found: Sequence[Redirect]) -> None:
    """Raise UserError if an original is called by name of a function that nothing redirects."""
    used = {redirect.original for redirect in found}
    for symbol in elf.symbols.beginning(ORIGINAL):
        if symbol.is_global and symbol.kind == STT_FUNC and symbol.value not in used:
            name = symbol.name.removeprefix(ORIGINAL)
            raise UserError(
                f"{symbol.name} is called, and {name} is not redirected",
                _near(name, [redirect.name for redirect in found]) + f"call {name} itself, or redirect it",
            )


def expanded(wanted: Iterable[Redirection], names: Iterable[str]) -> list[Redirection]:
    """`wanted`, with each family in it replaced by its members among `names`; no two are of one function.

    What is named in full is left out of families. Raises UserError for a family without members, for two that
    share one, and for a name that is redirected twice.
    """
    wanted, names = list(wanted), list(names)
    exact: dict[str, Redirection] = {}
    for one in wanted:
        if is_family(one):
            continue
        if one.old in exact:
            raise UserError(
                f"{_at(one)}{one.old} cannot be redirected twice"
                + (f": {exact[one.old].place} does so, too" if exact[one.old].place else ""),
                "leave one out",
            )
        exact[one.old] = one
    found: dict[str, Redirection] = dict(exact)
    for family in wanted:
        if not is_family(family):
            if ANY.search(family.to):
                raise UserError(f"{_at(family)}{family.to} has a *, and {family.old} has none")
            continue
        members = list(_members(family, names))
        if not members:
            raise UserError(
                f"{_at(family)}no function is called {family.old}",
                _near(ANY.sub("", family.old), names) + "a * stands for any characters but a dot and a hyphen",
            )
        for member in members:
            if member.old in exact:
                continue
            if other := found.get(member.old):
                raise UserError(
                    f"{_at(family)}{member.old} is meant here, and by {other.place or 'another line'}",
                    f"name it in full: `{member.old}` then goes where that line says",
                )
            found[member.old] = member
    return list(found.values())


def _members(family: Redirection, names: Iterable[str]) -> Iterator[Redirection]:
    if max(len(ANY.findall(family.old)), len(ANY.findall(family.to))) > 1:
        raise UserError(f"{_at(family)}{family.old} to {family.to}: there may be one * in each name")
    if ANY.search(family.original):
        raise UserError(f"{_at(family)}`original` cannot have a *", f"call {ORIGINAL}NAME, which every function has")
    before, after = ANY.split(family.old)
    meant = re.compile(f"{re.escape(before)}([^.-]*){re.escape(after)}")
    seen = set[str]()
    for name in names:
        match = meant.fullmatch(name) if name.startswith(before) else None
        # What takes the place of others does not belong to them.
        if match and name not in seen and name != family.to:
            seen.add(name)
            yield replace(family, old=name, to=match[1].join(ANY.split(family.to)))


def is_family(one: Redirection) -> bool:
    """Whether it means several functions."""
    return bool(ANY.search(one.old))


Found = tuple[Symbol, Symbol, Symbol | None]


def _functions(elf: Elf, each: Sequence[Redirection], plan: Plan, package: str) -> Iterator[Found]:
    """For each: the old function, the new one, and what stands for the original."""
    barriers = {barrier.name for barrier in plan.barriers}
    taken = set(plan.functions) - barriers
    named = elf.symbols.named(*{name for one in each for name in (one.old, one.to, one.original, ORIGINAL + one.old)})
    functions = {name: [symbol for symbol in found if symbol.kind == STT_FUNC] for name, found in named.items()}
    for one in each:
        if one.old in barriers:
            raise UserError(
                f"{_at(one)}{one.old} cannot be redirected to {one.to}: it is taken over already",
                "the write barrier is this build's own affair",
            )
        olds = functions[one.old]
        if not olds:
            _refuse_inlined(elf, one, package)
        # Of a function that is taken over there are two, and the global one is ours.
        old = _one(elf, one, one.old, [each for each in olds if not each.is_global] if one.old in taken else olds)
        new = _one(elf, one, one.to, functions[one.to])
        if old.value == new.value:
            raise UserError(
                f"{_at(one)}{one.old} cannot be redirected to {one.to}: they are the same function, at {old.value:#x}"
            )
        name = one.original or ORIGINAL + one.old
        standing = functions[name] if one.original else [each for each in functions[name] if each.is_global]
        stands = _one(elf, one, name, standing) if one.original or standing else None
        if stands and (stands.value in (old.value, new.value) or stands.size < ROOM):
            raise UserError(
                f"{_at(one)}{name} cannot stand for the original of {one.old}: "
                + (f"it has {stands.size} bytes, {ROOM} are needed" if stands.size < ROOM else "it is another part")
            )
        yield old, new, stands


def _refuse_inlined(elf: Elf, asked: Redirection, package: str) -> None:
    """Raise UserError if the old function is not there because every call of it was inlined."""
    from buildsys.stages.agreement import missing

    if found := missing(elf, asked.old, package):
        raise UserError(f"{_at(asked)}{found[0]}", found[1])


def _redirect(one: Redirection, found: Found) -> Redirect:
    old, new, stands = found
    return Redirect(
        name=one.old,
        old=old.value,
        old_end=old.end,
        new=new.value,
        mode=one.mode,
        to=one.to,
        original=stands.value if stands else 0,
        pointers=one.pointers,
        allow=one.allow,
        place=one.place,
    )


def _one(elf: Elf, asked: Redirection, name: str, bearers: Sequence[Symbol]) -> Symbol:
    """The one function called `name`."""
    if len({symbol.value for symbol in bearers}) == 1:
        return bearers[0]
    if bearers:
        raise UserError(
            f"{_at(asked)}{name} is several functions of {elf.name}: "
            + ", ".join(f"{each.letter()} {each.value:#x}" for each in bearers)
        )
    raise UserError(
        f"{_at(asked)}{elf.name} has no function {name}",
        _near(name, elf.symbols.names_of_functions())
        + "Go keeps only what main.main can reach, and may put a small function into its callers (//go:noinline)",
    )


def _near(name: str, names: Iterable[str]) -> str:
    from difflib import get_close_matches

    near = get_close_matches(name, list(names), 1)
    return f"did you mean {near[0]}? " if near else ""


def _at(one: Redirection) -> str:
    return f"{one.place}: " if one.place else ""
