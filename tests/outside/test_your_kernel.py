"""docs/your-kernel.md, as a reader would follow it: every command of it, in one shell, in an empty folder."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

from buildsys.front.new import FILES
from tests.conftest import ROOT

DOCUMENT = ROOT / "docs" / "your-kernel.md"
INSTALL = "pip install buildsys-0.1.0-py3-none-any.whl"


def script(wheel: Path) -> str:
    """The document's shell blocks, one after another. The dependencies, 0.9 GB, are taken from where the tests are."""
    blocks = re.findall(r"```sh\n(.*?)```", DOCUMENT.read_text("utf-8"), re.DOTALL)
    assert len(blocks) >= 5
    text = "".join(f"echo '== block {number}'\n{block}" for number, block in enumerate(blocks, 1))
    assert text.count(INSTALL) == 1
    assert wheel.name == INSTALL.split()[-1]
    packages = shlex.quote(sysconfig.get_path("purelib"))
    there = "$(python -c 'import sysconfig; print(sysconfig.get_path(\"purelib\"))')"
    return text.replace(
        INSTALL, f'{INSTALL} --quiet --no-deps --no-index\necho {packages} > "{there}/dependencies.pth"\nhash -r'
    )


@pytest.mark.slow
def test_every_command_does_what_it_says(wheel: Path, tmp_path: Path) -> None:
    shutil.copy2(wheel, tmp_path)
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        ["bash", "-e", "-o", "pipefail"],
        input=script(wheel),
        cwd=tmp_path,
        env=kept,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    blocks = done.stdout.split("== block ")[1:]
    first, assembly, redirect, several, board = blocks[:5]
    assert "Hello from Go" in first
    assert "\n42\n" in assembly
    assert "2 bound for assembly" in assembly
    assert "\n63\n" in redirect
    assert "of the kernel's redirects" in redirect
    assert "nothing is known" not in done.stdout, "the DWARF of what was built is read"
    assert "build/debug/kernel.elf" in several
    assert "verify:release" in several
    for block in (first, assembly, redirect, board):
        assert "13 of 13 claims hold" in block
    assert (tmp_path / "venv" / "bin" / "buildsys").exists()


def test_the_files_it_names_are_written() -> None:
    text = DOCUMENT.read_text("utf-8")
    for name in FILES.values():
        assert name.split("/")[0] in text or name == ".gitignore"
