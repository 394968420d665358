r"""The line of a terminal that tells what runs now, and for how long.

It is only ever the last line, and is taken away before anything else is written:
the reporter's lines, and what others write to sys.stdout and sys.stderr, which
are minded as long as this is there. Where a tool has the terminal to itself
(a debugger, a linter) no line is shown.

Source of the sequences: ECMA-48, SGR (8.3.117) and EL (8.3.41), which ends a line at the cursor.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from contextlib import suppress
from typing import Any, TextIO

BEAT = 0.1  # seconds between two pictures; what takes less is not shown
START, ERASE = "\r", "\r\x1b[K"
END_OF_LINE, DIM, PLAIN = "\x1b[K", "\x1b[2m", "\x1b[0m"
UNKNOWN_WIDTH = 80  # columns, for a terminal that does not tell


class Live:
    """The line on `screen`, from the first task that begins to `close`. Every method may be called from any thread.

    Invariant: whatever is on the cursor's line when `_shown` is true is ours, and whole.
    """

    def __init__(self, screen: TextIO, colour: bool) -> None:
        self._screen, self._colour = screen, colour
        # A plain lock, not a condition: Ctrl-C can come between any two calls, and `with` frees only such a one surely.
        self._lock = threading.Lock()
        self._stages: dict[str, float] = {}  # what runs, by the time it began
        self._others: set[str] = set()
        self._shown = self._beating = self._closed = False
        self._line_open = False  # somebody else wrote a part of a line
        self._minded = [
            (name, stream, Minded(stream, self))
            for name, stream in (("stdout", sys.stdout), ("stderr", sys.stderr))
            if stream and stream.isatty()
        ]
        for name, _, minded in self._minded:
            setattr(sys, name, minded)

    def begins(self, name: str, stage: bool) -> None:
        """`name` runs from now on; unless it is a stage, it may write to the terminal as it likes."""
        with self._lock:
            if stage:
                self._stages[name] = time.monotonic()
            else:
                self._others.add(name)
                self._erase()
            begin = stage and not self._beating and not self._closed
            self._beating |= begin
        if begin:
            threading.Thread(target=self._beat, daemon=True).start()

    def ends(self, name: str) -> None:
        """`name` no longer runs. Its line stays until something takes its place, or the next beat."""
        with self._lock:
            self._stages.pop(name, None)
            self._others.discard(name)

    def write(self, text: str, to: Any = None) -> None:
        """Write `text` to the screen, or another stream that leads there, with our line out of the way."""
        stream = to or self._screen
        with self._lock:
            self._erase()
            stream.write(text)
            if text:
                self._line_open = not text.endswith(("\n", "\r"))
            stream.flush()

    def close(self) -> None:
        """Take the line away, for good, and mind nothing any more."""
        with self._lock:
            self._closed = True
            with suppress(OSError):
                self._erase()
        for name, stream, minded in self._minded:
            if getattr(sys, name) is minded:
                setattr(sys, name, stream)

    def _beat(self) -> None:
        while True:
            time.sleep(BEAT)
            with self._lock:
                try:
                    if self._stages and not self._closed:
                        self._show()
                        continue
                    self._erase()
                except OSError:  # the terminal was closed, and we are about to hear of it
                    self._closed = True
                self._beating = False
                return

    def _show(self) -> None:
        name, began = next(iter(self._stages.items()))
        seconds = time.monotonic() - began
        if self._others or self._line_open or seconds < BEAT or not in_foreground(self._screen):
            return
        more = f", and {len(self._stages) - 1} more" if len(self._stages) > 1 else ""
        # Short, so that it stays one line when the terminal is made narrower.
        line = f"{name:9} … {seconds:.1f} s{more}"[: columns(self._screen)]
        if self._colour:
            line = f"{DIM}{line}{PLAIN}"
        self._shown = True
        self._screen.write(START + line + END_OF_LINE)
        self._screen.flush()

    def _erase(self) -> None:
        if self._shown:
            if in_foreground(self._screen):  # else somebody stopped us, and the shell has written over it
                self._screen.write(ERASE)
                self._screen.flush()
            self._shown = False


class Minded:
    """The stream `stream`, written to with the live line out of the way."""

    def __init__(self, stream: Any, live: Live) -> None:
        self._stream, self._live = stream, live

    def write(self, text: str) -> int:
        """Write `text`. Returns its length."""
        self._live.write(text, self._stream)
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        """Write all of `lines`."""
        self.write("".join(lines))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def columns(screen: TextIO) -> int:
    """Columns of the terminal `screen`, as it is now, less the last: a character there makes some begin a line."""
    with suppress(OSError, ValueError):
        if width := os.get_terminal_size(screen.fileno()).columns:
            return max(width - 1, 1)
    return UNKNOWN_WIDTH - 1


def in_foreground(screen: TextIO) -> bool:
    """Whether the terminal is ours now; in the background it is the shell's, with its prompt in the last line."""
    with suppress(OSError, ValueError):
        return os.tcgetpgrp(screen.fileno()) == os.getpgrp()
    return True  # it is no terminal of a session's, so no shell has it
