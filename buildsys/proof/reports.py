"""What the functions of the ready sets `print` and `panic` do, found out by calling them on the embedded emulator.

The image boots as ever. Where its entry would begin, a function is entered instead, with arguments that are told
here. Printing is tried with bytes the image holds; the ends of a program with whatever they are called by.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from buildsys.formats.symbols import Symbol
from buildsys.machines.embedded import Machine
from buildsys.machines.outcome import End, Outcome
from buildsys.proof.case import Case
from buildsys.proof.trials import SEED

TEXTS = 200
LONGEST = 64  # bytes of one text
KEPT = ("x18", "x28", "x29", "sp")  # by every function of Go's: src/cmd/compile/abi-internal.md, "arm64 architecture"
WRITE = "runtime.gwrite"
TOLD = "runtime.traceback1"  # what tells the position
ARGUMENTS = {"x0": 7, "x1": 3, "x2": 3}  # an index and a length, where those are asked for
NOWHERE = 1 << 38  # an address no board has memory at: page tables reach 39 bits
NIL, OTHER = "a call of address 0", "a call of what is no memory"


@dataclass(frozen=True)
class Tried:
    """What was found: what is wrong, how many texts were printed, and what each end of a program said first."""

    problems: tuple[str, ...]
    texts: int
    ends: dict[str, str]


def tried(case: Case) -> Tried:
    """Call what the sets serve. An image without them has nothing to try."""
    problems: list[str] = []
    texts = 0
    # What the kernel serves itself is its own affair.
    write = case.called[WRITE].new if WRITE in case.called else None
    if write is not None:
        found, texts = _print(case, write)
        problems += found
    if problems:  # what cannot be printed cannot be told
        return Tried(tuple(problems), texts, {})
    panic, ends = case.plan.of_set("panic"), dict[str, str]()
    for name in (*panic.calls, *panic.entries):
        if name not in case.called and name not in case.entered:
            continue
        function = case.pairs[name].new
        if function is None:
            problems.append(f"{name}: there is no single global function of this name to try")
        else:
            problems += _end(case, name, function.value, 0, ends)
    if panic.entries and not case.own_boot:  # else what an exception does is the user's affair
        problems += _end(case, NIL, 0, 2, ends)
        problems += _end(case, OTHER, NOWHERE, 3, ends)
    return Tried(tuple(problems), texts, ends)


def _print(case: Case, write: Symbol) -> tuple[list[str], int]:
    """Print texts of the image's read-only data, one after another: (what is wrong, how many)."""
    entry = case.elf.symbols.addresses(case.entry)[case.entry]
    constants, bss = case.elf.section(".rodata"), case.elf.section(".bss")
    if constants is None or bss is None:
        return [f"{case.image}: there is no .rodata or no .bss to try {WRITE} with"], 0
    data, chosen = case.elf.contents(constants), random.Random(SEED)
    machine, serial = Machine(case.board), bytearray()
    machine.load(case.image)
    problems: list[str] = []
    pending: list[tuple[int, int]] = []
    for _ in range(TEXTS):
        at = chosen.randrange(len(data) - LONGEST)
        if chosen.random() < 0.5:  # a line feed is among these
            at = max(data.find(b"\n", at) - LONGEST // 2, 0)
        pending.append((at, chosen.randrange(LONGEST)))
    before: dict[str, int] = {}
    memory = b""
    done: list[tuple[int, int]] = []

    def go(machine: Machine) -> None:
        """Whenever the entry is come to: at first, and after each text."""
        nonlocal memory
        if done:
            start, size = done[-1]
            problems.extend(_text(write, data[start : start + size], bytes(serial)))
            for name in KEPT:
                if machine.register(name) != before[name]:
                    problems.append(
                        f"{_at(write)} changes {name}: {before[name]:#x} became {machine.register(name):#x}"
                    )
        else:
            memory = machine.read(bss.address, bss.size)
        if problems or not pending:
            if memory != machine.read(bss.address, bss.size):
                problems.append(f"{_at(write)} writes to .bss")
            machine.set_register("pc", NOWHERE)  # this run has told what it can
            return
        at, size = pending.pop()
        done.append((at, size))
        serial.clear()
        for name, value in (("x0", constants.address + at), ("x1", size), ("x2", size), ("x30", entry)):
            machine.set_register(name, value)
        before.update({name: machine.register(name) for name in KEPT})
        machine.set_register("pc", write.value)

    machine.watch(entry, go)
    machine.run(case.time_limit, serial.extend)
    if not problems and pending:
        problems.append(f"{_at(write)} does not return")
    return problems, len(done)


def _text(write: Symbol, text: bytes, sent: bytes) -> Iterator[str]:
    """Whether what was sent is the text, with or without a carriage return before each line feed."""
    lines = text.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    if sent not in (text, lines):
        yield f"{_at(write)} was to print {text!r}, and sent {sent!r}"


def _end(case: Case, name: str, address: int, status: int, ends: dict[str, str]) -> Iterator[str]:
    """Whether what is at `address` ends the run, says why and where, and how the flag is meanwhile.

    `status` is the one to end with, 0 for any but 0. Notes in `ends` what was said first.
    """
    found = case.elf.symbols.addresses(case.entry, TOLD)
    entry = found[case.entry]
    machine, serial = Machine(case.board), bytearray()
    machine.load(case.image)
    flags: list[int] = []
    returned: list[int] = []

    def go(machine: Machine) -> None:
        serial.clear()
        for register, value in ARGUMENTS.items():
            machine.set_register(register, value)
        machine.set_register("x30", entry + 4)
        machine.set_register("pc", address)

    machine.watch(entry, go)
    machine.watch(entry + 4, lambda machine: returned.append(entry))
    if TOLD in found:
        machine.watch(found[TOLD], lambda machine: flags.append(int.from_bytes(machine.read(case.flag, 4), "little")))
    outcome = machine.run(case.time_limit, serial.extend)
    where = f"{name} at {address:#x}"
    ends[name] = serial.split(b"\r\n")[0].decode("ascii", "replace")
    yield from _ended(where, outcome, status, returned)
    if not serial:
        yield f"{where} ends the run without a word"
    elif case.object.symbols.named(case.entry)[case.entry] and f"\n{case.entry}(".encode() not in serial:
        yield f"{where} was called by {case.entry}, and does not say so: {bytes(serial)!r}"
    elif any(flags):
        yield f"{where} calls {TOLD} while the flag is set: what it runs may need a collector"


def _ended(where: str, outcome: Outcome, status: int, returned: list[int]) -> Iterator[str]:
    if returned:
        yield f"{where} returns to who called it"
    elif outcome.end is not End.EXIT:
        yield f"{where} does not end the run: {outcome.end.value} {outcome.detail}"
    elif outcome.exit_code == 0:
        yield f"{where} ends the run with status 0, as if nothing were wrong"
    elif status and outcome.exit_code != status:
        yield f"{where} ends the run with status {outcome.exit_code}; {status} is right"


def _at(function: Symbol) -> str:
    return f"{function.name} at {function.value:#x}"
