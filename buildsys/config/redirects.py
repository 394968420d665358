"""The functions a user replaces: the table `redirect` of the configuration, and directives in Go sources.

A line of the table is `"old" = "new"`, or `"old" = { to = "new", … }` with options. A directive has the same
options as words: `mode=entry`, `pointers`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from buildsys.config.toml import Table, nearest
from buildsys.errors import UserError
from buildsys.formats.modes import Mode

ALLOW = "allow"
OPTIONS = ("to", "mode", "pointers", "original", ALLOW)
# What may be wrong with a redirect and is built all the same, if the user says so: stages/agreement.py.
ALLOWED = ("signature", "recursion", "inlined")
# Functions of ours that are in an image only if a redirect names them: templates/boot.s.j2.
READY = ("buildsys.nothing", "buildsys.unexpected")
FLAGS = ("pointers",)  # those that are true or false


@dataclass(frozen=True)
class Redirection:
    """What is to take the place of what, as the user asked for it.

    `old` and `to` are names of functions. `pointers` says that pointers to the old one are to be rewritten too,
    `original` names a function by which the old one can still be called, `allow` what is
    put up with. `place` says where it was asked for, to begin a message with: a file, a line and a key.
    """

    old: str
    to: str
    mode: Mode = Mode.CALLS
    pointers: bool = False
    original: str = ""
    allow: tuple[str, ...] = ()
    place: str = field(default="", compare=False)

    def stored(self) -> dict[str, Any]:
        """All of it, as JSON has it."""
        return {**self.decides(), "place": self.place}

    @classmethod
    def restored(cls, stored: Mapping[str, Any]) -> Redirection:
        """What `stored` gave."""
        return cls(**{**stored, "mode": Mode(stored["mode"]), "allow": tuple(stored["allow"])})

    def decides(self) -> dict[str, Any]:
        """What of it decides an image, as JSON has it; the line it stands in does not."""
        return {
            "old": self.old,
            "to": self.to,
            "mode": self.mode.value,
            "pointers": self.pointers,
            "original": self.original,
            "allow": sorted(self.allow),
        }


def redirections(table: Table) -> Iterator[Redirection]:
    """The redirects of the table `redirect`, in the order of the file. Raises UserError."""
    for old in table:
        value = table.any(old)
        if not isinstance(value, dict):
            yield _of_table(table, old, {"to": table.string(old)})
        elif value.keys() & set(OPTIONS) or not value:
            yield _of_table(table, old, value)
        else:
            raise table.error(
                old,
                "is a table",
                f'put the names of functions in quotes: "{old}.…" = "…"; options are {", ".join(OPTIONS)}',
            )


def _of_table(table: Table, old: str, value: dict[str, Any]) -> Redirection:
    """`"old" = { to = …, … }`. Mistakes are told of the line of `old`: an inline table is on one line."""

    def wrong(problem: str, hint: str) -> UserError:
        return table.error(old, problem, hint)

    return _checked(old, value, table.where(old), wrong)


def of_words(words: Sequence[str], to: str, place: str) -> Redirection:
    """The redirect a directive above the function `to` asks for by its `words`. Raises UserError."""

    def wrong(problem: str, hint: str) -> UserError:
        return UserError(f"{place}: the directive {problem}", hint)

    names = [word for word in words if "=" not in word and word not in OPTIONS]
    if len(names) != 1:
        raise wrong(
            f"names {len(names)} functions" if names else "does not say which function is replaced",
            f"one each, and options: {', '.join(OPTIONS[1:])}",
        )
    value: dict[str, Any] = {}
    for word in words:
        key, _, said = word.partition("=")
        if word in names:
            continue
        if key == "to" or key in value:
            raise wrong(
                f"says `{key}` twice: calls go to the function below it" if key == "to" else f"says `{key}` twice", ""
            )
        value[key] = {"true": True, "false": False}.get(said or "true", said) if key in FLAGS else said
    return _checked(names[0], value | {"to": to}, place, wrong)


def _checked(old: str, value: Mapping[str, Any], place: str, wrong: Callable[[str, str], UserError]) -> Redirection:
    """The redirect of `old` with the options in `value`; `wrong` makes the error."""
    from difflib import get_close_matches

    for key in value:
        if key not in OPTIONS:
            raise wrong(f"has an unknown key `{key}`", nearest(key, OPTIONS))
    for key in value:
        if key not in (*FLAGS, ALLOW) and not isinstance(value[key], str):
            raise wrong(f"has a `{key}` that must be a string, not {value[key]!r}", "")
        if key in FLAGS and not isinstance(value[key], bool):
            raise wrong(f"has a `{key}` that must be true or false, not {value[key]!r}", "")
    if not value.get("to"):
        raise wrong("does not say where calls go", '`to = "…"` names the new function')
    if value["to"] not in READY and (near := get_close_matches(value["to"], READY, 1, 0.9)):
        raise wrong(f"is {value['to']!r}", f"did you mean {near[0]}?")
    mode = value.get("mode", Mode.CALLS.value)
    if mode not in list(Mode):
        raise wrong(f"has mode {mode!r}", nearest(mode, list(Mode)))
    return Redirection(
        old,
        value["to"],
        Mode(mode),
        value.get("pointers", False),
        value.get("original", ""),
        _allowed(value.get(ALLOW, ()), wrong),
        place,
    )


def _allowed(value: object, wrong: Callable[[str, str], UserError]) -> tuple[str, ...]:
    """What is allowed: one of `ALLOWED`, or several of them in a list or with commas between."""
    listed = value.split(",") if isinstance(value, str) else value
    for each in listed if isinstance(listed, (list, tuple)) else [listed]:
        if each not in ALLOWED:
            raise wrong(f"has an `{ALLOW}` of {each!r}", nearest(str(each), ALLOWED))
    return tuple(dict.fromkeys(listed)) if isinstance(listed, (list, tuple)) else ()
