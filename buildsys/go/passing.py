"""What a kernel can reach, where some calls are meant to come to a function that was redirected.

A function that stands for an original leads to the old function on purpose. What is reached so is asked for,
and must be fit to run; what is reached in another way was overlooked.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass

from buildsys.formats.elf import Elf
from buildsys.go.flag import code_of
from buildsys.go.graph import Graph, Node
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
    ends: Collection[int],
    passed: Iterable[Passed],
    stops: Container[int] = (),
    related: bool = True,
) -> tuple[Reach, Reach]:
    """Everything that can be reached from `roots`, and what of it by other ways than calling an original.

    What an original does that is called on purpose belongs to the second, too: only that it is come to does not.
    `flag`, `ends`, `stops` and `related` are those of `reach()`.
    """
    passed = list(passed)
    bodies = _bodies(elf, ends, passed, related)
    everything = unasked = reach(elf, code_of(elf), roots, flag, ends, related, stops, bodies)
    called = [each for each in passed if each.original in unasked.functions]
    if called:
        # The old functions as they were: behind the first instruction, which may be a branch, all of one can run.
        opened = {each.old: each.first for each in called if each.first is not None}
        whole = with_words(elf, opened) if opened else elf
        news = [each.new for each in called if each.first is not None]
        everything = reach(whole, code_of(whole), (*roots, *news), flag, ends, related, stops)
    return everything, unasked


def _bodies(elf: Elf, ends: Collection[int], passed: Sequence[Passed], related: bool) -> dict[int, Node]:
    """What each function that stands for an original leads to: what the old one does, not the old one itself."""
    if not passed:
        return {}
    whole = with_words(elf, {each.old: each.first for each in passed if each.first is not None})
    graph = Graph(whole, code_of(whole), ends, related)
    found = {each.original: graph.function_at(each.old) for each in passed}
    return {original: graph.node(function) for original, function in found.items() if function}


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
