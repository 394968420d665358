"""Claim: every call of a function taken over goes to ours, and nothing else was changed.

Three counts that owe nothing to each other must agree: instructions decoded
from the image, relocations the linker kept, relocations of the Go object.
Nor may anything be left that leads to an old function another way: a
conditional branch, its address formed by instructions, a pointer to it.
What the user replaces must agree with what replaces it (proof/agreement.py).
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import compress, pairwise
from operator import add

from buildsys.formats import a64, identity
from buildsys.formats.addresses import conditional, formed
from buildsys.formats.callsites import CallSite, call_sites
from buildsys.formats.elf import R_AARCH64_CALL26, R_AARCH64_JUMP26, Elf
from buildsys.formats.patch import address_takers
from buildsys.formats.veneers import final
from buildsys.go.runtime import SLOTTED
from buildsys.proof.agreement import examine
from buildsys.proof.case import Case
from buildsys.proof.claim import Claim, Verdict, verdict
from buildsys.proof.far import far
from buildsys.proof.redirects import Change, changed, changes, pointed
from buildsys.proof.redirects import problems as redirect_problems
from buildsys.stages.programs import PREFIX

_CALLS = (R_AARCH64_CALL26, R_AARCH64_JUMP26)
_MARKED = bytes(byte in {kind & 0xFF for kind in _CALLS} for byte in range(256))
_SHOWN = 20  # places of one kind that are listed


def check(case: Case) -> Verdict:
    """Count three ways, look for what still refers to the old functions, and compare the two images."""
    linked, compiled = relocated(case.before, case.called), relocated(case.object, case.called)
    decoded = Counter(case.names[site.target] for site in case.sites if site.target in case.names)
    kept, made = Counter(linked.values()), Counter(compiled.values())
    left, loops = still_called(case.elf, case.sites, case.olds, linked)
    left_at = {site.address for site in left}
    entries = {pair.old.value for pair in case.entered.values() if pair.old}
    users, own_loops = _redirected_sites(case)
    made_of = changes(case, users, own_loops)
    pointers = pointed(case, lambda address: where(case.elf, address))
    veneers = far(case)
    redirected = {address: change.site for address, change in made_of.items() if change.site}
    # Behind a first instruction that is a branch nothing of the old function is left to be called.
    olds = case.olds | {each.old.value: name for name, each in case.redirected.items() if each.old and not each.taken}
    examined = examine(case, users)
    problems = [
        *(f"{case.olds[site.target]} is still called at {where(case.elf, site.address)}" for site in left),
        *_goals(case, linked, left_at | loops),
        *(
            f"{name}: {decoded[name]} redirected calls decoded, {kept[name]} in the linker's relocations, "
            f"{made[name]} in the Go object's"
            for name in case.called
            if not decoded[name] == kept[name] == made[name]
        ),
        *_entries(case),
        *_undecoded(case, users),
        *redirect_problems(case, made_of, lambda address: where(case.elf, address)),
        *pointers.problems,
        *veneers.problems,
        *differences(
            case,
            _but_by_veneers(case, linked.keys() - loops)
            | entries
            | _counted_for_a_program(case)
            | changed(case, made_of)
            | pointers.moved
            | veneers.turned,
            left_at,
            {*veneers.added, *_identity(case.elf)},
        ),
        *_conditional(case, olds),
        *_formed(case, olds),
        *_pointers(case, olds),
        *examined.problems,
        *_other_identity(case),
    ]
    barriers, readers = (sum(decoded[name] for name in group) for group in (case.barriers, case.plan.readers))
    of_sets = "".join(f", {sum(decoded[name] for name in each.calls)} of {each.name}" for each in case.plan.sets)
    return verdict(
        problems,
        f"{barriers} barrier calls, {readers} of flag readers{of_sets}, {len(entries)} entries"
        + (f", {_made(case, made_of)} of the kernel's redirects" if case.redirects else "")
        + (f", {pointers.total} pointers and addresses" if pointers.total else "")
        + "; none left",
        {
            "loops": [hex(address) for address in sorted(loops)],
            "counts": {
                name: {"decoded": decoded[name], "linked": kept[name], "compiled": made[name]} for name in case.called
            },
            "redirected": dict(Counter(redirected.values())),
            "agreement": examined.evidence,
            "pointers": pointers.total,
        },
        [f"{count:5} calls of {name}" for name, count in _counted(case, decoded, redirected)] + examined.details,
        "the image is not what the call-site pass makes: `doit forget patch` and build again",
    )


def _but_by_veneers(case: Case, sites: Collection[int]) -> set[int]:
    """`sites` but for those that go to our function by a veneer which went to the old one: they are as they were."""
    return {site for site in sites if not _same_veneer(case, site)}


def _counted_for_a_program(case: Case) -> set[int]:
    """The calls of a program's barriers, where they are counted: the claim program-barriers looks where they go."""
    if not case.program:
        return set()
    names = [PREFIX + name for name in SLOTTED]
    counted = [name for name, found in case.elf.symbols.named(*names).items() if any(each.is_global for each in found)]
    return set(relocated(case.before, counted))


def _same_veneer(case: Case, site: int) -> bool:
    word = case.elf.word(site)
    goal = None if word is None or word != case.before.word(site) else a64.branch_target(word, site)
    return goal is not None and final(case.before, goal) in case.olds and final(case.elf, goal) in case.names


def still_called(
    elf: Elf, sites: Iterable[CallSite], olds: Mapping[int, str], relocated_at: Collection[int]
) -> tuple[list[CallSite], set[int]]:
    """Branches that still go to an old function: (calls, its own loops back to its start).

    After growing the stack a function branches to its own first instruction.
    The assembler resolves that itself: it has no relocation, and is no call.
    """
    calls, loops = [], set()
    for site in sites:
        if site.target in olds:
            inside = elf.symbols.function_at(site.address)
            if inside and inside.value == site.target and site.kind == "b" and site.address not in relocated_at:
                loops.add(site.address)
            else:
                calls.append(site)
    return calls, loops


def _goals(case: Case, linked: Mapping[int, str], left: Collection[int]) -> Iterator[str]:
    """Calls of an old function that do not go to ours of that name, and branches to ours that were no such calls."""
    now = {site.address: site for site in case.sites}
    for address, name in linked.items():
        site, word, before = now.get(address), case.elf.word(address), case.before.word(address)
        if address in left:
            continue
        if site is None:
            goal = None if word is None else a64.branch_target(word, address)
            goes = "is no branch" if goal is None else f"goes to {where(case.elf, goal)}"
            yield f"the call of {name} at {where(case.elf, address)} {goes}"
        elif case.names.get(site.target, name) != name:
            yield f"the call of {name} at {where(case.elf, address)} goes to {case.names[site.target]}"
        elif before is not None and a64.is_bl(before) != a64.is_bl(site.word):
            was = "call" if a64.is_bl(before) else "jump"
            yield f"the {was} to {name} at {where(case.elf, address)} has become a `{site.kind}`"
    for site in case.sites:
        if site.target in case.names and site.address not in linked:
            yield f"{where(case.elf, site.address)} goes to our {case.names[site.target]}, and called no such function"


def _entries(case: Case) -> Iterator[str]:
    """Functions that must be redirected at their first instruction, and are not."""
    for name, pair in case.entered.items():
        word = case.elf.word(pair.old.value) if pair.old else None
        goal = a64.branch_target(word, pair.old.value) if pair.old and word is not None and a64.is_b(word) else None
        if pair.old and (pair.new is None or goal is None or final(case.elf, goal) != pair.new.value):
            yield f"{name} at {pair.old.value:#x} does not begin with a branch to ours"


def _counted(case: Case, decoded: Mapping[str, int], redirected: Mapping[int, str]) -> list[tuple[str, int]]:
    counts = Counter(redirected.values())
    return [
        *((name, decoded[name]) for name in case.barriers),
        *((f"{name}, to {each.asked.to}", counts[name]) for name, each in case.redirected.items()),
    ]


def _redirected_sites(case: Case) -> tuple[dict[int, str], dict[int, str]]:
    """The calls of functions the user redirects, and their own loops, in the unpatched image: the name by place."""
    olds = {each.old.value: name for name, each in case.redirected.items() if each.old}
    if not olds:
        return {}, {}
    sites = {site.address: site for site in call_sites(case.before, set(olds))}
    calls, loops = still_called(case.before, sites.values(), olds, relocated(case.before, olds.values()))
    by_place = {address: olds[site.target] for address, site in sites.items()}
    return {site.address: by_place[site.address] for site in calls}, {address: by_place[address] for address in loops}


def _made(case: Case, made_of: Mapping[int, Change]) -> int:
    """How many call sites and entries the user's redirects changed."""
    starts = {each.old.value for each in case.redirected.values() if each.old}
    return sum(bool(change.site) or address in starts for address, change in made_of.items())


def _undecoded(case: Case, sites: Mapping[int, str]) -> Iterator[str]:
    """Calls of functions the user redirects that the linker made, and that are not found in the code."""
    for address, name in relocated(case.before, case.redirected).items():  # those of Go's code
        if address not in sites:
            yield f"the linker made a call of {name} at {where(case.elf, address)}, and none is decoded there"


def relocated(elf: Elf, names: Iterable[str]) -> dict[int, str]:
    """The CALL26 and JUMP26 relocations of `elf` that refer to the local function of one of `names`, by place."""
    return relocated_calls(
        elf,
        {
            (symbol.section, symbol.value): name
            for name, symbols in elf.symbols.named(*names).items()
            for symbol in symbols
            if not symbol.is_global
        },
    )


def relocated_calls(elf: Elf, goals: Mapping[tuple[int, int], str]) -> dict[int, str]:
    """The name in `goals`, by section and value, that each CALL26 and JUMP26 relocation refers to, by place.

    The place is an address in a linked image, an offset into the section in an object.
    A linker may refer to a local function by its section and an offset.
    """
    by_goal = {(section << 64) + value: name for (section, value), name in goals.items()}
    found: dict[int, str] = {}
    for table in elf.relocations():
        marks = table.infos.tobytes()[0::8].translate(_MARKED)
        infos = list(compress(table.infos, marks))
        # A goal is a number, the section above the value: what does not call anything has none that is wanted.
        bases = dict.fromkeys(infos, -1 << 128)
        for info in bases:
            place = elf.symbols.place(info >> 32)
            if place and info & 0xFFFF_FFFF in _CALLS:
                bases[info] = (place[0] << 64) + place[1]
        sums = map(add, map(bases.__getitem__, infos), compress(table.addends, marks))
        places = compress(table.offsets, marks)
        found |= {place: by_goal[goal] for place, goal in zip(places, sums, strict=True) if goal in by_goal}
    return found


def differences(
    case: Case, sites: Collection[int], left: Collection[int] = (), added: Collection[int] = ()
) -> list[str]:
    """Where the two images differ though they must not, or agree though they must not, but for sites `left` as is.

    `added` are offsets in the file of what may differ.
    """
    now, then = case.elf.data, case.before.data
    if len(now) != len(then):
        return [f"the patched image has {len(now)} bytes, the unpatched one {len(then)}"]
    differing = set(_differing(now, then))
    expected = {case.before.file_offset(site): site for site in sites}
    found = [
        f"a word that is no call site was changed at {_place(case.elf, offset)}"
        for offset in sorted(differing - expected.keys() - set(added))[:_SHOWN]
    ]
    same = sorted(site for offset, site in expected.items() if offset not in differing and site not in left)
    found += [
        f"both images hold the same word at {where(case.elf, site)}, which was to be redirected"
        for site in same[:_SHOWN]
    ]
    return found


def _identity(elf: Elf) -> range:
    """The offsets in the file of the words of the image's identity, which are filled in with the calls."""
    address = identity.place(elf)
    at = None if address is None else elf.file_offset(address)
    return range(0) if at is None else range(at, at + identity.SIZE, 4)


def _other_identity(case: Case) -> Iterator[str]:
    """Whether the identity is another than that of these very bytes and their configuration, taken anew."""
    configuration, words = case.configuration(), _identity(case.elf)
    if configuration is None or not words:
        return
    from hashlib import sha256

    data, carried = bytearray(case.elf.data), bytes(case.elf.data[words.start : words.stop])
    data[words.start : words.stop] = bytes(len(carried))
    code = sorted((each.offset, each.offset + each.size) for each in case.elf.code if each.in_file)
    around = [data[end:start] for (_, end), (start, _) in pairwise([(0, 0), *code, (len(data), 0)])]
    made = sha256(b"".join([*around, *(data[start:end] for start, end in code), configuration])).hexdigest()
    if made != carried.hex():
        yield (
            f"the image says that it is {carried.hex()[: identity.SHOWN]}, and its bytes and configuration make "
            f"{made[: identity.SHOWN]}"
        )


def _differing(now: bytes, then: bytes) -> list[int]:
    """The offsets, multiples of 4, of the words in which two byte strings of one length differ.

    Equal stretches are skipped quickly: in pieces of one size, those that differ in smaller pieces.
    """
    found, whole = [0], len(now)
    for size in (1 << 12, 1 << 6, 4):
        found = [
            at
            for start in found
            for at in range(start, min(start + whole, len(now)), size)
            if now[at : at + size] != then[at : at + size]
        ]
        whole = size
    return found


def _conditional(case: Case, olds: Mapping[int, str]) -> Iterator[str]:
    for address, target in conditional(case.elf, olds):
        yield f"{olds[target]} is reached by a conditional branch at {where(case.elf, address)}"


def _formed(case: Case, olds: Mapping[int, str]) -> Iterator[str]:
    """Instructions that form the address of an old function, and can run.

    What is in a function that nothing reaches does no harm.
    """
    for target, use in formed(case.elf, case.code, olds):
        place = f"the address of {olds[target]} is formed at {where(case.elf, use.address)}"
        if use.function is None:
            yield place
        elif use.function.value in case.unasked.functions:
            yield f"{place}; it is reached: {' → '.join(case.unasked.path(use.function.value))}"


def _pointers(case: Case, olds: Mapping[int, str]) -> Iterator[str]:
    """Pointers to an old function that somebody may call through.

    What is in a variable does no harm if nothing that runs leads from there to the old function; a
    pointer in no variable, or among code, could be anybody's.
    """
    for place, target in address_takers(case.elf, list(olds)):
        holder = case.elf.symbols.object_at(place)
        if holder is None:
            yield f"a pointer to {olds[target]} is at {place:#x}, in no variable"
        elif target in case.unasked.functions:
            path = " → ".join(case.unasked.path(target))
            yield f"{holder.name} holds a pointer to {olds[target]} at {place:#x}; it is reached: {path}"
    for place, target in among_code(case.elf, olds):
        yield f"a pointer to {olds[target]} is among code at {where(case.elf, place)}"


def among_code(elf: Elf, targets: Iterable[int]) -> list[tuple[int, int]]:
    """Where code holds one of `targets` as a 64-bit word: (place, target); the first in each section."""
    found = []
    for section in elf.code:
        contents = elf.contents(section)
        for target in targets:
            at = contents.find(struct.pack("<Q", target))
            if at >= 0:
                found.append((section.address + at, target))
    return found


def where(elf: Elf, address: int) -> str:
    """An address, and the function it lies in."""
    inside = any(address in section for section in elf.code)  # a function without a size would have no end
    function = elf.symbols.function_at(address) if inside else None
    return f"{address:#x} in {function.name if function else 'no function'}"


def _place(elf: Elf, offset: int) -> str:
    """A place in the file: its address, and the function or variable there, if it has one."""
    for section in elf.sections:
        if section.address and section.in_file and section.offset <= offset < section.offset + section.size:
            address = section.address + offset - section.offset
            symbol = elf.symbols.function_at(address) if section in elf.code else elf.symbols.object_at(address)
            return f"{address:#x} in {symbol.name if symbol else section.name}"
    return f"byte {offset:#x} of the file"


CLAIM = Claim("call-sites", "every call of a function taken over goes to ours, and nothing else changed", check)
