"""Claim: the compiler emitted write barriers, each behind its check of the flag, and they lead to ours.

A check is a load of the flag, a branch on it, and a call of a barrier on the
path taken when it is set. Every barrier call of the image must belong to one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from buildsys.formats import a64
from buildsys.formats.references import references
from buildsys.go.flag import Judgement
from buildsys.go.packages import is_own, package_of
from buildsys.go.runtime import FLAG
from buildsys.proof.case import Case
from buildsys.proof.claim import Claim, Verdict, verdict
from buildsys.proof.observation import HEAD

POINTER = 8  # bytes
_SP = 31


def check(case: Case) -> Verdict:
    """Count the checks, hold them against the barrier calls, and show one as it is executed."""
    if FLAG not in case.elf.symbols.addresses(FLAG):
        return verdict([f"{FLAG} is not one symbol of {case.image}"], "", {}, [], "")
    checks = [load for load in case.flag_loads if load.accounted]
    packages = Counter(_package(load) for load in checks)
    own = {name: count for name, count in sorted(packages.items()) if is_own(name, case.modules)}
    problems = [*_missing(case, checks, own), *_unguarded(case)]
    shown = _assignment(case, checks)
    if shown is None and HEAD in case.elf.symbols.addresses(HEAD):
        problems.append(f"no store to {HEAD} stands behind a check of the flag")
    sites = {site.address: case.names[site.target] for site in case.sites if site.target in case.names}
    calls = Counter(sites[call] for load in checks for call in load.calls if call in sites)
    return verdict(
        problems,
        f"{len(checks)} checks, {sum(own.values())} of them in the kernel's own packages",
        {
            "checks": len(checks),
            "own packages": own,
            "calls": {name: calls[name] for name in case.called if calls[name]},
            "shown": {"function": shown.function, "store": hex(shown.store), "line": shown.line} if shown else None,
        },
        [
            *(f"{count:5} checks in {name}" for name, count in own.items()),
            *(list(_lines(case, shown)) if shown else []),
        ],
        "was the image linked from what this Go compiler wrote? Build again from nothing: `doit clean && doit build`",
    )


def _package(load: Judgement) -> str:
    return package_of(load.read.function.name) if load.read.function else ""


def _name(load: Judgement) -> str:
    return load.read.function.name if load.read.function else "no function"


def _missing(case: Case, checks: list[Judgement], own: dict[str, int]) -> Iterator[str]:
    if not checks:
        yield f"no check of {FLAG} at {case.flag:#x} leads to a barrier"
    elif not own:
        packages = ", ".join(["main", *sorted(case.modules)])
        yield f"no check is in the kernel's own packages ({packages}): {FLAG} is tested elsewhere only"
    for load in case.flag_loads:
        if load.stray is not None and load.stray[1] in case.olds:
            site, old = load.stray
            yield (
                f"the check at {load.read.address:#x} in {_name(load)} calls, at {site:#x}, "
                f"the runtime's own {case.olds[old]} at {old:#x}"
            )


def _unguarded(case: Case) -> Iterator[str]:
    """Barrier calls to which no check leads."""
    guarded = {call for load in case.flag_loads for call in load.calls}
    guarded |= {load.stray[0] for load in case.flag_loads if load.stray is not None}
    for site in case.sites:
        name = case.names.get(site.target, case.olds.get(site.target))
        if name not in case.barriers or site.address in guarded:
            continue
        inside = case.elf.symbols.function_at(site.address)
        if inside and inside.value == site.target:
            continue  # a function's own loop
        where = inside.name if inside else "no function"
        yield f"the call of {name} at {site.address:#x} in {where} stands behind no check of {FLAG}"


@dataclass(frozen=True)
class _Shown:
    """A checked store: the load of the flag, the store's address, its function and source line (or "")."""

    load: Judgement
    store: int
    function: str
    line: str


def _assignment(case: Case, checks: list[Judgement]) -> _Shown | None:
    """The assignment to `HEAD`, or in a kernel without it the first checked store of its own packages."""
    barriers = {pair.new.value for pair in case.barriers.values() if pair.new}
    calls = {site.address for site in case.sites if site.target in barriers}
    candidates = [load for load in checks if calls & set(load.calls)]
    head = case.elf.symbols.addresses(HEAD).get(HEAD)
    if head is not None:
        found = references(case.elf, case.code, head, POINTER)
        stores = {each.address for each in found if each.kind == "store"}
        places = ((load, at) for load in candidates for at in load.when_clear if at in stores)
    else:
        own = (load for load in candidates if is_own(_package(load), case.modules))
        places = ((load, at) for load in own for at in load.when_clear if _stores_pointer(case.code.word(at) or 0))
    load, store = next(places, (None, 0))
    if load is None:
        return None
    from buildsys.proof.lines import source_lines

    line = source_lines(case.image, [(store, _name(load))]).get(store, "")
    return _Shown(load, store, _name(load), line)


def _stores_pointer(word: int) -> bool:
    """Whether it stores 64-bit registers, and not to the stack."""
    single = a64.load_store_unsigned(word)
    if single:
        return single[3] == POINTER and not single[4] and single[1] != _SP
    return word & 0xFFC0_0000 == 0xA900_0000 and word >> 5 & 31 != _SP  # C6.2 STP, signed offset


def _lines(case: Case, shown: _Shown) -> Iterator[str]:
    """The instructions in the order they run when the flag is set, each with what it does."""
    load = shown.load
    where = f" ({shown.line})" if shown.line else ""
    yield f"the assignment in {shown.function}{where}, as it runs with the flag set:"
    checked = range(load.read.formed, (load.branch or load.read.address) + 4, 4)
    after = load.when_clear[: load.when_clear.index(shown.store) + 1]
    storing = case.plan.abi == "store"
    notes = _notes(case, shown)
    explained = _explain(case, [*checked, *load.when_set, *(() if storing else after)])
    for address, text, pointed in explained:
        note = notes.get(address, "") or pointed
        yield f"  {address:#10x}  {text:36}" + (f"; {note}" if note else "")
    if storing:
        yield "and with the flag clear, from its branch on:"
        for address, text, pointed in _explain(case, list(after)):
            note = notes.get(address, "") or pointed
            yield f"  {address:#10x}  {text:36}" + (f"; {note}" if note else "")


def _notes(case: Case, shown: _Shown) -> dict[int, str]:
    """What the instructions that matter are for, by address."""
    load = shown.load
    notes = {
        load.read.address: f"the flag: {FLAG}",
        shown.store: "the store itself" + (f", to {HEAD}" if HEAD in case.elf.symbols.addresses(HEAD) else ""),
    }
    if load.branch is not None:
        clear = load.when_clear[0] if load.when_clear else 0
        notes[load.branch] = f"if it is clear, on at {clear:#x}"
    targets = {site.address: site.target for site in case.sites}
    for call in load.calls:
        if call in targets:
            notes[call] = f"redirected to ours: {case.names.get(targets[call], '?')} at {targets[call]:#x}"
    for address in load.when_set:
        word = case.code.word(address) or 0
        # C6.2 STR and STP with base x25.
        if (word & 0xFFC0_0000 in (0xF900_0000, 0xA900_0000)) and word >> 5 & 31 == 25:
            notes[address] = "the record of it, into the slots x25 points at"
    return notes


def _explain(case: Case, addresses: list[int]) -> Iterator[tuple[int, str, str]]:
    """Address, disassembly, and the symbol an instruction's page and offset come to."""
    from capstone import CS_ARCH_ARM64, CS_MODE_ARM, Cs

    decoder = Cs(CS_ARCH_ARM64, CS_MODE_ARM)
    pages: dict[int, int] = {}
    for address in addresses:
        word = case.code.word(address) or 0
        decoded = next(decoder.disasm_lite(word.to_bytes(4, "little"), address), None)
        text = f"{decoded[2]:6} {decoded[3]}" if decoded else f".word  {word:#010x}"
        place = None
        if formed := a64.adrp(word, address):
            pages[formed[0]] = formed[1]
        elif (added := a64.add_immediate(word)) and added[1] in pages:
            place = pages[added[1]] + added[2]
        elif (access := a64.load_store_unsigned(word)) and access[1] in pages:
            place = pages[access[1]] + access[2]
        yield address, text, _symbol(case, place) if place is not None else ""


def _symbol(case: Case, address: int) -> str:
    symbol = case.elf.symbols.object_at(address)
    if symbol is None or not symbol.size:
        return f"{address:#x}"
    return symbol.name + (f"+{address - symbol.value}" if address != symbol.value else "")


CLAIM = Claim("barriers", "the compiler emitted write barriers, each behind its check", check)
