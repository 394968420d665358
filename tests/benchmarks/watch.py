"""`doit watch`: from a save to the verdict, told as a line of JSON."""

from __future__ import annotations

import json
import statistics
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from buildsys.go import build, toolchain
from tests.benchmarks.loop import DOIT, editor, plain
from tests.benchmarks.measure import Row, command, seconds
from tests.conftest import copy_project

ROUNDS = 15
OWN = '[tool.buildsys]\ntemplates = ["templates", "linker"]\n'


def rows(folder: Path) -> Iterator[Row]:
    project = copy_project(folder / "project")
    settings = project / "pyproject.toml"
    settings.write_text(settings.read_text().replace("[tool.buildsys]\n", OWN, 1))
    command([DOIT, "build"], project)()
    edit_go, edit_template = editor(project / "src" / "main.go"), nops(project / "templates" / "boot.s.j2")
    bare = bare_build(folder)
    with subprocess.Popen(
        [DOIT, "watch", "--json"],
        cwd=project,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as watching:
        assert watching.stdout is not None
        told = reader(watching.stdout)
        times: list[list[float]] = [[], [], []]
        try:
            told("claims")
            for turn in range(ROUNDS + 1):
                for column, work in zip(times, (saved(edit_go, told), saved(edit_template, told), bare), strict=True):
                    took = 1000 * seconds(work)
                    if turn:  # the first fills caches
                        column.append(took)
                    if work is not bare:
                        told("claims")
        finally:
            watching.terminate()
    go, template, alone = map(statistics.median, times)
    yield Row("watch: Go edited → verdict", go, "go build alone", alone, "≤ +150 ms", go <= alone + 150)
    yield Row("watch: template edited → verdict", template, "", None, "≤ 100 ms", template <= 100)


Told = Callable[[str], None]


def saved(edit: Callable[[], None], told: Told) -> Callable[[], None]:
    def work() -> None:
        edit()
        told("cycle")

    return work


def reader(lines: IO[str]) -> Told:
    """Something that waits for the next line of a kind, which must be good."""

    def told(event: str) -> None:
        while True:
            line: dict[str, Any] = json.loads(lines.readline())
            assert line["state"] == "passed", line
            if line["event"] == event:
                return

    return told


def nops(template: Path) -> Callable[[], None]:
    """Something that makes boot code longer, and shorter again, each time to another text."""
    text, count = template.read_text(), 0

    def edit() -> None:
        nonlocal count
        count += 1
        added = "    nop\n" * (count % 7 + 1) + f"    // {count}\n"
        template.write_text(text.replace("_start:\n", "_start:\n" + added, 1))

    return edit


def bare_build(folder: Path) -> Callable[[], None]:
    """`go build` alone of an edited copy of the kernel package."""
    package = copy_project(folder / "bare") / "src"
    go, archive = toolchain.find("wheel", "bench"), folder / "bare.a"
    words = [str(go.command), "build", *build.FLAGS, f"-ldflags={build.LDFLAGS}", "-o", str(archive), "."]
    edit, compile_ = editor(package / "main.go"), command(words, package, plain(go))

    def work() -> None:
        edit()
        compile_()

    return work
