"""Claims checked in processes beside: the same lines, and nothing of them left whatever happens."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from buildsys import processes
from buildsys.errors import UserError
from buildsys.front.beside import beside
from buildsys.front.verify import Line, check_together
from buildsys.proof.case import Case
from buildsys.proof.claim import Claim, Result, Verdict


def where(case: Case) -> Verdict:
    """A check that tells which process it was made in."""
    return Verdict(Result.PASSED, str(os.getpid()), {"case": case is not None})


def wrong(case: Case) -> Verdict:
    raise UserError("wrong", "mend it")


def defect(case: Case) -> Verdict:
    raise ZeroDivisionError(f"by {os.getpid()}")


def gone(case: Case) -> Verdict:
    """One that comes to its end in the process of the tests alone."""
    if os.getpid() != int(os.environ["TESTS"]):
        os.kill(os.getpid(), signal.SIGKILL)
    return where(case)


@pytest.fixture(autouse=True)
def tests(monkeypatch: pytest.MonkeyPatch) -> int:
    """The process of the tests; and threads of the runner's own do not count."""
    monkeypatch.setenv("TESTS", str(os.getpid()))
    monkeypatch.setattr(threading, "active_count", lambda: 1)
    return os.getpid()


def checked(case: Case, *claims: Claim) -> list[Line]:
    return check_together(case, list(enumerate(claims, 1)))


def test_what_no_run_is_asked_for_is_checked_beside_and_told_in_order(case: Case, tests: int) -> None:
    still, seen = Claim("still", "", where), Claim("seen", "", where, observed=True)
    built = Claim("built", "", where, builds=True)
    lines = checked(case, still, seen, built, still, seen)
    assert [line.number for line in lines] == [1, 2, 3, 4, 5]
    assert [line.claim for line in lines] == [still, seen, built, still, seen]
    assert all(line.verdict.passed and line.verdict.evidence == {"case": True} for line in lines)
    first, here, building, again, here_too = (int(line.verdict.figure) for line in lines)
    assert here == here_too == tests
    assert first == again != tests
    assert building not in (tests, first)


def test_one_kind_of_claim_needs_no_other_process(case: Case, tests: int) -> None:
    for claim in (Claim("still", "", where), Claim("built", "", where, builds=True)):
        assert [line.verdict.figure for line in checked(case, claim)] == [str(tests)]


def test_beside_another_thread_nothing_is_begun(case: Case, tests: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    ended = threading.Event()
    thread = threading.Thread(target=ended.wait)
    thread.start()
    try:
        lines = checked(case, Claim("still", "", where), Claim("seen", "", where, observed=True))
    finally:
        ended.set()
        thread.join()
    assert [line.verdict.figure for line in lines] == [str(tests)] * 2


def test_a_mistake_of_the_users_is_a_claim_that_failed(case: Case) -> None:
    line, _ = checked(case, Claim("wrong", "", wrong), Claim("seen", "", where, observed=True))
    assert (line.verdict.result, line.verdict.figure, line.verdict.advice) == (Result.FAILED, "wrong", "mend it")


def test_a_defect_is_met_here_with_its_traceback(case: Case, tests: int) -> None:
    with pytest.raises(ZeroDivisionError, match=f"by {tests}"):
        checked(case, Claim("still", "", where), Claim("defect", "", defect), Claim("seen", "", where, observed=True))


def test_what_does_not_arrive_is_checked_here(case: Case, tests: int) -> None:
    claims = Claim("still", "", where), Claim("gone", "", gone), Claim("seen", "", where, observed=True)
    first, second, third = (int(line.verdict.figure) for line in checked(case, *claims))
    assert first != tests
    assert second == third == tests


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Callable[[], Iterator[str]], Path]]:
    """Work that makes a folder and runs a tool without end, and a pipe that gives the number of that tool."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    begun = tmp_path / "begun"
    os.mkfifo(begun)

    def work() -> Iterator[str]:
        with tempfile.TemporaryDirectory(prefix="work-"):
            processes.run(["sh", "-c", f"echo $$ > {begun}; exec sleep 1000"])
        yield "the end"

    yield work, begun
    assert [path.name for path in tmp_path.iterdir()] == ["begun"]


def lives(process: int) -> bool:
    return Path(f"/proc/{process}").exists()


def test_an_interruption_leaves_no_process_no_tool_and_no_folder(
    tool: tuple[Callable[[], Iterator[str]], Path],
) -> None:
    work, begun = tool
    seen: list[int] = []

    def interrupted() -> None:
        with beside(work):
            seen.append(int(begun.read_text()))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not lives(seen[0])


def test_a_process_that_is_told_to_end_leaves_no_tool_and_no_folder(
    tool: tuple[Callable[[], Iterator[str]], Path],
) -> None:
    work, begun = tool
    with beside(work) as told:
        process = int(begun.read_text())
        parent = int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
        assert parent != os.getpid()
        os.kill(parent, signal.SIGTERM)
        assert told() == []
    assert not lives(process)
    assert not lives(parent)
