"""What the user may add to a build."""

from __future__ import annotations

from typing import NamedTuple


class GoOptions(NamedTuple):
    """What the user may add to the build: tags, and flags for compiler and linker."""

    tags: tuple[str, ...] = ()
    gcflags: str = ""
    ldflags: str = ""
