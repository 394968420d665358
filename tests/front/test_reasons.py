"""Differences in words: what is one thing to a user is one reason, and no reason is lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildsys.cache.difference import Difference
from buildsys.config.project import PACKAGE
from buildsys.front.reasons import reasons

OLD, NEW = ({"sha256": digit * 64, "size": size} for digit, size in (("a", 1234), ("b", 5)))
UNKNOWN = {"sha256": "c" * 64, "size": None}
CHANGE = "aaaaaaaaaaaa → bbbbbbbbbbbb, 1,234 → 5 bytes"


def said(*differences: Difference, tools: tuple[str, ...] = (), past: bool = False) -> list[str]:
    return [": ".join(filter(None, reason)) for reason in reasons(differences, tools, past)]


@pytest.mark.parametrize(
    ("kind", "before", "after", "words"),
    [
        ("input", OLD, NEW, f"x changed: {CHANGE}"),
        ("input", OLD, OLD | {"sha256": "b" * 64}, "x changed: aaaaaaaaaaaa → bbbbbbbbbbbb, 1,234 bytes"),
        ("input", UNKNOWN, NEW, "x changed: cccccccccccc → bbbbbbbbbbbb, now 5 bytes"),
        ("input", OLD, None, "x is missing: was aaaaaaaaaaaa, 1,234 bytes"),
        ("input", UNKNOWN, None, "x is missing: was cccccccccccc"),
        ("input", None, NEW, "x is a new input: bbbbbbbbbbbb, 5 bytes"),
        ("input", None, None, "x is missing"),
        ("former input", OLD, None, "x is no longer an input: was aaaaaaaaaaaa, 1,234 bytes"),
        ("output", OLD, NEW, f"x is not what was made: {CHANGE}"),
        ("output", OLD, None, "x, which it makes, is missing"),
        ("output", None, NEW, "x was not made by it: bbbbbbbbbbbb, 5 bytes"),
        ("folder", None, None, "x has other names in it; which came or went is not recorded"),
        ("missing folder", None, None, "the folder x is missing"),
        ("parameter", None, "", 'x changed: not set → ""'),
        ("parameter", 1, "1", 'x changed: 1 → "1"'),
        ("parameter", None, "not set", 'x changed: not set → "not set"'),
        ("parameter", [], ["a b", "→"], 'x changed: [] → ["a b", "→"]'),
        ("parameter", True, False, "x changed: true → false"),
        ("parameter", 0x4000_0000, 7, "x changed: 0x40000000 → 7"),
        ("record", "is damaged", None, "its record is damaged"),
        ("record", None, None, "there is no record of it: never done, or not to its end"),
    ],
)
def test_each_kind_has_its_words(kind: str, before: Any, after: Any, words: str) -> None:
    assert said(Difference(kind, "x", before, after)) == [words]


def test_a_path_is_shown_from_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, elsewhere = tmp_path / "here", tmp_path / "here too"
    here.mkdir()
    monkeypatch.chdir(here)
    paths = [str(here / "a/b"), str(elsewhere / "a"), "c"]
    assert said(*(Difference("output", path, OLD, NEW) for path in paths)) == [
        f"{path} is not what was made: {CHANGE}" for path in ("a/b", elsewhere / "a", "c")
    ]


def test_names_that_came_and_went_are_files_and_none_is_told_twice() -> None:
    gone, folder = (
        Difference("input", "src/gone.go", OLD),
        Difference("folder", "src", ["gone.go", "NOTES"], ["new.go"]),
    )
    assert said(gone, folder) == [
        "src/NOTES is gone",
        "src/new.go is new",
        "src/gone.go is missing: was aaaaaaaaaaaa, 1,234 bytes",
    ]


def test_a_folder_takes_what_was_in_it_along() -> None:
    files = [Difference("input", f"src/uart/{name}", OLD) for name in ("a.go", "b.go", "deep/c.go")]
    other = Difference("input", "src/uarts.go", OLD, NEW)
    folders = [Difference("missing folder", "src/uart"), Difference("folder", "src", ["uart"], [])]
    assert said(*files, other, *folders) == [
        "the folder src/uart is missing, with 3 inputs",
        f"src/uarts.go changed: {CHANGE}",
    ]


GO = ("bin/go", "VERSION", "pkg/tool/linux_amd64/compile", "pkg/tool/linux_amd64/go_asm")


def test_another_go_is_one_reason_and_not_one_for_each_of_its_programs() -> None:
    old = [Difference("former input", f"/old/go/{name}", OLD) for name in GO]
    new = [Difference("input", f"/new/go/{name}", None, NEW) for name in (*GO, "pkg/tool/linux_amd64/asm")]
    other = Difference("input", "/new/go/src/unsafe.go", OLD, NEW)
    assert said(*old, *new, other) == [
        "Go is another one: /old/go → /new/go",
        f"/new/go/src/unsafe.go changed: {CHANGE}",
    ]


def test_a_program_of_the_same_go_is_named() -> None:
    names = [f"/go/{name}" for name in GO]
    assert said(Difference("input", names[2], OLD, NEW), tools=tuple(names)) == [f"tool {names[2]} changed: {CHANGE}"]


def test_buildsys_itself_is_one_reason() -> None:
    modules = [Difference("input", str(PACKAGE / "formats" / f"{name}.py"), OLD, NEW) for name in "abcdefghijkl"]
    assert said(modules[0]) == [f"buildsys itself changed: formats/a.py: {CHANGE}"]
    assert said(*modules[:2]) == ["buildsys itself changed: formats/a.py, formats/b.py"]
    assert said(*modules) == [
        "buildsys itself changed: " + ", ".join(f"formats/{name}.py" for name in "abcdefghij") + " and 2 more modules"
    ]
    new = Difference("input", str(PACKAGE / "formats" / "new.py"), None, NEW)
    assert said(new) == ["buildsys itself changed: formats/new.py is a new input: bbbbbbbbbbbb, 5 bytes"]


def test_one_more_than_are_shown_is_shown_too() -> None:
    inputs = [Difference("input", f"{number:02}", OLD, NEW) for number in range(13)]
    assert len(said(*inputs[:11])) == 11
    assert said(*inputs)[10:] == ["and 3 more inputs; `doit why --json` has them all"]


KINDS = ("input", "former input", "output", "parameter", "record", "folder", "missing folder")
NAMES = st.sampled_from(
    ["x", "src/a", "src/b", "src", "/t/go/bin/go", "/u/go/bin/go", "/u/go/VERSION", str(PACKAGE / "a.py")]
)


@given(st.lists(st.tuples(st.sampled_from(KINDS), NAMES, st.booleans(), st.booleans()), min_size=1, max_size=8))
def test_there_is_a_reason_whenever_there_is_a_difference(told: list[tuple[str, str, bool, bool]]) -> None:
    def difference(kind: str, name: str, before: bool, after: bool) -> Difference:
        if kind == "folder":
            return Difference(kind, name, ["old"], ["new"])
        if kind in ("parameter", "record"):
            return Difference(kind, name, "old" if before else None, "new" if after else None)
        return Difference(kind, name, OLD if before else None, NEW if after and kind != "former input" else None)

    assert reasons([difference(*one) for one in told], ())
