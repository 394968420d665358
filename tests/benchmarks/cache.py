"""What is not built again: earlier states, fresh clones, and large trees in which nothing changed."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.benchmarks.loop import DOIT, editor
from tests.benchmarks.measure import Row, command, ratio, side_by_side
from tests.cache.servers import nginx
from tests.conftest import copy_project

PACKAGES = 500


def rows(folder: Path) -> Iterator[Row]:
    kept = {**os.environ, "BUILDSYS_CACHE": str(folder / "cache")}
    yield restoring(folder / "states", kept)
    yield cloning(folder / "clones", kept)
    yield fetching(folder / "fetching")
    yield many(folder / "many", kept)


def restoring(folder: Path, kept: dict[str, str]) -> Row:
    """Back and forth between two states that were built before."""
    project = copy_project(folder)
    doit, source = command([DOIT, "build"], project, kept), project / "src" / "main.go"
    edit, states = editor(source), []
    for _ in range(2):
        edit()
        doit()
        states.append(source.read_text())
    turns = itertools.cycle(states)

    def switch() -> None:
        source.write_text(next(turns))
        doit()

    [median] = side_by_side(11, switch)
    return Row("doit build of an earlier state", median, "", None, "≤ 350 ms", median <= 350)


def cloning(folder: Path, kept: dict[str, str]) -> Row:
    """A fresh clone of what was built in another folder."""
    command([DOIT, "build"], copy_project(folder / "first"), kept)()
    clone = copy_project(folder / "clone")
    doit = command([DOIT, "build"], clone, kept)

    def build() -> None:
        shutil.rmtree(clone / "build", ignore_errors=True)
        doit()

    [median] = side_by_side(11, build)
    return Row("doit build of a clean clone, local cache warm", median, "", None, "≤ 500 ms", median <= 500)


def fetching(folder: Path) -> Row:
    """A clean clone whose own cache is empty, of what another machine built; nginx on the loopback interface."""
    folder.mkdir()
    with nginx(folder / "nginx") as server:
        kept = {**os.environ, "BUILDSYS_CACHE": str(folder / "cache"), "BUILDSYS_CACHE_REMOTE": server.url}
        first, clone = copy_project(folder / "first"), copy_project(folder / "clone")
        command([DOIT, "build"], first, {**kept, "BUILDSYS_CACHE_MODE": "read-write"})()
        doit = command([DOIT, "build"], clone, kept)

        def build() -> None:
            for name in ("cache/ac", "cache/cas", "clone/build"):
                shutil.rmtree(folder / name)
            doit()

        doit()
        [median] = side_by_side(11, build)
    return Row("doit build of a clean clone, shared cache warm", median, "", None, "≤ 1000 ms", median <= 1000)


def many(folder: Path, kept: dict[str, str]) -> Row:
    """Nothing to do, in a kernel of many packages and of one."""

    def built(packages: int) -> Callable[[], None]:
        project = copy_project(folder / str(packages))
        spread(project / "src", packages)
        doit = command([DOIT, "build"], project, kept)
        doit()
        return doit

    times = side_by_side(11, built(PACKAGES), built(1))
    return ratio(f"doit build, nothing to do, {PACKAGES} packages", times, "one package", 3)


def spread(source: Path, count: int) -> None:
    """Give the kernel in `source` that many packages more, which it imports."""
    imports = "".join(f'\tp{number} "kernel/many/p{number}"\n' for number in range(count))
    calls = "".join(f"\tprintln(p{number}.F())\n" for number in range(count))
    for number in range(count):
        package = source / "many" / f"p{number}"
        package.mkdir(parents=True)
        (package / "p.go").write_text(f"package p{number}\n\nvar N = {number}\n\nfunc F() int {{ return N }}\n")
    (source / "many.go").write_text(f"package main\n\nimport (\n{imports})\n\nfunc init() {{\n{calls}}}\n")
