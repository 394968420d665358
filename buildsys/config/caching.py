"""Where results are kept and shared: `[tool.buildsys.cache]`, and what the environment says instead."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

from buildsys.config.toml import Table, nearest
from buildsys.errors import UserError
from buildsys.go.toolchain import FOLDER as GO_FOLDER

MODES = ("read-only", "read-write")
OFF = "off"
# The environment goes before the file: a CI server writes where people read.
FOLDER, REMOTE, MODE = "BUILDSYS_CACHE", "BUILDSYS_CACHE_REMOTE", "BUILDSYS_CACHE_MODE"
UNITS = {"MB": 10**6, "GB": 10**9, "TB": 10**12, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}


class Caching(NamedTuple):
    """What the user chose: a `folder` to keep results in, and at most `limit` bytes there.

    `remote` is the URL of a shared cache, "" for none; `writes` whether results go there, too, and `timeout` the
    seconds it may take to answer.
    """

    folder: Path
    limit: int
    remote: str = ""
    writes: bool = False
    timeout: float = 5.0
    where: str = ""  # the remote was said, to begin a message with


def caching(table: Table) -> Caching | None:
    """What `table` says; None if nothing is to be kept. Raises UserError."""
    folder = table.string("folder", "")
    if "\0" in folder:
        raise table.error("folder", "has a NUL character in it")
    limit = _bytes(table)
    remote = table.string("remote", "")
    mode = table.choice("mode", MODES, "read-only")
    timeout = table.number("timeout", 5)
    if timeout <= 0:
        raise table.error("timeout", "must be more than 0 seconds")
    table.refuse_unknown()
    folder = os.environ.get(FOLDER) or folder
    where = REMOTE if REMOTE in os.environ else table.where("remote")
    remote = os.environ.get(REMOTE, remote)
    mode = os.environ.get(MODE) or mode
    if mode not in MODES:
        raise UserError(f"the environment variable {MODE} is {mode!r}", nearest(mode, MODES))
    if folder == OFF:
        return None
    try:
        place = Path(folder).expanduser().absolute() if folder else _home() / "buildsys"
    except RuntimeError:  # nobody knows where this user is at home
        return None
    return Caching(place, limit, "" if remote == OFF else remote, mode == "read-write", timeout, where)


def go_folder(kept: Caching | None) -> Path | None:
    """The folder of Go trees that were fetched; None if nobody knows where this user is at home.

    It lies in the folder results are `kept` in. Where none are kept it is in the user's cache folder
    all the same, as Go's own cache is: a tree is a tool, not a result.
    """
    said = os.environ.get(GO_FOLDER, "")
    try:
        return Path(said).expanduser().absolute() if said else (kept.folder if kept else _home() / "buildsys") / "go"
    except RuntimeError:
        return None


def _home() -> Path:
    """The folder for caches of the XDG Base Directory Specification, which wants relative paths ignored."""
    said = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return said if said.is_absolute() else Path.home() / ".cache"


def size_in_bytes(words: str) -> int:
    """A size such as "5 GB" in bytes. Raises UserError if it is none."""
    said = re.fullmatch(r"\s*(\d{1,15}(?:\.\d+)?)\s*([A-Za-z]+)\s*", words)
    if not said or said[2] not in UNITS:
        raise UserError(f"{words!r} is no size", f'write it as "5 GB"; units are {", ".join(UNITS)}')
    return int(float(said[1]) * UNITS[said[2]])


def _bytes(table: Table) -> int:
    try:
        return size_in_bytes(table.string("limit", "5 GB"))
    except UserError as error:
        raise table.error("limit", f"is {error.message}", error.hint) from None
