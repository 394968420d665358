"""One build at a time in a folder: another one waits, and then finds the work done."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


class Lock:
    """A lock on the file `path`, held by the process: by all its threads, however often, and gone with it."""

    def __init__(self, path: Path, waiting: Callable[[], object]) -> None:
        self.path, self._waiting = path, waiting
        self._mutex = threading.Lock()
        self._depth = 0
        self._file = -1

    @contextmanager
    def held(self) -> Iterator[bool]:
        """Hold the lock; gives whether another process had it first. Raises OSError if the file cannot be made.

        `waiting` is called before it is waited for.
        """
        with self._mutex:
            waited = self._depth == 0 and self._take()
            self._depth += 1
        try:
            yield waited
        finally:
            with self._mutex:
                self._depth -= 1
                if self._depth == 0:
                    self._release()

    def intact(self) -> bool:
        """Whether the file that is locked still is the one at the path; another process could hold a new one there."""
        try:
            return os.path.samestat(os.fstat(self._file), os.stat(self.path))
        except OSError:
            return False

    def _take(self) -> bool:
        waited = self._open_and_lock()
        if waited and not self.intact():  # whoever had it removed the folder
            self._release()
            self._take()
        return waited

    def _open_and_lock(self) -> bool:
        import fcntl

        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            try:
                self._waiting()
                fcntl.flock(self._file, fcntl.LOCK_EX)
            except BaseException:  # interrupted while it waited
                os.close(self._file)
                raise
            return True
        except OSError:
            return False  # a file system that knows no locks: as well as can be done there
        return False

    def _release(self) -> None:
        import fcntl

        # A process forked meanwhile has the file open, too: to close it would not be enough.
        with suppress(OSError):
            fcntl.flock(self._file, fcntl.LOCK_UN)
        os.close(self._file)


# A partial file, or what one of LLVM's tools writes before it is called that: who it belongs to.
_PARTIAL = re.compile(r".*\.([0-9]{1,9})\.partial(?:\.tmp[0-9a-f]+)?", re.DOTALL)


def sweep(*folders: Path) -> None:
    """Remove the partial files that processes which are no more left in `folders` (files.partial names them)."""
    for folder in folders:
        with suppress(OSError):
            for name in os.listdir(folder):
                found = _PARTIAL.fullmatch(name)
                if found and not _lives(int(found[1])):
                    with suppress(OSError):
                        (folder / name).unlink()


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # another user's
    return True
