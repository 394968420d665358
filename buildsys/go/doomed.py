"""The instructions of a function from which every way ends in a call that does not return, and those never come to.

Go puts the work of preparing a panic (boxing its value, formatting its text) in
front of the call of `runtime.gopanic`. On bare metal that call ends the run, or
what comes before it faults and ends the run: a kernel that gets there has
failed, loudly, in either case. So what only such code calls is not what the
kernel needs in order to work.
"""

from __future__ import annotations

from array import array
from collections.abc import Collection, Sequence

from buildsys.formats import a64
from buildsys.formats.callsites import by_top

# The top bytes of whatever does not simply go on to the next instruction: B, BL, B.cond, CBZ to TBNZ, BR to ERET.
_BRANCHES = bytes(
    byte & 0x7C == 0x14 or byte == 0x54 or byte & 0x7C == 0x34 or byte & 0xFE == 0xD6 for byte in range(256)
)


def doomed(words: Sequence[int], base: int, ends: Collection[int]) -> set[int]:
    """The indices of the doomed among `words`, a function that begins at address `base`.

    `ends` are the addresses of functions that do not return. The least such set:
    a loop without an exit is not doomed, it runs.
    """
    branches = list(by_top(words if isinstance(words, array) else array("I", words), _BRANCHES))
    # By the 26 bits that tell where from here, at first: most branches go elsewhere.
    wanted = {end - base >> 2 & a64.IMM26 for end in ends}
    calls = [
        at
        for at in branches
        if words[at] + at & a64.IMM26 in wanted and a64.branch_target(words[at], base + 4 * at) in ends
    ]
    if not calls:
        return set()
    before: dict[int, list[int]] = {}  # for a place that is branched to: from where
    for at in branches:
        after = a64.goal(words[at], at)
        if after is not None and not a64.is_bl(words[at]):
            before.setdefault(after, []).append(at)
    found, pending = set(calls), list(calls)
    while pending:
        after = pending.pop()
        for at in (after - 1, *before.get(after, ())):
            if at >= 0 and at not in found:
                following = _successors(words, at, base)
                if following and found.issuperset(following):
                    found.add(at)
                    pending.append(at)
    return found


def runs(words: Sequence[int], base: int, ends: Collection[int]) -> set[int] | None:
    """The indices that control comes to from the first of `words`; None if a jump through a register hides some.

    What is left out is where a recovered panic lands: the runtime goes there by a table, and only a
    `runtime.gopanic` that can return does.
    """
    found: set[int] = set()
    pending = [0] if words else []
    while pending:
        at = pending.pop()
        while at not in found:
            found.add(at)
            word = words[at]
            if word & 0xFFFF_FC1F == 0xD61F_0000:  # C6.2 BR
                return None
            following = _successors(words, at, base) or []
            if a64.branch_target(word, base + 4 * at) in ends or not following:
                break
            pending += following[1:]
            at = following[0]
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
