"""The modules this process is made of: while they are what they were, what is recorded of them needs no second look."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from buildsys.cache.fingerprint import MISSING, Print, of_file, of_folder, settled
from buildsys.config.project import PACKAGE
from buildsys.errors import UserError
from buildsys.front.artifacts import jinja

SHOWN = 3


class Modules:
    """Our own modules and Jinja's, as they were when this was made; that is to be early."""

    def __init__(self, files: Iterable[Path] | None = None) -> None:
        files = (*PACKAGE.rglob("*.py"), *jinja()) if files is None else files
        self._known = {str(path): settled(of_file(path)) for path in files}
        self._folders = dict.fromkeys({path.rpartition(os.sep)[0] for path in self._known}, MISSING)
        self._names: dict[str, set[str]] = {}
        self.prints: Mapping[str, Print] = {}

    @property
    def folders(self) -> Iterable[str]:
        """Where they are."""
        return self._folders.keys()

    def changed(self) -> list[str]:
        """Those that are no longer what they were, new ones, too; `prints` is then of those that are."""
        now = set(self._known)
        for folder, known in self._folders.items():
            found = of_folder(folder, known)
            if found != known:
                self._folders[folder], self._names[folder] = settled(found), _modules_in(folder)
            now |= self._names.get(folder, set())
        changed, prints = [], {}
        for path in now:
            was = self._known.get(path, MISSING)
            found = of_file(path, was)
            if found[1] != was[1]:
                changed.append(path)
            elif settled(found) == found:
                prints[path] = found
        self._known |= prints  # with the times of those that were only written again
        self.prints = prints
        return sorted(changed)


def _modules_in(folder: str) -> set[str]:
    try:
        return {f"{folder}{os.sep}{name}" for name in os.listdir(folder) if name.endswith(".py")}
    except OSError:
        return set()


def restart(changed: Iterable[str]) -> UserError:
    """What to say of modules that changed."""
    names = [os.path.relpath(path, PACKAGE.parent) for path in changed]
    return UserError(
        f"buildsys itself changed: {', '.join(names[:SHOWN])}{', …' if len(names) > SHOWN else ''}",
        "end `doit watch` and start it again",
    )
