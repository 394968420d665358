"""Making the reference kernel for other boards: its Go object, linked and patched again."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from buildsys.config.project import load
from buildsys.front.steps import Steps
from tests.conftest import copy_project


def build_for(built: Steps, board: str, root: Path) -> Steps:
    """The reference project in `root`, for `board`: a name, or the text of a board file of its own."""
    copy_project(root)
    if "\n" in board:
        (root / "own.toml").write_text(board)
        board = "own.toml"
    settings = root / "pyproject.toml"
    text, count = re.subn(r"(?m)^board = .*$", f'board = "{board}"', settings.read_text())
    assert count == 1
    settings.write_text(text)
    steps = Steps(load(root))
    steps.project.build.mkdir()
    for made in built.of_go:
        shutil.copy2(made, steps.project.build)
    for action in (steps.link, steps.patch):
        steps.records.perform(action())
    return steps


def with_keys(text: str, **keys: str) -> str:
    """A board file's `text` with other values of some keys, each of which it must have once; "" takes one out."""
    for key, value in keys.items():
        name = key.replace("_", "-")
        text, count = re.subn(rf"(?m)^{name} = [^#\n]*", f"{name} = {value} " if value else "", text)
        assert count == 1, key
    return text
