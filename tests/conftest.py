"""What the tests share: the reference kernel, built once for all of them, in a folder of its own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from buildsys.config.project import load
from buildsys.front.steps import Steps
from buildsys.front.verify import case_of
from buildsys.proof.case import Case

# No test reads what another kept, or what the user did.
os.environ["BUILDSYS_CACHE"] = "off"

ROOT = Path(__file__).parent.parent
PROJECT = ("pyproject.toml", "dodo.py", "src", "templates", "linker")


def copy_project(folder: Path) -> Path:
    """A copy of the reference project, without anything built."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in PROJECT:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name)
        else:
            shutil.copy2(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Steps:
    """The reference project, built; the working folder is not changed, every path is absolute."""
    root = copy_project(tmp_path_factory.mktemp("reference"))
    steps = Steps(load(root))
    for action in (steps.compile, steps.runtime, steps.link, steps.patch):
        steps.records.perform(action())
    return steps


@pytest.fixture(scope="session")
def case(built: Steps) -> Case:
    """The proof of the reference kernel."""
    return case_of(built)


Mutate = Callable[..., Case]


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """On CI nothing may be left out: a skip there is a tool that is missing, and a failure."""
    reporter: Any = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") and reporter and reporter.stats.get("skipped") and exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say why a run in which nothing failed is red."""
    if os.environ.get("CI") and terminalreporter.stats.get("skipped"):
        terminalreporter.write_line("CI: tests were skipped (see above); here that is a failure", red=True)
