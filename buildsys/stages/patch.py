"""The call-site pass: the unpatched image to `kernel.elf` and `patch.json`.

Every function of the plan is redirected, or there is no image. Afterwards
nothing the kernel can reach may still need the runtime's own barrier: a flag
reader or an original that is reachable from the entry is an error with the
way it is reached.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Container, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from buildsys.errors import UserError
from buildsys.files import replace, replacing
from buildsys.formats.elf import Elf
from buildsys.formats.patch import Patch, Redirect, Rewrite, address_takers, patch, resolve, resolve_named
from buildsys.formats.references import Code
from buildsys.go import sets
from buildsys.go.allocator import refuse_recursion
from buildsys.go.flag import COPIES, code_of, judge
from buildsys.go.reach import Reach, reach
from buildsys.go.runtime import FLAG, Plan
from buildsys.go.stops import stops

NONE: Mapping[str, str] = MappingProxyType({})


def patch_image(
    unpatched: Path,
    plan: Plan,
    entry: str,
    image: Path,
    report: Path,
    wanted: Mapping[str, str] = NONE,
    written: Callable[[Path], object] = lambda image: None,
    allocator: str = "",
) -> dict[str, Any]:
    """Write `image` and `report`; returns facts: sites patched, and a remark if there is one to make.

    `wanted` are redirects of the user's: the calls of what go to what. `written` is told, in another
    thread, where the image is before it is known to be sound. `allocator` is the function of the kernel's
    that allocates, if there is one. Raises UserError, leaving earlier files
    alone, if not all of the job can be done.
    """
    elf = Elf.mapped(unpatched)
    redirects = resolve(elf, plan.functions)
    calls, entries = redirects[: len(plan.called)], redirects[len(plan.called) :]
    users = resolve_named(elf, wanted, plan.functions)
    done = patch(elf, [*calls, *users], entries)
    _refuse_recursion(elf, done, users)
    redirected = {rewrite.redirect.name for rewrite in done.rewrites}
    barriers = [barrier.name for barrier in plan.barriers]
    if not any(name in redirected or done.already[name] for name in barriers):
        raise UserError(
            f"{unpatched}: no call site of {', '.join(barriers)}",
            "no barrier was compiled in: is this the object of the Go release in use?",
        )
    # It takes as long as what is still to be found out.
    with replacing(image, 0o755, *done.pieces, written=written):
        patched = elf.with_code(done.code)
        pointers = address_takers(patched, [redirect.old for redirect in (*calls, *users)])
        code = code_of(patched)
        lasting = set(plan.ends)
        ends = {at for redirect in redirects if redirect.name in lasting for at in (redirect.old, redirect.new)}
        reached = _reach(patched, code, entry, ends, stops(patched, plan))
        refuse_recursion(patched, code, allocator, ends)
        _refuse_spare(plan, entries, reached)
        _refuse_reachable(patched, code, reached, calls, users, pointers)
        described = _report(elf, done, [*redirects, *users], plan, pointers)
    replace(report, described)
    changed = done.rewrites or done.entries
    remark = "" if changed else f"{unpatched} is patched already: nothing was changed"
    return {"sites": len(done.rewrites), "remark": remark}


def _reach(elf: Elf, code: Code, entry: str, ends: Container[int], stopped: Container[int]) -> Reach:
    """What boot code and the kernel can run: boot code calls `entry` by an address it computes."""
    found = elf.symbols.addresses(entry, FLAG)
    for name in (entry, FLAG):
        if name not in found:
            raise UserError(f"{elf.name}: there is no symbol {name}")
    return reach(elf, code, (found[entry], elf.entry), found[FLAG], ends, stops=stopped)


def _refuse_recursion(elf: Elf, done: Patch, users: Sequence[Redirect]) -> None:
    """Raise UserError if a new function calls what it replaces: that call would come back to it."""
    news = {redirect.new: redirect for redirect in users}
    for rewrite in done.rewrites:
        inside = elf.symbols.function_at(rewrite.address) if rewrite.redirect in users else None
        if inside and news.get(inside.value) == rewrite.redirect:
            raise UserError(
                f"{inside.name} calls {rewrite.redirect.name} at {rewrite.address:#x}, and is put in its place",
                "it would call itself for ever: let it do without",
            )


def _refuse_spare(plan: Plan, entries: Sequence[Redirect], reached: Reach) -> None:
    """Raise UserError if the kernel allocates other than to end: what serves that then has no more to give."""
    found = [each.old for each in entries if each.name in plan.spare and each.old in reached.functions]
    if found:
        path = min((reached.path(old) for old in found), key=len)
        alloc = ', or add "alloc" to `sets`' if "alloc" in sets.known() else ""
        raise UserError(
            f"the kernel can reach {path[-1]}, and has no allocator:\n  " + "\n  → ".join(path),
            f"avoid what leads there (new, make, append, maps, fmt, …) or redirect a function on the way{alloc}",
        )


def _refuse_reachable(
    elf: Elf,
    code: Code,
    reached: Reach,
    redirects: Sequence[Redirect],
    users: Sequence[Redirect],
    pointers: Sequence[tuple[int, int]],
) -> None:
    """Raise UserError if the kernel can run an original, or a flag reader that needs a Go runtime."""
    names = {redirect.old: f"the runtime's own {redirect.name}" for redirect in redirects}
    names |= {redirect.old: f"{redirect.name}, which is redirected," for redirect in users}
    for old, name in names.items():
        if old in reached.functions:
            held = [place for place, address in pointers if address == old]
            through = f", through the pointer at {held[0]:#x}" if held else ""
            raise UserError(
                f"the kernel can reach {name} at {old:#x}{through}:\n  " + "\n  → ".join(reached.path(old)),
                "its address is taken, and only calls can be redirected",
            )
    served = {redirect.new for redirect in redirects} | set(elf.symbols.addresses(*COPIES).values())
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


def _report(
    elf: Elf, done: Patch, redirects: Sequence[Redirect], plan: Plan, pointers: Sequence[tuple[int, int]]
) -> bytes:
    """What was done, as JSON: totals, then each function taken over with its call sites, a line each."""
    groups = [
        ("barrier", [barrier.name for barrier in plan.barriers]),
        ("reader", plan.readers),
        ("fatal", plan.fatal),
        *((each.name, each.functions) for each in plan.sets),
    ]
    kinds = dict.fromkeys((redirect.name for redirect in redirects), "redirect")
    kinds |= {name: kind for kind, names in groups for name in names}
    sites, entered = _sites(elf, done), set(plan.entered)
    totals = {
        "abi": plan.abi,
        "sites_patched": len(done.rewrites),
        "entries_patched": len(done.entries),
        "barrier_sites": sum(len(sites[barrier.name]) for barrier in plan.barriers),
        "sets": {each.name: {"functions": len(each.functions), "left": each.left} for each in plan.sets},
    }
    functions = []
    for redirect in redirects:
        about = {
            "name": redirect.name,
            "kind": kinds[redirect.name],
            "redirected": "at its entry" if redirect.name in entered else "at its call sites",
            "old": hex(redirect.old),
            "new": hex(redirect.new),
            "count": len(sites[redirect.name]),
            "already": done.already[redirect.name],
            "pointers": [hex(place) for place, address in pointers if address == redirect.old],
        }
        rows = ",\n   ".join(sites[redirect.name])
        functions.append(f'{json.dumps(about)[:-1]}, "sites": [\n   {rows}\n  ]}}')
    return f'{json.dumps(totals)[:-1]}, "functions": [\n  {f",{chr(10)}  ".join(functions)}\n]}}\n'.encode()


def _sites(elf: Elf, done: Patch) -> dict[str, list[str]]:
    """The sites of each function as lines of JSON; made by hand, for there are tens of thousands."""
    lines: dict[str, list[str]] = defaultdict(list)
    names = elf.symbols.function_names(rewrite.address for rewrite in done.rewrites)
    quoted: dict[str, str] = {}
    for rewrite, name in zip(done.rewrites, names, strict=True):
        lines[rewrite.redirect.name].append(
            _site(rewrite, quoted.get(name) or quoted.setdefault(name, json.dumps(name)))
        )
    for rewrite in done.entries:
        lines[rewrite.redirect.name].append(_site(rewrite, json.dumps(rewrite.redirect.name)))
    return lines


def _site(rewrite: Rewrite, function: str) -> str:
    address, before, after, _ = rewrite
    return f'{{"address": "{address:#x}", "function": {function}, "before": "{before:08x}", "after": "{after:08x}"}}'
