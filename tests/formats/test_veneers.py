"""Veneers are known by their instructions; a branch to one is a branch to where it goes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from buildsys.errors import UserError
from buildsys.formats.a64 import BRANCH_RANGE, RET, OutOfRangeError, encode_branch
from buildsys.formats.callsites import call_sites
from buildsys.formats.elf import Elf
from buildsys.formats.islands import Far
from buildsys.formats.patch import Redirect, patch
from buildsys.formats.veneers import decode, encode_adrp, final, retargeted, veneer_to, veneers_to

from .images import FUNC, GLOBAL, LOCAL, NOTYPE, Name, Part, elf, image, words

BL, B, NOP, BTI_C = 0x9400_0000, 0x1400_0000, 0xD503_201F, 0xD503_245F
BR16 = 0xD61F_0200
NEAR, FAR = 1 << 30, (1 << 30) + (1 << 29)  # more than a branch reaches
MOST = 1 << 31


def moves(target: int, count: int = 4) -> list[int]:
    first = 0xD280_0000 | (target & 0xFFFF) << 5 | 16
    return [first, *(0xF280_0000 | at << 21 | (target >> 16 * at & 0xFFFF) << 5 | 16 for at in range(1, count))]


def adrp_add(at: int, target: int) -> list[int]:
    return [encode_adrp(16, at, target), 0x9100_0210 | (target & 0xFFF) << 10]


# What each linker writes, for `at` and where it goes; all have been seen in their output.
FORMS: dict[str, Callable[[int, int], bytes]] = {
    "GNU ld, gold, lld for position-independent code": lambda at, to: words(*adrp_add(at, to), BR16),
    "lld": lambda at, to: words(0x5800_0050, BR16) + to.to_bytes(8, "little"),
    "lld, code that cannot be read": lambda at, to: words(*moves(to), BR16),
    "GNU ld, beyond 4 GiB": lambda at, to: (
        words(0x5800_0090, 0x1000_0011, 0x8B11_0210, BR16) + (to - at - 4 & (1 << 64) - 1).to_bytes(8, "little")
    ),
    "with a landing pad": lambda at, to: words(BTI_C, *adrp_add(at + 4, to), BR16),
}
forms = pytest.mark.parametrize("form", FORMS)
addresses = st.integers(0, MOST // 4 - 1).map(lambda number: 4 * number)


def at(address: int, code: bytes, *names: Name) -> Elf:
    """An image with `code` at `address`, and a function more than a branch away."""
    other = address + (1 << 33)
    names = (*names, Name("other", other, 4, section=2))
    return elf([Part(".text", address, code), Part(".far", other, words(RET))], names)


@forms
@given(addresses.filter(lambda address: address % 8 == 0), addresses, addresses)
def test_a_veneer_goes_where_it_was_made_to_and_then_where_it_is_turned(
    form: str, address: int, target: int, other: int
) -> None:
    code = FORMS[form](address, target)
    made = at(address, code)
    found = decode(made, address)
    assert found is not None
    assert (found.target, found.end) == (target, address + len(code))
    turned = bytearray(code)
    for place, contents in retargeted(made, found, other).items():
        turned[place - address : place - address + len(contents)] = contents
    again = decode(at(address, bytes(turned)), address)
    assert again is not None
    assert again.target == other


@given(addresses, addresses)
def test_a_veneer_of_ours_is_one(address: int, target: int) -> None:
    found = decode(at(address, veneer_to(address, target)), address)
    assert found is not None
    assert found.target == target


@given(st.lists(st.one_of(st.integers(0, (1 << 32) - 1), st.sampled_from([BR16, NOP, RET, *moves(FAR)])), max_size=9))
@example([0x5800_0050, BR16])  # its literal would lie behind the section
def test_other_code_is_none_or_a_jump_that_is_computed(code: list[int]) -> None:
    found = decode(at(NEAR, words(*code, RET)), NEAR)
    if found is not None:
        assert found.parts
        assert NEAR < found.end <= NEAR + 4 * (len(code) + 1)
        jump = next(at for at, word in enumerate(code) if word & 0xFFFF_FC1F == 0xD61F_0000)
        assert code[jump] >> 5 & 31 == found.register
        assert RET not in code[:jump]


@pytest.mark.parametrize(
    "code",
    [
        [*adrp_add(NEAR, FAR), 0xD61F_0220],  # another register than the one computed
        [encode_adrp(16, NEAR, FAR), 0xF940_0211, 0xD61F_0220],  # a PLT entry: it loads where it goes
        [encode_adrp(0, NEAR, FAR), 0x9100_0000, 0xD61F_0000],  # a switch's jump: not a linker's register
        [*adrp_add(NEAR, FAR), 0xD63F_0200],  # a call
        [*adrp_add(NEAR, FAR), RET],
        [0xF280_0010, BR16],  # MOVK of what is not known
        [BR16],
    ],
)
def test_what_does_anything_else_is_no_veneer(code: list[int]) -> None:
    assert decode(at(NEAR, words(*code)), NEAR) is None


def called(*names: Name, code: bytes | None = None) -> Elf:
    """A call at NEAR of the veneer behind it, which goes to `old` at FAR."""
    body = words(encode_branch(BL, NEAR, NEAR + 8), RET) + (code or veneer_to(NEAR + 8, FAR))
    parts = [Part(".text", NEAR, body), Part(".far", FAR, words(RET, RET))]
    return elf(parts, [Name("caller", NEAR, 8), Name("old", FAR, 4, section=2), *names])


@pytest.mark.parametrize("name", ["__AArch64AbsLongThunk_old", "__AArch64ADRPThunk_old", "__old_veneer", None])
def test_a_call_by_a_veneer_is_a_call_of_where_it_goes(name: str | None) -> None:
    made = called(*[Name(name, NEAR + 8, 12)] if name else [])
    assert [(site.address, site.target) for site in call_sites(made, {FAR})] == [(NEAR, FAR)]
    assert final(made, NEAR + 8) == FAR


@pytest.mark.parametrize(
    "names",
    [
        [Name("mine", NEAR + 8, 12)],
        [Name("mine", NEAR + 8, 0, NOTYPE), Name("mine", NEAR + 8, 12, FUNC, GLOBAL)],
        [Name("around", NEAR + 4, 16)],
    ],
)
def test_what_somebody_wrote_is_left_to_mean_what_it_says(names: list[Name]) -> None:
    made = called(*names)
    assert call_sites(made, {FAR}) == []
    assert final(made, NEAR + 8) == NEAR + 8


def test_a_veneers_name_alone_makes_none() -> None:
    other = FAR + 4
    made = called(Name("__old_veneer", NEAR + 8, 12), code=veneer_to(NEAR + 8, other))
    assert call_sites(made, {FAR}) == []
    assert [site.target for site in call_sites(made, {other})] == [other]


def test_where_a_branch_reaches_everything_there_are_none() -> None:
    code = words(encode_branch(BL, NEAR, NEAR + 8), RET) + veneer_to(NEAR + 8, NEAR + 20) + words(RET)
    made = elf([Part(".text", NEAR, code)], [Name("caller", NEAR, 8), Name("old", NEAR + 20, 4)])
    assert veneers_to(made, {NEAR + 20}) == {}


# ---- the pass ----


def redirected(made: Elf, old: int, new: int) -> Elf:
    return Elf(patch(made, [Redirect("old", old, old + 4, new)]).contents, "patched")


def leads(made: Elf, address: int) -> int:
    """Where the branch at `address` leads, by instructions decoded one after another."""
    word = made.word(address)
    assert word is not None
    goes = address + 4 * ((word & 0x3FF_FFFF) - (1 << 26 if word >> 25 & 1 else 0))
    found = decode(made, goes)
    return found.target if found else goes


@st.composite
def layouts(draw: st.DrawFn) -> tuple[bytes, list[int], int, int]:
    """Code at two places far apart that calls an old function, itself or by veneers, and a new one anywhere."""
    bases = (NEAR, draw(st.sampled_from([NEAR + BRANCH_RANGE - 64, FAR, NEAR - FAR + NEAR])))
    lengths = [draw(st.integers(2, 6)) for _ in bases]
    place = st.integers(0, 1).flatmap(lambda at: st.integers(0, lengths[at] - 1).map(lambda n: bases[at] + 4 * n))
    old, new = draw(place), draw(place)
    assume(old != new)
    parts, names, sites = [], [Name("old", old, 4), Name("new", new, 4)], []
    for base, length in zip(bases, lengths, strict=True):
        veneer = base + 4 * length + 8
        code = [RET] * length
        for at in range(length):
            address = base + 4 * at
            if address in (old, new) or draw(st.booleans()):
                continue
            sites.append(address)
            near = -BRANCH_RANGE <= old - address < BRANCH_RANGE
            code[at] = encode_branch(draw(st.sampled_from([B, BL])), address, old if near else veneer)
        parts.append(Part(f".text{base:x}", base, words(*code) + bytes(8) + veneer_to(veneer, old)))
    return image(parts, names), sites, old, new


@given(layouts())
def test_wherever_the_functions_lie_every_call_comes_to_the_new_one_or_nothing_is_done(
    made: tuple[bytes, list[int], int, int],
) -> None:
    data, sites, old, new = made
    before = Elf(data, "made.elf")
    assert {site.address for site in call_sites(before, {old})} >= set(sites)
    try:
        after = redirected(before, old, new)
    except UserError as error:
        assert "unused bytes" in error.message  # noqa: PT017 - that it may also succeed is the point
        return
    for site in sites:
        assert leads(after, site) == new
    assert not [site for site in call_sites(after, {old}) if site.target == old]
    again = redirected(after, old, new)
    assert again.data == after.data


def test_a_veneer_that_cannot_be_turned_is_an_error_if_it_is_needed() -> None:
    """Its moves have 32 bits, and the new function is at an address of more."""
    high = 1 << 40
    code = words(encode_branch(BL, NEAR, NEAR + 8), RET, *moves(FAR, 2), BR16)
    parts = [Part(".text", NEAR, code), Part(".far", FAR, words(RET)), Part(".high", high, words(RET))]
    made = elf(parts, [Name("old", FAR, 4, section=2), Name("new", high, 4, section=3), Name("caller", NEAR, 8)])
    with pytest.raises(UserError, match="has no room for the address"):
        redirected(made, FAR, high)


def test_a_veneer_beyond_what_adrp_spans_is_out_of_range() -> None:
    with pytest.raises(OutOfRangeError):
        veneer_to(NEAR, NEAR + (1 << 33))


def test_a_veneer_an_original_is_called_by_is_left() -> None:
    made = called(Name("__old_veneer", NEAR + 8, 12))
    assert [each.address for each in Far(made, {FAR: NEAR + 4}, [NEAR + 4]).veneers] == [NEAR + 8]
    assert Far(made, {FAR: NEAR + 4}, [NEAR + 4], keeping=[NEAR]).veneers == []


def test_symbols_of_one_place_do_not_hide_each_other() -> None:
    made = called(Name("__old_veneer", NEAR + 8, 12, FUNC, LOCAL), Name("$x", NEAR + 8, 0, NOTYPE))
    assert len(call_sites(made, {FAR})) == 1
