"""Prints of large files outside any project, the tools, kept for all projects of a user: they take long to hash."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path

from buildsys.cache.fingerprint import MISSING, Print, boot, distrusted, settled
from buildsys.files import replace

LARGE = 1 << 20


class Prints:
    """The prints in the file `path`; of two builds that write it at once one's are lost, and taken again."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def get(self, name: str) -> Print:
        """The print of the file `name` when it was last looked at."""
        return self._known.get(name, MISSING)

    def keep(self, prints: Mapping[str, Print]) -> None:
        """Keep those of `prints` that are worth it and new; nothing if the disk refuses."""
        worth = {name: each for name, each in prints.items() if name[:1] == "/" and each[0] and each[0][0] >= LARGE}
        new = {name: each for name, each in worth.items() if settled(each) == each and self._known.get(name) != each}
        if not new:
            return
        self._known.update(new)
        with suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            replace(self._path, json.dumps({"boot": boot(), "prints": self._known}).encode())

    @cached_property
    def _known(self) -> dict[str, Print]:
        try:
            stored = json.loads(self._path.read_bytes())
            known = {str(name): (tuple(stat), str(digest)) for name, (stat, digest) in stored["prints"].items()}
            trusted = stored["boot"] == boot()
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return {}
        return known if trusted else {name: distrusted(each) for name, each in known.items()}
