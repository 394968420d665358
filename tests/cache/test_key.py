"""An action key is the same wherever the project lies, and another as soon as anything it depends on is another."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from buildsys.cache.caches import Caches
from buildsys.cache.fingerprint import of_file
from buildsys.cache.key import Places, action_key
from buildsys.config.caching import Caching
from buildsys.config.project import load
from buildsys.front.steps import Steps
from tests.conftest import copy_project

DIGESTS = st.just("") | st.binary(max_size=2).map(lambda data: sha256(data).hexdigest())  # "" is of a missing file
NAMES = st.text("ab:./ \n\udcff", min_size=1, max_size=6).filter(lambda name: ".." not in name and name[0] != "/")
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.floats(0, 1) | st.text("ab", max_size=2),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text("ab", max_size=2), inner, max_size=2),
    max_leaves=4,
)


@dataclass(frozen=True)
class Asked:
    """What a key is asked of."""

    name: str
    parameters: Mapping[str, Any]
    inputs: Mapping[str, str]
    outputs: tuple[str, ...]

    def key(self, root: Path = Path("/some/project"), others: tuple[tuple[str, Path], ...] = ()) -> str:
        inputs = {str(root / name): digest for name, digest in self.inputs.items()}
        return action_key(
            self.name, self.parameters, inputs, [root / each for each in self.outputs], Places(root, others)
        )

    @property
    def meaning(self) -> tuple[Any, ...]:
        """What it is, with every difference in spelling that means nothing taken out, and no other."""
        inputs = {os.path.normpath(name): digest for name, digest in self.inputs.items()}
        outputs = [os.path.normpath(name) for name in self.outputs]
        return self.name, _told_apart(self.parameters), sorted(inputs.items()), outputs


def _told_apart(value: Any) -> Any:
    """`value` so that 1, 1.0 and True are not equal."""
    if isinstance(value, Mapping):
        return {key: _told_apart(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_told_apart(each) for each in value]
    return type(value).__name__, repr(value)


ASKED = st.builds(
    Asked,
    st.sampled_from(["link", "compile", "link\0", ""]),
    st.dictionaries(st.text("ab", max_size=2), VALUES, max_size=3),
    # Two spellings of one file with different contents are no state a file system can be in.
    st.dictionaries(NAMES.map(os.path.normpath), DIGESTS, max_size=3),
    st.lists(NAMES, max_size=2).map(tuple),
)


@given(ASKED, ASKED)
def test_keys_are_equal_exactly_when_everything_asked_is(one: Asked, other: Asked) -> None:
    assert (one.key() == other.key()) is (one.meaning == other.meaning)


@given(ASKED, st.data())
def test_one_change_anywhere_is_another_key(asked: Asked, data: st.DataObject) -> None:
    what = data.draw(st.sampled_from(["name", "parameter", "contents", "input", "output", "order"]))
    if what == "name":
        other = replace(asked, name=asked.name + "x")
    elif what == "parameter":
        name = data.draw(st.sampled_from([*asked.parameters, "new"]))
        other = replace(asked, parameters={**asked.parameters, name: [asked.parameters.get(name)]})
    elif what == "contents":
        assume(asked.inputs)
        name = data.draw(st.sampled_from(sorted(asked.inputs)))
        other = replace(asked, inputs={**asked.inputs, name: sha256(b"other").hexdigest()})
    elif what == "input":
        other = replace(asked, inputs={**asked.inputs, "new": sha256(b"").hexdigest()})
    elif what == "output":
        other = replace(asked, outputs=(*asked.outputs, "new"))
    else:
        assume(asked.meaning[3] != asked.meaning[3][::-1])
        other = replace(asked, outputs=asked.outputs[::-1])
    assert other.key() != asked.key()


@given(ASKED)
def test_the_order_of_parameters_and_inputs_is_none_and_a_tuple_is_a_list(asked: Asked) -> None:
    other = replace(
        asked,
        parameters={
            name: tuple(value) if isinstance(value, list) else value
            for name, value in reversed(list(asked.parameters.items()))
        },
        inputs=dict(reversed(list(asked.inputs.items()))),
    )
    assert other.key() == asked.key()


@given(ASKED)
def test_a_project_has_the_keys_it_has_elsewhere(asked: Asked) -> None:
    keys = {asked.key(Path(root)) for root in ("/a", "/some/project", "/b b/ü/deeper/than/that", ".", "relative")}
    assert len(keys) == 1


def keys_of(root: Path) -> dict[str, str]:
    """The keys of the steps that need no other step, as a build in `root` takes them."""
    steps = Steps(load(root), caches=Caches(Caching(root / "none", 1)))
    action = steps.compile()
    inputs = {str(path): of_file(path)[1] for path in sorted((root / "src").rglob("*"), reverse=True)}
    inputs |= {str(path): of_file(path)[1] for path in action.inputs}
    assert len(inputs) > 20
    return {action.name: action_key(action.name, action.parameters, inputs, action.outputs, steps.places)}


def test_a_clone_has_the_keys_of_the_original_whatever_its_times(tmp_path: Path) -> None:
    first = copy_project(tmp_path / "first")
    second = tmp_path / "elsewhere" / "deeper" / "second"
    shutil.copytree(first, second)
    for number, path in enumerate(sorted(second.rglob("*"))):
        os.utime(path, ns=(number, number))
    before = keys_of(first)
    assert keys_of(second) == before
    source = next((second / "src").glob("*.go"))
    source.write_text(source.read_text() + "\n")
    assert keys_of(second)["compile"] != before["compile"]


def test_every_module_of_ours_that_a_step_consists_of_is_in_its_key(built: Steps) -> None:
    for make in (built.compile, built.runtime, built.link, built.patch):
        action = make()
        inputs = {str(path): of_file(path)[1] for path in action.inputs}
        modules = [name for name in inputs if name.endswith(".py")]
        assert modules
        key = action_key(action.name, action.parameters, inputs, action.outputs, built.places)
        for name in modules:
            changed = {**inputs, name: sha256(b"other").hexdigest()}
            assert action_key(action.name, action.parameters, changed, action.outputs, built.places) != key


# Places: folders in each other, beside each other, with names that look like labels and turns.
PARTS = st.sampled_from(["a", "b", "a:b", ":", "..a", "a..", "...", " ", "go", "file", "\n", "\udcff"])
FOLDERS = st.lists(PARTS, max_size=4).map(lambda parts: Path("/", *parts))
TURNING = st.lists(PARTS | st.sampled_from(["..", "."]), max_size=6).map(lambda parts: Path("/", *parts))
PLACES = st.builds(
    lambda root, at: Places(root, tuple(zip(("go", "zig", "a", "b"), at, strict=False))),
    FOLDERS,
    st.lists(FOLDERS, max_size=4),
)


@given(PLACES, TURNING, TURNING)
def test_no_two_files_have_one_name(places: Places, one: Path, other: Path) -> None:
    same = os.path.normpath(one) == os.path.normpath(other)
    assert (places.name(one) == places.name(other)) is same


@given(PLACES, TURNING)
def test_a_name_leads_back_to_its_file(places: Places, path: Path) -> None:
    assert os.path.normpath(places.path(places.name(path))) == os.path.normpath(path)


@given(PLACES, TURNING)
def test_the_innermost_place_names_a_file(places: Places, path: Path) -> None:
    whole = Path(os.path.normpath(path))
    holding = [(len(at.parts), label) for label, at in (("", places.root), *places.others) if whole.is_relative_to(at)]
    label, _, rest = places.name(path).partition(":")
    if holding:
        assert (max(length for length, _ in holding), label) in holding
        assert not rest.startswith("../")
    else:
        assert label in ("", "file")
        assert label or rest.startswith("..")


@pytest.mark.parametrize("labels", [["a:b"], [":"], [""], ["file"], ["a", "a"], ["a", "a:b"]])
def test_labels_that_cannot_be_told_apart_are_refused(labels: list[str]) -> None:
    places = Places(Path("/project"), tuple((label, Path("/", str(at))) for at, label in enumerate(labels)))
    with pytest.raises(ValueError, match="labels of places must tell them apart"):
        places.name("/project/x")


def test_a_place_that_is_not_known_is_refused() -> None:
    places = Places(Path("/project"), (("go", Path("/go")),))
    assert places.path("go:x") == Path("/go/x")
    with pytest.raises(ValueError, match="zig:x: there is no such place"):
        places.path("zig:x")


def test_a_turn_behind_a_link_is_where_the_system_goes(tmp_path: Path) -> None:
    (tmp_path / "project" / "x").mkdir(parents=True)
    (tmp_path / "other" / "inner").mkdir(parents=True)
    (tmp_path / "other" / "x").mkdir()
    (tmp_path / "project" / "link").symlink_to(tmp_path / "other" / "inner")
    places = Places(tmp_path / "project")
    turned = tmp_path / "project" / "link" / ".." / "x"
    assert turned.samefile(tmp_path / "other" / "x")
    assert places.name(turned) != places.name(tmp_path / "project" / "x")
    assert places.path(places.name(turned)).samefile(turned)
    # Where no link is turned at, nothing is resolved: a project seen through a link is that project.
    seen = tmp_path / "seen"
    seen.symlink_to(tmp_path / "project")
    assert Places(seen).name(seen / "x" / ".." / "x" / "file") == ":x/file"


def test_relative_names_are_of_the_folder_one_is_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places = Places(Path())
    (tmp_path / "inner").mkdir()
    monkeypatch.chdir(tmp_path)
    assert places.name("inner/x") == places.name(tmp_path / "inner" / "x") == ":inner/x"
    assert places.name(Path("..", "beside", "x")) == ":../beside/x"
    monkeypatch.chdir(tmp_path / "inner")
    assert places.name("x") == places.name(tmp_path / "inner" / "x") == ":x"


def test_a_project_within_a_place_and_a_place_within_the_project_keep_their_names() -> None:
    places = Places(Path("/opt/go/project"), (("go", Path("/opt/go")), ("buildsys", Path("/opt/go/project/buildsys"))))
    assert places.name("/opt/go/project/src/x") == ":src/x"
    assert places.name("/opt/go/bin/go") == "go:bin/go"
    assert places.name("/opt/go/project/buildsys/x.py") == "buildsys:x.py"
    assert places.name("/opt/go/project-2/x") == "go:project-2/x"
    assert places.name("/opt/go") == "go:."
    assert places.name("/opt/go/project") == ":."
