"""Standard input as the serial port's: what a descriptor gives, byte by byte, and Ctrl-D once where it ends."""

from __future__ import annotations

import contextlib
import os
import select
import threading
from collections import deque

END = 4  # Ctrl-D, as a terminal has it: the guest cannot see a descriptor end in another way
_CHUNK = 4096


def readable(descriptor: int) -> bool:
    """Whether a read gives something now, be it the end, and is ours to do.

    A terminal this process has in the background would stop it.
    """
    if not select.select([descriptor], [], [], 0)[0]:
        return False
    return not os.isatty(descriptor) or os.tcgetpgrp(descriptor) == os.getpgrp()


class Given:
    """What came of a descriptor so far, for a port that asks by itself."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor
        self._bytes: deque[int] = deque()

    def __bool__(self) -> bool:
        """Whether a byte is there."""
        if not self._bytes and self._descriptor is not None and readable(self._descriptor):
            data = os.read(self._descriptor, _CHUNK)
            self._bytes.extend(data or (END,))
            if not data:
                self._descriptor = None
        return bool(self._bytes)

    def take(self) -> int:
        """The next byte, which must be there."""
        return self._bytes.popleft()


class Feeder:
    """While entered, a thread copies `descriptor` to a pipe that another process reads: `reading` is its end of it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.reading, self._writing = os.pipe()
        self._stop, self._stopping = os.pipe()
        self._thread = threading.Thread(target=self._copy, name="standard input", daemon=True)

    def __enter__(self) -> Feeder:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Once the other process is gone: a write to the pipe then fails, and does not wait."""
        os.close(self.reading)
        os.close(self._stopping)
        self._thread.join()
        os.close(self._stop)
        os.close(self._writing)

    def _copy(self) -> None:
        with contextlib.suppress(BrokenPipeError, OSError):
            while self._stop not in select.select([self._descriptor, self._stop], [], [])[0]:
                if not readable(self._descriptor):
                    if select.select([self._stop], [], [], 1)[0]:  # not in the foreground now
                        return
                    continue
                data = os.read(self._descriptor, _CHUNK)
                os.write(self._writing, data or bytes((END,)))
                if not data:
                    return
