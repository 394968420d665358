"""Progress for programs: one JSON object a line, as things happen (`doit build -r json`).

Events are `start` of a stage, `stage`, `task` (one that is no stage), `ignored`, `failed` and, at the end,
`done`. What anybody else writes to standard output meanwhile, a guest for one, goes to stderr: every line is JSON.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, TextIO

from buildsys.front.lines import complain
from buildsys.front.progress import ORIGINS, Stage, hit_rate
from buildsys.front.reporter import UP_TO_DATE


class Events:
    """The view of a program that reads `out`. Errors are told to people, too, on stderr."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._lock = threading.Lock()

    def begins(self, name: str, stage: bool) -> None:
        """A stage is told of when it begins, that one may see what takes long."""
        if stage:
            self._tell("start", name=name)

    def ends(self, name: str) -> None:
        """How it ended comes with the next event."""

    def up_to_date(self, name: str, stage: bool) -> None:
        """Tell it as that of one that had something to do."""
        if stage:
            self.stage(Stage(name, "", UP_TO_DATE, 0))
        else:
            self._tell("task", name=name, origin=UP_TO_DATE, seconds=0)

    def stage(self, stage: Stage) -> None:
        """Tell where it came from, and why it had to be done."""
        self._tell(
            "stage",
            name=stage.name,
            origin=stage.origin,
            seconds=_rounded(stage.seconds),
            because=stage.because,
            remark=stage.remark,
            said=stage.said,
        )

    def task(self, name: str, seconds: float) -> None:
        """Tell that it is over."""
        self._tell("task", name=name, origin="done", seconds=_rounded(seconds))

    def ignored(self, name: str, text: str) -> None:
        """Tell its name."""
        self._tell("ignored", name=name)

    def failed(self, name: str, message: str, exit_status: int | None) -> None:
        """Tell why."""
        if message:
            complain(message)
        self._tell("failed", name=name, error=message.removeprefix("error: "), exit_status=exit_status)

    def complain(self, message: str) -> None:
        """A failure of no task."""
        self.failed("", message, None)

    def done(self, ok: bool, seconds: float, counts: Mapping[str, int], text: str) -> None:
        """The totals. `hit_rate` is null if nothing had to be done."""
        by_origin = {origin.replace(" ", "_"): counts.get(origin, 0) for origin in ORIGINS}
        rate = hit_rate(counts)
        self._tell(
            "done",
            ok=ok,
            seconds=_rounded(seconds),
            stages=sum(counts.values()),
            **by_origin,
            hit_rate=None if rate is None else round(rate, 3),
            text=text,
        )

    def close(self) -> None:
        """There is nothing to take back."""

    def _tell(self, event: str, **facts: Any) -> None:
        line = json.dumps({"event": event, **facts}, ensure_ascii=False) + "\n"
        with self._lock:
            try:
                self._out.write(line)
                self._out.flush()
            except BrokenPipeError:  # finish the build, though nobody listens
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, self._out.fileno())
                os.close(nowhere)


def _rounded(seconds: float) -> float:
    return round(seconds, 3)


@contextmanager
def alone_on_stdout() -> Iterator[TextIO]:
    """A stream to standard output that nobody else has: what they write there goes to stderr instead."""
    sys.stdout.flush()
    ours = os.dup(1)
    with suppress(OSError):  # stderr is closed: then they write to standard output after all
        os.dup2(2, 1)
    try:
        with open(ours, "w", encoding="utf-8", errors="replace", closefd=False) as stream:
            yield stream
    finally:
        with suppress(BrokenPipeError):
            sys.stdout.flush()
        os.dup2(ours, 1)
        os.close(ours)
