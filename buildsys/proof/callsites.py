"""Claim: every call of a function taken over goes to ours, and nothing else was changed.

Three counts that owe nothing to each other must agree: instructions decoded
from the image, relocations the linker kept, relocations of the Go object.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from buildsys.formats import a64
from buildsys.formats.elf import R_AARCH64_CALL26, R_AARCH64_JUMP26, Elf
from buildsys.proof.case import Case
from buildsys.proof.claim import Claim, Verdict, verdict


def check(case: Case) -> Verdict:
    """Count three ways, look for what still refers to the old functions, and compare the two images."""
    olds = {pair.old.value: name for name, pair in case.called.items() if pair.old}
    news = {pair.new.value: name for name, pair in case.called.items() if pair.new}
    linked, compiled = relocated(case.before, case.called), relocated(case.object, case.called)
    now = {site.address: site for site in case.sites}
    decoded = Counter(news[site.target] for site in case.sites if site.target in news)
    counts = {
        name: (decoded[name], list(linked.values()).count(name), list(compiled.values()).count(name))
        for name in case.called
    }
    problems, loops = _left(case, olds, set(linked))
    problems += [
        f"{name}: {seen} redirected calls decoded, {kept} in the linker's relocations, {made} in the Go object's"
        for name, (seen, kept, made) in counts.items()
        if not seen == kept == made
    ]
    problems += [
        f"the call of {name} at {address:#x} in {_function(case.elf, address)} goes to {news[now[address].target]}"
        for address, name in linked.items()
        if address in now and now[address].target in news and news[now[address].target] != name
    ]
    problems += _entries(case)
    entries = {pair.old.value for pair in case.fatal.values() if pair.old}
    problems += differences(case, {address for address in linked if address not in loops} | entries)
    problems += _conditional(case, olds)
    barriers = sum(decoded[name] for name in case.barriers)
    return verdict(
        problems,
        f"{barriers} barrier calls, {decoded.total() - barriers} of flag readers, {len(entries)} entries; none left",
        {
            "loops": [hex(address) for address in sorted(loops)],
            "counts": {
                name: {"decoded": seen, "linked": kept, "compiled": made} for name, (seen, kept, made) in counts.items()
            },
        },
        [f"{counts[name][0]:5} calls of {name}" for name in case.barriers],
        "the image is not what the call-site pass makes: `doit forget patch` and build again",
    )


def _entries(case: Case) -> list[str]:
    """Functions that must be redirected at their first instruction, and are not."""
    problems = []
    for name, pair in case.fatal.items():
        word = case.elf.word(pair.old.value) if pair.old else None
        goal = a64.branch_target(word, pair.old.value) if pair.old and word is not None and a64.is_b(word) else None
        if pair.old and (pair.new is None or goal != pair.new.value):
            problems.append(f"{name} at {pair.old.value:#x} does not begin with a branch to ours")
    return problems


def _left(case: Case, olds: dict[int, str], relocated_at: set[int]) -> tuple[list[str], set[int]]:
    """Branches that still go to an old function: (problems, its own loops back to its start).

    After growing the stack a function branches to its own first instruction.
    The assembler resolves that itself: it has no relocation, and is no call.
    """
    problems, loops = [], set()
    for site in case.sites:
        name = olds.get(site.target)
        if name is None:
            continue
        inside = case.elf.symbols.function_at(site.address)
        if inside and inside.value == site.target and site.kind == "b" and site.address not in relocated_at:
            loops.add(site.address)
        else:
            problems.append(f"{name} is still called at {site.address:#x} in {_function(case.elf, site.address)}")
    return problems, loops


def relocated(elf: Elf, names: Iterable[str]) -> dict[int, str]:
    """The CALL26 and JUMP26 relocations of `elf` that refer to the local function of one of `names`.

    By place: the address in a linked image, the offset into .text in an object.
    A linker may refer to a local function by its section and an offset.
    """
    by_place = {
        (symbol.section, symbol.value): name
        for name, symbols in elf.symbols.named(*names).items()
        for symbol in symbols
        if not symbol.is_global
    }
    found: dict[int, str] = {}
    for section in elf.relocations():
        wanted: dict[tuple[int, int], str] = {}
        pairs = list(zip(section.infos, section.addends, strict=True))
        for info, addend in set(pairs):
            symbol = elf.symbols.by_index(info >> 32)
            if symbol and info & 0xFFFF_FFFF in (R_AARCH64_CALL26, R_AARCH64_JUMP26):
                name = by_place.get((symbol.section, symbol.value + addend))
                if name:
                    wanted[info, addend] = name
        if wanted:
            found |= {
                offset: wanted[pair] for offset, pair in zip(section.offsets, pairs, strict=True) if pair in wanted
            }
    return found


def differences(case: Case, sites: set[int]) -> list[str]:
    """Where the two images differ though they must not, or agree though they must not."""
    now, then = case.elf.data, case.before.data
    if len(now) != len(then):
        return [f"the patched image has {len(now)} bytes, the unpatched one {len(then)}"]
    differing = {offset & ~3 for offset in _differing(now, then)}
    expected = {case.before.file_offset(site) for site in sites}
    places = {section.offset: section for section in case.elf.code}
    found = []
    for offset in sorted(differing - expected)[:20]:
        section = next((each for each in places.values() if each.offset <= offset < each.offset + each.size), None)
        where = f"{section.address + offset - section.offset:#x}" if section else f"file offset {offset:#x}"
        name = f" in {_function(case.elf, section.address + offset - section.offset)}" if section else ""
        found.append(f"a word that is no call site was changed at {where}{name}")
    return found


def _differing(now: bytes, then: bytes) -> list[int]:
    """The offsets at which two byte strings of one length differ; equal stretches are skipped quickly."""
    found, chunk = [], 4096
    for start in range(0, len(now), chunk):
        if now[start : start + chunk] != then[start : start + chunk]:
            found += [at for at in range(start, min(start + chunk, len(now))) if now[at] != then[at]]
    return found


def _conditional(case: Case, names: dict[int, str]) -> list[str]:
    """Conditional branches to an old function from outside it: rare, so looked for near it only.

    B.cond and CBZ reach 1 MiB, TBZ 32 KiB.
    """
    found = []
    for section in case.elf.code:
        words = memoryview(case.elf.contents(section)[: section.size & ~3]).cast("I")
        for old, name in names.items():
            low = max(0, (old - (1 << 20) - section.address) // 4)
            high = min(len(words), (old + (1 << 20) - section.address) // 4)
            wanted = (old - section.address) // 4
            for index in range(low, high):
                word = words[index]
                # The four encodings, by their top byte: 0x54, x011010x, x011011x.
                if word >> 24 & 0x7C not in (0x34, 0x54) and word >> 24 != 0x54:
                    continue
                address = section.address + 4 * index
                if index != wanted and a64.conditional_target(word, address) == old:
                    found.append(f"{name} is reached by a conditional branch at {address:#x}")
    return found


def _function(elf: Elf, address: int) -> str:
    function = elf.symbols.function_at(address)
    return function.name if function else "no function"


CLAIM = Claim("call-sites", "every call of a function taken over goes to ours, and nothing else changed", check)
