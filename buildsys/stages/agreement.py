"""What the user's redirects must keep to: old and new agree, none comes back to itself, no copy was inlined.

Each finding is an error unless the redirect allows it by name; what is allowed,
and what is not known, is a remark. Nothing is looked at if there are no redirects
of the user's: those of the plan are made for each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from buildsys.errors import UserError
from buildsys.formats.elf import Elf
from buildsys.formats.patch import Patch, Redirect
from buildsys.go.agreement import Agreement, compare
from buildsys.go.described import Copy, Described, described
from buildsys.go.doomed import doomed
from buildsys.go.flag import code_of
from buildsys.go.packages import is_own, own_modules, package_of, sources
from buildsys.go.recursion import Recursion, recursions
from buildsys.go.runtime import FLAG
from buildsys.go.signatures import Signature, Told
from buildsys.stages.findings import Around, Findings
from buildsys.stages.originals import ORIGINAL

SIGNATURE, RECURSION, INLINED = "signature", "recursion", "inlined"
_SHOWN = 10  # places that a message lists

Names = Callable[[str], str]  # how the user calls a source file


def check(elf: Elf, patched: Elf, done: Patch, redirects: Sequence[Redirect], around: Around) -> Findings:
    """Hold every redirect of `elf`, `patched` by `done`, against what it must keep to.

    Raises UserError for what no redirect allows by name.
    """
    found = described(elf, {at for each in redirects for at in (each.old, each.new, each.original) if at})
    remarks: list[str] = []
    if found.unreadable:
        remarks.append(f"nothing is known of what functions take and give, nor of inlined copies: {found.unreadable}")
    at_file = sources(elf, around.package)
    agreements = {each.old: _agree(each, found, at_file, remarks) for each in redirects}
    remarks += _unknown(agreements.values())
    flag = patched.symbols.addresses(FLAG).get(FLAG, 0)
    ways = {way.redirect.old: way for way in recursions(patched, redirects, done.rewrites, flag, around.ends)}
    for redirect in redirects:
        if way := ways.get(redirect.old):
            _recursion(redirect, way, remarks)
    runs = _Running(patched, around)
    copies = {each.old: _copies(found, each, at_file) for each in redirects}
    for redirect in redirects:
        _inlined(redirect, copies[redirect.old], runs, remarks)
    for redirect in redirects:
        needed = {
            SIGNATURE: any(agreements[redirect.old].mismatches),
            RECURSION: redirect.old in ways,
            INLINED: any(runs(copy) for copy in copies[redirect.old]),
        }
        remarks += [f"{redirect.name}: allow {each} is not needed" for each in redirect.allow if not needed[each]]
    return Findings(
        tuple(remarks),
        {
            each.old: {
                **_agreement_report(agreements[each.old]),
                "recursion": list(ways[each.old].path) if each.old in ways else [],
                "inlined": [{"place": copy.place, "inside": copy.inside, "address": hex(copy.address),
                             "reached": runs(copy)} for copy in copies[each.old]],
            }
            for each in redirects
        },
    )  # fmt: skip


def missing(elf: Elf, name: str, package: str = "") -> tuple[str, str] | None:
    """Of a function that has no symbol: that it was inlined wherever it is called, and where, and what prevents that.

    None if no copy of it is known.
    """
    at_file = sources(elf, package)
    copies = [_placed(copy, at_file) for copy in described(elf, (), (name,)).copies.get(name, ())]
    if not copies:
        return None
    return f"{name} is no function any more: it was inlined {_where(copies)}", _prevention(elf, name)


def _agree(redirect: Redirect, found: Described, at_file: Names, remarks: list[str]) -> Agreement:
    """How old and new compare, and old and what stands for it. Raises UserError if they do not agree."""
    old = found.signatures[redirect.old]
    agreement = compare(old, found.signatures[redirect.new])
    others = [compare(old, found.signatures[redirect.original])] if redirect.original else []
    for each in (agreement, *others):
        if not each.mismatches:
            continue
        text = f"{_told(old, '')}, {_told(each.new, at_file(each.new.place))}: {'; '.join(each.mismatches)}"
        if SIGNATURE not in redirect.allow:
            raise UserError(_at(redirect) + text, f"make them alike, or allow it: {_allowing(redirect, SIGNATURE)}")
        remarks.append(f"{text}; allowed")
    remarks += [f"{redirect.name} → {redirect.to}: {remark}" for remark in agreement.remarks]
    return agreement


def _unknown(agreements: Iterable[Agreement]) -> list[str]:
    """One remark on all functions of which nothing is known."""
    rows = {f"{each.name} ({each.told.value})": None for one in agreements for each in one.unknown}
    if not rows:
        return []
    return [f"what these take and give is not known, that it agrees is for you to see to: {_listed(list(rows), ', ')}"]


def _listed(rows: Sequence[str], between: str) -> str:
    """The first of `rows`, and how many more there are."""
    more = [f"and {len(rows) - _SHOWN} more"] if len(rows) > _SHOWN else []
    return between.join([*rows[:_SHOWN], *more])


def _at(redirect: Redirect) -> str:
    return f"{redirect.place}: " if redirect.place else ""


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


def _agreement_report(agreement: Agreement) -> dict[str, Any]:
    return {
        "takes": str(agreement.old) if agreement.old.told is Told.GO else None,
        "new_takes": str(agreement.new) if agreement.new.told is Told.GO else None,
        "mismatches": list(agreement.mismatches),
        "differences": list(agreement.remarks),
    }


def _recursion(redirect: Redirect, way: Recursion, remarks: list[str]) -> None:
    """Raise UserError for a way back, unless it is allowed."""
    if RECURSION in redirect.allow:
        remarks.append(f"{redirect.to} may come back to itself: {' → '.join(way.path)}; allowed")
        return
    at = f" at {way.address:#x}" if way.address else ""
    if len(way.path) == 2:
        text = f"{redirect.to} calls {redirect.name}{at}, and is put in its place: it would call itself for ever"
    else:
        text = f"{redirect.to} leads to {redirect.name}{at}, and is put in its place: it may call itself for ever:\n  "
        text += "\n  → ".join((*way.path[:-1], f"{redirect.name}, which is {redirect.to}"))
    raise UserError(
        _at(redirect) + text,
        f"let it do without; call the original as {ORIGINAL}{redirect.name}; or allow it: "
        f"{_allowing(redirect, RECURSION)}",
    )


def _copies(found: Described, redirect: Redirect, at_file: Names) -> list[Copy]:
    """The inlined copies of the old function, lowest address first."""
    return [_placed(copy, at_file) for copy in found.copies.get(found.signatures[redirect.old].plain_name, ())]


def _placed(copy: Copy, at_file: Names) -> Copy:
    return replace(copy, file=at_file(copy.file))


def _inlined(redirect: Redirect, copies: Sequence[Copy], runs: _Running, remarks: list[str]) -> None:
    """Raise UserError if the kernel can run a copy of the old function."""
    running = [copy for copy in copies if runs(copy)]
    if running and INLINED not in redirect.allow:
        raise UserError(
            f"{_at(redirect)}{redirect.name} was inlined, where no redirect reaches it, and the kernel can run it "
            f"{_where(running)}",
            f"{_prevention(runs.elf, redirect.name)}, or allow it: {_allowing(redirect, INLINED)}",
        )
    if running:
        remarks.append(
            f"{redirect.name} was inlined {_where(running)}\nthis is allowed; {_prevention(runs.elf, redirect.name)}"
        )
    elif copies:
        remarks.append(f"{redirect.name} was inlined in {_count(len(copies))} that the kernel cannot reach")


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


class _Running:
    """Whether the kernel can run what is at a copy's first instruction."""

    def __init__(self, patched: Elf, around: Around) -> None:
        self.elf, self._around = patched, around
        self._code = code_of(patched)

    def __call__(self, copy: Copy) -> bool:
        reached, function = self._around.reached, self.elf.symbols.function_at(copy.address)
        if function is None or function.value not in reached.functions or function.value in reached.entered:
            return False
        body = self._code.body(copy.address)
        dead = doomed(body.words, body.base, self._around.ends)
        return any(
            at - body.base >> 2 not in dead for low, high in copy.pieces for at in range(low, min(high, body.end), 4)
        )
