"""gdb on real machines: a session carries out a list of commands, and what each said is looked at."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from buildsys.config.project import load
from buildsys.front import boot
from buildsys.front.steps import Steps
from buildsys.machines import gdb
from tests.conftest import ROOT
from tests.machines.conftest import needs, needs_qemu  # noqa: F401  a fixture

SETTINGS = 'kind = "program"\npackage = "src"\nbarrier = "count"\nargs = {arguments}\n'

Said = dict[str, str]


@pytest.fixture(scope="session")
def needs_gdb() -> None:
    needs(gdb.PROGRAMS[0], gdb.INSTALL)


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Steps:
    """The program of tests/kernels/debugged, built."""
    return built_program(tmp_path_factory.mktemp("debugged"), "[]")


def built_program(root: Path, arguments: str) -> Steps:
    """The same with arguments."""
    shutil.copytree(ROOT / "tests/kernels/debugged", root / "src")
    (root / "buildsys.toml").write_text(SETTINGS.format(arguments=arguments))
    steps = Steps(load(root))
    steps.make_ready()
    for make in (steps.compile, steps.runtime, steps.link, steps.patch):
        steps.records.perform(make())
    return steps


def marked(commands: Sequence[str]) -> list[str]:
    """`commands`, each behind a line that tells them apart."""
    said = [part for at, command in enumerate(commands) for part in (f"echo <<{at}>>\\n", command)]
    return [*said, f"echo <<{len(commands)}>>\\n"]  # gdb then lets the guest go on, which may say more


def split(said: str, complaints: str, commands: Sequence[str]) -> Said:
    """What each command said; complaints, which come through another pipe, are those of "errors"."""
    found = {"errors": complaints}
    for at, command in enumerate(commands):
        rest = said.split(f"<<{at}>>\n", 1)[1]
        found[command] = rest.split(f"<<{at + 1}>>\n", 1)[0]
    return found


Session = Callable[..., Said]


@pytest.fixture
def session(needs_gdb: None, needs_qemu: None, capfd: pytest.CaptureFixture[str]) -> Session:  # noqa: F811
    """gdb on the image of `steps`, stopped at the function `entry`."""

    def run(steps: Steps, commands: Sequence[str], entry: str = "") -> Said:
        project = steps.project
        capfd.readouterr()
        gdb.debug(steps.image, project.board, entry or project.begins, project.package, steps.go.root, marked(commands))
        out, err = capfd.readouterr()
        return split(out, err, commands)

    return run


@pytest.fixture
def of_crash(needs_gdb: None, capfd: pytest.CaptureFixture[str]) -> Session:
    """gdb on a crash that was kept in `folder`."""

    def run(steps: Steps, folder: Path, commands: Sequence[str]) -> Said:
        capfd.readouterr()
        project = steps.project
        gdb.inspect(folder / "kernel.elf", folder / "core", project.package, steps.go.root, marked(commands))
        out, err = capfd.readouterr()
        return split(out, err, commands)

    return run


def crashed(steps: Steps, seconds: float) -> Path:
    """The folder of a run that was ended by its time limit."""
    shutil.rmtree(steps.project.build / "crash", ignore_errors=True)
    assert boot.boot_qemu(steps, seconds) is not None
    (folder,) = (steps.project.build / "crash").iterdir()
    return folder
