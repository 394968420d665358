"""Every call site is found, and nothing else: against a plain loop, objdump, and the linker's own relocations."""

from __future__ import annotations

import random
import re

from hypothesis import example, given
from hypothesis import strategies as st

from buildsys.formats import a64
from buildsys.formats.a64 import BRANCH_RANGE, branch_target, encode_branch
from buildsys.formats.callsites import CallSite, adrp_sites, call_sites, conditional_sites, data_sites, forming_sites
from buildsys.formats.elf import R_AARCH64_CALL26, R_AARCH64_JUMP26, Elf
from buildsys.front.steps import Steps
from tests.binutils import binutils

from .disassembly import listing
from .images import ALLOC, CODE, NOTYPE, Name, Part, elf, words

B, BL, NOP = 0x1400_0000, 0x9400_0000, 0xD503_201F
WRAP = 2 * BRANCH_RANGE  # what imm26 can tell apart
BASE = 1 << 40


def naive(image: Elf, targets: set[int]) -> list[CallSite]:
    found = []
    for section in image.code:
        data = image.contents(section)
        for at in range(0, len(data) - 3, 4):
            word = int.from_bytes(data[at : at + 4], "little")
            target = branch_target(word, section.address + at)
            if target is not None and target in targets:
                found.append(CallSite(section.address + at, word, target))
    return sorted(found)


# Targets near the code, around the ends of a branch's reach, and a wrap of imm26 away from all these.
targets = st.builds(
    lambda anchor, words, wrap: BASE + anchor + 4 * words + wrap,
    st.sampled_from([0, BRANCH_RANGE, -BRANCH_RANGE]),
    st.integers(-20, 20),
    st.sampled_from([0, 0, WRAP, -WRAP]),
)


@st.composite
def codes(draw: st.DrawFn) -> tuple[list[Part], set[int]]:
    """One to three executable sections of branches to some targets and of other words, and targets to look for."""
    goals = draw(st.lists(targets, min_size=1, max_size=8))
    parts = []
    address = BASE
    for number in range(draw(st.integers(1, 3))):
        made: list[int] = []
        for _ in range(draw(st.integers(0, 24))):
            kind, goal = draw(st.sampled_from([B, BL, NOP, None])), draw(st.sampled_from(goals))
            at = address + 4 * len(made)
            if kind in (B, BL) and -BRANCH_RANGE <= goal - at < BRANCH_RANGE:
                made.append(encode_branch(kind, at, goal))
            elif kind is None:
                made.append(draw(st.integers(0, (1 << 32) - 1)))
            else:
                made.append(NOP)
        tail = draw(st.binary(max_size=3))  # a section need not be a whole number of words
        parts.append(Part(f".text{number}", address, words(*made) + tail))
        address += 4 * len(made) + draw(st.sampled_from([4, 64, 1 << 16]))
    wanted = draw(st.sets(st.sampled_from(goals)))
    return parts, wanted | draw(st.sets(targets, max_size=4))


@given(codes())
# From the third word as far forward as can be: one wrap lower lies a target near the section.
@example(([Part(".text", BASE, words(NOP, NOP, B | (1 << 25) - 1))], {BASE + 8 + BRANCH_RANGE - 4 - WRAP}))
def test_the_sites_found_are_those_of_a_plain_loop(made: tuple[list[Part], set[int]]) -> None:
    parts, wanted = made
    image = elf(parts)
    assert call_sites(image, wanted) == naive(image, wanted)


@given(codes())
def test_every_branch_is_found_when_all_targets_are_wanted(made: tuple[list[Part], set[int]]) -> None:
    image = elf(made[0])
    everything = set()
    for section in image.code:
        data = image.contents(section)
        for at in range(0, len(data) - 3, 4):
            target = branch_target(int.from_bytes(data[at : at + 4], "little"), section.address + at)
            everything |= {target} if target is not None else set()
    assert call_sites(image, everything) == naive(image, everything)


@given(st.integers(0, 2000), st.integers(0, 1 << 32), st.sampled_from([4, 12, 4096, 1 << 20]))
def test_any_number_of_targets_is_told_apart(count: int, seed: int, apart: int) -> None:
    """So many that each byte of a target is a byte of some other."""
    chance = random.Random(seed)
    goals = {(BASE + apart * at) % (1 << 41) for at in range(count)}
    code = [
        (B | 1 << 31 * chance.randrange(2)) | chance.randrange(1 << 26) if chance.random() < 0.9 else NOP
        for _ in range(200)
    ]
    for at in range(0, len(code) if goals else 0, 3):
        goal = chance.choice(sorted(goals)) + chance.choice([0, 0, 4])
        if -BRANCH_RANGE <= goal - BASE - 4 * at < BRANCH_RANGE:
            code[at] = encode_branch(BL, BASE + 4 * at, goal)
    made = elf([Part(".text", BASE, words(*code))])
    assert call_sites(made, goals) == naive(made, goals)


@given(
    st.lists(st.tuples(st.integers(0, 40), st.sampled_from(["$x", "$d", "$d.1", "$data", "$x.9"])), max_size=9),
    st.sets(st.integers(0, 40), max_size=3),
)
def test_a_branch_is_data_from_a_mark_to_the_next_or_to_a_function(
    marks: list[tuple[int, str]], functions: set[int]
) -> None:
    target = BASE + 4096
    code = words(*(encode_branch(BL, BASE + 4 * at, target) for at in range(40)))
    names = [Name(name, BASE + 4 * at, 0, NOTYPE) for at, name in marks]
    names += [Name("f", BASE + 4 * at, 4) for at in functions]
    made = elf([Part(".text", BASE, code), Part(".far", target, words(NOP))], names)
    expected, data = [], False
    for at in range(40):
        here = {name.split(".")[0] for place, name in marks if place == at} & {"$x", "$d"}
        data = "$d" in here and "$x" not in here if here else data and at not in functions
        if not data:
            expected.append(BASE + 4 * at)
    assert [site.address for site in call_sites(made, {target})] == expected
    skipped = {BASE + 4 * at for at in range(40)} - set(expected)
    assert data_sites(made, {target}) == [(at, target) for at in sorted(skipped)]


@given(st.integers(0, (1 << 32) - 1), st.integers(0, 1 << 30), st.integers(0, 1 << 40))
def test_a_words_place_and_its_target_agree_however_large_the_section(word: int, index: int, base: int) -> None:
    """The claim the search rests on, for sections larger than imm26 can span."""
    word = word & ~0x7C00_0000 & 0xFFFF_FFFF | B
    base = 4 * base
    target = branch_target(word, base + 4 * index)
    assert target is not None
    assert (word + index) % (1 << 26) == (target - base >> 2) % (1 << 26)


def test_data_that_looks_like_a_call_is_none() -> None:
    call = encode_branch(BL, BASE + 4096, BASE)
    image = elf([Part(".text", BASE, words(NOP)), Part(".rodata", BASE + 4096, words(call), ALLOC)])
    assert call_sites(image, {BASE}) == []
    image = elf([Part(".text", BASE, words(NOP)), Part(".more", BASE + 4096, words(call), ALLOC | CODE)])
    assert [site.address for site in call_sites(image, {BASE})] == [BASE + 4096]


def test_nothing_is_found_where_nothing_is_wanted(built: Steps) -> None:
    image = Elf.read(built.unpatched)
    assert call_sites(image, ()) == []
    assert call_sites(image, {1, 2, 3}) == []


def test_in_a_real_image_the_sites_are_the_branches_objdump_shows(built: Steps) -> None:
    image = Elf.read(built.unpatched)
    shown = {
        (address, word, instruction.target)
        for address, (word, instruction) in listing(built.unpatched).items()
        if instruction.mnemonic in ("b", "bl")
    }
    assert len(shown) > 10_000
    found = call_sites(image, {target for _, _, target in shown})
    assert set(found) == shown
    assert len(found) == len(shown)
    assert {site.kind for site in found} == {"b", "bl"}


def test_in_a_real_image_the_calls_of_barriers_are_those_the_linker_relocated(built: Steps) -> None:
    image = Elf.read(built.unpatched)
    names = [f"runtime.gcWriteBarrier{slots}" for slots in range(1, 9)]
    listed = binutils("readelf", "-rW", built.unpatched)
    relocated: dict[int, str] = {}
    for line in listed.splitlines():
        if match := re.match(r"([0-9a-f]{16}) +\S+ R_AARCH64_(?:CALL|JUMP)26 +[0-9a-f]{16} (\S+) \+ 0$", line):
            relocated[int(match[1], 16)] = match[2]
    expected = {address: name for address, name in relocated.items() if name in names}
    assert len(expected) > 100
    old = {
        symbol.value: name
        for name, found in image.symbols.named(*names).items()
        for symbol in found
        if not symbol.is_global
    }
    assert {site.address: old[site.target] for site in call_sites(image, old)} == expected


def test_in_a_real_image_every_relocated_branch_is_a_site_of_its_target(built: Steps) -> None:
    image = Elf.read(built.unpatched)
    expected = set()
    for table in image.relocations():
        if image.sections[table.target].name != ".text":
            continue
        for offset, info, addend in zip(table.offsets, table.infos, table.addends, strict=True):
            symbol = image.symbols.by_index(info >> 32)
            if info & 0xFFFF_FFFF in (R_AARCH64_CALL26, R_AARCH64_JUMP26) and symbol:
                expected.add((offset, symbol.value + addend))
    assert len(expected) > 5_000
    sites = {(site.address, site.target) for site in call_sites(image, {target for _, target in expected})}
    assert expected <= sites
    # A branch that was not relocated goes to a place in its own function.
    for address, target in sites - expected:
        function = image.symbols.function_at(address)
        assert function
        assert function.value <= target < function.end


@st.composite
def formers(draw: st.DrawFn) -> tuple[list[Part], set[int]]:
    """A section of ADR, ADRP and conditional branches, and addresses: some they name, some a wrap away from these."""
    base = BASE + 4 * draw(st.integers(0, 1023))  # a section may begin anywhere in a page
    classes = [(0x1F00_0000, 0x1000_0000), (0xFF00_0010, 0x5400_0000), (0x7C00_0000, 0x3400_0000), (0, 0)]
    made: list[int] = []
    wanted: set[int] = set()
    for at in range(draw(st.integers(0, 16))):
        mask, value = draw(st.sampled_from(classes))
        made.append(draw(st.integers(0, (1 << 32) - 1)) & ~mask & 0xFFFF_FFFF | value)
        named = a64.adrp(made[-1], base + 4 * at) or a64.adr(made[-1], base + 4 * at)
        goal = named[1] if named else a64.conditional_target(made[-1], base + 4 * at)
        if goal is not None and draw(st.booleans()):
            wrap = draw(st.sampled_from([0, 0, 1 << 33, 1 << 21, 1 << 16, 4, -4096, 0x123]))
            wanted.add(goal + draw(st.sampled_from([1, -1])) * wrap)
    return [Part(".text", base, words(*made))], wanted


def each_word(image: Elf) -> list[tuple[int, int]]:
    return [
        (section.address + at, int.from_bytes(image.contents(section)[at : at + 4], "little"))
        for section in image.code
        for at in range(0, section.size, 4)
    ]


@given(formers())
def test_every_adrp_of_a_page_is_found(made: tuple[list[Part], set[int]]) -> None:
    image = elf(made[0])
    for page in {target & ~0xFFF for target in made[1]}:
        expected = [at for at, word in each_word(image) if (a64.adrp(word, at) or (0, None))[1] == page]
        assert adrp_sites(image, page) == expected


@given(formers())
def test_every_instruction_that_may_form_an_address_is_found(made: tuple[list[Part], set[int]]) -> None:
    image, wanted = elf(made[0]), made[1]
    expected = [
        (at, target)
        for at, word in each_word(image)
        for target in wanted
        if (a64.adrp(word, at) or (0, None))[1] == target & ~0xFFF or (a64.adr(word, at) or (0, None))[1] == target
    ]
    assert forming_sites(image, wanted) == sorted(expected)


@given(formers())
def test_every_conditional_branch_to_an_address_is_found(made: tuple[list[Part], set[int]]) -> None:
    image, wanted = elf(made[0]), made[1]
    expected = [(at, a64.conditional_target(word, at)) for at, word in each_word(image)]
    assert conditional_sites(image, wanted) == [site for site in expected if site[1] in wanted]


def test_in_a_real_image_every_adrp_of_the_flags_page_is_the_one_objdump_shows(built: Steps) -> None:
    image = Elf.read(built.unpatched)
    flag = image.symbols.addresses("runtime.writeBarrier")["runtime.writeBarrier"]
    shown = [
        address
        for address, (_, instruction) in listing(built.unpatched).items()
        if instruction.mnemonic == "adrp" and int(instruction.operands.split(", ")[1].split()[0], 16) == flag & ~0xFFF
    ]
    assert len(shown) > 100
    assert adrp_sites(image, flag & ~0xFFF) == sorted(shown)
