"""What the process itself is made of: noticed when it changes, and believed without a look while it does not."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from buildsys.cache.action import Action, Records
from buildsys.cache.fingerprint import MISSING, RACY, Print, of_file
from buildsys.front.modules import Modules

REST = 2 * RACY / 1e9  # seconds


@pytest.fixture
def package(tmp_path: Path) -> Path:
    for name in ("a.py", "room/b.py", "room/c.py"):
        path = tmp_path / "package" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    time.sleep(REST)
    return tmp_path / "package"


def of(package: Path) -> Modules:
    return Modules(package.rglob("*.py"))


def another(path: Path) -> None:
    """Other contents, of the same size, with a time that tells nothing."""
    path.write_text("b.py")
    os.utime(path, (1, 1))


EDITS: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "nothing": (lambda package: None, []),
    "one edited": (lambda package: (package / "a.py").write_text("other"), ["a.py"]),
    "one written again as it was": (lambda package: (package / "a.py").write_text("a.py"), []),
    "one of the same size and time": (
        lambda package: another(package / "a.py"),
        ["a.py"],
    ),
    "one removed": (lambda package: (package / "room" / "b.py").unlink(), ["room/b.py"]),
    "one renamed": (lambda package: (package / "a.py").rename(package / "d.py"), ["a.py", "d.py"]),
    "a new one": (lambda package: (package / "room" / "d.py").write_text("new"), ["room/d.py"]),
    "something that is no module": (lambda package: (package / "room" / "x.txt").write_text("new"), []),
    "a folder removed": (
        lambda package: shutil.rmtree(package / "room"),
        ["room/b.py", "room/c.py"],
    ),
}


@pytest.mark.parametrize("name", EDITS)
@pytest.mark.parametrize("looks", [0, 2])
def test_what_changed_is_told_each_time(name: str, looks: int, package: Path) -> None:
    modules = of(package)
    for _ in range(looks):
        assert modules.changed() == []
    edit, changed = EDITS[name]
    edit(package)
    told = [str(package / each) for each in changed]
    assert [modules.changed() for _ in range(3)] == [told] * 3
    assert not set(told) & set(modules.prints)


def test_one_that_is_put_back_is_as_it_was(package: Path) -> None:
    modules = of(package)
    (package / "a.py").write_text("other")
    (package / "new.py").write_text("new")
    assert len(modules.changed()) == 2
    (package / "a.py").write_text("a.py")
    (package / "new.py").unlink()
    assert modules.changed() == []


def test_the_prints_are_those_of_the_files(package: Path) -> None:
    modules = of(package)
    modules.changed()
    assert modules.prints == {str(path): of_file(path) for path in package.rglob("*.py")}


def test_what_is_vouched_for_is_not_looked_at_and_all_else_is(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records, source = Records(package / ".done"), package / "source"
    source.write_text("source")
    action = Action("copy", (source, package / "a.py"), (package / "made",), {}, lambda: _copied(source))
    modules = of(package)
    assert modules.changed() == []
    records.vouched = modules.prints
    time.sleep(REST)
    looked: list[str] = []

    def noted(path: Path | str, known: Print = MISSING) -> Print:
        looked.append(str(path))
        return of_file(path, known)

    monkeypatch.setattr("buildsys.cache.action.of_file", noted)
    records.perform(action)
    assert not records.stale(action)
    assert set(looked) == {str(source), str(package / "made")}
    records.vouched = {}
    assert not records.stale(action), "the prints are the same"
    (package / "a.py").write_text("other")
    assert records.stale(action) == f"{package / 'a.py'} changed"


def _copied(source: Path) -> dict[str, object]:
    source.with_name("made").write_text(source.read_text())
    return {}
