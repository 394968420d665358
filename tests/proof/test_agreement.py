"""The part of the claim about call sites that is about the user's redirects, and images of which it is not true."""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from buildsys.config.redirects import Redirection
from buildsys.formats.debuginfo import DW_AT_ABSTRACT_ORIGIN, DebugInfo, Die
from buildsys.formats.elf import Elf
from buildsys.front.steps import Steps
from buildsys.front.verify import case_of
from buildsys.proof.case import Case
from buildsys.proof.claim import Verdict
from buildsys.proof.claims import call_sites
from tests.agreeing import address, linked, patched

GOOD = Redirection("main.increment", "main.same")


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> Steps:
    """The kernel of tests/kernels/agreeing, linked and not patched."""
    return linked(tmp_path_factory.mktemp("agreeing") / "kernel")


Judge = Callable[..., Verdict]


@pytest.fixture
def judge(steps: Steps, tmp_path: Path) -> Judge:
    """The verdict on the image with the redirects `made`; of what they allow, `claimed` says what is to be claimed.

    `unpatched` are the bytes of another unpatched image, to be claimed of instead.
    """

    def judged(made: Redirection, claimed: Redirection | None = None, unpatched: bytes = b"") -> Verdict:
        patched(steps, tmp_path, made)
        linked_image = steps.unpatched
        if unpatched:
            linked_image = tmp_path / "mutant.unpatched.elf"
            linked_image.write_bytes(unpatched)
            # What differs between the two is to be the redirects.
            now, then = bytearray(unpatched), steps.unpatched.read_bytes()
            for at, byte in enumerate((tmp_path / "kernel.elf").read_bytes()):
                if byte != then[at]:
                    now[at] = byte
            (tmp_path / "kernel.elf").write_bytes(now)
        case: Case = dataclasses.replace(
            case_of(steps),
            image=tmp_path / "kernel.elf",
            unpatched=linked_image,
            asked=lambda: (claimed or made,),
            configuration=lambda: None,  # the pass was not told
        )
        return call_sites.check(case)

    return judged


def edited(steps: Steps, name: str, of: Callable[[DebugInfo, Die], tuple[int, bytes]]) -> bytes:
    """The unpatched image with other bytes in .debug_info; `of` says which, of the entry of the function `name`."""
    elf = Elf.read(steps.unpatched)
    info, dwarf = elf.section(".debug_info"), DebugInfo(elf)
    assert info
    _, die = next(iter(dwarf.subprograms([name])))
    at, new = of(dwarf, die)
    data = bytearray(elf.data)
    assert data[info.offset + at : info.offset + at + len(new)] != new
    data[info.offset + at : info.offset + at + len(new)] = new
    return bytes(data)


def test_redirects_that_agree_are_told(judge: Judge) -> None:
    found = judge(GOOD)
    assert found.passed, found.details
    assert found.evidence["agreement"] == {
        "main.increment": {
            "takes": "(x int) int", "new takes": "(x int) int", "inlined": [], "of these run": 0, "allowed": [],
        }
    }  # fmt: skip


def test_a_mismatch_nobody_allows_is_seen(judge: Judge) -> None:
    allowed = Redirection("main.increment", "main.float", allow=("signature",))
    assert judge(allowed).passed
    found = judge(allowed, dataclasses.replace(allowed, allow=()))
    assert found.figure == "main.float cannot take the place of main.increment: x is int, not float64"


def test_copies_nobody_allows_are_seen(judge: Judge) -> None:
    allowed = Redirection("main.inlined", "main.same", allow=("inlined",))
    good = judge(allowed)
    assert good.passed, good.details
    assert good.evidence["agreement"]["main.inlined"]["of these run"] == 2
    found = judge(allowed, dataclasses.replace(allowed, allow=()))
    assert len(found.evidence["problems"]) == 2
    assert found.figure.startswith("a copy of main.inlined was inlined at ")
    assert found.figure.endswith("in main.KernelMain, and the kernel can run it")


def test_a_way_back_nobody_allows_is_seen(judge: Judge) -> None:
    allowed = Redirection("main.increment", "main.back", allow=("recursion",))
    assert judge(allowed).passed
    found = judge(allowed, dataclasses.replace(allowed, allow=()))
    assert found.figure == (
        "main.back takes the place of main.increment, and leads back to it: main.back → main.outer → main.increment"
    )


def test_a_copy_that_is_hidden_is_missed_by_the_relocations(judge: Judge, steps: Steps) -> None:
    def hidden(dwarf: DebugInfo, die: Die) -> tuple[int, bytes]:
        """One of the copies goes back to another function now."""
        other = next(die.offset for _, die in dwarf.subprograms(["main.alsoInlined"]))
        copy = next(each for _, each in dwarf.instances([die.offset]) if each.tag == 0x1D)
        assert copy.number(DW_AT_ABSTRACT_ORIGIN) == die.offset
        return copy.offset + 1, struct.pack("<I", other)

    allowed = Redirection("main.inlined", "main.same", allow=("inlined",))
    found = judge(allowed, unpatched=edited(steps, "main.inlined", hidden))
    assert " references to the function described at " in found.figure
    assert "3 references" in found.figure
    assert "2 are found" in found.figure


def test_a_type_told_otherwise_is_seen_by_the_runtimes_table(judge: Judge, steps: Steps) -> None:
    def another(dwarf: DebugInfo, die: Die) -> tuple[int, bytes]:
        """The parameter x of main.same is a string now."""
        unit = dwarf.unit_of(die.offset)
        text = next(each for _, many in dwarf.subprograms(["main.many"]) for each in dwarf.children(unit, many)
                    if each.text(0x03) == "d")  # fmt: skip
        parameter = next(each for each in dwarf.children(unit, die) if each.text(0x03) == "x")
        place = parameter.end - 4
        old = parameter.number(0x49) or 0
        contents = Elf.read(steps.unpatched)
        info = contents.section(".debug_info")
        assert info
        at = contents.contents(info).index(struct.pack("<I", old), parameter.offset)
        assert at <= place
        return at, struct.pack("<I", text.number(0x49) or 0)

    found = judge(GOOD, unpatched=edited(steps, "main.same", another))
    assert "x is int, not string (8 and 16 bytes)" in found.figure


def test_an_entry_that_names_other_code_is_none(judge: Judge, steps: Steps) -> None:
    elf = Elf.read(steps.unpatched)
    table = elf.section(".debug_addr")
    assert table
    data = bytearray(elf.data)
    at = elf.contents(table).index(struct.pack("<Q", address(elf, "main.same")))
    data[table.offset + at : table.offset + at + 8] = struct.pack("<Q", address(elf, "main.unsigned"))
    found = judge(GOOD, unpatched=bytes(data))
    assert found.passed  # of a function without an entry nothing is known, and nothing is claimed
    assert found.evidence["agreement"]["main.increment"]["new takes"] is None
