"""The ready set `panic`: how a kernel ends is told in the words of the same program on an operating system."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import ModuleType

import pytest

from buildsys.front.deadends import dead_ends
from buildsys.front.steps import Steps
from buildsys.front.verify import case_of
from buildsys.machines import embedded, qemu
from buildsys.machines.outcome import End, Outcome
from tests.conftest import copy_project
from tests.machines.conftest import needs
from tests.sets.conftest import build, fresh, panicking
from tests.sets.panics import (
    ENDLESS,
    FAULTY,
    GREEDY,
    OVERFLOW,
    OVERWRITTEN,
    PANICKER,
    SOURCES,
    WAYS,
    WILD,
    native,
    provoking,
    said,
    said_natively,
)

GOS = ("system", "1.21", "1.22", "1.23", "1.24", "1.25", "1.26", "1.27")
BOTH = pytest.mark.parametrize("machine", [embedded, qemu], ids=["embedded", "qemu"])
# Some of them, to be sure that what is compared is something.
KNOWN = {
    0: "panic: runtime error: index out of range [5] with length 3",
    7: "panic: runtime error: slice bounds out of range [:2:1]",
    11: "panic: runtime error: integer divide by zero",
    13: "panic: runtime error: invalid memory address or nil pointer dereference",
    15: "panic: interface conversion: interface {} is int, not string",
    18: "panic: a string",
    20: "panic: made of 5",
    21: "panic: code 7",
}


def run(steps: Steps, way: int, folder: Path, machine: ModuleType = embedded) -> tuple[Outcome, str]:
    """How the kernel ended, and what it said from the start of that on."""
    image = provoking(steps.image, way, folder / f"way{way}.elf")
    outcome: Outcome = machine.run(image, steps.project.board, steps.project.time_limit)
    text = outcome.serial.decode()
    assert text.isascii()
    assert "\n" not in text.replace("\r\n", "")
    return outcome, text.partition(" bytes\r\n")[2]


def agree(steps: Steps, folder: Path) -> None:
    """Every way to end is told as the program says it that is built natively with the same Go."""
    program = native(steps.go, folder)
    for way in WAYS:
        outcome, text = run(steps, way, folder)
        assert (outcome.end, outcome.exit_code) == (End.EXIT, 2), (way, text)
        told = said(text)
        assert told == said_natively(program, way, folder), way
        if way in KNOWN:
            assert told.message == KNOWN[way]
        assert told.frame[1].startswith("kernel/provoke.go:"), told


@pytest.mark.slow
def test_message_and_position_are_those_of_the_same_program_on_an_operating_system(
    panics: Steps, tmp_path: Path
) -> None:
    agree(panics, tmp_path)


@pytest.mark.campaign
@pytest.mark.parametrize("go", GOS)
def test_so_they_are_with_every_go(tmp_path: Path, go: str) -> None:
    steps = panicking(tmp_path / "mine", f'go = "{go}"\n')
    agree(steps, tmp_path)
    for way in (OVERFLOW, FAULTY, ENDLESS, GREEDY, PANICKER, OVERWRITTEN):
        outcome, text = run(steps, way, tmp_path)
        assert (outcome.end, outcome.exit_code) == (End.EXIT, 2), (way, text)


@BOTH
@pytest.mark.parametrize("way", [0, 13, 18])
def test_both_emulators_are_told_the_same(panics: Steps, tmp_path: Path, machine: ModuleType, way: int) -> None:
    outcome, text = run(panics, way, tmp_path, machine)
    assert (outcome.end, outcome.exit_code) == (End.EXIT, 2)
    assert said(text).message == KNOWN[way]
    assert "main.provoke(" in text
    assert "main.KernelMain(" in text


@BOTH
def test_a_stack_that_is_full_is_told_on_another(panics: Steps, tmp_path: Path, machine: ModuleType) -> None:
    outcome, text = run(panics, OVERFLOW, tmp_path, machine)
    assert (outcome.end, outcome.exit_code) == (End.EXIT, 2)
    assert f"goroutine stack exceeds {panics.project.board.stack}-byte limit" in text
    assert said(text).message.endswith("fatal error: stack overflow")
    assert text.count("main.deep(") > 50
    assert text.rstrip().splitlines()[-2].startswith("main.KernelMain(")


ALLOCATED = """package main

import "unsafe"

var (
	heap [64]uint64
	used uintptr
	kept *[3]int
)

//go:noinline
func allocated(size uintptr, kind unsafe.Pointer, zeroed bool) unsafe.Pointer {
	at := &heap[used]
	used += (size + 7) / 8
	return unsafe.Pointer(at)
}
"""


def test_an_allocator_of_the_kernels_is_no_way_to_fail(tmp_path: Path) -> None:
    """Without one, what is allocated is for what a panic says alone; and no good end would follow it."""
    needs(qemu.PROGRAM, qemu.INSTALL)
    root = fresh(tmp_path / "mine", "kept = new([3]int)\n\tif used > 60 {\n\t\tallocated(8, nil, true)\n\t}")
    (root / "src" / "heap.go").write_text(ALLOCATED)
    steps = build(root, '\n[redirect]\n"runtime.mallocgc*" = { to = "main.allocated", allow = ["signature"] }\n')
    redirected = [each for each in json.loads(steps.patch_json.read_text())["functions"] if each["kind"] == "redirect"]
    assert "panic" in {each["instead_of"] for each in redirected}
    assert dead_ends(steps.patch_json) == case_of(steps).dead_ends == {}
    for machine in (embedded, qemu):
        outcome = machine.run(steps.image, steps.project.board, 10, dead_ends=dead_ends(steps.patch_json))
        assert (outcome.end, outcome.exit_code, outcome.doubt) == (End.EXIT, 0, "")


@pytest.mark.parametrize(
    ("way", "message"),
    [
        (FAULTY, "panic: (main.faulty) 0x"),
        (ENDLESS, "panic: main.endless(1)"),
        (GREEDY, "panic: main.greedy(1)"),
        (PANICKER, "panic: main.panicker(1)"),
    ],
    ids=["a fault", "no end", "too much memory", "a panic"],
)
def test_a_value_whose_error_fails_is_told_without_it(panics: Steps, tmp_path: Path, way: int, message: str) -> None:
    outcome, text = run(panics, way, tmp_path)
    assert (outcome.end, outcome.exit_code) == (End.EXIT, 2)
    assert said(text).message == message
    assert said(text).frame[0] == "main.provoke"


def test_another_exception_is_told_as_it_is_and_where(panics: Steps, tmp_path: Path) -> None:
    outcome, text = run(panics, WILD, tmp_path)
    assert (outcome.end, outcome.exit_code) == (End.EXIT, 3)
    assert text.lstrip().startswith("exception: ESR_EL1 0x")
    assert "FAR_EL1 0x000001" in text
    assert said(text).frame[0] == "main.provoke"


def test_a_stack_without_return_addresses_ends_the_frames_and_the_run(panics: Steps, tmp_path: Path) -> None:
    outcome, text = run(panics, OVERWRITTEN, tmp_path)
    assert (outcome.end, outcome.exit_code) == (End.EXIT, 2)
    assert "index out of range [4702111234474983745] with length 3" in text


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Steps:
    """The reference kernel, with a way to end where it begins."""
    root = copy_project(tmp_path_factory.mktemp("ending") / "reference")
    main = root / "src" / "main.go"
    begin = '\tconsole.Puts("Testing write barrier...\\r\\n")\n'
    assert begin in main.read_text()
    main.write_text(main.read_text().replace(begin, f'{begin}\tconsole.Puts("0 bytes\\r\\n")\n\tprovoke(which)\n'))
    shutil.copy2(SOURCES / "provoke.go", root / "src")
    return build(root)


@BOTH
def test_the_reference_kernel_tells_its_end(reference: Steps, tmp_path: Path, machine: ModuleType) -> None:
    outcome, text = run(reference, 0, tmp_path, machine)
    assert (outcome.end, outcome.exit_code) == (End.EXIT, 2)
    assert said(text).message == KNOWN[0]
    assert "main.run(" in text
