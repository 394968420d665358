"""The call-site pass: the unpatched image to `kernel.elf` and `patch.json`.

Every function of the plan is redirected, or there is no image. Afterwards
nothing the kernel can reach may still need the runtime's own barrier: a flag
reader or an original that is reachable from the entry is an error with the
way it is reached.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import chain
from json.encoder import encode_basestring_ascii
from operator import itemgetter
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from buildsys.config.barrier import DISCARDING, BarrierPolicy
from buildsys.config.redirects import Redirection
from buildsys.errors import UserError
from buildsys.files import replace, revising
from buildsys.formats.addresses import conditional, formed
from buildsys.formats.elf import Elf
from buildsys.formats.identity import Identity, told
from buildsys.formats.patch import Patch, Redirect, Rewrite, address_takers, patch, resolve
from buildsys.formats.references import Code
from buildsys.go import sets
from buildsys.go.allocator import refuse_recursion
from buildsys.go.flag import COPIES, code_of, judge
from buildsys.go.passing import Passed, reached
from buildsys.go.reach import Reach
from buildsys.go.runtime import FLAG, Plan
from buildsys.go.stops import stops
from buildsys.stages.findings import Around, Findings
from buildsys.stages.programs import PREFIX
from buildsys.stages.redirects import resolved

GO = "runtime.newproc"  # src/runtime/proc.go
NO_CONFIGURATION: Mapping[str, Any] = MappingProxyType({})
PASSING = "program"  # the kind, in patch.json, of functions of a program whose calls are counted
_SITE = '{"address": "%#x", "function": %s, "before": "%08x", "after": "%08x"}'
SHOWN = 3  # functions of one kind that are named on screen


def patch_image(
    unpatched: Path | Elf,
    plan: Plan,
    entry: str,
    image: Path,
    report: Path,
    wanted: Sequence[Redirection] = (),
    package: str = "",
    written: Callable[[Path, Mapping[int, str]], object] = lambda image, dead_ends: None,
    barrier: BarrierPolicy = DISCARDING,
    allocator: str = "",
    configuration: Mapping[str, Any] = NO_CONFIGURATION,
    passing: Sequence[str] = (),
) -> dict[str, Any]:
    """Write `image` and `report`; returns facts: sites patched, and a remark if there is one to make.

    `wanted` are redirects of the user's, `package` is the folder of the kernel package, by which messages
    name source files, `barrier` is what our barriers do, `allocator` the function of the kernel's that
    allocates, if there is one. `configuration` is what the image's identity tells of beside its contents.
    `passing` are functions of a program beside the kernel whose calls go to ours of the same names, which go on
    to them. `written` is told, in another thread, where the image is before it is known to be sound, and which
    functions of the user's no good end follows, names by address. Raises UserError, leaving earlier files alone, if
    not all of the job can be done.
    """
    elf = unpatched if isinstance(unpatched, Elf) else Elf.mapped(unpatched)
    dead_ends: dict[int, str] = {}
    identity = Identity(elf)
    with revising(image, 0o755, elf.data, lambda path: written(path, dead_ends), identity.begin) as revise:
        base = resolve(elf, plan.functions)
        users = resolved(elf, wanted, plan, package)
        dead_ends |= ending(users, plan)
        calls, entries = shared(base, users, plan)
        _refuse_return(elf, users, plan)
        counted = resolve(elf, passing)
        done = redirect_all(elf, [*calls, *counted], entries, users)
        _refuse_nothing(elf, done, calls, plan)
        revise(chain(done.changes, identity.of(done.pieces, told(configuration))))
        patched = done.applied(elf)
        pointers = address_takers(patched, [redirect.old for redirect in (*calls, *users)])
        called = [entry, barrier.function] if barrier.function else [entry]
        everything, unasked = _reached(elf, patched, called, users, calls, entries, plan)
        ends = ends_of(users, [*calls, *entries], plan)
        findings = _checked(elf, patched, done, users, Around(everything, ends, package))
        taking = _taking(elf, barrier.function, package)
        refuse_recursion(patched, allocator, ends)
        _refuse_spare(plan, entries, everything)
        _refuse_reachable(patched, unasked, calls, users, pointers)
        _refuse_readers(patched, everything, {each.new for each in (*calls, *users)})
        _refuse_goroutines(patched, everything)
        others = _other_ways(patched, users)
        described = _report(elf, done, [*calls, *counted, *entries, *users], plan, pointers, others, findings)
    replace(report, described)
    changed = done.rewrites or done.entries or done.addresses
    remarks = [] if changed else [f"{elf.name} is patched already: nothing was changed"]
    remarks += _remarks(done, users, plan, pointers, others)
    remarks += _own_barriers(elf, done, plan, barrier.function) if barrier.function else []
    remarks += [*taking, *findings.remarks, *_empty(patched, everything)]
    return {"sites": len(done.rewrites), "remark": "\n".join(remarks), "sections": _placed(elf)}


def _refuse_nothing(elf: Elf, done: Patch, calls: Sequence[Redirect], plan: Plan) -> None:
    """Raise UserError if no barrier is called at all."""
    redirected = {rewrite.redirect.name for rewrite in done.rewrites}
    barriers = [barrier.name for barrier in plan.barriers]
    if not any(each.name in redirected or done.already[each.new] for each in calls if each.name in barriers):
        raise UserError(
            f"{elf.name}: no call site of {', '.join(barriers)}",
            "no barrier was compiled in: is this the object of the Go release in use?",
        )


def _placed(elf: Elf) -> list[tuple[int, int, int]]:
    """(address, where it is stored, size) of each section that takes memory: what the end of a build tells of."""
    return [(section.address, stored, section.size) for section, stored in elf.placed]


def _own_barriers(elf: Elf, done: Patch, plan: Plan, function: str) -> list[str]:
    """Remarks to make if the function that is given batches calls barriers itself: those are in no batch."""
    barriers = {barrier.name for barrier in plan.barriers}
    sites = [rewrite.address for rewrite in done.rewrites if rewrite.redirect.name in barriers]
    inside = [site for site, name in zip(sites, elf.symbols.function_names(sites), strict=True) if name == function]
    if not inside:
        return []
    stores = f"{function} stores pointers through {len(inside)} barriers, the first at {inside[0]:#x}"
    return [f"{stores}: while it is at work these are given to nobody, only counted"]


def redirect_all(elf: Elf, calls: Sequence[Redirect], entries: Sequence[Redirect], users: Sequence[Redirect]) -> Patch:
    """Redirect what is left of the base plan, and the user's own as each was asked for. Raises UserError."""
    return patch(
        elf,
        [*calls, *(each for each in users if each.mode.at_calls)],
        [*entries, *(each for each in users if each.mode.at_entry)],
        [each for each in users if each.pointers],
    )


def shared(base: Sequence[Redirect], users: Sequence[Redirect], plan: Plan) -> tuple[list[Redirect], list[Redirect]]:
    """What of the base plan is left to do at call sites, and at entries.

    A reader the user redirects is the user's. A function that never returns begins with our branch all the
    same, unless the user's begins it: whatever comes there otherwise must not run.
    """
    users_own = {each.name for each in users}
    at_entry = {each.name for each in users if each.mode.at_entry}
    calls, entries = base[: len(plan.called)], base[len(plan.called) :]
    left = [each for each in calls if each.name not in users_own]
    return left, [each for each in entries if each.name not in at_entry]


def _refuse_return(elf: Elf, users: Sequence[Redirect], plan: Plan) -> None:
    """Raise UserError if what takes the place of a function that never returns can return.

    Behind the call of such a function the compiler puts whatever comes next.
    """
    lasting, code = set(plan.ends), Code(elf)
    for redirect in users:
        body = code.body(redirect.new) if redirect.name in lasting else None
        # C6.2 RET, by whichever register.
        at = (
            next((at for at, word in enumerate(body.words) if word & 0xFFFF_FC1F == 0xD65F_0000), None)
            if body
            else None
        )
        if body and at is not None:
            raise UserError(
                f"{redirect.to} takes the place of {redirect.name}, which never returns, and returns at "
                f"{body.base + 4 * at:#x}",
                "its callers have no code for what comes then: let it end in `for {}`, behind what ends the run",
            )


def _checked(elf: Elf, patched: Elf, done: Patch, users: Sequence[Redirect], around: Around) -> Findings:
    """What is to be said of the user's redirects; of none, nothing is read."""
    if not users:
        return Findings()
    from buildsys.stages.agreement import check

    return check(elf, patched, done, users, around)


def _empty(elf: Elf, reached: Reach) -> list[str]:
    """A remark on variables the kernel finds empty, for nothing runs the initialisers that give them their values."""
    if reached.graph is None:
        return []
    from buildsys.go.initialised import unset

    functions = [each for address, each in reached.functions.items() if address not in reached.entered]
    found = [each for each in unset(elf, reached.graph, functions) if not each.variable.name.startswith("internal/")]
    if not found:
        return []
    shown = ", ".join(f"{each.variable.name} (used by {each.reader.name})" for each in found[:SHOWN])
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return [f"nothing runs the initialisers of packages, so these are empty: {shown}{more}; `doit reach` tells more"]


def _taking(elf: Elf, function: str, package: str) -> list[str]:
    """What is to be said of the function that is given batches, if there is one. Raises UserError."""
    if not function:
        return []
    from buildsys.stages.batches import refuse_other

    return refuse_other(elf, function, package)


def ends_of(users: Sequence[Redirect], ours: Sequence[Redirect], plan: Plan) -> set[int]:
    """The functions that do not return, and what takes their place."""
    lasting = set(plan.ends)
    return {address for each in (*ours, *users) if each.name in lasting for address in (each.old, each.new)}


def _reached(
    before: Elf,
    elf: Elf,
    called: Sequence[str],
    users: Sequence[Redirect],
    calls: Sequence[Redirect],
    entries: Sequence[Redirect],
    plan: Plan,
) -> tuple[Reach, Reach]:
    """What boot code and the kernel can run, and what of it if no original were called on purpose.

    Assembly calls the functions `called` by addresses it computes.
    """
    found = elf.symbols.addresses(*called, FLAG)
    for name in (*called, FLAG):
        if name not in found:
            raise UserError(f"{elf.name}: there is no symbol {name}")
    fatal = [each for each in users if each.name in plan.ends]
    taken = {each.old for each in (*entries, *users) if each in entries or each.mode.at_entry}
    # What only leads to a function that does not return is passed over; but one of the user's must be able to run.
    roots = (*(found[name] for name in called), elf.entry, *(each.new for each in fatal))
    passed = [
        Passed(each.old, each.new, each.original, before.word(each.old) if each.old in taken else None)
        for each in users
        if each.original
    ]
    ends = ends_of(users, [*calls, *entries], plan)
    return reached(elf, roots, found[FLAG], ends, passed, stops=stops(elf, plan))


def _refuse_spare(plan: Plan, entries: Sequence[Redirect], reached: Reach) -> None:
    """Raise UserError if the kernel allocates other than to end: what serves that then has no more to give."""
    found = [each.old for each in entries if each.name in plan.spare and each.old in reached.functions]
    if found:
        path = min((reached.path(old) for old in found), key=len)
        alloc = ', or add "alloc" to `sets`' if "alloc" in sets.known() else ""
        raise UserError(
            f"the kernel can reach {path[-1]}, and has no allocator:\n  " + "\n  → ".join(path),
            f"avoid what leads there (new, make, append, maps, fmt, …) or redirect a function on the way{alloc}; "
            "`doit reach` tells what else the kernel would need, and where it asks for it",
        )


def _refuse_reachable(
    elf: Elf,
    unasked: Reach,
    redirects: Sequence[Redirect],
    users: Sequence[Redirect],
    pointers: Sequence[tuple[int, int]],
) -> None:
    """Raise UserError if the kernel can run an original that nobody meant it to."""
    names = {redirect.old: f"the runtime's own {redirect.name}" for redirect in redirects}
    names |= {redirect.old: f"{redirect.name}, which is redirected," for redirect in users}
    for old, name in names.items():
        if old in unasked.functions and old not in unasked.entered:
            held = [place for place, address in pointers if address == old]
            through = f", through the pointer at {held[0]:#x}" if held else ""
            raise UserError(
                f"the kernel can reach {name} at {old:#x}{through}:\n  " + "\n  → ".join(unasked.path(old)),
                "its address is taken, and only calls can be redirected"
                + (
                    ': mode = "both" catches every way into it, `pointers = true` redirects pointers as well'
                    if old in {each.old for each in users}
                    else ""
                ),
            )


def _refuse_readers(elf: Elf, reached: Reach, ours: Collection[int]) -> None:
    """Raise UserError if the kernel can run a flag reader that needs a Go runtime, which bare metal has not."""
    code = code_of(elf)
    served = set(ours) | set(elf.symbols.addresses(*COPIES).values())
    loads = {read.address for read in reached.flag_reads}
    for read in reached.flag_reads:
        if read.function and not judge(code, read, served, loads).accounted:
            raise UserError(
                f"{read.function.name} reads the write barrier flag at {read.address:#x} and then needs a Go runtime, "
                "which bare metal has not; the kernel can reach it:\n  "
                + "\n  → ".join(reached.path(read.function.value)),
                "avoid what leads there (allocation, maps, fmt, …) or redirect a function on the way; "
                "`doit reach` tells what else the kernel would need, and where it asks for it",
            )


def _refuse_goroutines(elf: Elf, reached: Reach) -> None:
    """Raise UserError if the kernel can run a `go` statement: the compiler makes it a call of `runtime.newproc`."""
    for started in elf.symbols.named(GO)[GO]:
        if started.value in reached.functions and started.value not in reached.entered:
            raise UserError(
                "the kernel can reach a `go` statement, and bare metal has no scheduler that would run it:\n  "
                + "\n  → ".join(reached.path(started.value)),
                f"avoid what leads there, or redirect {GO} to a scheduler of your own; "
                "`doit reach` tells what else the kernel would need, and where it asks for it",
            )


class _Others(NamedTuple):
    """Other ways to old functions than calls, (place, old function): branches on a condition, addresses formed."""

    conditional: list[tuple[int, int]]
    formed: list[tuple[int, int]]


def _other_ways(elf: Elf, users: Sequence[Redirect]) -> _Others:
    olds = [redirect.old for redirect in users]
    if not olds:
        return _Others([], [])
    return _Others(conditional(elf, olds), [(use.address, old) for old, use in formed(elf, Code(elf), olds)])


def _remarks(
    done: Patch, users: Sequence[Redirect], plan: Plan, pointers: Sequence[tuple[int, int]], others: _Others
) -> list[str]:
    """What is to be said of the user's redirects on screen: what is no longer ours, what could not be reached."""
    remarks = []
    if replaced := [each for each in users if each.name in plan.functions]:
        shown = ", ".join(f"{each.name} by {each.to}" for each in replaced[:SHOWN])
        more = f" and {len(replaced) - SHOWN} more" if len(replaced) > SHOWN else ""
        remarks.append(f"taken over by the kernel, no longer by this build: {shown}{more}")
    for redirect in users:
        ways = [
            (len(places), what)
            for places, what in (
                ([place for place, old in pointers if old == redirect.old], "pointers to it in data"),
                ([place for place, old in others.formed if old == redirect.old], "places that form its address"),
                ([place for place, old in others.conditional if old == redirect.old], "conditional branches to it"),
            )
            if places
        ]
        # What begins with a branch is caught whoever comes to it.
        if ways and not redirect.mode.at_entry and redirect.name not in plan.entered:
            counted = ", ".join(f"{count} {what}" for count, what in ways)
            remarks.append(f"{redirect.name} is not redirected for {counted}; the kernel cannot reach it so")
        if kept := [each for each in done.left if each.target == redirect.old]:
            remarks.append(
                f"{redirect.name}: {len(kept)} places that hold its address are left as they are, "
                f"the first at {kept[0].place:#x}: {kept[0].why}"
            )
    return remarks


def ending(users: Sequence[Redirect], plan: Plan) -> dict[int, str]:
    """The user's functions that took the place of what ends a kernel: names by address."""
    names = set(plan.ending)
    return {each.new: each.to for each in users if each.name in names}


def _report(
    elf: Elf,
    done: Patch,
    redirects: Sequence[Redirect],
    plan: Plan,
    pointers: Sequence[tuple[int, int]],
    others: _Others,
    findings: Findings,
) -> bytes:
    """What was done, as JSON: totals, then each function taken over with its call sites, a line each.

    One that the plan takes over at its entry, and the user at its call sites, is there twice.
    """
    groups = [
        ("barrier", [barrier.name for barrier in plan.barriers]),
        ("reader", plan.readers),
        ("fatal", plan.fatal),
        (PASSING, [redirect.name for redirect in redirects if redirect.name.startswith(PREFIX)]),
        *((each.name, each.functions) for each in plan.sets),
    ]
    kinds = {name: kind for kind, names in groups for name in names}
    sites, entered, failing = _sites(elf, done), set(plan.entered), set(plan.ending)
    ours = {id(redirect) for redirect in redirects if not redirect.to}
    barriers = {redirect.name: id(redirect) for redirect in redirects if kinds.get(redirect.name) == "barrier"}
    totals = {
        "abi": plan.abi,
        "sites_patched": len(done.rewrites),
        "entries_patched": len(done.entries),
        "barrier_sites": sum(len(sites[key]) for key in barriers.values()),
        "sets": [each.name for each in plan.sets],
    }
    functions = []
    for redirect in redirects:
        base = id(redirect) in ours
        kind = kinds[redirect.name] if base else "redirect"
        rows = sites[id(redirect)]
        held = [hex(place) for place, address in pointers if address == redirect.old]
        about: dict[str, Any] = {
            "name": redirect.name,
            "kind": kind,
            "redirected": _WHERE["entry" if base and redirect.name in entered else redirect.mode]
            + (", and where its address is held" if redirect.pointers else ""),
            "old": hex(redirect.old),
            "new": hex(redirect.new),
            "count": len(rows),
            "already": done.already[redirect.new],
            "pointers": held,
        }
        if not base:
            about |= {"to": redirect.to, "mode": redirect.mode, "instead_of": kinds.get(redirect.name, "")}
            about |= {"dead_end": redirect.name in failing}
            about |= _passing(done, redirect) | _addresses(done, redirect, others) | findings.reports[redirect.old]
        listed = ",\n   ".join(rows)
        functions.append(f'{json.dumps(about)[:-1]}, "sites": [\n   {listed}\n  ]}}')
    return f'{json.dumps(totals)[:-1]}, "functions": [\n  {f",{chr(10)}  ".join(functions)}\n]}}\n'.encode()


_WHERE = {"calls": "at its call sites", "entry": "at its entry", "both": "at its call sites and its entry"}


def _passing(done: Patch, redirect: Redirect) -> dict[str, Any]:
    """By what the original can still be called, and the words written for that."""
    if not redirect.original:
        return {"original": None}
    words = [rewrite for rewrite in done.passing if rewrite.redirect == redirect]
    return {"original": hex(redirect.original), "passing": [_word(each) for each in words]}


def _addresses(done: Patch, redirect: Redirect, others: _Others) -> dict[str, Any]:
    """What stands for the function's address: made the new one's, left, and not looked after."""
    old = redirect.old
    return {
        "rewritten": [
            {"address": hex(each.place), "before": hex(each.before), "after": hex(each.after)}
            for each in done.addresses
            if each.target == old
        ],
        "left": [{"address": hex(each.place), "why": each.why} for each in done.left if each.target == old],
        "formed": [hex(place) for place, goal in others.formed if goal == old],
        "conditional": [hex(place) for place, goal in others.conditional if goal == old],
    }


def _sites(elf: Elf, done: Patch) -> dict[int, list[str]]:
    """The sites of each redirect, by its id, as lines of JSON; made by hand, for there are tens of thousands."""
    lines: dict[int, list[str]] = defaultdict(list)
    names = elf.symbols.function_names(map(itemgetter(0), done.rewrites))
    last, function = None, ""
    for (address, before, after, redirect), name in zip(done.rewrites, names, strict=True):
        if name != last:
            last, function = name, encode_basestring_ascii(name)  # what json.dumps comes to, for a string
        lines[id(redirect)].append(_SITE % (address, function, before, after))
    for address, before, after, redirect in done.entries:
        lines[id(redirect)].append(_SITE % (address, json.dumps(redirect.name), before, after))
    return lines


def _word(rewrite: Rewrite) -> dict[str, str]:
    return {"address": hex(rewrite.address), "before": f"{rewrite.before:08x}", "after": f"{rewrite.after:08x}"}
