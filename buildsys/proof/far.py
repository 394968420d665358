"""What redirects over more than 128 MiB must have made of an image: the linker's veneers turned, others added.

Told from the two images: what the unpatched one has as a veneer of an old function must go to the new one in the
patched one, and what a code section has more than before must be veneers, each to a function it may go to.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from buildsys.formats.a64 import branch_target
from buildsys.formats.elf import PT_LOAD, Elf, Section
from buildsys.formats.islands import SIZE
from buildsys.formats.veneers import decode, final, veneers_to

if TYPE_CHECKING:
    from buildsys.proof.case import Case, Pair
    from buildsys.proof.redirects import Redirected

_SH_SIZE, _P_FILESZ, _P_MEMSZ = 32, 32, 40  # System V ABI, chapter 4


@dataclass(frozen=True)
class Far:
    """The words of veneers that were turned, by address; the bytes of the file that are new; what is wrong."""

    turned: frozenset[int]
    added: frozenset[int]
    problems: tuple[str, ...]


def far(case: Case) -> Far:
    """What is to be found of veneers, and what is wrong with it."""
    to = _to(case)
    turned, problems = set[int](), list[str]()
    for veneer in veneers_to(case.before, to).values():
        if _of_original(case, veneer.address):
            continue
        if (goes := final(case.elf, veneer.address)) != to[veneer.target]:
            problems.append(
                f"the linker's veneer at {veneer.address:#x} went to {veneer.target:#x}, which is redirected to "
                f"{to[veneer.target]:#x}, and goes to {goes:#x}"
            )
        for at in range(veneer.address, veneer.end, 4):
            if case.before.word(at) != case.elf.word(at):
                turned.add(at)
    added = set[int]()
    may = {*to.values(), *_behind(case)}
    for before, after in zip(case.before.code, case.elf.code, strict=False):
        if before.index == after.index and after.size > before.size:
            added |= set(_bytes(case.before, before, after))
            problems += _strange(case.elf, before.end, after.end, may)
    return Far(frozenset(turned), frozenset(added), tuple(problems))


def _to(case: Case) -> dict[int, int]:
    """Where calls of each old function go instead."""
    users = [each for each in case.redirected.values() if each.asked.mode.at_calls]
    pairs: list[Pair | Redirected] = [*case.called.values(), *users]
    return {each.old.value: each.new.value for each in pairs if each.old and each.new}


def _behind(case: Case) -> Iterator[int]:
    """Where else veneers may go: what begins an old function, an original, or its second instruction."""
    for pair in case.entered.values():
        if pair.new:
            yield pair.new.value
    for each in case.redirected.values():
        if each.new:
            yield each.new.value
        if each.old and each.original:
            yield from (each.old.value, each.old.value + 4, each.original.value)


def _of_original(case: Case, veneer: int) -> bool:
    """Whether what stands for an original goes by the veneer, which so was there before."""
    places = [each.original.value + at for each in case.redirected.values() if each.original for at in (0, 4)]
    return any(branch_target(case.before.word(place) or 0, place) == veneer for place in places)


def _bytes(elf: Elf, before: Section, after: Section) -> Iterator[int]:
    """The offsets, multiples of 4, of what is new in the file: the veneers, and the sizes that tell of them."""
    offset = before.offset + before.size
    yield from range(offset // 4 * 4, before.offset + after.size, 4)
    phoff, shoff = (int.from_bytes(elf.data[at : at + 8], "little") for at in (32, 40))
    sizes = [shoff + 64 * before.index + _SH_SIZE]
    for number, segment in enumerate(elf.segments):
        if segment.kind == PT_LOAD and segment.offset + segment.file_size == offset:
            sizes += [phoff + 56 * number + _P_FILESZ, phoff + 56 * number + _P_MEMSZ]
    for at in sizes:
        yield from (at // 4 * 4, at // 4 * 4 + 4)


def _strange(elf: Elf, start: int, end: int, may: set[int]) -> Iterator[str]:
    """What is between `start` and `end` and is no veneer to a function that one may go to."""
    start = -(-start // 4) * 4
    if (end - start) % SIZE:
        yield f"{end - start} bytes were added at {start:#x}, which are no whole number of veneers"
    for at in range(start, end - SIZE + 1, SIZE):
        found = decode(elf, at)
        if found is None or found.end != at + SIZE or found.target not in may:
            yield f"what was added at {at:#x} is no veneer to a function that something was redirected to"


def leads(elf: Elf, goal: int | None, targets: Container[int]) -> bool:
    """Whether a branch to `goal` leads to one of `targets`, itself or by a veneer."""
    return goal is not None and (goal in targets or final(elf, goal) in targets)
