"""Claim: every system call the program made is one that the supervisor serves.

Seen in runs on both emulators: the supervisor counts what it does not serve, by number
(`main.unknown`), and these counts are read from memory when a run has ended. What the program could ask for
besides is told, by name: the constants that its instructions give x8 before an `svc`. Numbers that come in a
register (syscall.Syscall) are nobody's constants; of these only the runs tell.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from contextlib import suppress

from buildsys.errors import MissingError
from buildsys.formats.debuginfo import DebugInfo
from buildsys.formats.elf import Elf
from buildsys.formats.references import Code
from buildsys.machines import embedded, qemu
from buildsys.machines.outcome import Outcome
from buildsys.proof.case import Case
from buildsys.proof.claim import Claim, Verdict, verdict
from buildsys.proof.observation import EMBEDDED, QEMU, finished
from buildsys.proof.programs import is_program, words

UNKNOWN = "main.unknown"  # src/supervisor/calls.go
CALL = "main.call"  # the function there that has a case for each number that is served
SERVED = re.compile(r"main\.call[A-Z]\w*")  # and the constants of its package that are these numbers
SVC = 0xD4000001  # C6.2 SVC, with any number
NUMBER = 8  # the register that holds the number of a system call: Linux, syscall(2)
_SVC_MASK = 0xFFE0001F


def check(case: Case) -> Verdict:
    """Read the counts of both runs; look for the numbers in the program's instructions."""
    array = next(iter(case.elf.symbols.named(UNKNOWN)[UNKNOWN]), None)
    if array is None:
        return verdict([f"there is no {UNKNOWN}, which counts system calls that are not served"], "", {}, [], _ADVICE)
    problems, counts = [], {}
    runs = _runs(case, range(array.value, array.value + array.size))
    for machine, outcome in runs.items():
        kept = outcome.memory.get(array.value)
        if kept is None:
            problems.append(f"on {machine} the counts could not be read: {outcome.end.value}")
            continue
        words = enumerate(struct.unpack(f"<{array.size // 8}Q", kept))
        counts[machine] = {number: count for number, count in words if count}
        for number, count in counts[machine].items():
            name = "a number too high to have a name" if number == array.size // 8 - 1 else f"number {number}"
            problems.append(f"on {machine} {name} was asked for {count} times, and is not served")
    known, open_ = numbers(case.elf)
    served = _served(case)
    never = {number: function for number, function in known.items() if number not in served}
    return verdict(
        problems,
        f"none that is not served; {len(known) - len(never)} of {len(known)} numbers in its instructions are"
        + (f", also on {QEMU}" if QEMU in runs else f"; {QEMU}: not run"),
        {
            "not served": {machine: {str(each): n for each, n in found.items()} for machine, found in counts.items()},
            "numbers": sorted(known),
            "of them not served": sorted(never),
            "from registers": sorted(open_),
        },
        [
            *(f"{number:5} in {function}: not served, and not asked for" for number, function in sorted(never.items())),
            *(f"      in {function}: whatever it is called with" for function in sorted(open_)),
        ],
        _ADVICE,
    )


_ADVICE = "the list of what is served is in docs/programs.md: the program got ENOSYS, and may do without"


def _served(case: Case) -> set[int]:
    """The numbers the supervisor has a case for, by its constants."""
    place = case.elf.symbols.addresses(CALL).get(CALL)
    if place is None:
        return set()
    constants = DebugInfo(case.elf).constants(place)
    return {value for name, value in constants.items() if SERVED.fullmatch(name)}


def _runs(case: Case, kept: range) -> dict[str, Outcome]:
    """How a run on each emulator there is ended, with what memory then held."""
    found = {EMBEDDED: finished(embedded.run(case.image, case.board, case.time_limit, keep=[kept]))}
    if not case.alone:
        with suppress(MissingError):
            found[QEMU] = finished(qemu.run(case.image, case.board, case.time_limit, keep=[kept]))
    return found


def numbers(elf: Elf) -> tuple[dict[int, str], set[str]]:
    """The numbers the program's instructions ask for, each with a function that does; functions with others."""
    code, known, others = Code(elf), dict[int, str](), set[str]()
    for function in elf.symbols.functions():
        if is_program(function.name) and not function.is_global:
            body = list(words(code, function))
            for at, (_, word) in enumerate(body):
                if word & _SVC_MASK == SVC:
                    number = next(_written(word for _, word in reversed(body[:at])), None)
                    if number is None:
                        others.add(function.name)
                    else:
                        known.setdefault(number, function.name)
    return known, others


def _written(backwards: Iterator[int]) -> Iterator[int | None]:
    """What the nearest instruction before that writes x8 gives it, None if that is no constant."""
    for word in backwards:
        if word & 0x7FE0001F == 0x52800000 | NUMBER:  # C6.2 MOVZ, no shift
            yield word >> 5 & 0xFFFF
        elif word & 0xFF8003FF == 0xB2000000 | 31 << 5 | NUMBER:  # C6.2 MOV (bitmask immediate)
            yield _bitmask(word >> 22 & 1, word >> 16 & 63, word >> 10 & 63)
        elif word & 31 == NUMBER and word & 0x0A400000 != 0x08000000:  # C4.1: anything else but a store
            yield None


def _bitmask(n: int, rotation: int, ones: int) -> int:
    """Arm ARM, DecodeBitMasks, for elements of 64 bits: a run of ones, rotated right."""
    size = 64 if n else 1 << ((ones ^ 0x3F).bit_length() - 1)
    run = (1 << (ones & size - 1) + 1) - 1
    turn = rotation & size - 1
    element = run >> turn | run << size - turn & (1 << size) - 1
    return sum(element << at for at in range(0, 64, size)) & (1 << 64) - 1


CLAIM = Claim("system-calls", "every system call the program made is served", check)
