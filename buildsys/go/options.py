"""What the user may add to a build."""

from __future__ import annotations

from typing import NamedTuple


class GoOptions(NamedTuple):
    """What the user may add to the build: tags, and flags for compiler and linker.

    `tests`, if it is not empty, is the import path of a package: what is compiled is the program that runs its tests.
    """

    tags: tuple[str, ...] = ()
    gcflags: str = ""
    ldflags: str = ""
    tests: str = ""
