"""The standard library's own tests on the bare machine, and as programs of Linux: what docs/go-test.json holds.

    python -m tests.gotest.standard [--embedded] PACKAGE ...

adds the packages to that file, or puts them in the place of what it has of them. Without a package: all of `LIST`.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from buildsys import files
from buildsys.config.project import load
from buildsys.front.gotest import LIMIT, MEMORY
from buildsys.front.steps import Steps
from buildsys.gotest.carried import GOROOT, carried, folder_of
from buildsys.gotest.judge import Wanted
from buildsys.gotest.output import FAIL, PASS, SKIP, said
from buildsys.gotest.packages import Package, packages
from buildsys.gotest.results import PASSED, Case, Result
from buildsys.gotest.run import run
from buildsys.gotest.worker import Asked
from tests.conftest import ROOT
from tests.gotest.user import user_program

RESULTS = ROOT / "docs" / "go-test.json"
LIST = (
    "bufio", "bytes", "container/heap", "container/list", "container/ring", "context", "encoding/base64",
    "encoding/binary", "encoding/gob", "encoding/hex", "encoding/json", "errors", "fmt", "hash/crc32",
    "hash/fnv", "html", "index/suffixarray", "io", "maps", "math", "math/big", "math/bits", "math/cmplx",
    "math/rand", "path", "regexp", "slices", "sort", "strconv", "strings", "sync", "sync/atomic",
    "text/tabwriter", "text/template", "time", "unicode", "unicode/utf8", "compress/flate", "compress/gzip",
    "crypto/sha256", "crypto/sha512", "crypto/aes",
)  # fmt: skip
# Of these a single test takes minutes on one emulated core: TestNew64, which sorts all there is to
# sort, and TestValueCompareAndSwapConcurrent, of which a thousand goroutines wait for their turn.
SLOW, SLOW_LIMIT = ("index/suffixarray", "sync/atomic"), 3600.0
# On how many processors Go's scheduler is to think it is, where that is not one: a test that counts allocations fails
# on any machine of one processor, Linux, too (test_on_linux.py), and skips itself on others.
PROCESSORS = {"encoding/gob": 2}


@dataclass
class Row:
    """One package: how its tests ended, and how on Linux. `differs` are tests that ended otherwise there."""

    package: str
    release: str
    verdict: str
    passed: int
    failed: list[str]
    skipped: int
    boots: int
    seconds: float
    linux_seconds: float
    linux_failed: list[str]
    differs: list[str]
    reasons: list[str]
    remarks: list[str] = field(default_factory=list)
    embedded: str = ""


def rows() -> dict[str, Row]:
    """What is known so far, by package."""
    try:
        stored = json.loads(RESULTS.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    return {each["package"]: Row(**each) for each in stored["packages"]}


def write(found: Iterable[Row]) -> None:
    """Write what is known, in the order of the names."""
    told = {"packages": [asdict(row) for row in sorted(found, key=lambda row: row.package)]}
    files.replace(RESULTS, json.dumps(told, indent=1).encode() + b"\n")


def markdown(found: Sequence[Row]) -> str:
    """The table for a document, and beneath it why packages do not pass."""
    lines = [
        "| package | | passed | skipped | failed | as on Linux | QEMU | qemu-user |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for each in found:
        alike = "yes" if not each.differs else f"but for {len(each.differs)}"
        option = f" `--cpu {PROCESSORS[each.package]}`" if each.package in PROCESSORS else ""
        ended = f"{each.verdict} | {each.passed} | {each.skipped} | {len(each.failed)} | {alike}"
        lines.append(f"| `{each.package}`{option} | {ended} | {each.seconds:.1f} s | {each.linux_seconds:.1f} s |")
    passed = sum(each.verdict == PASSED for each in found)
    releases = ", ".join(sorted({each.release for each in found}))
    embedded = [each.package for each in found if each.embedded == PASSED]
    lines += ["", f"{passed} of {len(found)} pass in full, with Go {releases}."]
    lines += [f"`{each.package}` does not: {'; '.join(each.reasons)}." for each in found if each.verdict != PASSED]
    known = {each.package for each in found}
    if missing := [f"`{name}`" for name in LIST if name not in known]:
        lines += ["", f"Not in the table, of those that were to be tried: {', '.join(missing)}."]
    if embedded:
        lines += ["", f"On the embedded emulator pass, tried so far: {', '.join(f'`{name}`' for name in embedded)}."]
    return "\n".join(lines)


def ends(cases: Iterable[Case]) -> dict[str, str]:
    """How each test, and each part of one, ended."""
    return {plain(case.name): case.result for case in cases}


def plain(name: str) -> str:
    """The name without addresses, which are no two runs' own."""
    return re.sub(r"0x[0-9a-f]{6,}", "0x…", name)


def on_linux(steps: Steps, package: Package) -> tuple[dict[str, str], float]:
    """How the tests end as a program of Linux, and the seconds it took."""
    with TemporaryDirectory() as aside:
        command = user_program(steps, package.name, Path(aside), package.folder)
        for each in carried(package, steps.go.root):
            place = Path(aside, each.path.relative_to("/"))
            (place if each.file is None else place.parent).mkdir(parents=True, exist_ok=True)
            if each.file is not None:
                shutil.copy2(each.file, place)
        folder = str(Path(aside, folder_of(package).relative_to("/")))
        began = time.monotonic()
        done = subprocess.run(
            [
                *(*command, "-test.v=test2json", "-test.paniconexit0", f"-test.timeout={limit_of(package):g}s"),
                *([f"-test.cpu={PROCESSORS[package.name]}"] if package.name in PROCESSORS else []),
            ],
            cwd=folder,
            env={"GOROOT": f"{aside}{GOROOT}", "HOME": aside, "PATH": "/bin", "PWD": folder},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
    spent = time.monotonic() - began
    tests = said(done.stdout.decode("utf-8", "replace")).ended
    return {plain(test.name): test.result for test in tests}, spent


def differences(here: dict[str, str], there: dict[str, str]) -> list[str]:
    """The tests that ended otherwise."""
    return [
        f"{name}: {here.get(name, 'did not end')}, on Linux {there.get(name, 'did not end')}"
        for name in sorted(here.keys() | there.keys())
        if here.get(name) != there.get(name)
    ]


def row(steps: Steps, package: Package, result: Result) -> Row:
    """What was found of a package."""
    here, (there, seconds) = ends(result.cases), on_linux(steps, package)
    return Row(
        package.name,
        steps.go.release,
        result.verdict,
        result.count(PASS),
        [name for name, how in here.items() if how == FAIL and "/" not in name],
        result.count(SKIP),
        result.boots,
        result.seconds,
        round(seconds, 2),
        [name for name, how in there.items() if how == FAIL and "/" not in name],
        differences(here, there),
        list(result.reasons),
        list(result.remarks),
    )


def limit_of(package: Package) -> float:
    """The seconds a boot of its tests may take."""
    return SLOW_LIMIT if package.name in SLOW else LIMIT


def judge(
    root: Path, steps: Steps, names: Sequence[str], machine: str, wanted: Wanted | None = None
) -> list[tuple[Package, Result]]:
    """The results of the packages, on one machine: of all their tests, if not of those `wanted`."""
    found = packages(steps.go, steps.project.package, names, ())
    asked = []
    for each in found:
        tests = wanted or Wanted(processors=PROCESSORS.get(each.name, 0))
        asked.append(Asked(root, "", each, tests, machine, "", limit_of(each), MEMORY))
    results = run(asked, 1, lambda text: None, lambda result: print(result.verdict, result.package, flush=True))
    return list(zip(found, results, strict=True))


def project_in(root: Path) -> Path:
    """The least of projects, in the folder `root`."""
    (root / "src").mkdir()
    (root / "buildsys.toml").write_text('package = "src"\n')
    (root / "src/go.mod").write_text("module example\n\ngo 1.21\n")
    (root / "src/main.go").write_text("package main\n\nfunc main() {}\n")
    return root


def main(arguments: Sequence[str]) -> None:
    """Do what the command line says."""
    names = [each for each in arguments if not each.startswith("-")] or list(LIST)
    with TemporaryDirectory() as aside:
        root = project_in(Path(aside))
        steps = Steps(load(root))
        for name in names:
            if "--embedded" in arguments:
                ((_, result),) = judge(root, steps, [name], "embedded")
                known = rows()
                known[name].embedded = result.verdict if result.verdict == PASSED else "; ".join(result.reasons)
            else:
                ((package, result),) = judge(root, steps, [name], "qemu")
                found = row(steps, package, result)
                known = rows()
                before: Any = known.get(name)
                known[name] = found
                known[name].embedded = before.embedded if before else ""
            write(known.values())


if __name__ == "__main__":
    main(sys.argv[1:])
