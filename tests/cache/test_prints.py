"""A tool is hashed once for all projects; what is kept of it saves reading it, and never decides what it holds."""

from __future__ import annotations

import json
import os
from hashlib import sha256
from pathlib import Path

import pytest

from buildsys.cache import fingerprint
from buildsys.cache import prints as module
from buildsys.cache.fingerprint import MISSING, Print, of_file, settled
from buildsys.cache.prints import LARGE, Prints

from .test_fingerprint import settle


@pytest.fixture
def tool(tmp_path: Path) -> Path:
    path = tmp_path / "tool"
    path.write_bytes(os.urandom(LARGE))
    settle()
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "prints.json"


def never_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fingerprint, "_digest", lambda path: pytest.fail(f"{path} was read"))


def test_a_tool_looked_at_once_is_not_read_by_the_next_build(
    tool: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = of_file(tool)
    assert Prints(file).get(str(tool)) == MISSING
    Prints(file).keep({str(tool): found})
    never_read(monkeypatch)
    assert of_file(tool, Prints(file).get(str(tool))) == found


def test_another_tool_in_its_place_is_noticed(tool: Path, file: Path) -> None:
    Prints(file).keep({str(tool): of_file(tool)})
    status = tool.stat()
    other = os.urandom(LARGE)
    tool.write_bytes(other)
    os.utime(tool, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert of_file(tool, Prints(file).get(str(tool)))[1] == sha256(other).hexdigest()


def test_after_a_start_of_the_machine_a_tool_is_read_again(
    tool: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "boot", lambda: "the first")
    found = of_file(tool)
    Prints(file).keep({str(tool): found})
    assert Prints(file).get(str(tool)) == found
    monkeypatch.setattr(module, "boot", lambda: "the second")
    assert Prints(file).get(str(tool)) == ((), found[1])
    with monkeypatch.context() as inner:
        read: list[Path | str] = []

        def digest(path: Path | str) -> str:
            read.append(path)
            return found[1]

        inner.setattr(fingerprint, "_digest", digest)
        assert of_file(tool, Prints(file).get(str(tool))) == found
        assert read == [tool]
    Prints(file).keep({str(tool): of_file(tool, Prints(file).get(str(tool)))})
    never_read(monkeypatch)
    assert of_file(tool, Prints(file).get(str(tool))) == found


def test_only_large_files_that_rest_and_lie_outside_the_project_are_kept(tool: Path, file: Path) -> None:
    small = tool.with_name("small")
    small.write_bytes(b"x" * (LARGE - 1))
    fresh = tool.with_name("fresh")
    settle()
    fresh.write_bytes(bytes(LARGE))
    moving = of_file(fresh)
    assert settled(moving) != moving
    Prints(file).keep({"tool": of_file(tool), str(small): of_file(small), str(fresh): moving, "/none": MISSING})
    assert not file.exists()
    Prints(file).keep({str(tool): of_file(tool), str(small): of_file(small)})
    assert list(json.loads(file.read_bytes())["prints"]) == [str(tool)]


def test_what_is_known_is_not_written_again(tool: Path, file: Path) -> None:
    Prints(file).keep({str(tool): of_file(tool)})
    before = file.stat()
    Prints(file).keep({str(tool): of_file(tool)})
    assert file.stat() == before


def test_prints_kept_before_stay(tool: Path, file: Path) -> None:
    other = tool.with_name("other")
    other.write_bytes(bytes(LARGE))
    settle()
    Prints(file).keep({str(tool): of_file(tool)})
    Prints(file).keep({str(other): of_file(other)})
    assert Prints(file).get(str(tool)) == of_file(tool)
    assert Prints(file).get(str(other)) == of_file(other)


@pytest.mark.parametrize(
    "damage",
    ["", "{", "[]", "null", "3", '{"boot": "x"}', '{"prints": {}}', '{"boot": "", "prints": []}',
     '{"boot": "", "prints": {"/t": null}}', '{"boot": "", "prints": {"/t": [1]}}',
     '{"boot": "", "prints": {"/t": [1, "x"]}}', "\udcff", "[" * 100_000],
)  # fmt: skip
def test_a_damaged_file_is_none(tool: Path, file: Path, damage: str) -> None:
    file.parent.mkdir()
    file.write_bytes(damage.encode("utf-8", "surrogateescape"))
    found = of_file(tool)
    assert Prints(file).get(str(tool)) == MISSING
    Prints(file).keep({str(tool): found})
    assert Prints(file).get(str(tool)) == found


@pytest.mark.parametrize("stored", [[], [1, 2, 3], ["a"], [None] * 6, "text", {"a": 1}])
def test_a_stat_that_is_none_only_makes_a_tool_be_read(tool: Path, file: Path, stored: object) -> None:
    file.parent.mkdir()
    wrong: Print = ((), "f" * 64)
    file.write_text(json.dumps({"boot": fingerprint.boot(), "prints": {str(tool): [stored, wrong[1]]}}))
    assert of_file(tool, Prints(file).get(str(tool))) == of_file(tool)


def test_a_disk_that_refuses_is_no_error(tool: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    prints = Prints(tmp_path / "cache" / "prints.json")
    prints.keep({str(tool): of_file(tool)})
    assert prints.get(str(tool)) == of_file(tool)  # for this build
    assert (tmp_path / "cache").read_text() == "a file"
