"""The kernel of tests/kernels/agreeing: functions to be replaced and some to replace them, linked and not patched."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from buildsys.config.project import load
from buildsys.config.redirects import Redirection
from buildsys.formats.elf import Elf
from buildsys.front.steps import Steps
from buildsys.go import toolchain
from buildsys.go.toolchain import GoToolchain
from buildsys.stages.objects import read_runtime
from buildsys.stages.patch import patch_image
from tests.conftest import ROOT

# Of these lines Go is tried where it is there: no names of nameless parameters; DWARF 4; lists of pieces.
LINES = ((1, 19), (1, 21), (1, 24))


def releases() -> list[GoToolchain]:
    """The Go that comes with the project; and one of each of `LINES`, if the system has it or it was fetched before."""
    found = [toolchain.find("wheel", "the tests")]
    trees = sorted((Path.home() / ".cache" / "buildsys" / "go").glob("go*/bin/go"))
    for wanted in (*(str(tree.parent.parent) for tree in trees), *(["system"] if shutil.which("go") else [])):
        go = toolchain.find(wanted, "the tests")
        if go.version[:2] in LINES and go.version[:2] not in {each.version[:2] for each in found}:
            found.append(go)
    return found


def linked(folder: Path, go: str = "wheel") -> Steps:
    """The kernel in a new folder, linked by `go`; every path is absolute."""
    shutil.copytree(ROOT / "tests" / "kernels" / "agreeing", folder)
    steps = Steps(replace(load(folder), go=go))
    for action in (steps.compile, steps.runtime, steps.link):
        steps.records.perform(action())
    return steps


def patched(steps: Steps, folder: Path, *wanted: Redirection) -> dict[str, object]:
    """What the pass says, having redirected what is `wanted`; the files are in `folder`. Raises UserError."""
    _, plan = read_runtime(steps.runtime_json)
    image, report = folder / "kernel.elf", folder / "patch.json"
    return patch_image(steps.unpatched, plan, steps.project.entry, image, report, wanted, "src")


def address(elf: Elf, name: str) -> int:
    """Where the one function called `name` begins."""
    (found,) = {each.value for each in elf.symbols.named(name)[name]}
    return found
