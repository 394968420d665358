"""How the run ends, judged by runs that nothing watched."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from buildsys.front.steps import Steps
from buildsys.machines import qemu
from buildsys.machines.semihosting import calls_in
from buildsys.proof.case import Case
from buildsys.proof.claim import Result
from tests.machines.conftest import needs

from .mutants import patched
from .running import Record, caught, claims, rebuilt, without_qemu, word

CLAIM = "outcome"
WFI = 0xD503207F


def test_the_reference_kernel_exits_with_status_0(case: Case) -> None:
    verdict = claims()[CLAIM].check(case)
    needs(qemu.PROGRAM, qemu.INSTALL)
    assert verdict.result is Result.PASSED, verdict.details
    assert "5 expected lines" in verdict.figure


def test_another_exit_status_is_seen(built: Steps, tmp_path: Path, record_property: Record) -> None:
    mutant = rebuilt(built, tmp_path, {"src/main.go": ("return 0\n", "return 1\n")})
    verdict = caught(record_property, "the kernel exits with status 1", mutant, CLAIM)
    assert "exited with status 1" in verdict.figure


def test_a_write_that_flash_loses_is_seen(built: Steps, tmp_path: Path, record_property: Record) -> None:
    # x0 is the address of the vectors; the MMU, which would refuse the write, is still off.
    edit = ("msr     vbar_el1, x0\n", "msr     vbar_el1, x0\n    str     xzr, [x0, #8]\n")
    mutant = rebuilt(built, tmp_path, {"templates/boot.s.j2": edit})
    verdict = caught(record_property, "boot code writes to flash", mutant, CLAIM)
    vectors = mutant.elf.symbols.addresses("buildsys.vectors")["buildsys.vectors"]
    assert f"8 bytes were written to flash at {vectors + 8:#x} and lost" in verdict.figure
    assert "in _start" in verdict.figure


def test_a_kernel_that_sleeps_is_seen(case: Case, tmp_path: Path, record_property: Record) -> None:
    calls = {address: word(WFI) for address in calls_in(case.elf)}
    assert calls
    mutant = dataclasses.replace(patched(case, tmp_path, calls), time_limit=3.0)
    verdict = caught(record_property, "wfi where the kernel should exit", mutant, CLAIM)
    assert "the guest did not exit: the time limit ended it" in verdict.figure


def test_a_kernel_that_powers_the_machine_off_is_seen(built: Steps, tmp_path: Path, record_property: Record) -> None:
    edit = ("buildsys.exit:\n", "buildsys.exit:\n    movz x0, #0x8400, lsl #16\n    movk x0, #8\n    hvc #0\n")
    mutant = rebuilt(built, tmp_path, {
        "templates/boot.s.j2": edit,
        "src/main.go": ("semihosting.Exit(status)\n", "_ = semihosting.Exit\n"),
    })  # fmt: skip
    # Memory is gone with the machine: QEMU's cannot be read.
    also = {"stores"} if mutant.qemu else set()
    verdict = caught(record_property, "the kernel powers the machine off", mutant, CLAIM, also)
    assert "did not exit: the guest powered the machine off" in verdict.figure


def test_an_access_to_nothing_is_seen(built: Steps, tmp_path: Path, record_property: Record) -> None:
    nothing = built.project.board.ram.end
    assert built.project.board.region_at(nothing) is None
    edit = ("    // Fall through", f"    mov x1, #{nothing:#x}\n    str x0, [x1]\n    // Fall through")
    mutant = rebuilt(built, tmp_path, {
        "templates/boot.s.j2": edit,
        "src/main.go": ("semihosting.Exit(status)\n", "_ = semihosting.Exit\n"),
    })  # fmt: skip
    verdict = caught(record_property, "a store to where nothing is", mutant, CLAIM)
    assert "exited with status 3" in verdict.figure
    assert any("exception: ESR_EL1" in detail for detail in verdict.details)


def test_data_that_is_not_copied_is_seen(built: Steps, tmp_path: Path, record_property: Record) -> None:
    mutant = rebuilt(built, tmp_path, {"templates/boot.s.j2": ("bl      copy_data", "nop")})
    # The kernel jumps through a pointer of .data before it comes to a store.
    verdict = caught(record_property, ".data is not copied", mutant, CLAIM, {"executions", "stores"})
    assert "exited with status" in verdict.figure


def test_serial_output_that_differs_between_the_emulators_is_seen(
    built: Steps, tmp_path: Path, record_property: Record
) -> None:
    needs(qemu.PROGRAM, qemu.INSTALL)
    counter = "".join(f"    lsr w1, w0, #{shift}\n    str w1, [x2]\n" for shift in (0, 8, 16, 24))
    edit = ("    bl      enable_mmu\n", '    bl      enable_mmu\n    mrs x0, cntvct_el0\n'
            '    {{ load("x2", board.uart.base) }}\n' + counter)  # fmt: skip
    mutant = rebuilt(built, tmp_path, {"templates/boot.s.j2": edit})
    verdict = caught(record_property, "the kernel sends the time", mutant, CLAIM)
    assert "the serial outputs differ from byte" in verdict.figure


def test_an_expected_line_that_is_not_sent_is_seen(built: Steps, tmp_path: Path, record_property: Record) -> None:
    says = 'console.Puts("Heap initialized at RAM region\\r\\n")'
    edit = (says, f"if table.Size == 0 {{\n\t\t{says}\n\t}}")
    mutant = rebuilt(built, tmp_path, {"src/heap.go": edit})
    verdict = caught(record_property, "an expected line is not sent", mutant, CLAIM)
    assert "'Heap initialized at RAM region' was not sent" in verdict.figure


def test_without_qemu_the_emulators_cannot_agree(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    verdict = claims()[CLAIM].check(without_qemu(case, monkeypatch))
    assert verdict.result is Result.NOT_RUN
    assert "exit status 0" in verdict.figure
    assert "QEMU: not run" in verdict.figure
    assert qemu.INSTALL in verdict.advice
