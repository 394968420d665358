"""Known causes of crashes: hints.toml, and which of them is to be told."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from buildsys.crash.facts import Facts

FILE = Path(__file__).with_name("hints.toml")


@dataclass(frozen=True)
class Hint:
    """A cause: its `name`, the facts it is told by, what is said of it and what to do."""

    name: str
    when: tuple[str, ...]
    says: str
    do: str


def hints() -> tuple[Hint, ...]:
    """Every hint, in the order in which they are tried."""
    told = tomllib.loads(FILE.read_text("utf-8"))["hint"]
    return tuple(Hint(each["name"], tuple(each["when"]), each["says"], each["do"]) for each in told)


def chosen(known: Sequence[Hint], facts: Facts) -> Hint | None:
    """The first of `known` whose facts are all there, filled in."""
    for each in known:
        if facts.words.issuperset(each.when):
            return Hint(each.name, each.when, each.says.format_map(facts.values), each.do.format_map(facts.values))
    return None
