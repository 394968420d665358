"""What the user's redirects must have made of an image, word by word, told from the unpatched one.

Every word that is to change is listed with what it must be: call sites, entries, and what stands for an
original. The calls are decoded, and must be those the linker made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from buildsys.config.redirects import Redirection
from buildsys.formats import a64
from buildsys.formats.addresses import ABS64, ADD_LO12, ADRP, ADRP_NC, NOP, Held, held
from buildsys.formats.elf import Elf
from buildsys.formats.symbols import Symbol
from buildsys.formats.veneers import final

if TYPE_CHECKING:
    from buildsys.proof.case import Case


@dataclass(frozen=True)
class Redirected:
    """One function the user replaces: `old` by `new`; `original` stands for the old one. None where there is none.

    `taken` says that its first instruction is a branch now, the user's or this build's own.
    """

    asked: Redirection
    old: Symbol | None
    new: Symbol | None
    original: Symbol | None
    taken: bool

    @property
    def name(self) -> str:
        """The old function's name."""
        return self.asked.old


class Change(NamedTuple):
    """The word an address must hold; `site` is the name of what is called there, if it is.

    It is None if a branch does not reach; then any will do that leads to `target` by a veneer.
    """

    word: int | None
    site: str
    what: str
    target: int = 0


def changes(case: Case, calls: Mapping[int, str], loops: Mapping[int, str]) -> dict[int, Change]:
    """What each address must hold that a redirect of the user's changes.

    `calls` are the branches to the old functions in the unpatched image, `loops` those of an old function to its
    own start: the name by place.
    """
    found: dict[int, Change] = {}
    for one in case.redirected.values():
        if one.old is None or one.new is None:
            continue
        old, new, name = one.old.value, one.new.value, one.name
        if one.asked.mode.at_calls:
            for place in (place for place, called in calls.items() if called == name):
                found[place] = Change(_branch(case, place, new), name, f"the call of {name}", new)
        if one.asked.mode.at_entry:
            found[old] = Change(_encoded(a64.BRANCH, old, new), "", f"the entry of {name}", new)
        if one.original is None:
            continue
        place, what = one.original.value, f"what stands for the original of {name}"
        if not one.taken:
            found[place] = Change(_encoded(a64.BRANCH, place, old), "", what, old)
            continue
        first = case.before.word(old)
        target = None if first is None else a64.branch_target(first, old)
        moved = first if target is None or first is None else _encoded(first, place, target)
        found[place] = Change(moved, "", what, target or 0)
        found[place + 4] = Change(_encoded(a64.BRANCH, place + 4, old + 4), "", what, old + 4)
        for loop in (loop for loop, called in loops.items() if called == name and loop != old):
            found[loop] = Change(_encoded(a64.BRANCH, loop, place), "", f"the branch of {name} to its own start", place)
    return found


def problems(case: Case, found: Mapping[int, Change], where: Callable[[int], str]) -> Iterator[str]:
    """What is wrong with the redirects of the user's, and with what they changed."""
    for one in case.redirected.values():
        for name, symbol in ((one.name, one.old), (one.asked.to, one.new)):
            if symbol is None:
                yield f"{name} is no function of this image, or several"
        if one.asked.original and one.original is None:
            yield f"{one.asked.original} is no function of this image, or several"
    for address, change in found.items():
        word, before = case.elf.word(address), case.before.word(address)
        if word is not None and (word == change.word or _by_veneer(case, address, word, change)):
            continue
        goal = None if word is None else a64.branch_target(word, address)
        goes = "is no branch" if goal is None else f"goes to {where(goal)}"
        same = None if change.word is None else a64.branch_target(change.word, address)
        if change.site and goal is not None and goal == same and before is not None:
            yield f"{change.what} at {where(address)} is of another kind than it was"
        elif change.site or (change.word is not None and same is not None):
            yield f"{change.what} at {where(address)} {goes}"
        else:
            wanted = "what it cannot hold" if change.word is None else f"{change.word:08x}"
            yield f"{change.what} at {where(address)} is {word or 0:08x}, not {wanted}"


class Pointed(NamedTuple):
    """What is to become of the places that stand for old functions' addresses, where the user asked for that.

    `moved` must differ in the two images, `total` stand for a new function, `problems` tell what does not.
    """

    moved: set[int]
    total: int
    problems: list[str]


def pointed(case: Case, where: Callable[[int], str]) -> Pointed:
    """Decode every place that a relocation makes stand for an old function: it must stand for the new one.

    What nobody can make do so, such as a pointer of 32 bits, must be as it was.
    """
    moved, count, problems = set[int](), 0, list[str]()
    for one in case.redirected.values():
        if not one.asked.pointers or one.old is None or one.new is None:
            continue
        old, new = one.old.value, one.new.value
        places = held(case.before, {old: one.name})
        if places is None:
            problems.append(f"no linker kept relocations that say where pointers to {one.name} are")
        fixed = {_holder(case, use) for use in places or () if _stands(case.before, use) is None}
        for use in places or ():
            was, now = _stands(case.before, use), _stands(case.elf, use)
            if was is None or _holder(case, use) in fixed:
                if case.before.word(use.place) != case.elf.word(use.place):
                    problems.append(f"what refers to {one.name} at {where(use.place)} was changed, and cannot be")
            elif now != was and now is not None and _part(new, was) == now:
                moved |= _differing(case, use)
                count += 1
            elif _part(new, was) != was:
                problems.append(f"what refers to {one.name} at {where(use.place)} does not refer to {one.asked.to}")
            else:
                count += 1
    return Pointed(moved, count, problems)


def _differing(case: Case, use: Held) -> set[int]:
    """The words of the place: one, or the two of a pointer, of which the upper one is mostly the same."""
    size = 8 if use.kind == ABS64 else 4
    return {at for at in range(use.place, use.place + size, 4) if case.before.word(at) != case.elf.word(at)}


def _holder(case: Case, use: Held) -> int:
    """What goes together: the instructions of one function; data is by itself."""
    function = case.before.symbols.function_at(use.place) if use.kind != ABS64 else None
    return function.value if function else use.place


def _part(address: int, like: tuple[str, int]) -> tuple[str, int]:
    """The part of `address` that an instruction of some kind holds."""
    kind, _ = like
    return kind, {"page": address & ~0xFFF, "offset": address & 0xFFF, "none": 0}.get(kind, address)


def _stands(elf: Elf, use: Held) -> tuple[str, int] | None:
    """What part of an address the place holds, and its value; None if it is none that is understood."""
    word = elf.word(use.place)
    if use.kind == ABS64:
        value = elf.word(use.place, 8)
        return None if value is None or use.place % 4 else ("whole", value)
    if word is None:
        return None
    if formed := a64.adr(word, use.place):
        return "near", formed[1]
    if use.kind in (ADRP, ADRP_NC):
        if page := a64.adrp(word, use.place):
            return "page", page[1]
        return ("none", 0) if word == NOP else None
    added = a64.add_immediate(word)
    return ("offset", added[2]) if use.kind == ADD_LO12 and added else None


def changed(case: Case, found: Mapping[int, Change]) -> set[int]:
    """The addresses at which the two images must differ."""
    return {
        address
        for address, change in found.items()
        if (case.elf.word(address) if change.word is None else change.word) != case.before.word(address)
    }


def _by_veneer(case: Case, address: int, word: int, change: Change) -> bool:
    """Whether a branch that could not reach leads where it must by a veneer, and is of the kind it was."""
    goal, before = a64.branch_target(word, address), case.before.word(address)
    if change.word is not None or goal is None or before is None:
        return False
    return final(case.elf, goal) == change.target and a64.is_bl(word) == (bool(change.site) and a64.is_bl(before))


def _branch(case: Case, place: int, target: int) -> int | None:
    word = case.before.word(place)
    return None if word is None else _encoded(word, place, target)


def _encoded(word: int, place: int, target: int) -> int | None:
    try:
        return a64.encode_branch(word, place, target)
    except ValueError:
        return None
