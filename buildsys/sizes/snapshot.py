"""An account as JSON, which is what is saved, compared with later, and given to programs.

Format 1. Bytes and addresses are numbers. `pieces` are what adds up to `rooms` (by region) and, those that
are not stored, to the sections; consecutive ones of the same owner are one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from buildsys.errors import UserError
from buildsys.files import replace
from buildsys.sizes.account import KINDS, Account, Piece, Room

FORMAT = 1
_FIELDS = ("region", "section", "kind", "package", "symbol", "address", "size", "stored")


def as_json(found: Account) -> dict[str, Any]:
    """Everything about an account; `regions`, `sections` and `packages` are sums of `pieces`."""
    return {
        "format": FORMAT,
        "image": found.image,
        "board": found.board,
        "regions": [
            {"name": room.name, "low": room.low, "high": room.high, "used": room.used, "share": room.share}
            for room in found.rooms
        ],
        "sections": [_row({"section": key[0]}, row) for key, row in found.by("section").items()],
        "packages": [_row({"package": key[0]}, row) for key, row in found.by("package").items()],
        "pieces": [{name: getattr(piece, name) for name in _FIELDS} for piece in found.pieces],
        "file": [{"name": name, "size": size} for name, size in found.file],
    }


def _row(named: dict[str, str], row: Mapping[str, int]) -> dict[str, Any]:
    inside = {name.removeprefix("in "): size for name, size in row.items() if name.startswith("in ")}
    return {**named, **{kind: row.get(kind, 0) for kind in KINDS}, "in": inside}


def save(found: Account, path: Path) -> None:
    """Write an account. Raises UserError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace(path, json.dumps(as_json(found)).encode() + b"\n")
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error


def read(path: Path) -> Account:
    """What `save` wrote. Raises UserError if it is something else."""
    try:
        found = json.loads(path.read_bytes())
        if found["format"] != FORMAT:
            raise UserError(f"{path}: is of format {found['format']!r}, and {FORMAT} is known")
        pieces = tuple(Piece(**{name: each[name] for name in _FIELDS}) for each in found["pieces"])
        rooms = tuple(Room(each["name"], each["low"], each["high"], each["used"]) for each in found["regions"])
        file = tuple((str(each["name"]), int(each["size"])) for each in found["file"])
        return Account(str(found["image"]), str(found["board"]), rooms, pieces, file)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, LookupError, TypeError) as error:
        raise UserError(f"{path}: holds no sizes", "`doit size --save NAME` writes them") from error
