"""Many packages at once, each in a process of its own; what they say is told package by package, in order."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from buildsys.gotest.results import EMPTY, FAILED, Result, result_from
from buildsys.gotest.worker import Asked, to_json
from buildsys.processes import dies_with_parent

PATIENCE = 3.0  # seconds that a worker which was told to end may take to end what it started


def run(
    asked: Sequence[Asked], jobs: int, say: Callable[[str], object], done: Callable[[Result], object]
) -> list[Result]:
    """The result of each package, `jobs` at a time.

    `say` gets what the tests of one say as it comes, and `done` its result, before anything of the next. Whatever
    ends us ends every worker, and whatever it started.
    """
    turns, workers = Turns(say, done), _Workers()
    pool = ThreadPoolExecutor(jobs)
    try:
        with TemporaryDirectory(prefix="buildsys-go-test-") as aside:
            places = [Path(aside, str(number)) for number in range(len(asked))]
            work = [
                pool.submit(workers.run, each, place, turns.of(number))
                for number, (each, place) in enumerate(zip(asked, places, strict=True))
            ]
            return [future.result() for future in work]
    except BaseException:
        workers.end()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


class Turns:
    """Puts what several say at once in order: the first that is not done speaks, the others are kept waiting."""

    def __init__(self, say: Callable[[str], object], done: Callable[[Result], object]) -> None:
        self._say, self._done = say, done
        self._lock = threading.Lock()
        self._next = 0
        self._kept: dict[int, list[str]] = {}
        self._results: dict[int, Result] = {}

    def of(self, number: int) -> Callable[[str | Result], None]:
        """What the one with this number, from 0, calls with what it says and, at last, its result."""
        return lambda said: self._take(number, said)

    def _take(self, number: int, said: str | Result) -> None:
        with self._lock:
            if isinstance(said, Result):
                self._results[number] = said
            elif number == self._next:
                self._say(said)
            else:
                self._kept.setdefault(number, []).append(said)
            while self._next in self._results:
                self._done(self._results[self._next])
                self._next += 1
                for text in self._kept.pop(self._next, ()):
                    self._say(text)


class _Workers:
    """The processes that run now; once ended, there are no others."""

    def __init__(self) -> None:
        self._running: set[subprocess.Popen[str]] = set()
        self._lock = threading.Lock()
        self._ended = False

    def run(self, asked: Asked, place: Path, tell: Callable[[str | Result], None]) -> Result:
        result = self._result(asked, place, tell)
        tell(result)
        return result

    def _result(self, asked: Asked, place: Path, tell: Callable[[str | Result], None]) -> Result:
        name = asked.package.name
        if not asked.package.tested:
            return Result(name, EMPTY)
        with self._lock:
            if self._ended:
                return Result(name, FAILED, ("interrupted",))
            # -P: the working folder may have a `buildsys` of its own.
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "buildsys.gotest.worker", to_json(asked), str(place)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                encoding="utf-8",
                errors="replace",
                start_new_session=True,
                preexec_fn=dies_with_parent(signal.SIGTERM),
            )
            self._running.add(process)
        assert process.stdout is not None
        last: list[str] = []
        try:
            with process.stdout:
                for line in process.stdout:
                    last = [*last[-20:], line]
                    tell(line)
            status = process.wait()
        finally:
            self._running.discard(process)
        if status == 0:
            return result_from(json.loads(place.read_bytes()))
        # A defect of ours, or the machine's: what it said last is all there is.
        said = "".join(last).strip().splitlines() or ["it said nothing"]
        return Result(name, FAILED, (f"its process ended with status {status}: {said[-1]}",))

    def end(self) -> None:
        """End all, and begin no more."""
        with self._lock:
            self._ended = True
            running = list(self._running)
        for process in running:
            process.terminate()
        for process in running:
            with suppress(subprocess.TimeoutExpired):
                process.wait(PATIENCE)
            process.kill()
