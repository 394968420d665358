"""One package: its tests built and booted, in a process of its own.

    python -m buildsys.gotest.worker '{"root": …, "kernel": …, "package": {…}, …}' RESULT

What the tests say goes to standard output as it comes; the result, as JSON, to the file RESULT.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

from buildsys import files
from buildsys.cache.caches import Caches
from buildsys.config import board as boards
from buildsys.config.barrier import DISCARDING
from buildsys.config.expected import NOTHING
from buildsys.config.program import SUPERVISED, Program
from buildsys.config.project import Project, load
from buildsys.errors import UserError
from buildsys.front.steps import Steps
from buildsys.gotest.boots import Boot, Interrupted, Machine
from buildsys.gotest.carried import GOROOT, carried, folder_of
from buildsys.gotest.judge import Judge, Wanted
from buildsys.gotest.output import Shown
from buildsys.gotest.packages import Package
from buildsys.gotest.results import FAILED, Result, result_of
from buildsys.signals import ENDING

# Nothing reads the debugging information of a test program, and it is half of the object.
NO_DEBUGGING = "-w"


@dataclass(frozen=True)
class Asked:
    """What a worker is to do.

    `board` is the name of one, "" for the project's; `memory` how much RAM it is to have, in bytes, 0 for what it
    has; `time_limit` is in seconds.
    """

    root: Path
    kernel: str
    package: Package
    wanted: Wanted
    machine: str
    board: str
    time_limit: float
    memory: int = 0


def to_json(asked: Asked) -> str:
    """For a worker's command line."""
    return json.dumps(asdict(asked), default=str)


def from_json(text: str) -> Asked:
    """What `to_json` wrote."""
    found = json.loads(text)
    package = found["package"]
    return Asked(
        **{
            **found,
            "root": Path(found["root"]),
            "package": Package(**{**package, "folder": Path(package["folder"]), "module": Path(package["module"])}),
            "wanted": Wanted(**found["wanted"]),
        }
    )


def project_of(asked: Asked) -> Project:
    """The project whose program runs the tests of a package. Raises UserError."""
    project, package = load(asked.root, asked.kernel), asked.package
    options = project.options
    return replace(
        project,
        # What a package of Go's own takes for granted of the language is what Go's module says.
        package=package.folder if package.standard else project.package,
        entry=SUPERVISED.entry,
        arguments=SUPERVISED.arguments,
        board=board_of(project, asked.board, asked.memory),
        options=options._replace(tests=package.name, ldflags=" ".join(filter(None, (NO_DEBUGGING, options.ldflags)))),
        program=Program(("test",), project.program.environment if project.program else ()),
        boot=None,
        assembly=(),
        objects=(),
        redirects=(),
        barrier=DISCARDING,
        expected=NOTHING,
        sets=(),
        allocator="",
        alloc_memory=None,
    )


def board_of(project: Project, name: str, memory: int) -> boards.Board:
    """The board called `name`, with `memory` bytes of RAM. Raises UserError."""
    board = project.board
    if name:
        board = boards.load(str(project.root / name) if name.endswith(".toml") else name, "--board")
    return boards.with_memory(replace(board, until=b""), memory) if memory else replace(board, until=b"")


def environment(package: Package, own: Sequence[str]) -> tuple[str, ...]:
    """The variables the tests of `package` find, with those of the configuration."""
    given = {
        "GOROOT": str(GOROOT),
        "HOME": "/",
        "PATH": "/bin",
        "PWD": str(folder_of(package)),
        **dict(each.split("=", 1) for each in own),
    }
    return tuple(f"{name}={value}" for name, value in given.items())


def machine_of(asked: Asked) -> Machine:
    """Build the tests of a package: what boots them. Raises UserError."""
    project = project_of(asked)
    caches = Caches(project.caching) if project.caching else None
    steps = Steps(project, caches=caches)
    _build(steps)
    for trouble in caches.settle() if caches else ():
        print(trouble, file=sys.stderr)
    assert project.program is not None
    return Machine(
        asked.machine,
        steps.image,
        project.board,
        asked.time_limit,
        environment(asked.package, project.program.environment),
        tuple(carried(asked.package, steps.go.root)),
        folder_of(asked.package),
    )


def work(asked: Asked) -> Result:
    """Build and judge a package. Raises Interrupted."""
    try:
        judge = Judge(_Telling(machine_of(asked)), asked.wanted, asked.time_limit)
        return result_of(asked.package.name, judge.judge())
    except UserError as error:
        return Result(asked.package.name, FAILED, (str(error),))


def _build(steps: Steps) -> None:
    steps.make_ready()
    for make in (steps.compile, steps.runtime, steps.link, steps.patch):
        action = make()
        if steps.records.stale(action):
            steps.records.perform(action)


class _Telling:
    """Boots that show what the tests say, as it comes."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def __call__(self, arguments: Sequence[str], shown: bool) -> Boot:
        if not shown:
            return self._machine.boot(arguments)
        text = Shown()
        boot = self._machine.boot(arguments, lambda data: _show(text.add(data)))
        _show(text.end())
        return boot


def _show(text: str) -> None:
    if text:
        sys.stdout.write(text)
        sys.stdout.flush()


def main() -> None:
    """Do what the command line says. Asked to end, it ends what it started first."""

    def interrupted(number: int, frame: FrameType | None) -> None:
        for each in ENDING:
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt

    for each in ENDING:
        signal.signal(each, interrupted)
    try:
        result: dict[str, Any] = asdict(work(from_json(sys.argv[1])))
        files.replace(Path(sys.argv[2]), json.dumps(result).encode())
    except (KeyboardInterrupt, Interrupted):
        sys.exit(130)


if __name__ == "__main__":
    main()
