"""The toolchains by name, as `toolchain` in [tool.buildsys] gives it."""

from __future__ import annotations

from importlib import import_module

from buildsys.toolchains.binary import BinaryToolchain


def find(name: str) -> BinaryToolchain:
    """The toolchain called `name`, one of `config.project.TOOLCHAINS`. Raises UserError if it is not installed."""
    found: BinaryToolchain = import_module(f"buildsys.toolchains.{name}").toolchain()
    return found
