"""A mistake in a TOML file is reported with file, line and the name that was probably meant."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildsys.config.toml import Table, read
from buildsys.errors import UserError

TEXT = """\
name = "kernel"
size = 3
ratio = 0.5
yes = true
words = ["a", "b"]
mixed = ["a", 1]

[deep.down]
kind = "ram"
"""


@pytest.fixture
def table(tmp_path: Path) -> Table:
    return write(tmp_path, TEXT)


def write(folder: Path, text: str | bytes) -> Table:
    path = folder / "settings.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read(path)


def test_values_come_out_with_their_types(table: Table) -> None:
    assert (table.string("name"), table.integer("size"), table.number("ratio")) == ("kernel", 3, 0.5)
    assert table.number("size") == 3.0
    assert table.strings("words") == ["a", "b"]
    assert table.table("deep").table("down").choice("kind", ("ram", "flash")) == "ram"


def test_a_default_stands_in_for_a_key_the_file_does_not_set(table: Table) -> None:
    assert table.string("other", "x") == "x"
    assert table.integer("count", 0) == 0
    assert table.strings("nothing") == []
    assert list(table.table("nowhere")) == []


@pytest.mark.parametrize(
    ("read_as", "key", "line", "words"),
    [
        ("string", "size", 2, "must be a string, not 3"),
        ("integer", "name", 1, "must be an integer, not 'kernel'"),
        ("integer", "ratio", 3, "must be an integer, not 0.5"),
        ("integer", "yes", 4, "must be an integer, not True"),
        ("number", "yes", 4, "must be a number, not True"),
        ("strings", "name", 1, "must be a list of strings, not 'kernel'"),
        ("strings", "mixed", 6, "must be a list of strings, 1 is not one"),
        ("table", "name", 1, "must be a table, not 'kernel'"),
    ],
)
def test_a_value_of_the_wrong_type_is_named_with_its_line(
    table: Table, tmp_path: Path, read_as: str, key: str, line: int, words: str
) -> None:
    with pytest.raises(UserError) as caught:
        getattr(table, read_as)(key)
    assert caught.value.message == f"{tmp_path}/settings.toml:{line}: `{key}` {words}"


def test_a_missing_key_is_named_with_the_line_of_its_table(table: Table, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        table.table("deep").table("down").integer("origin")
    assert caught.value.message == f"{tmp_path}/settings.toml:8: `deep.down.origin` is missing"
    assert caught.value.hint == "it must be an integer"


def test_a_missing_key_that_was_misspelt_is_recognised(tmp_path: Path) -> None:
    table = write(tmp_path, "[memory]\norigni = 1\n").table("memory")
    with pytest.raises(UserError) as caught:
        table.integer("origin")
    assert "`memory.origin` is missing" in caught.value.message
    assert caught.value.hint == "is `memory.origni` meant to be it?"


def test_a_missing_table_that_was_misspelt_is_recognised(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        write(tmp_path, "[layuot]\n").table("layout")
    assert caught.value.hint == "is `layuot` meant to be it?"


def test_an_unknown_key_is_named_with_its_line_and_the_nearest_known_one(tmp_path: Path) -> None:
    table = write(tmp_path, "[a]\nstakc = 1\n").table("a")
    table.integer("stack", 0) if table.has("stack") else None
    table.has("text")
    with pytest.raises(UserError) as caught:
        table.refuse_unknown()
    assert caught.value.message == f"{tmp_path}/settings.toml:2: unknown key `a.stakc`"
    assert caught.value.hint == "did you mean `stack`?"


def test_an_unknown_key_like_no_other_gets_all_known_ones(tmp_path: Path) -> None:
    table = write(tmp_path, "zzz = 1\n")
    table.has("stack")
    table.has("bss")
    with pytest.raises(UserError) as caught:
        table.refuse_unknown()
    assert caught.value.hint == "known: bss, stack"


def test_a_choice_that_is_none_gets_the_nearest(table: Table) -> None:
    with pytest.raises(UserError) as caught:
        table.table("deep").table("down").choice("kind", ("rom", "flash", "device"))
    assert caught.value.message.endswith("settings.toml:9: `deep.down.kind` is 'ram'")
    assert caught.value.hint == "did you mean `rom`?"


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1" + "0" * 400])
def test_a_number_is_finite(tmp_path: Path, value: str) -> None:
    with pytest.raises(UserError, match=r"settings\.toml:1: `limit` must be a finite number"):
        write(tmp_path, f"limit = {value}\n").number("limit")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a = 1\nb = \n", 2),
        ("a = 1\n\n[b\n", 3),
        ("a = 1\na = 2\n", 2),
        ('a = """never closed\n', 2),
        ("a = 1\u2028\nb =\n", 1),
        ("a = " + "1" * 5000, 1),
    ],
)
def test_what_is_not_toml_is_said_with_its_line(tmp_path: Path, text: str, line: int) -> None:
    with pytest.raises(UserError) as caught:
        write(tmp_path, text)
    assert caught.value.message.startswith(f"{tmp_path}/settings.toml:{line}: ")
    assert "\n" not in caught.value.message
    assert caught.value.hint == "the file is not valid TOML"


def test_a_file_that_cannot_be_read_is_named_once(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    with pytest.raises(UserError) as caught:
        read(path)
    assert caught.value.message == f"{path}: cannot be read: No such file or directory"
    path.mkdir()
    with pytest.raises(UserError, match="cannot be read: Is a directory"):
        read(path)


def test_a_file_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"settings\.toml: is not UTF-8: .* at byte 5"):
        write(tmp_path, b'a = "\xff"\n')


def test_values_nested_beyond_measure_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"settings\.toml: its values are nested too deeply"):
        write(tmp_path, "a = " + "[" * 100_000)


KEYS = st.text(st.sampled_from("abcdefgh-_0"), min_size=1, max_size=6)


@given(st.dictionaries(KEYS, st.dictionaries(KEYS, st.integers(), min_size=1), min_size=1), st.data())
def test_the_line_named_is_the_line_that_sets_the_key(
    tmp_path_factory: pytest.TempPathFactory, tables: dict[str, dict[str, int]], data: st.DataObject
) -> None:
    lines: list[str] = []
    where: dict[tuple[str, str], int] = {}
    for name, values in tables.items():
        lines += data.draw(st.lists(st.sampled_from(["", "# note", "  "]), max_size=2))
        lines.append(data.draw(st.sampled_from([f"[{name}]", f"  [ {name} ]  # table", f'["{name}"]'])))
        for key, value in values.items():
            lines.append(data.draw(st.sampled_from([f"{key} = {value}", f'  "{key}"={value}', f"{key}={value} # x"])))
            where[name, key] = len(lines)
    text = "\n".join(lines)
    assert tomllib.loads(text) == tables
    path = Path("settings.toml")
    whole = Table(path, text, tomllib.loads(text))
    for (name, key), line in where.items():
        assert whole.table(name).where(key) == f"{path}:{line}: `{name}.{key}`"
