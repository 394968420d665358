"""Results to look at: a line for each package, a table of all, JUnit for a CI server."""

from __future__ import annotations

import re
from collections.abc import Sequence

from buildsys.gotest.output import FAIL, PASS, SKIP
from buildsys.gotest.results import EMPTY, FAILED, PASSED, Result, tally

REASONS_SHOWN = 10
TITLES = ("verdict", "package", "passed", "failed", "skipped", "boots", "time")


def line(result: Result) -> str:
    """What is said of a package when it is done: as `go test` says it, and why."""
    if result.verdict == EMPTY:
        return f"?     {result.package}  [{EMPTY}]"
    boots = f"{result.boots} boots in {result.seconds:.2f} s"
    said = ", ".join(filter(None, (tally(result) or "no tests to run", boots)))
    lines = [f"{result.verdict:4}  {result.package}  {said}"]
    lines += [f"      {reason}".replace("\n", "\n      ") for reason in result.reasons[:REASONS_SHOWN]]
    if more := result.reasons[REASONS_SHOWN:]:
        lines.append(f"      and {len(more)} more reasons")
    lines += [f"      {remark}".replace("\n", "\n      ") for remark in result.remarks]
    return "\n".join(lines)


def table(results: Sequence[Result]) -> str:
    """All packages, one a line."""
    rows = [TITLES, *map(columns, results)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(TITLES))]

    def cell(text: str, column: int) -> str:
        return f"{text:<{widths[column]}}" if column < 2 else f"{text:>{widths[column]}}"

    return "\n".join("  ".join(cell(text, column) for column, text in enumerate(row)).rstrip() for row in rows)


def columns(result: Result) -> tuple[str, ...]:
    """A package's cells, under `TITLES`."""
    if result.verdict == EMPTY:
        return (EMPTY, result.package, "", "", "", "", "")
    counts = (str(result.count(how)) for how in (PASS, FAIL, SKIP))
    return (result.verdict, result.package, *counts, str(result.boots), f"{result.seconds:.2f} s")


def concluding(results: Sequence[Result]) -> str:
    """One sentence."""
    tested = [result for result in results if result.verdict != EMPTY]
    passed = sum(result.verdict == PASSED for result in tested)
    tests = sum(result.count(PASS) for result in tested)
    return f"{passed} of {len(tested)} packages passed, {tests} tests in {sum(each.boots for each in tested)} boots"


def as_junit(results: Sequence[Result]) -> str:
    """One test suite a package; what speaks against a package and is no test's fault is a test case of its own."""
    from xml.etree import ElementTree

    suites = ElementTree.Element("testsuites", name="doit go-test")
    for result in results:
        failures = sum(case.result == FAIL for case in result.cases)
        named = {case.name for case in result.cases if case.result == FAIL}
        others = [reason for reason in result.reasons if reason.split(" ", 1)[0] not in named]
        suite = ElementTree.SubElement(
            suites,
            "testsuite",
            name=result.package,
            tests=str(len(result.cases) + bool(others)),
            failures=str(failures + bool(others)),
            skipped=str(sum(case.result == SKIP for case in result.cases)),
            time=f"{result.seconds:.2f}",
        )
        for case in result.cases:
            element = ElementTree.SubElement(
                suite, "testcase", classname=result.package, name=case.name, time=f"{case.seconds:.2f}"
            )
            said = _printable(case.output)
            if case.result == FAIL:
                ElementTree.SubElement(element, "failure", message=_first(said) or FAIL).text = said
            elif case.result == SKIP:
                ElementTree.SubElement(element, "skipped", message=_first(said))
        if others and result.verdict == FAILED:
            element = ElementTree.SubElement(suite, "testcase", classname=result.package, name="(package)", time="0.00")
            ElementTree.SubElement(element, "failure", message=_printable(others[0])).text = _printable(
                "\n".join(others)
            )
    return ElementTree.tostring(suites, encoding="unicode", xml_declaration=True) + "\n"


def _first(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


def _printable(text: str) -> str:
    """`text` without what XML cannot hold: Extensible Markup Language 1.0, 2.2, Char."""
    return re.sub("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", text)
