"""Writing files so that a reader sees the old contents or the new, never a part."""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from io import FileIO
from pathlib import Path

from buildsys.signals import undisturbed

LARGE = 1 << 20  # bytes
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # linux/fcntl.h, linux/fs.h


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
    except BaseException:
        # LLVM's tools write to a name of their own first, and leave that behind if they cannot go on.
        for left in beside.parent.glob(f"{beside.name}.tmp*"):
            left.unlink(missing_ok=True)
        raise
    finally:
        beside.unlink(missing_ok=True)


def put(beside: Path, path: Path) -> None:
    """Rename `beside` to `path`, which a reader finds at all times. Raises OSError.

    To rename over a file has ext4 write out the new one first (auto_da_alloc, ext4(5)), which for a
    large one takes longer than to make it. To exchange the two and remove the old one does not. What a loss of
    power then leaves is for the reader to check: records hold sha256 (buildsys.cache.fingerprint).
    """
    if _large(path) and _large(beside) and _exchange(beside, path):
        with suppress(OSError):
            beside.unlink()
    else:
        beside.replace(path)


def _large(path: Path) -> bool:
    try:
        return path.stat().st_size >= LARGE
    except OSError:
        return False


def prepare() -> None:
    """Load what `put` needs, while there is time for it."""
    _renameat2()


def _exchange(first: Path, second: Path) -> bool:
    """Have two files change names, at once; False if this system or file system cannot (renameat2(2))."""
    renameat2 = _renameat2()
    return renameat2 is not None and renameat2(_AT_FDCWD, bytes(first), _AT_FDCWD, bytes(second), _RENAME_EXCHANGE) == 0


@cache
def _renameat2() -> Callable[[int, bytes, int, bytes, int], int] | None:
    try:
        from ctypes import CDLL

        found: Callable[[int, bytes, int, bytes, int], int] = CDLL(None).renameat2
    except (ImportError, OSError, AttributeError):
        return None
    return found


def replace(path: Path, *pieces: bytes | memoryview) -> None:
    """Write `pieces` beside `path` and rename the file into place. Raises OSError; nothing is left behind."""
    with partial(path) as beside:
        with beside.open("wb", buffering=0) as file:
            for piece in pieces:
                _write(file, piece)
        put(beside, path)


def renew(path: Path, contents: bytes) -> None:
    """Write `contents` as `replace` does, unless `path` has them already. Raises OSError."""
    with suppress(OSError), opened(path) as file:
        if file.read(len(contents) + 1) == contents:
            return
    replace(path, contents)


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
            import shutil  # which takes long to load, and is seldom needed

            shutil.copy2(source, beside)
        put(beside, path)


Change = tuple[int, bytes | memoryview]  # from which byte of a file on, what is there instead


@contextmanager
def revising(
    path: Path,
    mode: int,
    contents: bytes | memoryview,
    written: Callable[[Path], object] = lambda beside: None,
    meanwhile: Callable[[], object] = lambda: None,
) -> Iterator[Callable[[Iterable[Change]], object]]:
    """Write `contents` beside `path` while the body runs, and rename when the body ends, unless it raises.

    The body may call what it is given with changes, once; these, and what makes them if that is an iterator, are
    seen to while it goes on. They may make the file longer.
    `meanwhile` is called, in another thread, when all but the changes is written; `written`, in the same, once the file
    is whole, with its name of the moment.
    """
    from queue import SimpleQueue

    # Made here, not in the thread: that could be left alone by an interruption, and make it when it was taken away.
    with partial(path) as beside, beside.open("wb", buffering=0) as file:
        failure: list[BaseException] = []
        changes: SimpleQueue[Iterable[Change] | None] = SimpleQueue()

        def write() -> None:
            try:
                _write(file, contents)
                meanwhile()
                for start, piece in changes.get() or ():
                    file.seek(start)
                    _write(file, piece)
                beside.chmod(mode)
                written(beside)
            except BaseException as error:  # whatever it is, the file is not whole
                failure.append(error)

        # A daemon: an interruption just before the changes are told to be over leaves it waiting for them.
        writer = threading.Thread(target=write, daemon=True)
        try:
            with undisturbed():
                writer.start()
            yield changes.put
        finally:
            with undisturbed():
                changes.put(None)
                if writer.is_alive():  # else it was not begun, or is done
                    writer.join()
        if failure:
            raise failure[0]
        put(beside, path)


def _write(file: FileIO, piece: bytes | memoryview) -> None:
    left = memoryview(piece)
    while left:
        left = left[file.write(left) :]
