"""The policy `user`: every call is in one batch, none is in two, and what the function is given is what was stored."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from buildsys.barriers.records import Batches, read_batches, read_records
from buildsys.config.barrier import USER, BarrierPolicy
from buildsys.config.project import load
from buildsys.errors import UserError
from buildsys.front.steps import Steps
from buildsys.front.verify import case_of
from buildsys.machines import embedded
from buildsys.machines.outcome import End
from buildsys.proof.case import Case
from buildsys.proof.claims import boot_code, memory_map

from .conftest import FUNCTION, Relink, ran

SUMS = ("main.batches", "main.calls", "main.pointers", "main.sum")


def given(case: Case, machine: str = "embedded") -> tuple[Batches, dict[str, int]]:
    """What became of the calls, and what the function of Go's summed up."""
    places = {name: case.elf.symbols.named(name)[name][0].value for name in SUMS}
    outcome, kept = ran(case, machine, places)
    found = read_batches(kept, outcome.memory)
    assert found is not None
    return found, {name: int.from_bytes(outcome.memory[at], "little") for name, at in places.items()}


@pytest.mark.parametrize("machine", ["embedded", pytest.param("qemu", marks=pytest.mark.slow)])
def test_every_call_is_given_once(machine: str, giving: Case) -> None:
    """But for the last ones: the reference kernel ends itself, and does not drain."""
    found, sums = given(giving, machine)
    calls = sum(count for (name, _), count in giving.embedded.executions.items() if name in giving.barriers)
    assert found == Batches(calls // 64, calls - calls % 64, calls % 64, 0)
    assert (sums["main.batches"], sums["main.calls"]) == (found.batches, found.given)


def test_its_stack_is_guarded(giving: Case, relink: Relink) -> None:
    """Boot code leaves the page below it unmapped, and does not clear either: a mutant that maps it is told."""
    symbols = giving.elf.symbols.addresses("buildsys.batch_guard", "buildsys.batch_stack", "__bss_end")
    guard, low = symbols["buildsys.batch_guard"], symbols["buildsys.batch_stack"]
    assert (low - guard, guard % 4096) == (4096, 0)
    assert symbols["__bss_end"] <= guard
    verdict = boot_code.check(giving)
    assert verdict.passed, verdict.details
    assert verdict.evidence["guards"]["batch"] == {"low": hex(guard), "high": hex(low)}
    assert memory_map.check(giving).passed
    said = boot_code.check(relink(USER, edits={"constants.s.j2": {"guards + of_batches": "guards"}})).figure
    assert "where nothing may be mapped: it guards the batch stack" in said


def test_the_pointers_given_are_those_recorded(giving: Case, recording: Case) -> None:
    """How many there are: the two images lie differently, and so do the pointers."""
    outcome, kept = ran(recording)
    records = read_records(kept, outcome.memory)
    assert records is not None
    found, sums = given(giving)
    assert sums["main.pointers"] == sum(len(record.slots) for record in records.kept[: found.given])
    assert sums["main.sum"]


@pytest.mark.parametrize("ring", [2, 8192])
def test_a_batch_may_be_of_two_or_of_more_than_there_are(ring: int, relink: Relink) -> None:
    found, sums = given(relink(USER, ring=ring))
    total = found.given + found.left
    batches = (total - 1) // ring  # a full one is given when the next call comes
    assert found == Batches(batches, ring * batches, total - ring * batches, 0)
    assert sums["main.calls"] == found.given


KERNEL = """package main

import (
	_ "unsafe"

	"kernel/board"
)

//go:linkname drain buildsys.drain
//go:nosplit
func drain()

type node struct{ next *node }

type entry struct {
	site, count uintptr
	slots       [8]uintptr
}

var nodes [10]node
var last *entry
var calls, done int32

func main() {
	KernelMain(nil)
	onBarrier(nil)
}

//go:noinline
func onBarrier(batch []entry) {
	calls += int32(len(batch))
	%s
}

//go:noinline
func KernelMain(table *board.Table) int32 {
	for i := range nodes {
		nodes[i].next = &nodes[9-i]
	}
	%s
	return 0
}
"""


def built_with(
    body: str, folder: Path, root: Path, settings: str = "", ending: str = "", kernel: str = KERNEL
) -> Steps:
    """A kernel of ten stores and then `ending`, whose function for batches of 4 has `body`."""
    shutil.copytree(root, folder, ignore=shutil.ignore_patterns("build"))
    for file in [*folder.glob("src/*.go"), *folder.glob("src/*.s")]:
        file.unlink()
    (folder / "src" / "main.go").write_text(kernel % (body, ending))
    text = (folder / "pyproject.toml").read_text()
    lines = f'barrier = "user"\nbarrier-ring = 4\n{settings or f"barrier-function = {FUNCTION!r}"}\n'
    (folder / "pyproject.toml").write_text(text.replace("[tool.buildsys]\n", f"[tool.buildsys]\n{lines}", 1))
    steps = Steps(load(folder))
    for action in (steps.compile, steps.runtime, steps.link, steps.patch):
        steps.records.perform(action())
    return steps


def test_an_entry_that_returns_leaves_nothing(built: Steps, tmp_path: Path) -> None:
    """Boot code drains before it ends the run."""
    case = case_of(built_with("", tmp_path / "returns", built.project.root))
    outcome, kept = ran(case)
    assert read_batches(kept, outcome.memory) == Batches(3, 10, 0, 0)


def test_a_kernel_that_drains_leaves_nothing_either(built: Steps, tmp_path: Path) -> None:
    """As docs/barriers.md has it; boot code then finds nothing more to give."""
    steps = built_with("", tmp_path / "drains", built.project.root, ending="drain()\n\tdone = calls")
    done = case_of(steps).elf.symbols.addresses("main.done")
    outcome, kept = ran(case_of(steps), more=done)
    assert read_batches(kept, outcome.memory) == Batches(3, 10, 0, 0)
    assert int.from_bytes(outcome.memory[done["main.done"]][:4], "little") == 10


def test_barriers_of_the_function_are_told_of_and_given_to_nobody(built: Steps, tmp_path: Path) -> None:
    steps = built_with("last = &batch[0]", tmp_path / "stores", built.project.root)
    assert "main.onBarrier stores pointers through 1 barriers" in steps.records.facts("patch")["remark"]
    outcome, kept = ran(case_of(steps))
    assert read_batches(kept, outcome.memory) == Batches(3, 10, 0, 3)


def test_a_function_that_needs_too_much_stack_ends_the_run(built: Steps, tmp_path: Path) -> None:
    """It has 16 KiB, and is stopped before it leaves them."""
    deep = "var a [20000]byte\n\tfor i := range a {\n\t\ta[i] = byte(len(batch))\n\t}\n\tcalls += int32(a[7])"
    case = case_of(built_with(deep, tmp_path / "deep", built.project.root))
    outcome = embedded.run(case.image, case.board, 20)
    assert (outcome.end, outcome.exit_code) == (End.EXIT, 2)
    assert b"fatal error: stack overflow" in outcome.serial


def test_a_function_of_assembly_is_given_batches_too(built: Steps, tmp_path: Path) -> None:
    """Its arguments are in x0, x1 and x2, and it may change nearly every register."""
    source = """
    .global batch
batch:
    adrp    x3, seen
    ldr     x4, [x3, :lo12:seen]
    add     x4, x4, x1
    str     x4, [x3, :lo12:seen]
    mov     x19, #1
    mov     x27, #2
    movi    v8.2d, #0
    ret
    .bss
    .balign 8
    .global seen
    .type   seen, %object
seen:
    .space 8
    .size   seen, 8
"""
    root = tmp_path / "before"
    shutil.copytree(built.project.root, root, ignore=shutil.ignore_patterns("build"))
    (root / "batch.s").write_text(source)
    settings = 'barrier-function = "batch"\nassembly = ["batch.s"]'
    case = case_of(built_with("", tmp_path / "assembly", root, settings))
    seen = case.elf.symbols.addresses("seen")
    outcome, kept = ran(case, more=seen)
    assert read_batches(kept, outcome.memory) == Batches(3, 10, 0, 0)
    assert int.from_bytes(outcome.memory[seen["seen"]], "little") == 10


def test_a_function_that_is_not_there_is_named(with_function: Steps, tmp_path: Path) -> None:
    from .conftest import linked

    with pytest.raises(UserError, match=r"main\.onBarier, which `barrier-function` names, is not in") as error:
        linked(with_function, tmp_path / "missing", BarrierPolicy(USER, 64, "main.onBarier"), {})
    assert "did you mean main.onBarrier" in error.value.hint


@pytest.mark.parametrize(
    ("signature", "call", "said"),
    [
        ("(batch []entry) int32", "nil", "what batches are given to has 0 results, main.onBarrier 1"),
        ("(batch []entry, more int)", "nil, 0", "what batches are given to has 1 parameter, main.onBarrier 2"),
        ("(batch int)", "0", r"batch is \[\]Entry, not int \(24 and 8 bytes\)"),
        ("(batch *entry)", "nil", r"batch is \[\]Entry, not \*main.entry \(24 and 8 bytes\)"),
        ("(batch [3]uintptr)", "[3]uintptr{}", r"batch is \[\]Entry, not \[3\]uintptr"),
        ("(batch []uintptr)", "nil", "an entry is of 80 bytes, not 8"),
        ("(batch []*entry)", "nil", "an entry is of 80 bytes, not 8"),
        ("(batch [][11]uintptr)", "nil", "an entry is of 80 bytes, not 88"),
    ],
)
def test_a_function_that_takes_something_else_is_refused(
    built: Steps, tmp_path: Path, signature: str, call: str, said: str
) -> None:
    with pytest.raises(UserError, match=said) as error:
        built_taking(signature, call, built, tmp_path)
    assert re.match(r"`barrier-function`: main\.onBarrier \(src/main\.go:\d+\) takes \(", error.value.message)
    assert "func(batch []Entry)" in error.value.hint


@pytest.mark.parametrize("signature", ["(_ []entry)", "(b []struct{ all [10]uintptr })", "(b entries)"])
def test_a_batch_by_any_name_is_taken(built: Steps, tmp_path: Path, signature: str) -> None:
    outcome, kept = ran(case_of(built_taking(signature, "nil", built, tmp_path)))
    assert read_batches(kept, outcome.memory) == Batches(3, 10, 0, 0)


def built_taking(signature: str, call: str, built: Steps, folder: Path) -> Steps:
    """A kernel whose function for batches has `signature`, and is called as `call` where `main` keeps it."""
    kernel = KERNEL.replace("(batch []entry) {", f"{signature} {{").replace("onBarrier(nil)", f"onBarrier({call})")
    kernel = kernel.replace("\tcalls += int32(len(batch))\n", "\tcalls++\n") + "\ntype entries []entry\n"
    ending = "return calls" if signature.endswith("int32") else ""
    return built_with(ending, folder / "built", built.project.root, kernel=kernel)
