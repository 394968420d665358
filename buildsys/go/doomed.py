"""The instructions of a function from which every way ends in a call that does not return.

Go puts the work of preparing a panic (boxing its value, formatting its text) in
front of the call of `runtime.gopanic`. On bare metal that call ends the run, or
what comes before it faults and ends the run: a kernel that gets there has
failed, loudly, in either case. So what only such code calls is not what the
kernel needs in order to work.
"""

from __future__ import annotations

from collections.abc import Container, Sequence

from buildsys.formats import a64


def doomed(words: Sequence[int], base: int, ends: Container[int]) -> set[int]:
    """The indices of the doomed among `words`, a function that begins at address `base`.

    `ends` are the addresses of functions that do not return. The least such set:
    a loop without an exit is not doomed, it runs.
    """
    calls = [
        at
        for at, word in enumerate(words)
        if word & 0x7C00_0000 == 0x1400_0000 and a64.branch_target(word, base + 4 * at) in ends
    ]
    if not calls:
        return set()
    successors = [_successors(words, at, base) for at in range(len(words))]
    before: dict[int, list[int]] = {}
    for at, following in enumerate(successors):
        for after in following or ():
            before.setdefault(after, []).append(at)
    found = set(calls)
    pending = list(calls)
    while pending:
        for at in before.get(pending.pop(), ()):
            following = successors[at]
            if at not in found and following and all(after in found for after in following):
                found.add(at)
                pending.append(at)
    return found


def _successors(words: Sequence[int], at: int, base: int) -> list[int] | None:
    """The indices control can go to after `words[at]`; None if it leaves the function, or nobody knows."""
    word, address = words[at], base + 4 * at
    end = base + 4 * len(words)
    if a64.is_b(word):
        target = a64.branch_target(word, address)
        return [target - base >> 2] if target is not None and base <= target < end else None
    if word & 0xFE00_0000 == 0xD600_0000 and word & 0xFFFF_FC1F != 0xD63F_0000:
        return None  # C6.2 BR, RET, ERET; BLR comes back
    following = [at + 1] if at + 1 < len(words) else []
    branch = a64.conditional_target(word, address)
    if branch is not None:
        if not base <= branch < end:
            return None
        following.append(branch - base >> 2)
    return following or None
