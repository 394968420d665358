"""The action key: what a result is found by, the same in every folder, clone and branch, and on every machine.

Files are named by the place they belong to (the project, buildsys, the Go tree,
a toolchain), not by where that happens to lie; what they hold is in the key as
sha256. Modules of buildsys that an action consists of are inputs like others:
they are its version.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

FORMAT = 1  # of the key itself


class Places(NamedTuple):
    """The project's folder, and others that files are named from, by a label. A longer path wins.

    No two labels are the same, none is empty or "file", and none has a colon in it.
    """

    root: Path
    others: tuple[tuple[str, Path], ...] = ()

    def name(self, path: Path | str) -> str:
        """`path` as `label:path/in/that/place`; the project's own have an empty label."""
        text = str(path)
        return _name(self, _without_turns(text) if ".." in text else text, str(Path.cwd()))

    def path(self, name: str) -> Path:
        """The path `name` stands for. Raises ValueError if no place has its label."""
        label, _, rest = name.partition(":")
        if not label:
            path = self.root / rest
            return Path(os.path.normpath(path.absolute())) if rest.startswith("../") else path
        place = dict(self.others).get(label, Path("/") if label == "file" else None)
        if place is None:
            raise ValueError(f"{name}: there is no such place")
        return place / rest


@lru_cache(maxsize=4096)
def _name(places: Places, path: str, working: str) -> str:
    whole = os.path.normpath(Path(working, path))
    for at, label in _labelled(places, working):
        if whole == at or whole.startswith(at.rstrip("/") + "/"):
            return f"{label}:{whole[len(at.rstrip('/')) + 1 :] or '.'}"
    near = os.path.relpath(whole, Path(working, places.root))
    # A neighbour of the project (a module by replace) is named from it; what lies elsewhere has one place on a machine.
    return f":{near}" if near.count("../") <= 2 else f"file:{whole[1:]}"


@lru_cache(maxsize=16)
def _labelled(places: Places, working: str) -> list[tuple[str, str]]:
    """(path, label) of each place, the longest first."""
    labels = [label for label, _ in places.others]
    if len({"", "file", *labels}) < len(labels) + 2 or any(":" in label for label in labels):
        raise ValueError(f"labels of places must tell them apart: {labels}")
    found = [(os.path.normpath(Path(working, at)), label) for label, at in (("", places.root), *places.others)]
    return sorted(found, key=lambda each: -len(each[0]))


def _without_turns(path: str) -> str:
    """`path` without `..`: behind a symbolic link that is another file than leaving out both names gives."""
    plain, real = os.path.normpath(path), os.path.realpath(path)
    return plain if os.path.realpath(plain) == real else real


def description(
    name: str, parameters: Mapping[str, Any], inputs: Mapping[str, str], outputs: Iterable[Path], places: Places
) -> bytes:
    """The action `name` in JSON, whose sha256 is its key: `inputs` are the sha256 of each file by its path."""
    message = {
        "format": FORMAT,
        "action": name,
        "parameters": parameters,
        "inputs": {places.name(path): digest for path, digest in inputs.items()},
        "outputs": [places.name(path) for path in outputs],
    }
    return json.dumps(message, sort_keys=True).encode()


def action_key(
    name: str, parameters: Mapping[str, Any], inputs: Mapping[str, str], outputs: Iterable[Path], places: Places
) -> str:
    """The key of the action so described."""
    from hashlib import sha256

    return sha256(description(name, parameters, inputs, outputs, places)).hexdigest()
