"""The edit, build, boot loop."""

from __future__ import annotations

import itertools
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from buildsys.go import build, toolchain
from buildsys.go.toolchain import GoToolchain
from tests.benchmarks.measure import Row, command, ratio, side_by_side
from tests.conftest import copy_project

DOIT = str(Path(sys.executable).with_name("doit"))
EMPTY = """
def task_nothing():
    for number in range(10):
        yield {"name": str(number), "actions": [], "uptodate": [True]}
"""


def rows(folder: Path) -> Iterator[Row]:
    project = copy_project(folder / "project")
    kept = {**os.environ, "BUILDSYS_CACHE": str(folder / "cache")}  # as users have it, and empty to begin with
    doit = command([DOIT, "build"], project, kept)
    doit()
    yield nothing_to_do(folder, doit)
    edit = editor(project / "src" / "main.go")
    yield after_an_edit(folder, doit, edit)
    run = command([DOIT, "run"], project, kept)

    def loop() -> None:
        edit()
        run()

    [median] = side_by_side(9, loop)
    yield Row("edit → built → booted (embedded) → verdict", median, "", None, "≤ 1200 ms", median <= 1200)


def nothing_to_do(folder: Path, doit: Callable[[], None]) -> Row:
    empty = folder / "empty"
    empty.mkdir()
    (empty / "dodo.py").write_text(EMPTY)
    times = side_by_side(21, doit, command([DOIT], empty))
    return ratio("doit build, nothing to do", times, "ten empty tasks", 1.25)


def after_an_edit(folder: Path, doit: Callable[[], None], edit: Callable[[], None]) -> Row:
    bare = copy_project(folder / "bare") / "src"
    go, archive = toolchain.find("wheel", "bench"), folder / "bare.a"
    edit_bare = editor(bare / "main.go")
    words = [str(go.command), "build", *build.FLAGS, f"-ldflags={build.LDFLAGS}", "-o", str(archive), "."]
    go_build = command(words, bare, plain(go))

    def ours() -> None:
        edit()
        doit()

    def theirs() -> None:
        edit_bare()
        go_build()

    return ratio("doit build after a one-line edit of Go", side_by_side(15, ours, theirs), "go build alone", 2)


def plain(go: GoToolchain) -> dict[str, str]:
    """The environment of a `go build` as one types it."""
    return {name: value for name, value in go.environment().items() if name not in toolchain.EASE}


def editor(source: Path) -> Callable[[], None]:
    """Something that changes one line of `source` each time it is called, to what no build has seen.

    Go's cache knows a source by its contents, wherever it lies.
    """
    text, numbers = source.read_text(), itertools.count(time.time_ns())
    source.write_text(text + "\nvar edited = 0\n\nfunc init() { println(edited) }\n")

    def edit() -> None:
        source.write_text(text + f"\nvar edited = {next(numbers)}\n\nfunc init() {{ println(edited) }}\n")

    return edit
