"""One request and its answer, bounded in time whatever the server does. Knows nothing of what is asked for.

A request has `timeout` seconds, and as many more as what has moved so far takes at
SLOWEST bytes a second: a large file may take its time, a server that sends a byte now
and then may not. The request is made in a thread of its own, which is left behind when
its time is over: nothing else ends a slow name server, or headers that never end. For
the same reason Ctrl-C is heard at once.

Redirects are not followed: credentials go to the host the user named and to no other.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from io import BytesIO
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse, PoolManager

SLOWEST = 1 << 20  # bytes/s; at less, building is as fast
_CHUNK = 1 << 18
_SAID = 4096  # bytes of a refusal that are looked at
_LONGEST_WAIT = 3600.0


class ExchangeError(Exception):
    """What a server did instead of answering: a verb and what follows, to be put after its name."""


class Answer(NamedTuple):
    """`size` is what Content-Length says. `refusal` is the beginning of what came with another status than 200."""

    status: int
    size: int | None
    refusal: bytes = b""


class Sink(Protocol):
    """Takes what an answer holds. Whatever it raises ends the request and is raised to whoever asked."""

    def write(self, chunk: bytes, /) -> object:
        """Take the next bytes."""

    def close(self) -> None:
        """No more will come. Called by the thread that wrote, once it is done, however late that is."""


class Exchange:
    """Requests with a time limit of `timeout` seconds each. Threads and forked processes may share one."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        # A child that was forked must not talk on its parent's connections.
        self._pools: dict[int, PoolManager] = {}

    def ask(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None = None, sink: Sink | None = None
    ) -> Answer:
        """The answer; what it holds goes to `sink` if its status is 200.

        Raises ExchangeError, and what `sink` raises.
        """
        limit = _Limit(self._timeout)
        pool = self._pools.get(os.getpid()) or self._pools.setdefault(os.getpid(), _pool(self._timeout))
        outcome: list[Answer | BaseException] = []
        done = threading.Event()

        def work() -> None:
            try:
                try:
                    answer = _exchange(pool, limit, method, url, headers, body, sink)
                finally:
                    if sink is not None:
                        sink.close()
                outcome.append(answer)
            except BaseException as error:
                outcome.append(error)
            finally:
                done.set()

        try:
            threading.Thread(target=work, daemon=True, name=f"{method} from the shared cache").start()
            while not done.wait(min(max(limit.left(), 0.0), _LONGEST_WAIT)):
                if limit.left() <= 0:
                    raise ExchangeError(f"did not answer in {self._timeout:g} s" if not limit.moving else "is too slow")
        finally:
            limit.over = True
        if isinstance(outcome[0], BaseException):
            raise outcome[0]
        return outcome[0]


class _Limit:
    """When a request has to be done; later with every byte that moved."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds
        self._moved = 0
        self.over = False

    @property
    def moving(self) -> bool:
        return self._moved > 0

    def left(self) -> float:
        return self._end + self._moved / SLOWEST - time.monotonic()

    def moved(self, size: int) -> None:
        if self.over:  # nobody waits for the rest
            raise ExchangeError("is too slow")
        self._moved += size


class _Body(BytesIO):
    """What is sent; tells the limit as it goes out."""

    def __init__(self, contents: bytes, limit: _Limit) -> None:
        super().__init__(contents)
        self._limit = limit

    def read(self, size: int | None = -1, /) -> bytes:
        chunk = super().read(size)
        self._limit.moved(len(chunk))
        return chunk


def _pool(timeout: float) -> PoolManager:
    from urllib3 import PoolManager, Timeout

    # Each wait for the network is bounded as well: for a server that stops in the middle of
    # much, and so that a thread that was left behind ends. The limit of the whole comes first.
    return PoolManager(retries=False, timeout=Timeout(min(timeout, _LONGEST_WAIT) + 1), maxsize=8, blocksize=_CHUNK)


def _exchange(
    pool: PoolManager,
    limit: _Limit,
    method: str,
    url: str,
    headers: Mapping[str, str],
    body: bytes | None,
    sink: Sink | None,
) -> Answer:
    from urllib3.exceptions import HTTPError, ProtocolError

    def request() -> BaseHTTPResponse:
        contents = None if body is None else _Body(body, limit)
        return pool.request(
            method, url, headers=headers, body=contents, redirect=False, preload_content=False, decode_content=False
        )

    try:
        try:
            response = request()
        except ProtocolError as error:
            # The server may have closed a connection that was kept just now. That is no failure, once.
            if not isinstance(error.args[-1], ConnectionError):
                raise
            response = request()
        try:
            size = response.headers.get("Content-Length", "")
            answer = Answer(response.status, int(size) if size.isascii() and size.isdecimal() else None)
            if response.status != 200 or sink is None:
                return answer._replace(refusal=response.read1(_SAID))
            while chunk := response.read1(_CHUNK):
                limit.moved(len(chunk))
                sink.write(chunk)
            return answer
        finally:
            response.close()  # a connection whose answer was read to the end has gone back to the pool by now
    except HTTPError as error:
        raise ExchangeError(_words(error)) from error


def _words(error: Exception) -> str:
    """What happened, without a word of what the server sent."""
    from urllib3 import exceptions as known

    if isinstance(error, known.NameResolutionError):
        return "cannot be found: its name is not known"
    if isinstance(error, known.NewConnectionError):  # a kind of ConnectTimeoutError
        cause = error.__cause__
        return f"cannot be reached: {cause.strerror}" if isinstance(cause, OSError) else "cannot be reached"
    if isinstance(error, known.TimeoutError):
        return "did not answer in time"
    if isinstance(error, known.SSLError):
        cause = error.args[0] if error.args else error
        why = getattr(cause, "verify_message", "") or str(getattr(cause, "reason", "")).replace("_", " ").lower()
        return f"has a connection that is not secure: {why or 'TLS fails'}; SSL_CERT_FILE names what is trusted"
    if isinstance(error, known.IncompleteRead) or "IncompleteRead" in str(error):
        return "ends in the middle of an answer"
    if isinstance(error, known.ProtocolError):
        cause = error.args[-1] if error.args else None
        if isinstance(cause, TimeoutError):
            return "did not answer in time"
        return "breaks the connection" if isinstance(cause, OSError) else "does not speak HTTP"
    return "does not speak HTTP"
