"""`doit go-test PATTERN…`: the tests of Go packages, each package booted on the bare machine."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from buildsys import files
from buildsys.errors import UserError
from buildsys.front.reporter import Failed
from buildsys.front.steps import Steps
from buildsys.gotest.boots import MACHINES
from buildsys.gotest.judge import Wanted, refuse
from buildsys.gotest.packages import packages
from buildsys.gotest.results import EMPTY, PASSED, Result
from buildsys.gotest.run import run
from buildsys.gotest.show import as_junit, concluding, line, table
from buildsys.gotest.worker import Asked as Work
from buildsys.gotest.worker import board_of


class Asked(NamedTuple):
    """The options of `doit go-test`, as they stand on the command line."""

    patterns: Sequence[str] = ()
    run: str = ""
    bench: str = ""
    times: int = 1
    processors: int = 0
    time_limit: float = 0.0
    jobs: int = 0
    machine: str = "qemu"
    board: str = ""
    memory: int = 0
    junit: str = ""


def go_test(steps: Steps, asked: Asked) -> Failed | None:
    """Judge every package the patterns name; print what its tests say, and a table. Fails unless all pass."""
    try:
        work, jobs = _work(steps, asked)
        results = run(work, jobs, _say, lambda result: _say(line(result) + "\n"))
    except UserError as error:
        return Failed(error)
    if len(results) > 1:
        print(f"\n{table(results)}")
    print(concluding(results))
    if asked.junit:
        Path(asked.junit).parent.mkdir(parents=True, exist_ok=True)
        files.replace(Path(asked.junit), as_junit(results).encode())
    return _failure(results)


def _failure(results: Sequence[Result]) -> Failed | None:
    failed = [result.package for result in results if result.verdict not in (PASSED, EMPTY)]
    if failed:
        return Failed(f"{len(failed)} of {len(results)} packages failed: {', '.join(failed)}")
    if all(result.verdict == EMPTY for result in results):
        return Failed("there is nothing to test: no package named has test files")
    return None


def _work(steps: Steps, asked: Asked) -> tuple[list[Work], int]:
    """What the workers are to do, and how many at a time. Raises UserError."""
    from buildsys.matrix.run import processors

    project = steps.project
    wanted = Wanted(asked.run, asked.bench, asked.times, asked.processors)
    refuse(wanted)
    if asked.machine not in MACHINES:
        raise UserError(f"--machine is {asked.machine!r}", f"known: {', '.join(MACHINES)}")
    if asked.time_limit < 0 or asked.jobs < 0:
        raise UserError(f"--{'time-limit' if asked.time_limit < 0 else 'jobs'} must be more than 0")
    memory = asked.memory << 20
    board = board_of(project, asked.board, memory)  # one that is none is told before anything is built
    if not memory and "-m" in board.qemu:
        memory = max(MEMORY, board.ram.length)
    steps.make_ready()
    found = packages(steps.go, project.package, asked.patterns or ["./..."], project.options.tags)
    limit = asked.time_limit or LIMIT
    work = [
        Work(project.root.absolute(), project.kernel, each, wanted, asked.machine, asked.board, limit, memory)
        for each in found
    ]
    return work, asked.jobs or processors()


# Seconds a boot may take: `go test` allows ten minutes, on a machine that is not emulated.
LIMIT = 600.0
# Bytes of RAM where there can be as much as one likes: tests want more than kernels do.
MEMORY = 1 << 30


def _say(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
