"""One process at a time holds a lock: others are told and wait, and nobody waits for the dead."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from buildsys.cache.lock import Lock, sweep

FORK = multiprocessing.get_context("fork")


def hold(path: Path, pipe: Connection) -> None:
    """Hold the lock, tell so and whether it was waited for, until something is said."""
    with Lock(path, lambda: pipe.send("waits")).held() as waited:
        pipe.send(waited)
        pipe.recv()
    pipe.send("done")


class Other:
    """Another process that takes the lock at once, and tells what happens."""

    def __init__(self, path: Path, target: Callable[[Path, Connection], None] = hold) -> None:
        self.pipe, there = FORK.Pipe()
        self.process = FORK.Process(target=target, args=(path, there))
        self.process.start()
        there.close()

    def tells(self) -> object:
        assert self.pipe.poll(30)
        return self.pipe.recv()

    def silent(self) -> bool:
        return not self.pipe.poll(0.05)

    def end(self) -> None:
        self.pipe.send("end")
        assert self.tells() == "done"
        self.process.join()
        assert self.process.exitcode == 0

    def kill(self) -> None:
        self.process.kill()
        self.process.join()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "done" / "lock"


@pytest.fixture
def others(path: Path) -> Iterator[Callable[[], Other]]:
    started: list[Other] = []

    def start() -> Other:
        started.append(Other(path))
        return started[-1]

    yield start
    for other in started:
        other.kill()


def fail() -> None:
    pytest.fail("nobody else holds it")


def test_a_lock_nobody_holds_is_not_waited_for(path: Path) -> None:
    lock = Lock(path, fail)
    for _ in range(3):
        with lock.held() as waited:
            assert waited is False
            assert lock.intact()


def test_another_process_waits_is_told_and_gets_it_afterwards(path: Path, others: Callable[[], Other]) -> None:
    with Lock(path, fail).held():
        other = others()
        assert other.tells() == "waits"
        assert other.silent()
    assert other.tells() is True
    other.end()
    with Lock(path, fail).held() as waited:
        assert waited is False


def test_each_of_several_gets_it_alone(path: Path, others: Callable[[], Other]) -> None:
    with Lock(path, fail).held():
        waiting = [others() for _ in range(3)]
        assert [other.tells() for other in waiting] == ["waits"] * 3
    for _ in range(3):
        (holder,) = [other for other in waiting if not other.silent()]
        assert holder.tells() is True
        holder.end()
        waiting.remove(holder)


def test_a_killed_holder_frees_it(path: Path, others: Callable[[], Other]) -> None:
    first = others()
    assert first.tells() is False
    second = others()
    assert second.tells() == "waits"
    first.kill()
    assert second.tells() is True
    second.end()


def test_a_process_that_fails_while_it_holds_it_frees_it(path: Path, others: Callable[[], Other]) -> None:
    with pytest.raises(KeyboardInterrupt), Lock(path, fail).held():
        raise KeyboardInterrupt
    other = others()
    assert other.tells() is False
    other.end()


def test_all_threads_of_a_process_hold_it_and_the_last_frees_it(path: Path, others: Callable[[], Other]) -> None:
    lock, inside, leave = Lock(path, fail), threading.Barrier(5), threading.Event()

    def work() -> bool:
        with lock.held() as waited, lock.held() as again:
            inside.wait(30)
            assert leave.wait(30)
            return waited or again

    with ThreadPoolExecutor(4) as pool:
        working = [pool.submit(work) for _ in range(4)]
        inside.wait(30)  # all four hold it, and each twice
        other = others()
        assert other.tells() == "waits"
        with lock.held() as waited:
            assert waited is False
        assert other.silent()
        leave.set()
        assert [each.result() for each in working] == [False] * 4
    assert other.tells() is True
    other.end()


def test_who_is_interrupted_while_it_waits_does_not_hold_it(path: Path, others: Callable[[], Other]) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    other = others()
    assert other.tells() is False
    lock, before = Lock(path, interrupt), len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt), lock.held():
            pytest.fail("it is held by another process")
    assert len(os.listdir("/proc/self/fd")) == before
    other.end()
    with lock.held() as waited:
        assert waited is False


def test_a_signal_ends_the_waiting(path: Path, others: Callable[[], Other]) -> None:
    other = others()
    assert other.tells() is False

    def interrupt(*_: object) -> None:
        raise InterruptedError("enough")

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        lock = Lock(path, lambda: signal.setitimer(signal.ITIMER_REAL, 0.05))
        with pytest.raises(InterruptedError), lock.held():
            pytest.fail("it is held by another process")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    other.end()


def test_a_process_forked_while_it_is_held_does_not_hold_it(path: Path, others: Callable[[], Other]) -> None:
    reader, writer = os.pipe()
    with Lock(path, fail).held():
        child = os.fork()
        if not child:
            os.close(writer)
            os.read(reader, 1)  # until the test ends
            os._exit(0)
    try:
        other = others()
        assert other.tells() is False
        other.end()
    finally:
        os.close(writer)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(reader)


def test_a_lock_whose_folder_was_removed_is_not_intact(path: Path, others: Callable[[], Other]) -> None:
    lock = Lock(path, fail)
    with lock.held():
        shutil.rmtree(path.parent)
        assert not lock.intact()
        other = others()  # it cannot know
        assert other.tells() is False
        assert not lock.intact()
        other.end()
    with lock.held():
        assert lock.intact()


def test_who_waited_for_a_lock_that_was_removed_takes_the_new_one(path: Path, others: Callable[[], Other]) -> None:
    with Lock(path, fail).held():
        other = others()
        assert other.tells() == "waits"
        shutil.rmtree(path.parent)
    assert other.tells() is True
    third = others()
    assert third.tells() == "waits"
    other.end()
    assert third.tells() is True
    third.end()


def test_where_files_cannot_be_locked_nobody_waits(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(file: int, operation: int) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with Lock(path, fail).held() as waited:
        assert waited is False


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    lock = Lock(tmp_path / "file" / "lock", fail)
    for _ in range(2):
        with pytest.raises(OSError, match="file"), lock.held():
            pytest.fail("there is no lock")


def test_what_the_dead_left_is_swept_and_nothing_else(tmp_path: Path) -> None:
    dead = FORK.Process(target=os.getpid)
    dead.start()
    dead.join()
    ours = {f"out.{os.getpid()}.partial", f"out.7.{os.getpid()}.partial", "out.1.partial"}
    others = {
        "out",
        "out.partial",
        "x.partial",
        f"out.{dead.pid}",
        f"{dead.pid}",
        "out.²³.partial",
        "out.99999999999999999999.partial",
        "out.-5.partial",
    }
    theirs = {f"out.{dead.pid}.partial", f"out.7.{dead.pid}.partial", f"a b.o.{dead.pid}.partial"}
    for name in ours | others | theirs:
        (tmp_path / name).write_text(name)
    (tmp_path / f"folder.{dead.pid}.partial").mkdir()
    sweep(tmp_path, tmp_path / "none", tmp_path / "out")
    assert set(os.listdir(tmp_path)) == ours | others | {f"folder.{dead.pid}.partial"}
