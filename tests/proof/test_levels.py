"""The claim about boot code that comes down from EL3 and EL2, and images that come down wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from buildsys.front.steps import Steps
from buildsys.front.verify import case_of
from buildsys.proof.bootcode import STARTS, Start
from buildsys.proof.case import Case
from buildsys.proof.claims import boot_code
from buildsys.proof.events import Descent
from tests.boards import build_for

from .conftest import OnlyRed
from .mutants import relinked

BOARDS = ["qemu-virt", "raspi3b"]


@pytest.fixture(scope="module", params=BOARDS)
def board(request: pytest.FixtureRequest, built: Steps, tmp_path_factory: pytest.TempPathFactory) -> Steps:
    """A board whose cores begin at EL1, and one whose cores begin at EL3: each must do for both."""
    return build_for(built, request.param, tmp_path_factory.mktemp("levels") / request.param)


@pytest.fixture(scope="module")
def good(board: Steps) -> Case:
    return case_of(board)


def test_every_way_down_is_found(good: Case) -> None:
    verdict = boot_code.check(good)
    assert verdict.passed, verdict.details
    assert set(verdict.evidence["levels"]) == {str(start) for start in STARTS}
    steps = {
        start: [(event.source, event.target) for event in trace.events if isinstance(event, Descent)]
        for start, trace in good.boot.starts.items()
    }
    assert steps == {
        Start(1): [],
        Start(2): [(2, 1)],
        Start(3): [(3, 2), (2, 1)],
        Start(3, has_el2=False): [(3, 1)],
    }


AT_EL2 = "    msr     hcr_el2, x0                 // E2H = 0 says how to read what follows\n"
TO_EL1 = "#0x3c5                  // Arm"
EVERY_LEVEL = """    cmp     x0, #(2 << 2)
    b.lo    at_el1
    b.eq    at_el2
"""


@pytest.mark.parametrize(
    ("mutant", "old", "new", "said"),
    [
        ("EL1 left to be 32-bit", AT_EL2, "", "HCR_EL2 is not set"),
        ("another bit of HCR_EL2 set", "#(1 << 31)  ", "#(3 << 31)  ", "HCR_EL2 is 0x180000000"),
        ("floating point trapped to EL2", "#0x33ff", "#0x37ff", "CPTR_EL2 is 0x37ff"),
        ("floating point trapped to EL3", "    msr     cptr_el3, xzr ", "    nop //", "CPTR_EL3 is not set"),
        ("coprocessor traps left as they are", "    msr     hstr_el2, xzr", "    nop //", "HSTR_EL2 is not set"),
        ("the timer trapped to EL2", "#(1 << 0 | 1 << 1)", "#(1 << 0)", "CNTHCTL_EL2 is 0x1"),
        ("virtual time left as it is", "    msr     cntvoff_el2, xzr", "    nop //", "CNTVOFF_EL2 is not set"),
        ("the core's number not passed on", "    msr     vmpidr_el2, x0", "    nop", "VMPIDR_EL2 is not set"),
        ("the core's model not passed on", "    msr     vpidr_el2, x0 ", "    nop //", "VPIDR_EL2 is not set"),
        (
            "SCTLR_EL1 left as it is",
            "    msr     sctlr_el1, x0\n    mov     x0, #0x3c5",
            "    mov     x0, #0x3c5",
            "SCTLR_EL1 is not set",
        ),
        (
            "reserved bits of SCTLR_EL1 cleared",
            "movk    x0, #0x30d0, lsl #16",
            "movk    x0, #0, lsl #16",
            "SCTLR_EL1 is 0x800",
        ),
        ("EL2 left to be secure", "1 << 7 | 3 << 4 | 1 << 0)", "1 << 7 | 3 << 4)", "SCR_EL3 is 0x5b0"),
        ("EL2 left to be 32-bit", "#(1 << 10 | 1 << 8", "#(1 << 8", "SCR_EL3 is 0x1b1"),
        (
            "interrupts taken to EL3",
            "1 << 7 | 3 << 4 | 1 << 0)",
            "1 << 7 | 3 << 4 | 1 << 1 | 1 << 0)",
            "SCR_EL3 is 0x5b3",
        ),
        ("interrupts let in at EL1", TO_EL1, "#0x005                  // Arm", "exceptions are not masked"),
        ("interrupts let in at EL2", "#0x3c9", "#0x009", "exceptions are not masked"),
        ("EL2 returns to AArch32", TO_EL1, "#0x3d3                  // Arm", "not a lower level"),
        ("EL2 returns to EL0", TO_EL1, "#0x3c0                  // Arm", "not a lower level"),
        ("EL2 returns to EL2", TO_EL1, "#0x3c9                  // Arm", "not a lower level"),
        ("EL2 returns to what is not set", "    msr     elr_el2, x0\n", "", "not known where this returns to"),
        ("EL2 taken for EL1", "    b.eq    at_el2\n", "    b.eq    at_el1\n", "at EL2, not at EL1"),
        ("no level asked for", EVERY_LEVEL, "    b       at_el1\n", "at EL2, not at EL1"),
        ("every level taken for EL3", EVERY_LEVEL, "", "is for EL3, and undefined here"),
        ("SCTLR_EL1 left as it is without an EL2", "    msr     sctlr_el1, x2\n", "", "SCTLR_EL1 is not set"),
        (
            "an EL2 taken to be there always",
            "    b.ne    1f\n",
            "    b       1f\n",
            "it returns to EL2, of which there is none",
        ),
        (
            "memory written at EL2",
            AT_EL2,
            f"{AT_EL2} adrp x1, __stack_low\n str xzr, [x1]\n",
            "stores to memory above EL1",
        ),
        (
            "the way from EL2 skips what EL1 does",
            "    adr     x0, at_el1\n",
            "    adr     x0, 3f\n",
            "does other things at EL1",
        ),
    ],
)
def test_a_level_left_wrongly_is_seen(
    board: Steps, good: Case, tmp_path: Path, only_red: OnlyRed, mutant: str, old: str, new: str, said: str
) -> None:
    edits = {old: new}
    if "3f" in new:  # past the first thing that is done there
        edits["    mov     x0, #(3 << 20)\n    msr     cpacr_el1, x0\n"] = (
            "    mov     x0, #(3 << 20)\n    msr     cpacr_el1, x0\n3:\n"
        )
    case = relinked(board, good, tmp_path, {"boot.s.j2": edits})
    verdict = only_red(f"{mutant} ({board.project.board.name})", case, "boot-code")
    assert any(said in detail for detail in verdict.details), verdict.details


def test_a_core_parked_only_at_its_own_level_is_seen(
    board: Steps, good: Case, tmp_path: Path, only_red: OnlyRed
) -> None:
    late = {
        "    tst     x0, #0xffffff\n    b.ne    park\n": "",
        "at_el1:\n": "at_el1:\n    mrs     x0, mpidr_el1\n    tst     x0, #0xffffff\n    b.ne    park\n",
    }
    case = relinked(board, good, tmp_path, {"boot.s.j2": late})
    verdict = only_red(f"cores parked at EL1, not before ({board.project.board.name})", case, "boot-code")
    assert any("is not parked first" in detail for detail in verdict.details)


def test_code_that_boot_code_overwrites_is_seen(board: Steps, good: Case, tmp_path: Path, only_red: OnlyRed) -> None:
    """In flash the store is lost; in RAM it is made: the MMU is not on yet."""
    edits = {"    bl      enable_mmu\n": "    adr     x1, park\n    str     xzr, [x1]\n    bl      enable_mmu\n"}
    case = relinked(board, good, tmp_path, {"boot.s.j2": edits})
    verdict = only_red(f"code written before the MMU is on ({board.project.board.name})", case, "boot-code")
    wanted = "it is lost" if board.project.board.in_flash else "in .text, which is read-only"
    assert any(wanted in detail for detail in verdict.details), verdict.details


def test_what_is_written_above_el1_and_not_judged_is_named(board: Steps, good: Case, tmp_path: Path) -> None:
    edits = {AT_EL2: f"{AT_EL2}    msr     vttbr_el2, xzr\n"}
    case = relinked(board, good, tmp_path, {"boot.s.j2": edits})
    verdict = boot_code.check(case)
    assert verdict.passed, verdict.details
    assert "is not judged" in verdict.evidence["levels"]["EL2"]
    assert "is not judged" not in boot_code.check(good).evidence["levels"]["EL2"]


@pytest.mark.parametrize("symbol", ["__rodata_start", "__rodata_end"])
def test_page_tables_for_code_that_ends_elsewhere_are_seen(
    board: Steps, good: Case, tmp_path: Path, only_red: OnlyRed, symbol: str
) -> None:
    if symbol == "__rodata_end" and board.project.board.in_flash:
        edits = {f'address("{symbol}")': f'address("{symbol}") + 4096'}  # all of flash is read-only
        assert boot_code.check(relinked(board, good, tmp_path, {"constants.s.j2": edits})).passed
        return
    edits = {f'address("{symbol}")': f'address("{symbol}") + 4096'}
    case = relinked(board, good, tmp_path, {"constants.s.j2": edits})
    verdict = only_red(f"page tables with {symbol} a page further ({board.project.board.name})", case, "boot-code")
    wanted = "make read-only memory executable" if symbol == "__rodata_start" else "make RAM read-only"
    assert any(wanted in detail for detail in verdict.details), verdict.details


def test_an_argument_that_depends_on_the_level_is_seen(
    board: Steps, good: Case, tmp_path: Path, only_red: OnlyRed
) -> None:
    """x19 is nobody's before the call; at the call it goes into x0 for cores that began at EL2 alone."""
    edits = {
        "at_el2:\n": "at_el2:\n    mov     x19, #1\n",
        "    b.lo    at_el1\n": "    mov     x19, #0\n    b.lo    at_el1\n",
        "    mov     x29, xzr\n": "    add     x0, x0, x19\n    mov     x29, xzr\n",
    }
    case = relinked(board, good, tmp_path, {"boot.s.j2": edits})
    verdict = only_red(f"an argument that depends on the level ({board.project.board.name})", case, "boot-code")
    assert any("does other things at EL1" in detail or "board table" in detail for detail in verdict.details)
