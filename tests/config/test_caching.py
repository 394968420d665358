"""`[tool.buildsys.cache]`: where results are kept and shared; the environment goes before the file."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildsys.config.caching import FOLDER, MODE, REMOTE, UNITS, Caching, caching, size_in_bytes
from buildsys.config.toml import read
from buildsys.errors import UserError

HOME = "XDG_CACHE_HOME"


@pytest.fixture(autouse=True)
def _environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (FOLDER, REMOTE, MODE, HOME):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def said(tmp_path: Path, *lines: str) -> Caching | None:
    path = tmp_path / "pyproject.toml"
    path.write_text("\n".join(["[cache]", *lines, ""]))
    return caching(read(path).table("cache"))


def told(tmp_path: Path, *lines: str) -> Caching:
    found = said(tmp_path, *lines)
    assert found is not None
    return found


def refused(tmp_path: Path, *lines: str) -> UserError:
    with pytest.raises(UserError) as caught:
        said(tmp_path, *lines)
    return caught.value


def test_nothing_has_to_be_said(tmp_path: Path) -> None:
    found = told(tmp_path)
    assert found[:-1] == (tmp_path / "home" / ".cache" / "buildsys", 5_000_000_000, "", False, 5.0)


def test_everything_can_be_said(tmp_path: Path) -> None:
    lines = (
        'folder = "/var/kept"',
        'limit = "1.5 GiB"',
        'remote = "http://cache/prefix"',
        'mode = "read-write"',
        "timeout = 0.5",
    )
    where = f"{tmp_path / 'pyproject.toml'}:4: `cache.remote`"
    assert told(tmp_path, *lines) == Caching(Path("/var/kept"), 3 << 29, "http://cache/prefix", True, 0.5, where)


def test_the_environment_goes_before_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FOLDER, "/other")
    monkeypatch.setenv(REMOTE, "https://other")
    monkeypatch.setenv(MODE, "read-only")
    found = told(tmp_path, 'folder = "/var/kept"', 'remote = "http://cache"', 'mode = "read-write"')
    assert (found.folder, found.remote, found.writes) == (Path("/other"), "https://other", False)
    assert found.where == REMOTE


@pytest.mark.parametrize("value", ["off", ""])
def test_the_environment_can_turn_the_shared_cache_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv(REMOTE, value)
    assert told(tmp_path, 'remote = "http://cache"').remote == ""


def test_the_environment_can_turn_all_off_and_on_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert said(tmp_path, 'folder = "off"') is None
    monkeypatch.setenv(FOLDER, "/kept")
    assert told(tmp_path, 'folder = "off"').folder == Path("/kept")
    monkeypatch.setenv(FOLDER, "off")
    assert said(tmp_path, 'folder = "/var/kept"') is None


def test_the_users_cache_folder_is_where_the_specification_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(HOME, "/caches")
    assert told(tmp_path).folder == Path("/caches/buildsys")
    for ignored in ("", "relative/caches"):
        monkeypatch.setenv(HOME, ignored)
        assert told(tmp_path).folder == tmp_path / "home" / ".cache" / "buildsys"


def test_a_folder_may_be_named_from_home_or_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert told(tmp_path, 'folder = "~/kept"').folder == tmp_path / "home" / "kept"
    assert told(tmp_path, 'folder = "kept"').folder == tmp_path / "kept"


def test_a_user_without_a_home_has_no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    assert said(tmp_path) is None
    assert said(tmp_path, 'folder = "~nobody-has-this-name/kept"') is None
    assert told(tmp_path, 'folder = "/kept"').folder == Path("/kept")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("limit = 5", "`cache.limit` must be a string, not 5"),
        ('limit = "much"', "`cache.limit` is 'much' is no size"),
        ('limit = "5 gb"', "`cache.limit` is '5 gb' is no size"),
        ('limit = "-1 GB"', "`cache.limit` is '-1 GB' is no size"),
        (f'limit = "{"9" * 400} GB"', "is no size"),
        ('mode = "write"', "`cache.mode` is 'write'"),
        ("timeout = 0", "`cache.timeout` must be more than 0 seconds"),
        ("timeout = nan", "`cache.timeout` must be a finite number"),
        ('timeout = "5"', "`cache.timeout` must be a number, not '5'"),
        ('remotes = "http://cache"', "unknown key `cache.remotes`"),
        ('folder = ""\nremote = 3', "`cache.remote` must be a string, not 3"),
        ('folder = "a\\u0000b"', "`cache.folder` has a NUL character in it"),
    ],
)
def test_a_mistake_is_named_with_file_and_line(tmp_path: Path, line: str, message: str) -> None:
    error = refused(tmp_path, line)
    assert error.message.startswith(f"{tmp_path / 'pyproject.toml'}:{2 + line.count(chr(10))}: ")
    assert message.removeprefix("`cache.limit` is ") in error.message


def test_a_mistake_in_the_environment_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MODE, "readwrite")
    error = refused(tmp_path)
    assert error.message == f"the environment variable {MODE} is 'readwrite'"
    assert error.hint == "did you mean `read-write`?"


@given(st.integers(0, 10**6), st.sampled_from(sorted(UNITS)), st.sampled_from(["", " ", "  "]))
def test_a_size_is_its_number_times_its_unit(count: int, unit: str, between: str) -> None:
    assert size_in_bytes(f"{count}{between}{unit}") == count * UNITS[unit]
    assert size_in_bytes(f" {count}.5{between}{unit} ") == count * UNITS[unit] + UNITS[unit] // 2


@given(st.text(max_size=12))
def test_no_text_is_anything_but_a_size_or_a_mistake(text: str) -> None:
    said = None
    with suppress(UserError):
        said = size_in_bytes(text)
    assert said is None or said >= 0
