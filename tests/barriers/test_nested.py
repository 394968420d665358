"""A barrier called in the middle of a barrier, as by an exception's handler that stores a pointer."""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from buildsys.barriers.counts import read_counts
from buildsys.barriers.kept import Kept
from buildsys.barriers.records import read_batches, read_records
from buildsys.config.barrier import COUNT, RECORD, USER
from buildsys.formats.elf import PT_LOAD
from buildsys.proof.case import Case

from .conftest import Relink

CLREX = 0xD503_305F
OUTER, INNER = 0x100, 0x200  # places to return to, in a page of their own
LONGEST = 4000  # instructions


class Core:
    """The image of `case` in memory, not started; barriers are called one by one."""

    def __init__(self, case: Case) -> None:
        unicorn, self._arm = importlib.import_module("unicorn"), importlib.import_module("unicorn.arm64_const")
        self._uc: Any = unicorn.Uc(unicorn.UC_ARCH_ARM64, unicorn.UC_MODE_ARM)
        self._uc.reg_write(self._arm.UC_ARM64_REG_CPACR_EL1, 3 << 20)
        for region in case.board.regions:
            if region.kind != "device":
                self._uc.mem_map(region.origin, region.length)
        for segment in case.elf.segments:
            if segment.kind == PT_LOAD and segment.file_size:
                data = case.elf.data[segment.offset : segment.offset + segment.file_size]
                self._uc.mem_write(segment.vma, data)
        self.page = max(region.end for region in case.board.regions)
        self._uc.mem_map(self.page, 0x1000)
        self._uc.mem_write(self.page, CLREX.to_bytes(4, "little"))

    def enter(self, function: int, back: int) -> None:
        """Be about to call `function` from before `back`."""
        self.set("x30", self.page + back)
        self.set("pc", function)

    def go(self, count: int = LONGEST) -> int:
        """Run `count` instructions, or on to where one returns to; the address of the next."""
        if count:
            self._uc.emu_start(self.get("pc"), self.page + OUTER, count=count)
        return self.get("pc")

    def finish(self, back: int) -> int:
        """Run until the barrier returns: x25, where the caller writes its slots."""
        self._uc.emu_start(self.get("pc"), self.page + back, count=LONGEST)
        assert self.get("pc") == self.page + back
        return self.get("x25")

    def interrupted(self, function: int) -> int:
        """A whole call of `function`, as an exception's handler makes it; its slots."""
        context = self._uc.context_save()
        self.enter(function, INNER)
        slots = self.finish(INNER)
        self._uc.context_restore(context)
        # Returning from an exception clears the exclusive monitor: Arm ARM B2.9.
        pc = self.get("pc")
        self._uc.emu_start(self.page, self.page + 4, count=1)
        self.set("pc", pc)
        return slots

    def get(self, name: str) -> int:
        value: int = self._uc.reg_read(getattr(self._arm, f"UC_ARM64_REG_{name.upper()}"))
        return value

    def set(self, name: str, value: int) -> None:
        self._uc.reg_write(getattr(self._arm, f"UC_ARM64_REG_{name.upper()}"), value)

    def forget(self, kept: Kept) -> None:
        for each in kept.ranges:
            self._uc.mem_write(each.start, bytes(len(each)))

    def memory(self, kept: Kept) -> dict[int, bytes]:
        return {each.start: bytes(self._uc.mem_read(each.start, len(each))) for each in kept.ranges}


def places(case: Case, before: int = 0) -> Iterator[tuple[Core, int, int]]:
    """A call interrupted after each of its instructions, by another, with `before` calls before.

    The core afterwards, the slots of the call that was interrupted, and those of the other.
    """
    function = case.barriers["runtime.gcWriteBarrier2"].new
    assert function is not None
    core, kept, at = Core(case), Kept(case.elf, case.barrier.name), 0
    while True:
        core.forget(kept)
        for _ in range(before):
            core.enter(function.value, OUTER)
            core.finish(OUTER)
        core.enter(function.value, OUTER)
        if core.go(at) == core.page + OUTER:
            assert at > 10
            return
        inner = core.interrupted(function.value)
        yield core, core.finish(OUTER), inner
        at += 1


def counted_right(case: Case, before: int) -> list[bool]:
    found = []
    for core, _, _ in places(case, before):
        kept = Kept(case.elf, COUNT)
        counts = read_counts(kept, core.memory(kept))
        assert counts is not None
        wanted = Counter({core.page + OUTER - 4: 1 + before, core.page + INNER - 4: 1})
        found.append(counts.sites == wanted and not counts.uncounted)
    return found


@pytest.mark.parametrize("before", [0, 1])
def test_both_are_counted_wherever_one_comes(before: int, counting: Case) -> None:
    """Also if the first has just found a pair that is nobody's."""
    assert all(counted_right(counting, before))


@pytest.mark.parametrize(("instruction", "before"), [("    cbnz    w27, 1b\n", 1), ("    cbnz    w17, 3b\n", 0)])
def test_without_trying_again_one_would_be_lost(instruction: str, before: int, relink: Relink) -> None:
    """That the tests above can fail. The second of these needs two places that begin at one pair."""
    edits = {instruction: "", "{% set bits = sites.bits %}": "{% set bits = 2 %}"}
    case = relink(COUNT, edits={"counting.s.j2": edits})
    assert not all(counted_right(case, before))


def recorded_right(case: Case) -> list[bool]:
    found = []
    for core, outer, inner in places(case):
        kept = Kept(case.elf, RECORD)
        records = read_records(kept, core.memory(kept))
        assert records is not None
        sites = {record.site - core.page + 4 for record in records.kept}
        found.append(records.calls == 2 and sites == {OUTER, INNER} and abs(outer - inner) == 80)
        assert all(record.slots == (None, None) for record in records.kept) or not found[-1]
    return found


def test_both_are_recorded_in_entries_of_their_own(recording: Case) -> None:
    assert all(recorded_right(recording))


def test_without_trying_again_they_would_share_one(relink: Relink) -> None:
    case = relink(RECORD, edits={"barrier-record.s.j2": {"    cbnz    w25, 1b\n": ""}})
    assert not all(recorded_right(case))


def test_none_is_lost_while_a_batch_is_given_away(relink: Relink) -> None:
    """A batch of two is full when the third call is made, and interrupted: in the function, too."""
    case, fates = relink(USER, ring=2), set()
    for core, _, _ in places(case, before=2):
        kept = Kept(case.elf, USER)
        batches = read_batches(kept, core.memory(kept))
        assert batches is not None
        assert batches.given + batches.left + batches.dropped == 4
        assert 0 < batches.given <= 2 * batches.batches
        fates.add((batches.given, batches.left, batches.dropped))
    # The last: both find the batch full, and the interrupted one gives away what the other took.
    assert fates == {(2, 2, 0), (2, 1, 1), (3, 1, 0)}
