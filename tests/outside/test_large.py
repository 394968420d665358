"""A kernel that imports half of the standard library: built and audited, though most of it could never run bare."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from buildsys.go.runtime import READERS
from tests.conftest import ROOT
from tests.outside.conftest import Outside, Venv

BARRIERS = [f"runtime.gcWriteBarrier{slots}" for slots in range(1, 9)]
REDIRECTS = [f"--redirect={name}={name}" for name in (*BARRIERS, *READERS)]


@pytest.fixture(scope="module")
def large(venv: Venv, tmp_path_factory: pytest.TempPathFactory) -> Outside:
    folder = tmp_path_factory.mktemp("large") / "large"
    shutil.copytree(ROOT / "tests" / "kernels" / "large", folder)
    project = Outside(folder, venv)
    project.write("buildsys.toml", 'package = "."\nentry-arguments = []\n')
    project.write("dodo.py", "from buildsys.tasks import DOIT_CONFIG, task_kernel  # noqa: F401\n")
    project.doit("build").succeeded()
    return project


def sites(text: str) -> int:
    found = re.search(r"(\d+) sites patched", text)
    assert found
    return int(found[1])


@pytest.mark.slow
def test_it_builds_with_thousands_of_call_sites(large: Outside) -> None:
    assert large.path("build/kernel.elf").stat().st_size > 20e6
    assert sites(large.doit("build").succeeded().out) > 4000


@pytest.mark.slow
def test_it_is_audited_with_the_redirects_named(large: Outside) -> None:
    assert "5 of 5 claims hold" in large.doit("verify", "build/kernel.elf", *REDIRECTS).succeeded().out


@pytest.mark.slow
def test_what_was_not_redirected_is_found(large: Outside) -> None:
    done = large.doit("verify", "build/kernel.unpatched.elf", *REDIRECTS)
    assert done.status != 0
    assert " failed" in done.out


@pytest.mark.slow
def test_that_its_entry_reaches_no_runtime_is_what_lets_it_be_built(large: Outside, tmp_path: Path) -> None:
    shutil.copytree(large.folder, tmp_path / "reaching", ignore=shutil.ignore_patterns("build"))
    reaching = Outside(tmp_path / "reaching", large.venv)
    reaching.replace("main.go", "\thead = &first\n", '\thead = &first\n\t_, _ = sql.Open("", "")\n')
    reaching.doit("build").refused("has no allocator", "main.KernelMain\n  → database/sql.Open")
