"""What comes back from the caches is whole and right or does not come back, and no cache stops a build."""

from __future__ import annotations

import multiprocessing
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from buildsys.cache.caches import REMOTE, RESTORED, Caches, Found
from buildsys.cache.result import Digest, Output, Result
from buildsys.config.caching import Caching
from buildsys.errors import UserError

from .test_store import small_disk

FORK = multiprocessing.get_context("fork")
KEY = sha256(b"key").hexdigest()
CONTENTS = {"image": b"\x7fELF" * 5000, "inner/report": b"", "listing": b"sites"}


def digest_of(data: bytes) -> Digest:
    return Digest(sha256(data).hexdigest(), len(data))


class Build:
    """A build folder whose outputs are CONTENTS once made, with caches of its own before a store."""

    def __init__(self, folder: Path, settings: Caching, remote: Any = None) -> None:
        self.folder, self.caches = folder, Caches(settings)
        vars(self.caches)["remote"] = remote
        self.files = {name: folder / name for name in CONTENTS}
        (folder / "inner").mkdir(parents=True)

    def make(self, contents: Mapping[str, bytes] = CONTENTS) -> Result:
        for name, data in contents.items():
            self.files[name].write_bytes(data)
        return Result(
            tuple(Output(name, digest_of(data), name == "image") for name, data in contents.items()), {"sites": 525}
        )

    def keep(self, key: str = KEY) -> list[str]:
        """Make and keep the outputs; returns what was told."""
        self.caches.keep(key, self.make(), self.files)
        return self.caches.settle()

    def restored(self, key: str = KEY) -> str:
        """Where the outputs were restored from, "" if they were not: then none of them has changed."""
        before = self.held()
        found = self.caches.find(key)
        if found is None or not self.caches.restore(key, found, self.files):
            assert self.held() == before
            return ""
        assert {name: self.files[name].read_bytes() for name in CONTENTS} == CONTENTS
        assert not [path for path in self.folder.rglob("*") if path.name.endswith(".partial")]
        return found.origin

    def held(self) -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in self.folder.rglob("*") if path.is_file()}

    def blob(self, name: str) -> Path:
        hashed = digest_of(CONTENTS[name]).hash
        return self.caches.store.folder / "cas" / hashed[:2] / hashed


@pytest.fixture
def settings(tmp_path: Path) -> Caching:
    return Caching(tmp_path / "store", 10**9, "http://shared", writes=True)


@pytest.fixture
def here(tmp_path: Path, settings: Caching) -> Build:
    return Build(tmp_path / "here", settings)


@pytest.fixture
def there(tmp_path: Path, settings: Caching) -> Build:
    return Build(tmp_path / "there", settings)


def test_what_was_kept_is_restored_elsewhere(here: Build, there: Build) -> None:
    assert here.restored() == ""
    assert here.keep() == []
    assert there.restored() == RESTORED
    assert there.caches.settle() == []
    found = there.caches.find(KEY)
    assert found == Found(here.make(), RESTORED)
    assert there.restored("0" * 64) == ""


def test_only_what_could_be_executed_can_be(here: Build, there: Build) -> None:
    here.keep()
    there.restored()
    assert {name: bool(path.stat().st_mode & 0o111) for name, path in there.files.items()} == {
        "image": True, "inner/report": False, "listing": False,
    }  # fmt: skip


def test_folders_are_made_for_what_is_restored(here: Build, there: Build) -> None:
    here.keep()
    shutil.rmtree(there.folder)
    assert there.restored() == RESTORED


def test_what_is_restored_is_written_through_no_link_and_over_files_that_are_read_only(
    here: Build, there: Build, tmp_path: Path
) -> None:
    here.keep()
    mine = tmp_path / "mine"
    mine.write_bytes(b"mine")
    there.files["image"].symlink_to(mine)
    there.files["listing"].hardlink_to(mine)
    there.files["inner/report"].write_bytes(b"old")
    there.files["inner/report"].chmod(0o400)
    assert there.restored() == RESTORED
    assert mine.read_bytes() == b"mine"
    assert there.files["image"].stat().st_nlink == 1


@pytest.mark.parametrize("name", CONTENTS)
def test_all_outputs_are_put_in_place_or_none(here: Build, there: Build, name: str) -> None:
    here.keep()
    there.make(dict.fromkeys(CONTENTS, b"old"))
    whole = there.blob(name).read_bytes()
    there.blob(name).write_bytes(b"x" * len(whole) or b"x")
    assert there.restored() == ""
    (told,) = there.caches.settle()
    assert told == f"{there.blob(name)}: is not what was stored, and was dropped"
    assert here.keep() == []
    assert there.restored() == RESTORED


@pytest.mark.parametrize("name", CONTENTS)
def test_a_folder_in_place_of_an_output_is_an_error_and_no_other_output_is_replaced(
    here: Build, there: Build, name: str
) -> None:
    here.keep()
    there.make(dict.fromkeys(CONTENTS, b"old"))
    there.files[name].unlink()
    (there.files[name] / "mine").mkdir(parents=True)
    before = there.held()
    found = there.caches.find(KEY)
    assert found is not None
    with pytest.raises(IsADirectoryError) as caught:
        there.caches.restore(KEY, found, there.files)
    assert caught.value.filename == str(there.files[name])
    assert there.held() == before


def test_a_result_of_other_outputs_is_none(here: Build, there: Build) -> None:
    here.keep()
    found = there.caches.find(KEY)
    assert found is not None
    for files in (
        {},
        {**there.files, "more": there.folder / "more"},
        {name: path for name, path in there.files.items() if name != "listing"},
        {name.upper(): path for name, path in there.files.items()},
    ):
        assert not there.caches.restore(KEY, found, files)
    assert there.held() == {}
    twice = Found(found.result._replace(outputs=(*found.result.outputs, found.result.outputs[0])), RESTORED)
    assert not there.caches.restore(KEY, twice, there.files)
    assert there.held() == {}


def test_what_is_pruned_after_it_was_found_is_not_restored(here: Build, there: Build) -> None:
    here.keep()
    found = there.caches.find(KEY)
    assert found is not None
    for name in CONTENTS:
        here.blob(name).unlink()
        assert not there.caches.restore(KEY, found, there.files)
        assert there.held() == {}
        here.keep()
    assert there.caches.restore(KEY, found, there.files)
    assert there.caches.settle() == []


@pytest.mark.parametrize("name", CONTENTS)
def test_an_output_written_to_since_it_was_made_is_not_kept(here: Build, there: Build, name: str) -> None:
    result = here.make()
    here.files[name].write_bytes(b"x" * len(CONTENTS[name]) or b"x")
    here.caches.keep(KEY, result, here.files)
    assert here.caches.settle() == []
    assert there.caches.find(KEY) is None
    assert there.caches.store.result(KEY) is None


def test_what_was_found_out_needs_no_files(here: Build, there: Build) -> None:
    here.caches.remember(KEY, {"answers": [1]})
    assert here.caches.settle() == []
    assert [result.facts for result in there.caches.every(KEY)] == [{"answers": [1]}]


def test_a_store_past_its_limit_is_pruned_when_the_build_ends(tmp_path: Path) -> None:
    build = Build(tmp_path / "here", Caching(tmp_path / "store", 30_000))
    for number in range(20):
        result = build.make({"image": bytes([number]) * 5000})
        build.caches.keep(str(number) * 64, result, build.files)
        assert build.caches.settle() == []
        assert build.caches.store.usage().size < 40_000
    assert build.caches.store.usage().contents > 2


# The shared cache.


@dataclass
class Shelf:
    """A shared cache that keeps bytes in memory, as buildsys.cache.remote would use a server."""

    results: dict[str, bytes] = field(default_factory=dict)
    blobs: dict[Digest, bytes] = field(default_factory=dict)
    trouble: str = ""
    asked: list[str] = field(default_factory=list)

    def result(self, key: str) -> bytes | None:
        self.asked.append(key)
        return self.results.get(key)

    def blob(self, digest: Digest, into: Path) -> bool:
        self.asked.append(digest.hash)
        if digest not in self.blobs:
            return False
        into.write_bytes(self.blobs[digest])
        return True

    def offer(self, key: str, result: bytes, blobs: Mapping[Digest, Path]) -> bool:
        self.blobs |= {digest: path.read_bytes() for digest, path in blobs.items()}
        self.results[key] = result
        return True


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
def far(tmp_path: Path, shelf: Shelf) -> Build:
    """A build on another machine, which has the shared cache alone in common with `here`."""
    return Build(tmp_path / "far", Caching(tmp_path / "other store", 10**9, "http://shared"), shelf)


@pytest.fixture
def shared(here: Build, shelf: Shelf) -> Shelf:
    """A shared cache that a build wrote to."""
    vars(here.caches)["remote"] = shelf
    assert here.keep() == []
    assert shelf.blobs.keys() == {digest_of(data) for data in CONTENTS.values()}
    return shelf


def test_what_another_machine_shared_is_restored_and_kept_here(far: Build, shared: Shelf) -> None:
    assert far.restored() == REMOTE
    assert far.caches.settle() == []
    shared.asked.clear()
    assert far.restored() == RESTORED
    assert shared.asked == []


def test_only_contents_that_are_not_here_are_fetched(far: Build, shared: Shelf) -> None:
    far.restored()
    (far.caches.store.folder / "ac" / KEY[:2] / KEY).unlink()
    far.blob("listing").unlink()
    shared.asked.clear()
    assert far.restored() == REMOTE
    assert shared.asked == [KEY, digest_of(CONTENTS["listing"]).hash]


def test_what_was_pruned_here_is_asked_for_there(far: Build, shared: Shelf) -> None:
    far.restored()
    far.blob("image").unlink()
    assert far.restored() == REMOTE


def test_nothing_is_shared_unless_that_is_asked_for(far: Build, shelf: Shelf) -> None:
    assert far.keep() == []
    assert (shelf.results, shelf.blobs) == ({}, {})


def test_a_url_that_cannot_be_meant_is_the_users_mistake(tmp_path: Path) -> None:
    caches = Caches(Caching(tmp_path / "store", 10**9, "nonsense"))
    with pytest.raises(UserError, match="nonsense"):
        caches.find(KEY)


def test_what_the_shared_cache_has_to_tell_is_told_once(far: Build, shelf: Shelf) -> None:
    far.restored()
    shelf.trouble = "it is dead"
    assert far.caches.settle() == ["it is dead"]
    assert far.caches.settle() == []
    shelf.trouble = "it lies"
    assert far.caches.settle() == ["it lies"]


def _other_bytes(shelf: Shelf) -> None:
    shelf.blobs = {digest: b"x" * digest.size for digest in shelf.blobs}


def _short(shelf: Shelf) -> None:
    shelf.blobs = {digest: data[:-1] for digest, data in shelf.blobs.items()}


def _long(shelf: Shelf) -> None:
    shelf.blobs = {digest: data + b"x" for digest, data in shelf.blobs.items()}


def _mixed(shelf: Shelf) -> None:
    first, *_ = shelf.blobs
    shelf.blobs = dict.fromkeys(shelf.blobs, shelf.blobs[first])


def _no_blobs(shelf: Shelf) -> None:
    shelf.blobs = {}


def _nothing_written(shelf: Shelf) -> None:
    shelf.blob = lambda digest, into: True  # type: ignore[method-assign]  # of this one shelf alone


def _disk_full(shelf: Shelf) -> None:
    def refuse(digest: Digest, into: Path) -> bool:
        into.write_bytes(b"half")
        raise OSError(28, "No space left on device", str(into))

    shelf.blob = refuse  # type: ignore[method-assign]  # of this one shelf alone


def _folder_written(shelf: Shelf) -> None:
    def write(digest: Digest, into: Path) -> bool:
        into.symlink_to("/dev/zero")
        return True

    shelf.blob = write  # type: ignore[method-assign]  # of this one shelf alone


def _answer(data: bytes | Callable[[Result], Result]) -> Callable[[Shelf], None]:
    def answer(shelf: Shelf) -> None:
        told = data if isinstance(data, bytes) else data(Result.from_json(shelf.results[KEY])).to_json()
        shelf.results[KEY] = told

    return answer


def _sizes(by: int) -> Callable[[Result], Result]:
    def change(result: Result) -> Result:
        outputs = (
            output._replace(digest=output.digest._replace(size=max(0, output.digest.size + by)))
            for output in result.outputs
        )
        return result._replace(outputs=tuple(outputs))

    return change


MISBEHAVIOUR: dict[str, Callable[[Shelf], None]] = {
    "other bytes": _other_bytes,
    "short bytes": _short,
    "more bytes": _long,
    "another's bytes": _mixed,
    "no bytes": _no_blobs,
    "bytes that are not written": _nothing_written,
    "a disk that is full": _disk_full,
    "no file": _folder_written,
    "garbage": _answer(b"\0garbage"),
    "deep garbage": _answer(b"[" * 100_000),
    "an infinite size": _answer(b'{"outputFiles": [{"path": "x", "digest": {"hash": "", "sizeBytes": 1e999}}]}'),
    "larger sizes": _answer(_sizes(1)),
    "smaller sizes": _answer(_sizes(-1)),
    "no outputs": _answer(lambda result: result._replace(outputs=())),
    "one output less": _answer(lambda result: result._replace(outputs=result.outputs[1:])),
    "one output more": _answer(
        lambda result: result._replace(outputs=(*result.outputs, result.outputs[0]._replace(path="more")))
    ),
}


@pytest.mark.parametrize("name", MISBEHAVIOUR)
def test_a_shared_cache_that_misbehaves_is_a_miss(far: Build, shared: Shelf, name: str) -> None:
    far.make(dict.fromkeys(CONTENTS, b"old"))
    MISBEHAVIOUR[name](shared)
    for _ in range(2):
        assert far.restored() == ""
        assert all(line and "\n" not in line for line in far.caches.settle())
    assert far.caches.store.result(KEY) is None
    parts = far.caches.store.folder / "tmp"
    assert not parts.exists() or os.listdir(parts) == []
    far.keep()
    assert far.restored() == RESTORED


@pytest.mark.parametrize("name", MISBEHAVIOUR)
def test_a_shared_cache_that_misbehaves_takes_nothing_from_the_store(far: Build, shared: Shelf, name: str) -> None:
    other = sha256(b"other").hexdigest()
    far.keep(other)
    MISBEHAVIOUR[name](shared)
    assert far.restored() in ("", REMOTE)
    assert all("is not what was stored" not in line for line in far.caches.settle())
    assert far.restored(other) == RESTORED


def test_contents_replaced_on_the_shared_cache_are_never_served_from_the_store(far: Build, shared: Shelf) -> None:
    """Should a shared cache not look at what it fetches, the store does."""
    _other_bytes(shared)
    assert far.restored() == ""
    told = far.caches.settle()
    assert told
    assert all("is not what was stored, and was dropped" in line for line in told)
    assert not far.blob("image").exists()


# Stores that refuse.


def _file(store: Path) -> None:
    store.write_text("a file")


def _file_in(name: str) -> Callable[[Path], None]:
    def make(store: Path) -> None:
        store.mkdir()
        (store / name).write_text("a file")

    return make


def _full_ledger(store: Path) -> None:
    store.mkdir()
    (store / "grown").symlink_to("/dev/full")


REFUSING: dict[str, Callable[[Path], None]] = {
    "a file": _file,
    "parts": _file_in("tmp"),
    "contents": _file_in("cas"),
    "results": _file_in("ac"),
    "the ledger": _full_ledger,
}


@pytest.mark.parametrize("name", REFUSING)
def test_a_store_that_refuses_is_told_once_and_stops_nothing(
    here: Build, there: Build, settings: Caching, name: str
) -> None:
    REFUSING[name](settings.folder)
    here.caches.keep("0" * 64, here.make(), here.files)
    told = here.keep()
    assert len(told) == 1
    assert told[0].startswith(f"nothing is kept in the local cache: {settings.folder}")
    assert here.caches.settle() == []
    assert there.restored() == (RESTORED if name == "the ledger" else "")


def test_on_a_full_disk_what_fits_is_kept_and_the_rest_is_one_warning(tmp_path: Path) -> None:
    build = Build(tmp_path / "here", Caching(tmp_path / "disk" / "store", 10**9))
    large = build.make({"image": b"x" * 100_000})
    with small_disk(tmp_path / "disk"):
        build.caches.keep("0" * 64, large, build.files)
        (told,) = build.caches.settle()
        assert told.startswith(f"nothing is kept in the local cache: {tmp_path / 'disk' / 'store'}")
        assert told.endswith((": No space left on device", ": File too large"))
        assert build.caches.find("0" * 64) is None
        assert build.keep() == []
        assert build.restored() == RESTORED


@pytest.mark.parametrize("name", ["a file", "parts", "contents"])
def test_with_a_store_that_refuses_nothing_is_fetched_and_nothing_stopped(far: Build, shared: Shelf, name: str) -> None:
    REFUSING[name](far.caches.store.folder)
    assert far.restored() == ""
    (told,) = far.caches.settle()
    assert told.startswith("nothing is kept in the local cache: ")


def test_results_that_cannot_be_kept_are_fetched_all_the_same(far: Build, shared: Shelf) -> None:
    REFUSING["results"](far.caches.store.folder)
    assert far.restored() == REMOTE
    (told,) = far.caches.settle()
    assert told.startswith("nothing is kept in the local cache: ")


@pytest.mark.parametrize("moment", ["before", "found", "kept"])
def test_a_store_that_vanishes_is_a_miss_and_is_made_again(
    here: Build, there: Build, settings: Caching, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if moment != "before":
        here.keep()
    found = there.caches.find(KEY)
    shutil.rmtree(settings.folder, ignore_errors=True)
    if found:
        assert not there.caches.restore(KEY, found, there.files)
    if moment == "kept":
        adopt = there.caches.store.adopt

        def vanish(digest: Digest, part: Path) -> None:
            monkeypatch.undo()
            shutil.rmtree(settings.folder)
            adopt(digest, part)

        monkeypatch.setattr(there.caches.store, "adopt", vanish)
        (told,) = there.keep()
        assert told.startswith(f"nothing is kept in the local cache: {settings.folder}")
    assert there.keep() == []
    assert here.restored() == RESTORED


# Several processes.


def _at_once(folder: Path, settings: Caching, number: int) -> None:
    """Keep and restore three results again and again; what is not right ends it with 1."""
    build = Build(folder / str(number), settings)
    restored = 0
    for turn in range(45):
        key = str((turn + number) % 3) * 64
        restored += build.restored(key) == RESTORED
        assert build.keep(key) == []
        if turn % 9 == number:
            build.caches.store.prune(10_000)
    assert restored


def test_builds_that_run_at_once_only_restore_what_is_whole(tmp_path: Path) -> None:
    settings = Caching(tmp_path / "store", 200_000)
    processes = [FORK.Process(target=_at_once, args=(tmp_path, settings, number)) for number in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    assert os.listdir(settings.folder / "tmp") == []
