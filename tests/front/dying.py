"""Builds that end at their nth write, as by a kill or by a loss of power; each in a process of its own.

A write is whatever changes a folder: a file that is opened for writing, a rename, a link, a removal. Python tells
before it does such a thing, in every thread, so that all there are can be counted (PEP 578). What power takes away is
of what was written since the build began, for nothing is forced to the disk: names are there, contents are not.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.front.conftest import Checkout, wait_for
from tests.front.inprocess import build

WRITES = {"os.rename", "os.link", "os.remove", "os.mkdir", "os.chmod", "os.utime", "os.truncate"}
NEVER = 1 << 30
SECTOR = 512  # bytes
PRELOADED = ["buildsys.stages.objects", "buildsys.stages.link", "buildsys.stages.patch", __name__]
STAGES = ("compile", "runtime", "link", "patch")


@dataclass(frozen=True)
class Place:
    """A project in `root`, its builds' store and their TMPDIR; `aside` is a file to tell the parent something in."""

    root: Path
    store: Path
    temporary: Path
    aside: Path


def writes(place: Place) -> int:
    """How often a build in `place` writes: it is done to its end."""
    count = _ended(place, NEVER)
    assert count is not None
    return count


def killed(place: Place, at: int) -> bool:
    """Have a build killed at its write number `at`; False if it has ended before."""
    return _ended(place, at) is None


def without_power(place: Place, at: int, seed: int) -> list[str]:
    """Have a build lose its power at its write number `at`; returns the files that lost their contents."""
    began = time.time_ns()
    _ended(place, at)
    wait_for(lambda: not orphans(place), "the end of what was orphaned")
    return list(_lose(place, began, random.Random(seed)))


def orphans(place: Place) -> list[str]:
    """What a build in `place` started and left."""
    return Checkout(place.root, place.temporary).left()


def at_once(place: Place, count: int) -> None:
    """Have so many builds begin at once, and wait for their ends."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    processes = [context.Process(target=build, args=(place.root, place.store)) for _ in range(count)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0, f"a build beside others ended with {process.exitcode}"


def _ended(place: Place, at: int) -> int | None:
    """How many writes a build came to that is killed at its write number `at`; None if it was."""
    place.aside.unlink(missing_ok=True)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    process = context.Process(target=_build, args=(place, at))
    process.start()
    process.join(60)
    if process.is_alive():
        process.kill()
    assert process.exitcode in (0, -signal.SIGKILL), f"it ended with {process.exitcode}"
    return int(place.aside.read_text()) if process.exitcode == 0 else None


def _build(place: Place, at: int) -> None:
    os.environ["TMPDIR"] = str(place.temporary)  # by which what it starts can be told
    count, counting = 0, threading.Lock()
    within = (str(place.root), str(place.store))

    def before(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        if _writes(event, arguments, within):
            with counting:
                count += 1
                if count == at:
                    os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(before)
    build(place.root, place.store)
    place.aside.write_text(str(count))


def _writes(event: str, arguments: tuple[Any, ...], within: tuple[str, ...]) -> bool:
    if event == "open":
        if not isinstance(arguments[2], int) or not arguments[2] & (os.O_WRONLY | os.O_RDWR):
            return False
    elif event not in WRITES:
        return False
    return isinstance(arguments[0], str | Path) and str(arguments[0]).startswith(within)


def _lose(place: Place, since: int, chance: random.Random) -> Iterator[str]:
    """Take away contents of what was written to `since` then (ns); sizes and times stay as often as not."""
    written = [path for top in (place.root / "build", place.store) for path in sorted(top.rglob("*")) if path.is_file()]
    for path in written:
        status = path.stat()
        if status.st_ctime_ns < since or not status.st_size or chance.random() < 0.5:
            continue
        contents = bytearray(path.read_bytes())
        start = chance.randrange(0, len(contents), SECTOR)
        end = chance.choice((min(start + SECTOR, len(contents)), len(contents)))
        how = chance.choice(("nothing", "less", "zeroes", "noise"))
        if how == "nothing":
            contents.clear()
        elif how == "less":
            del contents[start:]
        else:
            contents[start:end] = bytes(end - start) if how == "zeroes" else chance.randbytes(end - start)
        with suppress(FileNotFoundError), path.open("r+b") as file:
            file.write(contents)
            file.truncate()
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
            yield str(path)


def finished(root: Path, since: float, lost: tuple[str, ...] = ()) -> set[str]:
    """The stages whose record was written `since` then (Unix time), and of which nothing is `lost`."""
    found = set()
    for stage in STAGES:
        path = root / "build" / ".done" / f"{stage}.json"
        record: Mapping[str, Any] = {}
        with suppress(OSError, ValueError):
            record = json.loads(path.read_bytes())
        if record and record["when"] >= since and not {str(path), *record["outputs"]} & set(lost):
            found.add(stage)
    return found
