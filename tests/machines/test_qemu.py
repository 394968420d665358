"""QEMU as a machine: what it says is told apart, and nothing of it is left behind."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import termios
import threading
from pathlib import Path

import pytest

from buildsys.config.board import Board
from buildsys.errors import UserError
from buildsys.machines import qemu
from buildsys.machines.outcome import End, Outcome

from .conftest import Image, driven, driver, gone, read, rest, running

pytestmark = pytest.mark.usefixtures("needs_qemu")

LIMIT = 20.0

SPIN = "test: putc 'z'\n b ."


def test_serial_output_arrives_while_the_guest_runs(image: Image, board: Board) -> None:
    class SeenError(Exception):
        pass

    def stop(data: bytes) -> None:
        assert data == b"z"
        raise SeenError

    path = image(SPIN)
    with pytest.raises(SeenError):
        qemu.run(path, board, 600, on_serial=stop)
    assert not running(path)


def test_much_serial_output_is_complete(image: Image, board: Board) -> None:
    path = image("""
test:   mov     x10, #0
1:      puthex  x10
        add     x10, x10, #1
        cmp     x10, #4000
        b.ne    1b
        exit    0
""")
    pieces: list[bytes] = []
    outcome = qemu.run(path, board, 60, on_serial=pieces.append)
    assert outcome.end is End.EXIT
    assert outcome.serial.decode() == "".join(f"{number:016x} " for number in range(4000))
    assert b"".join(pieces) == outcome.serial


def test_the_time_limit_leaves_no_process(image: Image, board: Board) -> None:
    path = image(SPIN)
    outcome = qemu.run(path, board, 1)
    assert (outcome.end, outcome.exit_code, outcome.serial) == (End.TIME_LIMIT, None, b"z")
    assert not running(path)


def test_a_failure_to_start_is_not_the_guests_exit(image: Image, board: Board) -> None:
    outcome = qemu.run(image("test: exit 1"), board, LIMIT, extra=("-nonsense",))
    assert (outcome.end, outcome.exit_code) == (End.EMULATOR, None)
    assert "-nonsense: invalid option" in outcome.detail


def test_an_exit_with_one_is_the_guests(image: Image, board: Board) -> None:
    outcome = qemu.run(image("test: exit 1"), board, LIMIT)
    assert (outcome.end, outcome.exit_code) == (End.EXIT, 1)


def test_a_warning_is_kept_and_does_not_reach_the_serial_output(image: Image, board: Board) -> None:
    extra = ("-d", "int,guest_errors")
    outcome = qemu.run(image("test: putc 'z'\n exit 0"), board, LIMIT, extra=extra)
    assert (outcome.end, outcome.exit_code, outcome.serial) == (End.EXIT, 0, b"z")
    assert outcome.detail


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_a_qemu_that_is_killed_is_the_emulators_failure(image: Image, board: Board, number: signal.Signals) -> None:
    path, outcomes = image(SPIN), list[Outcome]()
    sent = threading.Event()
    thread = threading.Thread(
        target=lambda: outcomes.append(qemu.run(path, board, 60, on_serial=lambda data: sent.set()))
    )
    thread.start()
    assert sent.wait(60)
    (process,) = running(path)
    os.kill(process, number)
    thread.join()
    assert [outcome.end for outcome in outcomes] == [End.EMULATOR]
    assert outcomes[0].exit_code is None
    assert re.search(r"SIGKILL|host-signal|SIGSEGV", outcomes[0].detail)


def test_ctrl_c_ends_the_run_as_an_outcome_and_leaves_no_process(image: Image, board: Board) -> None:
    path = image(SPIN)
    with driven("qemu", path, board) as process:
        assert running(path)
        process.send_signal(signal.SIGINT)
        assert rest(process) == b"[INTERRUPTED]\n"
        assert not running(path)
        assert process.wait() == 0


def test_ctrl_c_at_a_terminal_reaches_us_alone_and_leaves_it_as_it_was(image: Image, board: Board) -> None:
    path = image(SPIN)
    ours, theirs = pty.openpty()
    before = termios.tcgetattr(theirs)
    command = ["setsid", "--ctty", *driver("qemu", path, board)]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        assert read(ours, 1) == b"z"
        assert termios.tcgetattr(theirs) == before, "a running QEMU leaves the keyboard alone"
        os.write(ours, b"\x03")
        said = b""
        while b"\n" not in said:
            said += read(ours)
        assert said.replace(b"^C", b"") == b"[INTERRUPTED]\r\n"
        assert process.wait() == 0
    assert termios.tcgetattr(theirs) == before
    assert not running(path)
    os.close(ours)
    os.close(theirs)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_the_death_of_this_process_is_the_death_of_qemu(image: Image, board: Board, number: signal.Signals) -> None:
    path = image(SPIN)
    with driven("qemu", path, board) as process:
        assert running(path)
        process.send_signal(number)
        process.wait()
    assert gone(path)


def test_a_file_that_is_no_image_is_refused(tmp_path: Path, board: Board) -> None:
    path = tmp_path / "kernel.elf"
    path.write_text("not an image")
    with pytest.raises(UserError, match="not an ELF file"):
        qemu.run(path, board, LIMIT)


def test_the_version_is_what_qemu_says() -> None:
    said = subprocess.run([qemu.PROGRAM, "--version"], capture_output=True, text=True, check=True).stdout
    assert f"version {qemu.version()}" in said
    assert re.fullmatch(r"\d+(\.\d+)+", qemu.version())
