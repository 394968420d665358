"""The folders that are written to: the project's own, and those results and Go trees are kept in."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from buildsys.config.project import Project
from buildsys.doctor.check import Check, State

NEEDED = 500 * 10**6  # bytes: a build of a large kernel, and a result of it kept


def folders(project: Project) -> Iterator[Check]:
    """The build folder, which must be writable, and the cache, which had better be."""
    yield _folder("build folder", project.build, "build", blocks=True, mend="")
    if project.caching:
        mend = "another `folder` in [tool.buildsys.cache], or BUILDSYS_CACHE=off"
        yield _folder("local cache", project.caching.folder, "restore", blocks=False, mend=mend)


def _folder(name: str, path: Path, use: str, *, blocks: bool, mend: str) -> Check:
    wanted = f"{NEEDED / 1e6:.0f} MB free"
    there = path.absolute()
    while not there.exists() and there != there.parent:
        there = there.parent  # it will be made
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        state = State.MISSING if blocks else State.WARN
        return Check(name, state, "not writable", wanted, use, mend or f"chmod u+wx {there}", blocks)
    free = shutil.disk_usage(there).free
    told = f"{free / 1e9:.1f} GB free" if free >= 10**9 else f"{free / 1e6:.0f} MB free"
    if free < NEEDED:
        return Check(name, State.WARN, told, wanted, use, "doit cache-prune --all, or make room otherwise")
    return Check(name, State.OK, told, wanted, use)
