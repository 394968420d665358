"""The standard library's own tests, here and on Linux: hours, on a slow machine. The document says what they did."""

from __future__ import annotations

from pathlib import Path

import pytest

from buildsys.config.project import load
from buildsys.front.steps import Steps
from buildsys.gotest.results import PASSED
from tests.gotest.standard import LIST, judge, project_in, row, rows

# Tests that end otherwise under user emulation: they start their own program again, which the host's Linux cannot.
ELSEWHERE = {
    "math/rand": ("TestDefaultRace",),
    "sync": ("TestMutexMisuse", "TestIssue76126"),
}


def test_by_the_document_every_package_passes() -> None:
    known = rows()
    assert set(known) == set(LIST)
    assert all(each.verdict == PASSED for each in known.values())


@pytest.mark.campaign
@pytest.mark.parametrize("package", LIST)
def test_a_package_passes_and_ends_as_on_linux(tmp_path: Path, package: str) -> None:
    root = project_in(tmp_path)
    steps = Steps(load(root))
    ((found, result),) = judge(root, steps, [package], "qemu")
    judged = row(steps, found, result)
    assert judged.verdict == PASSED, judged.reasons
    differing = {name.partition(":")[0].partition("/")[0] for name in judged.differs}
    assert differing <= set(ELSEWHERE.get(package, ()))
