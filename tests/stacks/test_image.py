"""Depths of real images, held against other roads: objdump's instructions, call frame information, what runs used."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from buildsys.config.project import load
from buildsys.formats.a64 import is_bl
from buildsys.formats.cfi import SP, Frames
from buildsys.front import stack
from buildsys.front.new import new
from buildsys.front.stacks import Stacks, used
from buildsys.front.steps import Steps
from buildsys.machines import embedded, qemu
from buildsys.proof.case import Case
from buildsys.stacks.growth import Growths, go_code
from buildsys.stacks.image import GUARDS
from tests.binutils import binutils
from tests.machines.conftest import needs_qemu  # noqa: F401  a fixture

LINE = re.compile(r"^\s*(?P<at>[0-9a-f]+):\s+[0-9a-f]{8}\s+(?P<name>\S+)\s*(?P<rest>.*)$")
PUSH = re.compile(r"\[sp, #-(\d+)\]!$")
TAKE = re.compile(r"^sp, sp, #0x([0-9a-f]+)(, lsl #12)?$")


def growths(case: Case) -> Growths:
    return Growths(case.elf, case.code, [case.offsets[each] for each in GUARDS])


@pytest.mark.slow
def test_the_depth_at_each_call_is_what_call_frame_information_has(case: Case) -> None:
    """Go's linker makes both of what its compiler told it; assembly tells its own."""
    frames, found, told = Frames(case.elf), growths(case), 0
    for function in case.reach.functions.values():
        body = case.code.body(function.value)
        for call in found.of(body, 0).calls:
            word = case.elf.word(call.site)
            inside = body.base <= call.site < body.end
            row = frames.row(call.site) if word is not None and is_bl(word) and inside else None
            if row is None or row.base != SP or call.place.absolute:
                continue
            assert call.place.number == row.offset, f"{function.name} at {call.site:#x}"
            told += 1
    assert told > 300


@pytest.mark.slow
def test_the_first_move_of_sp_is_what_objdump_reads(case: Case) -> None:
    found, told, go = growths(case), 0, go_code(case.elf)
    wanted = {each.value: each for each in case.reach.functions.values() if each.value in go}
    for start, moved in _first_moves(case.image, set(wanted)):
        growth = found.of(case.code.body(start), 0)
        if growth.checked:
            told += 1
        assert growth.most >= moved, wanted[start].name
        # Go's functions move sp once, by all of their frame; x29 goes below it.
        assert growth.most == moved + 8 or not growth.checked, wanted[start].name
    assert told > 50


def _first_moves(image: Path, starts: set[int]) -> Iterator[tuple[int, int]]:
    """(address of a function, by how much the first instruction of it that moves sp does)."""
    start = 0
    for line in binutils("objdump", "-d", "--no-show-raw-insn", image).splitlines():
        label = re.match(r"^([0-9a-f]+) <", line)
        if label:
            start = int(label[1], 16)
        text = line.partition(":")[2].strip().replace("\t", " ")
        push, take = (
            PUSH.search(text),
            TAKE.match(text.removeprefix("sub ").strip()) if text.startswith("sub ") else None,
        )
        if start in starts and (push or take):
            yield start, int(push[1]) if push else int(take[1], 16) << (12 if take[2] else 0) if take else 0
            start = 0


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `buildsys new` writes."""
    root = tmp_path_factory.mktemp("fresh") / "kernel"
    new(root)
    return root


def steps_of(root: Path, settings: str = "") -> Steps:
    file = root / "buildsys.toml"
    (root / "first.toml").exists() or shutil.copy2(file, root / "first.toml")
    file.write_text((root / "first.toml").read_text() + settings)
    steps = Steps(load(root))
    for make in (steps.compile, steps.runtime, steps.link, steps.patch):
        if steps.records.stale(make()):
            steps.records.perform(make())
    return steps


def asked(steps: Steps, capsys: pytest.CaptureFixture[str], *functions: str) -> dict[str, Any]:
    capsys.readouterr()
    assert stack.stack(steps, stack.Asked(functions, as_json=True)) is None
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    return told


@pytest.mark.slow
def test_no_run_uses_more_than_the_bound(
    fresh: Path,
    capsys: pytest.CaptureFixture[str],
    needs_qemu: None,  # noqa: F811
) -> None:
    steps = steps_of(fresh)
    [bound] = [each for each in asked(steps, capsys)["stacks"] if each["name"] == "boot"]
    assert bound["bound"]
    assert bound["open"] == []
    assert bound["bytes"] == sum(link["bytes"] for link in bound["chain"])
    stacks = Stacks(steps.image)
    for run in (embedded.run, qemu.run):
        outcome = run(steps.image, steps.project.board, 20.0, keep=stacks.ranges)
        assert outcome.well
        contents = max(outcome.memory.values(), key=len)
        assert len(contents) == bound["size"]
        assert 300 < used(contents) <= bound["bytes"]


@pytest.mark.slow
def test_a_kernel_that_recurses_has_no_bound_and_says_by_what(fresh: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main = fresh / "src" / "main.go"
    before = main.read_text()
    try:
        main.write_text(
            before.replace("func KernelMain(", "func again(n uintptr) uintptr {\n\tif n == 0 {\n\t\treturn 1\n\t}\n"
            "\treturn again(n-1)*3 + n\n}\n\n//go:noinline\nfunc KernelMain(", 1)
            .replace("return 0", "return int32(again(table.Size)) & 0", 1)
        )  # fmt: skip
        steps = steps_of(fresh)
        [told] = [each for each in asked(steps, capsys)["stacks"] if each["name"] == "boot"]
        assert not told["bound"]
        assert told["open"] == ["recursion: main.again"]
        assert stack.stack(steps, stack.Asked()) is None
        shown = capsys.readouterr().out
        assert shown.startswith("boot stack: at least ")
        assert "  no bound is known:\n    recursion: main.again\n" in shown
        one = asked(steps, capsys, "main.again")["stacks"]
        assert [each["name"] for each in one] == ["main.again"]
        failed = stack.stack(steps, stack.Asked(["main.agian"]))
        assert failed is not None
        assert "did you mean main.again" in str(failed)
    finally:
        main.write_text(before)


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["count", "record"])
def test_what_barriers_do_is_in_the_sum(fresh: Path, policy: str, capsys: pytest.CaptureFixture[str]) -> None:
    told = asked(steps_of(fresh, f'barrier = "{policy}"\n'), capsys)
    assert told["unchecked"]["bound"]
    assert told["unchecked"]["bytes"] < told["unchecked"]["size"] == 800
