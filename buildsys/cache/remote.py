"""A cache that several machines share: any server with the Bazel HTTP layout, or an S3 bucket with the same keys.

    GET, PUT       <url>/ac/<action key>         a Result (an ActionResult, in JSON)
    GET, PUT, HEAD <url>/cas/<sha256>            contents

Contents are believed because their sha256 is right; a result is believed because whoever
may write there is. bazel-remote is the reason for two details: it gives a result as JSON
only to those who ask for JSON, and sends a longer one in pieces, without its size.
Source: https://bazel.build/remote/caching#http-caching; bazel-remote, server/http.go.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path

from buildsys.cache.access import access
from buildsys.cache.exchange import Answer, Exchange, ExchangeError, Sink
from buildsys.cache.result import Digest, Result

LARGEST_RESULT = 1 << 20  # bytes
LARGEST_BLOB = 1 << 32
JSON, BYTES = "application/json", "application/octet-stream"
_MISSING = (404, 410)


class Remote:
    """A shared cache. Whatever its server does is no error: it is told once, in `trouble`, and done without.

    An answer that is wrong, late or none ends the use of the server for as long as this object lives. One
    that is full, or does not let us write, is still read. Methods may be called from several threads.
    """

    def __init__(self, url: str, *, writes: bool, timeout: float) -> None:
        """Connects to nothing. Raises UserError for a URL, or credentials in the environment, that cannot be used.

        `timeout` is in seconds: see `exchange` for what it bounds.
        """
        self.trouble = ""
        self._access = access(url)
        self._exchange = Exchange(timeout)
        self._reads, self._writes = True, writes
        self._lock = threading.Lock()

    def result(self, key: str) -> bytes | None:
        """The result of the action with `key`, in JSON; None if there is none."""
        if not self._reads:
            return None
        contents = _Bounded()
        try:
            if not self._get(f"ac/{key}", contents, JSON):
                return None
            Result.from_json(contents.data)
        except (_WrongError, ValueError):
            self._give_up(f"has something for the action {key[:12]} that is no result")
            return None
        return contents.data

    def blob(self, digest: Digest, into: Path) -> bool:
        """Write the contents with `digest` to the file `into`; False if they are not there, and then no file is.

        Raises OSError if `into` cannot be written.
        """
        if not self._reads:
            return False
        sound = False
        try:
            if digest.size > LARGEST_BLOB:
                raise _WrongError
            contents = _Verified(into, digest)
            sound = self._get(f"cas/{digest.hash}", contents, BYTES)
            if sound and contents.digest != digest:
                raise _WrongError
        except _WrongError:
            sound = False
            self._give_up(f"has wrong contents for {digest.hash[:12]}, and is not believed any more")
        finally:
            if not sound:
                into.unlink(missing_ok=True)
        return sound

    def offer(self, key: str, result: bytes, blobs: Mapping[Digest, Path]) -> bool:
        """Put there what an action made: the contents, then the result that names them. False if it is not all there.

        Does nothing unless `writes`. A file that has not its digest (any more) is not sent.
        """
        if not (self._writes and self._reads):
            return False
        for digest, path in blobs.items():
            if self._holds(digest):
                continue
            contents = _read(path, digest)
            if contents is None or not self._put(f"cas/{digest.hash}", contents, BYTES):
                return False
        return self._put(f"ac/{key}", result, JSON)

    def _get(self, path: str, sink: Sink, kind: str) -> bool:
        """Whether it was there; then `sink` has it."""
        answer = self._ask("GET", path, {"Accept": kind}, sink=sink)
        if answer is None or answer.status == 200:
            return answer is not None
        if answer.status not in _MISSING or b"NoSuchBucket" in answer.refusal:
            self._give_up(self._refusal(answer))
        return False

    def _holds(self, digest: Digest) -> bool:
        """Whether contents of that name and size are there. Any other answer means no: sending them will tell more."""
        answer = self._ask("HEAD", f"cas/{digest.hash}")
        return answer is not None and answer.status == 200 and answer.size == digest.size

    def _put(self, path: str, contents: bytes, kind: str) -> bool:
        if not (self._writes and self._reads):
            return False
        answer = self._ask("PUT", path, {"Content-Type": kind, "Content-Length": str(len(contents))}, contents)
        if answer is None or 200 <= answer.status < 300:
            return answer is not None
        self._writes = False
        self._tell(f"{self._refusal(answer)}; nothing more is sent to it")
        return False

    def _ask(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        sink: Sink | None = None,
    ) -> Answer | None:
        """The answer; None if there was none, and then there will be no more questions."""
        url = self._access.base + path
        headers = {**(headers or {}), "Accept-Encoding": "identity", "User-Agent": "buildsys"}
        try:
            return self._exchange.ask(method, url, self._access.sign(method, url, headers, body), body, sink)
        except ExchangeError as error:
            self._give_up(str(error))
            return None

    def _refusal(self, answer: Answer) -> str:
        """What an answer that does not help says, in our words: its own could hold anything."""
        status = answer.status
        name = next((known.phrase for known in HTTPStatus if known == status), "which is no status of HTTP")
        if status in (401, 403):
            return f"does not let us in ({status} {name}): {self._access.advice}"
        if status in (413, 507):
            return f"has no room ({status} {name})"
        if 300 <= status < 400:
            return f"is not there any more ({status} {name}); give the address it has moved to"
        if b"NoSuchBucket" in answer.refusal:
            return "does not exist: there is no such bucket"
        return f"answers {status} ({name})"

    def _give_up(self, what: str) -> None:
        self._reads = False
        self._tell(f"{what}; going on with the local cache only")

    def _tell(self, what: str) -> None:
        with self._lock:
            self.trouble = self.trouble or f"the shared cache {self._access.name} {what}"


class _WrongError(Exception):
    """More, or other, bytes than there can be."""


class _Bounded:
    """A result, in memory."""

    def __init__(self) -> None:
        self.data = b""

    def write(self, chunk: bytes, /) -> None:
        self.data += chunk
        if len(self.data) > LARGEST_RESULT:
            raise _WrongError

    def close(self) -> None:
        pass


class _Verified:
    """A file of contents that should have a digest: no more is written to it than that says."""

    def __init__(self, path: Path, expected: Digest) -> None:
        self._file = path.open("wb")
        self._expected = expected
        self._hash = hashlib.sha256()
        self._size = 0

    @property
    def digest(self) -> Digest:
        return Digest(self._hash.hexdigest(), self._size)

    def write(self, chunk: bytes, /) -> None:
        self._size += len(chunk)
        if self._size > self._expected.size:
            raise _WrongError
        self._hash.update(chunk)
        self._file.write(chunk)

    def close(self) -> None:
        self._file.close()


def _read(path: Path, digest: Digest) -> bytes | None:
    """What is in the file at `path` if that has `digest`."""
    try:
        with path.open("rb") as file:
            contents = file.read(digest.size + 1)
    except OSError:
        return None
    return contents if Digest(hashlib.sha256(contents).hexdigest(), len(contents)) == digest else None
