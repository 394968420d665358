"""What runs on QEMU runs on a newer one: the tests that need QEMU, once more, on the one of Debian's backports.

It is unpacked in a folder of its own. The one that is installed stays as it is, and its libraries are used.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.debian import NoArchiveError, Suite

SUITE, PACKAGES = "bookworm-backports", ("qemu-system-arm", "qemu-system-common", "qemu-system-data")
# Folders and files of tests, and which of them, as pytest's -k has it.
RUNS = {
    "the machine": ("tests/machines", "qemu or agree or keep or gdb or device"),
    "the reference kernel": ("tests/proof", "qemu or claim or reference"),
    "programs": ("tests/programs", ""),
    "tests of packages": ("tests/gotest", ""),
    "kernels that fail": ("tests/zoo", "qemu"),
}
LIMIT = 3600  # seconds

pytestmark = pytest.mark.campaign


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the newer QEMU's programs."""
    found = subprocess.run(["dpkg", "--print-architecture"], capture_output=True, text=True, check=False)
    try:
        return Suite(tmp_path_factory.mktemp("qemu"), SUITE, found.stdout.strip()).unpack(*PACKAGES) / "usr" / "bin"
    except NoArchiveError as error:
        pytest.skip(str(error))


def with_newer(programs: Path) -> dict[str, str]:
    """The environment in which that QEMU is found first."""
    return {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}


def test_it_is_a_newer_one(programs: Path) -> None:
    told = "from buildsys.machines import qemu; print(qemu.program(), qemu.version())"
    done = subprocess.run(
        [sys.executable, "-c", told], env=with_newer(programs), cwd=ROOT, capture_output=True, text=True, check=True
    )
    path, version = done.stdout.split()
    assert Path(path).parent == programs
    assert int(version.partition(".")[0]) >= 10


@pytest.mark.parametrize("what", RUNS)
def test_what_runs_on_qemu_runs_on_a_newer_one(programs: Path, what: str) -> None:
    place, which = RUNS[what]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", place, "-m", "not campaign", "-k", which],
        env=with_newer(programs), cwd=ROOT, capture_output=True, text=True, check=False, timeout=LIMIT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
