"""The claim about our barrier functions, and images in which they do something else."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from buildsys.formats import a64
from buildsys.formats.elf import Elf
from buildsys.front.steps import Steps
from buildsys.go.runtime import SLOTTED, STORING, Barrier, Plan
from buildsys.proof.case import Case
from buildsys.proof.claim import Verdict
from buildsys.proof.claims import handlers
from buildsys.proof.trials import CASES, SEED, Trials
from buildsys.toolchains import choice
from tests.formats.images import GLOBAL, Name, Part, image

from .conftest import OnlyRed
from .mutants import patched, relinked

TEMPLATE = "writebarrier.s.j2"
SLOTS = "    add     x25, x25, :lo12:buildsys.slots\n"
READER = "{{ reader }}:\n"
NOP = (0xD503201F).to_bytes(4, "little")


def ours(case: Case, name: str) -> int:
    function = case.pairs[name].new
    assert function is not None
    return function.value


def inserted(built: Steps, case: Case, folder: Path, code: str) -> Case:
    """`case` with `code` before the `ret` of every barrier."""
    return relinked(built, case, folder, {TEMPLATE: {SLOTS: f"{SLOTS}    {code}\n"}})


def test_the_reference_kernel_passes(case: Case) -> None:
    verdict = handlers.check(case)
    assert verdict.passed, verdict.details
    tried = verdict.evidence["functions"]
    lock = {"runtime.printlock", "runtime.printunlock"}
    assert tried.keys() == {barrier.name for barrier in case.plan.barriers} | set(case.plan.readers) | lock
    assert set(SLOTTED) <= tried.keys()
    assert all(function["cases"] == CASES >= 2000 for function in tried.values())
    assert verdict.evidence["seed"] == SEED


@pytest.mark.parametrize(
    ("code", "register"),
    [
        ("mov     x1, xzr", "x1"),
        ("mov     w26, w26", "x26"),  # clears its upper half
        ("cmp     x0, x1", "the flags (NZCV)"),
        ("fmov    d0, xzr", "v0"),
        ("csel    x7, xzr, x7, vs", "x7"),  # only when the overflow flag is set
    ],
)
def test_a_handler_that_changes_another_register_is_seen(
    built: Steps, case: Case, tmp_path: Path, only_red: OnlyRed, code: str, register: str
) -> None:
    verdict = only_red(f"barriers with {' '.join(code.split())}", inserted(built, case, tmp_path, code), "handlers")
    assert f"{SLOTTED[0]} at {ours(case, SLOTTED[0]):#x} changes {register}: " in verdict.figure


@pytest.mark.parametrize(
    ("code", "register"),
    [
        ("eor     x16, x16, x0", "x16"),
        ("mov     x29, sp", "x29"),
        ("mov     v31.d[1], x3", "v31"),
        ("add     sp, sp, #16", "sp"),
        ("msr     fpsr, x1", "FPSR"),
    ],
)
def test_no_register_is_left_out(built: Steps, case: Case, tmp_path: Path, code: str, register: str) -> None:
    verdict = handlers.check(inserted(built, case, tmp_path, code))
    assert f"{SLOTTED[0]} at {ours(case, SLOTTED[0]):#x} changes {register}: " in verdict.figure


def test_the_registers_a_call_of_a_barrier_overwrites_anyway_may_change(
    built: Steps, case: Case, tmp_path: Path
) -> None:
    assert handlers.check(inserted(built, case, tmp_path, "mov     x27, x0")).passed


def test_slots_in_flash_are_seen(built: Steps, case: Case, tmp_path: Path, only_red: OnlyRed) -> None:
    flash = {"adrp    x25, buildsys.slots": "adrp    x25, _start", SLOTS: SLOTS.replace("buildsys.slots", "_start")}
    verdict = only_red("x25 at the boot code, in flash", relinked(built, case, tmp_path, {TEMPLATE: flash}), "handlers")
    start = case.elf.symbols.addresses("_start")["_start"]
    assert f"x25 = {start:#x}, but that is not in RAM: it is in {case.board.flash.name}" in verdict.figure


def test_slots_in_the_middle_of_a_variable_are_seen(case: Case, tmp_path: Path, only_red: OnlyRed) -> None:
    heap = "runtime.mheap_"
    target = case.elf.symbols.addresses(heap)[heap] + 64
    at = ours(case, SLOTTED[2])
    pages = (target >> 12) - (at >> 12)
    adrp = 0x9000_0019 | (pages & 3) << 29 | (pages >> 2 & 0x7FFFF) << 5
    add = 0x9100_0000 | (target & 0xFFF) << 10 | 25 << 5 | 25
    words = adrp.to_bytes(4, "little") + add.to_bytes(4, "little")
    verdict = only_red("x25 inside runtime.mheap_", patched(case, tmp_path, {at: words}, linked=True), "handlers")
    assert f"{SLOTTED[2]} at {at:#x} returns x25 = {target:#x}, but {heap} of Go's lies there" in verdict.figure


def test_too_few_slots_are_seen(built: Steps, case: Case, tmp_path: Path, only_red: OnlyRed) -> None:
    space = {".space  {{ plan.slot_bytes }}": ".space  56"}
    verdict = only_red("room for seven slots only", relinked(built, case, tmp_path, {TEMPLATE: space}), "handlers")
    assert verdict.figure.startswith(f"{SLOTTED[7]} at 0x")
    assert len(verdict.evidence["problems"]) == 1
    assert "buildsys.slots is only 56 bytes from there on: the caller writes 64 bytes there" in verdict.figure


def test_slots_in_data_are_seen(built: Steps, case: Case, tmp_path: Path, only_red: OnlyRed) -> None:
    data = {"    .bss\n": "    .data\n"}
    verdict = only_red("slots in .data", relinked(built, case, tmp_path, {TEMPLATE: data}), "handlers")
    assert "that is not in .bss" in verdict.figure


def test_slots_off_their_alignment_are_seen(built: Steps, case: Case, tmp_path: Path, only_red: OnlyRed) -> None:
    moved = inserted(built, case, tmp_path, "add     x25, x25, #4")
    assert "not aligned" in only_red("x25 four bytes too high", moved, "handlers").figure


@pytest.mark.parametrize("code", ["str     x0, [x25]", "strb    wzr, [x25, #63]"])
def test_a_handler_that_writes_memory_is_seen(
    built: Steps, case: Case, tmp_path: Path, only_red: OnlyRed, code: str
) -> None:
    verdict = only_red(f"barriers with {' '.join(code.split())}", inserted(built, case, tmp_path, code), "handlers")
    at = ours(case, SLOTTED[0]) + 8
    assert "writes memory" in verdict.figure
    assert "(buildsys.slots)" in verdict.figure
    assert f"by the instruction at {at:#x}" in verdict.figure


@pytest.mark.parametrize("code", ["ldr     x27, [x4]", "str     x0, [sp, #-16]", "hlt     #1", "br      x9"])
def test_a_handler_that_trips_over_its_callers_registers_is_seen(
    built: Steps, case: Case, tmp_path: Path, code: str
) -> None:
    verdict = handlers.check(inserted(built, case, tmp_path, code))
    assert not verdict.passed
    assert f"{SLOTTED[0]} at {ours(case, SLOTTED[0]):#x}: " in verdict.figure
    assert "case 0, seed" in verdict.figure


def test_a_handler_without_a_ret_is_seen(case: Case, tmp_path: Path, only_red: OnlyRed) -> None:
    """It runs on into the next function, which returns for it."""
    at = ours(case, SLOTTED[0])
    verdict = only_red(
        "gcWriteBarrier1 without its ret", patched(case, tmp_path, {at + 8: NOP}, linked=True), "handlers"
    )
    assert f"{SLOTTED[0]} at {at:#x} does not return" in verdict.figure
    assert f"at {at + 8:#x}, runs {SLOTTED[1]}" in verdict.figure


@pytest.mark.parametrize("code", ["b       .", "1: cbz  x7, 1b"])
def test_a_handler_that_does_not_return_is_seen(
    built: Steps, case: Case, tmp_path: Path, only_red: OnlyRed, code: str
) -> None:
    """The second one does not for one value of one register."""
    verdict = only_red(f"barriers with {' '.join(code.split())}", inserted(built, case, tmp_path, code), "handlers")
    assert "does not return within 1000 instructions" in verdict.figure


def test_a_reader_that_is_no_mere_return_is_seen(built: Steps, case: Case, tmp_path: Path, only_red: OnlyRed) -> None:
    result = relinked(built, case, tmp_path, {TEMPLATE: {READER: f"{READER}    mov     x27, xzr\n"}})
    verdict = only_red("functions for the collector that clear x27", result, "handlers")
    assert len(verdict.evidence["problems"]) == len(case.plan.readers)
    assert f"{case.plan.readers[0]} at 0x" in verdict.figure
    assert "changes x27" in verdict.figure


def test_a_handler_may_branch_to_common_code(built: Steps, case: Case, tmp_path: Path) -> None:
    """Also to code that comes right after it."""
    common = {"    adrp    x25, buildsys.slots\n" + SLOTS + "    ret\n": "    b       give\n"}
    common |= {"{% else %}\n": f"give:\n    adrp    x25, buildsys.slots\n{SLOTS}    ret\n{{% else %}}\n"}
    assert handlers.check(relinked(built, case, tmp_path, {TEMPLATE: common})).passed


# Go 1.20 and older: the barrier makes the store. No such Go comes with the project, so the function stands alone.


def storing(case: Case, folder: Path, code: str) -> Verdict:
    """The verdict on a barrier of `code`, for a Go object of that ABI."""
    source, assembled, linked = folder / "barrier.s", folder / "barrier.o", folder / "image.elf"
    source.write_text(f".text\n{code}\n")
    choice.find("zig").assemble(source, assembled)
    made = Elf.read(assembled)
    (text,) = made.code
    name = Name(STORING, case.board.text, text.size, binding=GLOBAL)
    linked.write_bytes(image([Part(".text", case.board.text, made.contents(text))], [name]))
    old = dataclasses.replace(case, image=linked)
    vars(old)["plan"] = Plan(barriers=(Barrier(STORING, 0),), readers=(), fatal=())
    return handlers.check(old)


def test_the_storing_barrier_stores(case: Case, tmp_path: Path) -> None:
    verdict = storing(case, tmp_path, "str x3, [x2]; ret")
    assert verdict.passed, verdict.details
    assert verdict.evidence["functions"][STORING]["cases"] == CASES


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("ret", f"made 0 stores in {CASES} cases"),
        ("str x3, [x2]; str x3, [x2]; ret", f"made {2 * CASES} stores"),
        ("str w3, [x2]; ret", "stored 4 bytes"),
        ("str x4, [x2]; ret", "x3 0x"),
        ("str x3, [x2], #8; ret", "changes x2"),
        ("str x3, [x2]; mov x25, x2; ret", "changes x25"),
        ("str x2, [x3]; ret", "case 0, seed"),
        ("str x3, [x2]", "does not return"),
    ],
)
def test_a_storing_barrier_that_does_anything_else_is_seen(case: Case, tmp_path: Path, code: str, message: str) -> None:
    verdict = storing(case, tmp_path, code)
    assert not verdict.passed
    assert verdict.figure.startswith(f"{STORING} at {case.board.text:#x}")
    assert message in verdict.figure


def test_every_register_differs_from_case_to_case(case: Case) -> None:
    """Otherwise the cases would be fewer than they are said to be."""
    function = case.pairs[SLOTTED[0]].new
    assert function is not None
    trial = Trials(case.elf, case.board).run(function, frozenset({25}), None)
    assert not trial.fault
    assert trial.changed is None
    for register in range(30):
        assert len(set(trial.input(register))) > CASES / 2


def test_the_function_tried_is_the_one_in_the_image(case: Case) -> None:
    """What x25 is told to be comes from executing the image's bytes: it is what they say, decoded."""
    at = ours(case, SLOTTED[0])
    elf: Elf = case.elf
    page = a64.adrp(elf.word(at) or 0, at)
    added = a64.add_immediate(elf.word(at + 4) or 0)
    assert page
    assert added
    function = case.pairs[SLOTTED[0]].new
    assert function is not None
    trial = Trials(elf, case.board).run(function, frozenset({25}), None)
    assert set(trial.output(25)) == {page[1] + added[2]}
