"""The call-site pass: the unpatched image to `kernel.elf` and `patch.json`.

Every function of the plan is redirected, or there is no image. Afterwards
nothing the kernel can reach may still need the runtime's own barrier: a flag
reader or an original that is reachable from the entry is an error with the
way it is reached.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from buildsys.errors import UserError
from buildsys.files import replace
from buildsys.formats.elf import Elf
from buildsys.formats.patch import Patch, Redirect, address_takers, patch, resolve
from buildsys.go.flag import judge
from buildsys.go.reach import Reach, reach
from buildsys.go.runtime import FLAG, Plan


def patch_image(unpatched: Path, plan: Plan, entry: str, image: Path, report: Path) -> dict[str, Any]:
    """Write `image` and `report`; returns facts: sites patched, and a remark if there is one to make.

    Raises UserError, leaving earlier files alone, if not all of the job can be done.
    """
    elf = Elf.read(unpatched)
    redirects = resolve(elf, plan.functions)
    done = patch(elf, redirects)
    barriers = {barrier.name for barrier in plan.barriers}
    if not any(rewrite.redirect.name in barriers for rewrite in done.rewrites):
        if any(done.already[name] for name in barriers):
            _write(elf, done, redirects, plan, [], image, report)
            return _facts(done, f"{unpatched} is patched already: nothing was changed")
        raise UserError(
            f"{unpatched}: no call site of {', '.join(sorted(barriers))}",
            "no barrier was compiled in: is this the object of the Go release in use?",
        )
    patched = Elf(done.contents, str(image))
    pointers = address_takers(patched, [redirect.old for redirect in redirects])
    reached = _reach(patched, entry)
    _refuse_reachable(patched, reached, redirects, pointers)
    _write(elf, done, redirects, plan, pointers, image, report)
    return _facts(done, "")


def _facts(done: Patch, remark: str) -> dict[str, Any]:
    return {"sites": len(done.rewrites), "remark": remark}


def _reach(elf: Elf, entry: str) -> Reach:
    found = elf.symbols.addresses(entry, FLAG)
    for name in (entry, FLAG):
        if name not in found:
            raise UserError(f"{elf.name}: there is no symbol {name}")
    return reach(elf, found[entry], found[FLAG])


def _refuse_reachable(
    elf: Elf, reached: Reach, redirects: Sequence[Redirect], pointers: Sequence[tuple[int, int]]
) -> None:
    """Raise UserError if the kernel can run an original, or a flag reader that needs a Go runtime."""
    names = {redirect.old: redirect.name for redirect in redirects}
    for old, name in names.items():
        if old in reached.functions:
            held = [place for place, address in pointers if address == old]
            through = f", through the pointer at {held[0]:#x}" if held else ""
            raise UserError(
                f"the kernel can reach the runtime's own {name} at {old:#x}{through}:\n  "
                + "\n  → ".join(reached.path(old)),
                "its address is taken, and only calls can be redirected",
            )
    redirected = {redirect.new for redirect in redirects}
    for read in reached.flag_reads:
        verdict = judge(elf, read, redirected)
        if not verdict.accounted:
            raise UserError(
                f"{read.function.name} reads the write barrier flag at {read.address:#x} and then needs a Go runtime, "
                "which bare metal has not; the kernel can reach it:\n  "
                + "\n  → ".join(reached.path(read.function.value)),
                "avoid what leads there (allocation, maps, fmt, …) or redirect a function on the way",
            )


def _write(
    elf: Elf,
    done: Patch,
    redirects: Sequence[Redirect],
    plan: Plan,
    pointers: Sequence[tuple[int, int]],
    image: Path,
    report: Path,
) -> None:
    replace(image, done.contents)
    image.chmod(0o755)
    replace(report, _json(_report(elf, done, redirects, plan, pointers)))


def _report(
    elf: Elf, done: Patch, redirects: Sequence[Redirect], plan: Plan, pointers: Sequence[tuple[int, int]]
) -> dict[str, Any]:
    counts = Counter(rewrite.redirect.name for rewrite in done.rewrites)
    groups = [
        ("barrier", [barrier.name for barrier in plan.barriers]),
        ("reader", plan.readers),
        ("fatal", plan.fatal),
    ]
    kinds = {name: kind for kind, names in groups for name in names}
    return {
        "abi": plan.abi,
        "sites_patched": len(done.rewrites),
        "barrier_sites": sum(counts[barrier.name] for barrier in plan.barriers),
        "functions": [
            {
                "name": redirect.name,
                "kind": kinds[redirect.name],
                "old": hex(redirect.old),
                "new": hex(redirect.new),
                "sites": counts[redirect.name],
                "already": done.already[redirect.name],
                "pointers": [hex(place) for place, address in pointers if address == redirect.old],
            }
            for redirect in redirects
        ],
        "sites": _sites(elf, done),
    }


def _sites(elf: Elf, done: Patch) -> list[str]:
    """Each site as a line of JSON; made by hand, for there are thousands."""
    lines, function, name = [], None, '""'
    for rewrite in done.rewrites:
        address = rewrite.site.address
        if function is None or not function.value <= address < function.end:
            function = elf.symbols.function_at(address)
            name = json.dumps(function.name if function else "")
        lines.append(
            f'{{"address": "{address:#x}", "function": {name}, "calls": "{rewrite.redirect.name}", '
            f'"kind": "{rewrite.site.kind}", "before": "{rewrite.site.word:08x}", "after": "{rewrite.word:08x}"}}'
        )
    return lines


def _json(report: dict[str, Any]) -> bytes:
    """One line per function and per site, so that a difference between two reports can be read."""
    lines = []
    for key, value in report.items():
        if isinstance(value, list):
            rows = ",\n  ".join(row if isinstance(row, str) else json.dumps(row) for row in value)
            lines.append(f' "{key}": [\n  {rows}\n ]' if value else f' "{key}": []')
        else:
            lines.append(f' "{key}": {json.dumps(value)}')
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()
