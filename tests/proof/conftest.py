"""What the tests of claims share: `only_red`, and the table of mutants at the end of the suite."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Protocol

import pytest

from buildsys.proof.case import Case
from buildsys.proof.claim import Result, Verdict

from .mutants import verdicts

ROW = "mutant"


class OnlyRed(Protocol):
    """Assert that `case` falsifies the claim `expected` (and those in `also`) and no other static one.

    `mutant` says in a few words what was changed: it is a row of the table.
    `also` are claims the same change necessarily falsifies; say why where it is used.
    Returns the verdict on `expected`, for what it says.
    """

    def __call__(self, mutant: str, case: Case, expected: str, also: Collection[str] = ()) -> Verdict:
        """See above."""


@pytest.fixture
def only_red(record_property: Callable[[str, object], None]) -> OnlyRed:
    """Judge a mutant, and remember for the table what caught it."""

    def judge(mutant: str, case: Case, expected: str, also: Collection[str] = ()) -> Verdict:
        found = verdicts(case)
        red = {name: verdict.figure for name, verdict in found.items() if verdict.result is Result.FAILED}
        record_property(ROW, [mutant, expected, ", ".join(red) or "nothing"])
        assert expected in found, f"{expected} is no static claim"
        assert red.keys() == {expected, *also} & found.keys(), red
        return found[expected]

    return judge


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The table: each mutant, the claim it should turn red, and what turned red."""
    rows = [
        value
        for outcome in ("passed", "failed")
        for report in terminalreporter.getreports(outcome)
        if getattr(report, "when", "") == "call"
        for key, value in report.user_properties
        if key == ROW
    ]
    if not rows:
        return
    terminalreporter.section("mutants")
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    for mutant, expected, caught in sorted(rows, key=lambda row: (row[1], row[0])):
        missed = "" if expected in caught.split(", ") else "   ← not caught"
        terminalreporter.line(f"{mutant:{widths[0]}}  {expected:{widths[1]}}  caught by {caught}{missed}")
    terminalreporter.line(f"{len(rows)} mutants")
