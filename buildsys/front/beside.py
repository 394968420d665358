"""Work in a process beside this one, which is a copy of it: a second core has something to do meanwhile.

What is worked out there only saves time: what of it does not arrive is done here, and fails here if it must.
"""

from __future__ import annotations

import os
import pickle
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from buildsys.processes import dies_with_parent
from buildsys.signals import ENDING

TIDYING = 1.0  # seconds the other process is given to end its tools and remove its files


@contextmanager
def beside(work: Callable[[], Iterable[Any]]) -> Iterator[Callable[[], list[Any]]]:
    """Begin `work` in a process of its own, which ends with the block.

    What is given waits for it, and returns what `work` gave as far as it came. This process must have one thread.
    """
    arrange = dies_with_parent(signal.SIGTERM)
    reading, writing = os.pipe()
    process = os.fork()
    if not process:
        _apart(arrange, work, writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as told:
        try:
            yield lambda: list(_told(told))
        finally:
            _end(process)


def _apart(arrange: Callable[[], None], work: Callable[[], Iterable[Any]], writing: int) -> None:
    try:
        for number in ENDING:
            signal.signal(number, _interrupt)
        arrange()
        with os.fdopen(writing, "wb") as telling:
            for each in work():
                pickle.dump(each, telling)
                telling.flush()
    finally:
        os._exit(0)  # without a word: whoever waits does what is missing, and meets the same


def _interrupt(number: int, frame: FrameType | None) -> None:
    for each in ENDING:
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt


def _told(told: Any) -> Iterator[Any]:
    with suppress(EOFError, pickle.UnpicklingError):
        while True:
            yield pickle.load(told)


def _end(process: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(process, signal.SIGINT)
    until = time.monotonic() + TIDYING
    while not os.waitpid(process, os.WNOHANG)[0]:
        if time.monotonic() > until:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            return
        time.sleep(0.005)
