"""What is said of one thing that was looked at."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum


class State(Enum):
    """How it is: as wanted, usable with a doubt, or not usable."""

    OK = "ok"
    WARN = "warn"
    MISSING = "missing"


@dataclass(frozen=True)
class Check:
    """One thing. `found` and `wanted` are versions or a few words; `use` what needs it.

    `mend` is the command that helps, or what to set. It `blocks` if the configured kernel cannot be built, run
    and verified without it.
    """

    name: str
    state: State
    found: str
    wanted: str
    use: str
    mend: str = ""
    blocks: bool = False


def numbers(version: str) -> tuple[int, ...]:
    """The numbers a version begins with: (7, 2, 22) for 7.2.22~debian."""
    found = re.match(r"\d+(\.\d+)*", version)
    return tuple(map(int, found[0].split("."))) if found else ()


def meets(version: str, wanted: str) -> bool:
    """Whether `version` is one of `wanted`: clauses of PEP 440, joined by commas, of ==, >=, <=, > and <."""
    found = numbers(version)
    for clause in filter(None, wanted.split(",")):
        sign = re.match(r"\s*(==|>=|<=|>|<)\s*(.+?)\s*$", clause)
        if sign is None:
            return False
        bound = numbers(sign[2])
        width = max(len(found), len(bound))
        ours, theirs = (each + (0,) * (width - len(each)) for each in (found, bound))
        holds = {
            "==": ours == theirs,
            ">=": ours >= theirs,
            "<=": ours <= theirs,
            ">": ours > theirs,
            "<": ours < theirs,
        }
        if not holds[sign[1]]:
            return False
    return bool(found)
