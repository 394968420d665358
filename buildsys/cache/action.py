"""An action: one step of the chain, what it depends on, and the record of having done it.

The record is written right after the step, one file each, so that a killed
build forgets nothing it finished and two builds do not disturb each other.
It is believed only if parameters, every input and every output are unchanged.

What has to be done is first looked for in the caches, by its action key.

Invariant: the prints of inputs in a record were taken before the step ran, and
were still true when it ended; what an action reads is what it is recorded with,
and what its result is kept under. Only one process at a time performs in a
build folder, so that what was made is what this process made.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from buildsys.cache.fingerprint import (
    MISSING,
    Print,
    at_rest,
    boot,
    distrusted,
    of_file,
    of_folder,
    settled,
    stat_of,
    unlinked,
)
from buildsys.cache.lock import Lock, sweep
from buildsys.errors import UserError
from buildsys.files import replace

if TYPE_CHECKING:
    from threading import Thread

    from buildsys.cache.caches import Caches
    from buildsys.cache.key import Places

FORMAT = 2
PARTS = {"parameters", "inputs", "folders", "discovered", "outputs", "facts", "boot", "origin", "because", "when"}
ATTEMPTS = 3
OVERWRITTEN = "is not what was made"  # said of an output
# Where the outcome of an action came from, besides what the caches say.
BUILT, UP_TO_DATE = "built", "up to date"


class Discovered(NamedTuple):
    """Inputs that have to be found out: files, and folders in which a new file would count."""

    files: tuple[Path, ...] = ()
    folders: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Action:
    """One step. `run` makes `outputs` from `inputs` and tells facts worth keeping (JSON).

    `discover` names further inputs, as they are now. `parameters` is everything else that decides the
    outcome (JSON). `kept` actions are looked for in the caches. `tells` names the facts a result must have:
    whoever may write to a shared cache can leave them out. `first` is called before anything is
    made or put in place, while outputs still are what they were.
    """

    name: str
    inputs: tuple[Path, ...]
    outputs: tuple[Path, ...]
    parameters: Mapping[str, Any]
    run: Callable[[], Mapping[str, Any]]
    discover: Callable[[], Discovered] = Discovered
    kept: bool = True
    tells: tuple[str, ...] = ()
    first: Callable[[], object] = lambda: None


class Last(NamedTuple):
    """How an action was last done: `when`, in Unix time.

    Its `origin` is BUILT or what the caches say, `because` what was not as recorded before, by `difference`.
    """

    origin: str
    because: list[list[Any]]
    when: float


class Records:
    """The records of one build folder, and the caches behind them, whose keys name files from `places`.

    `waiting` is called when another process is at work in the folder.
    """

    def __init__(
        self,
        folder: Path,
        caches: Caches | None = None,
        places: Callable[[], Places] | None = None,
        waiting: Callable[[], object] = lambda: None,
    ) -> None:
        self.folder, self.caches = folder, caches
        self._places = places
        self._lock = Lock(folder / "lock", waiting)
        # Prints of what was looked at in this process: the tools, inputs of several
        # actions and large, and what the actions made, which nobody else writes.
        self._seen: dict[str, Print] = {}
        # Prints of files that somebody else sees to: they hold for all that is done here until these are others.
        self.vouched: Mapping[str, Print] = {}
        self._alike: dict[str, Print] = {}  # prints of outputs that are other names of files known already
        self._looking: dict[str, Thread] = {}  # at outputs whose print is being taken
        self._records: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {}  # by name, with the stat of the file

    def path(self, name: str) -> Path:
        """Where the record of the action `name` is."""
        return self.folder / f"{name}.json"

    def facts(self, name: str) -> dict[str, Any]:
        """What the last run of the action `name` returned."""
        found: dict[str, Any] = self._read(name).get("facts", {})
        return found

    def last(self, name: str) -> Last | None:
        """How the action `name` was last done; None if there is no record of that."""
        record = self._read(name)
        return Last(record["origin"], record["because"], record["when"]) if record else None

    def forget(self, name: str) -> None:
        """Make the action `name` be done next time."""
        self.path(name).unlink(missing_ok=True)

    def seen(self, path: Path) -> Print:
        """The print of what an action has just made, or looked at, in this process; MISSING if none did."""
        return self._seen.get(str(path), MISSING)

    def made(self, output: Path) -> None:
        """That an action is done with its `output`: its print is taken while the action goes on with something else."""
        from threading import Thread

        def look() -> None:
            self._alike[str(output)] = of_file(output)

        thread = Thread(target=look, daemon=True)
        thread.start()
        self._looking[str(output)] = thread

    def alike(self, known: Print, name: Path) -> None:
        """That an action has just made its output `name` another name of what `known` is the print of.

        Its contents are then known, too. Nothing is believed that its stat contradicts.
        """
        stat, digest = known
        found = stat_of(name)
        if stat and found and unlinked(found) == unlinked(stat):
            self._alike[str(name)] = ((*found, False), digest)

    def stale(self, action: Action) -> str:
        """Why `action` must be done, in words; empty if everything is as it was."""
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
            ("outputs", [str(path) for path in action.outputs], of_file, OVERWRITTEN),
        ):
            for name in sorted(names):
                known = _print(record[group].get(name))
                now = self.vouched.get(name) or look(name, self._seen.get(name, known))
                if now == MISSING:
                    return f"{name} is missing"
                if now[1] != known[1]:
                    return f"{name} {word}" if known != MISSING else f"{name} is a new input"
                refreshed[group][name] = now if settled(now) == now else known
        if any(refreshed[group] != {k: _print(v) for k, v in record[group].items()} for group in refreshed):
            with suppress(OSError):  # what was found out need not be kept: it can be found out again
                self._write(action.name, record | refreshed)
        return ""

    def perform(self, action: Action) -> dict[str, Any]:
        """Have `action` done, by the caches or by running it, and record it; again if an input was edited meanwhile.

        Returns its facts. Raises UserError, having recorded nothing.
        """
        with self._lock.held() as waited:
            if waited:
                self._seen.clear()
                if not self.stale(action):
                    return self.facts(action.name)
            return self._perform(action)

    def _perform(self, action: Action) -> dict[str, Any]:
        from buildsys.cache.difference import causes

        record = self._read(action.name)
        because = causes(record, action, dict(self._seen))
        known = {name: _print(each) for group in ("inputs", "folders") for name, each in record.get(group, {}).items()}
        self.forget(action.name)
        action.first()
        sweep(self.folder, *{path.parent for path in action.outputs})
        for _ in range(ATTEMPTS):
            found = action.discover()
            before = self._look(action, found, known)
            described = self._described(action, before, found)
            key = _sha256(described) if described else ""
            began = time.time()
            if restored := self._restored(action, key):
                facts, origin = restored
                break
            facts, origin = dict(action.run()), BUILT
            known = {name: settled(each) for name, each in before.items()}
            # What was edited and edited back was not what it is now while it was read: the stat tells that.
            after = self._look(action, action.discover(), known)
            if {name: _seen_as(each) for name, each in before.items()} == {
                name: _seen_as(each) for name, each in after.items()
            }:
                break
        else:
            raise UserError(
                f"{action.name}: its inputs change faster than it can read them",
                "stop what keeps writing " + ", ".join(sorted(n for n in after if after[n] != before.get(n))[:3]),
            )
        folders = {str(folder) for folder in found.folders}
        outputs = {str(path): of_file(path, self._known(str(path))) for path in action.outputs}
        if not self._lock.intact():  # then what is there now may have been made by another process
            raise UserError(f"{self.folder} was removed while {action.name} was at work", "build again")
        self._seen |= outputs
        self._write(
            action.name,
            {
                "parameters": _plain(action.parameters),
                "inputs": {name: each for name, each in before.items() if name not in folders},
                "folders": {name: each for name, each in before.items() if name in folders},
                "discovered": sorted(map(str, found.files)),
                "outputs": outputs,
                "facts": facts,
                "origin": origin,
                "because": because,
                "when": time.time(),
            },
        )
        if origin == BUILT:
            self._keep(action, described, outputs, facts, began)
        return facts

    def _known(self, output: str) -> Print:
        """The print of an output if it is another name of a file known, or was left as it was."""
        if looking := self._looking.pop(output, None):
            looking.join()
        return self._alike.pop(output, None) or settled(self._seen.get(output, MISSING))

    def _look(self, action: Action, found: Discovered, known: Mapping[str, Print]) -> dict[str, Print]:
        files = {str(path) for path in (*action.inputs, *found.files)}
        prints = {}
        for name in sorted(files):
            prints[name] = self.vouched.get(name) or of_file(
                name, self._seen.get(name) or known.get(name) or self._tool(name)
            )
        self._seen |= {name: each for name, each in prints.items() if settled(each) == each}
        if self.caches:
            self.caches.prints.keep({str(path): prints[str(path)] for path in action.inputs})
        folders = {str(folder) for folder in found.folders}
        return prints | {name: of_folder(name, known.get(name, MISSING)) for name in folders}

    def _tool(self, name: str) -> Print:
        return self.caches.prints.get(name) if self.caches else MISSING

    def _described(self, action: Action, before: Mapping[str, Print], found: Discovered) -> bytes:
        """What the action key is the sha256 of; empty if there are no caches to look in."""
        if not (self.caches and self._places and action.kept):
            return b""
        folders = {str(folder) for folder in found.folders}
        inputs = {name: each[1] for name, each in before.items() if name not in folders}
        from buildsys.cache.key import description

        return description(action.name, action.parameters, inputs, action.outputs, self._places())

    def _restored(self, action: Action, key: str) -> tuple[dict[str, Any], str] | None:
        """(facts, origin) of an action whose outputs the caches put in place."""
        found = self.caches.find(key) if self.caches and key else None
        if found is None or not found.result.facts.keys() >= set(action.tells):
            return None
        if self.caches is None or not self.caches.restore(key, found, self._files(action)):
            return None
        return dict(found.result.facts), found.origin

    def _keep(
        self, action: Action, described: bytes, outputs: Mapping[str, Print], facts: Mapping[str, Any], began: float
    ) -> None:
        if not (self.caches and described) or MISSING in outputs.values():
            return
        from buildsys.cache.result import Digest, Output, Result

        made = []
        for name, path in self._files(action).items():
            try:
                status = path.stat()
            except OSError:
                return  # somebody removed it already
            made.append(Output(name, Digest(outputs[str(path)][1], status.st_size), bool(status.st_mode & 0o100)))
        times = (_timestamp(began), _timestamp(time.time()))
        result = Result(tuple(made), facts, os.uname().nodename, *times)
        self.caches.keep(_sha256(described), result, self._files(action), described=described)

    def _files(self, action: Action) -> dict[str, Path]:
        """The outputs by their names in a result: paths from the project's folder."""
        places = self._places() if self._places else None
        return {places.name(path).removeprefix(":"): path for path in action.outputs} if places else {}

    def _read(self, name: str) -> dict[str, Any]:
        """The record of the action `name`, not to be changed: while its file rests it is read once."""
        stat = at_rest(self.path(name))
        known = self._records.get(name)
        if known and known[0] == stat:
            return known[1]
        record = self._parsed(name)
        if stat:
            self._records[name] = stat, record
        return record

    def _parsed(self, name: str) -> dict[str, Any]:
        try:
            record = json.loads(self.path(name).read_bytes())
        except (OSError, ValueError, RecursionError):
            return {}
        if not (isinstance(record, dict) and record.get("format") == FORMAT and record.keys() >= PARTS):
            return {}
        if record["boot"] != boot():
            for group in ("inputs", "folders", "outputs"):
                record[group] = {at: distrusted(_print(each)) for at, each in record[group].items()}
        return record

    def _write(self, name: str, record: Mapping[str, Any]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        for group in ("inputs", "folders", "outputs"):
            record = {**record, group: {at: settled(_print(each)) for at, each in record[group].items()}}
        replace(self.path(name), json.dumps({**record, "format": FORMAT, "boot": boot()}).encode())


def _sha256(data: bytes) -> str:
    from hashlib import sha256

    return sha256(data).hexdigest()


def _timestamp(when: float) -> str:
    """`when`, in Unix time, as RFC 3339 has it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(when))


def _plain(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters as JSON gives them back: tuples are lists."""
    plain: dict[str, Any] = json.loads(json.dumps(parameters))
    return plain


def _print(stored: Iterable[Any] | None) -> Print:
    if stored is None:
        return MISSING
    stat, digest = stored
    return tuple(stat), digest


def _seen_as(found: Print) -> Print:
    """`found` without whether the file rested, which changes while nobody touches it."""
    return found[0][:-1], found[1]


def _changed_parameter(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    for key in sorted({*before, *now}):
        if before.get(key) != now.get(key):
            return f"{key} was {before.get(key)!r} and is {now.get(key)!r}"
    return ""
