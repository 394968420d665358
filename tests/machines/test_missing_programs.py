"""Without QEMU or gdb there is one message, and in it the one command that helps."""

from __future__ import annotations

from pathlib import Path

import pytest

from buildsys.config.board import Board
from buildsys.errors import UserError
from buildsys.machines import gdb, qemu

from .conftest import Image


def test_without_qemu_its_package_is_named(image: Image, board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    path = image("test: exit 0")
    monkeypatch.setenv("PATH", str(path.parent))
    for use in (lambda: qemu.run(path, board, 1), qemu.version):
        with pytest.raises(UserError, match="qemu-system-aarch64 is not installed") as caught:
            use()
        assert caught.value.hint == "on Debian: apt-get install --no-install-recommends qemu-system-arm"


def test_without_gdb_its_package_is_named(image: Image, board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    path = image("test: exit 0")
    monkeypatch.setenv("PATH", str(path.parent))
    with pytest.raises(UserError, match="there is no gdb for AArch64") as caught:
        gdb.debug(path, board, "test")
    assert caught.value.hint == "on Debian: apt-get install --no-install-recommends gdb-multiarch"


def test_a_gdb_for_another_processor_is_no_gdb_for_aarch64(
    image: Image, board: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "gdb"
    other.write_text("#!/bin/sh\necho 'Undefined item: \"aarch64\".' >&2\nexit 1\n")
    other.chmod(0o755)
    path = image("test: exit 0")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="there is no gdb for AArch64"):
        gdb.debug(path, board, "test")
