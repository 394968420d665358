"""A user elsewhere: buildsys from its wheel, in a venv of its own, and projects that have nothing of this checkout."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import ROOT

# What the wheel is made of: nothing else of the checkout may be needed.
SOURCES = ("pyproject.toml", "README.md", "buildsys", "templates", "linker", "src")


@dataclass(frozen=True)
class Ended:
    """A command that ended: exit status, and all it wrote."""

    status: int
    out: str
    err: str

    def succeeded(self) -> Ended:
        """Itself, having exited with 0."""
        assert self.status == 0, self.out + self.err
        return self

    def refused(self, *words: str) -> str:
        """What it complained of: one message, without a traceback, that holds every one of `words`."""
        assert self.status != 0, self.out
        assert "Traceback" not in self.err + self.out, self.err
        assert len(re.findall(r"(?m)^error", self.err)) == 1, self.err
        for word in words:
            assert word in self.err, f"{word!r} is not said in:\n{self.err}"
        return self.err


@dataclass(frozen=True)
class Venv:
    """A venv with the wheel installed."""

    folder: Path

    def run(self, cwd: Path, program: str, *arguments: str, **environment: str) -> Ended:
        """Run one of its scripts in `cwd`, to the end; nothing of this checkout is in the environment."""
        kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONUNBUFFERED")}
        path = f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            [self.folder / "bin" / program, *arguments],
            cwd=cwd,
            env={**kept, "PATH": path, "PWD": str(cwd), **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        return Ended(done.returncode, done.stdout, done.stderr)


@dataclass(frozen=True)
class Outside:
    """A project outside the repository, and the venv it is built with."""

    folder: Path
    venv: Venv

    def doit(self, *arguments: str, **environment: str) -> Ended:
        return self.venv.run(self.folder, "doit", *arguments, **environment)

    def path(self, name: str) -> Path:
        return self.folder / name

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def set(self, line: str) -> int:
        """Set a key of buildsys.toml, which may be there; its line."""
        key = line.split(" ")[0]
        file = self.path("buildsys.toml")
        lines = [each for each in file.read_text().splitlines() if not each.startswith(f"{key} =")]
        at = next((at for at, each in enumerate(lines) if each.startswith("[")), len(lines))
        lines.insert(at, line)
        file.write_text("\n".join([*lines, ""]))
        return at + 1

    def replace(self, name: str, old: str, new: str) -> None:
        """Put `new` where `old`, which is there, is in the file `name`."""
        text = self.path(name).read_text()
        assert old in text
        self.path(name).write_text(text.replace(old, new, 1))


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built of a copy of its sources."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(ROOT / name, folder / name)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-index", "--no-build-isolation"]
    subprocess.run([*command, "-w", "made", "."], cwd=folder, check=True)
    (made,) = (folder / "made").glob("buildsys-*.whl")
    return made


@pytest.fixture(scope="session")
def venv(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Venv:
    """A fresh venv with the wheel in it. Its dependencies are those of the tests, which takes no time to install."""
    folder = tmp_path_factory.mktemp("user") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    made = Venv(folder)
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))
    # A path in a .pth file is searched, but .pth files there are not read: so no other buildsys is found.
    (packages / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    command = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "install", "-q"]
    subprocess.run([*command, "--no-deps", "--no-index", "--ignore-installed", str(wheel)], check=True)
    return made


@pytest.fixture
def project(venv: Venv, tmp_path: Path) -> Outside:
    """What `buildsys new` writes."""
    venv.run(tmp_path, "buildsys", "new", "mine").succeeded()
    return Outside(tmp_path / "mine", venv)
