"""What was found out before is found again, the likeliest first, in this folder or another."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from buildsys.cache.caches import Caches
from buildsys.cache.memory import ANSWERS, SIZE, Memory
from buildsys.cache.result import Result
from buildsys.config.caching import Caching

from .test_caches import Shelf

KEY = "k" * 64


class Folder:
    """A build folder in front of a store."""

    def __init__(self, path: Path, store: Path) -> None:
        self.file, self.store = path / "question.json", store

    def recalled(self, key: str = KEY) -> list[Mapping[str, Any]]:
        return list(Memory(self.file, lambda: key, self.caches()).recall())

    def learn(self, answer: Mapping[str, Any], key: str = KEY) -> list[str]:
        """Recall what is known, find none of it true, and keep `answer`; returns what was told."""
        caches = self.caches()
        memory = Memory(self.file, lambda: key, caches)
        list(memory.recall())
        memory.keep(answer)
        return caches.settle()

    def caches(self) -> Caches:
        return Caches(Caching(self.store, 10**9))


@pytest.fixture
def here(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "here", tmp_path / "store")


@pytest.fixture
def there(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "there", tmp_path / "store")


def test_who_knows_nothing_recalls_nothing(here: Folder) -> None:
    assert here.recalled() == []
    assert not here.file.exists()


def test_an_answer_is_recalled_here_and_elsewhere(here: Folder, there: Folder) -> None:
    assert here.learn({"answer": 1}) == []
    assert here.recalled()[0] == {"answer": 1}
    assert there.recalled() == [{"answer": 1}]
    assert there.recalled("o" * 64) == []


def test_the_last_answer_comes_first_and_the_others_after_it(here: Folder, there: Folder) -> None:
    for number in range(4):
        here.learn({"answer": number})
    here.learn({"answer": 1})
    assert here.recalled()[0] == {"answer": 1}
    assert there.recalled() == [{"answer": number} for number in (1, 3, 2, 0)]


def test_what_is_known_here_is_told_without_asking_the_caches(here: Folder) -> None:
    here.learn({"answer": 1})

    def never() -> str:
        pytest.fail("they were asked")

    assert next(Memory(here.file, never, here.caches()).recall()) == {"answer": 1}


def test_an_answer_that_is_known_here_is_not_kept_again(here: Folder) -> None:
    here.learn({"answer": 1})
    before = here.file.stat()
    here.learn({"answer": 1})
    assert here.file.stat() == before


@pytest.mark.parametrize("new", [True, False])
def test_only_what_is_new_is_shared(here: Folder, there: Folder, new: bool) -> None:
    caches, shelf = Caches(Caching(here.store, 10**9, "http://shared", writes=True)), Shelf()
    vars(caches)["remote"] = shelf
    Memory(here.file, lambda: KEY, caches).keep({"answer": 1}, new)
    assert caches.settle() == []
    assert (KEY in shelf.results) is new
    assert there.recalled() == [{"answer": 1}]


def test_recalling_twice_keeps_each_answer_once(here: Folder, there: Folder) -> None:
    for number in range(3):
        here.learn({"answer": number})
    caches = there.caches()
    memory = Memory(there.file, lambda: KEY, caches)
    for _ in range(3):
        list(memory.recall())
    memory.keep({"answer": 9})
    assert caches.settle() == []
    assert here.recalled()[1:] == [{"answer": number} for number in (9, 2, 1, 0)]


def test_there_are_only_so_many_answers_and_the_oldest_is_forgotten(here: Folder, there: Folder) -> None:
    for number in range(ANSWERS + 3):
        here.learn({"answer": number})
    assert there.recalled() == [{"answer": number} for number in range(ANSWERS + 2, 2, -1)]


def test_answers_take_only_so_much_room_and_the_last_is_always_kept(here: Folder, there: Folder) -> None:
    large = "x" * (SIZE // 3)
    for number in range(5):
        here.learn({"answer": number, "text": large})
    assert [answer["answer"] for answer in there.recalled()] == [4, 3]
    here.learn({"answer": 5, "text": "y" * SIZE})
    assert [answer["answer"] for answer in there.recalled()] == [5]


def test_without_caches_the_last_answer_is_known_here(tmp_path: Path) -> None:
    path = tmp_path / "done" / "question.json"

    def never() -> str:
        pytest.fail("there is nobody to ask")

    for number in (1, 2):
        Memory(path, never, None).keep({"answer": number})
    assert list(Memory(path, never, None).recall()) == [{"answer": 2}]
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"null", b"3", b"\xff", bytes(40), b"[" * 100_000])
def test_a_damaged_answer_is_none(here: Folder, damage: bytes) -> None:
    here.learn({"answer": 1})
    here.file.write_bytes(damage)
    assert here.recalled() == [{"answer": 1}]
    here.file.unlink()
    here.file.mkdir()
    assert here.recalled() == [{"answer": 1}]


@pytest.mark.parametrize("facts", [{}, {"answers": None}, {"answers": {"a": 1}}, {"answers": ["a", 3, None]}])
def test_what_is_no_answer_is_passed_over(here: Folder, facts: Mapping[str, Any]) -> None:
    caches = here.caches()
    caches.store.keep_result(KEY, Result((), facts))
    assert here.recalled() == []
    here.learn({"answer": 1})
    assert json.loads(here.file.read_text()) == {"answer": 1}


def test_a_store_that_refuses_is_told_and_the_answer_known_here(here: Folder) -> None:
    here.store.write_text("a file")
    (told,) = here.learn({"answer": 1})
    assert told.startswith(f"nothing is kept in the local cache: {here.store}")
    assert here.recalled() == [{"answer": 1}]


def test_a_build_folder_that_cannot_be_written_is_an_error(here: Folder) -> None:
    here.file.parent.write_text("a file")
    with pytest.raises(OSError, match="here"):
        here.learn({"answer": 1})
