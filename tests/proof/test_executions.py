"""Our functions ran and the runtime's did not: counted by the emulators, call site by call site."""

from __future__ import annotations

import dataclasses
import os
import threading
from collections import Counter
from pathlib import Path

import pytest

from buildsys.machines import embedded, qemu
from buildsys.machines.outcome import End
from buildsys.proof import on_qemu
from buildsys.proof.case import Case
from buildsys.proof.claim import Result
from buildsys.proof.lines import package_of
from tests.machines.conftest import needs

from .mutants import patched
from .running import (
    RET,
    Record,
    branch,
    call,
    caught,
    claims,
    load_address,
    site,
    unused,
    verdicts,
    without_qemu,
    word,
    words,
)

CLAIM = "executions"
BR_X27 = 0xD61F0360
MOV_W0_0 = 0x52800000


@pytest.fixture
def cleared(case: Case) -> tuple[int, int]:
    """The call of wbZero in the kernel's clearRecord, and the runtime's own wbZero.

    That one does no harm if it runs: what it calls is redirected.
    """
    old = case.pairs["runtime.wbZero"].old
    assert old is not None
    return site(case, "main.clearRecord", "runtime.wbZero"), old.value


def test_the_reference_kernel_calls_every_barrier(case: Case) -> None:
    verdict = claims()[CLAIM].check(case)
    assert verdict.result is Result.PASSED, verdict.details
    for run in case.runs:
        assert all(run.by_function[name] for name in case.barriers), run.by_function
        assert not run.originals


def test_both_emulators_count_the_same_at_every_site(case: Case) -> None:
    needs(qemu.PROGRAM, qemu.INSTALL)
    assert case.qemu is not None
    assert case.qemu.complete
    assert case.embedded.complete
    assert case.qemu.executions == case.embedded.executions
    assert case.qemu.executions.total() > 1000


def test_counting_changes_nothing_of_a_run(case: Case) -> None:
    needs(qemu.PROGRAM, qemu.INSTALL)
    unwatched = embedded.run(case.image, case.board, case.time_limit)
    counted, executions, _ = on_qemu._traced(case, case.time_limit)
    assert executions
    assert (counted.end, counted.exit_code, counted.serial) == (End.EXIT, 0, unwatched.serial)


RECORD = (
    b"Trace 0: 0x7f00 [0000000000004000/0000000000200180/00000021/ff000200] f\n PC=0000000000200180 "
    b"X00=0000000000000001\nX29=0000000000000000 X30=00000000002790ec  SP=000000004007cda0\n"
    b"PSTATE=600003c4 -ZC- EL1t\n"
)


def counted(log: bytes, until: bytes = b"") -> Counter[tuple[int, int]]:
    """The blocks that are counted of QEMU's `log`, which comes in pieces."""
    blocks: Counter[tuple[int, int]] = Counter()
    reading, writing = os.pipe()
    thread = threading.Thread(target=on_qemu._read_trace, args=(reading, blocks, until))
    thread.start()
    for at in range(0, len(log), 7):
        os.write(writing, log[at : at + 7])
    os.close(writing)
    thread.join()
    return blocks


def test_a_block_that_was_stopped_before_it_ran_is_not_counted() -> None:
    stopped = b"Stopped execution of TB chain before 0x7f00 [0000000000200180] f\n"
    ends_within_a_record = 3 * RECORD + stopped + RECORD + RECORD[: RECORD.index(b"X00")]
    assert counted(ends_within_a_record) == Counter({(0x200180, 0x2790EC): 3})


@pytest.mark.parametrize("first", [b"begins\r\n", b"x" * (on_qemu.RECORD + 100), b""])
def test_a_block_behind_the_last_line_is_not_counted(first: bytes) -> None:
    """What the guest sends stands between the records: the last line, in two pieces, behind the second of them."""
    log = first + RECORD + b"it is run" + RECORD + b"ning\r\n" + 2 * RECORD
    assert counted(log, b"running") == Counter({(0x200180, 0x2790EC): 2})
    assert counted(log, b"never") == Counter({(0x200180, 0x2790EC): 4})
    assert counted(log) == Counter({(0x200180, 0x2790EC): 4})


def test_the_busiest_sites_are_shown_with_their_lines(case: Case) -> None:
    verdict = claims()[CLAIM].check(case)
    name, at = case.embedded.executions.most_common(1)[0][0]
    function = case.elf.symbols.function_at(at)
    assert function is not None
    line = next(line for line in verdict.details if f"{at:#x} in {function.name}" in line)
    assert name in line
    file, number = line.rpartition(", ")[2].split(":")
    source = next(path for path in case.package.rglob(file) if path.is_file())
    text = source.read_text("utf-8").splitlines()[int(number) - 1]
    assert "=" in text, "a barrier guards an assignment"


@pytest.mark.parametrize(
    ("function", "package"),
    [
        ("main.run", "main"),
        ("kernel/heap.(*Segment).Free", "kernel/heap"),
        ("example.com/a.b/c.F.func1", "example.com/a.b/c"),
        ("gopkg.in/yaml%2ev3.(*Node).Decode", "gopkg.in/yaml.v3"),
        ("main.castToPointer[go.shape.struct { kernel/heap.next }]", "main"),
    ],
)
def test_the_package_of_a_function_is_told_from_its_name(function: str, package: str) -> None:
    assert package_of(function) == package


def test_a_site_that_was_not_patched_is_seen(
    case: Case, tmp_path: Path, record_property: Record, cleared: tuple[int, int]
) -> None:
    at, old = cleared
    mutant = patched(case, tmp_path, {at: call(at, old)})
    verdict = caught(record_property, "one call still goes to the runtime's wbZero", mutant, CLAIM)
    assert f"the runtime's own runtime.wbZero at {old:#x} ran" in verdict.figure
    assert f"{at:#x} in main.clearRecord" in verdict.figure


def test_an_original_called_through_a_pointer_is_seen(
    case: Case, tmp_path: Path, record_property: Record, cleared: tuple[int, int]
) -> None:
    at, old = cleared
    aside = unused(case)
    mutant = patched(case, tmp_path, {at: call(at, aside), aside: words(*load_address(27, old), BR_X27)})
    verdict = caught(record_property, "the runtime's wbZero is called through a pointer", mutant, CLAIM)
    assert f"the runtime's own runtime.wbZero at {old:#x} ran" in verdict.figure


def test_an_original_entered_behind_its_start_is_seen_on_qemu(
    case: Case, tmp_path: Path, record_property: Record, cleared: tuple[int, int]
) -> None:
    needs(qemu.PROGRAM, qemu.INSTALL)
    at, old = cleared
    aside = unused(case)
    # What is skipped is done aside: the first instruction of the original.
    first = case.elf.word(old)
    assert first is not None
    mutant = patched(case, tmp_path, {at: call(at, aside), aside: word(first) + branch(aside + 4, old + 4)})
    verdict = caught(record_property, "the runtime's wbZero is entered behind its start", mutant, CLAIM)
    assert "on QEMU the runtime's own runtime.wbZero" in verdict.figure


def test_a_barrier_left_to_the_runtime_is_seen(case: Case, tmp_path: Path, record_property: Record) -> None:
    pair = case.pairs["runtime.gcWriteBarrier2"]
    assert pair.old is not None
    at = site(case, "main.checkGlobalPointer", pair.name)
    mutant = patched(case, tmp_path, {at: call(at, pair.old.value)})
    # It needs a scheduler: the kernel faults at its first store, and everything after is not done.
    verdict = caught(
        record_property, "one call still goes to the runtime's barrier", mutant, CLAIM, {"stores", "outcome"}
    )
    assert f"the runtime's own {pair.name} at {pair.old.value:#x} ran" in "\n".join(verdict.details)
    assert f"{at:#x} in main.checkGlobalPointer" in "\n".join(verdict.details)


def test_a_kernel_that_stores_nothing_proves_nothing(case: Case, tmp_path: Path, record_property: Record) -> None:
    entry = case.places.entry
    assert entry is not None
    mutant = patched(case, tmp_path, {entry: words(MOV_W0_0, RET)})
    # It prints nothing either, and leaves the head of the heap's list unset.
    verdict = caught(record_property, "the kernel returns at once", mutant, CLAIM, {"stores", "outcome"})
    assert "no barrier was called" in verdict.figure


def test_emulators_that_disagree_are_seen(case: Case, record_property: Record) -> None:
    needs(qemu.PROGRAM, qemu.INSTALL)
    assert case.qemu is not None
    mutant = dataclasses.replace(case)
    key, count = case.qemu.executions.most_common(1)[0]
    counts = Counter(case.qemu.executions) - Counter({key: 1})
    vars(mutant).update(vars(case) | {"qemu": dataclasses.replace(case.qemu, executions=counts)})
    verdict = caught(record_property, "a call counted on one emulator only", mutant, CLAIM)
    assert f"{key[1]:#x}" in verdict.figure
    assert f"{count} times" in verdict.figure
    assert f"{count - 1} times" in verdict.figure


def test_without_qemu_the_figure_says_so(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    found = verdicts(without_qemu(case, monkeypatch))
    assert found[CLAIM].result is Result.PASSED
    assert "QEMU: not run" in found[CLAIM].figure
