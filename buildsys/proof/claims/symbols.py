"""Claim: the runtime's functions are local, ours of the same names are global, one of each.

And where assembly names a symbol of Go's, it has that symbol's address in this image; where the
configuration says what a symbol or a number in Go's code stands for, it does.
"""

from __future__ import annotations

from buildsys.formats.symbols import STT_FUNC
from buildsys.proof.bound import bindings, uses
from buildsys.proof.bound import problems as wrong
from buildsys.proof.case import Case
from buildsys.proof.claim import Claim, Verdict, verdict


def check(case: Case) -> Verdict:
    """Look up every function of the plan in the patched image's symbol table."""
    problems, details = [], []
    named = case.elf.symbols.named(*case.plan.functions)
    barriers = {barrier.name for barrier in case.plan.barriers}
    for name, symbols in named.items():
        functions = [symbol for symbol in symbols if symbol.kind == STT_FUNC]
        letters = sorted(symbol.letter() for symbol in functions)
        if letters != ["T", "t"]:
            found = ", ".join(f"{symbol.value:#x} {symbol.letter()}" for symbol in functions) or "nothing"
            problems.append(f"{name}: one local and one global function expected, found {found}")
        elif len({symbol.value for symbol in functions}) == 1:
            problems.append(f"{name}: the local and the global function are the same, at {functions[0].value:#x}")
        if name in barriers:
            details += [
                f"{symbol.value:016x} {symbol.letter()} {name}   ← {'ours' if symbol.is_global else 'the Go runtime'}"
                for symbol in sorted(functions, key=lambda symbol: symbol.value)
            ]
    bound = bindings(case)
    used = uses(case, bound)
    problems += wrong(case, bound, used)
    details += [f"{each.bound:016x} A {each.name}   ← Go's, for assembly" for each in bound.values()]
    figure = f"{len(barriers)} barriers and {len(named) - len(barriers)} more: t is Go's, T ours"
    if bound:
        figure += f"; {len(bound)} bound for assembly, {len(used)} places"
    kept = case.kept
    problems += kept.problems
    details += [f"{value:016x}   {name}   ← as configured" for name, value in kept.symbols.items()]
    if case.expected.symbols or case.expected.literals:
        figure += f"; {len(kept.symbols)} symbols as configured, at {kept.places} places of Go's"
        figure += f", {len(case.expected.literals)} literals"
    return verdict(
        problems,
        figure,
        {name: {each.letter(): hex(each.value) for each in symbols} for name, symbols in named.items()}
        | {each.name: {"A": hex(each.bound)} for each in bound.values()}
        | {name: {"configured": hex(value)} for name, value in kept.symbols.items()},
        details,
        "two definitions of one name, or none, cannot be told apart: look for it in your own assembly",
    )


CLAIM = Claim("symbols", "the runtime's barrier functions are local, ours global", check)
