"""Programs that fail, told with their goroutines: the program's own frames, through what the runtime does for it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from buildsys.config.project import load
from buildsys.crash.report import Run, report
from buildsys.formats.elf import Elf
from buildsys.front import boot
from buildsys.front.steps import Steps
from buildsys.machines import embedded
from buildsys.machines.ends import PROGRAM
from tests.conftest import ROOT
from tests.zoo.conftest import MACHINES

ACKNOWLEDGE = "kernel/supervisor/machine.(*Table).Acknowledge"
pytestmark = pytest.mark.slow
Failing = Callable[[str, str], tuple[int, dict[str, Any]]]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("program")
    shutil.copytree(ROOT / "tests" / "kernels" / "zoo_program", root / "src")
    return root


@pytest.fixture
def failing(program: Path, needs_qemu: None) -> Failing:
    """Runs the program as its argument says: exit status and report."""

    def run(how: str, machine: str) -> tuple[int, dict[str, Any]]:
        (program / "buildsys.toml").write_text(f'kind = "program"\npackage = "src"\nargs = ["{how}"]\n')
        steps = Steps(load(program))
        for make in (steps.compile, steps.runtime, steps.link, steps.patch):
            if steps.records.stale(make()):
                steps.records.perform(make())
        shutil.rmtree(steps.project.build / "crash", ignore_errors=True)
        perform = boot.boot_embedded if machine == "embedded" else boot.boot_qemu
        failed = perform(steps, 1 if how == "loop" else 20)
        found = list((steps.project.build / "crash").glob("*/report.json"))
        report = json.loads(found[0].read_text()) if found else {}
        return (0 if failed is None else failed.exit_status or 1), report

    return run


def own(frames: list[dict[str, Any]]) -> list[str]:
    """The program's own functions among them."""
    return [each["function"] for each in frames if each["function"].startswith("main.")]


@pytest.mark.parametrize("machine", MACHINES)
def test_a_nil_dereference_is_told_through_the_signal_that_it_was(failing: Failing, machine: str) -> None:
    status, report = failing("nil", machine)
    assert status == 2
    assert "program.runtime.fatalpanic" in report["cause"]["says"]
    assert report["goroutine"] == "goroutine 1"
    assert own(report["frames"]) == ["main.use", "main.main"]
    assert report["frames"][-1]["function"] == "runtime.goexit"
    assert "println(use(nowhere))" in [line["source"] for frame in report["frames"] for line in frame["lines"]]


@pytest.mark.parametrize("machine", MACHINES)
def test_every_goroutine_of_a_deadlock_is_told_with_what_it_waits_for(failing: Failing, machine: str) -> None:
    status, report = failing("deadlock", machine)
    assert status == 2
    waiting = {tuple(own(each["frames"])) for each in report["goroutines"] if each["state"] == "chan receive"}
    assert waiting == {("main.main",), ("main.main.func1",)}


@pytest.mark.parametrize("machine", MACHINES)
def test_every_thread_of_a_program_is_told_with_what_it_does_and_runs(failing: Failing, machine: str) -> None:
    status, report = failing("threads", machine)
    assert status == 2
    threads = {each["thread"]: each for each in report["threads"]}
    assert len(threads) >= 3, "the first, one that watches, one for each locked goroutine"
    assert sorted(threads) == list(threads)
    assert [each["state"] for each in threads.values()].count("running") == 1
    [failed] = [each for each in threads.values() if each["state"] == "running"]
    assert "main.fail" in own(failed["frames"]), "the thread that panicked"
    assert failed["runs"].startswith(("goroutine ", "g0 of the thread that runs goroutine "))
    for each in threads.values():
        assert each["frames"], each
        if each is not failed:
            assert each["state"] in ("waiting at a futex", "asleep", "in a system call", "ready")
    waiting = [each for each in threads.values() if each["state"] == "waiting at a futex"]
    assert any(frame["function"] == "runtime.futex" for each in waiting for frame in each["frames"])
    # The other road: how many Ms the runtime has made, which each have a thread.
    assert len(threads) == report_of_ms(report)


@pytest.mark.parametrize("machine", MACHINES)
def test_a_thread_is_told_with_its_process_and_stands_in_the_memory_of_that(failing: Failing, machine: str) -> None:
    status, report = failing("child", machine)
    assert status == 2, "a child that failed before did not end the run"
    child = int(report["serial"].split("child: ")[1].split()[0])
    assert "exit status 2 true\n" in report["serial"]
    assert {each["process"] for each in report["threads"]} == {1, child}
    own_threads = [each for each in report["threads"] if each["process"] == 1]
    assert any("main.fail" in own(each["frames"]) for each in own_threads)
    others = [each for each in report["threads"] if each["process"] == child]
    assert not any("main.fail" in own(each["frames"]) for each in others)
    # It is in main.wait in its own memory, where goroutine 1 is its own.
    waiting = [each["runs"] for each in others if own(each["frames"]) == ["main.wait", "main.main"]]
    assert waiting == ["goroutine 1"]


def report_of_ms(report: dict[str, Any]) -> int:
    """How many threads the program says it has, by its own count: the first line it prints."""
    return int(report["serial"].split("threads: ")[1].split()[0])


def test_a_kernel_without_a_program_has_no_threads(failing: Failing) -> None:
    assert failing("exit", "embedded")[1] == {}


def test_an_endless_loop_is_told_with_its_line(failing: Failing) -> None:
    status, report = failing("loop", "embedded")
    assert status == 124
    # The supervisor, whose package is named main too, if a timer's interrupt is being handled.
    assert own(report["frames"])[-1] == "main.main"
    assert report["goroutine"] == "goroutine 1"


@pytest.mark.parametrize(
    "inside",
    ["supervisor.synchronous", "supervisor.interrupt", "supervisor.handle", "main.serve", ACKNOWLEDGE],
)
def test_below_a_supervisor_stands_what_it_interrupted_or_serves(failing: Failing, program: Path, inside: str) -> None:
    failing("loop", "embedded")  # which builds it
    project = load(program)
    image = project.build / "kernel.elf"
    elf = Elf.read(image)
    [address] = elf.symbols.addresses(inside).values()
    snapshot = embedded.run(image, project.board, 1, dead_ends={address: f"{PROGRAM}here"}, snapshot=True).snapshot
    assert snapshot is not None
    assert snapshot.registers["pc"] == address
    frames = report(snapshot, elf, project.board, Run("embedded", "", b""))["frames"]
    [begins] = [number for number, each in enumerate(frames) if each["served"]]
    assert all(each["function"].startswith(("supervisor.", "main.", "kernel/")) for each in frames[:begins])
    # The other road: the core's own register tells where the exception came.
    assert int(frames[begins]["pc"], 16) == snapshot.registers["elr_el1"]
    assert frames[-1]["function"] in ("runtime.goexit", "runtime.rt0_go", "runtime.mstart")


def test_a_clock_read_on_another_stack_is_told_with_who_reads_it(failing: Failing, program: Path) -> None:
    failing("several", "embedded")  # which builds it
    project = load(program)
    image = project.build / "kernel.elf"
    elf = Elf.read(image)
    name = f"{PROGRAM}runtime.nanotime1.abi0"
    [symbol] = elf.symbols.named(name)[name]
    places = range(symbol.value, symbol.end, 4)
    words = [elf.word(at) for at in places]
    [switch, back] = [words.index(word) for word in (0x9100_003F, 0x9100_029F)]  # mov sp, x1; mov sp, x20
    for address in (places[switch], places[switch + 1], places[words.index(0xD400_0001)], places[back]):  # svc #0
        ends = {address: f"{PROGRAM}here"}
        snapshot = embedded.run(image, project.board, 5, dead_ends=ends, snapshot=True).snapshot
        assert snapshot is not None
        assert snapshot.registers["pc"] == address
        frames = report(snapshot, elf, project.board, Run("embedded", "", b""))["frames"]
        assert frames[0]["function"] == "runtime.nanotime1"
        assert frames[-1]["function"] in ("runtime.goexit", "runtime.rt0_go", "runtime.mstart")
        # The other road: what it tells Go's own tracebacks, runtime.m.vdsoPC, of where it goes on.
        assert int(frames[1]["pc"], 16) == snapshot.registers["x30"]


def test_a_program_that_exits_with_a_status_of_its_own_is_no_crash(failing: Failing) -> None:
    for machine in MACHINES:
        assert failing("exit", machine) == (3, {})
