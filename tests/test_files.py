"""Whoever reads a file that is written here sees the old contents or the new, and only ever reads regular files."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildsys.cache.lock import sweep
from buildsys.files import opened, partial, replace, revising, share


@pytest.fixture
def old(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    return path


def test_a_replaced_file_is_another_file(old: Path) -> None:
    other = old.with_name("other")
    other.hardlink_to(old)
    replace(old, b"n", memoryview(b"ew"))
    assert old.read_bytes() == b"new"
    assert other.read_bytes() == b"old"
    assert sorted(os.listdir(old.parent)) == ["file", "other"]


def test_what_cannot_be_written_leaves_the_old_file_and_nothing_else(old: Path) -> None:
    with pytest.raises(TypeError):
        replace(old, b"n", "ew")  # type: ignore[arg-type]
    assert old.read_bytes() == b"old"
    assert os.listdir(old.parent) == ["file"]


def test_threads_that_replace_one_file_do_not_write_into_each_others(old: Path) -> None:
    texts = {bytes([letter]) * length for letter, length in ((65, 1), (66, 90_000), (67, 200_000))}
    stop, seen = threading.Event(), set[bytes]()

    def read() -> None:
        while not stop.is_set():
            seen.add(old.read_bytes())

    def write(text: bytes) -> None:
        for _ in range(60):
            replace(old, text)

    with ThreadPoolExecutor() as pool:
        reader = pool.submit(read)
        writers = [pool.submit(write, text) for text in texts]
        try:
            for writer in writers:
                writer.result()
        finally:
            stop.set()
        reader.result()
    assert seen <= texts | {b"old"}
    assert seen & texts
    assert os.listdir(old.parent) == ["file"]


def test_a_part_left_as_another_name_of_a_file_in_use_is_not_written_through(old: Path) -> None:
    with partial(old) as beside:
        pass
    beside.hardlink_to(old)  # as a killed process with the number of this one left it
    target = old.with_name("target")
    target.write_bytes(b"target")
    with partial(old) as again:
        assert again == beside
        assert not again.exists()
        again.write_bytes(b"new")
        assert old.read_bytes() == b"old"


def test_a_shared_file_is_another_name_of_it(old: Path) -> None:
    other = old.with_name("other")
    other.write_bytes(b"before")
    share(old, other)
    assert other.samefile(old)
    share(old, other)
    assert other.samefile(old)
    share(old, old)
    assert old.read_bytes() == b"old"
    replace(old, b"new")
    assert other.read_bytes() == b"old"
    assert sorted(os.listdir(old.parent)) == ["file", "other"]


def test_where_a_file_cannot_have_two_names_it_is_copied(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, target: Path) -> None:
        raise OSError("another file system")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    old.chmod(0o755)
    other = old.with_name("other")
    share(old, other)
    assert not other.samefile(old)
    assert (other.read_bytes(), other.stat().st_mode & 0o777) == (b"old", 0o755)


def test_what_is_not_there_cannot_be_shared(tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(b"before")
    with pytest.raises(FileNotFoundError):
        share(tmp_path / "none", tmp_path / "other")
    assert (tmp_path / "other").read_bytes() == b"before"
    assert os.listdir(tmp_path) == ["other"]


def test_a_file_is_in_place_when_the_body_ends_and_not_before(old: Path) -> None:
    with revising(old, 0o755, b"new"):
        assert old.read_bytes() == b"old"
    assert (old.read_bytes(), old.stat().st_mode & 0o777) == (b"new", 0o755)
    assert os.listdir(old.parent) == ["file"]


@given(st.binary(max_size=60), st.lists(st.tuples(st.integers(0, 60), st.binary(max_size=30)), max_size=5))
def test_what_the_body_changes_is_changed_and_may_make_it_longer(
    tmp_path_factory: pytest.TempPathFactory, contents: bytes, changes: list[tuple[int, bytes]]
) -> None:
    path = tmp_path_factory.getbasetemp() / "revised"
    changes = [(min(start, len(contents)), piece) for start, piece in changes]
    with revising(path, 0o644, contents) as revise:
        revise(iter(changes))
    for start, piece in changes:
        contents = contents[:start] + piece + contents[start + len(piece) :]
    assert path.read_bytes() == contents


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt()])
@pytest.mark.parametrize("revised", [False, True])
def test_a_body_that_fails_leaves_the_old_file(old: Path, error: BaseException, revised: bool) -> None:
    def fail() -> None:
        with revising(old, 0o644, b"new" * 100_000) as revise:
            if revised:
                revise([(0, b"newer")])
            raise error

    with pytest.raises(type(error)):
        fail()
    assert old.read_bytes() == b"old"
    assert os.listdir(old.parent) == ["file"]


@pytest.mark.parametrize("piece", [3, "text", None, memoryview(b"abcd")[::2].tolist()])
def test_a_piece_that_cannot_be_written_is_an_error_and_never_another_file(old: Path, piece: object) -> None:
    changes: list[Any] = [(0, b"N"), (1, piece)]
    with pytest.raises(TypeError), revising(old, 0o644, b"new") as revise:
        revise(changes)
    assert old.read_bytes() == b"old"
    assert os.listdir(old.parent) == ["file"]


def test_changes_that_cannot_be_made_are_an_error_and_never_another_file(old: Path) -> None:
    def changes() -> Iterator[tuple[int, bytes]]:
        yield 0, b"N"
        raise LookupError("what should come next")

    with pytest.raises(LookupError), revising(old, 0o644, b"new") as revise:
        revise(changes())
    assert old.read_bytes() == b"old"
    assert os.listdir(old.parent) == ["file"]


# Ctrl-C comes before each line in turn that the main thread runs of files.py and threading.py while a file is revised.
INTERRUPTED = """
import os, signal, sys, threading
from pathlib import Path
from buildsys import files

path = Path(sys.argv[1])
places = {files.__file__, threading.__file__}
waiting, moment, count = [], 0, 0

def look(frame, event, argument):
    global count
    if frame.f_code.co_filename not in places:
        return None
    if event == "line":
        count += 1
        if count == moment:
            sys.settrace(None)
            signal.raise_signal(signal.SIGINT)
    return look

def revise():
    sys.settrace(look)
    with files.revising(path, 0o644, b"new") as changes:
        changes([(0, b"N")])
    sys.settrace(None)

while True:
    moment, count = moment + 1, 0
    path.write_bytes(b"old")
    try:
        revise()
    except KeyboardInterrupt:
        pass
    for thread in threading.enumerate():
        if not thread.daemon and thread is not threading.main_thread():
            thread.join(2)
            if thread.is_alive():
                waiting.append(moment)
    if len(os.listdir(path.parent)) != 1 or path.read_bytes() not in (b"old", b"New"):
        waiting.append(f"{moment}: {os.listdir(path.parent)}")
    if count < moment:
        break
print(moment, waiting, flush=True)
os._exit(0)
"""


def test_nobody_waits_for_the_writing_when_an_interruption_comes_at_any_moment(tmp_path: Path) -> None:
    script, folder = tmp_path / "script.py", tmp_path / "folder"
    script.write_text(INTERRUPTED)
    folder.mkdir()
    command = [sys.executable, str(script), str(folder / "file")]
    moments, _, waiting = subprocess.check_output(command, text=True, timeout=120).strip().partition(" ")
    assert (int(moments) > 20, waiting) == (True, "[]")


def test_a_folder_that_is_not_there_is_an_error_of_the_writing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), revising(tmp_path / "none" / "file", 0o644, b"new"):
        pass
    assert os.listdir(tmp_path) == []


def test_only_a_regular_file_is_opened(tmp_path: Path) -> None:
    """None of these keeps one waiting."""
    (tmp_path / "file").write_bytes(b"held")
    (tmp_path / "link").symlink_to("file")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "loop").symlink_to("loop")
    for name in ("file", "link"):
        with opened(tmp_path / name) as file:
            assert file.read() == b"held"
    for other in (tmp_path, tmp_path / "fifo", tmp_path / "loop", tmp_path / "none", Path("/dev/zero")):
        with pytest.raises(OSError, match=re.escape(str(other))) as caught:
            opened(other)
        assert str(caught.value.filename) == str(other)


def test_what_a_linker_left_beside_a_partial_file_goes_with_it_if_it_failed(tmp_path: Path) -> None:
    def fail() -> None:
        with partial(tmp_path / "file") as beside:
            beside.with_name(f"{beside.name}.tmp12ab34c").write_bytes(b"half")
            raise OSError("no room")

    with pytest.raises(OSError, match="no room"):
        fail()
    assert os.listdir(tmp_path) == []


def test_what_a_killed_linker_left_is_swept_when_nobody_lives_who_wants_it(tmp_path: Path) -> None:
    gone, ours = tmp_path / ".linked.elf.7.999999999.partial", tmp_path / f".linked.elf.7.{os.getpid()}.partial"
    for each in (gone, ours):
        each.write_bytes(b"half")
        each.with_name(f"{each.name}.tmp12ab34c").write_bytes(b"half")
    sweep(tmp_path)
    assert sorted(os.listdir(tmp_path)) == sorted([ours.name, f"{ours.name}.tmp12ab34c"])
