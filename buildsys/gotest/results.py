"""What is kept of a package's tests: told by the process that judged them to the one that shows all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from buildsys.gotest.judge import Verdict
from buildsys.gotest.output import FAIL, PASS, SKIP

# Verdicts: a package with no test files has none to pass.
PASSED, FAILED, EMPTY, NOT_RUN = "ok", "FAIL", "no test files", "not run"
OUTPUT_KEPT = 20_000  # characters of what one test said


@dataclass(frozen=True)
class Case:
    """A test, or a part of one; `output` is what it said, if it failed or was skipped."""

    name: str
    result: str
    seconds: float
    output: str = ""


@dataclass(frozen=True)
class Result:
    """One package: its verdict, why it did not pass, and its tests. `remarks` are what else is worth telling."""

    package: str
    verdict: str
    reasons: tuple[str, ...] = ()
    cases: tuple[Case, ...] = ()
    boots: int = 0
    seconds: float = 0.0
    remarks: tuple[str, ...] = ()

    def count(self, result: str) -> int:
        """How many of its tests, not parts of such, ended with `result`."""
        return sum(case.result == result and "/" not in case.name for case in self.cases)


def result_of(package: str, verdict: Verdict) -> Result:
    """The verdict, to be kept; a test that took a boot with it is one that failed."""
    cases = [
        Case(test.name, test.result, test.seconds, "" if test.result == PASS else test.output[-OUTPUT_KEPT:])
        for test in verdict.tests
        if test.name not in verdict.culprits
    ]
    cases += [Case(name, FAIL, 0.0, why) for name, why in verdict.culprits.items()]
    reasons = [f"{name} ended its boot: {why}" for name, why in verdict.culprits.items()]
    reasons += [f"{name} failed" for name in verdict.named(FAIL) if "/" not in name and name not in verdict.culprits]
    return Result(
        package,
        PASSED if verdict.passed else FAILED,
        (*verdict.troubles, *reasons),
        tuple(cases),
        verdict.boots,
        round(verdict.seconds, 2),
        tuple(verdict.remarks),
    )


def result_from(stored: dict[str, Any]) -> Result:
    """What `dataclasses.asdict` made of a result, and JSON of that."""
    cases = tuple(Case(**each) for each in stored["cases"])
    several = {name: tuple(stored[name]) for name in ("reasons", "remarks")}
    return Result(**{**stored, **several, "cases": cases})


def tally(result: Result) -> str:
    """How many tests ended how, in words."""
    words = {PASS: "passed", FAIL: "failed", SKIP: "skipped"}
    return ", ".join(f"{count} {word}" for how, word in words.items() if (count := result.count(how)))
