"""The zoo: one kernel, compiled once, that fails as it is told by the arguments of its entry."""

from __future__ import annotations

import json
import shutil
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from buildsys.config.project import load, shipped
from buildsys.front import boot
from buildsys.front.new import new
from buildsys.front.steps import Steps
from tests.conftest import ROOT
from tests.machines.conftest import needs_qemu  # noqa: F401  a fixture

SOURCES = ROOT / "tests" / "kernels" / "zoo"
MACHINES = ("embedded", "qemu")
HANGS, LIMIT = 0.4, 20.0  # seconds
SETTINGS = """package = "src"
entry-arguments = ["board", {number}]
assembly = ["asm/*.s"]
"""


@dataclass(frozen=True)
class Animal:
    """What tests/zoo/animals.toml says of one."""

    name: str
    number: int
    status: int | list[int]
    cause: str | None = None
    sentence: str = ""
    hint: str = ""
    place: str = ""
    frames: tuple[str, ...] = ()
    on: tuple[str, ...] = MACHINES
    settings: str = ""

    def status_on(self, machine: str) -> int:
        """The exit status of a run there."""
        return self.status if isinstance(self.status, int) else self.status[MACHINES.index(machine)]

    @property
    def limit(self) -> float:
        """Seconds that are enough to see it fail."""
        return HANGS if self.status == 124 or self.status == [1, 124] else LIMIT


ANIMALS = tuple(
    Animal(**each) for each in tomllib.loads(Path(__file__).with_name("animals.toml").read_text("utf-8"))["animal"]
)


@dataclass
class Seen:
    """A run as its user saw it: exit status, what was on stdout and stderr, and the report if one was kept."""

    status: int
    out: str
    err: str
    folder: Path | None = None
    report: dict[str, Any] = field(default_factory=dict)


Run = Callable[[Animal, str], Seen]


@pytest.fixture(scope="session")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the kernel."""
    root = tmp_path_factory.mktemp("zoo") / "kernel"
    new(root)
    shutil.copy2(SOURCES / "main.go", root / "src")
    for folder in ("asm", "boot"):
        shutil.copytree(SOURCES / folder, root / folder)
    wrong = root / "wrong"
    wrong.mkdir()
    text = (shipped("templates") / "writebarrier.s.j2").read_text()
    right = "    adrp    x25, buildsys.slots\n    add     x25, x25, :lo12:buildsys.slots\n"
    assert right in text
    (wrong / "writebarrier.s.j2").write_text(text.replace(right, "    movz    x25, #0xdead, lsl #32\n"))
    return root


def built(root: Path, animal: Animal) -> Steps:
    """The kernel that fails as `animal` does."""
    settings = SETTINGS.format(number=animal.number) + animal.settings + "\n"
    if "sets" not in settings:
        settings = 'sets = ["print", "panic"]\n' + settings
    (root / "buildsys.toml").write_text(settings)
    steps = Steps(load(root))
    steps.make_ready()
    for make in (steps.compile, steps.runtime, steps.link, steps.patch):
        if steps.records.stale(make()):
            steps.records.perform(make())
    return steps


@pytest.fixture
def seen(zoo: Path, capsys: pytest.CaptureFixture[str], needs_qemu: None) -> Run:  # noqa: F811
    """Runs an animal on an emulator, as `doit run` and `doit run-qemu` do."""

    def run(animal: Animal, machine: str) -> Seen:
        steps = built(zoo, animal)
        shutil.rmtree(steps.project.build / "crash", ignore_errors=True)
        capsys.readouterr()
        perform = boot.boot_embedded if machine == "embedded" else boot.boot_qemu
        failed = perform(steps, animal.limit)
        out, err = capsys.readouterr()
        found = list((steps.project.build / "crash").glob("*/report.json"))
        told = Seen(0 if failed is None else failed.exit_status or 1, out, err)
        if found:
            told.folder, told.report = found[0].parent, json.loads(found[0].read_text())
        return told

    return run
