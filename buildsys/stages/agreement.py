"""What the user's redirects must keep to: old and new agree, none comes back to itself, no copy was inlined.

Each finding is an error unless the redirect allows it by name; what is allowed,
and what is not known, is a remark. Nothing is looked at if there are no redirects
of the user's: those of the plan are made for each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from buildsys.errors import UserError
from buildsys.formats.elf import Elf
from buildsys.formats.patch import Patch, Redirect
from buildsys.go.agreement import Agreement, compare
from buildsys.go.described import Copy, Described, described
from buildsys.go.packages import is_own, own_modules, package_of, sources
from buildsys.go.recursion import Recursion, recursions
from buildsys.go.running import Running
from buildsys.go.runtime import FLAG
from buildsys.go.signatures import Signature, Told
from buildsys.stages.findings import Around, Findings
from buildsys.stages.originals import ORIGINAL

SIGNATURE, RECURSION, INLINED = "signature", "recursion", "inlined"
_SHOWN = 10  # places that a message lists

_UNREADABLE = "nothing is known of what functions take and give, nor of inlined copies: "

Names = Callable[[str], str]  # how the user calls a source file


@dataclass(frozen=True)
class _Judged:
    """One redirect with what was found of it: how old and new compare, a way back, copies, and those that can run."""

    redirect: Redirect
    agreements: tuple[Agreement, ...]
    way: Recursion | None
    copies: tuple[Copy, ...]
    running: tuple[Copy, ...]

    def refuse(self, what: str, problem: str, hint: str) -> None:
        """Raise UserError for `problem`, unless the redirect allows `what`."""
        if what not in self.redirect.allow:
            at = f"{self.redirect.place}: " if self.redirect.place else ""
            raise UserError(at + problem, f"{hint}, or allow it: {_allowing(self.redirect, what)}")

    def report(self) -> dict[str, Any]:
        """What patch.json says of it."""
        agreement = self.agreements[0]
        return {
            "takes": str(agreement.old) if agreement.old.told is Told.GO else None,
            "new_takes": str(agreement.new) if agreement.new.told is Told.GO else None,
            "mismatches": [text for each in self.agreements for text in each.mismatches],
            "differences": [text for each in self.agreements for text in each.remarks],
            "recursion": list(self.way.path) if self.way else [],
            "inlined": [
                {"place": copy.place, "inside": copy.inside, "address": hex(copy.address),
                 "reached": copy in self.running}
                for copy in self.copies
            ],
            "allow": list(self.redirect.allow),
        }  # fmt: skip


def check(elf: Elf, patched: Elf, done: Patch, redirects: Sequence[Redirect], around: Around) -> Findings:
    """Hold every redirect of `elf`, `patched` by `done`, against what it must keep to.

    Raises UserError for what no redirect allows by name.
    """
    found = described(elf, {at for each in redirects for at in (each.old, each.new, each.original) if at})
    names = sources(elf, around.package)
    judged = list(_judged(found, patched, done, redirects, around, names))
    remarks = [_UNREADABLE + found.unreadable] if found.unreadable else _unknown(judged)
    for step in (_come_back, _agree, _inlined):
        for each in judged:
            remarks += step(each, elf, names)
    remarks += [remark for each in judged for remark in _needless(each)]
    return Findings(tuple(remarks), {each.redirect.old: each.report() for each in judged})


def _judged(
    found: Described, patched: Elf, done: Patch, redirects: Sequence[Redirect], around: Around, names: Names
) -> Iterator[_Judged]:
    flag = patched.symbols.addresses(FLAG).get(FLAG, 0)
    found_ways = recursions(patched, redirects, done.rewrites, flag, around.ends, around.reached)
    ways = {way.redirect.old: way for way in found_ways}
    running = Running(patched, around.reached, around.ends)
    for redirect in redirects:
        old = found.signatures[redirect.old]
        others = [found.signatures[at] for at in (redirect.new, redirect.original) if at]
        copies = [replace(copy, file=names(copy.file)) for copy in found.copies.get(old.plain_name, ())]
        yield _Judged(
            redirect,
            tuple(compare(old, other) for other in others),
            ways.get(redirect.old),
            tuple(copies),
            tuple(copy for copy in copies if running.any(copy.pieces)),
        )


def missing(elf: Elf, name: str, package: str = "") -> tuple[str, str] | None:
    """Of a function that has no symbol: that it was inlined wherever it is called, and where, and what prevents that.

    None if no copy of it is known.
    """
    names = sources(elf, package)
    found = described(elf, (), (name,)).copies.get(name, ())
    copies = [replace(copy, file=names(copy.file)) for copy in found]
    if not copies:
        return None
    return f"{name} is no function any more: it was inlined {_where(copies)}", _prevention(elf, name)


def _agree(judged: _Judged, elf: Elf, names: Names) -> Iterator[str]:
    """Remarks on how old and new compare. Raises UserError if they do not agree."""
    redirect = judged.redirect
    for each in judged.agreements:
        if each.mismatches:
            text = f"{_told(each.old, '')}, {_told(each.new, names(each.new.place))}: {'; '.join(each.mismatches)}"
            judged.refuse(SIGNATURE, text, "make them alike")
            yield f"{text}; allowed"
        yield from (f"{redirect.name} → {each.new.name}: {remark}" for remark in each.remarks)


def _unknown(judged: Iterable[_Judged]) -> list[str]:
    """One remark on all functions of which nothing is known."""
    rows = {f"{each.name} ({each.told.value})": None for one in judged for each in one.agreements[0].unknown}
    if not rows:
        return []
    return [f"what these take and give is not known, that it agrees is for you to see to: {_listed(list(rows), ', ')}"]


def _listed(rows: Sequence[str], between: str) -> str:
    """The first of `rows`, and how many more there are."""
    more = [f"and {len(rows) - _SHOWN} more"] if len(rows) > _SHOWN else []
    return between.join([*rows[:_SHOWN], *more])


def _told(function: Signature, place: str) -> str:
    where = f" ({place})" if place else ""
    return f"{function.name}{where} takes {function}" if function.told is Told.GO else f"{function.name}{where}"


def _allowing(redirect: Redirect, what: str) -> str:
    """What to write where the redirect is asked for, to allow `what` besides what is allowed already."""
    allowed = [*redirect.allow, what]
    if ".go:" in redirect.place:  # a directive
        return f"allow={','.join(allowed)} in the directive"
    value = f'"{what}"' if len(allowed) == 1 else "[" + ", ".join(f'"{each}"' for each in allowed) + "]"
    return f'"{redirect.name}" = {{ to = "{redirect.to}", allow = {value} }}'


def _come_back(judged: _Judged, elf: Elf, names: Names) -> Iterator[str]:
    """A remark on a way back that is allowed. Raises UserError if it is not."""
    redirect, way = judged.redirect, judged.way
    if way is None:
        return
    at = f" at {way.address:#x}" if way.address else ""
    if len(way.path) == 2:
        text = f"{redirect.to} calls {redirect.name}{at}, and is put in its place: it would call itself for ever"
    else:
        text = f"{redirect.to} leads to {redirect.name}{at}, and is put in its place: it may call itself for ever:\n  "
        text += "\n  → ".join((*way.path[:-1], f"{redirect.name}, which is {redirect.to}"))
    judged.refuse(RECURSION, text, f"let it do without, call the original as {ORIGINAL}{redirect.name}")
    yield f"{redirect.to} may come back to itself: {' → '.join(way.path)}; allowed"


def _inlined(judged: _Judged, elf: Elf, names: Names) -> Iterator[str]:
    """A remark on inlined copies. Raises UserError if the kernel can run one, and that is not allowed."""
    name = judged.redirect.name
    if judged.running:
        text, hint = f"{name} was inlined {_where(judged.running)}", _prevention(elf, name)
        judged.refuse(INLINED, f"{text}\nno redirect reaches that, and the kernel can run it", hint)
        yield f"{text}\nallowed; {hint}"
    elif judged.copies:
        yield f"{name} was inlined in {_count(len(judged.copies))} that the kernel cannot reach"


def _needless(judged: _Judged) -> Iterator[str]:
    """Remarks on what is allowed and did not have to be: it would hide what comes to be wrong later."""
    found = {
        SIGNATURE: any(each.mismatches for each in judged.agreements),
        RECURSION: judged.way is not None,
        INLINED: bool(judged.running),
    }
    for each in judged.redirect.allow:
        if not found[each]:
            yield f"{judged.redirect.name}: nothing is wrong that `{each}` would have to allow"


def _where(copies: Sequence[Copy]) -> str:
    """How many copies there are, and the first of them with file and line."""
    rows = [f"{copy.place} in {copy.inside}" for copy in copies]
    if len(rows) == 1:
        return f"at {rows[0]}"
    return f"in {_count(len(rows))}:\n  " + _listed(rows, "\n  ")


def _count(places: int) -> str:
    return "one place" if places == 1 else f"{places} places"


def _prevention(elf: Elf, name: str) -> str:
    """What keeps a function whole: in sources that are not the user's, a flag of the compiler's only."""
    package = package_of(name)
    flag = 'gcflags = "-l"' if package == "main" else f'gcflags = "{package or "all"}=-l"'
    return (
        f"`//go:noinline` above it prevents that, or {flag}"
        if is_own(package, own_modules(elf))
        else f"{flag} prevents that"
    )
