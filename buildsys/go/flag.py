"""Loads of the flag, told apart: a compiler's check before a barrier call, or a reader with ideas of its own.

A check is `ldr w, flag; cbz w, skip` (or `cbnz w, slow`, with the slow path
elsewhere in the function); on the path taken when the flag is set the first
call must be to a function that was redirected. Anything else that loads the
flag goes on to use the runtime's own buffers.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass

from buildsys.formats import a64
from buildsys.formats.elf import Elf
from buildsys.go.reach import FlagRead

SEARCH = 64  # instructions followed on the flag-set path; the longest seen is 19


@dataclass(frozen=True)
class Verdict:
    """What one load of the flag leads to: `call` is the address of the first call when it is set, if any."""

    read: FlagRead
    call: int | None
    target: int | None
    accounted: bool


def judge(elf: Elf, read: FlagRead, redirected: Container[int]) -> Verdict:
    """Follow the path `read`'s function takes when the flag is not zero, to its first call."""
    words = _words(elf, read)
    at = read.address + 4
    branch = None
    for _ in range(SEARCH):
        word = words.get(at)
        if word is None:
            return Verdict(read, None, None, False)
        compared = a64.compare_branch(word)
        if compared and compared[1] == read.register:
            branch = (compared[0], a64.conditional_target(word, at))
            break
        if a64.branch_target(word, at) is not None or a64.conditional_target(word, at) is not None:
            return Verdict(read, None, None, False)
        at += 4
    if branch is None:
        return Verdict(read, None, None, False)
    when_set = branch[1] if branch[0] else at + 4
    return _first_call(words, when_set, read, redirected)


def _first_call(words: dict[int, int], at: int | None, read: FlagRead, redirected: Container[int]) -> Verdict:
    for _ in range(SEARCH):
        word = words.get(at) if at is not None else None
        if at is None or word is None:
            break
        target = a64.branch_target(word, at)
        if target is not None and (a64.is_bl(word) or target not in words):
            return Verdict(read, at, target, target in redirected)
        if a64.conditional_target(word, at) is not None or word & 0xFE00_0000 == 0xD600_0000:
            break  # a decision, an indirect branch or a return before any call
        at = target if target is not None else at + 4
    return Verdict(read, None, None, False)


def _words(elf: Elf, read: FlagRead) -> dict[int, int]:
    function = read.function
    at = elf.file_offset(function.value)
    assert at is not None, "the read was decoded from these bytes"
    return {
        function.value + offset: int.from_bytes(elf.data[at + offset : at + offset + 4], "little")
        for offset in range(0, function.size & ~3, 4)
    }
