"""A machine is stopped and looked into through the GDB Remote Serial Protocol, and does what it does unwatched."""

from __future__ import annotations

import dataclasses
import socket
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from buildsys.config.board import Board
from buildsys.errors import UserError
from buildsys.formats.elf import Elf
from buildsys.machines import qemu
from buildsys.machines.gdb_remote import GoneError, Remote, RemoteError, halted

from .conftest import Image

LIMIT = 20.0

# QEMU may have its device tree at the start of RAM.
PLACE = 0x40_0000
COUNTING = f"""
test:   address x1, RAM + {PLACE}
        mov     x2, #0
loop:   add     x2, x2, #1
        str     x2, [x1]
        cmp     x2, #5
        b.ne    loop
done:   exit    0
"""
SPINNING = f"test: address x1, RAM + {PLACE}\n mov x2, #7\n str x2, [x1]\nspin: b spin"


def symbol(image: Path, name: str) -> int:
    return Elf.read(image).symbols.addresses(name)[name]


def number(data: bytes) -> int:
    return int.from_bytes(data, "little")


def running(image: Path) -> list[int]:
    """The processes that have `image` among their arguments."""
    return [
        int(each.parent.name)
        for each in Path("/proc").glob("[0-9]*/cmdline")
        if str(image).encode() in read_or_nothing(each)
    ]


def read_or_nothing(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # the process is gone
        return b""


@pytest.mark.usefixtures("needs_qemu")
class TestQemu:
    def test_a_machine_waits_at_its_first_instruction(self, image: Image, board: Board) -> None:
        path = image(COUNTING)
        with halted(path, board) as remote:
            registers = remote.registers()
            assert registers["pc"] == symbol(path, "_start")
            assert set(registers) == {*(f"x{n}" for n in range(31)), "sp", "pc"}

    def test_it_stops_before_each_execution_of_an_instruction(self, image: Image, board: Board) -> None:
        path = image(COUNTING)
        loop = symbol(path, "loop")
        with halted(path, board) as remote:
            remote.stop_at(loop)
            for count in range(5):
                assert remote.run(LIMIT)
                registers = remote.registers()
                assert (registers["pc"], registers["x2"]) == (loop, count)
                assert number(remote.read(board.bss + PLACE, 8)) == count
                remote.pass_by(loop)
                assert remote.step()
                assert remote.registers()["x2"] == count + 1
                remote.stop_at(loop)
            assert not remote.run(LIMIT), "the guest has exited"

    def test_a_breakpoint_taken_away_stops_nothing(self, image: Image, board: Board) -> None:
        path = image(COUNTING)
        with halted(path, board) as remote:
            remote.stop_at(symbol(path, "loop"))
            remote.pass_by(symbol(path, "loop"))
            remote.stop_at(symbol(path, "done"))
            assert remote.run(LIMIT)
            assert remote.registers()["x2"] == 5

    def test_memory_is_read_whole_however_much(self, image: Image, board: Board) -> None:
        path = image(COUNTING)
        code = Elf.read(path).code[0]
        with halted(path, board) as remote:
            assert remote.read(code.address, code.size) == Elf.read(path).contents(code)
            assert remote.read(board.bss + PLACE, 100_001) == bytes(100_001)

    def test_a_machine_that_does_not_stop_is_interrupted(self, image: Image, board: Board) -> None:
        path = image(SPINNING)
        with halted(path, board) as remote:
            with pytest.raises(TimeoutError):
                remote.run(0.3)
            assert remote.registers()["pc"] == symbol(path, "spin")
            assert number(remote.read(board.bss + PLACE, 8)) == 7

    def test_a_machine_that_powers_itself_off_has_ended(self, image: Image, board: Board) -> None:
        path = image("test: address x0, 0x84000008\n hvc #0\n b .")
        with halted(path, board) as remote:
            assert not remote.run(LIMIT)

    def test_memory_that_the_guest_does_not_see_is_an_error(self, image: Image, board: Board) -> None:
        top = max(region.end for region in board.regions)
        with halted(image(COUNTING), board) as remote, pytest.raises(RemoteError):
            remote.read(top + (1 << 40), 8)

    def test_nothing_is_left_of_it(self, image: Image, board: Board) -> None:
        path = image(SPINNING)
        with halted(path, board) as remote:
            remote.step()
            assert len(running(path)) == 1
        assert not running(path)
        with pytest.raises(ZeroDivisionError), halted(path, board):
            raise ZeroDivisionError
        assert not running(path)

    def test_a_qemu_that_does_not_start_says_why(self, image: Image, board: Board) -> None:
        wrong = dataclasses.replace(board, qemu=("-machine", "nonesuch"))
        with pytest.raises(RemoteError, match="unsupported machine type"), halted(image(COUNTING), wrong):
            pytest.fail("it started")

    def test_a_file_that_is_no_image_is_refused(self, tmp_path: Path, board: Board) -> None:
        path = tmp_path / "kernel.elf"
        path.write_bytes(b"\x7fELF")
        with pytest.raises(UserError, match="truncated"), halted(path, board):
            pytest.fail("it started")


def test_without_qemu_the_message_says_how_to_install_it(
    image: Image, board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = image(COUNTING)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match="not installed") as caught, halted(path, board):
        pytest.fail("it started")
    assert caught.value.hint == f"on Debian: {qemu.INSTALL}"


class Stub:
    """A stub that says, a byte at a time, what QEMU would not: `answers` in turn, one for each packet."""

    def __init__(self, *answers: bytes) -> None:
        self.ours, self._theirs = socket.socketpair()
        self.heard: list[bytes] = []
        threading.Thread(target=self._serve, args=(answers,), daemon=True).start()

    def _serve(self, answers: Sequence[bytes]) -> None:
        with self._theirs:
            for answer in answers:
                heard = b""
                while heard[-3:-2] != b"#":
                    data = self._theirs.recv(1)
                    if not data:
                        return
                    heard += data
                self.heard.append(heard)
                for byte in answer:
                    self._theirs.sendall(bytes((byte,)))


def packet(contents: bytes) -> bytes:
    return b"+$%s#%02x" % (contents, sum(contents) & 0xFF)


def test_packets_have_a_sum_and_answers_come_in_pieces() -> None:
    stub = Stub(packet(b"T05thread:01;"), packet(b"0100000000000080"))
    assert Remote(stub.ours).read(0x1000, 8) == bytes.fromhex("0100000000000080")
    assert [each.lstrip(b"+") for each in stub.heard] == [b"$?#3f", b"$m1000,8#92"]


@pytest.mark.parametrize("answer", [b"E14", b"", b"01", b"xyz", b"010203"])
def test_an_answer_that_is_no_memory_is_an_error(answer: bytes) -> None:
    stub = Stub(packet(b"T05"), packet(answer))
    remote = Remote(stub.ours)
    with pytest.raises(RemoteError, match="the stub answered"):
        remote.read(0x1000, 2)


def test_a_breakpoint_that_is_refused_is_an_error() -> None:
    stub = Stub(packet(b"T05"), packet(b"E22"))
    remote = Remote(stub.ours)
    with pytest.raises(RemoteError, match="E22"):
        remote.stop_at(0x1000)


def test_too_few_registers_are_an_error() -> None:
    stub = Stub(packet(b"T05"), packet(b"00" * 8))
    remote = Remote(stub.ours)
    with pytest.raises(RemoteError, match="8 bytes of registers"):
        remote.registers()


def test_a_stub_that_is_gone_is_an_error_but_the_end_of_a_run() -> None:
    stub = Stub(packet(b"T05"), b"+")
    remote = Remote(stub.ours)
    assert not remote.run(LIMIT)
    with pytest.raises(GoneError):
        remote.registers()


def test_an_answer_that_is_no_stop_is_an_error() -> None:
    stub = Stub(packet(b"T05"), packet(b"OK"))
    remote = Remote(stub.ours)
    with pytest.raises(RemoteError, match="where it should have stopped"):
        remote.run(LIMIT)
