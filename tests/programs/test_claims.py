"""What is claimed of a program beside what is claimed of every kernel; each claim with images that are wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from buildsys.formats.a64 import encode_branch
from buildsys.formats.symbols import Symbol
from buildsys.front.verify import case_of
from buildsys.proof.case import Case
from buildsys.proof.claim import Claim, Result
from buildsys.proof.claims import OF_PROGRAMS, of, program_barriers, supervisor, system_calls
from buildsys.proof.claims.call_sites import CLAIM as CALL_SITES
from buildsys.proof.claims.call_sites import relocated
from tests.programs.conftest import built
from tests.proof.mutants import patched

BARRIER = "program.runtime.gcWriteBarrier2"
NOP, RET, UNMASK = 0xD503201F, 0xD65F03C0, 0xD50342FF  # C6.2: NOP; RET; MSR DAIFClr, #2
CLOBBER = 0xAA1F03E0  # MOV x0, xzr

Words = Callable[[Case], dict[int, int]]


@pytest.fixture(scope="session")
def counted(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """A program whose barriers are counted."""
    return case_of(built(tmp_path_factory.mktemp("counted"), "shared", more='barrier = "count"'))


def function(case: Case, name: str, is_global: bool = False) -> Symbol:
    """The function of that name, the local one or ours."""
    return next(each for each in case.elf.symbols.named(name)[name] if each.is_global == is_global)


def site(case: Case) -> int:
    """A place that calls a barrier of the program."""
    return min(relocated(case.before, [BARRIER]))


def number(case: Case, caller: str) -> int:
    """Where a function of the program gives x8 the number of a system call."""
    at = function(case, caller).value
    return next(place for place in range(at, at + 0x100, 4) if (case.elf.word(place) or 0) & 0xFFE0001F == 0xD2800008)


def test_the_claims_hold_of_a_program_and_are_made_of_no_other_kernel(counted: Case) -> None:
    assert of(program=True) == (*of(program=False), *OF_PROGRAMS)
    for claim in (*OF_PROGRAMS, CALL_SITES):
        verdict = claim.check(counted)
        assert verdict.result is Result.PASSED, (claim.name, verdict.details)


def test_nothing_is_said_of_barriers_that_nobody_counts(counted: Case, tmp_path: Path) -> None:
    verdict = program_barriers.check(case_of(built(tmp_path, "shared")))
    assert verdict.result is Result.PASSED, verdict.details
    assert verdict.evidence == {
        "calls": program_barriers.check(counted).evidence["calls"],
        "counted": False,
        "trials": 0,
    }


def vector(case: Case, number: int) -> int:
    """The address of one of the exception vectors."""
    return case.elf.symbols.addresses(supervisor.VECTORS)[supervisor.VECTORS] + number * supervisor.ENTRY_BYTES


def branch(case: Case, at: int, to: int, link: bool) -> dict[int, int]:
    return {at: encode_branch(0x94000000 if link else 0x14000000, at, to)}


MUTANTS: dict[str, tuple[Claim, Words, str]] = {
    "a call goes past what counts": (
        program_barriers.CLAIM,
        lambda case: branch(case, site(case), function(case, BARRIER).value, link=True),
        f"the call of {BARRIER} at",
    ),
    "a call goes to another barrier": (
        program_barriers.CLAIM,
        lambda case: branch(case, site(case), function(case, BARRIER[:-1] + "3", is_global=True).value, link=True),
        f"the call of {BARRIER} at",
    ),
    "what counts does not go on": (
        program_barriers.CLAIM,
        lambda case: {function(case, BARRIER, is_global=True).end - 4: RET},
        f"ours for {BARRIER} does not come to the original",
    ),
    "what counts spoils a register": (
        program_barriers.CLAIM,
        lambda case: {function(case, BARRIER, is_global=True).end - 24: CLOBBER},
        f"ours for {BARRIER} changes x0",
    ),
    "what counts does not count": (
        program_barriers.CLAIM,
        lambda case: {function(case, BARRIER, is_global=True).end - 24: NOP},
        "ours counted wrongly",
    ),
    "the supervisor allocates": (
        supervisor.CLAIM,
        lambda case: branch(case, function(case, "main.trap").end - 4, function(case, "runtime.newobject").value, True),
        "runtime.newobject can be called: ",
    ),
    "the supervisor calls the program": (
        supervisor.CLAIM,
        lambda case: branch(case, function(case, "main.trap").end - 4, function(case, "program.main.main").value, True),
        "program.main.main of the program can be called: ",
    ),
    "the supervisor unmasks interrupts": (
        supervisor.CLAIM,
        lambda case: {function(case, "main.serve").value: UNMASK},
        "main.serve may unmask interrupts at",
    ),
    "an interrupt of the supervisor is handled": (
        supervisor.CLAIM,
        lambda case: branch(case, vector(case, 5), function(case, "supervisor.interrupt").value, link=False),
        "vector 5 at",
    ),
    "the program asks for what is not served": (
        system_calls.CLAIM,
        lambda case: {number(case, "program.runtime.sched_getaffinity.abi0"): 0xD2800008 | 26 << 5},
        "on the embedded emulator number 26 was asked for 1 times, and is not served",
    ),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_what_is_wrong_is_found(counted: Case, tmp_path: Path, mutant: str) -> None:
    claim, words, said = MUTANTS[mutant]
    changes = {at: word.to_bytes(4, "little") for at, word in words(counted).items()}
    verdict = claim.check(patched(counted, tmp_path, changes))
    assert verdict.result is Result.FAILED
    assert any(detail.startswith(said) for detail in verdict.details), verdict.details
