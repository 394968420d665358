"""An action: one step of the chain, what it depends on, and the record of having done it.

The record is written right after the step, one file each, so that a killed
build forgets nothing it finished and two builds do not disturb each other.
It is believed only if parameters, every input and every output are unchanged.

Invariant: the prints of inputs in a record were taken before the step ran, and
were still true when it ended; what an action reads is what it is recorded with.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from buildsys.cache.fingerprint import MISSING, Print, of_file, of_folder, settled
from buildsys.errors import UserError
from buildsys.files import replace

FORMAT = 1
PARTS = {"parameters", "inputs", "folders", "discovered", "outputs", "facts"}
ATTEMPTS = 3


class Discovered(NamedTuple):
    """Inputs only the step itself can name: files, and folders in which a new file would count."""

    files: tuple[Path, ...] = ()
    folders: tuple[Path, ...] = ()


class Made(NamedTuple):
    """What a run tells: facts worth keeping (JSON), and the inputs it discovered while it ran."""

    facts: Mapping[str, Any] = MappingProxyType({})
    discovered: Discovered = Discovered()


@dataclass(frozen=True)
class Action:
    """One step. `run` makes `outputs` from `inputs`.

    `discover` names the further inputs of a first run, and of one after files came or
    went; others begin with those of the run before. `parameters` is everything else that decides the outcome (JSON).
    """

    name: str
    inputs: tuple[Path, ...]
    outputs: tuple[Path, ...]
    parameters: Mapping[str, Any]
    run: Callable[[], Made]
    discover: Callable[[], Discovered] = Discovered


class Records:
    """The records of one build folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # Prints of what was looked at in this process: the tools, inputs of several
        # actions and large, and what the actions made, which nobody else writes.
        self._seen: dict[str, Print] = {}

    def path(self, name: str) -> Path:
        """Where the record of the action `name` is."""
        return self.folder / f"{name}.json"

    def facts(self, name: str) -> dict[str, Any]:
        """What the last run of the action `name` returned."""
        found: dict[str, Any] = self._read(name).get("facts", {})
        return found

    def forget(self, name: str) -> None:
        """Make the action `name` run next time."""
        self.path(name).unlink(missing_ok=True)

    def stale(self, action: Action) -> str:
        """Why `action` must run, in words; empty if everything is as it was."""
        record = self._read(action.name)
        if not record:
            return "it has not been done before"
        if reason := _changed_parameter(record["parameters"], _plain(action.parameters)):
            return reason
        refreshed: dict[str, dict[str, Print]] = {"inputs": {}, "folders": {}, "outputs": {}}
        inputs = {str(path) for path in action.inputs} | set(record["discovered"])
        if gone := set(record["inputs"]) - inputs:
            return f"{min(gone)} is no longer an input"
        for group, names, look, word in (
            ("inputs", inputs, of_file, "changed"),
            ("folders", record["folders"], of_folder, "has other files in it"),
            ("outputs", [str(path) for path in action.outputs], of_file, "is not what was made"),
        ):
            for name in sorted(names):
                known = _print(record[group].get(name))
                now = look(name, self._seen.get(name, known))
                if now == MISSING:
                    return f"{name} is missing"
                if now[1] != known[1]:
                    return f"{name} {word}" if known != MISSING else f"{name} is a new input"
                refreshed[group][name] = now
        if any(refreshed[group] != {k: _print(v) for k, v in record[group].items()} for group in refreshed):
            with suppress(OSError):  # what was found out need not be kept: it can be found out again
                self._write(action.name, record | refreshed)
        return ""

    def perform(self, action: Action) -> dict[str, Any]:
        """Run `action` and record it; again if an input was edited meanwhile.

        Returns its facts. Raises UserError, having recorded nothing.
        """
        record = self._read(action.name)
        known = {name: _print(each) for group in ("inputs", "folders") for name, each in record.get(group, {}).items()}
        self.forget(action.name)
        found = Discovered(tuple(map(Path, record.get("discovered", ()))), tuple(map(Path, record.get("folders", ()))))
        if not record or any(of_folder(name, known[name])[1] != known[name][1] for name in record["folders"]):
            found = action.discover()
        for _ in range(ATTEMPTS):
            before = self._look(action, found, known)
            made = action.run()
            after = self._look(action, made.discovered, {name: settled(each) for name, each in before.items()})
            if {name: each[1] for name, each in before.items()} == {name: each[1] for name, each in after.items()}:
                break
            found = made.discovered
        else:
            raise UserError(
                f"{action.name}: its inputs change faster than it can read them",
                "stop what keeps writing " + ", ".join(sorted(n for n in after if after[n] != before.get(n))[:3]),
            )
        folders = {str(folder) for folder in found.folders}
        outputs = {str(path): of_file(path) for path in action.outputs}
        self._seen |= outputs
        self._write(
            action.name,
            {
                "parameters": _plain(action.parameters),
                "inputs": {name: each for name, each in before.items() if name not in folders},
                "folders": {name: each for name, each in before.items() if name in folders},
                "discovered": sorted(map(str, found.files)),
                "outputs": outputs,
                "facts": dict(made.facts),
            },
        )
        return dict(made.facts)

    def _look(self, action: Action, found: Discovered, known: Mapping[str, Print]) -> dict[str, Print]:
        files = {str(path) for path in (*action.inputs, *found.files)}
        prints = {name: of_file(name, self._seen.get(name) or known.get(name, MISSING)) for name in files}
        self._seen |= {name: each for name, each in prints.items() if settled(each) == each}
        folders = {str(folder) for folder in found.folders}
        return prints | {name: of_folder(name, known.get(name, MISSING)) for name in folders}

    def _read(self, name: str) -> dict[str, Any]:
        try:
            record = json.loads(self.path(name).read_bytes())
        except (OSError, ValueError):
            return {}
        whole = isinstance(record, dict) and record.get("format") == FORMAT and record.keys() >= PARTS
        return record if whole else {}

    def _write(self, name: str, record: Mapping[str, Any]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        for group in ("inputs", "folders", "outputs"):
            record = {**record, group: {at: settled(_print(each)) for at, each in record[group].items()}}
        replace(self.path(name), json.dumps({"format": FORMAT, **record}).encode())


def _plain(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters as JSON gives them back: tuples are lists."""
    plain: dict[str, Any] = json.loads(json.dumps(parameters))
    return plain


def _print(stored: Iterable[Any] | None) -> Print:
    if stored is None:
        return MISSING
    stat, digest = stored
    return tuple(stat), digest


def _changed_parameter(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    for key in sorted({*before, *now}):
        if before.get(key) != now.get(key):
            return f"{key} was {before.get(key)!r} and is {now.get(key)!r}"
    return ""
