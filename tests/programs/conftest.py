"""A program, built with arguments of each test's own, and booted."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from buildsys.config.project import load
from buildsys.front.steps import Steps
from buildsys.machines import embedded, qemu
from buildsys.machines.outcome import End, Outcome
from tests.conftest import ROOT

SETTINGS = """kind = "program"
package = "src"
args = {arguments}
{more}
{env}
"""
GREETING = '[env]\nGREETING = "good day"\n'
LIMIT = 180  # seconds: the machine the tests run on may be busy

Boot = Callable[..., Outcome]


def built(root: Path, part: str, *arguments: str, more: str = "", env: str = GREETING) -> Steps:
    """The program of tests/kernels, in `root`, to run `part`; what was compiled there before is used again."""
    if not (root / "src").exists():
        shutil.copytree(ROOT / "tests/kernels/program", root / "src")
    listed = [part, *arguments]
    (root / "buildsys.toml").write_text(SETTINGS.format(arguments=str(listed).replace("'", '"'), more=more, env=env))
    return made(Steps(load(root)))


def made(steps: Steps) -> Steps:
    """The same, with an image that is up to date."""
    steps.make_ready()
    for make in (steps.compile, steps.runtime, steps.link, steps.patch):
        if steps.records.stale(make()):
            steps.records.perform(make())
    return steps


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder the program is compiled in, once."""
    return tmp_path_factory.mktemp("program")


@pytest.fixture
def on_qemu(program: Path) -> Boot:
    """Run a part on QEMU."""

    def boot(part: str, *arguments: str, given: int | None = None, **more: str) -> Outcome:
        steps = built(program, part, *arguments, **more)
        return qemu.run(steps.image, steps.project.board, LIMIT, given=given)

    return boot


@pytest.fixture
def on_embedded(program: Path) -> Boot:
    """Run a part on the embedded emulator."""

    def boot(part: str, *arguments: str, given: int | None = None, **more: str) -> Outcome:
        steps = built(program, part, *arguments, **more)
        return embedded.run(steps.image, steps.project.board, LIMIT, given=given)

    return boot


@pytest.fixture(params=["embedded", "qemu"])
def on_each(request: pytest.FixtureRequest, program: Path) -> Boot:
    """Run a part on one emulator, and then on the other."""
    boot: Boot = request.getfixturevalue(f"on_{request.param}")
    return boot


def text_of(outcome: Outcome) -> str:
    """What was sent by a program that exited."""
    text = outcome.serial.decode()
    assert outcome.end is End.EXIT, f"{outcome.end} {outcome.detail}\n{text[-2000:]}"
    return text
