"""Results go to a file and back, and parts become the whole; what is not all of one matrix does not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from buildsys.errors import UserError
from buildsys.matrix.results import FAILED, Results, merge, nothing, read
from buildsys.matrix.rows import Row, Shard

from .conftest import ABSENT, BAD, EMULATORS, line, results

GOS = ("1.24", "1.27")


def part(number: int, *gos: str, sources: str = "s") -> Results:
    lines = [line(go, toolchain) for go in gos for toolchain in ("zig", "gnu")]
    return results(*lines, shard=Shard(number, 2), gos=GOS, sources=sources)


def refused(*parts: Results) -> UserError:
    with pytest.raises(UserError) as caught:
        merge([(Path(f"part{number}.json"), each) for number, each in enumerate(parts)])
    return caught.value


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    whole = results(line("1.24", "zig"), line("1.24", "gnu", qemu=BAD), line("1.24", "llvm", ABSENT, ABSENT))
    path = tmp_path / "matrix.json"
    path.write_text(whole.to_json())
    assert read(path) == whole


def test_parts_become_the_whole_in_the_order_of_the_table() -> None:
    first, second = part(1, "1.24"), part(2, "1.27")
    second = replace(second, tools={"qemu": "10.0", "unicorn": "2"})
    whole = merge([(Path("b"), second), (Path("a"), first)])
    assert whole.lines == (*first.lines, *second.lines)
    assert whole.shard == Shard(1, 1)
    assert whole.tools == {"qemu": "10.0, 7.2", "unicorn": "2"}


def test_one_whole_matrix_merges_to_itself() -> None:
    whole = results(line("1.24", "zig"))
    assert merge([(Path("a"), whole)]) == whole


def test_a_missing_part_is_named() -> None:
    assert refused(part(2, "1.27")).message == "no file has part 1/2"


def test_a_part_that_lacks_a_row_is_noticed() -> None:
    lacking = part(1, "1.24")
    error = refused(replace(lacking, lines=lacking.lines[:1]), part(2, "1.27"))
    assert error.message == "no file has Go 1.24 with gnu"


def test_a_row_in_two_files_is_refused_naming_both() -> None:
    error = refused(part(1, "1.24"), part(1, "1.24"), part(2, "1.27"))
    assert error.message == "part0.json and part1.json: both have Go 1.24 with zig"


def test_parts_of_different_sources_are_refused() -> None:
    assert "are not of one matrix: other sources" in refused(part(1, "1.24"), part(2, "1.27", sources="t")).message


def test_parts_of_different_selections_are_refused() -> None:
    other = results(line("1.26", "zig"), shard=Shard(2, 2))
    assert "another selection" in refused(part(1, "1.24"), other).message


def test_parts_of_different_divisions_are_refused() -> None:
    other = replace(part(2, "1.27"), shard=Shard(2, 3))
    assert "another number of parts" in refused(part(1, "1.24"), other).message


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", '{"format": 1}', "[" * 100000])
def test_what_is_no_result_is_refused_naming_the_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        read(path)
    assert caught.value.message == f"{path}: is no result of `doit matrix`"


@pytest.mark.parametrize("key", ["selection", "shard", "lines", "tools", "board", "sources"])
@pytest.mark.parametrize("value", [None, 3, "x", [3], {"x": 3}])
def test_a_result_with_a_part_of_another_kind_is_refused_or_understood(tmp_path: Path, key: str, value: object) -> None:
    stored = json.loads(results(line("1.24", "zig")).to_json())
    path = tmp_path / "x.json"
    path.write_text(json.dumps({**stored, key: value}))
    if key in ("board", "sources") or (key, value) == ("tools", {"x": 3}):
        read(path)
        return
    with pytest.raises(UserError, match="is no result"):
        read(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.json: cannot be read: No such file"):
        read(tmp_path / "none.json")


def test_a_later_format_is_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(results(line("1.24", "zig")).to_json().replace('"format": 1', '"format": 2'))
    with pytest.raises(UserError, match="another version of buildsys"):
        read(path)


def test_a_row_without_an_image_fails_on_every_emulator() -> None:
    found = nothing(Row("1.24", "zig"), EMULATORS, FAILED, ["the linker says no"])
    assert {name: verdict.result for name, verdict in found.verdicts.items()} == dict.fromkeys(EMULATORS, FAILED)
