"""Claim: what runs past the end of a stack is noticed, or nothing can.

Compiled Go looks at the stack's end before it grows it, and behind each look so many bytes are sure. What does not
look (`nosplit` functions and assembly) must do with those. Go's linker sees to that before anything is redirected
to functions of ours; here it is seen to of the image as it is, by buildsys.stacks. A stack is sound, too, if the
deepest chain of calls there can be fits in it.
"""

from __future__ import annotations

from typing import Any

from buildsys.go.graph import Graph
from buildsys.proof.case import Case
from buildsys.proof.claim import Claim, Result, Verdict, verdict
from buildsys.stacks.account import Account, Use
from buildsys.stacks.image import GUARDS, ends_of, extents, handled_on

ADVICE = (
    "let assembly and `nosplit` functions use less of the stack, or make stacks larger in the board's [layout]; "
    "`doit stack` shows the chains"
)


def check(case: Case) -> Verdict:
    """Add up what each chain of calls takes of each stack."""
    account = _account(case)
    every, unchecked = account.uses(extents(case.elf)), account.unchecked()
    rest = account.uses(extents(case.elf), unchecked=True)
    problems: list[str] = []
    untold: list[str] = []
    details: list[str] = []
    for use, bare in zip(every, rest, strict=True):
        most = "at least" if use.open else "at most"
        details.append(f"{use.name} stack: {most} {use.bytes:,} of {use.size:,} bytes: {_chain(case, use)}")
        if use.fits:
            continue
        for each, room in ((bare, f"the {use.name} stack has {use.size:,}"), (unchecked, _sure(unchecked))):
            if each.bytes > each.size:
                problems.append(
                    f"without a look at the stack's end {each.bytes:,} bytes are used: {room}: {_chain(case, each)}"
                )
            elif each.open:
                untold += [f"{use.name} stack: {_name(case, address)}: {kind}" for kind, address in each.open]
    details.append(f"without a look: {unchecked.bytes:,} bytes; {_sure(unchecked)}: {_chain(case, unchecked)}")
    figure = f"{unchecked.bytes:,} bytes without a look at the stack's end, {_sure(unchecked)}"
    evidence = {"stacks": [_told(case, each) for each in every], "unchecked": _told(case, unchecked)}
    if untold and not problems:
        first = list(dict.fromkeys(untold))
        return Verdict(Result.NOT_RUN, f"no bound can be told of {first[0]}", evidence, (*first, *details), ADVICE)
    return verdict(list(dict.fromkeys(problems)), figure, evidence, details, ADVICE)


def _account(case: Case) -> Account:
    roots = [*case.elf.symbols.addresses(case.entry).values()]
    roots += [each.new.value for each in case.redirected.values() if each.new]
    news = {
        name: pair.new.value
        for name, pair in (case.called | case.entered).items()
        if name in case.plan.ends and pair.new is not None
    }
    return Account(
        case.elf,
        case.code,
        Graph(case.elf, case.code, case.ends, related=False),
        case.reach,
        roots,
        [case.offsets[each] for each in GUARDS],
        ends_of(case.elf, news),
        handled_on(case.program),
    )


def _sure(unchecked: Use) -> str:
    return f"{unchecked.size:,} are sure behind one"


def _chain(case: Case, use: Use) -> str:
    return " → ".join(f"{_name(case, link.function)} ({link.bytes:,})" for link in use.chain) or "none"


def _name(case: Case, address: int) -> str:
    function = case.elf.symbols.function_at(address)
    return function.name if function else f"{address:#x}"


def _told(case: Case, use: Use) -> dict[str, Any]:
    return {
        "stack": use.name or None,
        "size": use.size,
        "bytes": use.bytes,
        "bound": not use.open,
        "chain": [{"function": _name(case, link.function), "bytes": link.bytes} for link in use.chain],
    }


CLAIM = Claim("stacks", "no code runs past the end of its stack unnoticed", check)
