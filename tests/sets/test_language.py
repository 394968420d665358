"""What of Go a bare kernel has not: each ends the run with a message, or is refused, as docs/sets.md says."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from buildsys.config.project import load
from buildsys.errors import UserError
from buildsys.front.boot import boot_embedded, boot_qemu
from buildsys.front.steps import Steps
from buildsys.front.verify import case_of
from buildsys.go.sets import SINCE
from buildsys.machines import embedded, qemu
from buildsys.machines.outcome import End
from buildsys.proof.claims import handlers
from tests.conftest import ROOT
from tests.machines.conftest import needs_qemu  # noqa: F401  a fixture
from tests.proof.mutants import patched

pytestmark = pytest.mark.slow

DEADLOCK = "fatal error: all goroutines are asleep - deadlock!"
NO_CLOCK = "fatal error: there is no clock: redirect time.Now or time.Sleep to a function that reads CNTVCT_EL0"
EMPTY = "nothing runs the initialisers of packages"
STARTS = "the kernel can reach a `go` statement"
ENDS = {
    "Waits": (2, DEADLOCK),
    "WaitsForNothing": (2, DEADLOCK),
    "Selects": (2, DEADLOCK),
    "Recovers": (2, "panic: not recovered"),
    "Recurses": (2, "fatal error: stack overflow"),
    "Groups": (2, DEADLOCK),
    "Locks": (2, DEADLOCK),
    "Leaves": (2, "fatal error: no goroutines (main called runtime.Goexit) - deadlock!"),
    "Yields": (2, "fatal error: runtime.Gosched: there is no scheduler, and no other goroutine"),
    "Now": (2, NO_CLOCK),
    "Sleeps": (2, NO_CLOCK),
    "TimesOut": (2, NO_CLOCK),
}


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("language") / "kernels"
    shutil.copytree(ROOT / "tests" / "kernels" / "language", folder)
    return folder


def built(kernels: Path, kernel: str) -> Steps:
    """The kernel, built. Raises UserError."""
    steps = Steps(load(kernels, kernel))
    steps.make_ready()
    for action in (steps.compile, steps.runtime, steps.link, steps.patch):
        steps.records.perform(action())
    return steps


@pytest.mark.parametrize("kernel", ENDS)
def test_what_cannot_be_done_ends_the_run_and_says_where(kernels: Path, kernel: str) -> None:
    steps = built(kernels, kernel)
    status, said = ENDS[kernel]
    for machine in (embedded, qemu):
        outcome = machine.run(steps.image, steps.project.board, steps.project.time_limit)
        text = outcome.serial.decode().replace("\r\n", "\n")
        assert (outcome.end, outcome.exit_code) == (End.EXIT, status), text
        assert said in text
        assert f"\nmain.{kernel}(" in text


# What each service is asked for by, and what the report says there is instead.
SERVICES = {
    "Now": ("time.Now", "redirect time.Now"),
    "Sleeps": ("time.Sleep", "redirect time.Now or time.Sleep"),
    "TimesOut": ("time.NewTimer", "redirect time.Now"),
    "Locks": ("internal/sync.(*Mutex).lockSlow", "do it in the caller"),
    "Groups": ("sync.(*WaitGroup).Wait", "do it in the caller"),
    "Yields": ("runtime.mcall", "do it in the caller"),
    "Leaves": ("runtime.Goexit", "do it in the caller"),
    "Waits": ("runtime.chanrecv1", "use a ring"),
}


@pytest.mark.parametrize("kernel", SERVICES)
def test_its_report_names_the_call_and_what_there_is_instead(
    kernels: Path,
    kernel: str,
    capsys: pytest.CaptureFixture[str],
    needs_qemu: None,  # noqa: F811
) -> None:
    steps = built(kernels, kernel)
    called, instead = SERVICES[kernel]
    for boot_on in (boot_embedded, boot_qemu):
        failed = boot_on(steps, 10)
        said = capsys.readouterr().err
        assert failed is not None
        assert failed.exit_status == 2
        assert re.search(rf"runtime service: .*it was come to by .*main\.{kernel} → .*{re.escape(called)}", said), said
        assert f"  hint: {instead}" in said


def test_what_stands_for_the_clock_of_mutexes_is_tried(kernels: Path, tmp_path: Path) -> None:
    case = case_of(built(kernels, "Locks"))
    verdict = handlers.check(case)
    assert verdict.passed, verdict.details
    [clock] = [case.called[name].new for name in case.plan.of_set("wait").calls if name in SINCE]
    assert clock is not None
    mov_x18 = (0xAA1F03F2).to_bytes(4, "little")  # mov x18, xzr
    mutant = patched(case, tmp_path, {clock.value: mov_x18}, linked=True)
    assert re.search(r"sync\.runtime_nanotime at \w+ changes x18", handlers.check(mutant).figure)


def test_with_a_clock_of_its_own_a_kernel_has_the_time(kernels: Path) -> None:
    """What the reports and the page say there is instead."""
    steps = built(kernels, "Clocked")
    for machine in (embedded, qemu):
        outcome = machine.run(steps.image, steps.project.board, steps.project.time_limit)
        assert (outcome.end, outcome.exit_code) == (End.EXIT, 0), outcome.serial


@pytest.mark.parametrize("kernel", ["Starts", "Prints"])
def test_a_goroutine_is_refused_when_it_is_built(kernels: Path, kernel: str) -> None:
    with pytest.raises(UserError) as refused:
        built(kernels, kernel)
    way = refused.value.message.splitlines()
    assert way[0].startswith(STARTS)
    assert (way[1], way[-1]) == (f"  main.{kernel}", "  → runtime.newproc")


def test_a_variable_that_nothing_initialises_is_told_when_it_is_built(kernels: Path) -> None:
    steps = built(kernels, "Initialised")
    assert (
        f"{EMPTY}, so these are empty: main.words (used by main.Initialised)" in steps.records.facts("patch")["remark"]
    )
    outcome = embedded.run(steps.image, steps.project.board, 10)
    assert (outcome.exit_code, outcome.serial) == (1, b"words is empty\r\n")


def test_an_initialiser_that_assembly_runs_is_not_told_of(kernels: Path, tmp_path: Path) -> None:
    shutil.copytree(kernels, tmp_path / "src", ignore=shutil.ignore_patterns("build", "buildsys.toml"))
    source = tmp_path / "src" / "main.go"
    declared = '\t_ "unsafe"\n)\n\n//go:linkname initialise initialise\nfunc initialise()\n'
    text = (
        source.read_text()
        .replace(")\n", declared, 1)
        .replace("int32 {\n\tif words", "int32 {\n\tinitialise()\n\tif words")
    )
    source.write_text(text)
    routine = "initialise:\n    stp x29, x30, [sp, #-272]!\n    bl main.init\n    ldp x29, x30, [sp], #272\n    ret\n"
    (tmp_path / "init.s").write_text(f"    .text\n    .global initialise\n{routine}")
    settings = 'package = "src"\nsets = ["panic", "alloc"]\nentry = "main.Initialised"\nentry-arguments = []\n'
    (tmp_path / "buildsys.toml").write_text(settings + 'assembly = ["init.s", "src/asm/*.s"]\n')
    steps = built(tmp_path, "")
    assert EMPTY not in steps.records.facts("patch")["remark"]
    for machine in (embedded, qemu):
        assert machine.run(steps.image, steps.project.board, 10).exit_code == 0


def test_the_page_says_what_they_say() -> None:
    page = (ROOT / "docs" / "sets.md").read_text("utf-8")
    rows = [line for line in page.splitlines() if line.startswith("|")]
    for status, said in ENDS.values():
        if not said.startswith("panic: "):
            assert any(said in row and f"status {status}" in row for row in rows), said
    assert any(STARTS.replace("`", '"') in row for row in rows)
    assert any(re.search(rf"empty, .*{EMPTY}", row) for row in rows)
