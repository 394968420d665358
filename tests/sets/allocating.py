"""Kernels that allocate, built in a folder of their own, and the same program where Go has its own runtime."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

from buildsys.config.project import load
from buildsys.front.steps import Steps
from buildsys.go.toolchain import GoToolchain
from tests.conftest import ROOT

KERNELS = "tests/kernels/alloc"  # in the copy as here, for its go.mod names the packages in src


def copy_kernels(folder: Path) -> Path:
    """A project with the kernels that allocate."""
    shutil.copytree(ROOT / "src", folder / "src")
    shutil.copytree(ROOT / KERNELS, folder / KERNELS)
    shutil.copy2(ROOT / KERNELS / "buildsys.toml", folder / "buildsys.toml")
    return folder


def built_of(root: Path, kernel: str, go: str = "") -> Steps:
    """The kernel `kernel` of the project at `root`, built, by the Go that `go` names. Raises UserError."""
    project = load(root, kernel)
    steps = Steps(replace(project, go=go) if go else project)
    steps.make_ready()
    for action in (steps.compile, steps.runtime, steps.link, steps.patch):
        steps.records.perform(action())
    return steps


def natively(root: Path, go: GoToolchain) -> str:
    """What the features say as a program of this machine's own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GO")}
    environment = {**kept, "GOTOOLCHAIN": "local", "GOFLAGS": "-mod=mod", "GOROOT": str(go.root)}
    command = [str(go.root / "bin" / "go"), "run", "./native"]
    done = subprocess.run(command, cwd=root / KERNELS, env=environment, capture_output=True, text=True, check=True)
    return done.stdout
