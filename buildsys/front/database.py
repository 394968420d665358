"""doit's database, for tasks whose state is kept elsewhere (buildsys.cache): almost nothing.

What was built is recorded step by step while building, so there is nothing to
write at the end, nothing to lock, and nothing that a kill forgets. `doit
forget` and `doit ignore` work on the same folder.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from doit.exceptions import InvalidCommand

from buildsys.cache.action import Records

FOLDER = Path("build/.done")


class Database:
    """The interface doit.dependency expects of a backend."""

    desc = "what was built is kept in build/.done"

    def __init__(self, name: str, codec: Any, *, module_name: str | None = None) -> None:
        self.name = name
        self._values: dict[tuple[str, str], Any] = {}

    def dump(self) -> None:
        """Nothing is left to write."""

    def set(self, task_id: str, dependency: str, value: Any) -> None:
        """Keep a value for this run; that a task is to be ignored, for all."""
        self._values[task_id, dependency] = value
        if dependency == "ignore:":
            with _refusals():
                self._ignored(task_id).parent.mkdir(parents=True, exist_ok=True)
                self._ignored(task_id).touch()

    def get(self, task_id: str, dependency: str) -> Any:
        """A value kept in this run, or whether the task is to be ignored."""
        if dependency == "ignore:":
            return "1" if self._ignored(task_id).exists() else None
        return self._values.get((task_id, dependency))

    def in_(self, task_id: str) -> bool:
        """Whether something is recorded of the task."""
        return Records(FOLDER).path(task_id).exists() or self._ignored(task_id).exists()

    def remove(self, task_id: str) -> None:
        """Make the task run next time. Raises InvalidCommand if the disk refuses."""
        with _refusals():
            Records(FOLDER).forget(task_id)
            self._ignored(task_id).unlink(missing_ok=True)

    def remove_all(self) -> None:
        """Make every task run next time. Raises InvalidCommand if the disk refuses."""
        with _refusals():
            for path in FOLDER.glob("*.*"):  # not the lock: another build may hold it
                path.unlink(missing_ok=True)

    def _ignored(self, task_id: str) -> Path:
        return FOLDER / f"{task_id}.ignored"


@contextmanager
def _refusals() -> Iterator[None]:
    """A file that cannot be written or removed, told in the one way doit's commands show without a traceback."""
    try:
        yield
    except OSError as error:
        raise InvalidCommand(f"{error.filename}: {error.strerror}") from error
