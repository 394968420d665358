"""Whether a file or folder still is what it was.

A file is recognised by its stat (size, times, inode) and, when that differs,
by its contents. The time of change (ctime) cannot be set by a user, so a
restored file with its old mtime is noticed. A file changed less than RACY
nanoseconds before it was looked at could change again unseen within the
resolution of the clock: its stat is not kept, so its contents are compared.
Nor is a stat believed that was taken before the machine was last started: after
a loss of power a file can have its size and times, and not what was written.
"""

from __future__ import annotations

import os
import time
from functools import cache
from pathlib import Path

from buildsys.files import opened

RACY = 30_000_000  # ns; the kernel's coarse clock ticks every 1 to 10 ms

# What is known of a file: its stat, with whether it rested when looked at, and the sha256 of its contents.
Print = tuple[tuple[int, ...], str]
MISSING: Print = ((), "")


def of_file(path: Path | str, known: Print = MISSING) -> Print:
    """The print of the file at `path`; `known`, an earlier one, saves reading it if nothing changed."""
    try:
        status = os.stat(path)
    except OSError:
        return MISSING
    key = _key(status)
    if key == known[0][:-1]:
        return known
    rests = _rests(status)
    try:
        return (*key, rests), _digest(path)
    except OSError:
        return MISSING


def stat_of(path: Path | str) -> tuple[int, ...]:
    """The stat of the file at `path`, as a print has it but for whether the file rests; empty if there is none."""
    try:
        return _key(os.stat(path))
    except OSError:
        return ()


def at_rest(path: Path | str) -> tuple[int, ...]:
    """The same; empty, too, if the file could be changed and keep it."""
    try:
        status = os.stat(path)
    except OSError:
        return ()
    return _key(status) if _rests(status) else ()


def unlinked(stat: tuple[int, ...]) -> tuple[int, ...]:
    """Those parts of a print's stat that stay when the file is given one more name: all but the time of change."""
    size, modified, _, inode, device = stat[:5]
    return size, modified, inode, device


def of_folder(path: Path | str, known: Print = MISSING) -> Print:
    """The print of the folder at `path`: the names in it, not what they hold."""
    try:
        status = os.stat(path)
        key = (status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev)
        if key == known[0][:-1]:
            return known
        rests = _rests(status)
        names = "\0".join(sorted(os.listdir(path)))
    except OSError:
        return MISSING
    import hashlib  # takes as long to load as a build with nothing to do has to spare

    return (*key, rests), hashlib.sha256(names.encode("utf-8", "surrogateescape")).hexdigest()


def settled(found: Print) -> Print:
    """`found` as it may be kept: without its stat if that could stay the same through another change."""
    key, digest = found
    return found if key and key[-1] else ((), digest)


def distrusted(found: Print) -> Print:
    """`found` without its stat: the contents are to be compared."""
    return ((), found[1])


@cache
def boot() -> str:
    """What tells one start of this machine from another; empty if the system does not say (then none is told)."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def _key(status: os.stat_result) -> tuple[int, ...]:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev


def _rests(status: os.stat_result) -> bool:
    """Whether a change from now on would show in the time of change."""
    return time.time_ns() - status.st_ctime_ns > RACY


def _digest(path: Path | str) -> str:
    import hashlib

    with opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
