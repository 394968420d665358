"""The claim that every call was redirected and nothing else changed, and images of which that is not true."""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from buildsys.formats import a64, addresses, identity
from buildsys.formats.callsites import CallSite
from buildsys.formats.elf import SHF_ALLOC, SHF_EXECINSTR, Section
from buildsys.proof.case import Case
from buildsys.proof.claims import call_sites
from tests.binutils import binutils

from .conftest import OnlyRed
from .mutants import of_files, patched

BL, CBZ_X27 = 0x9400_0000, 0xB400_001B
ADRP_X9, ADD_X9, BLR_X9 = 0x9000_0009, 0x9100_0129, 0xD63F_0120
BARRIER, READER = "runtime.gcWriteBarrier1", "runtime.wbZero"


def word(case: Case, address: int) -> int:
    found = case.elf.word(address)
    assert found is not None
    return found


def with_words(case: Case, folder: Path, address: int, *new: int, linked: bool = False) -> Case:
    return patched(case, folder, {address: struct.pack(f"<{len(new)}I", *new)}, linked=linked)


def old(case: Case, name: str) -> int:
    function = case.pairs[name].old
    assert function
    return function.value


def new(case: Case, name: str) -> int:
    function = case.pairs[name].new
    assert function
    return function.value


def unreachable_site(case: Case, accepts: Callable[[CallSite], bool] = lambda site: True) -> CallSite:
    """A redirected call that is no part of a check and in code no run comes to: only this claim looks at it."""
    checks = {at for load in case.flag_loads for at in load.calls}
    return next(
        site
        for site in case.sites
        if site.address not in checks and function_of(case, site.address) not in reachable(case) and accepts(site)
    )


def reachable(case: Case) -> set[str]:
    return {function.name for function in case.reach.functions.values()}


def function_of(case: Case, address: int) -> str:
    function = case.elf.symbols.function_at(address)
    assert function
    return function.name


def stack_growth(case: Case) -> int:
    """The last instructions of the entry: MOV X3, X30 and the BL of runtime.morestack; here the first of the two."""
    _, base, words = case.code.body(case.elf.symbols.addresses(case.entry)[case.entry])
    growth = {pair.old.value for name, pair in case.entered.items() if "morestack" in name and pair.old}
    return next(
        base + 4 * (at - 1) for at, word in enumerate(words) if a64.branch_target(word, base + 4 * at) in growth
    )


def section(case: Case, name: str) -> Section:
    found = case.elf.section(name)
    assert found
    return found


def test_the_reference_kernel_passes(case: Case) -> None:
    verdict = call_sites.check(case)
    assert verdict.passed, verdict.details
    counts = verdict.evidence["counts"]
    assert counts.keys() == set(case.called)
    assert all(each["decoded"] == each["linked"] == each["compiled"] for each in counts.values())
    assert sum(each["decoded"] for each in counts.values()) > 400


def test_objdump_counts_as_many_calls(case: Case) -> None:
    text = binutils("objdump", "-d", "--no-show-raw-insn", str(case.image))
    counts = call_sites.check(case).evidence["counts"]
    for name, count in counts.items():
        goal = f"{new(case, name):x} <"
        assert sum("\tbl\t" in line and goal in line for line in text.splitlines()) == count["decoded"], name


def test_the_linkers_relocations_are_those_that_readelf_tells(case: Case) -> None:
    said = binutils("readelf", "-rW", str(case.unpatched)).splitlines()
    shown = {
        int(fields[0], 16)
        for fields in (line.split() for line in said)
        if len(fields) > 4 and fields[2] == "R_AARCH64_CALL26" and int(fields[3], 16) == old(case, BARRIER)
    }
    linked = call_sites.relocated(case.before, [BARRIER])
    assert linked.keys() == shown
    assert len(shown) > 50


def test_a_call_left_as_it_was_is_seen(case: Case, tmp_path: Path, only_red: OnlyRed) -> None:
    site = unreachable_site(case)
    name = case.names[site.target]
    mutant = with_words(case, tmp_path, site.address, a64.encode_branch(site.word, site.address, old(case, name)))
    said = only_red("one call left as it was", mutant, "call-sites")
    assert f"{name} is still called at {site.address:#x} in {function_of(case, site.address)}" == said.figure
    assert not any("both images" in line for line in said.details)


def test_a_backward_call_with_its_sign_broken_is_seen(case: Case, tmp_path: Path, only_red: OnlyRed) -> None:
    site = unreachable_site(case, lambda site: site.target < site.address)
    mutant = with_words(case, tmp_path, site.address, site.word ^ 1 << 25)
    said = only_red("a backward call's sign broken", mutant, "call-sites")
    assert (
        f"the call of {case.names[site.target]} at {site.address:#x} in {function_of(case, site.address)}"
        in said.figure
    )
    assert f"goes to {site.target + (1 << 27):#x} in no function" in said.figure


def test_a_call_overwritten_is_seen(case: Case, tmp_path: Path, only_red: OnlyRed) -> None:
    site = unreachable_site(case)
    said = only_red("a call made a nop", with_words(case, tmp_path, site.address, 0xD503_201F), "call-sites")
    assert f"the call of {case.names[site.target]} at {site.address:#x}" in said.figure
    assert said.figure.endswith("is no branch")


def test_a_call_sent_to_another_of_our_functions_is_seen(case: Case, tmp_path: Path, only_red: OnlyRed) -> None:
    site = unreachable_site(case)
    mutant = with_words(case, tmp_path, site.address, a64.encode_branch(site.word, site.address, new(case, READER)))
    said = only_red("a call sent to the wrong function of ours", mutant, "call-sites")
    assert f"the call of {case.names[site.target]} at {site.address:#x}" in said.figure
    assert said.figure.endswith(f"goes to {READER}")


def test_a_call_made_a_jump_is_seen(case: Case, tmp_path: Path, only_red: OnlyRed) -> None:
    site = unreachable_site(case)
    said = only_red("a bl made a b", with_words(case, tmp_path, site.address, site.word ^ 1 << 31), "call-sites")
    assert f"the call to {case.names[site.target]} at {site.address:#x}" in said.figure
    assert said.figure.endswith("has become a `b`")


def test_an_unrelated_call_sent_to_a_barrier_is_seen(case: Case, tmp_path: Path, only_red: OnlyRed) -> None:
    """It is a difference of the images, too; and it stands behind no check of the flag, another claim's concern."""
    _, base, words = case.code.body(case.elf.symbols.addresses("runtime.gcDrain")["runtime.gcDrain"])
    served = {site.address for site in case.sites}
    at = next(base + 4 * i for i, each in enumerate(words) if a64.is_bl(each) and base + 4 * i not in served)
    mutant = with_words(case, tmp_path, at, a64.encode_branch(BL, at, new(case, BARRIER)))
    said = only_red("a call of something else sent to ours", mutant, "call-sites", {"barriers"})
    assert said.figure == f"{at:#x} in runtime.gcDrain goes to our {BARRIER}, and called no such function"
    assert f"a word that is no call site was changed at {at:#x} in runtime.gcDrain" in said.details


def test_a_changed_word_of_code_is_seen(case: Case, tmp_path: Path, only_red: OnlyRed) -> None:
    at = case.elf.symbols.addresses("runtime.gcDrain")["runtime.gcDrain"] + 8
    said = only_red("a word of other code changed", with_words(case, tmp_path, at, word(case, at) ^ 1), "call-sites")
    assert said.figure == f"a word that is no call site was changed at {at:#x} in runtime.gcDrain"


@pytest.mark.parametrize("name", [".rodata", ".data"])
def test_a_changed_word_of_data_is_seen(case: Case, tmp_path: Path, only_red: OnlyRed, name: str) -> None:
    place = section(case, name)
    at = place.address + (place.size // 2 & ~7)
    variable = case.elf.symbols.object_at(at)
    assert variable
    said = only_red(f"a word of {name} changed", with_words(case, tmp_path, at, word(case, at) ^ 1 << 30), "call-sites")
    assert said.figure == f"a word that is no call site was changed at {at:#x} in {variable.name}"


@pytest.mark.parametrize("change", [-1, 1])
def test_another_length_is_seen(case: Case, tmp_path: Path, only_red: OnlyRed, change: int) -> None:
    """What ends the file are section headers, which may not be cut: something in front of them is."""
    data, image = case.elf.data, tmp_path / "mutant.elf"
    if change < 0:
        (table,) = struct.unpack_from("<Q", data, 40)
        data = data[:40] + struct.pack("<Q", table - 8) + data[48 : table - 8] + data[table:]
    else:
        data += bytes(8)
    image.write_bytes(data)
    said = only_red(f"the file {8 * change:+} bytes", of_files(case, image, case.unpatched), "call-sites")
    assert said.figure == f"the patched image has {len(data)} bytes, the unpatched one {len(case.before.data)}"


def test_an_entry_not_redirected_is_seen(case: Case, tmp_path: Path, only_red: OnlyRed) -> None:
    name = "runtime.gopanic"
    at = old(case, name)
    before = case.before.word(at)
    assert before is not None
    said = only_red("the entry of a panic left as it was", with_words(case, tmp_path, at, before), "call-sites")
    assert said.figure == f"{name} at {at:#x} does not begin with a branch to ours"


def test_a_conditional_branch_to_an_old_function_is_seen(case: Case, tmp_path: Path, only_red: OnlyRed) -> None:
    at, goal = stack_growth(case), old(case, BARRIER)
    mutant = with_words(case, tmp_path, at, CBZ_X27 | (goal - at >> 2 & 0x7FFFF) << 5, linked=True)
    assert a64.conditional_target(word(mutant, at), at) == goal
    said = only_red("a cbz to an old barrier", mutant, "call-sites")
    assert said.figure == f"{BARRIER} is reached by a conditional branch at {at:#x} in {case.entry}"


def address_formed(case: Case, folder: Path, at: int, goal: int) -> Case:
    """ADRP and ADD of `goal` at `at`."""
    pages = (goal >> 12) - (at >> 12)
    adrp = ADRP_X9 | (pages & 3) << 29 | (pages >> 2 & 0x7FFFF) << 5
    assert a64.adrp(adrp, at) == (9, goal & ~0xFFF)
    return with_words(case, folder, at, adrp, ADD_X9 | (goal & 0xFFF) << 10, linked=True)


def test_the_address_of_an_old_function_formed_where_it_can_run_is_seen(
    case: Case, tmp_path: Path, only_red: OnlyRed
) -> None:
    at = stack_growth(case)
    mutant = address_formed(case, tmp_path, at, old(case, BARRIER))
    said = only_red("adrp, add of an old barrier", mutant, "call-sites")
    assert said.figure.startswith(f"the address of {BARRIER} is formed at {at + 4:#x} in {case.entry}; it is reached: ")
    assert said.figure.endswith(case.entry)


def test_the_address_of_an_old_function_formed_where_nothing_runs_does_no_harm(case: Case, tmp_path: Path) -> None:
    at = case.elf.symbols.addresses("runtime.gcDrain")["runtime.gcDrain"]
    assert "runtime.gcDrain" not in reachable(case)
    mutant = address_formed(case, tmp_path, at, old(case, BARRIER))
    assert [use.address for _, use in addresses.formed(mutant.elf, mutant.code, [old(case, BARRIER)])] == [at + 4]
    assert call_sites.check(mutant).passed


def pointer(case: Case, folder: Path, at: int) -> Case:
    return patched(case, folder, {at: struct.pack("<Q", old(case, BARRIER))}, linked=True)


def method(case: Case) -> int:
    """Where an interface's table holds the address of a method of the kernel's that is called through it."""
    wanted = {at for at, function in case.reach.functions.items() if function.name == "main.(*counter).add"}
    data = section(case, ".data")
    contents = case.elf.contents(data)
    return next(
        data.address + at
        for at in range(0, data.size - 7, 8)
        if int.from_bytes(contents[at : at + 8], "little") in wanted
    )


def test_a_pointer_to_an_old_function_that_is_called_is_seen(case: Case, tmp_path: Path, only_red: OnlyRed) -> None:
    at = method(case)
    said = only_red("a method's pointer to an old barrier", pointer(case, tmp_path, at), "call-sites")
    assert f"holds a pointer to {BARRIER} at {at:#x}; it is reached: " in said.figure
    assert said.figure.endswith(f"main.checkInterfaces → {BARRIER}")


def test_a_pointer_to_an_old_function_among_code_is_seen(case: Case, tmp_path: Path, only_red: OnlyRed) -> None:
    at = case.elf.symbols.addresses("runtime.gcDrain")["runtime.gcDrain"] + 12
    said = only_red("an old barrier's address among code", pointer(case, tmp_path, at), "call-sites")
    assert said.figure == f"a pointer to {BARRIER} is among code at {at:#x} in runtime.gcDrain"


def test_a_pointer_in_no_variable_is_seen(case: Case, tmp_path: Path, only_red: OnlyRed) -> None:
    at = next(
        at
        for place in case.elf.sections
        if place.flags & SHF_ALLOC and place.in_file and not place.flags & SHF_EXECINSTR
        for at in range(place.address + -place.address % 8, place.end - 7, 8)
        if case.elf.symbols.object_at(at) is None
    )
    said = only_red("an old barrier's address in no variable", pointer(case, tmp_path, at), "call-sites")
    assert said.figure == f"a pointer to {BARRIER} is at {at:#x}, in no variable"


def identified(case: Case, folder: Path, at: int, data: bytes) -> list[str]:
    """What is said of the image with other bytes at `at` of its file, or behind its end."""
    whole = case.image.read_bytes()
    image = folder / "mutant.elf"
    image.write_bytes(whole[:at] + data + whole[at + len(data) :])
    details = call_sites.check(dataclasses.replace(case, image=image)).details
    return [each for each in details if "the image says that it is" in each]


def test_a_byte_anywhere_that_is_not_as_it_was_when_it_was_identified_is_seen(case: Case, tmp_path: Path) -> None:
    size = case.image.stat().st_size
    place = identity.place(case.elf)
    assert place is not None
    carried = case.elf.file_offset(place) or 0
    debug = case.elf.section(".debug_line")
    assert debug is not None
    assert identified(case, tmp_path, 0, b"") == []
    for at in (8, carried, carried + identity.SIZE - 1, debug.offset + debug.size // 2, size - 1, size):
        before = case.elf.data[at : at + 1] or b"\0"
        assert len(identified(case, tmp_path, at, bytes([before[0] ^ 1]))) == 1, hex(at)


def test_an_image_of_another_configuration_is_seen(case: Case) -> None:
    told = case.configuration()
    assert told is not None
    other = dataclasses.replace(case, configuration=lambda: told.replace(b"main.KernelMain", b"main.Other"))
    verdict = call_sites.check(other)
    assert (verdict.passed, len(verdict.evidence["problems"])) == (False, 1)
    assert "the image says that it is" in verdict.figure
