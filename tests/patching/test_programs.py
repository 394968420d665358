"""C programs are redirected and run, and do what they do when built with the replacement written in."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from buildsys.errors import UserError
from buildsys.formats import a64
from buildsys.formats.elf import Elf
from buildsys.patching import Report, redirect
from tests.binutils import binutils
from tests.formats.disassembly import listing

from .conftest import LEVELS, LINKERS, Compiled, run
from .programs import FIRST, SECOND, SHAPES

MODES = {
    "calls": ("CALLED=fresh",),
    "entry": ("CALLED=fresh", "POINTED=fresh"),
    "both": ("CALLED=fresh", "POINTED=fresh"),
}
# Where the functions lie: all near, either far from the other.
PLACES: dict[str, tuple[str, ...]] = {"near": (), "old far": ("FAR_OLD=FAR",), "new far": ("FAR_NEW=FAR",)}

every_linker = pytest.mark.parametrize("linker", LINKERS)
every_level = pytest.mark.parametrize("level", LEVELS)


def patched(image: Path, folder: Path, old: str, new: str, mode: str = "calls") -> tuple[Report, Path]:
    report = redirect(image, {old: new}, mode)
    made = folder / "patched.elf"
    made.write_bytes(report.contents)
    return report, made


@every_linker
@every_level
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("place", PLACES)
def test_a_redirected_program_does_what_one_with_the_replacement_written_in_does(
    linked: Compiled, tmp_path: Path, linker: str, level: str, mode: str, place: str
) -> None:
    plain = linked(linker, level, SHAPES, macros=PLACES[place])
    written = linked(linker, level, SHAPES, macros=(*PLACES[place], *MODES[mode]))
    _, made = patched(plain, tmp_path, "old", "fresh", mode)
    assert run(made) == run(written) != run(plain)


@every_linker
@every_level
@pytest.mark.parametrize("mode", MODES)
def test_a_replacement_can_call_the_original(
    linked: Compiled, tmp_path: Path, linker: str, level: str, mode: str
) -> None:
    plain = linked(linker, level, SHAPES)
    macros = tuple(each.replace("fresh", "passing") for each in MODES[mode])
    written = linked(linker, level, SHAPES, macros=(*macros, "ORIGINAL=old"))
    report, made = patched(plain, tmp_path, "old", "passing", mode)
    assert run(made) == run(written)
    assert report.redirects[0].original == Elf.read(plain).symbols.addresses("original.old")["original.old"]


@every_linker
@every_level
@pytest.mark.parametrize("place", PLACES)
def test_the_sites_are_those_the_linker_relocated(
    linked: Compiled, tmp_path: Path, linker: str, level: str, place: str
) -> None:
    """The relocations name the function, whether a veneer is on the way or not."""
    image = linked(linker, level, SHAPES, macros=PLACES[place])
    elf = Elf.read(image)
    old = elf.symbols.addresses("old")["old"]
    relocated = set()
    for found in re.finditer(
        r"^([0-9a-f]{16}) +\S+ R_AARCH64_(?:CALL|JUMP)26 +([0-9a-f]{16}) \S+ \+ ([0-9a-f]+)$",
        binutils("readelf", "-rW", image),
        re.MULTILINE,
    ):
        if int(found[2], 16) + int(found[3], 16) == old:
            relocated.add(int(found[1], 16))
    assert len(relocated) >= 8
    report, _ = patched(image, tmp_path, "old", "fresh")
    assert {site.address for site in report.redirects[0].sites} == relocated


@every_linker
@every_level
def test_objdump_shows_no_call_left_and_nothing_else_changed(
    linked: Compiled, tmp_path: Path, linker: str, level: str
) -> None:
    image = linked(linker, level, SHAPES, macros=("DISTANT=SELF",))
    report, made = patched(image, tmp_path, "old", "fresh")
    before, after = listing(image), listing(made)
    goals = Elf.read(image).symbols.addresses("old", "fresh", "original.old")
    calls = {at for at, (_, shown) in before.items() if shown.mnemonic in ("b", "bl") and shown.target == goals["old"]}
    # A function's own branch back to its first instruction would be none; this one has no such loop.
    assert calls == {site.address for site in report.redirects[0].sites}
    assert {at for at in before if before[at] != after[at]} == calls | {goals["original.old"]}
    for at in calls:
        assert after[at][1].target == goals["fresh"]
        assert a64.is_bl(after[at][0]) == a64.is_bl(before[at][0])
    assert {site.kind for site in report.redirects[0].not_reached} >= {"pointer"}


@every_linker
@every_level
def test_what_calls_do_not_reach_is_told(linked: Compiled, tmp_path: Path, linker: str, level: str) -> None:
    image = linked(linker, level, SHAPES)
    (told,) = redirect(image, {"old": "fresh"}).redirects
    table = Elf.read(image).symbols.addresses("table")["table"]
    kinds = {way.kind: way.address for way in told.not_reached}
    assert kinds["pointer"] == table
    formed = listing(image)[kinds["formed"]][1]
    assert formed.mnemonic in ("add", "adr")
    (told,) = redirect(image, {"old": "fresh"}, "entry").redirects
    assert told.not_reached == ()


@every_linker
@every_level
def test_of_two_functions_of_one_name_the_one_at_the_address_is_redirected(
    linked: Compiled, tmp_path: Path, linker: str, level: str
) -> None:
    image = linked(linker, level, FIRST, SECOND)
    assert run(image) == "1first 101\n22second 405\n"
    with pytest.raises(UserError, match="helper is 2 functions") as caught:
        redirect(image, {"helper": "replaced"})
    assert caught.value.hint == "name one by its address"
    places = re.findall(r"0x[0-9a-f]+", caught.value.message)
    outputs = set()
    for place in places:
        report, made = patched(image, tmp_path, place, "replaced")
        assert report.redirects[0].old == "helper"
        outputs.add(run(made))
    assert outputs == {"rfirst 501\n22second 405\n", "1first 101\nrrsecond 1005\n"}


@every_linker
def test_patching_again_changes_nothing(linked: Compiled, tmp_path: Path, linker: str) -> None:
    for place in PLACES.values():
        for mode in MODES:
            image = linked(linker, "-O2", SHAPES, macros=place)
            report, made = patched(image, tmp_path, "old", "passing", mode)
            again = redirect(made, {"old": "passing"}, mode)
            assert report.changed
            assert not again.changed
            assert again.contents == report.contents


@every_linker
def test_all_that_is_far_is_reached_by_a_veneer(linked: Compiled, tmp_path: Path, linker: str) -> None:
    image = linked(linker, "-O2", SHAPES, macros=("FAR_NEW=FAR",))
    report, made = patched(image, tmp_path, "old", "fresh")
    assert report.islands
    elf, fresh = Elf.read(made), Elf.read(image).symbols.addresses("fresh")["fresh"]
    by_island = [site for site in report.redirects[0].sites if site.ours]
    assert by_island
    for site in by_island:
        assert a64.branch_target(elf.word(site.address) or 0, site.address) in report.islands
    shown = listing(made)
    for island in report.islands:
        assert any(island in section for section in elf.code)
        assert [shown[island + at][0] for at in (0, 4, 8)] == [elf.word(island + at) for at in (0, 4, 8)]
        page = (a64.adrp(elf.word(island) or 0, island) or (0, 0))[1]
        assert page + (a64.add_immediate(elf.word(island + 4) or 0) or (0, 0, 0))[2] == fresh
