"""Claim: the run ends as it should, on both emulators, and touches nothing it should not.

Judged by runs that nothing watched. Only the embedded emulator sees a write that flash
loses; both end a run that reaches outside the map, or their guest reports it.
"""

from __future__ import annotations

from typing import Any

from buildsys.formats.elf import SHF_ALLOC
from buildsys.machines import qemu
from buildsys.machines.outcome import End
from buildsys.proof.case import Case
from buildsys.proof.claim import Claim, Result, Verdict, verdict
from buildsys.proof.observation import QEMU, Observation

# What a kernel prints that makes the seed's checks; each is expected if the image contains it.
LINES = (
    b"Testing write barrier...",
    b"Write barrier flag: enabled",
    b"SUCCESS: Global pointer assignment works!",
    b"Heap initialized at RAM region",
    b"All tests passed! Exiting via semihosting...",
)
TOLD = 5  # lost writes
SHOWN = 60  # bytes of serial output around a difference


def check(case: Case) -> Verdict:
    """Look at how each run ended and at what it sent."""
    if case.program:
        return Verdict(Result.NOT_RUN, "not for this kind: what a program prints, and how it ends, is its own affair")
    runs = case.runs
    loaded = [case.elf.contents(section) for section in case.elf.sections if section.flags & SHF_ALLOC]
    # A kernel that does not end by itself may have lines it never comes to.
    lines = (case.board.until,) if case.board.until else LINES
    expected = [line for line in lines if case.board.until or any(line in contents for contents in loaded)]
    problems = [problem for run in runs for problem in _problems(case, run, expected)]
    if len(runs) > 1 and runs[0].outcome.serial != runs[1].outcome.serial:
        problems.append(_difference(runs[0], runs[1]))
    missing = len(runs) == 1 and not case.alone
    ended = "exit status 0" if runs[0].outcome.end is End.EXIT else f"{case.board.until.decode()!r} sent"
    figure = f"{ended}, {len(runs[0].outcome.serial)} bytes sent, {len(expected)} expected lines among them"
    found = verdict(
        problems,
        figure
        + (", the same on both emulators" if len(runs) > 1 else f" on {runs[0].machine}")
        + (f"; {QEMU}: not run" if missing else ""),
        {"expected": [line.decode() for line in expected], **{run.machine: _evidence(run) for run in runs}},
        [line for line in runs[0].outcome.serial.decode("utf-8", "replace").splitlines() if line],
        "run it by itself: `doit run`, `doit run-qemu`, `doit debug`",
    )
    if missing and found.passed:
        return Verdict(
            Result.NOT_RUN, found.figure, found.evidence, found.details,
            f"install QEMU to see that both emulators agree: {qemu.INSTALL}",
        )  # fmt: skip
    return found


def _problems(case: Case, run: Observation, expected: list[bytes]) -> list[str]:
    outcome, problems = run.outcome, []
    if outcome.end is End.EXIT and case.board.until and case.board.until not in outcome.serial:
        problems.append(f"on {run.machine} the guest exited and had not sent {case.board.until.decode()!r} (`until`)")
    if outcome.end not in (End.EXIT, End.SAID):
        detail = f": {outcome.detail}" if outcome.detail else ""
        problems.append(f"on {run.machine} the guest did not exit: {outcome.end.value}{detail}")
    elif outcome.doubt:
        problems.append(f"on {run.machine} the end of the run is not to be believed: {outcome.doubt}")
    elif not outcome.well:
        problems.append(f"on {run.machine} the guest exited with status {outcome.exit_code}{_last_words(run)}")
    for lost in outcome.lost_writes[:TOLD]:
        function = case.elf.symbols.function_at(lost.pc)
        problems.append(
            f"on {run.machine} {lost.size} bytes were written to flash at {lost.address:#x} and lost, "
            f"by the instruction at {lost.pc:#x}" + (f" in {function.name}" if function else "")
        )
    if outcome.lost_write_count > TOLD:
        problems.append(f"on {run.machine} {outcome.lost_write_count} writes to flash were lost")
    at = 0
    for line in expected:
        place = outcome.serial.find(line, at)
        if place < 0:
            problems.append(f"on {run.machine} {line.decode()!r} was not sent, or not in its place")
        at = max(at, place)
    return problems


def _last_words(run: Observation) -> str:
    lines = run.outcome.serial.decode("utf-8", "replace").split("\r\n")
    last = next((line for line in reversed(lines) if line), "")
    return f", its last line was {last!r}" if last else ""


def _difference(one: Observation, other: Observation) -> str:
    ours, theirs = one.outcome.serial, other.outcome.serial
    at = next((at for at, pair in enumerate(zip(ours, theirs, strict=False)) if pair[0] != pair[1]),
              min(len(ours), len(theirs)))  # fmt: skip
    return (
        f"the serial outputs differ from byte {at} on: {ours[at : at + SHOWN]!r} on {one.machine}, "
        f"{theirs[at : at + SHOWN]!r} on {other.machine}"
    )


def _evidence(run: Observation) -> dict[str, Any]:
    outcome = run.outcome
    return {
        "end": outcome.end.value,
        "exit status": outcome.exit_code,
        "detail": outcome.detail,
        "doubt": outcome.doubt,
        "lost writes": outcome.lost_write_count if run.machine != QEMU else None,
        "serial": outcome.serial.decode("utf-8", "replace"),
        "seconds": round(outcome.seconds, 4),
    }


CLAIM = Claim("outcome", "the run exits with status 0, loses no write, and both emulators agree", check, observed=True)
