"""Claim: our functions ran, and not one instruction of those they replace did.

Calls are counted by the emulators. On QEMU every block of code of an original would be
seen, on the embedded emulator its first instruction; both see what called it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from buildsys.proof.case import Case
from buildsys.proof.claim import Claim, Verdict, verdict
from buildsys.proof.lines import source_lines
from buildsys.proof.observation import Observation, also

SHOWN = 10  # call sites, those called most


def check(case: Case) -> Verdict:
    """Compare what ran with what must have, and the emulators with each other."""
    runs, first = case.runs, case.runs[0]
    problems = [problem for run in runs for problem in _originals(case, run)]
    for run in runs:
        if not any(run.by_function[name] for name in case.barriers):
            problems.append(f"on {run.machine} no barrier was called: nothing was exercised")
    # How often a supervisor is asked for something is a matter of time.
    if all(run.complete for run in runs) and not case.program:
        problems += [problem for run in runs[1:] for problem in _differences(case, first, run)]
    counts = first.by_function
    barriers = sum(counts[name] for name in case.barriers)
    others, sites = counts.total() - barriers, {site for name, site in first.executions if name in case.barriers}
    return verdict(
        problems,
        f"{'' if first.complete else 'the first '}{barriers} barrier calls from {len(sites)} sites, "
        f"{others} of other functions of ours, "
        f"none of the runtime's{also(runs)}",
        {run.machine: _evidence(case, run) for run in runs},
        [f"{count:6} calls of {name}" for name, count in counts.most_common()]
        + [*_redirects(case, first), *_busiest(case, first)],
        "a function of the runtime that runs needs a scheduler and a collector: claim call-sites says who calls it",
    )


def _originals(case: Case, run: Observation) -> Iterator[str]:
    """Originals that ran, and were not called on purpose."""
    counts = _by_name(run.originals)
    for one in case.redirected.values():
        asked = run.by_function[one.original.name] if one.original else 0
        if one.original and counts[one.name] != asked:
            yield (
                f"on {run.machine} {one.name}, which {one.asked.to} replaces, ran {counts[one.name]} times, "
                f"and {one.original.name} was called {asked} times"
            )
    for name, site in sorted(run.originals):
        redirected = case.redirected.get(name)
        if redirected and not redirected.original:
            yield (
                f"on {run.machine} {name} at {_address(case, name)} ran, called at {_place(case, site)}, "
                f"and {redirected.asked.to} was to take its place"
            )
        elif not redirected:
            ran_at = f"{_address(case, name)} ran, called at {_place(case, site)}"
            yield f"on {run.machine} the runtime's own {name} at {ran_at}"


def _by_name(executions: Counter[tuple[str, int]]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for (name, _), count in executions.items():
        counts[name] += count
    return counts


def _redirects(case: Case, run: Observation) -> Iterator[str]:
    """For each redirect of the user's, how often either function ran."""
    ran = _by_name(run.originals)
    for one in case.redirected.values():
        new = run.by_function[one.asked.to]
        yield f"{new:6} of {one.asked.to}, which takes the place of {one.name}; {ran[one.name]} of the original"


def _differences(case: Case, one: Observation, other: Observation) -> list[str]:
    differing = {key for key in one.executions.keys() | other.executions.keys()
                 if one.executions[key] != other.executions[key]}  # fmt: skip
    return [
        f"{name} was called at {_place(case, site)} {one.executions[name, site]} times on {one.machine}, "
        f"{other.executions[name, site]} times on {other.machine}"
        for name, site in sorted(differing)
    ]


def _busiest(case: Case, run: Observation) -> list[str]:
    """The call sites that made most calls, with function and source line."""
    busiest = run.executions.most_common(SHOWN)
    named = {site: case.elf.symbols.function_at(site) for (_, site), _ in busiest}
    lines = source_lines(case.image, [(site, function.name) for site, function in named.items() if function])
    return [
        f"{count:6} of {name} at {_place(case, site)}" + (f", {lines[site]}" if site in lines else "")
        for (name, site), count in busiest
    ]


def _evidence(case: Case, run: Observation) -> dict[str, Any]:
    sites: dict[str, Counter[str]] = {}
    for (name, site), count in sorted(run.executions.items()):
        sites.setdefault(name, Counter())[hex(site)] = count
    return {
        "complete": run.complete,
        "redirects": {
            one.name: {
                "to": one.asked.to,
                "new": run.by_function[one.asked.to],
                "old": _by_name(run.originals)[one.name],
                "asked for": run.by_function[one.original.name] if one.original else 0,
            }
            for one in case.redirected.values()
        },
        "calls": dict(run.by_function),
        "sites": {name: dict(counts) for name, counts in sites.items()},
        "originals": {f"{name} from {site:#x}": count for (name, site), count in sorted(run.originals.items())},
    }


def _address(case: Case, name: str) -> str:
    return next((hex(place.start) for place, each in case.places.originals.items() if each == name), "an unknown place")


def _place(case: Case, address: int) -> str:
    function = case.elf.symbols.function_at(address)
    return f"{address:#x} in {function.name}" if function else f"{address:#x}"


CLAIM = Claim("executions", "our functions ran, the runtime's did not", check, observed=True)
