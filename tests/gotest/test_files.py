"""Files on the bare machine behave as those of Linux, and tests find what lies beside them."""

from __future__ import annotations

import subprocess
from pathlib import Path

from buildsys.config.project import load
from buildsys.front.steps import Steps
from buildsys.gotest.output import PASS, said
from tests.gotest.conftest import JudgedAs
from tests.gotest.user import user_program

FILES = "./files"


def test_files_are_there_and_can_be_made(judged: JudgedAs) -> None:
    verdict = judged(FILES, limit=60)
    assert verdict.passed, [test.output for test in verdict.tests]
    assert len(verdict.named(PASS)) == 7


def test_the_same_tests_pass_on_linux(project: Path, tmp_path: Path) -> None:
    """What they claim of files is Linux's way, not ours."""
    steps = Steps(load(project))
    command = user_program(steps, "example/files", tmp_path)
    folder = project / "src/files"
    done = subprocess.run(
        [*command, "-test.v=test2json"],
        cwd=folder,
        env={"PWD": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert sum(test.result == PASS for test in said(done.stdout).ended) == 7
