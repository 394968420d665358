"""The local store: results by action key, contents by their sha256, in a folder of the user's.

    ac/3f/3f9a…   an ActionResult in JSON
    cas/b1/b10c…  some contents

Every file is written under a name of its own and renamed, so several builds can
use a store at once, and a kill leaves at most a temporary file. Contents are
hashed again whenever they are taken out: what is not what its name says is
removed and is a miss. When the store grows past its limit, what was not used
for longest goes first.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from buildsys.cache.result import Digest, Result

RESULTS, CONTENTS, PARTS = "ac", "cas", "tmp"
# A temporary file older than this belongs to nobody who still writes it; seconds.
ABANDONED = 3600
# The share of the limit that is freed at once, so that the next build does not prune again.
SLACK = 10
_CHUNK = 1 << 20


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
        try:
            data = path.read_bytes()
        except OSError:
            return None
        try:
            found = Result.from_json(data)
        except ValueError:
            self._damaged(path)
            return None
        _used(path)
        return found

    def holds(self, digest: Digest) -> bool:
        """Whether there are contents under that name, of that size; not whether they are sound."""
        path = self._path(CONTENTS, digest.hash)
        try:
            size = path.stat().st_size
        except OSError:
            return False
        if size != digest.size:
            self._damaged(path)
        return size == digest.size

    def take(self, digest: Digest, into: Path) -> bool:
        """Copy the contents to the file `into`, hashing them; False, and no file, if there are none or they are wrong.

        Raises OSError if `into` cannot be written.
        """
        path = self._path(CONTENTS, digest.hash)
        try:
            source = path.open("rb", buffering=0)
        except OSError:
            return False
        with source:
            found = _copy(source.fileno(), into)
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
            with source.open("rb", buffering=0) as file:
                found = _copy(file.fileno(), part)
            if found != digest:
                return False
            self.adopt(digest, part)
        return True

    def adopt(self, digest: Digest, part: Path) -> None:
        """Make the file `part` of this store, whose contents were seen to be those of `digest`, contents of it."""
        self._rename(part, self._path(CONTENTS, digest.hash))

    def keep_result(self, key: str, result: Result) -> None:
        """Store what the action with `key` made, after its contents. Raises OSError."""
        with self.part() as part:
            part.write_bytes(result.to_json())
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
        for part in (self.folder / PARTS).glob("*"):
            with suppress(OSError):
                if time.time() - part.stat().st_mtime > ABANDONED:
                    part.unlink()
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
        with ledger.open("a", encoding="ascii") as file:
            file.write(f"{added}\n")
        grown = sum(int(line) for line in ledger.read_text("ascii", "replace").split() if line.isdigit())
        if grown > self.limit // SLACK:
            ledger.unlink(missing_ok=True)
            if sum(status.st_size for _, status in self._files()) > self.limit:
                self.prune(self.limit - self.limit // SLACK)

    def _files(self) -> Iterator[tuple[Path, os.stat_result]]:
        for kind in (RESULTS, CONTENTS):
            for path in (self.folder / kind).glob("??/*"):
                with suppress(OSError):  # another build pruned it
                    yield path, path.stat()

    def _damaged(self, path: Path) -> None:
        self.troubles.append(f"{path}: is not what was stored, and was dropped")
        _drop(path)

    def _path(self, kind: str, name: str) -> Path:
        return self.folder / kind / name[:2] / name

    def _rename(self, part: Path, path: Path) -> None:
        try:
            part.replace(path)
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
            part.replace(path)


def _copy(source: int, into: Path) -> Digest:
    """Copy what the file descriptor `source` gives to the file `into`; returns the digest of what was written."""
    from hashlib import sha256

    digest, size = sha256(), 0
    with into.open("wb", buffering=0) as file:
        while chunk := os.read(source, _CHUNK):
            digest.update(chunk)
            size += len(chunk)
            written = memoryview(chunk)
            while written:
                written = written[file.write(written) :]
    return Digest(digest.hexdigest(), size)


def _used(path: Path) -> None:
    with suppress(OSError):  # of a store that can only be read, nothing is pruned either
        os.utime(path)


def _drop(path: Path) -> bool:
    try:
        path.unlink()
    except OSError:
        return False
    return True
