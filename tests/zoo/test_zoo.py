"""A zoo of broken kernels: none of them passes, and each is told for what it is, on either emulator."""

from __future__ import annotations

import re

import pytest

from buildsys.crash.hints import hints
from tests.zoo.conftest import ANIMALS, MACHINES, Animal, Run

pytestmark = pytest.mark.slow
# A stack pointer that is not a multiple of 16 is no fault on QEMU; what asks for this hint is made by hand.
UNSEEN = {"misaligned stack pointer"}


@pytest.mark.parametrize(
    ("animal", "machine"),
    [(animal, machine) for animal in ANIMALS for machine in animal.on],
    ids=[f"{animal.name}-{machine}" for animal in ANIMALS for machine in animal.on],
)
def test_a_broken_kernel_never_passes_and_says_what_broke_it(animal: Animal, machine: str, seen: Run) -> None:
    run = seen(animal, machine)
    assert run.status == animal.status_on(machine), run.err
    first = next(line for line in run.err.splitlines() if not line.startswith("  0x"))
    assert animal.sentence in first
    if animal.cause is None:
        assert run.folder is None
        return
    assert run.report["machine"] == machine
    assert animal.cause in run.report["cause"]["says"]
    assert (run.report["hint"] or {"name": ""})["name"] == animal.hint
    assert animal.place in run.report["places"].get("address", "")
    assert tuple(frame["function"] for frame in run.report["frames"])[: len(animal.frames)] == tuple(animal.frames)
    if animal.frames and animal.frames[-1] == "_start":
        assert len(run.report["frames"]) == len(animal.frames), "the stack ends where boot code called the kernel"
    if run.report["hint"]:
        assert run.report["hint"]["says"] in run.err
        assert "{" not in run.report["hint"]["says"] + run.report["hint"]["do"]
    assert f"doit debug --crash {run.folder}" in run.err
    assert "Traceback" not in run.err + run.out


BOTH = [each for each in ANIMALS if each.on == MACHINES and each.cause and "abort" in each.cause]


@pytest.mark.parametrize("animal", BOTH, ids=[each.name for each in BOTH])
def test_both_emulators_tell_the_same_exception(animal: Animal, seen: Run) -> None:
    """The embedded emulator's registers are not to be relied on unless QEMU has the same."""
    embedded, qemu = (seen(animal, machine).report["cause"] for machine in MACHINES)
    assert (embedded["syndrome"], embedded["address"]) == (qemu["syndrome"], qemu["address"])


def test_every_hint_has_a_kernel_that_provokes_it() -> None:
    told = {animal.hint for animal in ANIMALS if animal.hint}
    assert told | UNSEEN == {each.name for each in hints()}


def test_there_are_as_many_as_were_promised() -> None:
    assert len(ANIMALS) >= 25
    assert len({animal.name for animal in ANIMALS}) == len(ANIMALS)
    assert sum(animal.status == 0 for animal in ANIMALS) == 1, "one is healthy, so that the others mean something"


def test_where_no_guard_is_that_is_said(seen: Run) -> None:
    for name, why in (
        (
            "stack overflow in assembly, with boot code of its own",
            "which has no guard, for boot code is the kernel's own",
        ),
        (
            "stack overflow in assembly, with the MMU off",
            "whose guard is off, for the page tables of boot code are not in use",
        ),
    ):
        animal = next(each for each in ANIMALS if each.name == name)
        run = seen(animal, "embedded")
        assert f"bytes below the exception stack, {why}" in run.err


def test_addresses_are_resolved_as_they_appear(seen: Run) -> None:
    animal = next(each for each in ANIMALS if each.name == "store to flash")
    run = seen(animal, "embedded")
    found = re.search(r"^exception: .*ELR_EL1 0x0*(\w+)", run.out, re.MULTILINE)
    assert found
    [told] = [line for line in run.err.splitlines() if line.startswith(f"  0x{found[1]} is ")]
    assert re.fullmatch(r"  0x\w+ is main\.store\+0x\w+, kernel/main\.go:\d+", told)


def test_how_much_of_each_stack_was_used_is_told_after_a_run(seen: Run) -> None:
    for name, least in (("stack overflow", 128_000), ("fine", 100)):
        animal = next(each for each in ANIMALS if each.name == name)
        for machine in MACHINES:
            found = re.search(
                r"^stacks: at least ([\d,]+) of 131,072 bytes of the boot", seen(animal, machine).err, re.M
            )
            assert found
            assert int(found[1].replace(",", "")) >= least
