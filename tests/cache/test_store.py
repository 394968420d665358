"""What comes out of the store is what was put in, whoever did what to its files, or nothing comes out."""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from io import FileIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildsys.cache import store as module
from buildsys.cache.result import Digest, Output, Result
from buildsys.cache.store import ABANDONED, Store, Usage

LIMIT = 10**9
DATA = b"what was made" * 3
# Processes forked of the tests; they use nothing that a thread of ours could hold.
FORK = multiprocessing.get_context("fork")


def digest_of(data: bytes) -> Digest:
    return Digest(sha256(data).hexdigest(), len(data))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store", LIMIT)


class Kept:
    """A store with one result of one output in it."""

    def __init__(self, folder: Path, data: bytes = DATA) -> None:
        self.store = Store(folder / "store", LIMIT)
        self.digest, self.key = digest_of(data), sha256(b"key").hexdigest()
        self.result = Result((Output("out", self.digest, True),), {"sites": 525})
        source = folder / "source"
        source.write_bytes(data)
        assert self.store.keep(self.digest, source)
        self.store.keep_result(self.key, self.result)
        self.into = folder / "into"
        self.blob = self.store.folder / "cas" / self.digest.hash[:2] / self.digest.hash
        self.entry = self.store.folder / "ac" / self.key[:2] / self.key
        assert self.taken()
        assert self.found()
        assert self.store.troubles == []

    def taken(self) -> bool:
        """Whether the contents were taken; if so they are right, and if not there is no file."""
        self.into.unlink(missing_ok=True)
        taken = self.store.take(self.digest, self.into)
        assert self.into.exists() is taken
        assert not taken or digest_of(self.into.read_bytes()) == self.digest
        return taken

    def found(self) -> bool:
        """Whether the result was found; if so it is the right one."""
        found = self.store.result(self.key)
        assert found in (None, self.result)
        return found is not None

    def heals(self) -> None:
        """Kept again, all is as it was."""
        source = self.into.with_name("source")
        assert self.store.keep(self.digest, source)
        self.store.keep_result(self.key, self.result)
        assert self.taken()
        assert self.found()


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path)


def put(store: Store, data: bytes) -> Digest:
    """Keep `data` in `store`."""
    with store.part() as part:
        part.write_bytes(data)
        store.adopt(digest_of(data), part)
    return digest_of(data)


def test_nothing_is_made_before_something_is_kept(store: Store, tmp_path: Path) -> None:
    assert store.result("0" * 64) is None
    assert not store.holds(digest_of(b""))
    assert not store.take(digest_of(b""), tmp_path / "into")
    assert store.usage() == Usage(0, 0, 0, 0.0)
    assert store.prune(0) == (0, 0)
    assert os.listdir(tmp_path) == []
    assert store.troubles == []


@given(st.binary(max_size=50))
def test_contents_come_out_as_they_went_in(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    Kept(tmp_path_factory.mktemp("kept"), data)


def test_contents_of_many_reads_come_out_as_they_went_in(tmp_path: Path) -> None:
    Kept(tmp_path, os.urandom(2 * module._CHUNK + 1))


def test_the_contents_of_a_result_are_not_there_before_they_were_kept(kept: Kept) -> None:
    assert kept.store.complete(kept.result)
    kept.blob.unlink()
    assert not kept.store.complete(kept.result)
    assert kept.store.troubles == []  # pruned: nothing is wrong


def test_what_is_not_what_it_is_said_to_be_is_not_kept(kept: Kept) -> None:
    source = kept.into.with_name("source")
    kept.blob.unlink()
    for other in (b"", DATA[:-1], DATA + b"x", b"X" + DATA[1:]):
        source.write_bytes(other)
        assert not kept.store.keep(kept.digest, source)
        assert not kept.store.holds(kept.digest)
    assert os.listdir(kept.store.folder / "tmp") == []


@pytest.mark.parametrize("at", range(len(DATA)))
def test_a_byte_changed_anywhere_in_contents_is_noticed(kept: Kept, at: int) -> None:
    changed = bytearray(DATA)
    changed[at] ^= 0x20
    kept.blob.write_bytes(changed)
    assert not kept.taken()
    assert kept.store.troubles == [f"{kept.blob}: is not what was stored, and was dropped"]
    assert not kept.blob.exists()
    kept.heals()


def test_a_bit_changed_anywhere_in_a_result_is_noticed(kept: Kept) -> None:
    whole = kept.entry.read_bytes()
    for at in range(len(whole)):
        for bit in (1, 0x20, 0x80):
            changed = bytearray(whole)
            changed[at] ^= bit
            kept.entry.write_bytes(changed)
            assert not kept.found(), at
            assert not kept.entry.exists()
    assert len(kept.store.troubles) == 3 * len(whole)
    kept.heals()


@pytest.mark.parametrize("what", ["blob", "entry"])
def test_what_was_cut_or_grew_is_noticed(kept: Kept, what: str) -> None:
    path: Path = getattr(kept, what)
    whole = path.read_bytes()
    for other in (*(whole[:length] for length in range(len(whole))), whole + b"\0", whole + b"\n", whole * 2):
        path.write_bytes(other)
        assert not (kept.taken() if what == "blob" else kept.found())
        assert not path.exists()
    kept.heals()


@pytest.mark.parametrize("size", [0, 1, len(DATA) - 1, len(DATA) + 1, 1 << 40])
def test_contents_of_another_size_are_not_complete_and_are_told(kept: Kept, size: int) -> None:
    os.truncate(kept.blob, size)  # the last one would take hours to read
    assert not kept.store.holds(kept.digest)
    assert not kept.taken() if size == 1 << 40 else not kept.store.complete(kept.result)
    assert kept.store.troubles == [f"{kept.blob}: is not what was stored, and was dropped"]
    kept.heals()


GARBAGE = {
    "nothing": b"",
    "zeros": bytes(500),
    "text": b"no JSON",
    "a list": b"[]",
    "deep": b"[" * 100_000,
    "no UTF-8": b'{"\xff',
    "no result": b'{"outputFiles": [{"path": "../out"}]}',
    "infinite": b'{"outputFiles": [{"path": "out", "digest": {"hash": "' + b"0" * 64 + b'", "sizeBytes": 1e999}}]}',
}


@pytest.mark.parametrize("sealed", [False, True])
@pytest.mark.parametrize("name", GARBAGE)
def test_a_result_that_is_none_is_dropped(kept: Kept, name: str, sealed: bool) -> None:
    kept.entry.write_bytes(module._sealed(GARBAGE[name]) if sealed else GARBAGE[name])
    assert not kept.found()
    assert kept.store.troubles == [f"{kept.entry}: is not what was stored, and was dropped"]
    assert not kept.entry.exists()
    kept.heals()


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _folder(path: Path) -> None:
    path.mkdir()


def _device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _unreadable(path: Path) -> None:
    path.symlink_to("/proc/self/mem")  # a regular file whose first byte cannot be read


def _loop(path: Path) -> None:
    path.symlink_to(path.name)


def _dangling(path: Path) -> None:
    path.symlink_to("none")


def _wrong(path: Path) -> None:
    (path.parent / "other").write_bytes(b"X" + DATA[1:])
    path.symlink_to("other")


@pytest.mark.parametrize("data", [DATA, b""])
@pytest.mark.parametrize("what", ["blob", "entry"])
@pytest.mark.parametrize("make", [_fifo, _folder, _device, _unreadable, _loop, _dangling, _wrong])
def test_what_is_no_file_of_ours_is_neither_waited_for_nor_served(
    tmp_path: Path, make: Callable[[Path], None], what: str, data: bytes
) -> None:
    kept = Kept(tmp_path, data)
    path: Path = getattr(kept, what)
    path.unlink()
    make(path)
    if what == "entry":
        assert not kept.found()
    else:
        assert make in (_unreadable, _wrong) or not kept.store.holds(kept.digest)
        # An empty file's contents can be read from a device that gives none.
        assert not kept.taken() or (data == b"" and make is _unreadable)
        kept.store.complete(kept.result)
    kept.heals()


def test_a_folder_with_something_in_it_is_left_and_told(kept: Kept) -> None:
    kept.blob.unlink()
    kept.blob.mkdir()
    (kept.blob / "somebodys").write_text("file")
    assert not kept.taken()
    assert kept.store.troubles == [f"{kept.blob}: is not what was stored, and cannot be removed"]
    with pytest.raises(OSError, match="directory"):
        kept.store.keep(kept.digest, kept.into.with_name("source"))
    assert (kept.blob / "somebodys").read_text() == "file"


def test_a_link_to_the_right_contents_is_as_good_as_they_are(kept: Kept) -> None:
    moved = kept.blob.with_name("moved")
    kept.blob.rename(moved)
    kept.blob.symlink_to(moved)
    assert kept.taken()
    moved.write_bytes(b"X" + DATA[1:])
    assert not kept.taken()


def test_who_asks_for_another_size_drops_nothing_by_asking(kept: Kept) -> None:
    """A shared cache may say anything of contents that are sound here."""
    for size in (0, len(DATA) - 1, len(DATA) + 1):
        assert not kept.store.holds(Digest(kept.digest.hash, size))
    assert kept.taken()
    assert kept.store.troubles == []


def test_what_is_being_taken_is_never_written_beyond_its_size(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CHUNK", 8)
    kept.blob.write_bytes(DATA * 1000)
    written = []
    unlink = Path.unlink

    def measure(self: Path, missing_ok: bool = False) -> None:
        written.extend([self.stat().st_size] if self == kept.into and self.exists() else [])
        unlink(self, missing_ok)

    monkeypatch.setattr(Path, "unlink", measure)
    assert not kept.store.take(kept.digest, kept.into)
    assert written
    assert max(written) <= len(DATA) + 8


# Several processes.

TEXTS = [bytes([65 + number]) * (1 + 40_000 * number) for number in range(5)]


def _keep_and_take(folder: Path, number: int, rounds: int) -> None:
    """Keep and take all of TEXTS again and again, and now and then break or prune; a wrong one ends it with 1."""
    store = Store(folder / "store", LIMIT)
    source, into = folder / f"source.{number}", folder / f"into.{number}"
    for turn in range(rounds):
        for text in TEXTS[number:] + TEXTS[:number]:
            digest, key = digest_of(text), sha256(text).hexdigest()
            result = Result((Output("out", digest, False),), {"text": text[:1].decode()})
            source.write_bytes(text)
            assert store.keep(digest, source)
            store.keep_result(key, result)
            assert store.result(key) in (None, result)
            into.unlink(missing_ok=True)
            if store.take(digest, into):
                assert into.read_bytes() == text
            else:
                assert not into.exists()
        store.bound(1000)
        if turn % 4 == number:
            store.prune(60_000 * number)


def test_several_processes_never_see_wrong_or_partial_contents(tmp_path: Path) -> None:
    processes = [FORK.Process(target=_keep_and_take, args=(tmp_path, number, 40)) for number in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    store = Store(tmp_path / "store", LIMIT)
    assert os.listdir(store.folder / "tmp") == []
    for path, _ in store._files():
        if path.parent.parent.name == "cas":
            assert sha256(path.read_bytes()).hexdigest() == path.name


def test_threads_of_one_process_do_not_share_their_parts(store: Store, tmp_path: Path) -> None:
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            _keep_and_take(tmp_path, number, 3)
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert os.listdir(store.folder / "tmp") == []


# Pruning.


def aged(path: Path, seconds: float) -> None:
    """Make `path` seem not to have been used for that long."""
    then = time.time() - seconds
    os.utime(path, (then, then))


def blob(store: Store, digest: Digest) -> Path:
    return store.folder / "cas" / digest.hash[:2] / digest.hash


def test_what_was_not_used_for_longest_goes_first(store: Store, tmp_path: Path) -> None:
    digests = [put(store, bytes([65 + number]) * 100) for number in range(5)]
    for number, digest in enumerate(digests):
        aged(blob(store, digest), 1000 - number)
    assert store.take(digests[0], tmp_path / "into")  # the oldest is used
    assert store.keep(digests[1], blob(store, digests[1]))  # and the next is made again
    assert store.prune(300) == (2, 200)
    assert [store.holds(digest) for digest in digests] == [True, True, False, False, True]
    assert store.prune(300) == (0, 0)
    assert store.prune(299) == (1, 100)
    assert [store.holds(digest) for digest in digests] == [True, True, False, False, False]
    assert store.prune(0) == (2, 200)
    assert store.usage().size == 0


def test_a_result_that_is_asked_for_is_used(kept: Kept) -> None:
    aged(kept.entry, 1000)
    aged(kept.blob, 500)
    assert kept.found()
    kept.store.prune(kept.entry.stat().st_size)
    assert kept.found()
    assert not kept.taken()


def test_usage_is_what_is_there(kept: Kept) -> None:
    aged(kept.entry, 1000)
    usage = kept.store.usage()
    assert usage[:3] == (1, 1, kept.entry.stat().st_size + len(DATA))
    assert usage.oldest == kept.entry.stat().st_mtime


def test_a_store_that_grows_past_its_limit_is_pruned(tmp_path: Path) -> None:
    store = Store(tmp_path / "store", 10_000)
    for number in range(60):
        digest = put(store, bytes([number]) * 500)
        aged(blob(store, digest), 1000 - number)
        store.bound(500)
        assert store.usage().size <= 11_500
    assert store.holds(digest)
    assert store.usage().size >= 8_000


@pytest.mark.parametrize("damage", [b"\xff\xfe", b"9" * 5000 + b"\n", b"-5\n", b"5 5 x\n", bytes(50), b"\n\n"])
def test_a_damaged_ledger_only_moves_the_moment_of_pruning(tmp_path: Path, damage: bytes) -> None:
    store = Store(tmp_path / "store", 1000)
    for number in range(30):
        put(store, bytes([number]) * 100)
    (store.folder / "grown").write_bytes(damage)
    store.bound(200)  # it may go on in the damaged line
    store.bound(200)
    assert store.usage().size <= 1000


def test_what_another_process_prunes_while_it_is_taken_is_taken_whole(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = module._read
    monkeypatch.setattr(module, "_CHUNK", 8)
    pruned: list[tuple[int, int]] = []

    def prune_then_read(source: FileIO) -> bytes:
        if not pruned:
            pruned.append(Store(kept.store.folder, LIMIT).prune(0))
        return read(source)

    monkeypatch.setattr(module, "_read", prune_then_read)
    assert kept.taken()
    assert pruned == [(2, pruned[0][1])]
    assert not kept.taken()
    assert kept.store.troubles == []


def _write_for_ever(folder: Path, ready: Path) -> None:
    store = Store(folder, LIMIT)
    with store.part() as part, part.open("wb") as file:
        file.write(b"half")
        file.flush()
        ready.touch()
        signal.pause()


def test_a_killed_writer_leaves_a_part_alone_which_a_later_prune_removes(kept: Kept, tmp_path: Path) -> None:
    before = {path for path, _ in kept.store._files()}
    os.mkfifo(tmp_path / "ready")
    process = FORK.Process(target=_write_for_ever, args=(kept.store.folder, tmp_path / "ready"))
    process.start()
    (part,) = _appears(kept.store.folder / "tmp")
    while part.stat().st_size < 4:
        time.sleep(0.005)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert {path for path, _ in kept.store._files()} == before
    assert list((kept.store.folder / "tmp").iterdir()) == [part]
    kept.store.prune(LIMIT)
    assert part.exists()  # somebody could still be writing it
    aged(part, ABANDONED + 10)
    kept.store.bound(1)
    assert part.exists()
    kept.store.bound(LIMIT // 5)  # though the store is far from full
    assert not part.exists()
    assert {path for path, _ in kept.store._files()} == before
    part.touch()
    aged(part, ABANDONED + 10)
    kept.store.prune(LIMIT)
    assert not part.exists()


def _appears(folder: Path) -> list[Path]:
    """The files in `folder`, once there are any."""
    while not (found := list(folder.glob("*"))):
        time.sleep(0.005)
    return found


# Disks that refuse.


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """Make `folder` take some 60 kB: as a file system of its own, or, if we may not make one, by files no larger."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(folder)]
    if os.geteuid() == 0 and subprocess.run(command, check=False, capture_output=True).returncode == 0:
        try:
            yield
        finally:
            subprocess.run(["umount", "-l", str(folder)], check=True)
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_what_a_full_disk_cut_is_no_contents(tmp_path: Path) -> None:
    store = Store(tmp_path / "disk" / "store", LIMIT)
    source = tmp_path / "source"
    source.write_bytes(b"x" * 50_000)
    os.truncate(source, 100_000)
    data = source.read_bytes()
    large = digest_of(data)
    with small_disk(tmp_path / "disk"):
        small = put(store, bytes(30_000))
        with pytest.raises(OSError, match=r"No space left on device|File too large"):
            store.keep(large, source)
        assert not store.holds(large)
        assert os.listdir(store.folder / "tmp") == []
        assert store.holds(small)


def test_a_place_that_cannot_be_written_is_told_apart_from_contents_that_are_wrong(kept: Kept) -> None:
    with pytest.raises(FileNotFoundError):
        kept.store.take(kept.digest, kept.into.parent / "none" / "file")
    assert kept.taken()
    assert kept.store.troubles == []


@pytest.mark.parametrize("what", [".", "tmp", "cas", "ac"])
def test_a_file_in_place_of_a_folder_is_an_error_when_something_is_kept(kept: Kept, what: str) -> None:
    folder = kept.store.folder / what
    shutil.rmtree(folder)
    folder.write_text("a file")
    kept.taken()
    kept.found()
    kept.store.usage()
    kept.store.prune(0)
    with pytest.raises((FileExistsError, NotADirectoryError)):
        kept.heals()
    assert folder.read_text() == "a file"
    assert kept.store.troubles == []


def test_results_are_json_that_anyone_can_read(kept: Kept) -> None:
    text, seal = kept.entry.read_bytes().rsplit(b"\n", 1)
    assert json.loads(text)["outputFiles"][0]["path"] == "out"
    assert seal.decode() == sha256(text).hexdigest()
