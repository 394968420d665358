"""The claim about who reads the flag, and images with one reader too many."""

from __future__ import annotations

import struct
from itertools import pairwise
from pathlib import Path

from buildsys.formats import a64
from buildsys.formats.elf import Elf
from buildsys.formats.references import Reference
from buildsys.go.flag import FLAG_BYTES, Judgement
from buildsys.go.runtime import FLAG
from buildsys.proof.case import Case
from buildsys.proof.claims import flag_readers
from tests.binutils import binutils

from .conftest import OnlyRed
from .mutants import edited, patched

CBZ = 0x3400_0000
BARRIERS_TOO = {"barriers"}  # its barrier call then stands behind no check
RELA_BYTES = 24


def word(case: Case, address: int) -> int:
    found = case.code.word(address)
    assert found is not None
    return found


def with_words(case: Case, folder: Path, address: int, *new: int) -> Case:
    return patched(case, folder, {address: struct.pack(f"<{len(new)}I", *new)}, linked=True)


def reachable_check(case: Case, calls: str = "runtime.gcWriteBarrier2") -> Judgement:
    """A check in the kernel, as the compiler writes most: ADRP, LDR, CBZ, and then the call of `calls` first."""
    found = next(
        load
        for load in case.flag_loads
        if load.accounted
        and load.read.function
        and load.read.function.value in case.reach.functions
        and load.branch == load.read.address + 4
        and word(case, load.branch) & 0xFF00_0000 == CBZ
        and case.names.get(a64.branch_target(word(case, load.calls[0]), load.calls[0]) or 0) == calls
    )
    assert found.read.function
    assert found.read.function.name.startswith(("main.", "kernel/"))
    return found


def reader(case: Case, name: str) -> Reference:
    """A load in the function `name` that is no check."""
    return next(
        load.read
        for load in case.flag_loads
        if load.read.function and load.read.function.name == name and not load.accounted
    )


def test_the_reference_kernel_passes(case: Case) -> None:
    verdict = flag_readers.check(case)
    assert verdict.passed, verdict.details
    evidence = verdict.evidence
    assert evidence["loads"] == evidence["checks"] + evidence["in functions taken over"] + evidence["unreachable"]
    assert min(evidence["checks"], evidence["in functions taken over"], evidence["unreachable"]) > 0
    assert verdict.figure.startswith(f"{evidence['loads']} loads: {evidence['checks']} checks, ")
    assert evidence["readers"]["runtime.bulkBarrierPreWrite"] == "in functions taken over"
    assert evidence["readers"]["runtime.gcDrain"] == "unreachable"
    assert evidence["sizes"].keys() == {"1", "4"}


def test_objdump_finds_as_many_places(case: Case) -> None:
    """Neither this project's decoder nor its reader of relocations has a part in it."""
    text = binutils("objdump", "-d", "--no-show-raw-insn", str(case.image))
    page, offset = f"{case.flag & ~0xFFF:x} <", f"#{case.flag & 0xFFF}]"
    lines = text.splitlines()
    loads = sum(
        "adrp" in line and page in line and "ldr" in after and after.endswith(offset) for line, after in pairwise(lines)
    )
    assert loads == len(case.flag_loads) > 400


def test_a_check_that_calls_the_runtimes_own_barrier_is_seen(case: Case, tmp_path: Path, only_red: OnlyRed) -> None:
    """A call site left as it was: three claims are about it."""
    check = reachable_check(case)
    site = check.calls[0]
    old = case.pairs["runtime.gcWriteBarrier2"].old
    assert old
    mutant = patched(case, tmp_path, {site: a64.encode_branch(word(case, site), site, old.value).to_bytes(4, "little")})
    verdict = only_red("a reachable barrier call un-redirected", mutant, "flag-readers", {"call-sites", "barriers"})
    function = check.read.function
    assert function
    assert f"{function.name} reads {FLAG} at {check.read.address:#x}" in verdict.figure
    assert f"at {site:#x}, runtime.gcWriteBarrier2 at {old.value:#x}, which is not ours" in verdict.figure
    assert f"it is reached: {case.entry} → " in verdict.figure


def test_a_move_left_to_the_runtime_is_seen(case: Case, tmp_path: Path, only_red: OnlyRed) -> None:
    check = reachable_check(case, "runtime.wbMove")
    site = check.calls[0]
    old = case.pairs["runtime.wbMove"].old
    assert old
    mutant = patched(case, tmp_path, {site: a64.encode_branch(word(case, site), site, old.value).to_bytes(4, "little")})
    verdict = only_red("wbMove reachable, not redirected", mutant, "flag-readers", {"call-sites", "barriers"})
    assert f"runtime.wbMove at {old.value:#x}, which is not ours" in verdict.figure


def test_a_check_whose_branch_is_gone_is_seen(case: Case, tmp_path: Path, only_red: OnlyRed) -> None:
    check = reachable_check(case)
    assert check.branch
    mutant = with_words(case, tmp_path, check.branch, 0xD503_201F)
    verdict = only_red("the cbz of a reachable check a nop", mutant, "flag-readers", BARRIERS_TOO)
    assert f"at {check.read.address:#x}, and no branch that tests it follows" in verdict.figure


def test_a_check_of_another_register_is_seen(case: Case, tmp_path: Path, only_red: OnlyRed) -> None:
    check = reachable_check(case)
    mutant = with_words(case, tmp_path, check.read.address, word(case, check.read.address) ^ 1)
    verdict = only_red("the flag loaded into another register", mutant, "flag-readers", BARRIERS_TOO)
    assert f"{check.read.address:#x}" in verdict.figure


def test_a_check_turned_round_is_seen(case: Case, tmp_path: Path, only_red: OnlyRed) -> None:
    check = reachable_check(case)
    assert check.branch
    mutant = with_words(case, tmp_path, check.branch, word(case, check.branch) ^ 1 << 24)
    verdict = only_red("a reachable cbz made cbnz", mutant, "flag-readers", BARRIERS_TOO)
    assert f"{check.read.address:#x}" in verdict.figure


def test_a_check_of_the_word_after_the_flag_is_seen(case: Case, tmp_path: Path, only_red: OnlyRed) -> None:
    check = reachable_check(case)
    mutant = with_words(case, tmp_path, check.read.address, word(case, check.read.address) + (1 << 10))
    verdict = only_red("the flag's address off by 4 in one check", mutant, "flag-readers", BARRIERS_TOO)
    assert f"the instruction at {check.read.placed:#x} in " in " ".join(verdict.details)
    assert f"refers to {FLAG} by the linker's relocations, but decoded it does not use it" in verdict.figure


def test_a_load_the_linker_knows_nothing_of_is_seen(case: Case, tmp_path: Path, only_red: OnlyRed) -> None:
    """Two instructions of the kernel become ADRP and LDRB of the flag."""
    entry = case.elf.symbols.named(case.entry)[case.entry][0]
    at = entry.value + 12
    pages = (case.flag >> 12) - (at >> 12)
    adrp = 0x9000_0009 | (pages & 3) << 29 | (pages >> 2 & 0x7FFFF) << 5
    ldrb = 0x3940_0000 | (case.flag & 0xFFF) << 10 | 9 << 5 | 10
    verdict = only_red("a stray load of the flag", with_words(case, tmp_path, at, adrp, ldrb), "flag-readers")
    assert f"{case.entry} reads {FLAG} at {at + 4:#x}" in verdict.figure
    assert any(
        detail
        == f"the instruction at {at + 4:#x} in {case.entry} uses {FLAG}, but no relocation of the linker's says so"
        for detail in verdict.details
    )


def test_a_reader_that_becomes_reachable_is_seen(case: Case, tmp_path: Path, only_red: OnlyRed) -> None:
    """One call of the kernel goes to the allocator instead."""
    entry = case.elf.symbols.named(case.entry)[case.entry][0]
    read = reader(case, "runtime.mallocgcLarge")
    assert read.function
    main = case.elf.symbols.named("main.run")["main.run"][0].value
    site = next(at for at in range(entry.value, entry.end, 4) if a64.branch_target(word(case, at), at) == main)
    mutant = with_words(case, tmp_path, site, a64.encode_branch(word(case, site), site, read.function.value))
    verdict = only_red("the allocator called by the kernel", mutant, "flag-readers")
    assert verdict.figure.startswith(f"runtime.mallocgcLarge reads {FLAG} at {read.address:#x}")
    assert verdict.figure.endswith(f"it is reached: {case.entry} → runtime.mallocgcLarge")


def test_an_original_that_can_run_is_seen(case: Case, tmp_path: Path, only_red: OnlyRed) -> None:
    """A jump into the middle of one: no call of it by its name."""
    entry = case.elf.symbols.named(case.entry)[case.entry][0]
    old = case.pairs["runtime.bulkBarrierPreWrite"].old
    assert old
    main = case.elf.symbols.named("main.run")["main.run"][0].value
    site = next(at for at in range(entry.value, entry.end, 4) if a64.branch_target(word(case, at), at) == main)
    mutant = with_words(case, tmp_path, site, a64.encode_branch(word(case, site), site, old.value + 8))
    verdict = only_red("a jump into an original", mutant, "flag-readers")
    assert any(
        detail.startswith(f"runtime.bulkBarrierPreWrite reads {FLAG} at ") and f"{case.entry} → " in detail
        for detail in verdict.details
    ), verdict.details


def test_a_relocation_that_names_another_place_is_seen(case: Case, tmp_path: Path, only_red: OnlyRed) -> None:
    check = reachable_check(case)
    table = case.before.section(".rela.text")
    assert table
    entries = case.before.contents(table)
    at = entries.find(struct.pack("<Q", check.read.placed))
    assert at >= 0
    assert at % RELA_BYTES == 0
    mutant = edited(case, tmp_path, {table.offset + at: struct.pack("<Q", check.read.placed + 8)})
    verdict = only_red("a relocation of the flag moved by 8", mutant, "flag-readers")
    assert any(f"{check.read.placed + 8:#x}" in detail for detail in verdict.details)
    assert any(f"{check.read.placed:#x}" in detail and "no relocation" in detail for detail in verdict.details)


def test_a_variable_that_holds_the_flags_address_is_seen(case: Case, tmp_path: Path, only_red: OnlyRed) -> None:
    name = "runtime.mainPC" if case.elf.symbols.named("runtime.mainPC")["runtime.mainPC"] else "runtime.modinfo"
    place = case.elf.symbols.addresses(name)[name]
    mutant = patched(case, tmp_path, {place: struct.pack("<Q", case.flag)}, linked=True)
    verdict = only_red("the flag's address in a variable of Go's", mutant, "flag-readers")
    assert f"{name} holds the address of {FLAG} at {place:#x}" in verdict.figure


def test_what_bytes_the_flag_has_is_what_boot_code_sets(case: Case) -> None:
    elf: Elf = case.elf
    assert case.boot.before
    assert any(
        store.address == elf.symbols.addresses(FLAG)[FLAG] and store.size == FLAG_BYTES for store in case.boot.stores()
    )
