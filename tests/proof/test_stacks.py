"""The claim about stacks, and images in which something runs past the end of one."""

from __future__ import annotations

from pathlib import Path

from buildsys.front.steps import Steps
from buildsys.proof.case import Case
from buildsys.proof.claim import Result
from buildsys.proof.claims import stacks

from .conftest import OnlyRed
from .mutants import relinked

PRINT, FATAL, BARRIER = "sets/print.s.j2", "fatal.s.j2", "writebarrier.s.j2"
SLOTS = "    add     x25, x25, :lo12:buildsys.slots\n"
WRITES = {
    "    mov     w4, #0 ": "    sub     sp, sp, #4080\n    mov     w4, #0 ",
    "5:  ret": "5:  add sp, sp, #4080\n    ret",
}


def test_the_reference_kernel_passes(case: Case) -> None:
    verdict = stacks.check(case)
    assert verdict.passed, verdict.details
    assert verdict.evidence["unchecked"]["size"] == 800, "internal/abi/stack.go: StackNosplitBase"
    assert {each["stack"] for each in verdict.evidence["stacks"]} == {"boot", "exception"}


def test_assembly_called_by_go_that_takes_more_than_is_sure_is_seen(
    built: Steps, case: Case, tmp_path: Path, only_red: OnlyRed
) -> None:
    """runtime.gwrite is redirected to it, behind the back of Go's linker, which adds up `nosplit` chains."""
    mutant = relinked(built, case, tmp_path, {PRINT: WRITES})
    verdict = only_red("4,080 bytes of stack for a print", mutant, "stacks")
    assert "bytes are used: 800 are sure behind one" in verdict.figure
    assert "runtime.gwrite (4,080)" in verdict.figure


def test_a_barrier_that_uses_the_stack_is_seen(built: Steps, case: Case, tmp_path: Path, only_red: OnlyRed) -> None:
    deep = SLOTS + "    stp     x0, x1, [sp, #-512]!\n    sub     sp, sp, #512\n    add     sp, sp, #1024\n"
    mutant = relinked(built, case, tmp_path, {BARRIER: {SLOTS: deep}})
    verdict = only_red("1,024 bytes of stack for a barrier", mutant, "stacks", also={"handlers"})  # it writes there
    assert "runtime.gcWriteBarrier" in verdict.figure
    assert "(1,024)" in verdict.figure


def test_a_handler_of_exceptions_that_does_not_fit_its_stack_is_seen(
    built: Steps, case: Case, tmp_path: Path, only_red: OnlyRed
) -> None:
    code = "    mov     x1, x0\n    {{ load("
    pushed = {code: "    sub     sp, sp, #5, lsl #12\n    add     sp, sp, #5, lsl #12\n" + code}
    verdict = only_red("20 kB for a report", relinked(built, case, tmp_path, {FATAL: pushed}), "stacks")
    assert "20,480 bytes are used: the exception stack has 16,384" in verdict.figure


BEGIN = "    mov     w4, #0 "


def test_a_loop_that_pushes_is_seen(built: Steps, case: Case, tmp_path: Path) -> None:
    push = {BEGIN: "1:  stp     x0, x1, [sp, #-16]!\n    cbnz    x0, 1b\n" + BEGIN}
    assert stacks.check(relinked(built, case, tmp_path, {PRINT: push})).result is Result.FAILED


def test_what_cannot_be_told_is_not_passed(built: Steps, case: Case, tmp_path: Path) -> None:
    lost = {BEGIN: "    mov     sp, x0\n    bl      buildsys.allocate\n" + BEGIN}
    verdict = stacks.check(relinked(built, case, tmp_path, {PRINT: lost}))
    assert verdict.result is Result.NOT_RUN
    assert verdict.figure.startswith("no bound can be told of ")
