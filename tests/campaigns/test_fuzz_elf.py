"""Thousands of wrong ELF files: each ends in a verdict or in one message, in bounded time and memory."""

from __future__ import annotations

import os
import secrets
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from buildsys.front.steps import Steps
from buildsys.proof.case import Case
from tests.campaigns.fuzzing import Outcome, Seed, bounded, outcome
from tests.campaigns.seeds import small, toolchains
from tests.proof.mutants import verdicts

CAMPAIGN, ORDINARY = 10_000, 300
FIXED = 20_240_229
KEY = "BUILDSYS_FUZZ_KEY"  # gives a campaign again
PIECE = 20


def piece(seeds: Sequence[Seed], key: int, numbers: range) -> list[Outcome]:
    """The outcomes of some files, in a process whose memory is bounded."""
    with TemporaryDirectory() as folder:
        return [outcome(seeds, key, number, Path(folder)) for number in numbers]


def outcomes(seeds: Sequence[Seed], key: int, count: int) -> Iterator[Outcome]:
    """The outcomes of files 0 up to `count`, judged by as many processes as there are processors."""
    pieces = [range(at, min(at + PIECE, count)) for at in range(0, count, PIECE)]
    context = get_context("spawn")
    with ProcessPoolExecutor(os.cpu_count(), context, initializer=bounded) as pool:
        for found in pool.map(partial(piece, seeds, key), pieces):
            yield from found


def tried(seeds: Sequence[Seed], key: int, count: int) -> Counter[str]:
    """How files end; fails, with how to make them again, if any does not end well."""
    print(f"the key is {key}: {KEY}={key} makes the same files again")
    ends: Counter[str] = Counter()
    bad = []
    for each in outcomes(seeds, key, count):
        ends[each.what] += 1
        if each.what not in ("verdict", "refused"):
            bad.append(each)
    shown = "\n\n".join(
        f"file {each.number} of key {key}, made from {each.seed}: {each.what}\n{each.said}" for each in bad[:5]
    )
    assert not bad, f"{len(bad)} of {count} files\n{shown}"
    assert ends.total() == count
    return ends


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> list[Seed]:
    folder = tmp_path_factory.mktemp("seeds")
    found: list[Seed] = []
    for name, tools in toolchains().items():
        found += small(folder, name, tools)
    return found


def test_the_seeds_are_good_ones(seeds: list[Seed]) -> None:
    """A seed that is refused at once would find nothing."""
    for seed in seeds[::3]:
        found = verdicts(seed.case())
        for name in ("barriers", "symbols", "call-sites", "flag-readers", "handlers"):
            assert found[name].passed, (seed.name, name, found[name].figure)


def test_a_few_hundred_wrong_files_end_in_a_verdict_or_a_message(seeds: list[Seed]) -> None:
    ends = tried(seeds, FIXED, ORDINARY)
    assert min(ends["verdict"], ends["refused"]) > ORDINARY // 10, ends


@pytest.mark.campaign
def test_ten_thousand_wrong_files_end_in_a_verdict_or_a_message(
    seeds: list[Seed], built: Steps, case: Case, capsys: pytest.CaptureFixture[str]
) -> None:
    """Some of them made from the reference kernel."""
    redirects = ("runtime.gcWriteBarrier2=runtime.gcWriteBarrier2", "runtime.throw=main.KernelMain")
    paths = (built.image, built.unpatched, built.go_object)
    kernels = [
        Seed(name, path, built.unpatched, built.go_object, case.board, case.entry, case.plan, redirects)
        for name, path in zip(("reference", "reference, unpatched", "reference, object"), paths, strict=True)
    ]
    key = int(os.environ.get(KEY, "0")) or secrets.randbits(32)
    ends = tried([*seeds, *kernels], key, CAMPAIGN)
    with capsys.disabled():
        print(f"\n{CAMPAIGN} wrong ELF files, key {key}: {dict(ends)}")
    assert min(ends["verdict"], ends["refused"]) > CAMPAIGN // 10, ends
