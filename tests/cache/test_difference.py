"""Every difference between a record and the present is found, and there is one exactly when the step is stale."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buildsys.cache.action import FORMAT
from buildsys.cache.difference import Difference, differences, each, read
from buildsys.cache.fingerprint import Print

from .test_action import OPERATIONS, Step
from .test_fingerprint import settle


def found(step: Step) -> list[Difference]:
    """The differences, which are none exactly if the step is not stale, and which nothing is written to find."""
    path = step.records.path("step")
    before = path.read_bytes() if path.exists() else None
    record, wrong = read(path)
    now = differences(record, step.action, wrong=wrong)
    assert (path.read_bytes() if path.exists() else None) == before
    assert bool(now) is bool(step.stale())
    return now


def contents(text: str) -> dict[str, Any]:
    return {"sha256": hashlib.sha256(text.encode()).hexdigest(), "size": len(text)}


@pytest.fixture
def done(tmp_path: Path) -> Step:
    """A step that was done, some time ago, with the inputs `source`, more/a and more/b."""
    step = Step(tmp_path / "step")
    for name in "ab":
        (step.more / name).write_text(name)
    settle()
    step.perform()
    settle()
    assert found(step) == []
    return step


def test_of_a_step_never_done_that_is_all_there_is_to_say(tmp_path: Path) -> None:
    assert found(Step(tmp_path / "step")) == [Difference("record", "step")]


@pytest.mark.parametrize(
    ("damage", "wrong"),
    [
        ("{", "is damaged"),
        ("[]", "is damaged"),
        ('"x"', "is damaged"),
        ("\0", "is damaged"),
        ('{"format": 0}', f"has format 0, where {FORMAT} is written now"),
        ("{}", f"has format None, where {FORMAT} is written now"),
    ],
)
def test_what_is_wrong_with_a_record_is_told(done: Step, damage: str, wrong: str) -> None:
    done.records.path("step").write_text(damage)
    assert found(done) == [Difference("record", "step", wrong)]


def test_the_parts_a_record_lacks_are_named(done: Step) -> None:
    path = done.records.path("step")
    record = json.loads(path.read_bytes())
    del record["outputs"], record["facts"]
    path.write_text(json.dumps(record))
    assert found(done) == [Difference("record", "step", "lacks facts, outputs")]


def test_a_record_that_cannot_be_read_is_told_so(done: Step) -> None:
    path = done.records.path("step")
    path.unlink()
    path.mkdir()
    assert read(path) == ({}, "cannot be read: Is a directory")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda step: step.source.write_text("two"), [("input", "source", contents("one"), contents("two"))]),
        (lambda step: step.source.write_text("longer"), [("input", "source", contents("one"), contents("longer"))]),
        (lambda step: step.source.unlink(), [("input", "source", contents("one"), None)]),
        (lambda step: step.result.write_text("x"), [("output", "result", contents("oneab"), contents("x"))]),
        (lambda step: step.result.unlink(), [("output", "result", contents("oneab"), None)]),
        (lambda step: (step.more / "c").touch(), [("folder", "more", [], ["c"])]),
        (
            lambda step: (step.more / "a").unlink(),
            [("input", "more/a", contents("a"), None), ("folder", "more", ["a"], [])],
        ),
        (
            lambda step: (step.more / "a").rename(step.more / "c"),
            [("input", "more/a", contents("a"), None), ("folder", "more", ["a"], ["c"])],
        ),
        (
            lambda step: step.more.rename(step.more.with_name("less")),
            [
                ("input", "more/a", contents("a"), None),
                ("input", "more/b", contents("b"), None),
                ("missing folder", "more", None, None),
            ],
        ),
        (lambda step: step.source.touch(), []),
        (
            lambda step: [path.unlink() for path in (step.source, step.result)],
            [("input", "source", contents("one"), None), ("output", "result", contents("oneab"), None)],
        ),
    ],
)
def test_what_happened_to_a_file_is_told_with_what_it_was_and_is(
    done: Step, change: Callable[[Step], object], expected: list[tuple[Any, ...]]
) -> None:
    change(done)
    folder = str(done.source.parent)
    assert found(done) == [Difference(kind, f"{folder}/{name}", *both) for kind, name, *both in expected]


def test_an_input_more_and_one_less_are_told_apart_from_missing_ones(done: Step) -> None:
    other = done.source.with_name("other")
    other.write_text("x")
    record, _ = read(done.records.path("step"))
    assert differences(record, replace(done.action, inputs=(other,))) == [
        Difference("former input", str(done.source), contents("one"), None),
        Difference("input", str(other), None, contents("x")),
    ]


def test_an_output_more_is_told(done: Step) -> None:
    other = done.source.with_name("other")
    record, _ = read(done.records.path("step"))
    action = replace(done.action, outputs=(done.result, other))
    assert differences(record, action) == [Difference("output", str(other))]
    other.write_text("x")
    assert differences(record, action) == [Difference("output", str(other), None, contents("x"))]


def test_the_size_is_not_known_where_the_record_could_not_trust_the_time(tmp_path: Path) -> None:
    step = Step(tmp_path / "step")
    step.records.perform(step.action)  # at once after the source was written
    step.source.write_text("two")
    (one,) = found(step)
    assert (one.before["size"], one.after["size"]) == (None, 3)
    assert one.before["sha256"] == contents("one")["sha256"]


@pytest.mark.parametrize(("same", "kinds"), [(True, []), (False, ["input", "output"])])
def test_a_stat_of_before_the_machine_was_started_is_not_believed(done: Step, same: bool, kinds: list[str]) -> None:
    path = done.records.path("step")
    record = json.loads(path.read_bytes())
    record["boot"] = record["boot"] if same else "another"
    record["inputs"][str(done.source)][1] = record["outputs"][str(done.result)][1] = "0" * 64  # at the same stat
    path.write_text(json.dumps(record))
    assert [one.kind for one in found(done)] == kinds


def test_a_name_that_went_and_was_no_input_is_not_guessed(done: Step) -> None:
    (done.more / "c").touch()
    done.discover = lambda: all_but_c(done)  # type: ignore[method-assign]  # of this one step alone
    done.perform()
    settle()
    (done.more / "c").unlink()
    assert found(done) == [Difference("folder", str(done.more), None, None)]


def all_but_c(step: Step) -> Any:
    """What `step` discovers, but for more/c."""
    real = Step.discover(step)
    return real._replace(files=tuple(path for path in real.files if path.name != "c"))


def test_the_names_are_told_if_the_record_has_them(done: Step) -> None:
    (done.more / "b").unlink()
    (done.more / "d").touch()
    record, _ = read(done.records.path("step"))
    record["names"] = {str(done.more): ["a", "b", "c"]}
    (*_, folder) = differences(record, done.action)
    assert folder == Difference("folder", str(done.more), ["b", "c"], ["d"])


def test_a_few_new_names_among_many_are_found(done: Step) -> None:
    for number in range(60):
        (done.more / f"input{number}").touch()
    done.perform()
    for name in ("x", "y"):
        (done.more / name).touch()
    assert found(done) == [Difference("folder", str(done.more), [], ["x", "y"])]


def test_too_many_names_are_not_tried_for_ever(done: Step) -> None:
    for number in range(60):
        (done.more / f"new{number}").touch()
    assert found(done) == [Difference("folder", str(done.more), None, None)]


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        ({"level": 2}, [("level", 1, 2)]),
        ({}, [("level", 1, None)]),
        ({"level": 1, "tags": ("a",)}, [("tags", None, ["a"])]),
        ({"level": "1", "a": True}, [("a", None, True), ("level", 1, "1")]),
        ({"level": {"x": 1}}, [("level", 1, {"x": 1})]),
    ],
)
def test_a_parameter_is_told_with_both_values(
    done: Step, now: Mapping[str, Any], expected: list[tuple[str, Any, Any]]
) -> None:
    done.parameters = now
    assert found(done) == [Difference("parameter", *one) for one in expected]


def test_of_a_nested_parameter_only_what_changed_is_told(tmp_path: Path) -> None:
    step = Step(tmp_path / "step")
    step.parameters = {"environment": {"GOOS": "linux", "GOARCH": "arm64", "old": "x"}, "kept": {"a": {"b": 1}}}
    step.perform()
    step.parameters = {"environment": {"GOOS": "plan9", "GOARCH": "arm64", "new": "y"}, "kept": {"a": {"b": 2}}}
    assert found(step) == [
        Difference("parameter", "environment.GOOS", "linux", "plan9"),
        Difference("parameter", "environment.new", None, "y"),
        Difference("parameter", "environment.old", "x", None),
        Difference("parameter", "kept.a.b", 1, 2),
    ]


def test_the_first_one_is_found_without_looking_further(done: Step) -> None:
    done.parameters = {"level": 2}
    done.source.write_text("two")
    seen: dict[str, Print] = {}
    record, _ = read(done.records.path("step"))
    assert next(each(record, done.action, seen)) == Difference("parameter", "level", 1, 2)
    assert seen == {}


def test_they_are_the_same_after_they_were_kept_as_json(done: Step) -> None:
    done.parameters = {"level": (1, 2)}
    (done.more / "a").rename(done.more / "c")
    done.result.unlink()
    now = found(done)
    assert len(now) == 4
    assert [Difference(*one) for one in json.loads(json.dumps(now))] == now


PARAMETERS = st.dictionaries(
    st.sampled_from("abc"),
    st.recursive(
        st.none() | st.booleans() | st.integers(0, 2) | st.text("xy", max_size=1),
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
        max_leaves=4,
    ),
    max_size=3,
)


@given(PARAMETERS, PARAMETERS)
def test_parameters_differ_exactly_when_they_make_a_step_stale(
    tmp_path_factory: pytest.TempPathFactory, before: dict[str, Any], now: dict[str, Any]
) -> None:
    step = Step(tmp_path_factory.mktemp("steps") / "step")
    step.parameters = before
    step.perform()
    step.parameters = now
    told = found(step)
    assert all(one.kind == "parameter" for one in told)
    assert found_again(step, told) == told


def found_again(step: Step, told: list[Difference]) -> list[Difference]:
    """What is found when the values told are put back: nothing; so `told` is returned if it was all there is."""
    record: dict[str, Any] = json.loads(json.dumps(read(step.records.path("step"))[0]))
    for one in told:
        *above, key = one.name.split(".")
        values = record["parameters"]
        for name in above:
            values = values[name]
        values.pop(key, None)
        where: Any = step.parameters
        for name in above:
            where = where[name]
        if key in where:
            values[key] = where[key]
    return told if differences(record, step.action) == [] else []


@settings(max_examples=60)
@given(st.lists(OPERATIONS, max_size=12))
def test_there_is_a_difference_exactly_when_the_step_is_stale(
    tmp_path_factory: pytest.TempPathFactory, operations: list[tuple[Any, ...]]
) -> None:
    step = Step(tmp_path_factory.mktemp("steps") / "step")
    step.perform()
    for kind, *values in operations:
        if kind in ("source", "result"):
            getattr(step, kind).write_text(values[0])
        elif kind == "more":
            (step.more / values[0]).write_text(values[1])
        elif kind == "remove":
            (step.more / values[0]).unlink(missing_ok=True)
        elif kind == "touch":
            for path in (step.source, step.result, *step.more.iterdir()):
                path.touch()
        elif kind == "level":
            step.parameters = {"level": values[0]}
        elif kind == "perform":
            step.perform()
        found(step)  # which agrees with `stale`


def test_a_file_of_several_steps_is_read_once(done: Step, monkeypatch: pytest.MonkeyPatch) -> None:
    from buildsys.cache import fingerprint

    read_files: list[str] = []
    real = fingerprint._digest

    def digest(path: Path | str) -> str:
        read_files.append(str(path))
        return real(path)

    done.source.write_text("two")
    settle()
    monkeypatch.setattr(fingerprint, "_digest", digest)
    record, _ = read(done.records.path("step"))
    seen: dict[str, Print] = {}
    assert differences(record, done.action, seen) == differences(record, done.action, seen)
    assert read_files == [str(done.source)]
