"""Tests of Go's own on Linux as a system of one processor, where user emulation of it is no measure.

One fails here and there; the others start their own program again, and pass here and there.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from buildsys.config.project import load
from buildsys.front.steps import Steps
from buildsys.gotest.judge import Wanted
from tests.benchmarks import linux
from tests.conftest import ROOT
from tests.debian import NoArchiveError
from tests.gotest.standard import judge, project_in

# By package, each test, and how it ends.
ENDS = {
    "encoding/gob": {"TestCountDecodeMallocs": "FAIL"},
    "math/rand": {"TestDefaultRace": "PASS"},
    "sync": {"TestMutexMisuse": "PASS", "TestIssue76126": "PASS"},
}
MEMORY = ("-m", "512M")

pytestmark = pytest.mark.campaign


def test_what_starts_itself_again_passes_there_as_here_and_gob_fails_alike(tmp_path: Path) -> None:
    root = project_in(tmp_path)
    steps = Steps(load(root))
    environment = {**os.environ, **steps.go.environment(), "GOOS": "linux", "GOARCH": "arm64", "CGO_ENABLED": "0"}

    def go(folder: Path, *words: str) -> bytes:
        made = tmp_path / "made"
        command = [str(steps.go.command), *words[:-1], "-o", str(made), words[-1]]
        subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
        return made.read_bytes()

    try:
        kernel = linux.kernel(tmp_path / "debian")
    except NoArchiveError as error:
        pytest.skip(str(error))
    files = {name.replace("/", "-"): go(steps.project.package, "test", "-c", "-vet=off", name) for name in ENDS}
    commands = [f"/{name.replace('/', '-')} -test.v -test.run=^({'|'.join(tests)})$" for name, tests in ENDS.items()]
    go(ROOT / "tests/kernels/first", "build", ".")
    archive = tmp_path / "initial"
    archive.write_bytes(linux.initial(tmp_path / "made", {**files, "commands": "\n".join(commands).encode()}))
    said = linux.serial(kernel, archive, steps.project.board, "", MEMORY).decode()
    for name, tests in ENDS.items():
        ((_, here),) = judge(root, steps, [name], "qemu", Wanted(f"^({'|'.join(tests)})$"))
        assert {each.name: each.result for each in here.cases if "/" not in each.name} == tests
        for test, end in tests.items():
            assert f"--- {end}: {test} (" in said, said[-4000:]
