"""One row: the kernel built by one Go and one toolchain, and judged on each emulator. A process of its own.

    python -m buildsys.matrix.row '{"root": …, "folder": …, "kernel": …, "go": …, "toolchain": …, "emulators": […]}'

writes a line of the results, as JSON, to standard output. The project is copied to `folder`, so that everything in
it is named as in any other clone, and what was built there is found in the caches.
"""

from __future__ import annotations

import json
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from buildsys import files
from buildsys.cache.action import BUILT, Action
from buildsys.cache.caches import Caches
from buildsys.cache.fingerprint import of_file
from buildsys.config.expected import NOTHING
from buildsys.config.project import PACKAGE, load
from buildsys.errors import MissingError, UserError
from buildsys.front.steps import Steps
from buildsys.front.verify import case_of, check, copy_sources
from buildsys.matrix.results import FAILED, NOT_RUN, PASSED, CellVerdict, Line, nothing
from buildsys.matrix.rows import EMBEDDED, Row
from buildsys.processes import run
from buildsys.proof.claim import Result
from buildsys.signals import ENDING
from buildsys.toolchains import zig
from buildsys.toolchains.binary import BinaryToolchain

# Rooms whose code has no say in a verdict.
SILENT = ("cache", "front", "matrix")
SPEAKING = ("front/steps.py", "front/verify.py", "matrix/row.py")


class _NotPassedError(Exception):
    """A verdict that is not worth keeping: next time it may be another."""

    def __init__(self, verdict: CellVerdict) -> None:
        super().__init__(verdict.result)
        self.verdict = verdict


def judge(root: Path, folder: Path, kernel: str, row: Row, emulators: Sequence[str]) -> Line:
    """Build `kernel` of the project at `root` in `folder` as `row` says, and judge it on every emulator."""
    _copy(root, folder)
    project = replace(load(folder, kernel), go=row.go, go_setting="the matrix's Go", toolchain=row.toolchain)
    caches = Caches(project.caching) if project.caching else None
    steps = Steps(project, caches=caches)
    try:
        tool = version(steps.binutils)
        steps.make_ready()
        began = time.perf_counter()
        chain = (steps.compile, steps.runtime, steps.link, steps.patch)
        made = [_brought_up_to_date(steps, action) for action in chain]
        spent = round(time.perf_counter() - began, 2) if any(made) else None
    except MissingError as error:
        return nothing(row, emulators, NOT_RUN, [error.message], error.hint)
    except UserError as error:
        return nothing(row, emulators, FAILED, error.message.splitlines(), error.hint)
    verdicts = {emulator: _verdict(steps, emulator) for emulator in emulators}
    for trouble in caches.settle() if caches else ():
        print(trouble, file=sys.stderr)
    report = json.loads(steps.patch_json.read_bytes())
    return Line(
        *row,
        verdicts,
        steps.go.release,
        tool,
        {each["name"]: each["count"] for each in report["functions"] if each["kind"] == "barrier"},
        steps.image.stat().st_size,
        of_file(steps.image)[1],
        _remembered(steps.project.build / "seconds.json", spent),
    )


def _copy(root: Path, folder: Path) -> None:
    """Make `folder` a copy of the project as it is now; what was built in it stays."""
    folder.mkdir(parents=True, exist_ok=True)
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            if entry.name != "build":
                shutil.rmtree(entry)
        else:
            entry.unlink()
    copy_sources(root, folder)


def _remembered(path: Path, seconds: float | None) -> float | None:
    """`seconds`, kept in the file `path`; if there are none, those that were kept last."""
    if seconds is not None:
        files.replace(path, json.dumps(seconds).encode())
        return seconds
    try:
        return float(json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


def _brought_up_to_date(steps: Steps, make: Any) -> bool:
    """Have the action `make()` done if it must be; whether it was, and not by a cache."""
    action: Action = make()
    if not steps.records.stale(action):
        return False
    steps.records.perform(action)
    last = steps.records.last(action.name)
    return last is not None and last.origin == BUILT


def _verdict(steps: Steps, emulator: str) -> CellVerdict:
    """The verdict on one emulator: from a record or a cache if image, claims and emulator are the same."""
    try:
        action = verdict_action(steps, emulator)
        kept = not steps.records.stale(action)
        if not kept:
            steps.records.perform(action)
            last = steps.records.last(action.name)
            kept = last is not None and last.origin != BUILT
        stored = json.loads(action.outputs[0].read_bytes())
        return CellVerdict(**{**stored, "said": tuple(stored["said"]), "kept": kept})
    except _NotPassedError as error:
        return error.verdict
    except MissingError as error:
        return CellVerdict(NOT_RUN, said=(error.message,), advice=error.hint)
    except UserError as error:
        return CellVerdict(FAILED, said=tuple(error.message.splitlines()), advice=error.hint)


def verdict_action(steps: Steps, emulator: str) -> Action:
    """The image, and all that has a say in what is found of it ─▶ verdict-EMULATOR.json. Raises UserError."""
    output = steps.project.build / f"verdict-{emulator}.json"

    def run() -> dict[str, Any]:
        found = claims(steps, emulator)
        if found.result != PASSED:
            raise _NotPassedError(found)
        files.replace(output, json.dumps(asdict(found)).encode())
        return {}

    code = [path for path in PACKAGE.rglob("*.py") if path.relative_to(PACKAGE).parts[0] not in SILENT]
    return Action(
        name=f"verdict {emulator}",
        inputs=(
            *(steps.image, steps.unpatched, steps.go_object, steps.project.board.path),
            *(*steps.go.files, *steps.binutils.files, zig.program()),
            *sorted([*code, *(PACKAGE / name for name in SPEAKING)]),
        ),
        outputs=(output,),
        parameters={
            "emulator": identity(emulator),
            "entry": steps.project.entry,
            "arguments": steps.project.arguments,
            "redirects": [each.decides() for each in steps.redirects],
            "own boot code": steps.project.boot is not None,
            "QEMU's arguments": steps.project.board.qemu,
            "time limit": steps.project.time_limit,
            **({"expected": repr(steps.project.expected)} if steps.project.expected != NOTHING else {}),
        },
        run=run,
    )


def claims(steps: Steps, emulator: str) -> CellVerdict:
    """Check every claim: with the embedded emulator alone, or with QEMU beside it, which must agree."""
    from buildsys.proof.claims import of

    began = time.perf_counter()
    chosen = list(enumerate(of(steps.project.program is not None), 1))
    lines = check(replace(case_of(steps), alone=emulator == EMBEDDED), chosen)
    results = [line.verdict.result for line in lines]
    bad = [line for line in lines if not line.verdict.passed]
    return CellVerdict(
        FAILED if Result.FAILED in results else NOT_RUN if Result.NOT_RUN in results else PASSED,
        len(lines),
        results.count(Result.PASSED),
        round(time.perf_counter() - began, 2),
        tuple(f"claim {line.number}, {line.claim.name}: {line.verdict.figure}" for line in bad),
        next((line.verdict.advice for line in bad), ""),
    )


def identity(emulator: str) -> list[str]:
    """What an emulator is: its name, its version and the sha256 of its program. Raises MissingError."""
    if emulator == EMBEDDED:
        from importlib.metadata import version as installed
        from importlib.util import find_spec

        spec = find_spec("unicorn")
        places = spec.submodule_search_locations or () if spec else ()
        libraries = sorted(path for place in places for path in Path(place).rglob("libunicorn*.so*"))
        return [emulator, installed("unicorn"), *(of_file(path)[1] for path in libraries)]
    from buildsys.machines import qemu

    return [emulator, qemu.version(), of_file(qemu.program())[1]]


def version(toolchain: BinaryToolchain) -> str:
    """What the assembler says of its version. Raises UserError if it cannot be run."""
    said = run([*toolchain.assembler, "--version"]).stdout.strip().splitlines()
    return said[0] if said else "of unknown version"


def main() -> None:
    """Judge the row the command line describes. Asked to end, it ends what it started first."""

    def interrupted(number: int, frame: FrameType | None) -> None:
        for each in ENDING:
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt

    for each in ENDING:
        signal.signal(each, interrupted)
    asked = json.loads(sys.argv[1])
    work = partial(
        judge, Path(asked["root"]), Path(asked["folder"]), asked["kernel"], Row(asked["go"], asked["toolchain"])
    )
    try:
        print(json.dumps(asdict(work(asked["emulators"]))))
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
