"""`doit cache-info` and `doit cache-prune`: what is kept for later builds, and making it less."""

from __future__ import annotations

import time
from pathlib import Path

from buildsys.config.caching import FOLDER, OFF, size_in_bytes
from buildsys.errors import UserError
from buildsys.front.reporter import Failed
from buildsys.front.steps import Steps

_AGES = ((86400, "days"), (3600, "hours"), (60, "minutes"), (1, "seconds"))


def cache_info(steps: Steps) -> Failed | None:
    """Print where results are kept and shared, and how much there is."""
    _go_trees(steps.project.go_folder)
    caching, caches = steps.project.caching, steps.records.caches
    if caching is None or caches is None:
        print(
            f"local cache   none: {FOLDER} or `folder` in [tool.buildsys.cache] is {OFF!r}, or you have no home folder"
        )
        return None
    usage = caches.store.usage()
    print(f"local cache   {caching.folder}")
    print(f"              {_size(usage.size)} of at most {_size(caching.limit)}")
    print(f"              {usage.results} results, {usage.contents} files")
    if usage.results or usage.contents:
        print(f"              the oldest was last used {_ago(time.time() - usage.oldest)} ago")
    mode = "read and written" if caching.writes else "read only"
    print(f"shared cache  {f'{caching.remote} ({mode})' if caching.remote else 'none'}")
    return None


def _go_trees(folder: Path | None) -> None:
    """Print which releases of Go were fetched, and how much they take; they are removed by hand."""
    trees = sorted(path.parent for path in folder.glob("go*/VERSION")) if folder else []
    size = sum(path.lstat().st_size for tree in trees for path in tree.rglob("*"))
    print(f"Go trees      {folder or 'none'}")
    if trees:
        print(f"              {_size(size)}: {', '.join(tree.name for tree in trees)}")


def cache_prune(steps: Steps, limit: str, everything: bool) -> Failed | None:
    """Remove what was not used for longest, until the local cache holds no more than it should."""
    caching, caches = steps.project.caching, steps.records.caches
    if caching is None or caches is None:
        return Failed("there is no local cache to prune")
    try:
        bound = 0 if everything else size_in_bytes(limit) if limit else caching.limit
    except UserError as error:
        return Failed(UserError(f"--limit: {error.message}", error.hint))
    count, freed = caches.store.prune(bound)
    left = caches.store.usage().size
    print(f"{count} files removed, {_size(freed)}; {_size(left)} left in {caching.folder}")
    return None


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def _ago(seconds: float) -> str:
    length, unit = next(((each, name) for each, name in _AGES if seconds >= each), (1, "seconds"))
    count = max(int(seconds // length), 0)
    return f"{count} {unit if count != 1 else unit[:-1]}"
