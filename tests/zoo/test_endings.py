"""All that a guest sends arrives, to its last byte; a run that lost the end of it would not be believed here."""

from __future__ import annotations

from typing import Any

import pytest

from buildsys.machines import qemu
from buildsys.machines.pl011 import DR, Pl011
from tests.zoo.conftest import MACHINES, Animal, Run, Seen

pytestmark = pytest.mark.slow
LAST_LINE, TALKS = Animal("its last line has no end", 35, 0), Animal("talks", 39, 0)
LINES = 8000  # tests/kernels/zoo/main.go
BLOCK = 4096  # bytes a mutant waits for


def is_whole(run: Seen) -> bool:
    """Whether what TALKS sends is all there."""
    return run.out == "".join(["the zoo: 39\n", *(f"{number}\n" for number in range(LINES))])


@pytest.mark.parametrize("machine", MACHINES)
def test_much_output_arrives_whole(machine: str, seen: Run) -> None:
    run = seen(TALKS, machine)
    assert run.status == 0, run.err
    assert is_whole(run)


@pytest.mark.parametrize("machine", MACHINES)
def test_a_last_line_without_an_end_is_shown_and_ended(machine: str, seen: Run) -> None:
    run = seen(LAST_LINE, machine)
    assert run.status == 0, run.err
    assert run.out == "the zoo: 35\nthe last line has no end\n"


@pytest.mark.parametrize("machine", MACHINES)
def test_a_reader_that_keeps_the_last_of_it_is_found_out(
    machine: str, seen: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mutants: what is read, or sent, is passed on a block at a time, and the last block never."""
    kept = bytearray()

    def block(data: bytes) -> bytes:
        kept.extend(data)
        passed = bytes(kept[: len(kept) // BLOCK * BLOCK])
        del kept[: len(passed)]
        return passed

    on_output: Any = qemu._Watched._on_output
    write = Pl011.write
    monkeypatch.setattr(qemu._Watched, "_on_output", lambda self, data: on_output(self, block(data)))

    def in_blocks(self: Pl011, offset: int, value: int) -> None:
        if offset != DR:
            write(self, offset, value)
            return
        for byte in block(bytes((value & 0xFF,))):
            write(self, offset, byte)

    monkeypatch.setattr(Pl011, "write", in_blocks)
    assert not is_whole(seen(TALKS, machine))
    assert kept
