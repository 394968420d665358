"""Many rows at once: each in a process of its own, as many side by side as there are processors."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from pathlib import Path

from buildsys.matrix.results import FAILED, Line, line_from, nothing
from buildsys.matrix.rows import Row
from buildsys.processes import dies_with_parent

PATIENCE = 3.0  # seconds that a row which was told to end may take to end what it started


def processors() -> int:
    """How many processors we may use."""
    return len(os.sched_getaffinity(0))


def folder_of(build: Path, row: Row) -> Path:
    """Where a row is built, beneath the project's own build folder."""
    plain = "".join(letter if letter.isalnum() or letter in ".-" else "_" for letter in row.go)
    return build / "matrix" / f"go-{plain}-{row.toolchain}"


def run(
    root: Path,
    kernel: str,
    build: Path,
    rows: Iterable[Row],
    emulators: Sequence[str],
    jobs: int,
    finished: Callable[[Line], object],
) -> dict[Row, Line]:
    """Judge `rows` of `kernel` of the project at `root`, `jobs` at a time; `finished` is called as each is done.

    Whatever ends us ends every row, and whatever it started.
    """
    processes = _Processes()
    found: dict[Row, Line] = {}
    pool = ThreadPoolExecutor(jobs)
    try:
        work = {pool.submit(_row, processes, root, kernel, folder_of(build, row), row, emulators): row for row in rows}
        for future in as_completed(work):
            line = future.result()
            found[work[future]] = line
            finished(line)
    except BaseException:
        processes.end()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
    return found


class _Processes:
    """The processes that run now; once ended, there are no others."""

    def __init__(self) -> None:
        self._running: set[subprocess.Popen[str]] = set()
        self._told: set[str] = set()
        self._lock = threading.Lock()
        self.ended = False

    def run(self, command: Sequence[str]) -> tuple[int, str, str]:
        """(exit status, output, errors) of `command`."""
        with self._lock:
            if self.ended:
                return 1, "", "interrupted"
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                start_new_session=True,
                preexec_fn=dies_with_parent(signal.SIGTERM),
            )
            self._running.add(process)
        try:
            out, err = process.communicate()
        finally:
            self._running.discard(process)
        return process.returncode, out, err

    def tell(self, said: str) -> None:
        """Print what a row said, once: what befalls one befalls many."""
        with self._lock:
            if said not in self._told:
                self._told.add(said)
                print(said, file=sys.stderr)

    def end(self) -> None:
        with self._lock:
            self.ended = True
            running = list(self._running)
        for process in running:
            process.terminate()
        for process in running:
            with suppress(subprocess.TimeoutExpired):
                process.wait(PATIENCE)
            process.kill()


def _row(processes: _Processes, root: Path, kernel: str, folder: Path, row: Row, emulators: Sequence[str]) -> Line:
    places = {"root": str(root.absolute()), "folder": str(folder.absolute())}
    asked = {**places, "kernel": kernel, **row._asdict(), "emulators": emulators}
    # -P: the working folder may have a `buildsys` of its own.
    status, out, err = processes.run([sys.executable, "-P", "-m", "buildsys.matrix.row", json.dumps(asked)])
    try:
        if status == 0:
            if err.strip():
                processes.tell(err.rstrip())
            return line_from(json.loads(out))
    except (ValueError, KeyError, TypeError):
        err = err or out
    # A defect of ours, or the machine's: a process that was killed says nothing.
    said = err.strip() or f"the process of Go {row.go} with {row.toolchain} ended with status {status} and said nothing"
    if not processes.ended:
        processes.tell(said)
    return nothing(row, emulators, FAILED, said.splitlines()[-1:])
