"""Differences from a record in words, those that are one thing to a user as one reason."""

from __future__ import annotations

import json
import re
from collections.abc import Container, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from buildsys.cache.difference import Difference
from buildsys.config.project import PACKAGE

SHOWN = 10
DIGITS = 12
GO_TREE = re.compile(r"(.+)/(bin/go|VERSION|pkg/tool/[^/]+/[a-z_]+)")


class Reason(NamedTuple):
    """`what` is other than it was; `values` says how, old → new, if there is something to say."""

    what: str
    values: str = ""


def reasons(differences: Sequence[Difference], tools: Container[str], past: bool = False) -> list[Reason]:
    """Why a step is done that has these differences from its record, or was; `tools` are programs, by path."""
    rest = list(differences)
    # Each takes what it has words for.
    found = [*_records(rest, past), *_parameters(rest), *_go_tree(rest), *_buildsys(rest), *_tools(rest, tools)]
    return [*found, *_folders(rest), *_few(_inputs(rest)), *_outputs(rest)]


def _take(rest: list[Difference], *kinds: str) -> list[Difference]:
    taken = [each for each in rest if each.kind in kinds]
    rest[:] = [each for each in rest if each.kind not in kinds]
    return taken


def _records(rest: list[Difference], past: bool) -> Iterator[Reason]:
    for each in _take(rest, "record"):
        if each.before:
            yield Reason(f"its record {each.before}")
        else:
            yield Reason(f"there {'was' if past else 'is'} no record of it: never done, or not to its end")


def _parameters(rest: list[Difference]) -> Iterator[Reason]:
    for each in _take(rest, "parameter"):
        before, after = _value(each.before), _value(each.after)
        if before == after:  # 1 and "1", say
            before, after = json.dumps(each.before), json.dumps(each.after)
        yield Reason(f"{each.name} changed", f"{before} → {after}")


def _go_tree(rest: list[Difference]) -> Iterator[Reason]:
    """That Go is taken from elsewhere, which takes all its programs out of the inputs and others in."""
    old = {
        match[2]: match[1] for each in rest if each.kind == "former input" and (match := GO_TREE.fullmatch(each.name))
    }
    new = {match[2]: match[1] for each in rest if each.kind == "input" and (match := GO_TREE.fullmatch(each.name))}
    if "bin/go" in old and "bin/go" in new:
        before, after = old["bin/go"], new["bin/go"]
        yield Reason("Go is another one", f"{_shown(before)} → {_shown(after)}")
        trees = {before, after}
        rest[:] = [each for each in rest if not ((match := GO_TREE.fullmatch(each.name)) and match[1] in trees)]


def _buildsys(rest: list[Difference]) -> Iterator[Reason]:
    """That we are not who we were."""
    ours = [each for each in rest if "input" in each.kind and Path(each.name).is_relative_to(PACKAGE)]
    rest[:] = [each for each in rest if each not in ours]
    if len(ours) == 1:
        reason = _file(ours[0], Path(ours[0].name).relative_to(PACKAGE).as_posix())
        yield Reason(f"buildsys itself changed: {reason.what.removesuffix(' changed')}", reason.values)
    elif ours:
        names = [Path(each.name).relative_to(PACKAGE).as_posix() for each in ours]
        more = f" and {len(names) - SHOWN} more modules" if len(names) > SHOWN else ""
        yield Reason("buildsys itself changed", ", ".join(names[:SHOWN]) + more)


def _tools(rest: list[Difference], tools: Container[str]) -> Iterator[Reason]:
    ours = [each for each in rest if each.kind == "input" and each.name in tools]
    rest[:] = [each for each in rest if each not in ours]
    for each in ours:
        yield _file(each, f"tool {_shown(each.name)}")


def _folders(rest: list[Difference]) -> Iterator[Reason]:
    told = {each.name for each in rest if "input" in each.kind}
    for each in _take(rest, "missing folder"):
        told.add(each.name)
        within = [other for other in rest if other.kind == "input" and each.name in map(str, Path(other.name).parents)]
        rest[:] = [other for other in rest if other not in within]
        inputs = f", with {len(within)} input{'s' * (len(within) > 1)}" if within else ""
        yield Reason(f"the folder {_shown(each.name)} is missing{inputs}")
    for each in _take(rest, "folder"):
        if each.before is None or each.after is None:
            yield Reason(f"{_shown(each.name)} has other names in it; which came or went is not recorded")
            continue
        for names, what in ((each.before, "gone"), (each.after, "new")):
            paths = [str(Path(each.name) / name) for name in names]
            yield from (Reason(f"{_shown(path)} is {what}") for path in paths if path not in told)


def _inputs(rest: list[Difference]) -> list[Reason]:
    return [_file(each, _shown(each.name)) for each in _take(rest, "input", "former input")]


def _outputs(rest: list[Difference]) -> Iterator[Reason]:
    outputs = _take(rest, "output")
    missing = [_shown(each.name) for each in outputs if each.after is None]
    if len(missing) == 1:
        yield Reason(f"{missing[0]}, which it makes, is missing")
    elif missing:
        yield Reason("of what it makes there is missing", ", ".join(missing))
    for each in outputs:
        if each.before is None and each.after is not None:
            yield Reason(f"{_shown(each.name)} was not made by it", _contents(each.after))
        elif each.after is not None:
            yield Reason(f"{_shown(each.name)} is not what was made", _change(each.before, each.after))


def _file(each: Difference, name: str) -> Reason:
    was = f"was {_contents(each.before)}" if each.before else ""
    if each.kind == "former input":
        return Reason(f"{name} is no longer an input", was)
    if each.after is None:
        return Reason(f"{name} is missing", was)
    if each.before is None:
        return Reason(f"{name} is a new input", _contents(each.after))
    return Reason(f"{name} changed", _change(each.before, each.after))


def _few(found: list[Reason]) -> list[Reason]:
    if len(found) <= SHOWN + 1:
        return found
    return [*found[:SHOWN], Reason(f"and {len(found) - SHOWN} more inputs; `doit why --json` has them all")]


def _change(before: dict[str, Any], after: dict[str, Any]) -> str:
    """Old → new: the first digits of the sha256, and bytes."""
    old, new = (None if each["size"] is None else f"{each['size']:,}" for each in (before, after))
    size = new if old == new else f"{old} → {new}" if old else f"now {new}"
    return f"{before['sha256'][:DIGITS]} → {after['sha256'][:DIGITS]}, {size} bytes"


def _contents(contents: dict[str, Any]) -> str:
    size = "" if contents["size"] is None else f", {contents['size']:,} bytes"
    return f"{contents['sha256'][:DIGITS]}{size}"


def _value(value: Any) -> str:
    """A parameter as TOML has it, without quotes where none are needed; an address in hexadecimal."""
    if value is None:
        return "not set"
    if isinstance(value, str) and re.fullmatch(r"[\w./+=-]+", value):
        return value
    if type(value) is int and value >= 1 << 16:
        return f"{value:#x}"
    return json.dumps(value, ensure_ascii=False)


def _shown(name: str) -> str:
    """A path as it is seen from the working folder, if it lies in there."""
    path = Path(name)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else name
