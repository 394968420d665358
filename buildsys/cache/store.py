"""The local store: results by action key, contents by their sha256, in a folder of the user's.

    ac/3f/3f9a…   an ActionResult in JSON, and in a last line the sha256 of it
    cas/b1/b10c…  some contents

Every file is written under a name of its own and renamed, so several builds can
use a store at once, and a kill leaves at most a temporary file. Contents are
hashed again whenever they are taken out: what is not what its name says is
removed and is a miss. When the store grows past its limit, what was not used
for longest goes first.
"""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import NamedTuple

from buildsys.cache.result import Digest, Result
from buildsys.files import opened

RESULTS, CONTENTS, PARTS = "ac", "cas", "tmp"
# A temporary file older than this belongs to nobody who still writes it; seconds.
ABANDONED = 3600
# The share of the limit that is freed at once, so that the next build does not prune again.
SLACK = 10
# Bytes of a result; none is nearly as large.
LARGEST = 1 << 26
# Between two pieces another thread may take its turn, which can be long: few, for what is usual here.
_CHUNK = 8 << 20


class Usage(NamedTuple):
    """What a store holds: numbers of results and contents, bytes of both, when the oldest was used (Unix time)."""

    results: int
    contents: int
    size: int
    oldest: float


class Store:
    """The store in `folder`, to hold at most `limit` bytes or so. Nothing is made before something is kept."""

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder, self.limit = folder, limit
        # What was found wrong, in words, for whoever tells the user.
        self.troubles: list[str] = []

    def result(self, key: str) -> Result | None:
        """What is known of the action with `key`."""
        path = self._path(RESULTS, key)
        file = self._opened(path)
        if file is None:
            return None
        try:
            with file:
                found = Result.from_json(_unsealed(file.read(LARGEST)))
        except (OSError, ValueError):
            self._damaged(path)
            return None
        _used(path)
        return found

    def holds(self, digest: Digest) -> bool:
        """Whether there are contents under that name, of that size; not whether they are sound."""
        return self._fits(digest) is True

    def complete(self, result: Result) -> bool:
        """Whether it holds the contents of every output of `result`, one of its own; what is there but is not, goes."""
        fit = {output.digest: self._fits(output.digest) for output in result.outputs}
        for digest, fits in fit.items():
            if fits is False:
                self._damaged(self._path(CONTENTS, digest.hash))
        return all(fit.values())

    def take(self, digest: Digest, into: Path) -> bool:
        """Copy the contents to the file `into`, hashing them; False, and no file, if there are none or they are wrong.

        Raises OSError if `into` cannot be written.
        """
        path = self._path(CONTENTS, digest.hash)
        source = self._opened(path)
        if source is None:
            return False
        with source:
            found = _copy(source, into, digest.size)
        if found == digest:
            _used(path)
            return True
        into.unlink(missing_ok=True)
        self._damaged(path)
        return False

    def keep(self, digest: Digest, source: Path) -> bool:
        """Store the contents of the file `source`; False if they are not what `digest` says. Raises OSError."""
        if self.holds(digest):
            _used(self._path(CONTENTS, digest.hash))
            return True
        with self.part() as part:
            with opened(source) as file:
                found = _copy(file, part, digest.size)
            if found != digest:
                return False
            self.adopt(digest, part)
        return True

    def place(self, digest: Digest) -> Path:
        """Where contents of that name are, if they are."""
        return self._path(CONTENTS, digest.hash)

    def adopt(self, digest: Digest, part: Path) -> None:
        """Make the file `part` of this store, whose contents were seen to be those of `digest`, contents of it."""
        self._rename(part, self._path(CONTENTS, digest.hash))

    def keep_result(self, key: str, result: Result) -> None:
        """Store what the action with `key` made, after its contents. Raises OSError."""
        with self.part() as part:
            part.write_bytes(_sealed(result.to_json()))
            self._rename(part, self._path(RESULTS, key))

    @contextmanager
    def part(self) -> Iterator[Path]:
        """A name to write to, of this thread alone; nothing is left of it unless it was adopted. Raises OSError."""
        folder = self.folder / PARTS
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{os.getpid()}.{threading.get_native_id()}.{time.monotonic_ns()}"
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    def usage(self) -> Usage:
        """What is in it now."""
        found = list(self._files())
        return Usage(
            sum(path.parent.parent.name == RESULTS for path, _ in found),
            sum(path.parent.parent.name == CONTENTS for path, _ in found),
            sum(status.st_size for _, status in found),
            min((status.st_mtime for _, status in found), default=0.0),
        )

    def prune(self, limit: int) -> tuple[int, int]:
        """Remove what was not used for longest until at most `limit` bytes are left: (files, bytes) removed."""
        self._sweep()
        found = sorted(self._files(), key=lambda each: each[1].st_mtime)
        size = sum(status.st_size for _, status in found)
        count = freed = 0
        for path, status in found:
            if size - freed <= limit:
                break
            if _drop(path):
                count, freed = count + 1, freed + status.st_size
        return count, freed

    def bound(self, added: int) -> None:
        """Note that `added` bytes came, and prune if that may have taken the store past its limit. Raises OSError."""
        ledger = self.folder / "grown"
        # Builds that run side by side append; a line lost or doubled only moves the moment of pruning.
        with ledger.open("a+", encoding="ascii", errors="replace") as file:
            file.write(f"{added}\n")
            file.seek(0)  # not by its name: another build may remove it
            lines = file.read().split()
        grown = sum(int(line) for line in lines if line.isdigit() and len(line) < 20)
        if grown > self.limit // SLACK:
            ledger.unlink(missing_ok=True)
            self._sweep()
            if sum(status.st_size for _, status in self._files()) > self.limit:
                self.prune(self.limit - self.limit // SLACK)

    def _files(self) -> Iterator[tuple[Path, os.stat_result]]:
        for kind in (RESULTS, CONTENTS):
            for path in (self.folder / kind).glob("??/*"):
                with suppress(OSError):  # another build pruned it
                    yield path, path.lstat()

    def _sweep(self) -> None:
        """Remove what killed processes left."""
        for part in (self.folder / PARTS).glob("*"):
            with suppress(OSError):
                if time.time() - part.lstat().st_mtime > ABANDONED:
                    part.unlink()

    def _fits(self, digest: Digest) -> bool | None:
        """Whether what is under the name of `digest` is a file of that size; None if nothing is there."""
        try:
            status = self._path(CONTENTS, digest.hash).stat()
        except OSError:
            return None
        return stat.S_ISREG(status.st_mode) and status.st_size == digest.size

    def _opened(self, path: Path) -> FileIO | None:
        """The file `path`, to read; None if there is none. What is there and is no file is dropped."""
        try:
            return opened(path)
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            return None
        except OSError:
            if os.path.lexists(path):  # and it is not the store that cannot be reached
                self._damaged(path)
            return None

    def _damaged(self, path: Path) -> None:
        # Another build may have stored it anew.
        done = "was dropped" if _drop(path) or not os.path.lexists(path) else "cannot be removed"
        self.troubles.append(f"{path}: is not what was stored, and {done}")

    def _path(self, kind: str, name: str) -> Path:
        return self.folder / kind / name[:2] / name

    def _rename(self, part: Path, path: Path) -> None:
        try:
            part.replace(path)
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
            part.replace(path)


def _sealed(data: bytes) -> bytes:
    """`data` with a line that tells whether it still is what was written."""
    from hashlib import sha256

    return b"%b\n%b" % (data, sha256(data).hexdigest().encode())


def _unsealed(data: bytes) -> bytes:
    """What was sealed. Raises ValueError if it is not that any more."""
    sealed = data.rpartition(b"\n")[0]
    if _sealed(sealed) != data:
        raise ValueError("it was changed, or was not written to its end")
    return sealed


def _copy(source: FileIO, into: Path, expected: int) -> Digest:
    """Copy what `source` gives to the file `into`, and little beyond `expected` bytes; the digest of what was written.

    Raises OSError if `into` cannot be written.
    """
    from hashlib import sha256

    digest, size = sha256(), 0
    with into.open("wb", buffering=0) as file:
        while size <= expected and (chunk := _read(source)):
            digest.update(chunk)
            size += len(chunk)
            written = memoryview(chunk)
            while written:
                written = written[file.write(written) :]
    return Digest(digest.hexdigest(), size)


def _read(source: FileIO) -> bytes:
    """The next bytes; none where the disk fails: what was read until there has another digest."""
    try:
        return source.read(_CHUNK)
    except OSError:
        return b""


def _used(path: Path) -> None:
    with suppress(OSError):  # of a store that can only be read, nothing is pruned either
        os.utime(path)


def _drop(path: Path) -> bool:
    try:
        path.unlink()
    except IsADirectoryError:
        with suppress(OSError):  # not of our making, and somebody's who put something into it
            path.rmdir()
        return False
    except OSError:
        return False
    return True
