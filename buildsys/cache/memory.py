"""What was found out at some cost, to be found again: in a file of the build folder, then in the caches.

There may be several answers to one question, each with what tells whether it
still stands (the files of a package, say, for several states of its sources).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from buildsys.cache.caches import Caches
from buildsys.files import replace

ANSWERS = 16
SIZE = 400_000  # bytes of JSON: a result is read whole


class Memory:
    """Answers to the question with the key `key()`; the last is in the file `path`."""

    def __init__(self, path: Path, key: Callable[[], str], caches: Caches | None) -> None:
        self._path, self._key, self._caches = path, key, caches
        self._here: Mapping[str, Any] | None = None
        self._others: list[Mapping[str, Any]] = []

    def recall(self) -> Iterator[Mapping[str, Any]]:
        """The answers, the likeliest first; those far away are fetched only if asked for."""
        with suppress(OSError, ValueError, RecursionError):
            found = json.loads(self._path.read_bytes())
            if isinstance(found, dict):
                self._here = found
                yield found
        if self._caches is None:
            return
        for result in self._caches.every(self._key()):
            stored = result.facts.get("answers")
            answers = [each for each in stored if isinstance(each, dict)] if isinstance(stored, list) else []
            self._others += [each for each in answers if each not in self._others]
            yield from answers

    def keep(self, answer: Mapping[str, Any], new: bool = True) -> None:
        """Keep `answer` as the likeliest; one that is not `new` came from here. Raises OSError.

        Machines that share a cache are told of new ones only.
        """
        if answer == self._here:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        replace(self._path, json.dumps(answer).encode())
        if self._caches is None:
            return
        answers = [answer, *(other for other in self._others if other != answer)][:ANSWERS]
        while len(answers) > 1 and len(json.dumps(answers)) > SIZE:
            answers.pop()
        if new or answers != self._others:  # else it is what is stored, perhaps where nothing can be written
            self._caches.remember(self._key(), {"answers": answers}, offered=new)
