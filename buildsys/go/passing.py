"""What a kernel can reach, where some calls are meant to come to a function that was redirected.

A function that stands for an original leads to the old function on purpose. What is reached so is asked for,
and must be fit to run; what is reached in another way was overlooked.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass

from buildsys.formats.a64 import RET
from buildsys.formats.elf import Elf
from buildsys.go.flag import code_of
from buildsys.go.reach import Reach, reach


@dataclass(frozen=True)
class Passed:
    """`original` stands for the old function at `old`; `new` is in its place.

    `first` is the old one's first instruction, if the image has a branch there now.
    """

    old: int
    new: int
    original: int
    first: int | None


def reached(
    elf: Elf,
    roots: Sequence[int],
    flag: int,
    ends: Container[int],
    passed: Iterable[Passed],
    stops: Container[int] = (),
    related: bool = True,
) -> tuple[Reach, Reach]:
    """Everything that can be reached from `roots`, and what of it if no original were called on purpose.

    `flag`, `ends`, `stops` and `related` are those of `reach()`.
    """
    everything = unasked = reach(elf, code_of(elf), roots, flag, ends, related, stops)
    called = [each for each in passed if each.original in everything.functions]
    if called:
        closed = with_words(elf, {each.original: RET for each in called})
        unasked = reach(closed, code_of(closed), roots, flag, ends, related, stops)
    if opened := {each.old: each.first for each in called if each.first is not None}:
        # The old function as it was: behind its first instruction, which is a branch, all of it can run.
        whole = with_words(elf, opened)
        news = [each.new for each in called if each.first is not None]
        everything = reach(whole, code_of(whole), (*roots, *news), flag, ends, related, stops)
    return everything, unasked


def with_words(elf: Elf, words: Mapping[int, int]) -> Elf:
    """`elf` with other instructions at some addresses."""
    changed = {}
    for section in elf.code:
        contents = bytearray(elf.contents(section))
        for address, word in words.items():
            if section.address <= address <= section.end - 4:
                at = address - section.address
                contents[at : at + 4] = word.to_bytes(4, "little")
        changed[section.index] = bytes(contents)
    return elf.with_code(changed)
