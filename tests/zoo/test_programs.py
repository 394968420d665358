"""Programs that fail, told with their goroutines: the program's own frames, through what the runtime does for it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from buildsys.config.project import load
from buildsys.front import boot
from buildsys.front.steps import Steps
from tests.conftest import ROOT
from tests.zoo.conftest import MACHINES

pytestmark = pytest.mark.slow
Failing = Callable[[str, str], tuple[int, dict[str, Any]]]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("program")
    shutil.copytree(ROOT / "tests" / "kernels" / "zoo_program", root / "src")
    return root


@pytest.fixture
def failing(program: Path, needs_qemu: None) -> Failing:
    """Runs the program as its argument says: exit status and report."""

    def run(how: str, machine: str) -> tuple[int, dict[str, Any]]:
        (program / "buildsys.toml").write_text(f'kind = "program"\npackage = "src"\nargs = ["{how}"]\n')
        steps = Steps(load(program))
        for make in (steps.compile, steps.runtime, steps.link, steps.patch):
            if steps.records.stale(make()):
                steps.records.perform(make())
        shutil.rmtree(steps.project.build / "crash", ignore_errors=True)
        perform = boot.boot_embedded if machine == "embedded" else boot.boot_qemu
        failed = perform(steps, 1 if how == "loop" else 20)
        found = list((steps.project.build / "crash").glob("*/report.json"))
        report = json.loads(found[0].read_text()) if found else {}
        return (0 if failed is None else failed.exit_status or 1), report

    return run


def own(frames: list[dict[str, Any]]) -> list[str]:
    """The program's own functions among them."""
    return [each["function"] for each in frames if each["function"].startswith("main.")]


@pytest.mark.parametrize("machine", MACHINES)
def test_a_nil_dereference_is_told_through_the_signal_that_it_was(failing: Failing, machine: str) -> None:
    status, report = failing("nil", machine)
    assert status == 2
    assert "program.runtime.fatalpanic" in report["cause"]["says"]
    assert report["goroutine"] == "goroutine 1"
    assert own(report["frames"]) == ["main.use", "main.main"]
    assert report["frames"][-1]["function"] == "runtime.goexit"
    assert "println(use(nowhere))" in [line["source"] for frame in report["frames"] for line in frame["lines"]]


@pytest.mark.parametrize("machine", MACHINES)
def test_every_goroutine_of_a_deadlock_is_told_with_what_it_waits_for(failing: Failing, machine: str) -> None:
    status, report = failing("deadlock", machine)
    assert status == 2
    waiting = {tuple(own(each["frames"])) for each in report["goroutines"] if each["state"] == "chan receive"}
    assert waiting == {("main.main",), ("main.main.func1",)}


def test_an_endless_loop_is_told_with_its_line(failing: Failing) -> None:
    status, report = failing("loop", "embedded")
    assert status == 124
    assert own(report["frames"])[:1] == ["main.main"]


def test_a_program_that_exits_with_a_status_of_its_own_is_no_crash(failing: Failing) -> None:
    for machine in MACHINES:
        assert failing("exit", machine) == (3, {})
