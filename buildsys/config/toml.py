"""Reading TOML so that every mistake is reported with file, line and nearest valid name."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator
from math import isfinite
from pathlib import Path
from typing import Any

from buildsys.errors import UserError

ALIKE = 0.8  # of the letters of two names, from which on one may be meant to be the other


class Table:
    """One TOML table: typed access to its keys, which remembers what was asked for.

    `refuse_unknown()` then knows every key that means nothing. Keys it has not are looked
    for in the table `behind` it, if there is one.
    """

    def __init__(
        self, path: Path, text: str, values: dict[str, Any], prefix: str = "", behind: Table | None = None
    ) -> None:
        self._path, self._text, self._values, self._prefix = path, text, values, prefix
        self._behind = behind
        self._known: set[str] = set()

    @property
    def path(self) -> Path:
        """The file it is in."""
        return self._path

    @property
    def prefix(self) -> str:
        """What messages put before its keys: "tool.buildsys."."""
        return self._prefix

    def before(self, other: Table) -> Table:
        """The same table, with the keys of `other` for those it has not."""
        return Table(self._path, self._text, self._values, self._prefix, other)

    def __iter__(self) -> Iterator[str]:
        """The keys the file has."""
        return iter(self._values)

    def has(self, key: str) -> bool:
        """Whether the file sets `key`."""
        self._known.add(key)
        return key in self._values or (self._behind is not None and self._behind.has(key))

    def table(self, key: str) -> Table:
        """The sub-table `key`; an empty one if the file has none, nor one that looks misspelt."""
        if self._behind is not None and (self._is_behind(key) or not (key in self._values or self._alike(key))):
            self._known.add(key)
            return self._behind.table(key)
        if key not in self._values and (alike := self._alike(key)):
            raise self.error(key, "is missing", alike)
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
        """The finite number at `key`."""
        value = self._get(key, (int, float), "a number", default)
        try:
            if isfinite(value):
                return float(value)
        except OverflowError:  # TOML's integers have no bound in Python
            pass
        raise self.error(key, "must be a finite number")

    def strings(self, key: str, default: tuple[str, ...] = ()) -> list[str]:
        """The list of strings at `key`."""
        values: list[str] = self._get(key, list, "a list of strings", list(default))
        for value in values:
            if not isinstance(value, str):
                raise self.error(key, f"must be a list of strings, {value!r} is not one")
        return values

    def values(self, key: str, default: list[Any]) -> list[Any]:
        """The list at `key`, of whatever it is."""
        found: list[Any] = self._get(key, list, "a list", default)
        return found

    def any(self, key: str) -> object:
        """Whatever is at `key`, None if nothing is."""
        self._known.add(key)
        return self._values.get(key)

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
        if self._is_behind(key) and self._behind:
            return self._behind.error(key, problem, hint)
        return UserError(f"{self._at(key)}: `{self._prefix}{key}` {problem}", hint)

    def name(self, key: str) -> str:
        """`key` with the tables it is in."""
        return f"{self._prefix}{key}"

    def where(self, key: str) -> str:
        """File, line and key, to begin a message with."""
        if self._is_behind(key) and self._behind:
            return self._behind.where(key)
        return f"{self._at(key)}: `{self._prefix}{key}`"

    def _get(self, key: str, kind: type | tuple[type, ...], words: str, default: Any) -> Any:
        self._known.add(key)
        if self._behind is not None:
            self._behind._known.add(key)
            if self._is_behind(key) or (key not in self._values and not self._alike(key)):
                return self._behind._get(key, kind, words, default)
        if key not in self._values:
            if default is None:
                raise self.error(key, "is missing", self._alike(key) or f"it must be {words}")
            return default
        value = self._values[key]
        if not isinstance(value, kind) or isinstance(value, bool):
            raise self.error(key, f"must be {words}, not {value!r}")
        return value

    def _is_behind(self, key: str) -> bool:
        """Whether it is the table behind this one that sets `key`."""
        return key not in self._values and self._behind is not None and key in self._behind._values

    def _alike(self, key: str) -> str:
        """A hint naming the key nobody asked for that is most like `key`; empty if none is."""
        unknown = [name for name in self._values if name not in self._known and _may_be_alike(key, name)]
        if not unknown:
            return ""
        from difflib import get_close_matches

        near = get_close_matches(key, unknown, 1, ALIKE)
        return f"is `{self._prefix}{near[0]}` meant to be it?" if near else ""

    def _at(self, key: str) -> str:
        """File and line of `key`, or of this table's header if the file does not set it."""
        table = self._prefix.rstrip(".")
        line = _line_of(self._text, table, key) or _line_of(self._text, *_parent(table))
        return f"{self._path}:{line}" if line else str(self._path)


def _may_be_alike(one: str, other: str) -> bool:
    """Whether two names have so many letters in common that difflib is worth loading (its own quick_ratio)."""
    common = sum((Counter(one) & Counter(other)).values())
    return 2 * common >= ALIKE * (len(one) + len(other))


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint naming the known name closest to `name`, or all of them."""
    from difflib import get_close_matches

    near = get_close_matches(name, list(known), 1)
    return f"did you mean `{near[0]}`?" if near else "known: " + ", ".join(sorted(known))


def read(path: Path) -> Table:
    """The whole of a TOML file. Raises UserError if it is missing or is not TOML."""
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not UTF-8: {error.reason} at byte {error.start}") from error
    try:
        return Table(path, text, tomllib.loads(text))
    except ValueError as error:
        place = re.search(r" \(at line (\d+), column \d+\)$", str(error))
        line = place[1] if place else text.count("\n") + 1
        raise UserError(f"{path}:{line}: {error}", "the file is not valid TOML") from error
    except RecursionError as error:
        raise UserError(f"{path}: its values are nested too deeply") from error


def _parent(table: str) -> tuple[str, str]:
    """The dotted name of a table, split before its last part."""
    before, _, name = table.rpartition(".")
    return before, name


def _line_of(text: str, prefix: str, key: str) -> int:
    """The 1-based line that sets `prefix.key`, 0 if it cannot be told (a dotted or inline key)."""
    section = ""
    for number, line in enumerate(text.split("\n"), 1):
        if header := re.match(r"\s*\[\[?([^\[\]]+)\]", line):
            section = re.sub(r'[\s"]', "", header[1])
            if section == (f"{prefix}.{key}" if prefix else key):
                return number
        elif section == prefix and re.match(rf'\s*"?{re.escape(key)}"?\s*[=.]', line):
            return number
    return 0
