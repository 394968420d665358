"""The table, and what is said beneath it."""

from __future__ import annotations

from xml.etree import ElementTree

from buildsys.matrix.results import Line
from buildsys.matrix.show import as_junit, concluding, markdown, remarks, table

from .conftest import ABSENT, BAD, GOOD, line, results

MIXED = results(
    line("1.24", "zig"),
    line("1.24", "gnu", qemu=BAD),
    line("1.24", "llvm", ABSENT, ABSENT),
)


def test_a_line_tells_calls_size_time_and_verdicts() -> None:
    title, row, *_ = table(MIXED).splitlines()
    assert " ".join(title.split()) == "Go toolchain calls of barrier 1 … 8 all image build verify embedded qemu"
    assert " ".join(row.split()) == "1.24.7 zig 10 20 0 0 0 0 0 80 110 4.4 MB 0.5 s 3.0 s 12/12 12/12"


def test_what_failed_and_what_is_missing_is_told_in_its_place() -> None:
    _, _, gnu, llvm = table(MIXED).splitlines()
    assert gnu.endswith("12/12     11/12")
    assert llvm.split() == ["1.24", "llvm", "not", "run", "not", "run"]


def test_columns_stand_under_their_titles() -> None:
    lines = table(MIXED).splitlines()
    at = lines[0].index("embedded")
    assert {each[at - 2 : at] for each in lines} == {"  "}


def test_a_go_that_was_not_named_by_its_version_is_told_with_its_name() -> None:
    row = Line("system", "zig", {"embedded": GOOD, "qemu": GOOD}, "1.19.8", "", {"runtime.gcWriteBarrier": 438}, 1, "a")
    shown = table(results(row)).splitlines()[1]
    assert shown.startswith("1.19.8 (system)  zig        (one function, which stores)  438  ")
    assert "  kept  " in shown


def test_a_failure_names_cell_and_claim_and_what_to_do() -> None:
    assert remarks(MIXED)[0] == (
        "failed: Go 1.24.7, gnu, qemu: claim 3, call-sites: 1 call goes to the old function\n  → build again"
    )


def test_what_is_missing_is_said_once_for_all_cells_with_what_to_install() -> None:
    assert remarks(MIXED)[1:] == [
        "not run: 2 cells, the first is Go 1.24, llvm, embedded: there is no clang\n  → apt-get install clang"
    ]


def test_the_last_line_counts_every_cell() -> None:
    assert concluding(MIXED) == "3 of 6 cells passed, 1 failed, 2 not run"
    assert concluding(results(line("1.24", "zig"))) == "2 of 2 cells passed"


def test_the_table_of_a_document_has_the_same_cells_and_tells_the_tools() -> None:
    lines = markdown(MIXED).splitlines()
    assert lines[0].startswith("| Go | toolchain |")
    assert lines[2] == "| 1.24.7 | zig | 10 20 0 0 0 0 0 80 | 110 | 4.4 MB | 0.5 s | 3.0 s | 12/12 | 12/12 |"
    assert lines[-1] == "With qemu 7.2; zig: a 1.0, gnu: a 1.0."


def test_junit_has_a_case_for_each_cell() -> None:
    suite = ElementTree.fromstring(as_junit(MIXED))
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("6", "1", "2")
    assert len(suite.findall("testcase")) == 6
    failure = suite.find("testcase/failure")
    assert failure is not None
    assert failure.get("message") == BAD.said[0]
    assert len(suite.findall("testcase/skipped")) == 2
