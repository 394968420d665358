"""A matrix to look at: a table for the terminal, the same for a document, JUnit for a CI server."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence

from buildsys.matrix.results import FAILED, NOT_RUN, PASSED, CellVerdict, Line, Results

SHOWN = 5  # of what failed in a cell


def titles(results: Results) -> list[str]:
    """The heads of the columns."""
    return [
        "Go",
        "toolchain",
        "calls of barrier 1 … 8",
        "all",
        "image",
        "build",
        "verify",
        *results.selection.emulators,
    ]


def columns(line: Line, emulators: Sequence[str]) -> list[str]:
    """A line's cells, under `titles`."""
    there = bool(line.sha256)
    checks = [line.verdicts[name] for name in emulators]
    spent = sum(verdict.seconds for verdict in checks)
    release = line.release or line.go
    return [
        release if release.startswith(line.go) else f"{release} ({line.go})",
        line.toolchain,
        " ".join(_counts(line)),
        str(sum(line.sites.values())) if there else "",
        f"{line.size / 1e6:.1f} MB" if there else "",
        ("kept" if line.seconds is None else f"{line.seconds:.1f} s") if there else "",
        f"{spent:.1f} s" if spent else "",
        *map(_word, checks),
    ]


def _counts(line: Line) -> Iterator[str]:
    """The calls by barrier function; in the storing ABI there is one function."""
    slotted = {int(name[1]): count for each, count in line.sites.items() if (name := re.search(r"(\d+)$", each))}
    if slotted:
        yield from (str(slotted.get(slots, 0)) for slots in range(1, max(*slotted, 8) + 1))
    elif line.sites:
        yield "(one function, which stores)"


def _word(verdict: CellVerdict) -> str:
    if verdict.result == NOT_RUN or not verdict.claims:
        return verdict.result
    return f"{verdict.held}/{verdict.claims}"


def table(results: Results) -> str:
    """The table as plain text."""
    rows = [titles(results), *(columns(line, results.selection.emulators) for line in results.lines)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def markdown(results: Results) -> str:
    """The table for a document, and what it was made with."""
    rows = [titles(results), ["---"] * len(titles(results))]
    rows += [columns(line, results.selection.emulators) for line in results.lines]
    tools = ", ".join(f"{name} {version}" for name, version in results.tools.items())
    assemblers = ", ".join(dict.fromkeys(f"{line.toolchain}: {line.tool}" for line in results.lines if line.tool))
    return "\n".join(["| " + " | ".join(row) + " |" for row in rows] + ["", f"With {tools}; {assemblers}."])


def show(results: Results) -> None:
    """Print the table and, beneath it, what failed and what could not run."""
    if sys.stdout.isatty():
        _show_coloured(results)
    else:
        print(table(results))
    for line in remarks(results):
        print(line)
    print(concluding(results))


def _show_coloured(results: Results) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    colours = {PASSED: "green", FAILED: "bold red", NOT_RUN: "yellow"}
    drawn = Table(box=None, pad_edge=False, header_style="dim")
    for title in titles(results):
        drawn.add_column(title)
    for line in results.lines:
        verdicts = [line.verdicts[name].result for name in results.selection.emulators]
        cells = columns(line, results.selection.emulators)
        styles = [*[""] * (len(cells) - len(verdicts)), *(colours[each] for each in verdicts)]
        drawn.add_row(*(Text(cell, style=style) for cell, style in zip(cells, styles, strict=True)))
    Console(highlight=False).print(drawn)


def remarks(results: Results) -> list[str]:
    """What failed, and what is missing, with what to do: said once for all the cells it is said of."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for line, emulator, verdict in results.cells:
        if verdict.result == PASSED:
            continue
        reasons = ["\n  ".join(verdict.said)] if verdict.result == NOT_RUN else list(verdict.said[:SHOWN])
        for said in reasons:
            cells = found.setdefault((verdict.result, said, verdict.advice), [])
            cells.append(f"Go {line.release or line.go}, {line.toolchain}, {emulator}")
    return [
        f"{result}: {cells[0] if len(cells) == 1 else f'{len(cells)} cells, the first is {cells[0]}'}: {said}"
        + (f"\n  → {advice}" if advice else "")
        for (result, said, advice), cells in found.items()
    ]


def concluding(results: Results) -> str:
    """One sentence."""
    told = [f"{results.count(PASSED)} of {len(results.cells)} cells passed"]
    told += [f"{count} {word}" for word in (FAILED, NOT_RUN) if (count := results.count(word))]
    part = f" (part {results.shard})" if results.shard.parts > 1 else ""
    return ", ".join(told) + part


def as_junit(results: Results) -> str:
    """One test case a cell."""
    from xml.etree import ElementTree

    suite = ElementTree.Element(
        "testsuite",
        name="doit matrix",
        tests=str(len(results.cells)),
        failures=str(results.count(FAILED)),
        skipped=str(results.count(NOT_RUN)),
    )
    for line, emulator, verdict in results.cells:
        case = ElementTree.SubElement(
            suite,
            "testcase",
            classname=f"matrix.{line.toolchain}",
            name=f"Go {line.release or line.go}, {line.toolchain}, {emulator}",
            time=f"{verdict.seconds:.2f}",
        )
        text = "\n".join([*verdict.said, verdict.advice]).strip()
        if verdict.result == FAILED:
            ElementTree.SubElement(case, "failure", message=verdict.said[0] if verdict.said else FAILED).text = text
        elif verdict.result == NOT_RUN:
            ElementTree.SubElement(case, "skipped", message=text)
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"
