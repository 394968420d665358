"""Progress as lines of text: one for each stage that had something to do, one at the end. Failures go to stderr.

On a terminal the stage that runs has a line, too, with its time so far (`live`);
what remains on the screen is what would be in a file.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, TextIO

from buildsys.front.command import hang_up

if TYPE_CHECKING:
    from collections.abc import Mapping

    from buildsys.front.live import Live
    from buildsys.front.progress import Stage

GREEN, RED, PLAIN = "\x1b[32m", "\x1b[1;31m", "\x1b[0m"
# Columns: a name, what was done, and its time with a space before it.
NAME, TEXT, TIME = 9, 58, 9


class Lines:
    """The view a user has; `several` tasks may run at once. Not `live`, it is the same on a terminal as in a file."""

    def __init__(self, out: TextIO, several: bool = False, live: bool = True) -> None:
        self._out = out
        self._terminal = live and is_terminal(out)
        self._colour = self._terminal and not os.environ.get("NO_COLOR")
        self._live: Live | None = None
        if several and self._terminal:
            self._watch()  # now: it minds sys.stdout, which doit changes in every thread

    def begins(self, name: str, stage: bool) -> None:
        """Show that it runs, on a terminal. Nothing is loaded for that unless a stage has something to do."""
        if self._terminal and (stage or self._live):
            self._watch().begins(name, stage)

    def _watch(self) -> Live:
        if self._live is None:
            from buildsys.front.live import Live

            self._live = Live(self._out, self._colour)
        return self._live

    def ends(self, name: str) -> None:
        """It no longer runs."""
        if self._live:
            self._live.ends(name)

    def up_to_date(self, name: str, stage: bool) -> None:
        """Nothing: the closing line tells how many there were."""

    def stage(self, stage: Stage) -> None:
        """A line, and below it what else there is to say."""
        self._write(self._line(stage))
        for remark in stage.remark.splitlines():
            self._write(f"{'':{NAME}} {remark}")
        if stage.said:
            self.complain(stage.said)  # the tool's own words, such as gcflags asked for

    def _line(self, stage: Stage) -> str:
        width = self._width()
        name, text = f"{stage.name:{NAME}}", stage.text
        room = len(text) if width is None else max(width - len(name) - 1 - TIME, 1)
        if len(text) > room:
            text = text[: room - 1] + "…"
        space = " " * (min(TEXT, room if width else TEXT) - len(text))
        if self._colour and stage.cached:
            text = f"{GREEN}{text}{PLAIN}"
        return f"{name} {text}{space} {stage.seconds:6.2f} s"

    def _width(self) -> int | None:
        """Columns a line may have on the terminal, as wide as it is now; None if that does not matter."""
        if not self._terminal:
            return None
        from buildsys.front.live import columns

        return columns(self._out)

    def task(self, name: str, seconds: float) -> None:
        """It has said for itself what there was to say."""

    def ignored(self, name: str, text: str) -> None:
        """A line like a stage's."""
        self._write(f"{name:{NAME}} {text}")

    def failed(self, name: str, message: str, exit_status: int | None) -> None:
        """The message, if it has one."""
        if message:
            self.complain(message)

    def complain(self, message: str) -> None:
        """On stderr, after all that was said before."""
        with suppress(BrokenPipeError):
            self._out.flush()
        complain(message)

    def done(self, ok: bool, seconds: float, counts: Mapping[str, int], text: str) -> None:
        """The closing line."""
        if text:
            self._write(text)

    def close(self) -> None:
        """Take the line of what runs away."""
        if self._live:
            self._live.close()

    def _write(self, line: str) -> None:
        try:
            (self._live or self._out).write(line + "\n")
            self._out.flush()
        except BrokenPipeError:
            hang_up()  # and finish the build, though nobody listens


def complain(message: str) -> None:
    """Write `message` to stderr; `error:` in red if that is a terminal that has colours."""
    if message.startswith("error:") and is_terminal(sys.stderr) and not os.environ.get("NO_COLOR"):
        message = f"{RED}error:{PLAIN}{message.removeprefix('error:')}"
    with suppress(BrokenPipeError):
        sys.stderr.write(message.rstrip() + "\n")


def is_terminal(stream: TextIO) -> bool:
    """Whether `stream` is a terminal on which a line can be taken back."""
    return os.environ.get("TERM", "dumb") not in ("", "dumb", "unknown") and stream.isatty()
