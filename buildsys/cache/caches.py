"""The local store and the shared cache as one: where a result is looked for, and where it is kept.

Local first; what the shared cache has goes into the store on its way. Nothing
here stops a build: what does not work is told once, in `troubles`, and left out.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from buildsys.cache.prints import Prints
from buildsys.cache.result import Digest, Output, Result
from buildsys.cache.store import Store
from buildsys.config.caching import Caching
from buildsys.errors import UserError
from buildsys.files import partial, put

if TYPE_CHECKING:
    from buildsys.cache.remote import Remote

RESTORED, REMOTE = "restored", "remote"


class Found(NamedTuple):
    """A result, and where it came from: RESTORED (the local store) or REMOTE."""

    result: Result
    origin: str


class Caches:
    """One build's way to both."""

    def __init__(self, settings: Caching) -> None:
        self._settings = settings
        self.store = Store(settings.folder, settings.limit)
        self.prints = Prints(settings.folder / "prints.json")
        self._keeping: list[threading.Thread] = []
        self._troubles: list[str] = []
        self._added = 0
        self._off = False
        self._told = ""  # of the remote's troubles

    @cached_property
    def remote(self) -> Remote | None:
        """The shared cache, if there is one. Raises UserError if its URL cannot be used."""
        if not self._settings.remote:
            return None
        from buildsys.cache.remote import Remote

        try:
            return Remote(self._settings.remote, writes=self._settings.writes, timeout=self._settings.timeout)
        except UserError as error:
            raise UserError(f"{self._settings.where}: {error.message}", error.hint) from None

    def find(self, key: str) -> Found | None:
        """What is known of the action with `key`.

        Raises UserError for a remote that cannot be meant.
        """
        result = self.store.result(key)
        if result is not None and self.store.complete(result):
            return Found(result, RESTORED)
        distant = self._distant(key)
        return Found(distant, REMOTE) if distant else None

    def every(self, key: str) -> Iterator[Result]:
        """What the store has under `key`, and then what the shared cache has: for keys whose result may change."""
        if result := self.store.result(key):
            yield result
        if distant := self._distant(key):
            yield distant

    def _distant(self, key: str) -> Result | None:
        data = self.remote.result(key) if self.remote else None
        if data is None:
            return None
        try:
            return Result.from_json(data)
        except ValueError as error:
            self._troubles.append(f"the shared cache: {error} (asked for {key[:12]}); passed over")
            return None

    def restore(self, key: str, found: Found, files: Mapping[str, Path]) -> bool:
        """Put the contents of every output in its place, by its name in `files`; False if that cannot be done.

        All are there and sound before the first is put in place. Raises OSError if a place cannot be written.
        """
        outputs = found.result.outputs
        if sorted(output.path for output in outputs) != sorted(files):
            return False
        if found.origin == REMOTE and not self._fetch(outputs):
            return False
        beside, sound = {}, True
        with ExitStack() as parts:
            for output in outputs:
                path = files[output.path]
                if path.is_dir() and not path.is_symlink():  # a rename would tell too late
                    raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
                path.parent.mkdir(parents=True, exist_ok=True)
                beside[path] = parts.enter_context(partial(path))
                if self.store.take(output.digest, beside[path]):
                    beside[path].chmod(0o755 if output.executable else 0o644)
                else:  # and look at the others: what is damaged is dropped all at once
                    sound = False
            if not sound:
                return False
            for path, part in beside.items():
                put(part, path)
        if found.origin == REMOTE:
            self._attempt(lambda: self.store.keep_result(key, found.result))
        return True

    def keep(
        self, key: str, result: Result, files: Mapping[str, Path], offered: bool = True, described: bytes = b""
    ) -> None:
        """Keep what was made; `files` are its outputs by name. Goes on after the call: `settle` waits for it.

        `described` is what the key is the sha256 of: kept under it among the contents, it tells how this was made.
        """

        def work() -> None:
            self._attempt(lambda: self._keep(key, result, files, offered, described))

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        self._keeping.append(thread)

    def remember(self, key: str, facts: Mapping[str, Any], offered: bool = True) -> None:
        """Keep what was found out, of which there are no files; in the store alone unless it is to be `offered`."""
        self.keep(key, Result((), facts), {}, offered)

    def settle(self) -> list[str]:
        """Wait until all is kept; returns what there is to tell the user, once."""
        for thread in self._keeping:
            thread.join()
        self._keeping.clear()
        if self._added:
            self._attempt(lambda: self.store.bound(self._added))
            self._added = 0
        remote = vars(self).get("remote")
        distant = [remote.trouble] if remote and remote.trouble not in ("", self._told) else []
        self._told = distant[0] if distant else self._told
        told = [*self._troubles, *self.store.troubles, *distant]
        self._troubles.clear()
        self.store.troubles.clear()
        return told

    def _keep(self, key: str, result: Result, files: Mapping[str, Path], offered: bool, described: bytes) -> None:
        if not all(self._keep_contents(output.digest, files[output.path]) for output in result.outputs):
            return  # somebody wrote to one since it was made
        action = Digest(key, len(described))
        if described:
            with self.store.part() as part:
                part.write_bytes(described)
                self.store.adopt(action, part)
        self.store.keep_result(key, result)
        if offered and self._settings.writes and self.remote:
            blobs = {output.digest: files[output.path] for output in result.outputs}
            blobs |= {action: self.store.place(action)} if described else {}
            self.remote.offer(key, result.to_json(), blobs)

    def _keep_contents(self, digest: Digest, path: Path) -> bool:
        self._added += 0 if self.store.holds(digest) else digest.size
        return self.store.keep(digest, path)

    def _fetch(self, outputs: tuple[Output, ...]) -> bool:
        """Get the contents that the store has not, from the remote into the store."""
        missing = {output.digest for output in outputs if not self.store.holds(output.digest)}
        if not missing or self.remote is None:
            return not missing
        if len(missing) == 1:
            return self._fetch_one(missing.pop())
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(4) as pool:
            return all(list(pool.map(self._fetch_one, sorted(missing))))

    def _fetch_one(self, digest: Digest) -> bool:
        try:
            with self.store.part() as part:
                if self.remote is None or not self.remote.blob(digest, part):
                    return False
                self.store.adopt(digest, part)
                self._added += digest.size
                return True
        except OSError as error:
            self._no_store(error)
            return False

    def _attempt(self, act: Callable[[], object]) -> None:
        """Do something that a full or read-only disk may refuse."""
        try:
            act()
        except OSError as error:
            self._no_store(error)

    def _no_store(self, error: OSError) -> None:
        if not self._off:
            self._off = True
            where = error.filename or self.store.folder
            self._troubles.append(f"nothing is kept in the local cache: {where}: {error.strerror or error}")
