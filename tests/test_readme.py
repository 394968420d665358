"""The README's promise, kept as a stranger would find it: a clean copy in an empty folder, the commands as written."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT

SEED_LINES = (
    "Testing write barrier...",
    "Write barrier flag: enabled",
    "SUCCESS: Global pointer assignment works!",
    "Heap initialized at RAM region",
    "All tests passed! Exiting via semihosting...",
)


def commands() -> list[str]:
    """What stands in the README's shell blocks, without comments."""
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    return [line.split("#")[0].strip() for block in blocks for line in block.splitlines() if line.strip()]


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every file git would check out, and nothing else."""
    folder = tmp_path_factory.mktemp("clone") / "buildsys"
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    for name in listed:
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


def in_clone(clone: Path, command: str) -> subprocess.CompletedProcess[str]:
    outside = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH", "CI")}
    return subprocess.run(
        command,
        cwd=clone,
        shell=True,
        env=outside,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_two_commands_are_the_ones_that_are_tested() -> None:
    assert commands() == ["./dev verify", "./dev test"]  # the second is what runs this


@pytest.mark.slow
def test_from_a_clean_copy_to_the_proof_and_back_to_nothing_to_do(clone: Path) -> None:
    verified = in_clone(clone, commands()[0])
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert "passed" in verified.stdout
    assert "failed" not in verified.stdout

    booted = in_clone(clone, "./dev run-qemu")
    assert booted.returncode == 0, booted.stdout + booted.stderr
    said = booted.stdout.splitlines()
    assert [line for line in said if line in SEED_LINES] == list(SEED_LINES)

    again = in_clone(clone, "./dev build")
    assert "everything is up to date" in again.stdout

    (clone / "templates" / "boot.s.j2").write_text((clone / "templates" / "boot.s.j2").read_text() + "    nop\n")
    edited = in_clone(clone, "./dev build")
    assert edited.returncode == 0, edited.stdout + edited.stderr
    assert "compile" not in edited.stdout
    assert "link" in edited.stdout


@pytest.mark.slow
def test_an_activated_environment_has_doit(clone: Path) -> None:
    listed = in_clone(clone, "./dev list >/dev/null && . .venv/bin/activate && doit list")
    assert listed.returncode == 0, listed.stderr
    assert "run-qemu" in listed.stdout
