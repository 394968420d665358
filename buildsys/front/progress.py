"""What there is to say of a build: its stages, where each came from, and the totals. How it is said is a view's.

Loaded once a stage has something to do: a build with nothing to do is told without it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from buildsys.front.reporter import BUILT, REMOTE, RESTORED, UP_TO_DATE

ORIGINS = (BUILT, RESTORED, REMOTE, UP_TO_DATE)
FROM_CACHE = {RESTORED: "restored from the local cache", REMOTE: "fetched from the shared cache"}


class Stage(NamedTuple):
    """A stage that is over. `says` is what it did if it was built; `because`, `remark` and `said` may be empty."""

    name: str
    says: str
    origin: str
    seconds: float
    because: str = ""
    remark: str = ""
    said: str = ""

    @property
    def text(self) -> str:
        """What was done, in words."""
        return FROM_CACHE.get(self.origin, self.says)

    @property
    def cached(self) -> bool:
        """Whether it came from a cache, local or shared."""
        return self.origin in FROM_CACHE


class View(Protocol):
    """Shows progress. `begins` comes from any thread, everything else from one."""

    def begins(self, name: str, stage: bool) -> None:
        """A task begins to act."""

    def ends(self, name: str) -> None:
        """It no longer acts."""

    def up_to_date(self, name: str, stage: bool) -> None:
        """A task had nothing to do."""

    def stage(self, stage: Stage) -> None:
        """A stage had something to do, and did it."""

    def task(self, name: str, seconds: float) -> None:
        """A task that is no stage is over, and well."""

    def ignored(self, name: str, text: str) -> None:
        """A task was passed over because the user said so."""

    def failed(self, name: str, message: str, exit_status: int | None) -> None:
        """A task failed. `message` is empty if it has said so itself; `exit_status` is its own, if it has one."""

    def complain(self, message: str) -> None:
        """Something else went wrong."""

    def done(self, ok: bool, seconds: float, counts: Mapping[str, int], text: str) -> None:
        """Everything is over. `counts` are stages by origin; `text` is the last line, if there is any."""

    def close(self) -> None:
        """Leave the terminal as it was. Comes last, also after an exception; may come twice."""


def shares(counts: Mapping[str, int]) -> str:
    """How many stages did not have to be built, in words; empty if every one had to."""
    stages = sum(counts.values())
    local, shared, there = (counts.get(origin, 0) for origin in (RESTORED, REMOTE, UP_TO_DATE))
    cached = local + shared
    if not cached:
        return f"{there} of {stages} steps up to date" if there else ""
    cache = "the cache" if local else "the shared cache"
    of_them = f", {shared} of them shared" if local and shared else ""
    return f"{cached} of {stages} steps from {cache}{of_them}" + (f", {there} up to date" if there else "")


def hit_rate(counts: Mapping[str, int]) -> float | None:
    """Of the stages that were not up to date, the part that came from a cache; None if there was none."""
    cached = counts.get(RESTORED, 0) + counts.get(REMOTE, 0)
    asked = cached + counts.get(BUILT, 0)
    return cached / asked if asked else None
