"""Go programs made by chance, redirected: they do what they do with the replacements written in.

And the call sites are those that GNU objdump and the linker's relocations tell.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import NamedTuple

import pytest

from buildsys.config.redirects import Redirection
from buildsys.errors import UserError
from buildsys.formats.modes import Mode
from buildsys.front.steps import Steps
from buildsys.machines import embedded, qemu
from tests.agreeing import releases
from tests.campaigns.programs import SHAPES, Program, program, smaller
from tests.campaigns.redirected import (
    DisagreementError,
    Others,
    Trial,
    asking,
    compared,
    linked,
    patch,
    said,
    tried,
    uses,
)
from tests.machines.conftest import needs

KEY = "BUILDSYS_PROGRAMS_KEY"  # gives a campaign again
MINUTES = "BUILDSYS_PROGRAMS_MINUTES"  # how long a campaign goes on
FIXED = 20_260_229
REDUCTIONS = 40  # programs that are built to find a smaller one with the same fault


def made(key: int, number: int) -> Program:
    """The program `number` of the campaign `key`."""
    chance = Random(f"{key}/{number}")
    return program(chance, chance.choice((20, 40, 60)))


# ---- a few, always the same ----


class Built(NamedTuple):
    """A program, linked both ways; `image` is redirected at call sites."""

    program: Program
    steps: Steps
    meant: str
    image: Path


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Not to be changed."""
    folder = tmp_path_factory.mktemp("program")
    one = program(Random(FIXED), 40)
    asked, meant = linked(one, folder / "asked", replaced=False), linked(one, folder / "meant", replaced=True)
    meant.records.perform(meant.patch())
    patch(asked, folder, wanted(one))
    expected = said(embedded.run(meant.image, meant.project.board, 60))
    return Built(one, asked, expected, folder / "kernel.elf")


def wanted(one: Program) -> list[Redirection]:
    """All of its redirects, at call sites and where addresses are held."""
    return [asking(one, swap, Mode.CALLS, pointers=True) for swap in one.swaps]


def test_a_program_redirected_in_every_mode_does_what_it_does_with_the_replacements_written_in(tmp_path: Path) -> None:
    trial = tried(program(Random(FIXED + 1), 40), tmp_path, Random(FIXED))
    assert trial.images == 4
    assert trial.sites > 100
    assert trial.refused["called by address"] == 1
    assert {"calls", "calls pointers", "entry", "both"} <= trial.modes.keys()
    assert trial.marks.bit_count() > len(SHAPES) // 2


def test_it_does_so_on_qemu(built: Built) -> None:
    needs(qemu.PROGRAM, qemu.INSTALL)
    assert said(qemu.run(built.image, built.steps.project.board, 60)) == built.meant


def test_a_redirect_that_is_left_out_shows(built: Built, tmp_path: Path) -> None:
    """In what the program says; else it would prove nothing that it says the same."""
    ways = uses(built.program)
    shown = 0
    for swap in [swap for swap in built.program.swaps if ways[swap] and not swap.passing][:4]:
        patch(built.steps, tmp_path, [asking(built.program, each, Mode.CALLS, True) for each in built.program.swaps
                                      if each is not swap])  # fmt: skip
        shown += said(embedded.run(tmp_path / "kernel.elf", built.steps.project.board, 60)) != built.meant
    assert shown >= 2


def test_a_call_site_that_is_not_told_and_a_word_that_is_changed_are_found(built: Built, tmp_path: Path) -> None:
    others = Others(built.steps.unpatched)
    for name in ("kernel.elf", "patch.json"):
        shutil.copy2(built.image.with_name(name), tmp_path / name)
    assert compared(built.steps.unpatched, tmp_path, wanted(built.program), others) > 50
    report = json.loads((tmp_path / "patch.json").read_bytes())
    told = next(each for each in report["functions"] if each["kind"] == "redirect" and each["sites"])
    site = told["sites"].pop()
    (tmp_path / "patch.json").write_text(json.dumps(report))
    with pytest.raises(DisagreementError, match=r"sites .*, objdump .*, relocations") as caught:
        compared(built.steps.unpatched, tmp_path, wanted(built.program), others)
    assert site["address"] in str(caught.value)
    shutil.copy2(built.image.with_name("patch.json"), tmp_path / "patch.json")
    image = bytearray((tmp_path / "kernel.elf").read_bytes())
    image[0x1_0000] ^= 1
    (tmp_path / "kernel.elf").write_bytes(image)
    with pytest.raises(DisagreementError, match="changed, and nobody says so"):
        compared(built.steps.unpatched, tmp_path, wanted(built.program), others)


def test_a_go_statement_the_kernel_can_reach_is_refused_unless_something_serves_it(
    built: Built, tmp_path: Path
) -> None:
    project = built.steps.project
    served = tuple(each for each in project.redirects if each.old != "runtime.newproc")
    with pytest.raises(UserError) as caught:
        patch(built.steps, tmp_path, wanted(built.program), served)
    assert "→ runtime.newproc" in caught.value.message


def test_a_program_is_made_smaller_as_long_as_it_disagrees() -> None:
    """Until what it disagrees by is nearly all that is left."""
    one = program(Random(FIXED))

    def attempt(one: Program) -> Trial:
        if any(call.shape == "generic" for call in one.calls()) and len(one.swaps) > 1:
            raise DisagreementError("generic")
        return Trial()

    least, why = reduced(one, attempt, "", 5000)
    assert why == "generic"
    assert len(least.swaps) == 2
    assert sum(1 for call in least.calls() if call.shape == "generic") == 1
    assert len(list(least.calls())) < 10 < len(list(one.calls()))


# ---- as many as there is time for ----


@pytest.mark.campaign
def test_programs_redirected_do_what_they_do_with_the_replacements_written_in(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By every Go there is, both linkers, and with less of the compiler's cleverness."""
    key = int(os.environ.get(KEY, "0")) or secrets.randbits(32)
    end = time.monotonic() + 60 * float(os.environ.get(MINUTES, "10"))
    print(f"the key is {key}: {KEY}={key} makes the same programs again")
    needs(qemu.PROGRAM, qemu.INSTALL)
    count, marks, totals = 0, 0, Counter[str]()
    gos = [str(go.root) for go in releases()]
    while time.monotonic() < end:
        chance = Random(f"{key}/{count}/how")
        settings = {
            "go": chance.choice(["wheel", *gos]),
            "toolchain": chance.choice(("zig", "zig", "gnu")),
            "gcflags": chance.choice(("", "", "", "-l", "-N -l")),
        }
        one = made(key, count)

        def attempt(one: Program, number: int = count, settings: dict[str, str] = settings) -> Trial:
            return tried(one, tmp_path / "work", Random(f"{key}/{number}/asked"), number % 8 == 0, **settings)

        try:
            trial = attempt(one)
        except DisagreementError as found:
            least, said_last = reduced(one, attempt, str(found))
            pytest.fail(f"program {count} of key {key}, {settings}:\n{said_last}\nleast:\n{least}")
        marks |= trial.marks
        count += 1
        totals += Counter({"images": trial.images, "sites": trial.sites})
        totals += Counter({f"refused: {why}": many for why, many in trial.refused.items()})
        totals += trial.modes + Counter(["Go " + Path(settings["go"]).name, settings["toolchain"], settings["gcflags"]])
    with capsys.disabled():
        print(f"\n{count} programs, key {key}: {dict(totals)}; not seen: {unseen(marks)}")
    assert count < 20 or not unseen(marks)


def unseen(marks: int) -> list[str]:
    """The shapes in which no call came to a function that is replaced."""
    return [shape for at, shape in enumerate(SHAPES) if not marks >> at & 1]


def reduced(
    one: Program, attempt: Callable[[Program], Trial], said_last: str, most: int = REDUCTIONS
) -> tuple[Program, str]:
    """The smallest program found in `most` attempts in which something disagrees, too; and what."""
    tries = iter(range(most))
    while (found := _first(one, attempt, tries)) is not None:
        one, said_last = found
    return one, said_last


def _first(one: Program, attempt: Callable[[Program], Trial], tries: Iterator[int]) -> tuple[Program, str] | None:
    for less in smaller(one):
        if next(tries, None) is None:
            return None
        try:
            attempt(less)
        except DisagreementError as found:
            return less, str(found)
        except UserError:
            continue  # it lacks what the kernel's own redirects need
    return None
