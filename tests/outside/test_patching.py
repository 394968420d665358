"""docs/patching.md, as a reader would follow it, with the wheel; and that a type checker sees the library."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT
from tests.outside.conftest import Venv

DOCUMENT = ROOT / "docs" / "patching.md"


def blocks(kind: str) -> list[str]:
    found = re.findall(r"```(\w*)\n(.*?)```", DOCUMENT.read_text("utf-8"), re.DOTALL)
    return [text for of, text in found if of == kind]


def test_every_block_does_and_prints_what_it_says(venv: Venv, tmp_path: Path) -> None:
    commands, (library,), (told, sites) = blocks("sh"), blocks("python"), blocks("")
    path = f"{venv.folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}

    def run(*words: str, text: str) -> str:
        done = subprocess.run(
            words, input=text, cwd=tmp_path, env={**kept, "PATH": path}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert run("bash", "-e", text=commands[0]) == told
    assert '"old": "allocate"' in run("bash", "-e", "-o", "pipefail", text=commands[1])
    (tmp_path / "patched.elf").unlink()
    assert run("python", "-", text=library) == sites
    assert (tmp_path / "patched.elf").stat().st_size == (tmp_path / "firmware.elf").stat().st_size


def test_a_type_checker_sees_what_the_library_takes_and_gives(venv: Venv, tmp_path: Path) -> None:
    good = (
        "from pathlib import Path\n"
        "from buildsys.patching import Mode, Report, redirect\n\n"
        "report: Report = redirect(Path('in.elf'), {'old': 'new'}, Mode.ENTRY)\n"
        "first: int = report.redirects[0].sites[0].address\n"
    )
    for name, text in {"good.py": good, "bad.py": good.replace("first: int", "first: str")}.items():
        (tmp_path / name).write_text(text)
    python = str(venv.folder / "bin" / "python")
    command = [sys.executable, "-m", "mypy", "--strict", "--python-executable", python]
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "MYPYPATH")}

    def checked(name: str) -> str:
        done = subprocess.run([*command, name], cwd=tmp_path, env=kept, capture_output=True, text=True, check=False)
        return done.stdout

    assert "Success" in checked("good.py")
    assert 'expression has type "int", variable has type "str"' in checked("bad.py")
