"""A project of `buildsys new` that ends in many ways, and one like it that prints."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from buildsys.config.project import load
from buildsys.front.new import new
from buildsys.front.steps import Steps
from tests.sets.panics import SOURCES

END = "\tconsole.Drain() "  # where the kernel of `buildsys new` has done all it does


def build(root: Path, settings: str = "") -> Steps:
    """The project in `root`, with further settings, built."""
    if settings:
        with (root / "buildsys.toml").open("a") as file:
            file.write(settings)
    steps = Steps(load(root))
    steps.make_ready()
    for action in (steps.compile, steps.runtime, steps.link, steps.patch):
        steps.records.perform(action())
    return steps


def fresh(root: Path, code: str) -> Path:
    """A project as `buildsys new` writes it, in `root`, whose kernel runs `code` at its end."""
    new(root)
    source = root / "src" / "main.go"
    text = source.read_text()
    assert text.count(END) == 1
    source.write_text(text.replace(END, f"\t{code}\n{END}"))
    return root


def panicking(root: Path, settings: str = "") -> Steps:
    """Such a project that ends as `which` says."""
    fresh(root, "provoke(which)")
    shutil.copy2(SOURCES / "provoke.go", root / "src")
    return build(root, settings)


@pytest.fixture(scope="session")
def panics(tmp_path_factory: pytest.TempPathFactory) -> Steps:
    """A project of its own that ends as `which` says; with the Go that is there by default."""
    return panicking(tmp_path_factory.mktemp("panics") / "mine")
