"""Random numbers are those of the board's source, and nothing the supervisor made up."""

from __future__ import annotations

import os

import pytest

from tests.programs.conftest import Boot, text_of

BOARDS = ("qemu-virt", "raspi3b")


def drawn(text: str) -> str:
    return text.splitlines()[0]


@pytest.mark.parametrize("board", BOARDS)
def test_qemus_seed_decides_all_that_a_program_draws(on_qemu: Boot, board: str) -> None:
    """`-seed` is of QEMU's own generator, which both devices draw from: QEMU's manual, Invocation."""

    def with_seed(seed: int) -> str:
        more = f'board = "{board}"\nqemu-arguments = ["-seed", "{seed}"]'
        return drawn(text_of(on_qemu("chance", more=more)))

    assert with_seed(1) == with_seed(1) != with_seed(2)


@pytest.mark.parametrize("board", BOARDS)
def test_the_embedded_emulators_are_the_hosts(on_embedded: Boot, board: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given = bytes(range(256))
    monkeypatch.setattr(os, "urandom", lambda length: (given * (length // 256 + 1))[:length])
    more = f'board = "{board}"'
    if board == "qemu-virt":
        found = drawn(text_of(on_embedded("chance", more=more)))
        assert found in given.hex() * 2, found
    else:  # four bytes at a time: the same four, which the program itself takes for a broken source
        outcome = on_embedded("chance", more=more)
        assert "values of a byte: [4]" in outcome.serial.decode()
