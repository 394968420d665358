"""Every mode on a real kernel, run on both emulators; and images in which one redirect is wrong."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from buildsys.config.redirects import Redirection
from buildsys.errors import UserError
from buildsys.formats import a64
from buildsys.formats.modes import Mode
from buildsys.front.steps import Steps
from buildsys.machines import qemu
from buildsys.proof.case import Case
from buildsys.proof.claim import Result
from buildsys.proof.claims import call_sites, executions
from tests.binutils import binutils
from tests.machines.conftest import needs

from . import redirecting
from .conftest import OnlyRed
from .mutants import patched as mutant
from .redirecting import Made, all_ways, failed, said, sources

BL = 0x9400_0000
NOP = 0xD503_201F

CALLED = {
    "direct": 2,
    "tail": 2,
    "linkname": 2,
    "deferred": 2,
    "in a deferred closure": 2,
    "in a closure": 4,
    "method value": 12,
    "method": 12,
}
BY_ADDRESS = {
    "function value": 2,
    "method expression": 12,
    "interface": 12,
    "closure": 2,
    "closure that captures": 2,
    "formed in assembly": 2,
    "held by assembly": 2,
}
EVERY = CALLED | BY_ADDRESS


def replaced(ways: Iterable[str]) -> dict[str, int]:
    """What the kernel reports if the new functions ran: 1000 is added rather than 1; nothing is left of `deferred`."""
    return {way: 0 if way == "deferred" else EVERY[way] + 999 for way in ways}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Steps:
    return sources(tmp_path_factory.mktemp("plain") / "kernel")


@pytest.fixture(scope="module")
def pointing(tmp_path_factory: pytest.TempPathFactory) -> Steps:
    return sources(tmp_path_factory.mktemp("pointing") / "kernel", "pointers")


@pytest.fixture(scope="module")
def passing(tmp_path_factory: pytest.TempPathFactory) -> Steps:
    return sources(tmp_path_factory.mktemp("passing") / "kernel", "passing")


@pytest.fixture
def made(tmp_path: Path) -> Made:
    def make(built: Steps, *wanted: Redirection) -> Case:
        return redirecting.patched(built, tmp_path / "patched", *wanted)

    return make


@pytest.fixture(scope="module")
def called(plain: Steps, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """The kernel with its calls redirected; not to be changed."""
    families = [each for each in all_ways(Mode.CALLS) if "func1" not in each.old]
    return redirecting.patched(plain, tmp_path_factory.mktemp("called") / "kernel", *families)


@pytest.fixture(scope="module")
def entered(pointing: Steps, tmp_path_factory: pytest.TempPathFactory) -> Case:
    return redirecting.patched(pointing, tmp_path_factory.mktemp("entered") / "kernel", *all_ways(Mode.ENTRY))


@pytest.fixture(scope="module")
def pointed(pointing: Steps, tmp_path_factory: pytest.TempPathFactory) -> Case:
    wanted = all_ways(Mode.CALLS, pointers=True)
    return redirecting.patched(pointing, tmp_path_factory.mktemp("pointed") / "kernel", *wanted)


PASSING = {"main.workDirect": "main.passDirect", "main.(*thing).workDirectly": "main.passMethod"}


def pass_on(mode: Mode) -> list[Redirection]:
    return [Redirection(old, to, mode) for old, to in PASSING.items()]


def report(case: Case) -> dict[str, dict[str, Any]]:
    described = json.loads((case.image.parent / "patch.json").read_bytes())
    return {each["name"]: each for each in described["functions"] if each["kind"] == "redirect"}


def address(case: Case, name: str) -> int:
    return case.elf.symbols.addresses(name)[name]


# ---- each mode, run ----


def test_without_redirects_the_old_functions_run(pointing: Steps, made: Made) -> None:
    needs(qemu.PROGRAM, qemu.INSTALL)
    assert said(made(pointing)) == [EVERY, EVERY]


def test_calls_of_every_kind_are_redirected(called: Case) -> None:
    assert said(called) == [replaced(CALLED)] * 2
    assert not failed(called)


def test_at_the_entry_every_way_in_is_caught(entered: Case) -> None:
    assert said(entered) == [replaced(EVERY)] * 2
    assert not failed(entered)
    assert all(each["count"] == 1 for name, each in report(entered).items() if name != "runtime.deferreturn")


def test_both_at_once(pointing: Steps, made: Made) -> None:
    case = made(pointing, *all_ways(Mode.BOTH))
    assert said(case) == [replaced(EVERY)] * 2
    assert not failed(case)


def test_pointers_are_redirected_where_relocations_tell_them(pointed: Case) -> None:
    assert said(pointed) == [replaced(EVERY)] * 2
    assert not failed(pointed)
    told = report(pointed)
    for name in ("main.workValue", "main.thing.workExpression", "main.(*thing).workBehind", "main.literal.func1"):
        assert told[name]["rewritten"], name
        assert not told[name]["left"]


def test_with_the_tools_of_gnu_the_same(tmp_path_factory: pytest.TempPathFactory, made: Made) -> None:
    """GNU ld leaves ADRP and ADD as they are, lld makes ADR of them."""
    built = sources(tmp_path_factory.mktemp("gnu") / "kernel", "pointers", toolchain="gnu")
    case = made(built, *all_ways(Mode.CALLS, pointers=True))
    assert said(case) == [replaced(EVERY)] * 2
    assert not failed(case)


@pytest.mark.parametrize("way", ["main.workValue", "main.(*thing).workBehind", "main.capturing.func1", "main.workHeld"])
def test_a_function_whose_address_is_used_is_refused_in_the_mode_calls(pointing: Steps, made: Made, way: str) -> None:
    to = "main.otherPointer" if "thing" in way else "main.other"
    with pytest.raises(UserError, match=r"the kernel can reach .*, which is redirected") as caught:
        made(pointing, Redirection(way, to))
    assert 'mode = "both"' in caught.value.hint
    assert "pointers = true" in caught.value.hint


def test_results_agree_with_objdump_and_with_the_linkers_relocations(called: Case) -> None:
    olds = {address(called, one.name): one for one in called.redirected.values()}
    relocated = {
        int(fields[0], 16): int(fields[3], 16)
        for line in binutils("readelf", "-rW", called.unpatched).splitlines()
        if len(fields := line.split()) >= 5 and fields[2] in ("R_AARCH64_CALL26", "R_AARCH64_JUMP26")
    }
    wanted = {place: olds[goal] for place, goal in relocated.items() if goal in olds}
    assert len(wanted) >= len(CALLED)
    shown: dict[int, int] = {}
    for line in binutils("objdump", "-d", called.image).splitlines():
        fields = line.split()
        if len(fields) > 3 and fields[2] in ("b", "bl"):
            shown[int(fields[0].rstrip(":"), 16)] = int(fields[3], 16)
    for place, one in wanted.items():
        assert one.new
        assert shown[place] == one.new.value
    told = {int(site["address"], 16) for each in report(called).values() for site in each["sites"]}
    assert told == wanted.keys()


# ---- passing on ----


@pytest.mark.parametrize("mode", list(Mode))
def test_a_replacement_calls_the_original_by_its_name(passing: Steps, made: Made, mode: Mode) -> None:
    case = made(passing, *pass_on(mode))
    expected = CALLED | {"direct": 2002, "method": 2012}
    assert said(case) == [expected, expected]
    assert not failed(case)
    counted = executions.check(case).evidence
    for machine in counted.values():
        for old, to in PASSING.items():
            assert machine["redirects"][old] == {"to": to, "new": 1, "old": 1, "asked for": 1}


def test_all_of_it_at_once(tmp_path_factory: pytest.TempPathFactory, made: Made) -> None:
    """Pointers that were rewritten stay so where it is found out what an original called by name leads to."""
    built = sources(tmp_path_factory.mktemp("all") / "kernel", "pointers", "passing")
    taken = [each for each in all_ways(Mode.CALLS, pointers=True) if each.old != "main.(*thing).work*"]
    behind = Redirection("main.(*thing).workBehind", "main.otherPointer", pointers=True)
    case = made(built, *taken, behind, *pass_on(Mode.ENTRY))
    expected = replaced(EVERY) | {"direct": 2002, "method": 2012}
    assert said(case) == [expected, expected]
    assert not failed(case)


def test_calling_the_old_function_itself_is_refused_and_the_name_of_the_original_told(plain: Steps, made: Made) -> None:
    with pytest.raises(UserError) as caught:
        made(plain, Redirection("main.workDirect", "main.calls"))
    assert "main.calls calls main.workDirect at 0x" in caught.value.message
    assert "it would call itself for ever" in caught.value.message
    assert "the original as original.main.workDirect" in caught.value.hint


def test_an_original_nobody_redirects_is_refused(passing: Steps, made: Made) -> None:
    with pytest.raises(UserError) as caught:
        made(passing, Redirection("main.workDirect", "main.passDirect"))
    assert caught.value.message == (
        "original.main.(*thing).workDirectly is called, and main.(*thing).workDirectly is not redirected"
    )


def test_another_function_of_ones_own_may_stand_for_the_original(plain: Steps, made: Made) -> None:
    """Its body is never run: what it would add is not added."""
    case = made(plain, Redirection("main.workDirect", "main.workTail", original="main.workAlias"))
    assert said(case) == [CALLED] * 2
    stands, old = address(case, "main.workAlias"), address(case, "main.workDirect")
    assert a64.branch_target(case.elf.word(stands) or 0, stands) == old
    assert not failed(case)


# ---- what this build takes over, taken over by the kernel ----


def test_a_function_that_never_returns_needs_one_that_never_does(plain: Steps, made: Made) -> None:
    with pytest.raises(UserError) as caught:
        made(plain, Redirection("runtime.panic*", "main.nothing"))
    assert "which never returns, and returns at 0x" in caught.value.message


def test_a_barrier_stays_this_builds_own(plain: Steps, made: Made) -> None:
    with pytest.raises(UserError, match="it is taken over already"):
        made(plain, Redirection("runtime.gcWriteBarrier2", "main.nothing"))


@pytest.mark.parametrize("mode", list(Mode))
def test_flag_readers_may_be_the_kernels(plain: Steps, made: Made, mode: Mode) -> None:
    case = made(plain, Redirection("runtime.wbZero", "main.nothing", mode, allow=("signature",)))
    assert not failed(case)
    assert report(case)["runtime.wbZero"]["instead_of"] == "reader"


# ---- mutants ----


def changed(case: Case, folder: Path, place: int, word: int) -> Case:
    return mutant(case, folder, {place: word.to_bytes(4, "little")})


def site_of(case: Case, name: str) -> int:
    return int(report(case)[name]["sites"][0]["address"], 16)


def test_a_call_that_was_not_redirected_is_seen(called: Case, tmp_path: Path, only_red: OnlyRed) -> None:
    place = site_of(called, "main.workDirect")
    before = called.before.word(place)
    assert before
    case = changed(called, tmp_path, place, before)
    verdict = only_red("a redirect at calls: one call left", case, "call-sites")
    assert "the call of main.workDirect at" in verdict.figure
    ran = executions.check(case)
    assert ran.result is Result.FAILED
    assert "main.workDirect at" in ran.figure
    assert "main.other was to take its place" in ran.figure


def test_a_call_sent_to_another_function_is_seen(called: Case, tmp_path: Path, only_red: OnlyRed) -> None:
    place = site_of(called, "main.workDirect")
    case = changed(called, tmp_path, place, a64.encode_branch(BL, place, address(called, "main.nothing")))
    verdict = only_red("a redirect at calls: a call goes elsewhere", case, "call-sites")
    assert "goes to" in verdict.figure
    assert "in main.nothing" in verdict.figure


def test_an_entry_that_is_as_it_was_is_seen(entered: Case, tmp_path: Path, only_red: OnlyRed) -> None:
    place = address(entered, "main.workValue")
    before = entered.before.word(place)
    assert before
    case = changed(entered, tmp_path, place, before)
    verdict = only_red("a redirect at the entry: not made", case, "call-sites")
    assert "the entry of main.workValue" in verdict.figure
    ran = executions.check(case)
    assert ran.result is Result.FAILED or "main.workValue" in "\n".join(ran.details)


def test_an_entry_that_goes_elsewhere_is_seen(entered: Case, tmp_path: Path, only_red: OnlyRed) -> None:
    place = address(entered, "main.workValue")
    case = changed(entered, tmp_path, place, a64.encode_branch(a64.BRANCH, place, address(entered, "main.nothing")))
    assert (
        "the entry of main.workValue" in only_red("a redirect at the entry: goes elsewhere", case, "call-sites").figure
    )


def test_a_pointer_that_was_left_is_seen(pointed: Case, tmp_path: Path, only_red: OnlyRed) -> None:
    place = int(report(pointed)["main.workValue"]["rewritten"][0]["address"], 16)
    case = mutant(pointed, tmp_path, {place: address(pointed, "main.workValue").to_bytes(8, "little")})
    verdict = only_red("a redirect of pointers: one left", case, "call-sites")
    assert "what refers to main.workValue at" in verdict.figure
    assert "does not refer to main.other" in verdict.figure
    assert executions.check(case).result is Result.FAILED


def test_an_address_formed_as_before_is_seen(pointed: Case, tmp_path: Path, only_red: OnlyRed) -> None:
    place = int(report(pointed)["main.capturing.func1"]["rewritten"][0]["address"], 16)
    before = pointed.before.word(place)
    assert before
    verdict = only_red(
        "a redirect of pointers: an address formed", changed(pointed, tmp_path, place, before), "call-sites"
    )
    assert "what refers to main.capturing.func1 at" in verdict.figure


def test_a_pointer_sent_elsewhere_is_seen(pointed: Case, tmp_path: Path, only_red: OnlyRed) -> None:
    place = int(report(pointed)["main.workValue"]["rewritten"][0]["address"], 16)
    case = mutant(pointed, tmp_path, {place: address(pointed, "main.nothing").to_bytes(8, "little")})
    only_red("a redirect of pointers: one goes elsewhere", case, "call-sites")


@pytest.mark.parametrize("mode", [Mode.CALLS, Mode.ENTRY])
def test_what_stands_for_an_original_and_goes_elsewhere_is_seen(
    passing: Steps, made: Made, tmp_path: Path, only_red: OnlyRed, mode: Mode
) -> None:
    good = made(passing, *pass_on(mode))
    place = address(good, "original.main.workDirect") + (4 if mode is Mode.ENTRY else 0)
    word = a64.encode_branch(a64.BRANCH, place, address(good, "main.workTail"))
    case = changed(good, tmp_path, place, word)
    verdict = only_red(f"an original by name, mode {mode}: goes elsewhere", case, "call-sites")
    assert "what stands for the original of main.workDirect" in verdict.figure
    ran = executions.check(case)
    assert ran.result is Result.FAILED
    assert "ran 0 times, and original.main.workDirect was called 1 times" in ran.figure


def test_an_original_that_runs_unasked_is_seen(passing: Steps, made: Made, tmp_path: Path, only_red: OnlyRed) -> None:
    good = made(passing, *pass_on(Mode.CALLS))
    place = site_of(good, "main.workDirect")
    before = good.before.word(place)
    assert before
    case = changed(good, tmp_path, place, before)
    only_red("an original by name: called unasked as well", case, "call-sites")
    ran = executions.check(case)
    assert "ran 1 times, and original.main.workDirect was called 0 times" in ran.figure


def test_a_replaced_first_instruction_that_was_lost_is_seen(
    passing: Steps, made: Made, tmp_path: Path, only_red: OnlyRed
) -> None:
    good = made(passing, *pass_on(Mode.ENTRY))
    case = changed(good, tmp_path, address(good, "original.main.workDirect"), NOP)
    verdict = only_red("an original by name: its first instruction lost", case, "call-sites")
    assert f"is {NOP:08x}, not " in verdict.figure


def test_what_the_claims_say_names_every_redirect(called: Case) -> None:
    told = call_sites.check(called)
    sites = sum(len(each["sites"]) for each in report(called).values())
    assert f"{sites} of the kernel's redirects" in told.figure
    assert any("calls of main.workDirect, to main.other" in line for line in told.details)
    assert any(
        "main.other, which takes the place of main.workDirect" in line for line in executions.check(called).details
    )
