"""Packages of tests/kernels/gotest: their test programs, each built once, to be booted as each test likes."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from buildsys.config.project import load
from buildsys.front.steps import Steps
from buildsys.gotest.boots import Boot, Machine
from buildsys.gotest.judge import Judge, Verdict, Wanted
from buildsys.gotest.packages import packages
from buildsys.gotest.worker import Asked, machine_of
from tests.conftest import ROOT

LIMIT = 6.0  # seconds: what hangs is waited for that long, and the machine the tests run on may be busy

MachineOf = Callable[..., Machine]
JudgedAs = Callable[..., Verdict]


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project, in which each package is built once."""
    folder = tmp_path_factory.mktemp("gotest") / "project"
    shutil.copytree(ROOT / "tests/kernels/gotest", folder)
    return folder


@pytest.fixture(scope="session")
def machine(project: Path) -> MachineOf:
    """The machine that boots a package's tests, with more variables in their environment."""
    steps = Steps(load(project))

    def build(package: str, *variables: str, on: str = "qemu", limit: float = LIMIT) -> Machine:
        (found,) = packages(steps.go, steps.project.package, [package], ())
        made = machine_of(Asked(project, "", found, Wanted(), on, "", limit))
        return made.with_environment(*variables)

    return build


@pytest.fixture(scope="session")
def judged(machine: MachineOf) -> JudgedAs:
    """The verdict on a package."""

    def judge(
        package: str, *variables: str, on: str = "qemu", limit: float = LIMIT, parallel: int = 1, **wanted: str | int
    ) -> Verdict:
        booted = machine(package, *variables, on=on, limit=limit)

        def boot(arguments: Sequence[str], shown: bool) -> Boot:
            return booted.boot([*arguments, f"-test.parallel={parallel}"])

        return Judge(boot, Wanted(**wanted), limit).judge()  # type: ignore[arg-type]  # each as Wanted has it

    return judge
