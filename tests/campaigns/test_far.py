"""A kernel of more than 128 MiB: its calls go by veneers of the linker's or ours, and verify knows what those are.

Its size is that of an assembly routine with 160 MiB of nothing behind it, on a board with everything in RAM.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from buildsys.config.board import BOARDS
from buildsys.config.project import load
from buildsys.config.redirects import Redirection
from buildsys.formats.elf import Elf
from buildsys.formats.veneers import Veneer, decode
from buildsys.front.new import new
from buildsys.front.steps import Steps
from buildsys.front.verify import case_of
from buildsys.machines import embedded
from buildsys.proof.case import Case
from buildsys.proof.claims import call_sites, symbols
from tests.boards import with_keys

pytestmark = [pytest.mark.campaign, pytest.mark.slow]

ASSEMBLY = """
// distant(x uint64) uint64: calls main.Ask. In: x0. Out: x0. Clobbers: what Go functions may.
    .text
    .global distant
distant:
    stp     x29, x30, [sp, #-272]!
    bl      main.Ask
    ldp     x29, x30, [sp], #272
    ret

// farAnswer(x uint64) uint64. In: x0. Out: x0. Clobbers: nothing.
    .global farAnswer
farAnswer:
    add     x0, x0, #1000
    ret
    .space  160 << 20
"""
GO = """package main

import _ "unsafe" // for go:linkname

//go:linkname distant distant
//go:nosplit
func distant(x uint64) uint64

//go:noinline
func Ask(x uint64) uint64 { return x + 1 }

//go:noinline
func Answer(x uint64) uint64 { return x + 100 }
"""
CALLS = """	console.PutDecimal(Ask(1))
	console.Puts(" ")
	console.PutDecimal(distant(2))
	console.Puts(" ")
	console.PutDecimal(Answer(3))
	console.Puts("\\r\\n")
	console.Drain() """


@pytest.fixture(scope="module")
def linked(tmp_path_factory: pytest.TempPathFactory) -> Steps:
    """The kernel, up to the link."""
    root = tmp_path_factory.mktemp("far") / "mine"
    new(root)
    (root / "asm").mkdir()
    (root / "asm" / "big.s").write_text(ASSEMBLY)
    (root / "src" / "far.go").write_text(GO)
    text = (root / "src" / "main.go").read_text()
    assert text.count("\tconsole.Drain() ") == 1
    (root / "src" / "main.go").write_text(text.replace("\tconsole.Drain() ", CALLS))
    board = (BOARDS / "qemu-virt-ram.toml").read_text()
    head, _, ram = board.partition("[memory.ram]")
    ram = with_keys(ram, length="0x40000000").replace('"128M"', '"1G"')
    (root / "own.toml").write_text(f"{head}[memory.ram]{ram}")
    settings = (root / "buildsys.toml").read_text().replace('"qemu-virt"', '"own.toml"', 1)
    (root / "buildsys.toml").write_text(settings + '\nassembly = ["asm/*.s"]\n')
    steps = Steps(load(root))
    for action in (steps.compile, steps.runtime, steps.link):
        steps.records.perform(action())
    return steps


def patched(linked: Steps, to: str) -> Steps:
    """The kernel with main.Ask redirected."""
    steps = Steps(replace(linked.project, redirects=(Redirection("main.Ask", to),)))
    steps.records.perform(steps.patch())
    return steps


def claims_hold(case: Case) -> None:
    for claim in (call_sites.CLAIM, symbols.CLAIM):
        found = claim.check(case)
        assert found.passed, found.details


@pytest.mark.parametrize(("to", "printed"), [("main.Answer", "101 102 103"), ("farAnswer", "1001 1002 103")])
def test_every_call_comes_to_the_new_function_wherever_it_is(linked: Steps, to: str, printed: str) -> None:
    steps = patched(linked, to)
    outcome = embedded.run(steps.image, steps.project.board, 20)
    assert f"{printed}\r\n".encode() in outcome.serial
    claims_hold(case_of(steps))


def veneer_to(elf: Elf, name: str) -> Veneer:
    """The veneer that goes to `name`."""
    (target,) = {each.value for each in elf.symbols.named(name)[name]}
    found = []
    for section in elf.code:
        contents, at = elf.contents(section), -1
        while (at := contents.find((0xD61F_0200).to_bytes(4, "little"), at + 1)) >= 0:  # C6.2 BR x16
            starts = (decode(elf, section.address + at - back) for back in (4, 8))
            found += [each for each in starts if each and each.target == target]
    return found[-1]


Mutant = Callable[[bytearray, int, int], None]


def goes_elsewhere(data: bytearray, at: int, size: int) -> None:
    """Its target is 4 bytes further."""
    place = at + size - 8 if size == 16 else at + 4
    value = int.from_bytes(data[place : place + 4], "little") + (4 if size == 16 else 4 << 10)
    data[place : place + 4] = value.to_bytes(4, "little")


def is_none(data: bytearray, at: int, size: int) -> None:
    """It is a return."""
    data[at : at + 4] = (0xD65F_03C0).to_bytes(4, "little")


@pytest.mark.parametrize("mutant", [goes_elsewhere, is_none])
@pytest.mark.parametrize("to", ["main.Answer", "farAnswer"])
def test_a_veneer_that_leads_elsewhere_fails(linked: Steps, to: str, mutant: Mutant) -> None:
    steps = patched(linked, to)
    elf = Elf.read(steps.image)
    veneer = veneer_to(elf, to)
    offset = elf.file_offset(veneer.address)
    assert offset is not None
    data = bytearray(elf.data)
    mutant(data, offset, veneer.end - veneer.address)
    steps.image.unlink()  # it may be another name of a file in use
    steps.image.write_bytes(data)
    assert not call_sites.CLAIM.check(case_of(steps)).passed
