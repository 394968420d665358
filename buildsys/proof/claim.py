"""The shape of a claim: something a user can read, checked against facts, able to fail."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from buildsys.proof.case import Case


class Result(Enum):
    """What came of a claim. `NOT_RUN` is neither: something it needs is not there."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_RUN = "not run"


@dataclass(frozen=True)
class Verdict:
    """What a check found.

    `figure` is the one number or phrase for the table, `evidence` what was seen
    (JSON), `details` lines for a reader who wants to see it; `advice` is what to
    do, when it failed or could not run.
    """

    result: Result
    figure: str
    evidence: dict[str, Any] = field(default_factory=dict)
    details: tuple[str, ...] = ()
    advice: str = ""

    @property
    def passed(self) -> bool:
        """Whether the claim is shown to be true."""
        return self.result is Result.PASSED


@dataclass(frozen=True)
class Claim:
    """One claim: a short name for the command line, the sentence claimed, and its check.

    `observed` if that asks what was seen of runs, which claims share; `builds` if it builds the image again.
    """

    name: str
    title: str
    check: Callable[[Case], Verdict]
    observed: bool = False
    builds: bool = False


def verdict(problems: list[str], figure: str, evidence: dict[str, Any], details: list[str], advice: str) -> Verdict:
    """PASSED if there are no problems; otherwise FAILED, the problems first among the details."""
    if not problems:
        return Verdict(Result.PASSED, figure, evidence, tuple(details))
    return Verdict(Result.FAILED, problems[0], evidence | {"problems": problems}, (*problems, *details), advice)
