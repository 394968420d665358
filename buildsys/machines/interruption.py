"""Ctrl-C, noticed where it is waited for rather than thrown into the middle of something.

Inside an emulator's callback an exception would be lost, and between starting a
process and remembering it a process would be: so nothing is thrown.
"""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

from buildsys.signals import ENDING


class Interruption:
    """While entered, SIGINT sets `seen` and makes `fd` readable, and raises nothing.

    Only the main thread may change what a signal does; in any other, and where SIGINT
    is ignored already (a job in the background), `seen` stays False.
    """

    def __init__(self) -> None:
        self.seen = False
        self._before: Any = None

    def __enter__(self) -> Interruption:
        self.fd, self._pipe = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._watching = (
            threading.current_thread() is threading.main_thread()
            and signal.getsignal(signal.SIGINT) is not signal.SIG_IGN
        )
        if self._watching:
            # The byte is written by the C part of the handler, so `fd` tells at once,
            # even while the main thread is inside a library and runs no Python.
            self._wakeup = signal.set_wakeup_fd(self._pipe, warn_on_full_buffer=False)
            self._before = signal.signal(signal.SIGINT, self._notice)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._watching:
            signal.signal(signal.SIGINT, self._before if self._before is not None else signal.SIG_DFL)
            signal.set_wakeup_fd(self._wakeup)
        os.close(self.fd)
        os.close(self._pipe)

    def wake(self) -> None:
        """Make `fd` readable, as a signal does."""
        os.write(self._pipe, b"\0")

    def drain(self) -> bool:
        """Make `fd` quiet again; tells whether one of the signals that made it readable asks for an end."""
        seen = b""
        try:
            while read := os.read(self.fd, 64):
                seen += read
        except BlockingIOError:
            pass
        return any(number in seen for number in ENDING)  # each is a byte: signal.set_wakeup_fd

    def _notice(self, number: int, frame: FrameType | None) -> None:
        self.seen = True
