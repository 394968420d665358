"""`[tool.buildsys.redirect]` and the words of a directive: the same options, each mistake named with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from buildsys.config.project import load
from buildsys.config.redirects import Redirection, of_words
from buildsys.errors import UserError
from buildsys.formats.modes import Mode


def redirects(root: Path, *lines: str) -> tuple[Redirection, ...]:
    (root / "src").mkdir(exist_ok=True)
    text = ["[tool.buildsys]", 'package = "src"', "[tool.buildsys.redirect]", *lines, ""]
    (root / "pyproject.toml").write_text("\n".join(text))
    return load(root).redirects


def test_the_short_form_redirects_calls(tmp_path: Path) -> None:
    (found,) = redirects(tmp_path, '"runtime.x" = "main.y"')
    assert found == Redirection("runtime.x", "main.y", Mode.CALLS, False, "")
    assert found.place == f"{tmp_path}/pyproject.toml:4: `tool.buildsys.redirect.runtime.x`"


@pytest.mark.parametrize("mode", list(Mode))
def test_the_long_form_has_options(tmp_path: Path, mode: Mode) -> None:
    line = f'"runtime.x" = {{ to = "main.y", mode = "{mode}", pointers = true, original = "main.z" }}'
    assert redirects(tmp_path, line) == (Redirection("runtime.x", "main.y", mode, True, "main.z"),)


def test_the_long_form_may_be_a_table(tmp_path: Path) -> None:
    found = redirects(tmp_path, '"a.b" = "c.d"', '[tool.buildsys.redirect."runtime.x"]', 'to = "main.y"')
    assert found == (Redirection("a.b", "c.d"), Redirection("runtime.x", "main.y"))
    assert ":5: " in found[1].place


@pytest.mark.parametrize(
    ("value", "message", "hint"),
    [
        ("3", "must be a string, not 3", ""),
        ("{ mode = 'entry' }", "does not say where calls go", "`to = "),
        ("{}", "does not say where calls go", "`to = "),
        ("{ to = '' }", "does not say where calls go", "`to = "),
        ("{ to = 'main.y', mod = 'entry' }", "has an unknown key `mod`", "did you mean `mode`?"),
        ("{ to = 'main.y', mode = 'entri' }", "has mode 'entri'", "did you mean `entry`?"),
        ("{ to = 'main.y', mode = 1 }", "has a `mode` that must be a string, not 1", ""),
        ("{ to = 'main.y', pointers = 'yes' }", "has a `pointers` that must be true or false, not 'yes'", ""),
        ("{ to = ['main.y'] }", "has a `to` that must be a string", ""),
        ("{ y = 'main.y' }", "is a table", "put the names of functions in quotes"),
    ],
)
def test_a_mistake_is_named_with_file_line_and_key(tmp_path: Path, value: str, message: str, hint: str) -> None:
    with pytest.raises(UserError) as caught:
        redirects(tmp_path, '"a.b" = "c.d"', f'"runtime.x" = {value}')
    start = f"{tmp_path}/pyproject.toml:5: `tool.buildsys.redirect.runtime.x` "
    assert caught.value.message.startswith(start + message)
    assert hint in caught.value.hint


def test_a_name_without_quotes_is_explained(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        redirects(tmp_path, 'runtime.x = "main.y"')
    assert caught.value.message.startswith(f"{tmp_path}/pyproject.toml:4: `tool.buildsys.redirect.runtime` is a table")
    assert 'put the names of functions in quotes: "runtime.…"' in caught.value.hint


def test_the_line_is_no_part_of_what_decides_an_image(tmp_path: Path) -> None:
    one, other = Redirection("a", "b", place="x:1"), Redirection("a", "b", place="x:2")
    assert one == other
    assert one.decides() == other.decides()
    assert Redirection.restored(one.stored()) == one
    assert Redirection.restored(one.stored()).place == "x:1"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("runtime.x", Redirection("runtime.x", "main.f")),
        ("runtime.x mode=entry", Redirection("runtime.x", "main.f", Mode.ENTRY)),
        ("mode=both runtime.x pointers", Redirection("runtime.x", "main.f", Mode.BOTH, True)),
        ("runtime.x pointers=false original=main.o", Redirection("runtime.x", "main.f", original="main.o")),
    ],
)
def test_a_directive_has_the_same_options_as_words(words: str, expected: Redirection) -> None:
    assert of_words(words.split(), "main.f", "a.go:1") == expected


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        ("", "does not say which function is replaced", "mode"),
        ("pointers", "does not say which function is replaced", "mode"),
        ("a.b c.d", "names 2 functions", "one each"),
        ("a.b // why", "names 3 functions", "one each"),
        ("a.b mode=entri", "has mode 'entri'", "did you mean `entry`?"),
        ("a.b mod=entry", "has an unknown key `mod`", "did you mean `mode`?"),
        ("a.b mode", "has mode ''", "calls"),
        ("a.b mode=entry mode=both", "says `mode` twice", ""),
        ("a.b to=main.g", "says `to` twice", ""),
        ("a.b pointers=yes", "must be true or false", ""),
    ],
)
def test_a_mistake_in_a_directive_is_named_with_file_and_line(words: str, message: str, hint: str) -> None:
    with pytest.raises(UserError) as caught:
        of_words(words.split(), "main.f", "src/a.go:7")
    assert caught.value.message.startswith("src/a.go:7: the directive ")
    assert message in caught.value.message
    assert hint in caught.value.hint
