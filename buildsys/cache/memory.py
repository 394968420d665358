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
        self._others: list[Mapping[str, Any]] = []

    def recall(self) -> Iterator[Mapping[str, Any]]:
        """The answers, the likeliest first; those far away are fetched only if asked for."""
        with suppress(OSError, ValueError, RecursionError):
            found = json.loads(self._path.read_bytes())
            if isinstance(found, dict):
                yield found
        if self._caches is None:
            return
        for result in self._caches.every(self._key()):
            answers = result.facts.get("answers")
            for answer in answers if isinstance(answers, list) else ():
                if isinstance(answer, dict):
                    self._others += [answer] if answer not in self._others else []
                    yield answer

    def keep(self, answer: Mapping[str, Any]) -> None:
        """Keep `answer` as the likeliest. Raises OSError if the build folder cannot be written."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        replace(self._path, json.dumps(answer).encode())
        if self._caches is None:
            return
        answers = [answer, *(other for other in self._others if other != answer)][:ANSWERS]
        while len(answers) > 1 and len(json.dumps(answers)) > SIZE:
            answers.pop()
        self._caches.remember(self._key(), {"answers": answers})
