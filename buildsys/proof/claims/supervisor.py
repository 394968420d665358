"""Claim: the supervisor allocates nothing, calls nothing of the program's, and is never interrupted.

Nothing that allocates, starts a goroutine or belongs to the program can be reached from boot code, the
supervisor's entry and its handler of exceptions. An exception masks interrupts (Arm ARM: PSTATE.DAIF on taking an
exception); no instruction of the supervisor or of ours unmasks them, or returns from an exception but where a
thread goes on; and should one come all the same, the vectors for exceptions of the supervisor itself end the run.
"""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase

from buildsys.formats import a64
from buildsys.proof.case import Case
from buildsys.proof.claim import Claim, Verdict, verdict
from buildsys.proof.programs import functions, is_program, starts, words

HANDLER = "main.trap"
VECTORS, FATAL = "supervisor.vectors", "buildsys.exception"
# Arm ARM: exception vectors, by their place: synchronous and IRQ exceptions of the current level on SP_EL0.
FIRST = {0: "supervisor.synchronous", 1: "supervisor.interrupt"}
ENTRIES, ENTRY_BYTES = 16, 0x80
# src/runtime/malloc.go, slice.go, string.go, proc.go, internal/runtime/maps.
ALLOCATES = (
    "runtime.mallocgc*", "runtime.newobject", "runtime.newarray", "runtime.growslice*", "runtime.makeslice*",
    "runtime.makemap*", "runtime.mapassign*", "runtime.makechan*", "runtime.concatstring*", "runtime.rawstring",
    "runtime.newproc*", "runtime.gcStart", "runtime.persistentalloc",
)  # fmt: skip
SVC, ERET = 0xD4000001, 0xD69F03E0
RETURNS = ("supervisor.resume", "_start")  # the second while it comes down to EL1
CALLS = ("supervisor.again",)  # it runs as part of a thread: what a signal handler returns to


def check(case: Case) -> Verdict:
    """Follow what can be reached, read the vectors, decode every instruction that is not the program's."""
    reached, code = case.reach.functions, case.code
    problems = []
    handler = case.elf.symbols.addresses(HANDLER).get(HANDLER)
    if handler not in reached:
        problems.append(f"{HANDLER} is not reached: what handles exceptions is not known")
    for address, function in reached.items():
        if address in case.entered_olds or is_program(function.name):
            continue
        if any(fnmatchcase(function.name, pattern) for pattern in ALLOCATES):
            problems.append(f"{function.name} can be called: " + " → ".join(case.reach.path(address)))
    into = (functions(case.elf) - starts(case.elf)) & reached.keys()
    problems += [
        f"{reached[address].name} of the program can be called: " + " → ".join(case.reach.path(address))
        for address in sorted(into)
    ]
    problems += _vectors(case)
    ours = 0
    for function in case.elf.symbols.functions():
        runs = function.value in reached or function.is_global or function.name.startswith(("supervisor.", "buildsys."))
        if runs and not is_program(function.name):
            ours += 1
            for address, word in words(code, function):
                problems += _forbidden(function.name, address, word)
    return verdict(
        problems,
        f"{sum(not is_program(each.name) for each in reached.values())} functions reached, none allocates; "
        f"{ours} decoded, none unmasks interrupts",
        {"reached": len(reached), "decoded": ours},
        [],
        "src/supervisor and templates/supervisor.s.j2 are what runs beside the program",
    )


def _vectors(case: Case) -> Iterator[str]:
    table = case.elf.symbols.addresses(VECTORS).get(VECTORS)
    if table is None:
        yield f"there is no {VECTORS}"
        return
    for number in range(ENTRIES):
        place, wanted = table + ENTRY_BYTES * number, FIRST.get(number, FATAL)
        word = case.elf.word(place)
        goal = a64.branch_target(word, place) if word is not None and a64.is_b(word) else None
        found = case.elf.symbols.function_at(goal) if goal is not None else None
        if found is None or found.name != wanted or found.value != goal:
            yield f"vector {number} at {place:#x} does not go to {wanted}"


def _forbidden(name: str, address: int, word: int) -> Iterator[str]:
    """What must not be in the function `name`."""
    if word & 0xFFFFF0FF == 0xD50340FF or word & 0xFFFFFFE0 == 0xD51B4220:  # C6.2 MSR: DAIFClr; DAIF
        yield f"{name} may unmask interrupts at {address:#x}"
    if word == ERET and name not in RETURNS:
        yield f"{name} returns from an exception at {address:#x}"
    if word & 0xFFE0001F == SVC and name not in CALLS:
        yield f"{name} makes a system call at {address:#x}"


CLAIM = Claim("supervisor", "the supervisor allocates nothing, and nothing interrupts it", check)
