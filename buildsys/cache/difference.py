"""How the present differs from what a record says: all of it, where `Records.stale` stops at the first thing.

It only compares: nothing is written, not even a fresher stat, and nothing is put into words.

Invariant: there is a difference exactly when `Records.stale` has a reason, and the first one is that reason.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from buildsys.cache.fingerprint import MISSING, Print, boot, distrusted, of_file, of_folder

if TYPE_CHECKING:
    from buildsys.cache.action import Action

# How many sets of names are tried when it is not recorded which names a folder had.
TRIALS = 2_000
_ABSENT = object()


class Difference(NamedTuple):
    """One thing that is not as it was recorded. `before` and `after` are JSON; None is "not there".

    ==============  ==============  ==================================  ===============================
    kind            name            before                              after
    ==============  ==============  ==================================  ===============================
    record          the action's    what is wrong with it, None: none   None
    parameter       dotted          the value, None: not set            the value, None: not set
    former input    path            contents                            None: it is an input no longer
    input           path            contents, None: it was none         contents, None: it is missing
    folder          path            names that went, None: not known    names that came, None: not known
    missing folder  path            None                                None
    output          path            contents, None: it was none         contents, None: it is missing
    ==============  ==============  ==================================  ===============================

    Contents are {"sha256": …, "size": in bytes, or None if it is not known}.
    """

    kind: str
    name: str
    before: Any = None
    after: Any = None


def read(path: Path) -> tuple[dict[str, Any], str]:
    """The record at `path`, and what is wrong with it. It is empty if anything is, or if there is none."""
    from buildsys.cache.action import FORMAT, PARTS  # that module may want this one

    try:
        record = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}, ""
    except OSError as error:
        return {}, f"cannot be read: {error.strerror}"
    except ValueError:
        return {}, "is damaged"
    if not isinstance(record, dict):
        return {}, "is damaged"
    if record.get("format") != FORMAT:
        return {}, f"has format {record.get('format')}, where {FORMAT} is written now"
    if lacking := PARTS - record.keys():
        return {}, f"lacks {', '.join(sorted(lacking))}"
    if record["boot"] != boot():
        for group in ("inputs", "folders", "outputs"):
            record[group] = {at: distrusted(_print(each)) for at, each in record[group].items()}
    return record, ""


def differences(
    record: Mapping[str, Any], action: Action, seen: MutableMapping[str, Print] | None = None, wrong: str = ""
) -> list[Difference]:
    """Every difference between `record` and what `action` depends on now.

    The record is empty if there is none; `wrong`, as `read` gives it, says why. `seen`
    keeps the prints of files, for other actions that have the same inputs.
    """
    return list(each(record, action, {} if seen is None else seen, wrong))


def causes(record: Mapping[str, Any], action: Action, seen: MutableMapping[str, Print]) -> list[Difference]:
    """What makes it necessary to do `action`: as `differences`, but outputs only if all else is as it was.

    They are large, and about to be made anew.
    """
    return list(_depended(record, action, seen, "")) or differences(record, action, seen)


def each(
    record: Mapping[str, Any], action: Action, seen: MutableMapping[str, Print], wrong: str = ""
) -> Iterator[Difference]:
    """The differences one by one, in the order of `Records.stale`; what is not asked for is not looked at."""
    yield from _depended(record, action, seen, wrong)
    if record:
        yield from _files("output", map(str, action.outputs), record["outputs"], seen)


def _depended(
    record: Mapping[str, Any], action: Action, seen: MutableMapping[str, Print], wrong: str
) -> Iterator[Difference]:
    if not record:
        yield Difference("record", action.name, wrong or None)
        return
    now = json.loads(json.dumps(action.parameters))  # as a record has them: tuples are lists
    for key in sorted({*record["parameters"], *now}):
        # At the top, not to be set and to be null are the same.
        yield from _values(key, record["parameters"].get(key), now.get(key))
    inputs = {str(path) for path in action.inputs} | set(record["discovered"])
    for name in sorted(set(record["inputs"]) - inputs):
        yield Difference("former input", name, _contents(_print(record["inputs"][name])))
    yield from _files("input", inputs, record["inputs"], seen)
    for name in sorted(record["folders"]):
        yield from _folder(name, record)


def _values(name: str, before: Any, after: Any) -> Iterator[Difference]:
    if before == after:
        return
    if not (isinstance(before, dict) and isinstance(after, dict)):
        yield Difference("parameter", name, *(None if value is _ABSENT else value for value in (before, after)))
        return
    for key in sorted({*before, *after}):
        yield from _values(f"{name}.{key}", before.get(key, _ABSENT), after.get(key, _ABSENT))


def _files(
    kind: str, names: Iterable[str], recorded: Mapping[str, Any], seen: MutableMapping[str, Print]
) -> Iterator[Difference]:
    for name in sorted(names):
        known = _print(recorded.get(name))
        now = seen[name] = of_file(name, seen.get(name, known))
        if now == MISSING or now[1] != known[1]:
            yield Difference(kind, name, _contents(known), _contents(now))


def _folder(name: str, record: Mapping[str, Any]) -> Iterator[Difference]:
    known = _print(record["folders"][name])
    now = of_folder(name, known)
    if now == MISSING:
        yield Difference("missing folder", name)
    elif now[1] != known[1]:
        yield Difference("folder", name, *_names(name, known[1], record))


def _names(folder: str, digest: str, record: Mapping[str, Any]) -> tuple[list[str] | None, list[str] | None]:
    """The names that went from `folder`, and those that came.

    A record keeps the digest of the names it had, and may keep the names themselves.
    Without these, those of the inputs are known; that some others came is tried
    until the digest is right, so what is returned is so, and not just likely.
    """
    try:
        now = {path.name for path in Path(folder).iterdir()}
    except OSError:
        return None, None
    if (held := record.get("names", {}).get(folder)) is not None:
        return sorted(set(held) - now), sorted(now - set(held))
    paths = [Path(name) for name in (*record["inputs"], *record["folders"])]
    inputs = {path.name for path in paths if path.parent == Path(folder)}
    went, others = sorted(inputs - now), sorted(now - inputs)
    some = (list(came) for count in range(len(others) + 1) for came in combinations(others, count))
    for came, _ in zip(some, range(TRIALS), strict=False):
        if _digest(now.union(went).difference(came)) == digest:
            return went, came
    return None, None


def _digest(names: Iterable[str]) -> str:
    """As `fingerprint.of_folder` takes it of a folder with these names."""
    import hashlib

    return hashlib.sha256("\0".join(sorted(names)).encode("utf-8", "surrogateescape")).hexdigest()


def _print(stored: Sequence[Any] | None) -> Print:
    return (tuple(stored[0]), stored[1]) if stored is not None else MISSING


def _contents(known: Print) -> dict[str, Any] | None:
    stat, digest = known
    return {"sha256": digest, "size": stat[0] if stat else None} if digest else None
