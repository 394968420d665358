"""Reading TOML so that every mistake is reported with file, line and nearest valid name."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from buildsys.errors import UserError


class Table:
    """One TOML table: typed access to its keys, which remembers what was asked for.

    `refuse_unknown()` then knows every key that means nothing.
    """

    def __init__(self, path: Path, text: str, values: dict[str, Any], prefix: str = "") -> None:
        self._path, self._text, self._values, self._prefix = path, text, values, prefix
        self._known: set[str] = set()

    def __iter__(self) -> Iterator[str]:
        """The keys the file has."""
        return iter(self._values)

    def has(self, key: str) -> bool:
        """Whether the file sets `key`."""
        self._known.add(key)
        return key in self._values

    def table(self, key: str) -> Table:
        """The sub-table `key`; an empty one if the file has none."""
        return Table(self._path, self._text, self._get(key, dict, "a table", {}), f"{self._prefix}{key}.")

    def string(self, key: str, default: str | None = None) -> str:
        """The string at `key`."""
        value: str = self._get(key, str, "a string", default)
        return value

    def integer(self, key: str, default: int | None = None) -> int:
        """The integer at `key`."""
        value: int = self._get(key, int, "an integer", default)
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """The number at `key`."""
        return float(self._get(key, (int, float), "a number", default))

    def strings(self, key: str, default: tuple[str, ...] = ()) -> list[str]:
        """The list of strings at `key`."""
        values: list[str] = self._get(key, list, "a list of strings", list(default))
        for value in values:
            if not isinstance(value, str):
                raise self.error(key, f"must be a list of strings, {value!r} is not one")
        return values

    def choice(self, key: str, choices: tuple[str, ...], default: str | None = None) -> str:
        """The string at `key`, one of `choices`."""
        value = self.string(key, default)
        if value not in choices:
            raise self.error(key, f"is {value!r}", nearest(value, choices))
        return value

    def refuse_unknown(self) -> None:
        """Raise UserError for the first key nobody asked for."""
        for key in self._values:
            if key not in self._known:
                raise UserError(f"{self._at(key)}: unknown key `{self._prefix}{key}`", nearest(key, self._known))

    def error(self, key: str, problem: str, hint: str = "") -> UserError:
        """A UserError about `key`: file, line, key, problem."""
        return UserError(f"{self._at(key)}: `{self._prefix}{key}` {problem}", hint)

    def where(self, key: str) -> str:
        """File, line and key, to begin a message with."""
        return f"{self._at(key)}: `{self._prefix}{key}`"

    def _get(self, key: str, kind: type | tuple[type, ...], words: str, default: Any) -> Any:
        self._known.add(key)
        if key not in self._values:
            if default is None:
                raise self.error(key, "is missing", f"it must be {words}")
            return default
        value = self._values[key]
        if not isinstance(value, kind) or isinstance(value, bool):
            raise self.error(key, f"must be {words}, not {value!r}")
        return value

    def _at(self, key: str) -> str:
        line = _line_of(self._text, self._prefix.rstrip("."), key)
        return f"{self._path}:{line}" if line else str(self._path)


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint naming the known name closest to `name`, or all of them."""
    from difflib import get_close_matches

    near = get_close_matches(name, list(known), 1)
    return f"did you mean `{near[0]}`?" if near else "known: " + ", ".join(sorted(known))


def read(path: Path) -> Table:
    """The whole of a TOML file. Raises UserError if it is missing or is not TOML."""
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from error
    try:
        return Table(path, text, tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path}: {error}", "the file is not valid TOML") from error


def _line_of(text: str, prefix: str, key: str) -> int:
    """The 1-based line that sets `prefix.key`, 0 if it cannot be told (a dotted or inline key)."""
    section = ""
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[([^\[\]]+)\]", line):
            section = re.sub(r'[\s"]', "", header[1])
            if section == (f"{prefix}.{key}" if prefix else key):
                return number
        elif section == prefix and re.match(rf'\s*"?{re.escape(key)}"?\s*[=.]', line):
            return number
    return 0
