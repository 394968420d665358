"""The policy `record`: places, old and new pointers are those that the embedded emulator saw at the stores."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from buildsys.barriers.records import read_records
from buildsys.config.barrier import RECORD
from buildsys.front.records import described, lines
from buildsys.machines.embedded import Machine
from buildsys.proof.case import Case
from buildsys.proof.following import MOVES
from buildsys.proof.groups import ZERO, Access, group_of

from .conftest import Relink, ran

Row = dict[str, Any]


def recorded(case: Case, machine: str = "embedded") -> tuple[int, list[Row]]:
    """How many calls there were, and the rows of those kept."""
    outcome, kept = ran(case, machine)
    records = read_records(kept, outcome.memory)
    assert records is not None
    assert len(records.kept) == min(records.calls, case.barrier.ring)
    return records.calls, described(case.elf, case.plan, records)


class Watcher:
    """Each call of a barrier as the emulator sees it: the site, and (place, old, new) of each store behind it."""

    def __init__(self, case: Case) -> None:
        self.calls: list[tuple[int, list[tuple[int, int, int]]]] = []
        self.machine = Machine(case.board)
        self.machine.load(case.image)
        ours = {pair.new.value: name for name, pair in case.called.items() if pair.new}
        for name, site in case.embedded.executions:
            group = group_of(case.elf, site, ours, MOVES)
            if group is None or name not in case.barriers:
                continue
            self.machine.watch(site, self.called(site))
            for at, access in group.stores.items():
                if group.line.index(at) > group.line.index(site):
                    self.machine.watch(at, self.stores(access))
        self.machine.run(60)

    def called(self, site: int) -> Callable[[Machine], None]:
        return lambda machine: self.calls.append((site, []))

    def stores(self, access: Access) -> Callable[[Machine], None]:
        def register(number: int) -> int:
            return 0 if number == ZERO else self.machine.register(f"x{number}")

        def store(machine: Machine) -> None:
            place = access.address(lambda n: machine.register("sp" if n == ZERO else f"x{n}"))
            for at, number in enumerate(access.registers):
                old = int.from_bytes(machine.read(place + 8 * at, 8), "little")
                if self.calls:
                    self.calls[-1][1].append((place + 8 * at, old, register(number)))

        return store


def held(value: str | None) -> int | None:
    return None if value is None else int(value, 16)


def test_every_record_is_what_the_emulator_saw(recording: Case) -> None:
    count, rows = recorded(recording)
    truth = Watcher(recording).calls
    assert count == len(rows) == len(truth) > 4000
    whole = 0
    for row, (site, stores) in zip(rows, truth, strict=True):
        assert int(row["site"], 16) == site
        assert not row["unwritten"]
        assert row["stores"], row
        for each in row["stores"]:
            to, old, new = held(each["to"]), held(each["old"]), held(each["new"])
            fitting = [s for s in stores if to in (None, s[0]) and old in (None, s[1]) and new in (None, s[2])]
            assert fitting, (row, stores)
            whole += old is not None and new is not None
        for pointer in row["pointers"]:
            assert any(held(pointer) in store for store in stores)
    assert whole > len(rows) / 2


@pytest.mark.slow
def test_qemu_records_the_same(recording: Case) -> None:
    assert recorded(recording, "qemu") == recorded(recording)


def test_a_ring_keeps_the_last_calls(recording: Case, relink: Relink) -> None:
    """Whatever its size: what was before is overwritten, what is kept is in order."""
    _, all_of_them = recorded(recording)
    for ring in (2, 64):
        count, rows = recorded(relink(RECORD, ring=ring))
        assert count == len(all_of_them)
        assert [row["stores"] for row in rows][:-1] != []
        assert [row["line"] for row in rows] == [row["line"] for row in all_of_them[-ring:]]
        assert [len(row["stores"]) for row in rows] == [len(row["stores"]) for row in all_of_them[-ring:]]


def test_the_newest_are_shown(recording: Case) -> None:
    outcome, kept = ran(recording)
    records = read_records(kept, outcome.memory)
    assert records is not None
    rows = described(recording.elf, recording.plan, records)
    shown = lines(records, rows, 3)
    assert shown[0] == f"barriers: {records.calls} calls, the last {len(rows)} kept; the newest 3, the last one last:"
    assert len(shown) == 1 + sum(len(row["stores"]) for row in rows[-3:])
    assert all(" → " in line for line in shown[1:])
