"""A file is what it holds; its times only save reading it again."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildsys.cache import fingerprint
from buildsys.cache.fingerprint import MISSING, RACY, Print, of_file, of_folder, settled


def settle() -> None:
    """Wait until what was written can be told from a later change by its time."""
    time.sleep(2 * RACY / 1e9)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"one")
    return path


def kept(path: Path) -> Print:
    """The print of `path` as a record keeps it."""
    return settled(of_file(path))


def test_the_digest_is_the_sha256_of_the_whole_file(tmp_path: Path) -> None:
    data = os.urandom((3 << 20) + 1)
    (tmp_path / "large").write_bytes(data)
    assert of_file(tmp_path / "large")[1] == hashlib.sha256(data).hexdigest()


@given(st.binary(max_size=20), st.binary(max_size=20))
def test_prints_differ_exactly_when_contents_do(
    tmp_path_factory: pytest.TempPathFactory, one: bytes, other: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "print"
    path.write_bytes(one)
    before = kept(path)
    path.write_bytes(other)
    assert (of_file(path, before)[1] == before[1]) is (one == other)


def test_a_file_nobody_changed_is_not_read_again(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settle()
    before = kept(file)
    monkeypatch.setattr(fingerprint, "_digest", lambda path: pytest.fail(f"{path} was read"))
    assert of_file(file, before) == before


def test_other_contents_of_the_same_size_and_time_are_noticed(file: Path) -> None:
    settle()
    before, status = kept(file), file.stat()
    file.write_bytes(b"two")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert file.stat().st_mtime_ns == status.st_mtime_ns
    assert of_file(file, before)[1] != before[1]


def test_another_file_of_the_same_size_and_time_in_its_place_is_noticed(file: Path) -> None:
    settle()
    before, status = kept(file), file.stat()
    other = file.with_name("other")
    other.write_bytes(b"two")
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.replace(file)
    assert of_file(file, before)[1] != before[1]


def test_an_older_version_restored_with_its_old_time_is_noticed(file: Path) -> None:
    backup = file.with_name("backup")
    shutil.copy2(file, backup)
    file.write_bytes(b"two")
    settle()
    before = kept(file)
    backup.replace(file)
    assert of_file(file, before)[1] != before[1]


def test_a_touched_file_is_what_it_was(file: Path) -> None:
    settle()
    before = kept(file)
    os.utime(file)
    after = of_file(file, before)
    assert after[0] != before[0]
    assert after[1] == before[1]


TICK = 10_000_000  # ns; the coarsest clock Linux gives file systems, at 100 Hz


@pytest.fixture
def tick(file: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], bool]:
    """Give files times as coarse as a slow clock does; the function tells whether `file` has the time it had."""
    real = os.stat

    def stat(path: Path) -> SimpleNamespace:
        status = real(path)
        return SimpleNamespace(
            st_size=status.st_size,
            st_mtime_ns=status.st_mtime_ns // TICK * TICK,
            st_ctime_ns=status.st_ctime_ns // TICK * TICK,
            st_ino=status.st_ino,
            st_dev=status.st_dev,
        )

    monkeypatch.setattr(fingerprint, "os", SimpleNamespace(stat=stat, listdir=os.listdir))
    before = [0]

    def same() -> bool:
        before.append(stat(file).st_ctime_ns)
        return bool(before[-1] == before[-2])

    return same


@pytest.mark.parametrize("wait", [False, True])
def test_a_second_change_within_one_tick_of_the_clock_is_noticed(
    file: Path, tick: Callable[[], bool], wait: bool
) -> None:
    for _ in range(1000):
        file.write_bytes(b"one")
        tick()
        looked = of_file(file)
        file.write_bytes(b"two")
        if tick():
            break
    else:
        pytest.fail("no two writes fell into one tick")
    if wait:  # the print is kept only after a long step
        settle()
    assert of_file(file, settled(looked))[1] != looked[1]


def test_what_cannot_be_read_is_missing(tmp_path: Path) -> None:
    assert of_file(tmp_path / "none") == MISSING
    assert of_file(tmp_path) == MISSING
    assert of_folder(tmp_path / "none") == MISSING
    (tmp_path / "loop").symlink_to("loop")
    assert of_file(tmp_path / "loop") == MISSING


def test_a_file_that_vanished_is_missing_whatever_was_known(file: Path) -> None:
    before = kept(file)
    file.unlink()
    assert of_file(file, before) == MISSING


def test_a_folder_is_the_names_in_it(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")
    before = of_folder(tmp_path)[1]
    (tmp_path / "a").write_text("other contents")
    assert of_folder(tmp_path)[1] == before
    (tmp_path / "b").write_text("")
    with_two = of_folder(tmp_path)[1]
    assert with_two != before
    (tmp_path / "b").rename(tmp_path / "c")
    assert of_folder(tmp_path)[1] not in (before, with_two)
    (tmp_path / "c").unlink()
    assert of_folder(tmp_path)[1] == before


def test_a_folder_nobody_changed_is_not_listed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settle()
    before = settled(of_folder(tmp_path))
    monkeypatch.setattr(os, "listdir", lambda path: pytest.fail(f"{path} was listed"))
    assert of_folder(tmp_path, before) == before


def test_names_that_are_no_text_can_be_told_apart(tmp_path: Path) -> None:
    digests = set()
    for number, names in enumerate(([b"\xff"], [b"\xfe"], [b"a\nb"], [b"a", b"b"], [])):
        folder = tmp_path / str(number)
        folder.mkdir()
        for name in names:
            (folder / os.fsdecode(name)).write_text("")
        digests.add(of_folder(folder)[1])
    assert len(digests) == 5
