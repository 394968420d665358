"""`info goroutines` and `goroutine N COMMAND`: what the runtime's own list says, told in the user's words."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from buildsys.front.steps import Steps
from tests.conftest import ROOT
from tests.debugging.conftest import Said, Session, built_program, crashed

pytestmark = pytest.mark.slow

SOURCE = (ROOT / "tests/kernels/debugged/main.go").read_text().splitlines()
HEAD = re.compile(r"^(\*| ) goroutines? ([\d, ]+) \[(.+)\]$", re.MULTILINE)
# The runtime's list as gdb reads it, by the debug information it has of these types.
THEIRS = (
    "python import re",
    "python said = gdb.execute('info address program.runtime.allgs', to_string=True)",
    "python at = int(re.search('0x[0-9a-f]+', said)[0], 16)",
    "python every = gdb.Value(at).cast(gdb.parse_and_eval(\"'runtime.allgs'\").type.pointer()).dereference()",
    "python gs = [(every['array'] + n).dereference().dereference() for n in range(int(every['len']))]",
    "python print(sorted(int(g['goid']) for g in gs if int(g['atomicstatus']['value']) & 0xfff not in (6, 10)))",
)
COMMANDS = (
    "break main.look", "continue", "info goroutines", *THEIRS, "goroutine 1 bt", "goroutine all bt 1",
    "info registers pc sp", "info threads", "goroutine 99 bt", "goroutine",
)  # fmt: skip


def line_of(text: str) -> int:
    """The line of the program that has `text` in it."""
    (found,) = (number for number, line in enumerate(SOURCE, 1) if text in line)
    return found


def blocks(said: str) -> list[tuple[str, list[int], str]]:
    """Of goroutines that stand alike: the state, with a star where one runs, their numbers, and their frames."""
    parts = HEAD.split(said)[1:]
    return [
        (f"{mark}{state}".strip(), [int(each) for each in numbers.split(",")], frames)
        for mark, numbers, state, frames in zip(parts[::4], parts[1::4], parts[2::4], parts[3::4], strict=True)
    ]


def with_state(said: str, state: str) -> tuple[list[int], str]:
    """The numbers and frames of those in `state`, which stand alike."""
    ((numbers, frames),) = [(numbers, frames) for known, numbers, frames in blocks(said) if known == state]
    return numbers, frames


@pytest.fixture(scope="module")
def said(program: Steps, request: pytest.FixtureRequest) -> Said:
    return {}


@pytest.fixture
def alive(said: Said, program: Steps, session: Session) -> Said:
    """One session for all tests of this module."""
    if not said:
        said |= session(program, COMMANDS)
    return said


def test_every_goroutine_is_listed_as_the_runtime_has_them(alive: Said) -> None:
    ours = sorted(number for _, numbers, _ in blocks(alive["info goroutines"]) for number in numbers)
    assert ours == json.loads(alive[THEIRS[-1]])


def test_each_is_told_with_what_it_waits_for_and_the_users_own_lines(alive: Said) -> None:
    said = alive["info goroutines"]
    numbers, frames = with_state(said, "chan receive")
    assert len(numbers) == 3, "three stand at the same place, and are told together"
    assert f"main.go:{line_of('<-nothing')}" in frames
    assert f"main.go:{line_of('time.Sleep(time.Hour)')}" in with_state(said, "sleep")[1]
    assert "main.locks" in with_state(said, "sync.Mutex.Lock")[1]
    assert "runtime.gopark" not in said, "frames of the runtime are left out"
    assert with_state(said, "force gc (idle)")[1].split() == ["runtime.forcegchelper"]


def test_the_one_that_runs_is_marked_and_one_that_was_preempted_is_unwound_through_that(alive: Said) -> None:
    said = alive["info goroutines"]
    numbers, frames = with_state(said, "*running")
    assert numbers == [1]
    assert "main.look" in frames
    assert any("main.spins" in frames for _, _, frames in blocks(said))


def test_any_command_of_gdbs_can_be_given_one_goroutine(alive: Said) -> None:
    assert re.search(r"#0 .*main\.look .*\n#1 .*main\.main ", alive["goroutine 1 bt"])
    said = alive["goroutine all bt 1"]
    assert said.count("\n#0 ") == len(json.loads(alive[THEIRS[-1]]))
    # The machine stands where it stood.
    assert "<main.look" in alive["info registers pc sp"]


def test_a_goroutine_that_is_not_there_is_answered_with_where_to_look(alive: Said) -> None:
    assert "there is no goroutine 99; `info goroutines` lists all" in alive["errors"]
    assert "usage: goroutine N COMMAND" in alive["errors"]
    assert "Traceback" not in alive["errors"]


def test_a_crash_has_its_goroutines_as_the_report_lists_them_and_gdb_has_them_as_threads(
    of_crash: Session, needs_qemu: None, tmp_path: Path
) -> None:
    program = built_program(tmp_path / "stays", '["stay"]')
    folder = crashed(program, 2)
    report = json.loads((folder / "report.json").read_text())
    number = next(each["goroutine"] for each in report["goroutines"] if each["state"] == "chan receive")
    said = of_crash(program, folder, ("info goroutines", f"goroutine {number} bt", "info threads", "info pages $sp"))
    ours = {each: state.lstrip("*") for state, numbers, _ in blocks(said["info goroutines"]) for each in numbers}
    assert ours == {each["goroutine"]: each["state"] for each in report["goroutines"]}
    assert "in main.receives (" in said[f"goroutine {number} bt"]
    # One more may be what the machine was stopped in: the runtime's own, on no goroutine.
    assert {int(each) for each in re.findall(r"LWP (\d+)", said["info threads"])} - {max(ours) + 1} == set(ours)
    assert "rw-" in said["info pages $sp"]
