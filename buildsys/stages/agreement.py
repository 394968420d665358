"""What the user's redirects must keep to: old and new agree, none comes back to itself, no copy was inlined.

Each finding is an error unless the redirect allows it by name; what is allowed,
and what is not known, is a remark. Nothing is looked at if there are no redirects
of the user's: those of the plan are made for each other.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Sequence
from dataclasses import dataclass, field
from typing import Any

from buildsys.errors import UserError
from buildsys.formats.elf import Elf
from buildsys.formats.patch import Patch, Redirect
from buildsys.formats.references import Code
from buildsys.go.agreement import Agreement, compare
from buildsys.go.described import Copy, Described, described
from buildsys.go.doomed import doomed
from buildsys.go.packages import package_of, sources
from buildsys.go.reach import Reach
from buildsys.go.recursion import Recursion, recursions
from buildsys.go.signatures import Signature, Told

SIGNATURE, RECURSION, INLINED = "signature", "recursion", "inlined"
_SHOWN = 10  # places that a message lists


@dataclass(frozen=True)
class Findings:
    """What was found of redirects none of which had to be refused.

    `remarks` are for the screen, `reports` what patch.json says of each, by the address of its old function.
    """

    remarks: tuple[str, ...] = ()
    reports: dict[int, dict[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Surroundings:
    """The patched image a redirect is judged in: what the kernel reaches, what does not return, where the flag is.

    `package` is the folder of the kernel package, to name source files by.
    """

    patched: Elf
    reached: Reach
    code: Code
    flag: int
    ends: Container[int]
    package: str = ""


def check(elf: Elf, done: Patch, redirects: Sequence[Redirect], around: Surroundings) -> Findings:
    """Hold every redirect against what it must keep to. Raises UserError for what is not allowed by name."""
    if not redirects:
        return Findings()
    found = described(elf, {at for each in redirects for at in (each.old, each.new, each.original) if at})
    remarks: list[str] = []
    if found.unreadable:
        remarks.append(f"nothing is known of what functions take and give, nor of inlined copies: {found.unreadable}")
    at_file = sources(elf, around.package)
    agreements = {each.old: _agree(each, found, at_file, remarks) for each in redirects}
    ways = {
        way.redirect.old: way for way in recursions(around.patched, redirects, done.rewrites, around.flag, around.ends)
    }
    for redirect in redirects:
        if way := ways.get(redirect.old):
            _recursion(redirect, way, remarks)
    copies = {each.old: _copies(elf, found, each, at_file) for each in redirects}
    for redirect in redirects:
        _inlined(redirect, copies[redirect.old], around, remarks)
    return Findings(
        tuple(remarks),
        {
            each.old: {
                **_agreement_report(agreements[each.old]),
                "recursion": list(ways[each.old].path) if each.old in ways else [],
                "inlined": [{"place": copy.place, "inside": copy.inside, "address": hex(copy.address),
                             "reached": _runs(around, copy)} for copy in copies[each.old]],
            }
            for each in redirects
        },
    )  # fmt: skip


def missing(elf: Elf, name: str, package: str = "") -> str:
    """Of a function that has no symbol: that it was inlined wherever it is called, and where; "" if it was not."""
    at_file = sources(elf, package)
    copies = [_placed(copy, at_file) for copy in described(elf, (), (name,)).copies.get(name, ())]
    if not copies:
        return ""
    return f"{name} is no function of its own: it was inlined {_where(copies)}\n{_prevention(name)}"


def _agree(redirect: Redirect, found: Described, at_file: Any, remarks: list[str]) -> Agreement:
    """How old and new compare, and old and what stands for it. Raises UserError if they do not agree."""
    old = found.signatures[redirect.old]
    agreement = compare(old, found.signatures[redirect.new])
    others = [compare(old, found.signatures[redirect.original])] if redirect.original else []
    for each in (agreement, *others):
        if not each.mismatches:
            continue
        text = f"{_told(old, '')} and {_told(each.new, at_file(each.new.place))} do not agree: " + "; ".join(
            each.mismatches
        )
        if SIGNATURE not in redirect.allow:
            raise UserError(text, _made_to_agree(redirect, each))
        remarks.append(f"{text}; allowed")
    for unknown in agreement.unknown:
        remarks.append(
            f"{redirect.name} → {redirect.to}: what {unknown.name} takes and gives is not known, "
            f"it is {unknown.told.value}: that they agree is for you to see to"
        )
    remarks += [f"{redirect.name} → {redirect.to}: {remark}" for remark in agreement.remarks]
    return agreement


def _told(function: Signature, place: str) -> str:
    where = f" ({place})" if place else ""
    return f"{function.name}{where} takes {function}" if function.told is Told.GO else f"{function.name}{where}"


def _made_to_agree(redirect: Redirect, agreement: Agreement) -> str:
    unnamed = (
        "this Go does not tell of parameters without a name: give each one; "
        if not (agreement.old.complete and agreement.new.complete)
        else ""
    )
    return f"{unnamed}make them alike, or allow it: {_allowing(redirect, SIGNATURE)}"


def _allowing(redirect: Redirect, what: str) -> str:
    """The line of the configuration that allows `what`, with what is allowed already."""
    allowed = [*redirect.allow, what]
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
    path = "\n  → ".join(way.path)
    at = f" at {way.address:#x}" if way.address else ""
    text = f"{redirect.to} comes back to {redirect.name}{at}, whose place it takes:\n  {path}, which is {redirect.to}"
    if RECURSION not in redirect.allow:
        raise UserError(
            text,
            "it may call itself for ever: let it do without, call the original by the name that stands for it, "
            f"or allow it: {_allowing(redirect, RECURSION)}",
        )
    remarks.append(f"{redirect.to} may come back to itself: {' → '.join(way.path)}; allowed")


def _copies(elf: Elf, found: Described, redirect: Redirect, at_file: Any) -> list[Copy]:
    """The copies of the old function that stay what they were; not those in the function itself, which nothing enters."""
    return [_placed(copy, at_file) for copy in found.copies.get(found.signatures[redirect.old].plain_name, ())]


def _placed(copy: Copy, at_file: Any) -> Copy:
    from dataclasses import replace

    return replace(copy, file=at_file(copy.file))


def _inlined(redirect: Redirect, copies: Sequence[Copy], around: Surroundings, remarks: list[str]) -> None:
    """Raise UserError if the kernel can run a copy of the old function."""
    running = [copy for copy in copies if _runs(around, copy)]
    if running and INLINED not in redirect.allow:
        raise UserError(
            f"{redirect.name} was inlined where no redirect reaches it, and the kernel can run it there: "
            f"{_where(running)}",
            f"{_prevention(redirect.name)}, or allow it: {_allowing(redirect, INLINED)}",
        )
    if running:
        remarks.append(
            f"{redirect.name} was inlined {_where(running)}; this is allowed, and {_prevention(redirect.name)}"
        )
    elif copies:
        remarks.append(f"{redirect.name} was inlined in {_count(len(copies))} that the kernel cannot reach")


def _where(copies: Sequence[Copy]) -> str:
    """How many copies there are, and the first of them with file and line."""
    rows = [f"{copy.place} in {copy.inside}" for copy in copies]
    if len(rows) == 1:
        return f"at {rows[0]}"
    more = [f"and {len(rows) - _SHOWN} more, listed in patch.json"] if len(rows) > _SHOWN else []
    return f"in {_count(len(rows))}:\n  " + "\n  ".join([*rows[:_SHOWN], *more])


def _count(places: int) -> str:
    return "one place" if places == 1 else f"{places} places"


def _prevention(name: str) -> str:
    package = package_of(name)
    flags = "-l" if package == "main" else f"{package}=-l" if package else "all=-l"
    return f'`//go:noinline` above it prevents that, or gcflags = "{flags}"'


def _runs(around: Surroundings, copy: Copy) -> bool:
    """Whether the kernel can run what is at the copy's first instruction."""
    function = around.patched.symbols.function_at(copy.address)
    if function is None or function.value not in around.reached.functions or function.value in around.reached.entered:
        return False
    body = around.code.body(copy.address)
    return copy.address - body.base >> 2 not in doomed(body.words, body.base, around.ends)
