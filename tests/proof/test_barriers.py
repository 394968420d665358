"""The claim that the compiler emitted barriers, and images in which some are not as it makes them."""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Iterator
from pathlib import Path

from buildsys.formats import a64
from buildsys.formats.references import references
from buildsys.go.flag import Judgement
from buildsys.go.packages import is_own, package_of
from buildsys.go.runtime import FLAG
from buildsys.proof.case import Case
from buildsys.proof.claims import barriers
from buildsys.proof.observation import HEAD

from .conftest import OnlyRed
from .mutants import patched

NOP = 0xD503_201F
CBZ, TO_CBNZ = 0x3400_0000, 1 << 24


def word(case: Case, address: int) -> int:
    found = case.code.word(address)
    assert found is not None
    return found


def with_words(case: Case, folder: Path, changes: dict[int, int], linked: bool = True) -> Case:
    return patched(case, folder, {at: struct.pack("<I", new) for at, new in changes.items()}, linked=linked)


def name_of(load: Judgement) -> str:
    assert load.read.function
    return load.read.function.name


def unreachable_check(case: Case) -> Judgement:
    """A check with a barrier call behind a CBZ that no run can come to: other claims look at those that can run."""
    return next(
        load
        for load in case.flag_loads
        if load.accounted
        and load.read.function
        and load.read.function.value not in case.reach.functions
        and load.branch
        and word(case, load.branch) & 0xFF00_0000 == CBZ
        and called(case, load.calls[0]) in case.barriers
    )


def own_checks(case: Case) -> list[Judgement]:
    return [load for load in case.flag_loads if load.accounted and is_own(package_of(name_of(load)), case.modules)]


def called(case: Case, site: int) -> str:
    return case.names.get(a64.branch_target(word(case, site), site) or 0, "")


def stores_to_head(case: Case) -> Iterator[int]:
    head = case.elf.symbols.addresses(HEAD)[HEAD]
    return (each.address for each in references(case.elf, case.code, head, 8) if each.kind == "store")


def test_the_reference_kernel_passes(case: Case) -> None:
    verdict = barriers.check(case)
    assert verdict.passed, verdict.details
    evidence = verdict.evidence
    own = evidence["own packages"]
    assert own.keys() == {"main", "kernel/heap"}
    assert 0 < sum(own.values()) < evidence["checks"]
    assert verdict.figure == f"{evidence['checks']} checks, {sum(own.values())} of them in the kernel's own packages"


def test_every_redirected_barrier_call_belongs_to_a_check(case: Case) -> None:
    """As many as claim 3 counts, by other means."""
    counted = barriers.check(case).evidence["calls"]
    for name, pair in case.barriers.items():
        assert pair.new
        assert counted[name] == sum(site.target == pair.new.value for site in case.sites) > 0


def test_the_assignment_is_shown_as_it_runs(case: Case) -> None:
    verdict = barriers.check(case)
    shown = [line for line in verdict.details if line.startswith(("  0x", "    0x"))]
    heading = next(line for line in verdict.details if "the assignment" in line)
    assert heading == "the assignment in main.checkGlobalPointer (flag.go:36), as it runs with the flag set:"
    text = "\n".join(shown)
    slots = case.elf.symbols.addresses("runtime.gcWriteBarrier2")
    assert not slots, "the name has two symbols; only ours is meant"
    new = case.pairs["runtime.gcWriteBarrier2"].new
    assert new
    order = [
        f"; the flag: {FLAG}",
        "; if it is clear, on at 0x",
        f"; redirected to ours: runtime.gcWriteBarrier2 at {new.value:#x}",
        "; the record of it, into the slots x25 points at",
        f"; the store itself, to {HEAD}",
    ]
    places = [text.index(note) for note in order]
    assert places == sorted(places)
    assert text.count(f"; {HEAD}") == 1, "the old value is read before it is recorded"
    assert [line.split()[1] for line in shown][:3] == ["adrp", "ldr", "cbz"]
    store = int(verdict.evidence["shown"]["store"], 16)
    assert store in stores_to_head(case)
    assert shown[-1].split()[0] == f"{store:#x}"


def test_the_line_shown_is_the_assignments(case: Case) -> None:
    file, line = barriers.check(case).evidence["shown"]["line"].split(":")
    assert "heapSegmentListHead = " in (case.package / file).read_text().splitlines()[int(line) - 1]


def test_a_kernel_without_that_variable_has_its_first_barriered_store_shown(case: Case, tmp_path: Path) -> None:
    renamed = case.elf.data.replace(HEAD.encode() + b"\0", HEAD.upper().encode() + b"\0")
    assert renamed != case.elf.data
    image = tmp_path / "renamed.elf"
    image.write_bytes(renamed)
    verdict = barriers.check(dataclasses.replace(case, image=image))
    assert verdict.passed, verdict.details
    first = min(
        load.calls[0] for load in own_checks(case) if any(called(case, site) in case.barriers for site in load.calls)
    )
    assert any(line.split()[0] == f"{first:#x}" and "redirected to ours" in line for line in verdict.details if line)
    assert any("; the store itself" in line for line in verdict.details)


def test_a_call_whose_check_is_gone_is_seen(case: Case, tmp_path: Path, only_red: OnlyRed) -> None:
    check = unreachable_check(case)
    assert check.branch
    verdict = only_red("a check's cbz a nop", with_words(case, tmp_path, {check.branch: NOP}), "barriers")
    site = check.calls[0]
    name = called(case, site)
    assert verdict.figure == (f"the call of {name} at {site:#x} in {name_of(check)} stands behind no check of {FLAG}")


def test_a_check_turned_round_is_seen(case: Case, tmp_path: Path, only_red: OnlyRed) -> None:
    check = unreachable_check(case)
    assert check.branch
    turned = {check.branch: word(case, check.branch) ^ TO_CBNZ}
    verdict = only_red("a check's cbz made cbnz", with_words(case, tmp_path, turned), "barriers")
    assert f"{check.calls[0]:#x} in {name_of(check)}" in verdict.figure


def test_a_check_that_decides_nothing_is_seen(case: Case, tmp_path: Path, only_red: OnlyRed) -> None:
    """It branches to the next instruction: the barrier runs whether the flag is set or not."""
    check = unreachable_check(case)
    assert check.branch
    beside = {check.branch: word(case, check.branch) & 0xFF00_001F | 1 << 5}
    verdict = only_red("a check's cbz to the next instruction", with_words(case, tmp_path, beside), "barriers")
    assert f"{check.calls[0]:#x} in {name_of(check)}" in verdict.figure


def test_a_check_that_leads_to_the_runtimes_own_is_seen(case: Case, tmp_path: Path, only_red: OnlyRed) -> None:
    """A call site left as it was: the count of call sites is wrong as well."""
    check = unreachable_check(case)
    site = check.calls[0]
    old = case.pairs[called(case, site)].old
    assert old
    left = {site: a64.encode_branch(word(case, site), site, old.value)}
    mutant = with_words(case, tmp_path, left, linked=False)
    verdict = only_red("an unreachable barrier call un-redirected", mutant, "barriers", {"call-sites"})
    assert verdict.figure == (
        f"the check at {check.read.address:#x} in {name_of(check)} calls, at {site:#x}, "
        f"the runtime's own {old.name} at {old.value:#x}"
    )


def test_a_kernel_without_checks_of_its_own_is_seen(case: Case, tmp_path: Path, only_red: OnlyRed) -> None:
    """As if the kernel's packages had been compiled without barriers: its flag is read for nothing, too."""
    branches = {load.branch: NOP for load in own_checks(case) if load.branch}
    calls = {site: NOP for load in own_checks(case) for site in load.calls}
    mutant = with_words(case, tmp_path, branches | calls)
    verdict = only_red("no checks in the kernel's packages", mutant, "barriers", {"call-sites", "flag-readers"})
    assert verdict.figure.startswith("no check is in the kernel's own packages (main, kernel)")


def test_an_assignment_that_goes_elsewhere_is_seen(case: Case, tmp_path: Path, only_red: OnlyRed) -> None:
    """Every store to the head of the list goes to the eight bytes after it."""
    moved = {at: word(case, at) + (1 << 10) for at in stores_to_head(case)}
    assert moved
    assert all(a64.load_store_unsigned(word(case, at)) for at in moved)
    verdict = only_red("the head of the list never assigned", with_words(case, tmp_path, moved), "barriers")
    assert verdict.figure == f"no store to {HEAD} stands behind a check of the flag"
