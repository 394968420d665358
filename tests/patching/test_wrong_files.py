"""C programs with something wrong in their files: `buildsys patch` gives up, or does what it says and nothing else."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest

from buildsys.errors import UserError
from buildsys.formats import a64
from buildsys.formats.elf import Elf
from buildsys.patching import Report, redirect
from tests.campaigns.fuzzing import mutated

from .conftest import Compiled
from .programs import SHAPES

KEY = 20_261_123
MODES = ("calls", "entry", "both")


def unsaid(before: bytes, report: Report) -> str:
    """What the report says and the file does not, or the other way round; nothing if they agree."""
    elf, told = Elf(before), set[int]()
    for each in report.redirects:
        for site in [*each.sites, *([each.entry] if each.entry else [])]:
            offset = _offset(elf, site.address)
            if offset is None or int.from_bytes(before[offset : offset + 4], "little") != site.before:
                return f"{site} was something else"
            if int.from_bytes(report.contents[offset : offset + 4], "little") != site.after:
                return f"{site} is something else"
            if not site.veneer and a64.branch_target(site.after, site.address) != each.new_address:
                return f"{site} does not lead to {each.new_address:#x}"
            told.update(range(offset, offset + 4))
    for at in (*report.veneers, *(each.original for each in report.redirects if each.original)):
        told.update(range(_offset(elf, at) or 0, (_offset(elf, at) or 0) + 16))
    if report.islands:  # they are sections of their own, and other tests look at them
        return ""
    if len(report.contents) != len(before):
        return f"{len(before)} bytes became {len(report.contents)}"
    changed = {at for at, (one, other) in enumerate(zip(before, report.contents, strict=True)) if one != other}
    return f"bytes {sorted(changed - told)[:5]} changed, and nobody says so" if changed - told else ""


def _offset(elf: Elf, address: int) -> int | None:
    """Where the code at `address` is in the file, also if its section does not say that it is loaded."""
    return next((each.offset + address - each.address for each in elf.code if address in each), None)


def tried(linked: Compiled, folder: Path, count: int) -> Counter[str]:
    """How `count` wrong files end; fails with those that do not end well."""
    seeds = [linked(linker, level, SHAPES).read_bytes() for linker in ("zig", "gnu") for level in ("-O0", "-O2")]
    ends, bad = Counter[str](), list[str]()
    for number in range(count):
        chance = random.Random(f"{KEY}/{number}")
        data, mode = mutated(chance.choice(seeds), chance), chance.choice(MODES)
        path = folder / "wrong.elf"
        path.write_bytes(data)
        try:
            problem = unsaid(data, redirect(path, {"old": "fresh"}, mode))
            ends["patched"] += 1
        except UserError as refused:
            problem = "" if refused.message else "an empty message"
            ends["refused"] += 1
        bad += [f"file {number}, {mode}: {problem}"] if problem else []
        assert path.read_bytes() == data
    assert not bad, bad[:5]
    return ends


def test_a_hundred_wrong_files_are_refused_or_patched_as_is_said(linked: Compiled, tmp_path: Path) -> None:
    ends = tried(linked, tmp_path, 100)
    assert min(ends["patched"], ends["refused"]) > 20, ends


@pytest.mark.campaign
def test_two_thousand_wrong_files_are_refused_or_patched_as_is_said(linked: Compiled, tmp_path: Path) -> None:
    tried(linked, tmp_path, 2000)


def test_a_byte_that_nobody_tells_of_is_seen(linked: Compiled) -> None:
    path = linked("zig", "-O2", SHAPES)
    report, before = redirect(path, {"old": "fresh"}), path.read_bytes()
    assert not unsaid(before, report)
    object.__setattr__(report, "contents", report.contents[:-1] + bytes([report.contents[-1] ^ 1]))
    assert "nobody says so" in unsaid(before, report)
