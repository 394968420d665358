"""A run seen from outside: memory read and executions counted by the emulator, not told by the kernel."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from buildsys.machines.outcome import Outcome

if TYPE_CHECKING:
    from buildsys.machines.embedded import Machine
    from buildsys.proof.case import Case

HEAD = "main.heapSegmentListHead"


@dataclass(frozen=True)
class Observation:
    """What one run did.

    `flag_at_store` and `flag_at_entry` are the 32-bit flag just before boot code's
    store and at the first instruction of the entry, None if the run never came there.
    `executions` counts the instructions at the start of each watched function by
    (function address, address of the call site); an old function that ran is in it, too.
    `head` and `heap` are the values of `main.heapSegmentListHead` and `__heap_low` when
    the run ended, None if the image has no such variable.
    """

    machine: str
    outcome: Outcome
    flag_at_store: int | None
    flag_at_entry: int | None
    executions: Counter[tuple[int, int]] = field(default_factory=Counter)
    head: int | None = None
    heap: int | None = None


def observe_embedded(case: Case) -> Observation:
    """Run `case.image` on the embedded emulator, watched."""
    from buildsys.machines.embedded import Machine
    from buildsys.proof.bootcode import flag_store

    machine = Machine(case.board)
    machine.load(case.image)
    seen: dict[str, int] = {}
    executions: Counter[tuple[int, int]] = Counter()

    def read_flag(name: str) -> None:
        seen.setdefault(name, int.from_bytes(machine.read(case.flag, 4), "little"))

    def count(machine: Machine, address: int) -> None:
        executions[address, machine.registers()["x30"] - 4] += 1

    addresses = case.elf.symbols.addresses(case.entry, HEAD, "__heap_low")
    store = flag_store(case)
    if store is not None:
        machine.watch(store.address, lambda _: read_flag("store"))
    if case.entry in addresses:
        machine.watch(addresses[case.entry], lambda _: read_flag("entry"))
    for pair in case.pairs.values():
        for symbol in (pair.old, pair.new):
            if symbol is not None:
                machine.watch(symbol.value, lambda machine, at=symbol.value: count(machine, at))
    outcome = machine.run(case.time_limit)
    head = int.from_bytes(machine.read(addresses[HEAD], 8), "little") if HEAD in addresses else None
    return Observation(
        "embedded", outcome, seen.get("store"), seen.get("entry"), executions, head, addresses.get("__heap_low")
    )


def observe_qemu(case: Case) -> Observation | None:
    """The same on QEMU, through its gdb stub; None if QEMU is not installed."""
    raise NotImplementedError
