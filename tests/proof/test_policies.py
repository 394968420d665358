"""The claim about our barriers under each policy, and images in which they do something else."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from buildsys.config.barrier import COUNT, RECORD, USER, BarrierPolicy
from buildsys.config.board import Board
from buildsys.formats.elf import Elf
from buildsys.front.steps import Steps
from buildsys.go.runtime import SLOTTED, STORING, Barrier, Plan
from buildsys.go.sites import NO_SITES, table_for
from buildsys.proof.case import Case
from buildsys.proof.claim import Verdict
from buildsys.proof.claims import handlers
from buildsys.stages.rendering import Sources, render
from tests import snippets
from tests.barriers.conftest import Relink, relink, with_function  # noqa: F401  these are fixtures

from .conftest import OnlyRed

TEMPLATES = {policy: f"barrier-{policy}.s.j2" for policy in (COUNT, RECORD, USER)}
SHARED = {COUNT: ("counting.s.j2",)}  # templates that another one takes macros from
COUNTED = "1:  ldxr    x17, [x16]\n    add     x17, x17, #1\n    stxr    w27, x17, [x16]\n    cbnz    w27, 1b\n"


MUTANTS = [
    (COUNT, {COUNTED: COUNTED.replace("x17, #1", "x17, #2")}, "counted"),
    (COUNT, {"    b.ne    buildsys.count_{{ kind }}\n": ""}, "counted"),
    (COUNT, {"    ubfx    x17, x30, #2": "    ubfx    x17, x29, #2"}, "in two places"),
    (COUNT, {"    cmp     x17, x30\n    b.ne": "    mov     x18, x17\n    cmp     x17, x30\n    b.ne"}, "changes x18"),
    (COUNT, {"adrp    x25, buildsys.slots ": "adrp    x25, buildsys.counts "}, "would be overwritten"),
    (COUNT, {"stxr    w17, x30, [x27]": "stxr    w17, x27, [x27]"}, "does not return"),
    (RECORD, {"    and     x17, x17, #{{ barrier.ring - 1 }}\n": ""}, "writes memory"),
    (RECORD, {"add     x25, x16, x17, lsl #4": "add     x25, x16, x17, lsl #3"}, "holds"),
    (RECORD, {"mov     w17, #{{ each.slots }}": "mov     w17, #1"}, "holds"),
    (RECORD, {"    stp     x30, x30, [x25, #16]!\n": "    add     x25, x25, #16\n"}, "holds"),
    (RECORD, {"    stp     x30, x17, [x25, #16]!\n": "    stp     x30, x17, [x25, #24]!\n"}, "holds"),
    (RECORD, {"add     x27, x17, #1": "mov     x27, x17"}, "noted 0 calls"),
    (USER, {"    msr     fpsr, x2\n": ""}, "changes FPSR"),
    (USER, {"    ldp     q{{ at }}, q{{ at + 1 }}, [x17], #32\n": "    add     x17, x17, #32\n"}, "changes v"),
    (USER, {"    mov     sp, x0\n": ""}, "changes sp"),
    (USER, {"stp     xzr, xzr, [x16] ": "str     xzr, [x16] "}, "leaves (0, 1,"),
    (USER, {"address(barrier.function)": "(address(barrier.function) + 4)"}, ""),
    (USER, {"add     x0, x16, #64": "add     x0, x16, #72"}, "gave 64 entries"),
    (USER, {":lo12:buildsys.slots": ":lo12:buildsys.slots - 64", "adrp    x25, buildsys.slots\n":
            "adrp    x25, buildsys.slots - 64\n"}, "would be overwritten"),
    (USER, {"    mov     x2, #{{ barrier.ring }}\n": "    ldr     x2, [x16]\n"}, "buildsys.drain"),
    (USER, {"    cbz     x17, 2f\n{{ locked": "    b       2f\n{{ locked"}, "buildsys.drain"),
]  # fmt: skip


# Of the barriers some are enough: the others are made by the same lines.
SLOTTED_PLAN = Plan((Barrier(SLOTTED[0], 1), Barrier(SLOTTED[3], 4)), ("runtime.wbMove",), ())
STORING_PLAN = Plan((Barrier(STORING, 0),), ("runtime.wbMove",), ())
POLICIES = {COUNT: BarrierPolicy(COUNT), RECORD: BarrierPolicy(RECORD, 64), USER: BarrierPolicy(USER, 64, "batch")}


@pytest.mark.parametrize(("policy", "edits", "said"), MUTANTS)
def test_a_barrier_that_does_not_keep_to_its_policy_is_seen(
    policy: str, edits: dict[str, str], said: str, case: Case, built: Steps, tmp_path: Path
) -> None:
    verdict = judged(case, built, tmp_path, POLICIES[policy], SLOTTED_PLAN, edits)
    assert not verdict.passed
    assert any(said in problem for problem in verdict.evidence["problems"]), verdict.evidence["problems"]


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
@pytest.mark.parametrize("plan", [SLOTTED_PLAN, STORING_PLAN], ids=["slots", "store"])
def test_what_is_shipped_passes_by_itself(
    plan: Plan, policy: BarrierPolicy, case: Case, built: Steps, tmp_path: Path
) -> None:
    """Of both ABIs: no Go of the older one comes with the project."""
    verdict = judged(case, built, tmp_path, policy, plan, {})
    assert verdict.passed, verdict.details


def test_one_barrier_gone_wrong_turns_no_other_claim_red(
    relink: Relink,  # noqa: F811
    only_red: OnlyRed,
) -> None:
    mutant = relink(RECORD, ring=64, edits={TEMPLATES[RECORD]: {"mov     w17, #{{ each.slots }}": "mov     w17, #1"}})
    only_red("record: one slot for every barrier", mutant, "handlers")


def judged(case: Case, built: Steps, folder: Path, policy: BarrierPolicy, plan: Plan, edits: dict[str, str]) -> Verdict:
    """The verdict on the barriers of `policy`, its template edited, with nothing of Go's beside them."""
    own = folder / "own"
    own.mkdir()
    name = TEMPLATES[policy.name]
    shipped = next(place for place in built.project.templates if (place / name).exists())
    texts = {each: (shipped / each).read_text() for each in (name, *SHARED.get(policy.name, ()))}
    for old, new in edits.items():
        assert any(old in text for text in texts.values()), f"{name} has no {old!r}: this is no mutant"
        texts = {each: text.replace(old, new) for each, text in texts.items()}
    for each, text in texts.items():
        (own / each).write_text(text)
    elf = _alone(case.board, plan, policy, (own, shipped), case.offsets, folder, 0)
    if policy.function:
        at = elf.symbols.addresses(policy.function)[policy.function]
        elf = _alone(case.board, plan, policy, (own, shipped), case.offsets, folder, at)
    alone = dataclasses.replace(case, image=Path(elf.name), barrier=policy)
    vars(alone)["plan"] = plan
    vars(alone)["object"] = case.object
    return handlers.check(alone)


def _alone(
    board: Board,
    plan: Plan,
    policy: BarrierPolicy,
    folders: tuple[Path, ...],
    layout: dict[str, int],
    folder: Path,
    function: int,
) -> Elf:
    sources = Sources(
        layout=layout,
        plan=plan,
        board=board,
        entry="",
        folders=folders,
        templates=("writebarrier.s",),
        toolchain="zig",
        barrier=policy,
        sites=table_for(64) if policy.name == COUNT else NO_SITES,
    )
    render(sources, folder, {policy.function: function} if function else {})
    batch = snippets.function(policy.function, "ret", "nop", "nop", "nop", "nop") if policy.function else ""
    elf = snippets.linked(folder, (folder / "writebarrier.s").read_text() + "\n.data\n.quad 0\n.text\n" + batch)
    elf.name = str(folder / "snippet.elf")
    return elf


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
@pytest.mark.parametrize("instead", ["nop", "str     x3, [x2, #8]", "str     x2, [x2]"])
def test_a_policy_that_does_not_make_the_store_is_seen(
    instead: str, policy: BarrierPolicy, case: Case, built: Steps, tmp_path: Path
) -> None:
    verdict = judged(case, built, tmp_path, policy, STORING_PLAN, {"str     x3, [x2]\n": f"{instead}\n"})
    assert not verdict.passed
    assert "stor" in verdict.figure


def test_another_word_in_the_place_of_the_old_pointer_is_seen(case: Case, built: Steps, tmp_path: Path) -> None:
    edits = {"    ldr     x17, [x2]\n": "    mov     x17, x3\n"}
    assert "entry" in judged(case, built, tmp_path, POLICIES[RECORD], STORING_PLAN, edits).figure
