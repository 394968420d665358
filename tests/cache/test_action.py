"""A step runs when, and only when, something it depends on is not what it was when the step last ended."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buildsys.cache import fingerprint
from buildsys.cache.action import Action, Discovered, Records
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
