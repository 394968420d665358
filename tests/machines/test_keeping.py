"""Memory read when a run has ended, whatever its end: on both emulators."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from buildsys.config.board import Board
from buildsys.machines import embedded, qemu
from buildsys.machines.outcome import End, Outcome

from .conftest import Image

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("needs_qemu")]

WORD = 0x1122334455667788
# 100 words that count, far into RAM, so that they are more than a packet of the stub's; `test` then goes on.
COUNTING = """
test:   address x0, RAM + 0x100000
        movz    x1, #0x7788
        movk    x1, #0x5566, lsl #16
        movk    x1, #0x3344, lsl #32
        movk    x1, #0x1122, lsl #48
        mov     x2, #200
1:      str     x1, [x0], #8
        add     x1, x1, #1
        subs    x2, x2, #1
        b.ne    1b
"""
MACHINES = ("embedded", "qemu")


def run(machine: str, image: Path, board: Board, limit: float, keep: Sequence[range]) -> Outcome:
    if machine == "qemu":
        return qemu.run(image, board, limit, keep=keep)
    return embedded.run(image, board, limit, keep=keep)


def ended(machine: str, image: Path, board: Board, limit: float = 20) -> tuple[Outcome, list[int]]:
    """The outcome, and the words kept."""
    low = board.ram.origin + 0x100000
    outcome = run(machine, image, board, limit, (range(low, low + 1600), range(low + 8, low + 16)))
    assert outcome.memory.keys() == {low, low + 8}
    assert outcome.memory[low][8:16] == outcome.memory[low + 8]
    data = outcome.memory[low]
    return outcome, [int.from_bytes(data[at : at + 8], "little") for at in range(0, len(data), 8)]


COUNTED = list(range(WORD, WORD + 200))


@pytest.mark.parametrize("machine", MACHINES)
def test_a_guest_that_exits_leaves_its_memory_and_its_status(machine: str, image: Image, board: Board) -> None:
    outcome, words = ended(machine, image(COUNTING + "        exit 7\n"), board)
    assert (outcome.end, outcome.exit_code) == (End.EXIT, 7)
    assert words == COUNTED


@pytest.mark.parametrize("machine", MACHINES)
def test_semihosting_that_ends_nothing_is_let_through(machine: str, image: Image, board: Board) -> None:
    """What the guest does after it counts as well."""
    writes = """
        adr     x1, letter
        mov     w0, #3                  // SYS_WRITEC
        hlt     #0xf000
        mov     w0, #3
        hlt     #0xf000
        address x0, RAM + 0x100000
        str     xzr, [x0]
        exit    0
letter: .ascii  "!"
        .balign 4
"""
    outcome, words = ended(machine, image(COUNTING + writes), board)
    assert (outcome.end, outcome.serial) == (End.EXIT, b"!!")
    assert words == [0, *COUNTED[1:]]


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(("function", "end"), [(8, End.POWER_OFF), (9, End.RESET)])
def test_a_guest_that_turns_the_machine_off_leaves_its_memory(
    machine: str, function: int, end: End, image: Image, board: Board
) -> None:
    off = f"        movz w0, #{function}\n        movk w0, #0x8400, lsl #16\n        hvc #0\n"  # PSCI
    outcome, words = ended(machine, image(COUNTING + off), board)
    assert outcome.end is end
    assert words == COUNTED


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("loop", ["b .", "1: wfi; b 1b"])
def test_a_guest_that_does_not_end_leaves_its_memory(machine: str, loop: str, image: Image, board: Board) -> None:
    outcome, words = ended(machine, image(COUNTING + f"        {loop}\n"), board, limit=1)
    assert outcome.end is End.TIME_LIMIT
    assert words == COUNTED


@pytest.mark.parametrize("machine", MACHINES)
def test_memory_that_is_not_there_is_left_out(machine: str, image: Image, board: Board) -> None:
    nothing = range(board.ram.end + 0x1000, board.ram.end + 0x1008)
    outcome = run(machine, image(COUNTING + "        exit 0\n"), board, 20, (nothing,))
    assert outcome.end is End.EXIT
    assert outcome.memory == {}
