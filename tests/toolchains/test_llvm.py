"""LLVM from the system: which clang and lld are taken, and that what they make is the same kernel."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from buildsys.config.project import load
from buildsys.errors import MissingError
from buildsys.front.steps import Steps
from buildsys.front.verify import case_of, check
from buildsys.proof.claims import CLAIMS
from buildsys.toolchains import llvm
from tests.conftest import copy_project
from tests.machines.conftest import needs


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all of PATH."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def install(programs: Path, *names: str) -> None:
    for name in names:
        (programs / name).write_text(f"#!/bin/sh\necho {name}\n")
        (programs / name).chmod(0o755)


def taken() -> tuple[str, str]:
    found = llvm.toolchain()
    return Path(found.assembler[0]).name, Path(found.linker[0]).name


def test_the_plain_names_go_first(programs: Path) -> None:
    install(programs, "clang", "ld.lld", "clang-19", "ld.lld-19")
    assert taken() == ("clang", "ld.lld")


def test_of_versioned_names_the_newest_that_has_both_is_taken(programs: Path) -> None:
    install(programs, "clang-9", "ld.lld-9", "clang-19", "ld.lld-19", "clang-20", "clang-format-21")
    assert taken() == ("clang-19", "ld.lld-19")


def test_two_versions_are_never_mixed(programs: Path) -> None:
    install(programs, "clang", "clang-19", "ld.lld-18")
    with pytest.raises(MissingError, match=r'toolchain = "llvm", but there is no ld\.lld') as caught:
        llvm.toolchain()
    assert "apt-get install --no-install-recommends clang lld" in caught.value.hint


def test_with_neither_both_are_named(programs: Path) -> None:
    with pytest.raises(MissingError, match=r"there is no clang and no ld\.lld"):
        llvm.toolchain()


def test_the_library_that_assembles_is_part_of_the_tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("bin", "lib", "usr"):
        (tmp_path / folder).mkdir()
    install(tmp_path / "bin", "clang", "lld")
    (tmp_path / "lib" / "libLLVM-14.so.1").write_text("code")
    (tmp_path / "usr" / "clang").symlink_to(tmp_path / "bin" / "clang")
    (tmp_path / "usr" / "ld.lld").symlink_to(tmp_path / "bin" / "lld")
    monkeypatch.setenv("PATH", str(tmp_path / "usr"))
    assert {path.name for path in llvm.toolchain().files} == {"clang", "lld", "libLLVM-14.so.1"}


@pytest.mark.slow
def test_every_claim_holds_for_the_kernel_it_makes(built: Steps, tmp_path: Path) -> None:
    """Among them that it is reproducible, and behaves the same on both emulators."""
    needs("clang", llvm.INSTALL)
    needs("ld.lld", llvm.INSTALL)
    steps = Steps(replace(load(copy_project(tmp_path)), toolchain="llvm"))
    steps.project.build.mkdir()
    for made in (built.archive, *built.of_go):
        shutil.copy2(made, steps.project.build)
    for action in (steps.link, steps.patch):
        steps.records.perform(action())
    lines = check(case_of(steps), list(enumerate(CLAIMS, 1)))
    assert [(line.claim.name, line.verdict.figure) for line in lines if not line.verdict.passed] == []
