"""The functions a user replaces: the table `redirect` of the configuration.

A line is `"old" = "new"`, or `"old" = { to = "new", … }` with options.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from buildsys.config.toml import Table, nearest
from buildsys.formats.modes import Mode

OPTIONS = ("to", "mode", "pointers", "original")


@dataclass(frozen=True)
class Redirection:
    """What is to take the place of what, as the user asked for it.

    `old` and `to` are names of functions. `pointers` says that pointers to the old one are to be rewritten too,
    `original` names a function by which the old one can still be called. `place` says where it was asked for, to
    begin a message with: a file, a line and a key.
    """

    old: str
    to: str
    mode: Mode = Mode.CALLS
    pointers: bool = False
    original: str = ""
    place: str = field(default="", compare=False)

    def decides(self) -> dict[str, Any]:
        """What of it decides an image, as JSON has it; the line it stands in does not."""
        return {
            "old": self.old,
            "to": self.to,
            "mode": self.mode.value,
            "pointers": self.pointers,
            "original": self.original,
        }


def redirections(table: Table) -> Iterator[Redirection]:
    """The redirects of the table `redirect`, in the order of the file. Raises UserError."""
    for old in table:
        value = table.any(old)
        if not isinstance(value, dict):
            yield Redirection(old, table.string(old), place=table.where(old))
        elif value.keys() & set(OPTIONS) or not value:
            yield _long(table, old, value)
        else:
            raise table.error(
                old,
                "is a table",
                f'put the names of functions in quotes: "{old}.…" = "…"; options are {", ".join(OPTIONS)}',
            )


def _long(table: Table, old: str, value: dict[str, Any]) -> Redirection:
    """`"old" = { to = …, … }`. Mistakes are told of the line of `old`: an inline table is on one line."""
    for key in value:
        if key not in OPTIONS:
            raise table.error(old, f"has an unknown key `{key}`", nearest(key, OPTIONS))
    for key in ("to", "mode", "original"):
        if key in value and not isinstance(value[key], str):
            raise table.error(old, f"has a `{key}` that must be a string, not {value[key]!r}")
    if not value.get("to"):
        raise table.error(old, "does not say where calls go", '`to = "…"` names the new function')
    mode = value.get("mode", Mode.CALLS.value)
    if mode not in list(Mode):
        raise table.error(old, f"has mode {mode!r}", nearest(mode, list(Mode)))
    pointers = value.get("pointers", False)
    if not isinstance(pointers, bool):
        raise table.error(old, f"has `pointers` that must be true or false, not {pointers!r}")
    return Redirection(old, value["to"], Mode(mode), pointers, value.get("original", ""), table.where(old))
