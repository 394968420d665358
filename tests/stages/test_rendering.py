"""A process that renders again renders what it must, and what it leaves alone is what rendering it would make."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from buildsys.config import board as boards
from buildsys.config.board import Board
from buildsys.files import renew
from buildsys.go.runtime import Plan
from buildsys.stages import rendering
from buildsys.stages.rendering import Sources, render
from buildsys.stages.templates import Addresses, Templates

TEMPLATES = {
    "one.s.j2": '{% from "macro.j2" import said %}one {{ said() }} {{ address("main.a") }} {{ entry }}',
    "two.s.j2": '{% include ["first.j2", "second.j2"] %} {{ address("main.b") }}',
    "three.s.j2": 'three{% include "may.j2" ignore missing %}',
    "macro.j2": '{% set b = address("main.c") %}{% macro said() %}said {{ b }} {{ entry }}{% endmacro %}',
    "second.j2": "second",
}
NAMES = ("one.s", "two.s", "three.s")


class Warm:
    """Templates in the folders `mine` and `theirs`, rendered to `build` by this process again and again."""

    def __init__(self, folder: Path, board: Board) -> None:
        self.mine, self.theirs, self.build = folder / "mine", folder / "theirs", folder / "build"
        for each in (self.mine, self.theirs, self.build):
            each.mkdir()
        for name, text in TEMPLATES.items():
            (self.theirs / name).write_text(text)
        self.sources = Sources(
            layout={}, plan=Plan((), (), ()), board=board, entry="main.E", folders=(self.mine, self.theirs),
            templates=NAMES, toolchain="zig",
        )  # fmt: skip
        self.known = {"main.a": 1, "main.b": 2, "main.c": 3}

    def made(self, build: Path) -> tuple[list[str], dict[str, str]]:
        asked = render(self.sources, build, self.known)
        return asked, {name: (build / name).read_text() for name in NAMES}

    def anew(self, monkeypatch: pytest.MonkeyPatch) -> tuple[list[str], dict[str, str]]:
        """What a new process makes, in a folder of its own."""
        with monkeypatch.context() as patched:
            patched.setattr(rendering, "_last", {})
            fresh = self.build.with_name("fresh")
            fresh.mkdir()
            return self.made(fresh)


@pytest.fixture
def warm(tmp_path: Path) -> Warm:
    return Warm(tmp_path, boards.load("qemu-virt", "the tests"))


def write(name: str, text: str, folder: str = "theirs") -> Callable[[Warm], None]:
    def edit(warm: Warm) -> None:
        (getattr(warm, folder) / name).write_text(text)

    return edit


def entry(warm: Warm) -> None:
    warm.sources = replace(warm.sources, entry="main.Other")


def address(warm: Warm) -> None:
    warm.known = {**warm.known, "main.c": 30}


EDITS: dict[str, tuple[Callable[[Warm], object], set[str]]] = {
    "nothing": (lambda warm: None, set()),
    "a template": (write("three.s.j2", "3"), {"three.s"}),
    "a macro that is imported": (write("macro.j2", "{% macro said() %}another{% endmacro %}"), {"one.s"}),
    "another of that name, found before": (write("macro.j2", "{% macro said() %}x{% endmacro %}", "mine"), {"one.s"}),
    "the one that was wanted first is there": (write("first.j2", '{{ address("main.d") }}'), {"two.s"}),
    "one that was missing is there": (write("may.j2", "may"), {"three.s"}),
    "one that may be missing cannot be read": (lambda warm: (warm.mine / "second.j2").symlink_to("nowhere"), set()),
    "a value": (entry, {"one.s"}),
    "an address": (address, {"one.s"}),
    "no address is asked for any more": (write("two.s.j2", "two"), {"two.s"}),
}


@pytest.mark.parametrize("name", EDITS)
def test_after_an_edit_all_is_as_a_new_process_makes_it(name: str, warm: Warm, monkeypatch: pytest.MonkeyPatch) -> None:
    _, before = warm.made(warm.build)
    edit, changes = EDITS[name]
    edit(warm)
    found = warm.made(warm.build)
    assert found == warm.anew(monkeypatch)
    assert {name for name in NAMES if found[1][name] != before[name]} == changes


def test_only_what_an_edit_concerns_is_rendered_and_written(warm: Warm, monkeypatch: pytest.MonkeyPatch) -> None:
    warm.made(warm.build)
    stood = {name: (warm.build / name).stat().st_ino for name in NAMES}
    write("macro.j2", "{% macro said() %}another{% endmacro %}")(warm)
    rendered: list[str] = []
    original = Templates.render

    def noted(templates: Templates, name: str, values: Mapping[str, Any]) -> str:
        rendered.append(name)
        return original(templates, name, values)

    monkeypatch.setattr(Templates, "render", noted)
    warm.made(warm.build)
    assert rendered == ["one.s.j2"]
    assert {name for name in NAMES if (warm.build / name).stat().st_ino != stood[name]} == {"one.s"}


def test_a_file_that_somebody_changed_is_written_again(warm: Warm) -> None:
    _, before = warm.made(warm.build)
    (warm.build / "two.s").write_text("nothing of ours")
    (warm.build / "three.s").unlink()
    assert warm.made(warm.build)[1] == before


@pytest.mark.parametrize("there", [None, b"", b"wanted, and more", b"wante", b"Wanted"])
def test_renewing_writes_what_is_wanted_whatever_is_there(there: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "file"
    if there is not None:
        path.write_bytes(there)
    renew(path, b"wanted")
    assert path.read_bytes() == b"wanted"
    stood = path.stat()
    renew(path, b"wanted")
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (stood.st_ino, stood.st_mtime_ns)


@pytest.mark.parametrize("edited", ["one.s.j2", "macro.j2"])
def test_a_template_edited_while_it_is_rendered_is_rendered_again(
    edited: str, warm: Warm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was rendered is of the text before: it must not be taken for what comes of the one that is there now."""
    asked = Addresses.__call__

    def meanwhile(addresses: Addresses, symbol: str) -> int:
        (warm.theirs / edited).write_text(TEMPLATES[edited].replace("one", "uno").replace("said {{", "told {{"))
        return asked(addresses, symbol)

    with monkeypatch.context() as patched:
        patched.setattr(Addresses, "__call__", meanwhile)
        _, before = warm.made(warm.build)
    assert before["one.s"].startswith("one said")
    assert warm.made(warm.build) == warm.anew(monkeypatch)
    assert warm.made(warm.build)[1]["one.s"] != before["one.s"]
