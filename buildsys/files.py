"""Writing files so that a reader sees the old contents or the new, never a part."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path


def opened(path: Path | str) -> FileIO:
    """The regular file `path`, to read. Raises OSError for others: a FIFO keeps one waiting, a device never ends."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "Not a regular file", str(path))
    return FileIO(descriptor)


@contextmanager
def partial(path: Path) -> Iterator[Path]:
    """A name beside `path`, this thread's own, to write to and then rename to `path`; nothing is left of it."""
    beside = path.with_name(f"{path.name}.{threading.get_native_id()}.{os.getpid()}.partial")
    # A killed process may have had our number: what it left may be another name of a file in use.
    beside.unlink(missing_ok=True)
    try:
        yield beside
    finally:
        beside.unlink(missing_ok=True)


def replace(path: Path, *pieces: bytes | memoryview) -> None:
    """Write `pieces` beside `path` and rename the file into place. Raises OSError; nothing is left behind."""
    with partial(path) as beside:
        _write(beside, pieces)
        beside.replace(path)


def share(source: Path, path: Path) -> None:
    """Make `path` have the contents of `source`, as another name of the same file where that can be.

    For files that are replaced when they change, and never written to. Raises OSError.
    """
    with suppress(OSError):
        if path.samefile(source):
            return
    with partial(path) as beside:
        try:
            beside.hardlink_to(source)
        except OSError:
            shutil.copy2(source, beside)
        beside.replace(path)


@contextmanager
def replacing(path: Path, mode: int, *pieces: bytes | memoryview) -> Iterator[None]:
    """As `replace`, with the writing done while the body runs; renamed when the body ends, unless it raises."""
    with partial(path) as beside:
        failure: list[BaseException] = []

        def write() -> None:
            try:
                _write(beside, pieces)
                beside.chmod(mode)
            except BaseException as error:  # whatever it is, the file is not whole
                failure.append(error)

        writer = threading.Thread(target=write)
        writer.start()
        try:
            yield
        finally:
            writer.join()
        if failure:
            raise failure[0]
        beside.replace(path)


def _write(path: Path, pieces: Iterable[bytes | memoryview]) -> None:
    with path.open("wb", buffering=0) as file:
        for piece in pieces:
            written = memoryview(piece)
            while written:
                written = written[file.write(written) :]
