"""The chain without doit around it, in this process: quick enough to be done again and again."""

from __future__ import annotations

import shutil
from pathlib import Path

from buildsys.cache.action import UP_TO_DATE
from buildsys.cache.caches import Caches
from buildsys.config.caching import Caching
from buildsys.config.project import load
from buildsys.front.steps import Steps

LIMIT = 10**9  # bytes


def build(root: Path, store: Path | None = None) -> dict[str, str]:
    """Build the project in the folder `root` as doit does; tells where each stage came from. Raises UserError."""
    caches = Caches(Caching(store, LIMIT)) if store else None
    steps = Steps(load(root), caches=caches)
    origins = {}
    for stage in (steps.compile, steps.runtime, steps.link, steps.patch):
        action = stage()
        origins[action.name] = UP_TO_DATE
        if steps.records.stale(action):
            steps.records.perform(action)
            last = steps.records.last(action.name)
            assert last is not None
            origins[action.name] = last.origin
    if caches:
        caches.settle()
    return origins


def clean_build(root: Path, folder: Path) -> bytes:
    """The image a build from nothing, without a store, makes of the sources in `root`; `folder` is used for it."""
    shutil.copytree(root, folder, symlinks=True, ignore=shutil.ignore_patterns("build"))
    try:
        build(folder)
        return (folder / "build" / "kernel.elf").read_bytes()
    finally:
        shutil.rmtree(folder)
