"""Small Go modules, and the Go that comes with the project."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from buildsys.go import toolchain
from buildsys.go.toolchain import GoToolchain

# A slow machine is not wrong.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

MAIN = """package main

func main() { Start() }

//go:noinline
func Start() {}
"""
MODULE = "module kernel\n\ngo 1.21\n"


@pytest.fixture(scope="session")
def go() -> GoToolchain:
    return toolchain.find("wheel", "the tests")


def write(folder: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder `src` of a project in the working folder, as a relative path: the smallest kernel package."""
    monkeypatch.chdir(tmp_path)
    write(Path("src"), {"go.mod": MODULE, "main.go": MAIN})
    return Path("src")
