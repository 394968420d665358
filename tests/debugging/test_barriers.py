"""`info barriers` and `break-barrier`: as the patch pass wrote it down, and as the machine counted."""

from __future__ import annotations

import dataclasses
import json
import re
from collections import Counter

import pytest

from buildsys.barriers.places import places
from buildsys.config.barrier import COUNT, BarrierPolicy
from buildsys.formats.elf import Elf
from buildsys.front import boot
from buildsys.front.steps import Steps
from buildsys.proof.lines import source_lines
from tests.conftest import ROOT
from tests.debugging.conftest import Session

pytestmark = pytest.mark.slow

ROW = re.compile(r"^  (\S*gcWriteBarrier\d*) +(0x\w+) (ours|Go’s own).*  ([\d,]+) call sites?$", re.MULTILINE)
COUNTED = re.compile(r"^ +([\d,]+)  (\S+:\d+|0x\w+)  (\S+)$", re.MULTILINE)


@pytest.mark.parametrize("kind", ["built", "program"])
def test_handlers_and_sites_are_those_the_patch_pass_tells(
    kind: str, session: Session, request: pytest.FixtureRequest
) -> None:
    """By the relocations the linker kept; the pass went by the instructions."""
    steps: Steps = request.getfixturevalue(kind)
    said = session(steps, ["info barriers"])["info barriers"]
    ours = {(name, int(goal, 16)): int(count.replace(",", "")) for name, goal, _, count in ROW.findall(said)}
    told = json.loads(steps.patch_json.read_text())["functions"]
    theirs: Counter[tuple[str, int]] = Counter()
    for each in told:
        if each["kind"] in ("barrier", "program"):
            theirs[each["name"], int(each["new"], 16)] += each["count"]
    assert ours == {key: count for key, count in theirs.items() if count}
    assert re.search(r"^flag runtime\.writeBarrier at 0x\w+ is 1: barriers are called$", said, re.MULTILINE)


def test_sites_of_a_programs_own_barriers_have_lines_as_pyelftools_reads_them(program: Steps) -> None:
    told = json.loads(program.patch_json.read_text())["functions"]
    sites = [int(site["address"], 16) for each in told if each["kind"] == "program" for site in each["sites"]]
    assert len(sites) > 500
    found = places(Elf.mapped(program.image), sites)
    named = [(site, place.function.removeprefix("program.")) for site, place in found.items()]
    theirs = source_lines(program.image, named)
    ours = {site: place.line for site, place in found.items() if place.line}
    assert set(ours) == set(sites)
    # It looks for a function's unit by the name of its package, which for a few is that of another.
    assert len(theirs) > len(sites) * 0.9
    assert {site: ours[site] for site in theirs} == theirs


@pytest.fixture(scope="module")
def counting(built: Steps, tmp_path_factory: pytest.TempPathFactory) -> Steps:
    """The reference kernel, counting, and run to its end on the embedded emulator."""
    root = tmp_path_factory.mktemp("counting")
    steps = Steps(dataclasses.replace(built.project, root=root, barrier=BarrierPolicy(COUNT)))
    steps.project.build.mkdir(parents=True, exist_ok=True)
    for make in (steps.compile, steps.runtime, steps.link, steps.patch):
        steps.records.perform(make())
    assert boot.boot_embedded(steps, 20) is None
    return steps


def test_counts_by_line_are_those_of_a_run_elsewhere(counting: Steps, session: Session) -> None:
    """gdb stops on QEMU where that run ended."""
    run = json.loads((counting.project.build / "barriers.json").read_text())
    said = session(counting, ["info barriers"], entry="buildsys.exit")["info barriers"]
    assert f"calls counted: {run['executions']:,}, from {len(run['sites']):,} call sites" in said
    theirs: Counter[str] = Counter()
    for site in run["sites"]:
        theirs[site["line"]] += site["executions"]
    ours = {line.rpartition("/")[2]: int(count.replace(",", "")) for count, line, _ in COUNTED.findall(said)}
    assert ours
    assert ours == {line: theirs[line] for line in ours}


def test_gdb_stops_where_a_line_calls_its_barrier_and_nowhere_else(program: Steps, session: Session) -> None:
    source = (ROOT / "tests/kernels/debugged/main.go").read_text().splitlines()
    (line,) = (number for number, text in enumerate(source, 1) if text.endswith("// a barrier"))
    at, elsewhere = f"break-barrier main.go:{line}", "break-barrier main.go:1"
    said = session(program, [at, elsewhere, "break-barrier nowhere.go:1", "break-barrier", "info breakpoints"])
    assert f"main.go, line {line}." in said[at]
    assert "main.go:1 calls no barrier; lines that do: " in said["errors"]
    assert str(line) in said["errors"]
    assert "nowhere.go:1 calls no barrier, and no line of nowhere.go does" in said["errors"]
    assert "usage: break-barrier FILE:LINE" in said["errors"]


def test_the_instruction_it_stops_at_is_the_call(counting: Steps, session: Session) -> None:
    run = json.loads((counting.project.build / "barriers.json").read_text())
    site = run["sites"][0]
    command = f"break-barrier {site['line']}"
    said = session(counting, [command, "continue", "x/i $pc"])
    assert f"{site['address']}" in said[command]
    assert "bl\t" in said["x/i $pc"]
