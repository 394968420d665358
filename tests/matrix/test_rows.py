"""What is selected, and which part of it one machine takes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildsys.config.project import TOOLCHAINS
from buildsys.errors import UserError
from buildsys.go.releases import lines
from buildsys.matrix.rows import EMULATORS, Row, Selection, Shard, every_go, selection, shard


def test_by_default_it_is_everything() -> None:
    assert selection("", "", "") == (("system", *lines()), TOOLCHAINS, EMULATORS)


def test_a_selection_is_in_the_order_given_each_once() -> None:
    found = selection("1.27, 1.24,1.27", "gnu,zig", "qemu")
    assert found.rows == [Row("1.27", "gnu"), Row("1.27", "zig"), Row("1.24", "gnu"), Row("1.24", "zig")]
    assert found.emulators == ("qemu",)


@pytest.mark.parametrize(
    ("said", "message", "hint"),
    [
        (("", "zgi", ""), "--toolchain: there is no 'zgi'", "did you mean `zig`?"),
        (("", "zig,", ""), "--toolchain: there is no ''", "known: gnu, llvm, zig"),
        (("", "", "qmeu"), "--emulator: there is no 'qmeu'", "did you mean `qemu`?"),
    ],
)
def test_what_there_is_none_of_is_refused_with_the_nearest(said: tuple[str, str, str], message: str, hint: str) -> None:
    with pytest.raises(UserError) as caught:
        selection(*said)
    assert (caught.value.message, caught.value.hint) == (message, hint)


@pytest.mark.parametrize("said", ["0/3", "4/3", "1/0", "x", "1", "1/3/5", "-1/3", "¹/3", "1 / 3"])
def test_what_is_no_part_is_refused(said: str) -> None:
    with pytest.raises(UserError, match="--shard is") as caught:
        shard(said)
    assert "I/N" in caught.value.hint


def test_a_part_is_named_as_it_is_written() -> None:
    assert str(shard("2/3")) == "2/3"
    assert shard("") == Shard(1, 1)


@given(st.integers(0, 60), st.integers(1, 70))
def test_the_parts_are_all_the_rows_each_once_and_of_one_size(count: int, parts: int) -> None:
    rows = [Row(str(number), "zig") for number in range(count)]
    found = [Shard(number, parts).part(rows) for number in range(1, parts + 1)]
    assert [row for part in found for row in part] == rows
    assert max(map(len, found)) - min(map(len, found)) <= 1


def test_the_toolchains_of_a_go_stay_together_where_they_can() -> None:
    whole = Selection(every_go(), TOOLCHAINS, EMULATORS)
    for number in range(1, len(whole.gos) + 1):
        assert len({row.go for row in Shard(number, len(whole.gos)).part(whole.rows)}) == 1
