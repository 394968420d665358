"""Projects whose Go object is already made: what is tried is what comes after."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from buildsys.config.board import BOARDS
from buildsys.config.project import load
from buildsys.front.steps import Steps
from tests.conftest import ROOT

# A slow machine is not wrong.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

Project = Callable[..., Steps]


@pytest.fixture
def project(built: Steps, tmp_path: Path) -> Project:
    """Make the steps of a project: the reference kernel's object, with settings and templates of one's own.

    `templates` gives, by name, what is put behind a shipped template; `board` what is set in the board's file.
    Called again it is the same project, changed.
    """
    build = tmp_path / "build"
    build.mkdir()
    shutil.copy2(built.go_object, build)
    shutil.copy2(built.runtime_json, build)

    def make(
        templates: dict[str, str] | None = None,
        board: dict[str, int] | None = None,
        entry: str = "main.KernelMain",
        toolchain: str = "zig",
    ) -> Steps:
        shutil.rmtree(tmp_path / "mine", ignore_errors=True)
        (tmp_path / "mine").mkdir()
        for name, text in (templates or {}).items():
            (tmp_path / "mine" / name).write_text((ROOT / "templates" / name).read_text() + text)
        described = (BOARDS / "qemu-virt.toml").read_text()
        for key, value in (board or {}).items():
            table, _, name = key.rpartition(".")
            before, header, after = described.partition(f"[{table}]")
            after, count = re.subn(rf"^{name} = .*", f"{name} = {value}", after, count=1, flags=re.MULTILINE)
            assert count == 1, key
            described = before + header + after
        (tmp_path / "board.toml").write_text(described)
        (tmp_path / "pyproject.toml").write_text(
            f'[tool.buildsys]\npackage = "{built.project.package}"\nentry = "{entry}"\n'
            f'toolchain = "{toolchain}"\nboard = "board.toml"\ntemplates = ["mine"]\n'
            f"sets = {json.dumps(built.project.sets)}\n"
        )
        return Steps(load(tmp_path))

    return make
