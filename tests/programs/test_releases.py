"""Of which Go a program cannot be made."""

from __future__ import annotations

from pathlib import Path

import pytest

from buildsys.config.project import load
from buildsys.errors import UserError
from buildsys.front.steps import Steps
from tests.programs.conftest import SETTINGS


def test_a_go_that_is_too_old_is_refused_before_it_is_run(tmp_path: Path) -> None:
    go = tmp_path / "go"
    (go / "bin").mkdir(parents=True)
    (go / "VERSION").write_text("go1.20.14")
    (go / "bin" / "go").write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\nexit 1\n")
    (go / "bin" / "go").chmod(0o755)
    (tmp_path / "src").mkdir()
    (tmp_path / "src/go.mod").write_text("module example\n\ngo 1.20\n")
    (tmp_path / "src/main.go").write_text("package main\n\nfunc main() {}\n")
    (tmp_path / "buildsys.toml").write_text(SETTINGS.format(arguments="[]", more=f'go = "{go}"', env=""))
    steps = Steps(load(tmp_path))
    with pytest.raises(UserError, match=r"`go` is Go 1\.20\.14, and a program needs 1\.21") as refused:
        steps.records.perform(steps.compile())
    assert refused.value.hint == 'a newer one is fetched: go = "1.27"'
    assert not (tmp_path / "ran").exists()
