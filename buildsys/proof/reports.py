"""What the ready sets `print`, `panic` and `wait` do, found out by calling them on the embedded emulator.

The image's segments lie where they run, and the core is as boot code leaves it, whether this image's boot code
does so or not. Printing is tried with bytes the image holds; the ends of a program with whatever they are called
by, and by exceptions.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

from buildsys.formats.elf import PF_W, PT_LOAD
from buildsys.formats.symbols import Symbol
from buildsys.go.runtime import G0
from buildsys.go.sets import CLOCKS, LEAVE, PARK, WAIT, YIELD
from buildsys.machines.embedded import Machine
from buildsys.machines.exceptions import Taken
from buildsys.machines.outcome import End, Outcome
from buildsys.proof.case import Case
from buildsys.proof.trials import SEED

TEXTS = 200
LONGEST = 64  # bytes of one text
WAITING = (PARK, LEAVE, YIELD, *CLOCKS)  # those of the set `wait` that end a run
KEPT = ("x18", "x28", "x29", "sp")  # by every function of Go's: src/cmd/compile/abi-internal.md, "arm64 architecture"
WRITE = "runtime.gwrite"
TOLD = "runtime.traceback1"  # what tells the position
ERROR = "runtime.memoryError"  # an error of Go's that is there in every image: src/runtime/panic.go
ITAB_TYPE = 8  # internal/abi/iface.go: ITab.Type
BOUNDS = ("__stack_high", "__exception_stack_high", "buildsys.vectors")
# Arm ARM: ESR_EL1: a data abort without a change of level, a translation fault of level 2; and where.
ABORT = 0x25 << 26 | 1 << 25 | 0x06
NOWHERE = 1 << 38  # an address no board has memory at: page tables reach 39 bits
EXCEPTIONS = {"a load from near address 0": (8, 2), "a load from where nothing is": (NOWHERE, 3)}


@dataclass(frozen=True)
class Tried:
    """What was found: what is wrong, how many texts were printed, and what each end of a program said first."""

    problems: tuple[str, ...]
    texts: int
    ends: dict[str, str]


def tried(case: Case) -> Tried:
    """Call what the sets serve. An image without them has nothing to try."""
    print_, panic = case.plan.of_set("print"), case.plan.of_set("panic")
    found = case.elf.symbols.addresses(case.entry, *BOUNDS)
    # Without these there is no image to try anything of; other claims say so.
    if WRITE not in print_.calls or not found.keys() >= {case.entry, *BOUNDS}:
        return Tried((), 0, {})
    write = case.called[WRITE].new if WRITE in case.called else None
    if write is None:  # by what the kernel itself has put in its place everything would be told
        return Tried((), 0, {})
    problems, texts = _print(case, write)
    ends: dict[str, str] = {}
    if problems:  # what cannot be printed cannot be told
        return Tried(tuple(problems), texts, ends)
    for name, pair in (case.called | case.entered).items():
        waits = panic.entries and name in case.plan.of_set(WAIT).calls and name.removesuffix(".abi0") in WAITING
        if (waits or name in (*panic.calls, *panic.entries)) and pair.new is not None:
            problems += _end(case, name, pair.new.value, ends)
    if panic.entries:
        for name, (address, status) in EXCEPTIONS.items():
            problems += _end(case, name, Taken(found[case.entry] + 4, ABORT, address), ends, status)
    return Tried(tuple(problems), texts, ends)


def _machine(case: Case) -> tuple[Machine, int]:
    """A machine with the image, and its entry, at which it begins; the flag is set, as everywhere in a kernel."""
    found = case.elf.symbols.addresses(case.entry, *BOUNDS, G0)
    machine = Machine(replace(case.board, exception_level=1))
    machine.load(case.image)
    for segment in case.elf.segments:
        if segment.kind == PT_LOAD and segment.flags & PF_W:
            machine.write(segment.vma, case.elf.data[segment.offset : segment.offset + segment.file_size])
    machine.write(case.flag, (1).to_bytes(4, "little"))
    machine.at_el1(*(found[name] for name in BOUNDS))
    machine.set_register("x28", found.get(G0, 0))
    machine.set_register("x30", 0)
    machine.set_register("pc", found[case.entry])
    return machine, found[case.entry]


def _print(case: Case, write: Symbol) -> tuple[list[str], int]:
    """Print texts of the image's read-only data, one after another: (what is wrong, how many)."""
    constants, bss = case.elf.section(".rodata"), case.elf.section(".bss")
    if constants is None or bss is None:
        return [f"{case.image}: there is no .rodata or no .bss to try {WRITE} with"], 0
    (machine, entry), serial = _machine(case), bytearray()
    data, chosen = case.elf.contents(constants), random.Random(SEED)
    pending: list[tuple[int, int]] = []
    for _ in range(TEXTS):
        at = chosen.randrange(len(data) - LONGEST)
        if chosen.random() < 0.5:  # a line feed is among these
            at = max(data.find(b"\n", at) - LONGEST // 2, 0)
        pending.append((at, chosen.randrange(LONGEST)))
    problems: list[str] = []
    before: dict[str, int] = {}
    memory = machine.read(bss.address, bss.size)
    done: list[tuple[int, int]] = []

    def go(machine: Machine) -> None:
        """Whenever the entry is come to: at first, and after each text."""
        if done:
            start, size = done[-1]
            problems.extend(_text(write, data[start : start + size], bytes(serial)))
            after = {name: machine.register(name) for name in KEPT}
            changed = [name for name in KEPT if after[name] != before[name]]
            problems.extend(f"{_at(write)} changes {at}: {before[at]:#x} became {after[at]:#x}" for at in changed)
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


def _end(case: Case, name: str, way: int | Taken, ends: dict[str, str], status: int = 0) -> Iterator[str]:
    """Whether a call of what is at the address `way`, or an exception, ends the run, says why and where.

    And how the flag is meanwhile. `status` is the one to end with, 0 for any but 0. Notes in `ends` what was
    said first.
    """
    (machine, entry), serial = _machine(case), bytearray()
    flags: list[int] = []
    returned: list[int] = []
    if isinstance(way, Taken):
        machine.take(way)
    else:
        for register, value in (*_arguments(case, name, entry).items(), ("x30", entry + 4), ("pc", way)):
            machine.set_register(register, value)
    machine.watch(entry + 4, lambda machine: returned.append(entry))
    if told := case.elf.symbols.addresses(TOLD).get(TOLD):
        machine.watch(told, lambda machine: flags.append(int.from_bytes(machine.read(case.flag, 4), "little")))
    outcome = machine.run(case.time_limit, serial.extend)
    where = name if isinstance(way, Taken) else f"{name} at {way:#x}"
    ends[name] = serial.split(b"\r\n")[0].decode("ascii", "replace")
    yield from _ended(where, outcome, status, returned)
    if not serial:
        yield f"{where} ends the run without a word"
    elif case.object.symbols.named(case.entry)[case.entry] and f"\n{case.entry}(".encode() not in serial:
        yield f"{where} was called by {case.entry}, and does not say so: {bytes(serial)!r}"
    elif any(flags):
        yield f"{where} calls {TOLD} while the flag is set: what it runs may need a collector"


def _arguments(case: Case, name: str, entry: int) -> dict[str, int]:
    """What to call `name` with: pointers are to what is there, and so are others, which may be any numbers."""
    error = case.elf.symbols.addresses(ERROR).get(ERROR, 0)
    kind = case.elf.word((case.elf.word(error, 8) or 0) + ITAB_TYPE, 8) or 0
    text = case.elf.section(".rodata")
    some = text.address if text else 0
    if name == "runtime.gopanic":
        return {"x0": kind, "x1": case.elf.word(error + 8, 8) or 0}
    if name in ("runtime.throw", "runtime.fatal"):
        return {"x0": some, "x1": 8}
    if name == "runtime.panicBounds64":  # where it was called, and what was in the registers there
        return {"x0": entry + 4, "x1": some}
    return {"x0": kind, "x1": kind, "x2": kind, "x3": 0}


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
