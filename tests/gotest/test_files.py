"""Files and the network on the bare machine behave as those of Linux, and tests find what lies beside them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from buildsys.config.project import load
from buildsys.front.steps import Steps
from buildsys.gotest.output import PASS, said
from tests.gotest.conftest import JudgedAs
from tests.gotest.user import user_program

TESTS = {"files": 7, "network": 9}


@pytest.mark.parametrize("package", TESTS)
def test_they_are_as_the_tests_claim(judged: JudgedAs, package: str) -> None:
    verdict = judged(f"./{package}", limit=60)
    assert verdict.passed, [test.output for test in verdict.tests]
    assert len(verdict.named(PASS)) == TESTS[package]


@pytest.mark.parametrize("package", TESTS)
def test_the_same_tests_pass_on_linux(project: Path, tmp_path: Path, package: str) -> None:
    """What they claim is Linux's way, not ours."""
    command = [*user_program(Steps(load(project)), f"example/{package}", tmp_path), "-test.v=test2json"]
    folder = project / "src" / package
    done = subprocess.run(command, cwd=folder, env={"PWD": str(folder)}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert sum(test.result == PASS for test in said(done.stdout).ended) == TESTS[package]
