"""The image as it was before the fix, .bss in flash: it fails as the seed describes, and is found to."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from buildsys.front.before import SILENT, TRAPPED, broken, compare
from buildsys.front.steps import Steps
from buildsys.front.verify import check
from buildsys.go.runtime import FLAG
from buildsys.machines.outcome import End
from buildsys.proof.before import (
    EXCEPTION,
    FALSIFIED,
    UNSET,
    assignment,
    diagnoses,
    figures,
    said,
    silent_faults,
    trapped_faults,
)
from buildsys.proof.case import Case
from buildsys.proof.claim import Result, Verdict
from buildsys.proof.claims import CLAIMS
from buildsys.proof.observation import HEAD
from tests.conftest import copy_project

# What must follow from .bss in flash: the barriers' slots are there, too, and the kernel ends before it calls one.
FOLLOWING = {"handlers", "executions", "outcome"}


@pytest.fixture(scope="module")
def silent(built: Steps, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """As the seed had it: writes to flash are lost, and nothing says so."""
    return broken(built, SILENT, tmp_path_factory.mktemp("silent") / "project")


@pytest.fixture(scope="module")
def trapped(built: Steps, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """With the page tables of today: flash is read-only."""
    return broken(built, TRAPPED, tmp_path_factory.mktemp("trapped") / "project")


def verdicts(case: Case) -> dict[str, Verdict]:
    """Every claim's verdict, but for that of building again."""
    chosen = [(number, claim) for number, claim in enumerate(CLAIMS, 1) if claim.name != "reproducible"]
    return {line.claim.name: line.verdict for line in check(case, chosen)}


def test_just_the_claims_of_the_seed_and_what_follows_from_them_fail(silent: Case) -> None:
    found = verdicts(silent)
    red = {name for name, verdict in found.items() if verdict.result is Result.FAILED}
    assert red == {*FALSIFIED, *FOLLOWING}
    assert {found[name].result for name in found.keys() - red} == {Result.PASSED}


def test_each_of_them_gives_the_right_reason(silent: Case) -> None:
    found, flag, head = verdicts(silent), silent.places.flag, silent.places.head
    assert flag is not None
    assert head is not None
    assert flag in silent.board.flash
    assert head in silent.board.flash
    reasons = {name: said(found[name], diagnosis) for name, diagnosis in diagnoses(silent).items()}
    assert reasons.keys() == set(FALSIFIED)
    assert f"{FLAG} at {flag:#x} lies in flash" in (reasons["boot-code"] or "")
    assert (reasons["memory-map"] or "").startswith(".bss (")
    assert f"{FLAG} at {flag:#x} is 0x0 when main.KernelMain" in (reasons["flag-at-run-time"] or "")
    assert f"{HEAD} at {head:#x} holds 0x0 at the end" in (reasons["stores"] or "")


def test_the_flag_is_set_and_reads_zero_and_the_kernel_says_so(silent: Case) -> None:
    run = silent.embedded
    assert (run.flag_at_store, run.flag_at_entry) == (0, 0)
    assert UNSET in run.outcome.serial
    assert (run.outcome.end, run.outcome.exit_code) == (End.EXIT, 1)


def test_every_word_boot_code_clears_is_lost(silent: Case) -> None:
    bounds = silent.elf.symbols.addresses("__bss_start", "__bss_end")
    assert silent.embedded.outcome.lost_write_count >= (bounds["__bss_end"] - bounds["__bss_start"]) // 8


def test_the_assignment_executed_by_itself_is_lost_before_and_arrives_after(silent: Case, case: Case) -> None:
    before, after = assignment(silent), assignment(case)
    assert before is not None
    assert after is not None
    assert (before.lost, before.held) == (True, 0)
    assert (after.lost, after.held) == (False, case.elf.symbols.addresses("__heap_low")["__heap_low"])
    assert (before.destination in silent.board.flash, after.destination in case.board.ram) == (True, True)


def test_with_the_page_tables_of_today_the_first_write_faults(trapped: Case) -> None:
    outcome = trapped.embedded.outcome
    reported = EXCEPTION.search(outcome.serial)
    assert reported is not None
    assert int(reported[3], 16) == trapped.elf.symbols.addresses("__bss_start")["__bss_start"]
    assert (outcome.end, outcome.exit_code, outcome.lost_write_count) == (End.EXIT, 3, 0)
    assert not list(trapped_faults(trapped))


def test_the_patch_stage_follows_no_path_through_what_lies_in_flash(silent: Case, case: Case) -> None:
    def names(case: Case) -> set[str]:
        return {function.name for function in case.reach.functions.values()}

    assert names(case) - names(silent) == {"buildsys.add_itabs"}, "boot code cannot call it there"
    assert names(silent) < names(case)


def test_nothing_is_missing_from_the_broken_image_or_the_good_one(silent: Case, trapped: Case, case: Case) -> None:
    assert compare(silent, trapped, case) is None
    assert not list(silent_faults(silent, verdicts(silent)))
    assert figures(silent).keys() == figures(case).keys()


def test_an_image_that_is_not_broken_is_noticed(trapped: Case, case: Case) -> None:
    failed = compare(case, trapped, case)
    assert failed is not None
    assert "lies in ram, not in flash" in str(failed.message)


def test_an_image_broken_otherwise_is_noticed(trapped: Case, case: Case) -> None:
    """Claims fail for it, too, but the flag is never stored to: that is not the seed's story."""
    failed = compare(trapped, trapped, case)
    assert failed is not None
    assert "claim flag-at-run-time fails, but does not say" in str(failed.message)
    assert f"{FLAG} must be stored to and still read 0" in str(failed.message)


def test_writes_that_do_not_fault_where_they_must_are_noticed(silent: Case, case: Case) -> None:
    failed = compare(silent, silent, case)
    assert failed is not None
    assert "was reached, although boot code cannot write .bss" in str(failed.message)
    assert "writes to flash were lost, and must fault" in str(failed.message)


def test_an_image_after_the_fix_that_fails_is_noticed(silent: Case, trapped: Case) -> None:
    failed = compare(silent, trapped, silent)
    assert failed is not None
    assert [name for name in FALSIFIED if f", {name}, failed" in str(failed.message)] == list(FALSIFIED)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project to call the command in, built."""
    root = copy_project(tmp_path_factory.mktemp("command"))
    assert run(root, "build").returncode == 0
    return root


def run(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`doit`, in `root`."""
    doit = Path(sys.executable).with_name("doit")
    return subprocess.run([doit, *arguments], cwd=root, check=False, capture_output=True, text=True)


def test_the_command_shows_both_and_leaves_the_image_alone(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = project / "build" / "kernel.elf"
    image_before = hashlib.sha256(image.read_bytes()).digest()
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    done = run(project, "verify", "--before")
    assert done.returncode == 0, done.stderr
    rows = {cells[0]: cells[1:] for line in done.stdout.splitlines() if len(cells := re.split(r" {2,}", line)) == 3}
    assert rows["it reads, when main.KernelMain begins"] == ["0", "1"]
    assert rows["the run's last line"][0] == UNSET.decode()
    assert rows["the run's end"] == ["exit status 1", "exit status 0"]
    for number, claim in enumerate(CLAIMS, 1):
        assert rows.get(f"claim {number}, {claim.name}") == (["failed", "passed"] if claim.name in FALSIFIED else None)
    assert "claims 6, 7, 9 and 11 fail" in done.stdout
    assert hashlib.sha256(image.read_bytes()).digest() == image_before
    assert not list(tmp_path.iterdir()), "the scratch folder is left"


def test_the_command_fails_if_the_projects_own_linker_script_keeps_bss_in_ram(project: Path) -> None:
    script = (project / "linker" / "kernel.ld.j2").read_text()
    assert ">{{ variant.zeroed }}" in script
    (project / "mine").mkdir()
    (project / "mine" / "kernel.ld.j2").write_text(script.replace(">{{ variant.zeroed }}", ">RAM"))
    settings = project / "pyproject.toml"
    text = settings.read_text()
    assert text.count('\ntoolchain = "zig"\n') == 1
    settings.write_text(text.replace('\ntoolchain = "zig"\n', '\ntoolchain = "zig"\ntemplates = ["mine"]\n'))
    try:
        done = run(project, "verify", "--before")
    finally:
        settings.write_text(text)
    assert done.returncode != 0
    assert "the linker script does not heed `variant.zeroed`" in done.stderr
