"""Replacements that come back to themselves: through a function that calls what they replace.

A replacement of `runtime.mallocgc` that formats a text allocates, and so calls
itself, for ever. A call of the original by the name that stands for it is meant;
any other way back was overlooked. Found in the static call graph (go/reach.py),
which has in it what could be called, so a way found may be one never taken.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from buildsys.formats.a64 import RET
from buildsys.formats.elf import Elf
from buildsys.formats.patch import ROOM, Redirect, Rewrite
from buildsys.formats.references import Code
from buildsys.go.doomed import doomed
from buildsys.go.flag import code_of
from buildsys.go.passing import with_words
from buildsys.go.reach import Reach, reach


@dataclass(frozen=True)
class Recursion:
    """A way from the new function of `redirect` back to it: names of functions, the last one the old function's.

    `address` is where the old one is called, 0 if it is reached through a pointer.
    """

    redirect: Redirect
    path: tuple[str, ...]
    address: int


def recursions(
    elf: Elf,
    redirects: Sequence[Redirect],
    rewrites: Iterable[Rewrite],
    flag: int,
    ends: Collection[int],
    within: Reach | None = None,
) -> list[Recursion]:
    """For each redirect at most one way back, the shortest, in the patched image `elf`.

    `rewrites` are the calls that were sent to the new functions, `ends` functions that do not return. `within` is
    what can run at all, if that is known: only what can is judged.
    """
    # Both instructions of what stands for an original: the second may be the branch.
    stands = {each.original + at for each in redirects if each.original for at in range(0, ROOM, 4)}
    sites: dict[int, list[int]] = {each.old: [] for each in redirects}
    for rewrite in rewrites:
        if rewrite.redirect.old in sites:
            sites[rewrite.redirect.old].append(rewrite.address)
    doubtful = [each for each in redirects if within is None or _comes_back(elf, within, each, sites[each.old])]
    if not doubtful:
        return []
    closed = with_words(elf, dict.fromkeys(stands, RET)) if stands else elf
    code = code_of(closed)
    found = []
    for new in dict.fromkeys(each.new for each in doubtful):
        reached = reach(closed, code, (new,), flag, ends)
        for redirect in doubtful:
            if redirect.new == new and (way := _way(closed, code, reached, redirect, sites[redirect.old], ends)):
                found.append(way)
    return found


def _comes_back(elf: Elf, reached: Reach, redirect: Redirect, sites: Iterable[int]) -> bool:
    """Whether the new function and what may lead back to it can run."""
    at_entry = redirect.mode.at_entry and redirect.old in reached.functions
    return redirect.new in reached.functions and (at_entry or bool(_inside(elf, reached, sites)))


def _inside(elf: Elf, reached: Reach, sites: Iterable[int]) -> dict[int, int]:
    """Those of `sites` that lie in functions reached, which run: each with the function's address."""
    found = {}
    for site in sites:
        function = elf.symbols.function_at(site)
        if function and function.value in reached.functions and function.value not in reached.entered:
            found[site] = function.value
    return found


def _way(
    elf: Elf, code: Code, reached: Reach, redirect: Redirect, sites: Iterable[int], ends: Collection[int]
) -> Recursion | None:
    """The shortest way from what was reached to a call of the old function, or to its entry."""
    inside = _inside(elf, reached, sites)
    nearest = sorted(inside, key=lambda at: (len(reached.path(inside[at])), at))
    if (at := next((at for at in nearest if not _is_doomed(code, at, ends)), None)) is not None:
        return Recursion(redirect, (*reached.path(inside[at]), redirect.name), at)
    if redirect.mode.at_entry and redirect.old in reached.functions:
        return Recursion(redirect, tuple(reached.path(redirect.old)), 0)
    return None


def _is_doomed(code: Code, address: int, ends: Collection[int]) -> bool:
    """Whether what is at `address` only leads to a call that does not return."""
    body = code.body(address)
    return address - body.base >> 2 in doomed(body.words, body.base, ends)
