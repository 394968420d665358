"""The claim about the functions of ready sets, and images in which they do something else."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from buildsys.front.steps import Steps
from buildsys.go.sets import CLOCKS, LEAVE, PARK, SINCE, YIELD
from buildsys.proof.case import Case
from buildsys.proof.claims import handlers
from buildsys.proof.reports import EXCEPTIONS, TEXTS, tried

from .conftest import OnlyRed
from .mutants import relinked

PRINT, PANIC, WAIT, FATAL = "sets/print.s.j2", "sets/panic.s.j2", "sets/wait.s.j2", "fatal.s.j2"


def functions(case: Case) -> set[str]:
    """Those of the Go object, as the source names them."""
    return {each.name.removesuffix(".abi0") for each in case.object.symbols.functions()}


def test_the_reference_kernels_are_tried(case: Case) -> None:
    found = tried(case)
    assert found.problems == ()
    assert found.texts == TEXTS
    panic = case.plan.of_set("panic")
    waits = {name for name in case.plan.of_set("wait").calls if name not in SINCE}
    assert {name.removesuffix(".abi0") for name in waits} == {PARK, LEAVE, YIELD, *CLOCKS} & {*functions(case)}
    assert found.ends.keys() == {*panic.calls, *panic.entries, *waits, *EXCEPTIONS}
    assert found.ends["runtime.panicdivide"] == "panic: runtime error: integer divide by zero"
    assert all(found.ends[name].startswith("exception: ESR_EL1 0x0000000096000006") for name in EXCEPTIONS)


def test_an_image_without_the_sets_has_nothing_to_try(case: Case) -> None:
    found = tried(dataclasses.replace(case, sets=()))
    assert (found.problems, found.texts, found.ends) == ((), 0, {})


@pytest.mark.parametrize(
    ("template", "old", "new", "says"),
    [
        (PRINT, "    b       buildsys.write\n", "    ret\n", "was to print"),
        (WAIT, "    b       runtime.fatal               // ours\n", "    ret\n", "returns to who called it"),
        (PRINT, "    mov     w5, #'\\r'\n", "    mov     w5, #' '\n", "was to print"),
        (PRINT, "    sub     x1, x1, #1\n", "    sub     x1, x1, #1\n    mov     x28, x1\n", "changes x28"),
        (PRINT, "5:  ret\n", "5:  b       .\n", "does not return"),
        (PANIC, "    mov     w16, #2     ", "    mov     w16, #0     ", "with status 0, as if nothing were wrong"),
        (PANIC, "    str     wzr, [x16]\n", "", "while the flag is set"),
        (PANIC, '    {{ call("runtime.traceback1") }}\n', "", "does not say so"),
        (PANIC, "    cbnz    w2, failed\n    mov     w2, #1\n", "    ret\n", "returns to who called it"),
        (PANIC, "    b       report_where\n    .cfi_endproc\n    .size   report_throw",
         "    b       .\n    .cfi_endproc\n    .size   report_throw",
         "does not end the run"),
        (FATAL, "    b       buildsys.report.exception ", "    nop // ", "a load from near address 0"),
    ],
    ids=["nothing printed", "wait returns", "line feeds", "g", "no end of printing", "status", "flag",
         "position", "a return", "no end", "exceptions"],
)  # fmt: skip
def test_what_is_wrong_with_a_set_is_seen(
    built: Steps, case: Case, tmp_path: Path, only_red: OnlyRed, template: str, old: str, new: str, says: str
) -> None:
    quick = dataclasses.replace(case, time_limit=1)  # one of them never ends
    mutant = relinked(built, quick, tmp_path, {template: {old: new}})
    verdict = only_red(f"{template}: {says}", mutant, "handlers")
    assert any(says in problem for problem in verdict.evidence["problems"]), verdict.evidence["problems"]


def test_the_figure_tells_what_was_tried(case: Case) -> None:
    figure = handlers.check(case).figure
    assert f"; {TEXTS} texts printed; " in figure
    assert "ways to end, each told" in figure
