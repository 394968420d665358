"""docs/redirects.md, as a reader would follow it: every command of it, in one shell, in an empty folder."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.outside.conftest import Venv

DOCUMENT = ROOT / "docs" / "redirects.md"


@pytest.mark.slow
def test_every_command_does_what_it_says(venv: Venv, tmp_path: Path) -> None:
    blocks = re.findall(r"```sh\n(.*?)```", DOCUMENT.read_text("utf-8"), re.DOTALL)
    assert len(blocks) == 5
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        ["bash", "-e", "-o", "pipefail"],
        input="".join(f"echo '== block'\n{block}" for block in blocks),
        cwd=tmp_path,
        env={**kept, "PATH": f"{venv.folder / 'bin'}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    _, first, beside, settings, passing, panics = done.stdout.split("== block\n")
    assert "42 directly, 42 by its address" in first
    for block in (beside, settings, passing):
        assert "63 directly, 63 by its address" in block
    assert "2 of the kernel's redirects" in beside
    for block in (beside, passing):
        assert "13 of 13 claims hold" in block
    assert "taken over by the kernel, no longer by this build: " in panics
    assert panics.endswith("that was a panic\n")
