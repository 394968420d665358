"""The flag is 0 until boot code sets it, and 1 when the entry begins: read from memory, on both emulators."""

from __future__ import annotations

from pathlib import Path

import pytest

from buildsys.front.steps import Steps
from buildsys.go.runtime import FLAG
from buildsys.proof.case import Case
from buildsys.proof.claim import Result

from .mutants import patched
from .running import NOP, Record, caught, claims, rebuilt, without_qemu, word

CLAIM = "flag-at-run-time"
# Without the flag no check calls a barrier and nothing is recorded; the kernel says so and exits with 1.
UNSET = ("executions", "stores", "outcome")


def test_the_flag_of_the_reference_kernel_is_set(case: Case) -> None:
    verdict = claims()[CLAIM].check(case)
    assert verdict.result is Result.PASSED, verdict.details
    for run in case.runs:
        assert (run.flag_at_store, run.flag_at_entry) == (0, 1), run.machine


def test_a_store_left_out_is_seen(case: Case, tmp_path: Path, record_property: Record) -> None:
    store = case.places.store
    assert store is not None
    mutant = patched(case, tmp_path, {store.address: word(NOP)})
    verdict = caught(record_property, "boot code's store to the flag is a nop", mutant, CLAIM, UNSET)
    assert f"{FLAG} at {case.flag:#x}" in verdict.figure
    assert f"{FLAG} at {case.flag:#x} is 0x0 when {case.entry} at" in "\n".join(verdict.details)


def test_a_store_of_0_is_seen(built: Steps, tmp_path: Path, record_property: Record) -> None:
    mutant = rebuilt(built, tmp_path, {"templates/boot.s.j2": ("str     w11, [x10]", "str     wzr, [x10]")})
    verdict = caught(record_property, "boot code stores 0 to the flag", mutant, CLAIM, UNSET)
    assert f"is 0x0 when {mutant.entry} at" in "\n".join(verdict.details)


def test_a_store_of_one_byte_beside_the_flag_is_seen(case: Case, tmp_path: Path, record_property: Record) -> None:
    store = case.places.store
    assert store is not None
    before = case.elf.word(store.address)
    assert before is not None
    mutant = patched(case, tmp_path, {store.address: word(before + (1 << 10))})
    verdict = caught(record_property, "boot code stores 4 bytes behind the flag", mutant, CLAIM, UNSET)
    assert f"{FLAG} at {case.flag:#x} is 0x0 when" in verdict.figure


def test_a_flag_cleared_after_it_was_set_is_seen(built: Steps, tmp_path: Path, record_property: Record) -> None:
    edit = ("dsb     sy\n", "dsb     sy\n    bl      clear_bss\n")
    mutant = rebuilt(built, tmp_path, {"templates/boot.s.j2": edit})
    verdict = caught(record_property, ".bss is cleared after the flag is set", mutant, CLAIM, UNSET)
    assert f"is 0x0 when {mutant.entry} at" in verdict.figure


def test_a_flag_set_before_the_store_is_seen(built: Steps, tmp_path: Path, record_property: Record) -> None:
    edit = ("mov     w11, #1\n", "mov     w11, #2\n    str     w11, [x10]\n    mov     w11, #1\n")
    mutant = rebuilt(built, tmp_path, {"templates/boot.s.j2": edit})
    verdict = caught(record_property, "the flag is set before boot code's store", mutant, CLAIM)
    assert "is 0x2 before boot code sets it" in verdict.figure


def test_an_entry_that_is_never_reached_is_seen(built: Steps, tmp_path: Path, record_property: Record) -> None:
    mutant = rebuilt(built, tmp_path, {"templates/boot.s.j2": ("blr     x9", "mov     w0, #0")})
    verdict = caught(record_property, "boot code does not call the entry", mutant, CLAIM, UNSET)
    assert f"{mutant.entry} at" in verdict.figure
    assert "was never reached" in verdict.figure


def test_without_qemu_the_figure_says_so(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    verdict = claims()[CLAIM].check(without_qemu(case, monkeypatch))
    assert verdict.result is Result.PASSED
    assert "QEMU: not run" in verdict.figure
