"""The kernel tests/kernels/redirects, built once for each set of its sources and patched as a test asks."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from buildsys.config.project import Project, load
from buildsys.config.redirects import Redirection
from buildsys.formats.modes import Mode
from buildsys.front.steps import Steps
from buildsys.front.verify import case_of
from buildsys.proof.case import Case
from buildsys.proof.claim import Result, Verdict
from buildsys.proof.claims import CLAIMS
from tests.conftest import ROOT

KERNEL = ROOT / "tests" / "kernels" / "redirects"
# Those that redirects have a part in.
NAMED = ("barriers", "symbols", "call-sites", "flag-readers", "executions", "outcome")
CLAIMED = [claim for claim in CLAIMS if claim.name in NAMED]
ALWAYS = (Redirection("runtime.deferreturn", "main.nothing"),)

Made = Callable[..., Case]


def sources(folder: Path, *tags: str, toolchain: str = "zig", go: str = "") -> Steps:
    """The kernel in `folder`, linked and not patched; with the tag `pointers` it calls by addresses as well."""
    shutil.copytree(KERNEL, folder)
    assembly = sorted((folder / "asm").glob("*.s"))
    if "pointers" in tags:
        assembly += sorted((folder / "asm" / "pointers").glob("*.s"))
    project = load(folder)
    steps = Steps(
        replace(
            project,
            options=project.options._replace(tags=tags),
            assembly=tuple(assembly),
            toolchain=toolchain,
            go=go or project.go,
        )
    )
    steps.make_ready()
    for action in (steps.compile, steps.runtime, steps.link):
        steps.records.perform(action())
    return steps


def patched(built: Steps, folder: Path, *wanted: Redirection) -> Case:
    """The case of `built` with redirects, patched in a copy of it."""
    shutil.copytree(built.project.root, folder)
    before: Project = built.project
    assembly = tuple(folder / path.relative_to(before.root) for path in before.assembly)
    package = folder / before.package.relative_to(before.root)
    project = replace(before, root=folder, package=package, assembly=assembly, redirects=(*ALWAYS, *wanted))
    steps = Steps(project)
    steps.records.perform(steps.patch())
    return case_of(steps)


def all_ways(mode: Mode, pointers: bool = False) -> tuple[Redirection, ...]:
    """Redirects of every function the kernel has for that, by calls and by addresses."""
    pairs = {
        "main.work*": "main.other",
        "main.thing.work*": "main.otherMethod",
        "main.(*thing).work*": "main.otherPointer",
        "main.literal.func1": "main.other",
        "main.capturing.func1": "main.other",
    }
    return tuple(Redirection(old, to, mode, pointers) for old, to in pairs.items())


def failed(case: Case) -> dict[str, Verdict]:
    """The claims that do not hold, by name."""
    assert len(CLAIMED) == len(NAMED)
    verdicts = {claim.name: claim.check(case) for claim in CLAIMED}
    return {name: verdict for name, verdict in verdicts.items() if verdict.result is not Result.PASSED}


def said(case: Case) -> list[dict[str, int]]:
    """What the kernel reported on each emulator: the value by way."""
    found = []
    for run in case.runs:
        lines = [line.rpartition(" ") for line in run.outcome.serial.decode().splitlines()]
        found.append({way: int(value) for way, _, value in lines})
    return found
