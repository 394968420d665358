"""What assembly names of Go's, and what the user redirects: images in which one of them is wrong.

Of the kernel tests/kernels/legacy, with boot code of its own.
"""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

import pytest

from buildsys.config.project import load
from buildsys.config.redirects import Redirection
from buildsys.formats.a64 import encode_branch
from buildsys.front.steps import Steps
from buildsys.front.verify import case_of
from buildsys.proof.bound import Use, bindings, uses
from buildsys.proof.case import Case
from buildsys.proof.claims import boot_code, symbols
from tests.conftest import ROOT

from .conftest import OnlyRed
from .mutants import patched, red
from .test_symbols import with_symbol

ABS64, CALL26, PAGE, LOW = 257, 283, 275, 286
NOP = 0xD503_201F


@pytest.fixture(scope="module")
def legacy(tmp_path_factory: pytest.TempPathFactory) -> Case:
    root = tmp_path_factory.mktemp("legacy") / "legacy"
    shutil.copytree(ROOT / "tests" / "kernels" / "legacy", root)
    steps = Steps(load(root, "booted"))
    for action in (steps.compile, steps.runtime, steps.link, steps.patch):
        steps.records.perform(action())
    return case_of(steps)


def use(case: Case, name: str, kind: int) -> Use:
    """The first place of that kind that names `name`."""
    return next(each for each in uses(case, bindings(case)) if (each.binding.name, each.kind) == (name, kind))


def word(case: Case, address: int) -> int:
    found = case.elf.word(address)
    assert found is not None
    return found


def packed(value: int) -> bytes:
    return struct.pack("<I", value)


def test_the_image_passes_and_every_kind_of_place_is_seen(legacy: Case) -> None:
    assert red(legacy) == set()
    verdict = symbols.check(legacy)
    assert "9 bound for assembly" in verdict.figure
    kinds = {each.kind for each in uses(legacy, bindings(legacy))}
    assert kinds >= {ABS64, CALL26, PAGE, LOW}


def test_a_stale_binding_is_caught(legacy: Case, tmp_path: Path, only_red: OnlyRed) -> None:
    """As after a link whose addresses moved once more."""
    bound = next(each for each in legacy.elf.symbols.absolutes().values() if each.name == "main.Twice")
    mutant = with_symbol(legacy, tmp_path, bound, value=bound.value + 16)
    verdict = only_red("main.Twice is bound 16 bytes too far", mutant, "symbols")
    assert f"main.Twice is at {bound.value:#x}, and bound to {bound.value + 16:#x}" in "\n".join(verdict.details)


def test_a_call_from_assembly_that_goes_past_gos_function_is_caught(
    legacy: Case, tmp_path: Path, only_red: OnlyRed
) -> None:
    call = use(legacy, "main.Twice", CALL26)
    other = encode_branch(word(legacy, call.place), call.place, call.binding.bound + 4)
    mutant = patched(legacy, tmp_path, {call.place: packed(other)}, linked=True)
    verdict = only_red("assembly calls the second instruction of main.Twice", mutant, "symbols")
    assert "call_back" in "\n".join(verdict.details)


def test_a_literal_that_holds_another_address_is_caught(legacy: Case, tmp_path: Path, only_red: OnlyRed) -> None:
    literal = use(legacy, "main.last", ABS64)
    mutant = patched(legacy, tmp_path, {literal.place: struct.pack("<Q", literal.binding.bound + 8)}, linked=True)
    only_red("=main.last is 8 too high", mutant, "symbols")


@pytest.mark.parametrize(("kind", "bit"), [(PAGE, 29), (LOW, 10)])
def test_a_page_or_offset_of_another_address_is_caught(
    legacy: Case, tmp_path: Path, only_red: OnlyRed, kind: int, bit: int
) -> None:
    part = use(legacy, "main.calls", kind)
    mutant = patched(legacy, tmp_path, {part.place: packed(word(legacy, part.place) ^ 1 << bit)}, linked=True)
    only_red(f"main.calls is looked for elsewhere (relocation {kind})", mutant, "symbols")


def test_own_boot_code_is_followed_through_its_literals(legacy: Case, tmp_path: Path, only_red: OnlyRed) -> None:
    """A stale address of the flag is what such kernels suffered from."""
    literal = next(
        each
        for each in uses(legacy, bindings(legacy))
        if each.binding.name == "runtime.writeBarrier" and legacy.elf.entry <= each.place < legacy.elf.entry + 0x200
    )
    stale = struct.pack("<Q", literal.binding.bound - 0x80)
    mutant = patched(legacy, tmp_path, {literal.place: stale}, linked=True)
    # The binding is that flag's, and the place is one the linker says refers to it.
    only_red("boot.s sets a flag of an earlier image", mutant, "boot-code", ("symbols", "flag-readers"))


def test_arguments_of_the_entry_are_what_was_asked_for(legacy: Case) -> None:
    import dataclasses

    for arguments, said in (
        ((8, -1, "&main.greeting"), "x0, an argument of main.KernelMain must be 0x8, but is 0x7"),
        ((7, 1, "&main.greeting"), "x1, an argument of main.KernelMain must be 0x1, but is 0xffffffffffffffff"),
        ((7, -1, "&main.calls"), "x2, the address of main.calls must be"),
        ((7, -1, "&main.none"), "the image has no symbol main.none"),
    ):
        verdict = boot_code.check(dataclasses.replace(legacy, arguments=arguments))
        assert not verdict.passed
        assert said in "\n".join(verdict.details)


def redirected_site(case: Case) -> int:
    """Where main.KernelMain calls what main.initStubs was redirected to."""
    new = case.redirected["main.initStubs"].new
    entry = case.elf.symbols.named("main.KernelMain")["main.KernelMain"][0]
    assert new is not None
    for address in range(entry.value, entry.value + 0x100, 4):
        found = case.elf.word(address)
        if found and found >> 26 == 0b100101 and found == encode_branch(found, address, new.value):
            return address
    raise AssertionError("there is no such call")


def test_a_call_that_was_to_be_redirected_and_was_not_is_caught(
    legacy: Case, tmp_path: Path, only_red: OnlyRed
) -> None:
    site = redirected_site(legacy)
    before = legacy.before.word(site)
    assert before is not None
    verdict = only_red(
        "a redirect of the user's was not made", patched(legacy, tmp_path, {site: packed(before)}), "call-sites"
    )
    assert "main.initStubs" in "\n".join(verdict.details)


def test_a_redirected_call_that_goes_elsewhere_is_caught(legacy: Case, tmp_path: Path, only_red: OnlyRed) -> None:
    site = redirected_site(legacy)
    other = legacy.elf.symbols.addresses("bzero")["bzero"]
    change = {site: packed(encode_branch(word(legacy, site), site, other))}
    only_red("a redirect of the user's goes elsewhere", patched(legacy, tmp_path, change), "call-sites")


def test_a_redirected_call_that_is_a_nop_is_caught(legacy: Case, tmp_path: Path, only_red: OnlyRed) -> None:
    mutant = patched(legacy, tmp_path, {redirected_site(legacy): packed(NOP)})
    only_red("a redirected call of the user's is a nop", mutant, "call-sites")


def test_a_redirect_to_nothing_that_is_there_is_caught(legacy: Case) -> None:
    import dataclasses

    mutant = dataclasses.replace(legacy, asked=lambda: (Redirection("main.fail", "nothing"),))
    assert red(mutant) == {"call-sites"}
