"""Fixtures: checkouts with a store and tools that record, and what a clean build makes of them.

A module of tests asks for them by `pytest_plugins = ["tests.front.cached"]`.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import copy_project
from tests.front.conftest import Checkout
from tests.front.inprocess import clean_build
from tests.front.recording import EVERY, Again, Clean, Recorded, recording


@pytest.fixture(scope="session")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return recording(tmp_path_factory.mktemp("tools"))


@pytest.fixture(scope="session")
def original(tools: Path, tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """The project with templates, a board file and one more Go file of its own, built; not to be changed."""
    folder = tmp_path_factory.mktemp("recorded")
    checkout = Recorded(copy_project(folder / "project"), folder, tools)
    checkout.own_templates()
    checkout.own_board()
    checkout.path("src/extra.go").write_text("package main\n\nfunc init() { heapLength = 1 }\n")
    checkout.doit("build").succeeded()
    assert checkout.ran() == EVERY
    return checkout


@pytest.fixture
def again(original: Recorded, tmp_path: Path) -> Iterator[Again]:
    """Makes a copy of a checkout, without what was built and with a store of its own: empty, or a copy (`warm`)."""
    made: list[Path] = []

    def copy(of: Recorded = original, warm: bool = False) -> Recorded:
        folder, temporary = tmp_path / f"again{len(made)}", tmp_path / f"again{len(made)}.tmp"
        made.extend((folder, temporary))
        shutil.copytree(of.folder, folder, symlinks=True, ignore=shutil.ignore_patterns("build"))
        temporary.mkdir()
        if warm:
            shutil.copytree(of.cache, temporary / "cache")
        return Recorded(folder, temporary, of.tools)

    yield copy
    for folder in made:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def recorded(original: Recorded, again: Again) -> Recorded:
    """A built checkout with a warm store, to do anything with."""
    checkout = again(warm=True)
    shutil.copytree(original.path("build"), checkout.path("build"))
    return checkout


@pytest.fixture
def clean(tmp_path: Path) -> Clean:
    """The image a clean build makes of a checkout's present state, in another folder."""

    def build(checkout: Checkout) -> bytes:
        return clean_build(checkout.folder, tmp_path / "clean build")

    return build
