"""What each barrier policy costs, in instructions: every instruction of our barriers counted as it runs."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from pathlib import Path

from buildsys.config.barrier import COUNT, DISCARD, RECORD, USER, BarrierPolicy
from buildsys.config.project import Project
from buildsys.formats.elf import Elf
from buildsys.front.steps import Steps
from buildsys.machines.embedded import Machine
from buildsys.machines.outcome import End
from buildsys.stages.objects import read_runtime

# A function for batches that does nothing: what it does is not the policy's cost.
NOTHING = "    .global batch\nbatch:\n    ret\n"
POLICIES = (
    BarrierPolicy(DISCARD),
    BarrierPolicy(COUNT),
    BarrierPolicy(RECORD, 4096),
    BarrierPolicy(USER, 64, "batch"),
    BarrierPolicy(USER, 4096, "batch"),
)
VARIABLES = ("slots", "counts", "uncounted", "ring", "batch", "batch_g", "batch_guard", "batch_stack")


def table(project: Project) -> str:
    """A row for each policy; `project` has been built."""
    rows = [
        "| policy | instructions of a call, on average | fewest for 1, 2, 4, 8 slots | bytes of RAM |",
        "|---|---|---|---|",
    ]
    for policy in POLICIES:
        with tempfile.TemporaryDirectory(prefix="buildsys-costs-") as folder:
            rows.append(_row(project, policy, Path(folder)))
    return "\n".join(rows)


GIVING = ("buildsys.give", "buildsys.give_dropped")  # templates/barrier-user.s.j2


def _row(project: Project, policy: BarrierPolicy, folder: Path) -> str:
    assembly: tuple[Path, ...] = ()
    if policy.function:
        assembly = (folder / "batch.s",)
        assembly[0].write_text(NOTHING)
    made = Steps(dataclasses.replace(project, root=folder, barrier=policy, assembly=assembly))
    made.project.build.mkdir()
    built = Steps(project)
    for file in built.of_go:
        shutil.copy2(file, made.project.build)
    for action in (made.link, made.patch):
        made.records.perform(action())
    elf = Elf.read(made.image)
    _, plan = read_runtime(made.runtime_json)
    calls, executed, shortest = _counted(elf, made, [barrier.name for barrier in plan.barriers])
    named = {name.rsplit("r", 1)[-1]: count for name, count in shortest.items()}
    shapes = ", ".join(str(named[slots]) for slots in ("1", "2", "4", "8"))
    found = elf.symbols.named(*(f"buildsys.{name}" for name in VARIABLES))
    size = sum(symbol.size for symbols in found.values() for symbol in symbols)
    what = f"`{policy.name}`" + (f", ring of {policy.ring}" if policy.name in (RECORD, USER) else "")
    return f"| {what} | {executed / calls:.1f} | {shapes} | {size:,} |"


class _Calls:
    """The instructions of each call: a call begins at one of `starts`, and with it the one before has ended."""

    def __init__(self, starts: dict[int, str]) -> None:
        self._starts = starts
        self._lengths: list[tuple[str, int]] = []

    def step(self, address: int) -> None:
        """The instruction at `address`, one of our barriers', runs."""
        if address in self._starts:
            self._lengths.append((self._starts[address], 0))
        name, length = self._lengths.pop()
        self._lengths.append((name, length + 1))

    def told(self) -> tuple[int, int, dict[str, int]]:
        """How many there were, the instructions of all, and those of each barrier's shortest call."""
        shortest: dict[str, int] = {}
        for name, length in self._lengths:
            shortest[name] = min(length, shortest.get(name, length))
        return len(self._lengths), sum(length for _, length in self._lengths), shortest


def _counted(elf: Elf, made: Steps, barriers: list[str]) -> tuple[int, int, dict[str, int]]:
    named = elf.symbols.named(*barriers)
    starts = {each.value: name for name, found in named.items() for each in found if each.is_global}
    calls, machine = _Calls(starts), Machine(made.project.board)
    machine.load(made.image)
    for function in elf.symbols.functions():
        if function.value in starts or function.name.startswith("buildsys.count_slots") or function.name in GIVING:
            for address in range(function.value, function.end, 4):
                _watch(machine, address, calls)
    outcome = machine.run(made.project.time_limit)
    assert (outcome.end, outcome.exit_code) == (End.EXIT, 0)
    return calls.told()


def _watch(machine: Machine, address: int, calls: _Calls) -> None:
    machine.watch(address, lambda _: calls.step(address))
