"""A step runs when, and only when, something it depends on is not what it was when the step last ended."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buildsys.cache import action as module
from buildsys.cache import fingerprint
from buildsys.cache.action import BUILT, Action, Discovered, Records
from buildsys.cache.caches import RESTORED, Caches, Found
from buildsys.cache.key import Places
from buildsys.cache.result import Result
from buildsys.config.caching import Caching
from buildsys.errors import UserError

from .test_fingerprint import settle


class Step:
    """An action that copies what `source` and every file of `more` hold to `result`, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.source, self.more, self.result = folder / "source", folder / "more", folder / "result"
        self.done = folder / "done"
        self.more.mkdir(parents=True)
        self.source.write_text("one")
        self.runs = 0
        self.meanwhile: Callable[[], object] = lambda: None
        self.parameters: Mapping[str, Any] = {"level": 1}

    @property
    def records(self) -> Records:
        """As a new process would have it."""
        return Records(self.done)

    @property
    def action(self) -> Action:
        return Action("step", (self.source,), (self.result,), self.parameters, self.run, self.discover)

    def discover(self) -> Discovered:
        return Discovered(tuple(sorted(self.more.iterdir())), (self.more,))

    def run(self) -> dict[str, Any]:
        self.runs += 1
        found = self.discover()
        self.result.write_text("".join(path.read_text() for path in (self.source, *found.files)))
        self.meanwhile()
        return {"runs": self.runs}

    def perform(self) -> None:
        self.records.perform(self.action)
        assert self.stale() == ""

    def stale(self) -> str:
        return self.records.stale(self.action)


@pytest.fixture
def step(tmp_path: Path) -> Step:
    return Step(tmp_path / "step")


@pytest.fixture
def done(step: Step) -> Step:
    """A step that was done, some time ago."""
    step.perform()
    settle()
    assert step.stale() == ""
    return step


def test_a_step_never_done_is_stale(step: Step) -> None:
    assert step.stale() == "it has not been done before"


def test_a_step_done_is_not_stale_and_its_facts_are_kept(step: Step) -> None:
    assert step.records.facts("step") == {}
    assert step.records.perform(step.action) == {"runs": 1}
    assert step.stale() == ""
    assert step.records.facts("step") == {"runs": 1}
    assert step.runs == 1


def test_other_contents_with_the_same_size_and_time_are_noticed(done: Step) -> None:
    status = done.source.stat()
    done.source.write_text("two")
    os.utime(done.source, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert done.stale() == f"{done.source} changed"


def digest_of_another_name(step: Step, meanwhile: Callable[[Path], object]) -> str:
    """What is recorded of an output that is another name of what a step before it made, `meanwhile` being over."""
    records, made = step.records, step.result.with_name("made")

    def make() -> dict[str, Any]:
        made.write_bytes(b"contents")
        return {}

    def link() -> dict[str, Any]:
        step.result.unlink(missing_ok=True)
        step.result.hardlink_to(made)
        meanwhile(step.result)
        records.alike(records.seen(made), step.result)
        return {}

    records.perform(Action("before", (step.source,), (made,), {}, make))
    records.perform(Action("step", (step.source,), (step.result,), {}, link))
    found: str = json.loads(records.path("step").read_bytes())["outputs"][str(step.result)][1]
    return found


def test_another_name_of_what_was_made_is_not_read_again(step: Step, monkeypatch: pytest.MonkeyPatch) -> None:
    digest, read = fingerprint._digest, list[str]()

    def noted(path: Path | str) -> str:
        read.append(Path(path).name)
        return digest(path)

    monkeypatch.setattr(fingerprint, "_digest", noted)
    assert digest_of_another_name(step, lambda path: None) == hashlib.sha256(b"contents").hexdigest()
    assert "made" in read
    assert "result" not in read


def overwrite(path: Path) -> None:
    path.write_bytes(b"nonsense")


def exchange(path: Path) -> None:
    path.unlink()
    path.write_bytes(b"nonsense")


@pytest.mark.parametrize("meanwhile", [overwrite, exchange])
def test_another_name_is_read_if_it_is_no_longer_that(step: Step, meanwhile: Callable[[Path], object]) -> None:
    def later(path: Path) -> None:
        settle()
        meanwhile(path)

    assert digest_of_another_name(step, later) == hashlib.sha256(b"nonsense").hexdigest()


def digest_of_what_was_made(step: Step, meanwhile: Callable[[Path], object]) -> str:
    """The sha256 recorded of an output whose print was begun to be taken, and `meanwhile` happened to it."""
    records = step.records

    def make() -> dict[str, Any]:
        step.result.write_text("contents")
        records.made(step.result)
        meanwhile(step.result)
        return {}

    records.perform(Action("step", (step.source,), (step.result,), {}, make))
    found: str = json.loads(records.path("step").read_bytes())["outputs"][str(step.result)][1]
    return found


def test_what_was_made_is_read_while_the_step_goes_on(step: Step, monkeypatch: pytest.MonkeyPatch) -> None:
    digest, readers = fingerprint._digest, list[threading.Thread]()

    def noted(path: Path | str) -> str:
        if Path(path).name == "result":
            readers.append(threading.current_thread())
        return digest(path)

    monkeypatch.setattr(fingerprint, "_digest", noted)
    assert digest_of_what_was_made(step, lambda path: None) == hashlib.sha256(b"contents").hexdigest()
    assert len(readers) == 1
    assert readers[0] is not threading.current_thread()


@pytest.mark.parametrize("change", [overwrite, exchange])
def test_what_was_made_is_read_again_if_it_changed(step: Step, change: Callable[[Path], object]) -> None:
    def later(path: Path) -> None:
        settle()
        change(path)

    assert digest_of_what_was_made(step, later) == hashlib.sha256(b"nonsense").hexdigest()


def test_a_record_at_rest_is_read_once_and_again_when_it_is_another(
    done: Step, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle()
    records, read = done.records, list[str]()
    parsed = Records._parsed

    def noted(self: Records, name: str) -> dict[str, Any]:
        read.append(name)
        return parsed(self, name)

    monkeypatch.setattr(Records, "_parsed", noted)
    path = records.path("step")
    assert [records.facts("step") for _ in range(3)] == [{"runs": 1}] * 3
    assert read == ["step"]
    text, times = path.read_text(), (path.stat().st_atime_ns, path.stat().st_mtime_ns)
    for other in (2, 3):  # of the same size, each at once behind the other, and with the time of the first
        path.write_text(text.replace('"runs": 1', f'"runs": {other}'))
        os.utime(path, ns=times)
        assert records.facts("step") == {"runs": other}
    path.unlink()
    assert records.facts("step") == {}


def test_a_file_edited_and_restored_is_not_stale(done: Step) -> None:
    done.source.write_text("two")
    assert done.stale()
    done.source.write_text("one")
    assert done.stale() == ""


def test_a_touch_is_no_change_and_is_read_once(done: Step, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in (done.source, done.result):
        os.utime(path)
    settle()
    assert done.stale() == ""
    monkeypatch.setattr(fingerprint, "_digest", lambda path: pytest.fail(f"{path} was read again"))
    assert done.stale() == ""


def test_a_deleted_input_is_noticed_and_so_is_its_return(done: Step) -> None:
    done.source.unlink()
    assert done.stale() == f"{done.source} is missing"
    done.source.write_text("one")
    assert done.stale() == ""


def test_a_deleted_output_is_made_again(done: Step) -> None:
    done.result.unlink()
    assert done.stale() == f"{done.result} is missing"
    done.perform()
    assert done.result.read_text() == "one"


def test_a_corrupted_output_is_made_again(done: Step) -> None:
    done.result.write_text("eno")
    assert done.stale() == f"{done.result} is not what was made"
    done.perform()
    assert done.result.read_text() == "one"


def test_a_new_file_in_a_watched_folder_is_noticed(done: Step) -> None:
    (done.more / "a").write_text("A")
    assert done.stale() == f"{done.more} has other files in it"
    done.perform()
    assert done.result.read_text() == "oneA"
    assert done.runs == 2  # it was known what the new file is before the step ran
    (done.more / "a").unlink()
    done.perform()
    assert done.runs == 3


def test_a_file_found_by_the_step_is_an_input(done: Step) -> None:
    (done.more / "a").write_text("A")
    done.perform()
    (done.more / "a").write_text("B")
    assert done.stale() == f"{done.more / 'a'} changed"
    done.perform()
    (done.more / "a").unlink()
    assert done.stale()
    done.perform()
    assert done.result.read_text() == "one"


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ({"level": 2}, "level was 1 and is 2"),
        ({}, "level was 1 and is None"),
        ({"level": 1, "tags": ("a",)}, "tags was None and is ['a']"),
        ({"level": "1"}, "level was 1 and is '1'"),
    ],
)
def test_another_parameter_is_named_with_both_values(done: Step, parameters: Mapping[str, Any], reason: str) -> None:
    done.parameters = parameters
    assert done.stale() == reason


def test_a_tuple_is_the_same_as_when_it_was_recorded(step: Step) -> None:
    step.parameters = {"tags": ("a", "b"), "nested": {"x": (1, 2)}}
    step.perform()


def test_an_input_more_or_less_is_noticed(done: Step) -> None:
    other = done.source.with_name("other")
    other.write_text("x")
    action = done.action
    assert done.records.stale(replace(action, inputs=(done.source, other))) == f"{other} is a new input"
    assert done.records.stale(replace(action, inputs=())) == f"{done.source} is no longer an input"


def test_an_output_more_is_noticed(done: Step) -> None:
    other = done.source.with_name("other")
    action = replace(done.action, outputs=(done.result, other))
    assert done.records.stale(action) == f"{other} is missing"
    other.write_text("x")
    assert done.records.stale(action)


def test_an_input_edited_while_the_step_runs_makes_it_run_again(step: Step) -> None:
    def edit_once() -> None:
        if step.runs == 1:
            step.source.write_text("two")

    step.meanwhile = edit_once
    step.perform()
    assert step.runs == 2
    assert step.result.read_text() == "two"


def test_a_file_added_while_the_step_runs_makes_it_run_again(step: Step) -> None:
    def add_once() -> None:
        if step.runs == 1:
            (step.more / "late").write_text("L")

    step.meanwhile = add_once
    step.perform()
    assert step.result.read_text() == "oneL"


def test_an_input_that_never_rests_is_an_error_and_nothing_is_recorded(step: Step) -> None:
    step.meanwhile = lambda: step.source.write_text(str(step.runs))
    with pytest.raises(UserError) as caught:
        step.records.perform(step.action)
    assert caught.value.message == "step: its inputs change faster than it can read them"
    assert str(step.source) in caught.value.hint
    assert step.stale() == "it has not been done before"


@pytest.mark.parametrize("error", [UserError("no"), KeyboardInterrupt(), OSError("disk")])
def test_a_step_that_failed_is_stale_though_it_had_been_done(done: Step, error: BaseException) -> None:
    def fail() -> None:
        raise error

    done.meanwhile = fail
    with pytest.raises(type(error)):
        done.records.perform(done.action)
    assert done.stale() == "it has not been done before"
    assert done.result.read_text() == "one"


KILLED = """
import os, sys
from pathlib import Path
from tests.cache.test_action import Step
step = Step.__new__(Step)
step.__dict__.update({folder})
step.meanwhile = lambda: os._exit(9)
step.records.perform(step.action)
"""


def test_a_step_killed_before_it_was_recorded_runs_again(done: Step) -> None:
    done.source.write_text("two")
    values = {
        key: f"Path({str(value)!r})" if isinstance(value, Path) else repr(value)
        for key, value in vars(done).items()
        if key != "meanwhile"
    }
    source = KILLED.format(folder="{" + ", ".join(f"{key!r}: {value}" for key, value in values.items()) + "}")
    ended = subprocess.run([sys.executable, "-c", source], cwd=Path(__file__).parents[2], check=False)
    assert ended.returncode == 9
    assert done.result.read_text() == "two"  # all done but for the record
    assert done.stale() == "it has not been done before"
    assert not list(done.done.glob("*.partial"))


def test_two_builds_in_one_folder_see_each_others_records(done: Step) -> None:
    first, second = done.records, done.records
    done.source.write_text("two")
    assert first.stale(done.action)
    assert second.stale(done.action)
    first.perform(done.action)
    assert second.stale(done.action) == ""
    second.forget("step")
    assert first.stale(done.action) == "it has not been done before"


def test_the_record_of_one_step_is_not_that_of_another(done: Step) -> None:
    other = replace(done.action, name="other")
    assert done.records.stale(other) == "it has not been done before"
    done.records.perform(other)
    done.records.forget("other")
    assert done.stale() == ""


@pytest.mark.parametrize("damage", ["", "{", "[]", "null", "3", '"x"', '{"format": 0}', "\0", '{"format": 1}'])
def test_a_damaged_record_is_no_record(done: Step, damage: str) -> None:
    done.records.path("step").write_text(damage)
    assert done.stale() == "it has not been done before"
    assert done.records.facts("step") == {}
    done.perform()
    assert done.runs == 2


@pytest.mark.parametrize("group", ["inputs", "folders", "outputs", "parameters", "discovered", "boot", "origin"])
def test_a_record_that_lacks_a_part_is_no_record(done: Step, group: str) -> None:
    path = done.records.path("step")
    record = json.loads(path.read_text())
    del record[group]
    path.write_text(json.dumps(record))
    assert done.stale() == "it has not been done before"
    done.perform()


# A loss of power: a file has the size and times it was given, and not what was written to it.


def lost(step: Step, path: Path) -> None:
    """Make the contents of `path` others, and its record what it would be had they been written long before."""
    path.write_bytes(bytes(path.stat().st_size))
    settle()
    record = json.loads(step.records.path("step").read_text())
    for group in ("inputs", "outputs"):
        if str(path) in record[group]:
            record[group][str(path)][0] = list(fingerprint.of_file(path)[0])
    step.records.path("step").write_text(json.dumps(record))


@pytest.mark.parametrize("name", ["source", "result"])
def test_after_a_start_of_the_machine_contents_are_compared(
    done: Step, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path: Path = getattr(done, name)
    lost(done, path)
    assert done.stale() == ""  # so it would be without a start: the stat is right
    monkeypatch.setattr(module, "boot", lambda: "another")
    assert done.stale().startswith(str(path))
    done.perform()
    assert done.result.read_bytes() == done.source.read_bytes()


def test_after_a_start_of_the_machine_contents_are_compared_once(done: Step, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in (done.source, done.result):
        os.utime(path)
    settle()
    assert done.stale() == ""
    monkeypatch.setattr(module, "boot", lambda: "another")
    digest, read = fingerprint._digest, []

    def count(path: Path | str) -> str:
        read.append(Path(path))
        return digest(path)

    monkeypatch.setattr(fingerprint, "_digest", count)
    assert done.stale() == ""
    assert sorted(read) == [done.result, done.source]
    assert done.stale() == ""
    assert len(read) == 2


def test_what_is_no_file_any_more_is_not_waited_for(done: Step) -> None:
    for path in (done.result, done.source):
        path.unlink()
        os.mkfifo(path)
        assert done.stale() == f"{path} is missing"


# Several builds in one folder.

FORK = multiprocessing.get_context("fork")


def _other_build(step: Step, pipe: Connection) -> None:
    """Perform the step, telling when it runs and waiting until something is said."""

    def meanwhile() -> None:
        pipe.send("runs")
        pipe.recv()

    step.meanwhile = meanwhile
    step.records.perform(step.action)


@pytest.fixture
def other_build(step: Step) -> Iterator[tuple[Any, Connection]]:
    """Another process in whose hands the step is just now."""
    here, there = FORK.Pipe()
    process = FORK.Process(target=_other_build, args=(step, there))
    process.start()
    assert here.poll(30)
    assert here.recv() == "runs"
    yield process, here
    process.kill()
    process.join()


def test_a_build_waits_for_another_and_finds_the_work_done(step: Step, other_build: tuple[Any, Connection]) -> None:
    process, pipe = other_build
    told: list[str] = []

    def waiting() -> None:
        told.append("waits")
        pipe.send("go on")

    assert Records(step.done, waiting=waiting).perform(step.action) == {"runs": 1}
    process.join()
    assert (process.exitcode, told, step.runs) == (0, ["waits"], 0)
    assert step.stale() == ""


def test_a_build_that_waited_for_another_of_other_sources_does_its_own(
    step: Step, other_build: tuple[Any, Connection]
) -> None:
    process, pipe = other_build

    def waiting() -> None:
        pipe.send("go on")
        process.join()
        step.source.write_text("two")

    Records(step.done, waiting=waiting).perform(step.action)
    assert (process.exitcode, step.runs, step.result.read_text()) == (0, 1, "two")


def test_a_build_that_waited_for_one_that_was_killed_does_the_work(
    step: Step, other_build: tuple[Any, Connection]
) -> None:
    process, _ = other_build
    assert Records(step.done, waiting=process.kill).perform(step.action) == {"runs": 1}
    assert step.runs == 1
    assert step.stale() == ""


def test_a_build_whose_folder_is_removed_fails_and_records_nothing(step: Step) -> None:
    step.meanwhile = lambda: shutil.rmtree(step.done)
    with pytest.raises(UserError) as caught:
        step.records.perform(step.action)
    assert caught.value.message == f"{step.done} was removed while step was at work"
    assert caught.value.hint == "build again"
    assert step.stale() == "it has not been done before"


def test_what_killed_builds_left_beside_outputs_and_records_is_removed(step: Step) -> None:
    dead = FORK.Process(target=os.getpid)
    dead.start()
    dead.join()
    left = [folder / f"x.{dead.pid}.partial" for folder in (step.result.parent, step.done)]
    others = [folder / f"x.{os.getpid()}.partial" for folder in (step.result.parent, step.done)]
    step.done.mkdir()
    for path in left + others:
        path.write_text("half")
    step.perform()
    assert not any(path.exists() for path in left)
    assert all(path.exists() for path in others)


# With caches behind the records.


class Cached(Step):
    """A step whose results are kept in `store`."""

    def __init__(self, folder: Path, store: Path) -> None:
        super().__init__(folder)
        self.folder, self.store = folder, store
        self.told: list[str] = []
        self.kept = True

    @property
    def caches(self) -> Caches:
        return Caches(Caching(self.store, 10**9))

    @property
    def action(self) -> Action:
        return replace(super().action, kept=self.kept)

    def run(self) -> dict[str, Any]:
        facts = super().run()
        self.result.chmod(0o755)
        return facts

    def with_caches(self, caches: Caches) -> None:
        """Perform the step and wait until its result is kept."""
        Records(self.done, caches, lambda: Places(self.folder)).perform(self.action)
        self.told += caches.settle()
        assert self.stale() == ""
        assert self.result.read_text() == "".join(
            path.read_text() for path in (self.source, *sorted(self.more.iterdir()))
        )

    def perform(self) -> None:
        self.with_caches(self.caches)

    @property
    def origin(self) -> str:
        last = self.records.last("step")
        return last.origin if last else "none"


@pytest.fixture
def here(tmp_path: Path) -> Cached:
    return Cached(tmp_path / "here", tmp_path / "store")


@pytest.fixture
def there(tmp_path: Path) -> Cached:
    return Cached(tmp_path / "elsewhere" / "there", tmp_path / "store")


def test_what_one_folder_built_is_restored_in_another(here: Cached, there: Cached) -> None:
    here.perform()
    there.perform()
    assert (here.runs, here.origin) == (1, BUILT)
    assert (there.runs, there.origin) == (0, RESTORED)
    assert there.records.facts("step") == {"runs": 1}
    assert there.result.stat().st_mode & 0o777 == 0o755
    assert here.told == there.told == []


def test_a_record_tells_how_and_when_and_why_a_step_was_done(here: Cached) -> None:
    assert here.records.last("step") is None
    before = time.time()
    here.perform()
    first = here.records.last("step")
    here.source.write_text("two")
    here.perform()
    second = here.records.last("step")
    assert first is not None
    assert second is not None
    assert (first.origin, second.origin) == (BUILT, BUILT)
    assert before <= first.when <= second.when <= time.time()
    assert first.because != second.because
    assert str(here.source) in json.dumps(second.because)
    assert here.stale() == ""
    assert here.records.last("step") == second


def test_a_state_there_was_before_is_restored(here: Cached) -> None:
    for text in ("one", "two", "one", "two"):
        here.source.write_text(text)
        here.perform()
    assert (here.runs, here.origin) == (2, RESTORED)


@pytest.mark.parametrize("name", ["source", "added", "removed", "renamed", "parameter", "swapped"])
def test_what_differs_in_anything_is_not_restored(here: Cached, there: Cached, name: str) -> None:
    for step in (here, there):
        (step.more / "a").write_text("A")
        (step.more / "b").write_text("B")
    here.perform()
    if name == "source":
        there.source.write_text("two")
    elif name == "added":
        (there.more / "c").write_text("")
    elif name == "removed":
        (there.more / "b").unlink()
    elif name == "renamed":
        (there.more / "b").rename(there.more / "c")
    elif name == "parameter":
        there.parameters = {"level": 2}
    else:
        (there.more / "a").write_text("B")
        (there.more / "b").write_text("A")
    there.perform()
    assert (there.runs, there.origin) == (1, BUILT)


def test_an_action_that_is_not_to_be_kept_is_not(here: Cached, there: Cached) -> None:
    here.kept = there.kept = False
    here.perform()
    there.perform()
    assert there.runs == 1
    assert not (here.store / "ac").exists()


def test_an_output_that_was_overwritten_is_restored(here: Cached) -> None:
    here.perform()
    here.result.write_text("eno")
    assert here.stale()
    here.perform()
    assert (here.runs, here.origin) == (1, RESTORED)


def test_damaged_contents_are_told_and_made_again(here: Cached, there: Cached) -> None:
    here.perform()
    [blob] = [path for path in (here.store / "cas").glob("*/*") if path.read_text() == "one"]
    blob.write_text("eno")
    there.perform()
    assert (there.runs, there.told) == (1, [f"{blob}: is not what was stored, and was dropped"])
    here.records.forget("step")
    here.perform()
    assert (here.origin, here.told) == (RESTORED, [])


class PrunedMeanwhile(Caches):
    """Caches whose store is pruned by another build just when a result was found."""

    def find(self, key: str) -> Found | None:
        found = super().find(key)
        self.store.prune(0)
        return found


def test_what_is_pruned_between_being_found_and_restored_is_made_again(here: Cached, there: Cached) -> None:
    here.perform()
    there.with_caches(PrunedMeanwhile(Caching(there.store, 10**9)))
    assert (there.runs, there.origin, there.told) == (1, BUILT, [])


def test_what_was_made_while_an_input_changed_is_kept_for_what_was_read(here: Cached, there: Cached) -> None:
    def edit_once() -> None:
        if here.runs == 1:
            here.source.write_text("two")

    here.meanwhile = edit_once
    here.perform()
    assert here.runs == 2
    there.perform()  # of "one"
    assert there.runs == 1
    there.source.write_text("two")
    there.perform()
    assert (there.runs, there.origin) == (1, RESTORED)


def test_what_a_result_is_of_and_who_made_it_when_is_kept_with_it(here: Cached) -> None:
    here.perform()
    [entry] = (here.store / "ac").glob("*/*")
    described = (here.store / "cas" / entry.name[:2] / entry.name).read_bytes()
    assert hashlib.sha256(described).hexdigest() == entry.name
    told = json.loads(described)
    assert (told["action"], told["parameters"]) == ("step", {"level": 1})
    assert told["inputs"][":source"] == hashlib.sha256(b"one").hexdigest()
    result = here.caches.store.result(entry.name)
    assert result is not None
    assert result.worker == os.uname().nodename
    assert result.began <= result.ended
    assert result.began[:2] == "20"


class Overwritten(Caches):
    """Caches before which somebody writes to an output once it is made."""

    def __init__(self, settings: Caching, path: Path) -> None:
        super().__init__(settings)
        self._path = path

    def keep(
        self, key: str, result: Result, files: Mapping[str, Path], offered: bool = True, described: bytes = b""
    ) -> None:
        text = self._path.read_text()
        self._path.write_text("eno")
        super().keep(key, result, files, offered, described)
        self.settle()
        self._path.write_text(text)


def test_an_output_that_is_overwritten_before_it_is_kept_is_not_kept(here: Cached, there: Cached) -> None:
    here.with_caches(Overwritten(Caching(here.store, 10**9), here.result))
    there.perform()
    assert (there.runs, there.origin) == (1, BUILT)


def test_an_output_that_was_not_made_is_not_kept(here: Cached) -> None:
    here.meanwhile = here.result.unlink
    caches = here.caches
    with pytest.raises(FileNotFoundError):  # of the step itself
        Records(here.done, caches, lambda: Places(here.folder)).perform(here.action)

    def make_a_folder() -> dict[str, Any]:
        here.result.mkdir()
        return {}

    for run in (dict[str, Any], make_a_folder):
        Records(here.done, caches, lambda: Places(here.folder)).perform(replace(here.action, run=run))
        assert caches.settle() == []
        assert here.stale() == f"{here.result} is missing"
        assert not (here.store / "ac").exists()


def _killed(step: Cached, moment: int) -> bool:
    """Build, edit, build and go back in a process killed as it opens, renames or removes its file number `moment`.

    Returns whether it came to that.
    """
    child = os.fork()
    if not child:
        left = [moment]

        def kill(event: str, arguments: tuple[Any, ...]) -> None:
            if event in ("open", "os.rename", "os.remove", "os.mkdir", "os.utime", "os.chmod"):
                if str(arguments[0]).startswith((str(step.folder), str(step.store))):
                    left[0] -= 1
                if left[0] < 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(kill)
        try:
            for text in ("one", "two", "one"):
                step.source.write_text(text)
                step.perform()
            os._exit(0)
        finally:
            os._exit(1)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, -signal.SIGKILL)
    return status != 0


def test_a_build_killed_at_any_moment_is_never_wrong_afterwards(tmp_path: Path) -> None:
    moment = 0
    while True:
        step = Cached(tmp_path / str(moment) / "here", tmp_path / str(moment) / "store")
        killed = _killed(step, moment)
        other = Cached(tmp_path / str(moment) / "there", step.store)
        for text in ("one", "two"):
            for each in (step, other):
                each.source.write_text(text)
                each.perform()
        assert other.runs == 0  # what was found damaged or missing was kept again
        assert step.told == other.told == []
        assert not [path for path in step.folder.rglob("*") if path.name.endswith(".partial")]
        if not killed:
            break
        shutil.rmtree(tmp_path / str(moment))
        moment += 1
    assert moment > 40
    assert os.listdir(step.store / "tmp") == []


def _file(store: Path) -> None:
    store.write_text("a file")


def _file_in(name: str) -> Callable[[Path], None]:
    def make(store: Path) -> None:
        store.mkdir()
        (store / name).write_text("a file")

    return make


def _link_nowhere(store: Path) -> None:
    store.symlink_to(store.parent / "not mounted" / "store")


def _loop(store: Path) -> None:
    store.symlink_to(store)


@pytest.mark.parametrize("refuse", [_file, _file_in("tmp"), _file_in("cas"), _file_in("ac"), _link_nowhere, _loop])
def test_a_store_that_refuses_is_one_warning_and_the_outputs_are_right(
    here: Cached, refuse: Callable[[Path], None]
) -> None:
    refuse(here.store)
    here.perform()
    assert (here.runs, here.origin) == (1, BUILT)
    (told,) = here.told
    assert told.startswith(f"nothing is kept in the local cache: {here.store}")
    here.source.write_text("two")
    here.perform()
    assert here.runs == 2


def test_a_store_that_vanishes_while_a_step_runs_is_made_again(here: Cached, there: Cached) -> None:
    here.perform()
    here.source.write_text("two")
    here.meanwhile = lambda: shutil.rmtree(here.store)
    here.perform()
    assert here.told == []
    there.source.write_text("two")
    there.perform()
    assert there.runs == 0


def test_threads_restore_and_make_actions_of_one_folder_at_once(tmp_path: Path) -> None:
    folder, runs, mutex = tmp_path / "folder", [], threading.Lock()

    def action(number: int) -> Action:
        source, out = folder / f"source.{number}", folder / f"out.{number}"

        def run() -> dict[str, Any]:
            with mutex:
                runs.append(number)
            out.write_bytes(source.read_bytes() * 2)
            return {}

        return Action(f"step {number}", (source, folder / "common"), (out,), {}, run)

    folder.mkdir()
    (folder / "common").write_text("common")
    for text in ("one", "two", "one"):
        for number in range(8):
            (folder / f"source.{number}").write_text(f"{text} {number}")
        caches = Caches(Caching(tmp_path / "store", 10**9))
        records = Records(folder / "done", caches, lambda: Places(folder))
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(records.perform, map(action, range(8))))
        assert caches.settle() == []
        for number in range(8):
            assert (folder / f"out.{number}").read_text() == f"{text} {number}" * 2
            assert Records(folder / "done").stale(action(number)) == ""
    assert sorted(runs) == sorted([*range(8)] * 2)


NAMES, TEXTS = st.sampled_from(["a", "b"]), st.sampled_from(["", "x", "y"])
OPERATIONS = st.one_of(
    st.tuples(st.just("source"), TEXTS),
    st.tuples(st.just("result"), TEXTS),
    st.tuples(st.just("more"), NAMES, TEXTS),
    st.tuples(st.just("remove"), NAMES),
    st.tuples(st.just("touch")),
    st.tuples(st.just("level"), st.integers(1, 2)),
    st.tuples(st.just("perform")),
    st.tuples(st.just("look")),
)


@settings(max_examples=60)
@given(st.lists(OPERATIONS, max_size=12))
def test_a_step_is_stale_exactly_when_what_it_depends_on_is_not_what_it_was(
    tmp_path_factory: pytest.TempPathFactory, operations: list[tuple[Any, ...]]
) -> None:
    step = Step(tmp_path_factory.mktemp("steps") / "step")

    def state() -> object:
        held = {path.name: path.read_text() for path in step.more.iterdir()}
        return step.source.read_text(), held, step.result.read_text(), dict(step.parameters)

    step.perform()
    recorded = state()
    for kind, *values in operations:
        if kind in ("source", "result"):
            getattr(step, kind).write_text(values[0])
        elif kind == "more":
            (step.more / values[0]).write_text(values[1])
        elif kind == "remove":
            (step.more / values[0]).unlink(missing_ok=True)
        elif kind == "touch":
            for path in (step.source, step.result, *step.more.iterdir()):
                os.utime(path)
        elif kind == "level":
            step.parameters = {"level": values[0]}
        elif kind == "perform":
            step.perform()
            recorded = state()
        assert (step.stale() == "") is (state() == recorded)
