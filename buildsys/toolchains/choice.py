"""The toolchains by name, as `toolchain` in [tool.buildsys] gives it."""

from __future__ import annotations

from collections.abc import Callable

from buildsys.toolchains import gnu, zig
from buildsys.toolchains.binary import BinaryToolchain

_KNOWN: dict[str, Callable[[], BinaryToolchain]] = {"zig": zig.toolchain, "gnu": gnu.toolchain}


def find(name: str) -> BinaryToolchain:
    """The toolchain called `name`, one of `config.project.TOOLCHAINS`. Raises UserError if it is not installed."""
    return _KNOWN[name]()
