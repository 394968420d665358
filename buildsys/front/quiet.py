"""No progress at all, for who wants to hear of failures only."""

from __future__ import annotations

from collections.abc import Mapping

from buildsys.front.lines import complain
from buildsys.front.progress import Stage


class Quiet:
    """The view of who wants to hear of failures only. A step that is ignored is told, too: the image may be old."""

    def begins(self, name: str, stage: bool) -> None:
        """Nothing."""

    def ends(self, name: str) -> None:
        """Nothing."""

    def up_to_date(self, name: str, stage: bool) -> None:
        """Nothing."""

    def stage(self, stage: Stage) -> None:
        """Nothing."""

    def task(self, name: str, seconds: float) -> None:
        """Nothing."""

    def ignored(self, name: str, text: str) -> None:
        """On stderr."""
        complain(f"{name}: {text}")

    def failed(self, name: str, message: str, exit_status: int | None) -> None:
        """The message, if it has one."""
        if message:
            complain(message)

    def complain(self, message: str) -> None:
        """On stderr."""
        complain(message)

    def done(self, ok: bool, seconds: float, counts: Mapping[str, int], text: str) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""
