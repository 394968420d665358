"""A package passes only if all of it ran and ended well; whatever ends a boot is named, and the rest runs."""

from __future__ import annotations

import pytest

from buildsys.gotest.output import FAIL, PASS, SKIP
from tests.gotest.conftest import JudgedAs

TROUBLE, GOOD = "./trouble", "./good"


def test_a_package_without_trouble_passes_and_its_parts_are_told(judged: JudgedAs) -> None:
    verdict = judged(GOOD)
    assert verdict.passed, verdict
    assert set(verdict.named(PASS)) == {
        "TestSum", "TestSum/of_0", "TestSum/of_1", "TestSum/of_100",
        "TestParallel", "TestParallel/part", "TestParallel/part#01", "TestParallel/part#02",
        "TestWords", "TestWrong", "FuzzSum", "FuzzSum/seed#0", "ExampleSum",
    }  # fmt: skip
    assert verdict.named(SKIP) == ["TestSkipped"]
    assert verdict.boots == 2  # of which one asked for the tests there are


def test_it_passes_on_the_embedded_emulator_too(judged: JudgedAs) -> None:
    verdict = judged(GOOD, on="embedded", limit=60)
    assert verdict.passed, verdict
    assert len(verdict.named(PASS)) == 13


def test_a_test_that_fails_fails_its_package_and_says_why(judged: JudgedAs) -> None:
    verdict = judged(GOOD, "WRONG=1")
    assert not verdict.passed
    assert verdict.named(FAIL) == ["TestWrong"]
    (wrong,) = [test for test in verdict.tests if test.name == "TestWrong"]
    assert "as asked for" in wrong.output
    assert verdict.boots == 2


def test_patterns_choose_tests_and_parts_of_them(judged: JudgedAs) -> None:
    verdict = judged(GOOD, run="Sum$/of_1$|Skipped")
    assert verdict.passed, verdict
    assert set(verdict.named(PASS)) == {"TestSum", "TestSum/of_1", "FuzzSum", "ExampleSum"}
    assert verdict.named(SKIP) == ["TestSkipped"]


def test_each_test_runs_as_often_as_asked(judged: JudgedAs) -> None:
    verdict = judged(GOOD, run="TestSum|Words", count=3)
    assert verdict.passed, verdict
    assert [test.name for test in verdict.tests].count("TestSum") == 3
    assert [test.name for test in verdict.tests].count("TestWords") == 3


def test_benchmarks_are_expected_as_tests_are(judged: JudgedAs) -> None:
    verdict = judged(GOOD, run="^$", bench=".", limit=60)
    assert verdict.passed, verdict
    assert not verdict.tests
    assert verdict.measured == {"BenchmarkSum", "BenchmarkParts"}


def test_what_ends_its_boot_is_named_and_every_other_test_runs(judged: JudgedAs) -> None:
    verdict = judged(TROUBLE)
    assert not verdict.passed
    assert verdict.named(PASS) == ["TestFirst", "TestMiddle", "TestLast", "TestParallelGood"]
    said = {
        "TestFaults": "panic: runtime error: invalid memory address or nil pointer dereference",
        "TestPanics": "panic: in a test",
        "TestExits": "panic: unexpected call to os.Exit(0) during test",
        "TestLeaves": "the program exited with status 0, and said neither PASS nor FAIL",
        "TestOff": "the end of the run did not arrive",
        "TestHangs": "panic: test timed out after 6s",
        "TestLocks": "the time limit of 6 s ended it",
        "TestParallelFaulty": "panic: runtime error: invalid memory address or nil pointer dereference",
    }
    assert verdict.culprits.keys() == said.keys()
    for name, why in said.items():
        assert why in verdict.culprits[name], name
    assert set(verdict.named(FAIL)) - set(said) == {"TestFails"}
    assert not verdict.troubles


def test_of_several_that_were_running_the_one_that_did_it_is_found(judged: JudgedAs) -> None:
    verdict = judged(TROUBLE, run="Parallel", parallel=4)
    assert verdict.culprits.keys() == {"TestParallelFaulty"}
    assert set(verdict.named(PASS)) == {"TestParallelGood"}
    assert not verdict.troubles
    assert verdict.boots == 4  # to list, together, and each alone


def test_a_boot_that_ended_is_not_forgotten_when_no_test_does_it_alone(judged: JudgedAs) -> None:
    verdict = judged(TROUBLE, "TOGETHER=1", run="Together", parallel=4)
    assert not verdict.passed
    assert set(verdict.named(PASS)) == {"TestTogetherOne", "TestTogetherOther"}
    assert not verdict.culprits
    (trouble,) = verdict.troubles
    assert "invalid memory address" in trouble
    assert "none of which does it alone" in trouble


@pytest.mark.parametrize(
    ("main", "trouble"),
    [
        ("leaves", "the program exited with status 0, and said neither PASS nor FAIL (before the first test)"),
        ("silent", "the program exited with status 0, and said neither PASS nor FAIL (before the first test)"),
        ("panics", "panic: before any test (before the first test)"),
        ("lists nothing", "TestFirst ended, which the program did not list"),
        ("covers up", "the program exited with status 0, and its last word is FAIL"),
        ("forgets", "TestLast never ended, and the program said PASS"),
        ("fails", "the program exited with status 3, and its last word is PASS"),
    ],
)
def test_a_program_that_exits_well_without_all_its_tests_does_not_pass(
    judged: JudgedAs, main: str, trouble: str
) -> None:
    run = "Fails" if main == "covers up" else "First|Last"
    verdict = judged(TROUBLE, f"MAIN={main}", run=run)
    assert not verdict.passed
    assert trouble in "\n".join(verdict.troubles)
