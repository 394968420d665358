"""`sets` in the configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from buildsys.config.project import DEFAULT_SETS, load
from buildsys.errors import UserError


def project(root: Path, line: str) -> tuple[str, ...]:
    (root / "src").mkdir(exist_ok=True)
    (root / "buildsys.toml").write_text(f'package = "src"\n{line}\n')
    return load(root).sets


def test_println_and_panics_work_without_a_word(tmp_path: Path) -> None:
    assert project(tmp_path, "") == DEFAULT_SETS == ("print", "panic")


def test_sets_are_named_each_once(tmp_path: Path) -> None:
    assert project(tmp_path, 'sets = ["panic", "print", "panic"]') == ("panic", "print")
    assert project(tmp_path, "sets = []") == ()


def test_the_barrier_may_be_named_and_is_there_anyway(tmp_path: Path) -> None:
    assert project(tmp_path, 'sets = ["barrier"]') == ()


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('sets = ["prnt"]', ["buildsys.toml:2", "`sets` names 'prnt', which is no ready set", "did you mean `print`?"]),
        ('sets = ["locks"]', ["`sets` names 'locks'", "barrier", "panic", "print"]),
        ('sets = "print"', ["`sets`", "a list of strings"]),
        ("sets = [1]", ["`sets` must be a list of strings, 1 is not one"]),
    ],
)
def test_a_mistake_is_one_message(tmp_path: Path, line: str, says: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        project(tmp_path, line)
    message = f"{caught.value.message}\n{caught.value.hint}"
    assert "\n" not in caught.value.message
    for each in says:
        assert each in message
