"""The second road: the same tests as an ordinary program of Linux, by qemu-user."""

from __future__ import annotations

import subprocess
from pathlib import Path

from buildsys.front.steps import Steps

PROGRAM = "qemu-aarch64"


def user_program(steps: Steps, package: str, aside: Path, folder: Path | None = None) -> list[str]:
    """The command that runs the tests of `package`, built in `aside` as for the bare machine but for Linux.

    On one core of the board's kind, as the bare machine has it. `folder` is where the go command is run.
    """
    program = aside / "linux.test"
    subprocess.run(
        [
            *(str(steps.go.command), "test", "-c", "-vet=off", "-trimpath", "-buildvcs=false", "-ldflags=-w"),
            *("-o", str(program.resolve()), package),
        ],
        cwd=folder or steps.project.package,
        env=steps.go.environment(),
        check=True,
        capture_output=True,
    )
    return ["taskset", "1", PROGRAM, "-cpu", steps.project.board.cpu, str(program)]
