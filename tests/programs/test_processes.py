"""A program starts itself again, as os/exec does it: its children, how they end, and what is left of them.

What is claimed is checked by the program itself, of what it sees through os/exec: tests/kernels/program/again.go.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from buildsys.front.verify import case_of
from buildsys.proof.claim import Result
from buildsys.proof.claims import system_calls
from tests.programs.conftest import Boot, built, text_of

PARTS = ("processes", "together", "outlived", "nowhere")


def all_done(text: str, parts: tuple[str, ...] = PARTS) -> bool:
    return text.splitlines() == [f"done {part}" for part in parts]


@pytest.mark.parametrize("go", [pytest.param("1.21", marks=pytest.mark.campaign), "1.27"])
def test_a_program_starts_itself_and_sees_how_its_children_end(tmp_path: Path, on_each: Boot, go: str) -> None:
    outcome = on_each(",".join(PARTS), more=f'go = "{go}"')
    assert all_done(text_of(outcome)), outcome.serial
    assert outcome.exit_code == 0
    assert not outcome.doubt, "a child that panicked is not the end of the run"


def test_children_that_ended_leave_no_ram_behind(on_qemu: Boot) -> None:
    outcome = on_qemu("many")
    assert all_done(text_of(outcome), ("many",)), outcome.serial
    assert outcome.exit_code == 0


@pytest.mark.parametrize(
    "more",
    [
        pytest.param('board = "raspi3b"', marks=pytest.mark.campaign),
        'board = "qemu-virt-ram"',
        pytest.param('toolchain = "gnu"', marks=pytest.mark.campaign),
    ],
)
def test_another_process_has_the_data_the_image_came_with_wherever_that_lies(on_qemu: Boot, more: str) -> None:
    outcome = on_qemu("processes", more=more)
    assert all_done(text_of(outcome), ("processes",)), outcome.serial


def test_barriers_of_all_processes_are_counted_and_pass_on(on_qemu: Boot) -> None:
    outcome = on_qemu("processes,collector", more='barrier = "count"')
    assert "done processes\ndone collector\n" in text_of(outcome)
    assert outcome.exit_code == 0


def test_the_run_ends_with_the_first_process_whoever_else_is_there(on_qemu: Boot) -> None:
    outcome = on_qemu("leaves")
    assert text_of(outcome) == "left a child behind\n"
    assert outcome.exit_code == 3


def test_the_first_process_may_become_another(on_embedded: Boot) -> None:
    outcome = on_embedded("becomes")
    assert text_of(outcome) == '["anew"] ["GREETING=changed"] 1\ndone became\n'
    assert outcome.exit_code == 0


def test_a_child_that_finds_no_ram_is_killed_and_its_parent_goes_on(on_qemu: Boot) -> None:
    outcome = on_qemu("greedy")
    assert all_done(text_of(outcome), ("greedy",)), outcome.serial
    assert outcome.exit_code == 0


def test_a_fork_that_shares_no_memory_is_not_served_and_told_by_name(on_embedded: Boot) -> None:
    outcome = on_embedded("forks")
    assert text_of(outcome) == "done forks\nsupervisor: not served: clone (220), 1 times\r\n"


def test_the_calls_that_start_a_process_are_among_those_claimed(tmp_path: Path) -> None:
    case = case_of(built(tmp_path, "processes"))
    verdict = system_calls.check(replace(case, alone=True))
    assert verdict.result is Result.PASSED, verdict.details
