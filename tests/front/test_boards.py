"""A user who names another board in pyproject.toml, or a file of their own, and uses the same commands."""

from __future__ import annotations

import json
import re

import pytest

from buildsys.config import board as boards
from buildsys.config.board import BOARDS
from tests.front.conftest import Checkout

OTHERS = [name for name in boards.names() if name != "qemu-virt"]


@pytest.mark.parametrize("name", OTHERS)
def test_another_board_is_built_booted_and_verified_by_the_same_commands(checkout: Checkout, name: str) -> None:
    checkout.set(f'board = "{name}"')
    built = checkout.doit("build").succeeded()
    assert built.steps == ("link", "patch")  # nothing of Go's depends on the board
    assert f"linked for {name}" in built.out
    for command in ("run", "run-qemu"):
        done = checkout.doit(command)
        assert done.status == 0, done.err
        assert "All tests passed! Exiting via semihosting..." in done.out.splitlines()
    verified = checkout.doit("verify", "--strict")
    assert verified.status == 0, verified.out + verified.err
    verdicts = json.loads(checkout.path("build/verify.json").read_text())
    assert {claim["result"] for claim in verdicts["claims"]} == {"passed"}
    page = checkout.path("build/proof.html").read_text()
    for region in boards.load(name, "the tests").regions:
        assert region.name in page


@pytest.mark.parametrize("name", OTHERS)
def test_there_is_no_before_of_a_board_without_flash(checkout: Checkout, name: str) -> None:
    checkout.set(f'board = "{name}"')
    checkout.doit("verify", "--before").refused(f"board {name} has no code in flash", "needs a board such as qemu-virt")


def test_going_back_to_a_board_gives_the_same_image(checkout: Checkout) -> None:
    before = checkout.image
    checkout.set('board = "raspi3b"')
    checkout.doit("build").succeeded()
    assert checkout.image != before
    checkout.set('board = "qemu-virt"')
    checkout.doit("build").succeeded()
    assert checkout.image == before


def test_a_board_of_ones_own_that_cannot_be_is_refused_with_a_drawing(checkout: Checkout) -> None:
    text = (BOARDS / "qemu-virt.toml").read_text()
    checkout.path("mine.toml").write_text(text.replace("origin = 0x40000000", "origin = 0x3f000000"))
    checkout.set('board = "mine.toml"')
    before = checkout.image
    message = checkout.doit("build").refused("`memory.ram` overlaps `memory.peripherals`", "share 16 MiB")
    assert re.search(r"mine\.toml:\d+: ", message)
    assert re.search(r"(?m)^ +0x003f000000  \| \+  ram \(ram, 128 MiB\)$", message)
    assert re.search(r"(?m)^ +# #  peripherals and ram share 16 MiB$", message)
    assert checkout.image == before
