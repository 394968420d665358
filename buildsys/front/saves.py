"""Noticing saves: which folders count, and a thread that tells what happened in them.

Folders are watched one by one, not as trees: what a build writes, or git, is never seen. What
is told is a hint to look, no more: what changed is found out by comparing contents.
"""

from __future__ import annotations

import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

from buildsys.errors import UserError

# Milliseconds. A save is told once nothing more has come for a step; the library looks
# each step, so that a shorter one would keep a processor from sleeping.
STEP, TOGETHER = 2, 100
PAUSE = 0.1  # seconds

PRUNED = frozenset({"__pycache__", "node_modules"})
# What editors put beside the file they save: Emacs, Vim, kate, JetBrains, GNOME.
BESIDE = re.compile(r"\.#.*|#.*#|.*~|\..*\.(sw[a-z]|kate-swp)|4913|.*___jb_(tmp|old)___|\.goutputstream-.*")


@dataclass(frozen=True)
class Places:
    """Where a save counts: `folders`, those of which any file may count, and `files` wherever they are. Absolute."""

    folders: frozenset[str] = frozenset()
    files: frozenset[str] = frozenset()

    @property
    def watched(self) -> frozenset[str]:
        """The folders to watch; one that is missing is stood for by the one it was in."""
        within = self.folders | {os.path.dirname(file) for file in self.files}  # noqa: PTH120  hundreds of them
        return frozenset(str(_existing(Path(folder))) for folder in within)

    def concern(self, path: str) -> bool:
        """Whether a change of `path` may be one of what the project is made of."""
        return path in self.files or path in self.folders or str(Path(path).parent) in self.folders

    def __or__(self, other: Places) -> Places:
        return Places(self.folders | other.folders, self.files | other.files)


def places(
    build: Path, trees: Iterable[Path], files: Iterable[Path], records: Iterable[Path], others: Iterable[str] = ()
) -> Places:
    """The places of a project: the folders `trees` with what is in them, `files`, and what `records` name as read.

    And the folders `others`, without what is in them.

    Nothing in `build`, where everything is made, is one.
    """
    made = os.path.realpath(build)
    folders = {folder for tree in trees for folder in _tree(os.path.realpath(tree), made)}
    folders |= set(map(os.path.realpath, others))
    found = set(map(str, files))
    for path in records:
        with suppress(OSError, ValueError, AttributeError):
            record = json.loads(path.read_bytes())
            found |= set(record.get("inputs", ()))
            folders |= set(map(os.path.realpath, record.get("folders", ())))
    inside = made + os.sep
    return Places(
        frozenset(each for each in folders if each != made and not each.startswith(inside)),
        frozenset(each for each in _whole(found) if not each.startswith(inside)),
    )


def _whole(files: Iterable[str]) -> Iterator[str]:
    """Each of `files` from the root on, and what it leads to if that is elsewhere: a link counts, and its goal."""
    here, real = os.getcwd(), dict[str, str]()  # noqa: PTH109  after each save hundreds of names: as text, all of this
    for name in files:
        whole = os.path.join(here, name)  # noqa: PTH118  as text
        yield whole
        folder, last = os.path.split(whole)
        if folder not in real:
            real[folder] = os.path.realpath(folder)
        there = f"{real[folder].rstrip(os.sep)}{os.sep}{last}"
        yield os.path.realpath(whole) if os.path.islink(there) else there  # noqa: PTH114  as text


def _tree(top: str, build: str) -> Iterator[str]:
    """`top` and the folders in it, but for `build`, hidden ones and Python environments."""
    for at, names, files in os.walk(top):
        if "pyvenv.cfg" in files:
            names.clear()
            continue
        yield at
        names[:] = [n for n in names if not n.startswith(".") and n not in PRUNED and f"{at}{os.sep}{n}" != build]


def module(package: Path) -> Path:
    """The folder of the Go module `package` is in; itself, if it is in none."""
    whole = package.absolute()
    return next((folder for folder in (whole, *whole.parents) if (folder / "go.mod").is_file()), whole)


def _existing(folder: Path) -> Path:
    return next((each for each in (folder, *folder.parents) if each.is_dir()), folder)


class Saves:
    """Calls `tell` with the paths that something happened to, from a thread of its own.

    Also, with no path, when it has begun to watch other folders: a save in between would not be
    told. A failure to watch is told to `refuse`, and is the end of it.
    """

    def __init__(self, tell: Callable[[set[str]], None], refuse: Callable[[UserError], None]) -> None:
        self._tell, self._refuse = tell, refuse
        self._wanted: SimpleQueue[frozenset[str] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="saves", daemon=True)
        self._thread.start()

    def watch(self, folders: Iterable[str]) -> None:
        """Watch these folders instead; also if they are the same, for one may have been made anew."""
        self._wanted.put(frozenset(folders))

    def close(self) -> None:
        """Watch no more."""
        self._wanted.put(None)
        self._thread.join()

    def _work(self) -> None:
        import watchfiles

        folders = self._wanted.get()
        while folders is not None:
            try:
                for changes in watchfiles.watch(
                    *(folder for folder in folders if Path(folder).is_dir()),
                    watch_filter=lambda _, path: not BESIDE.fullmatch(Path(path).name),
                    debounce=TOGETHER,
                    step=STEP,
                    stop_event=_Stop(self._wanted, lambda: self._tell(set())),
                    rust_timeout=0,  # with one the library may lose what comes just then
                    raise_interrupt=False,
                    recursive=False,
                    ignore_permission_denied=True,
                ):
                    self._tell({path for _, path in changes})
            except FileNotFoundError:  # one went while they were looked up
                continue
            except RuntimeError:  # the library’s own
                # Such as a name that is not UTF-8, which the library cannot tell.
                self._tell(set())
                time.sleep(PAUSE)
            except OSError as error:
                self._refuse(_refusal(error))
                return
            else:
                folders = self._wanted.get()


class _Stop:
    """What the library asks, each step, whether to stop: if other folders are wanted. The first time, it has begun."""

    def __init__(self, wanted: SimpleQueue[frozenset[str] | None], begun: Callable[[], None]) -> None:
        self._wanted, self._begun, self._asked = wanted, begun, False

    def is_set(self) -> bool:
        """Whether to stop."""
        if not self._asked:
            self._asked = True
            self._begun()
        return not self._wanted.empty()


def _refusal(error: OSError) -> UserError:
    return UserError(
        f"the project's folders cannot be watched: {error.strerror or error}",
        "if too many are watched already: sysctl fs.inotify.max_user_watches, fs.inotify.max_user_instances",
    )
