"""Debugging: gdb stops at the entry, shows the Go sources, and leaves nothing behind."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from buildsys.config.board import Board
from buildsys.errors import UserError
from buildsys.formats.elf import Elf
from buildsys.go import toolchain
from buildsys.go.options import GoOptions
from buildsys.machines import gdb, gdb_startup
from buildsys.stages.compilation import make_object

from .conftest import Image, assemble, gone, needs, prelude, read, running

pytestmark = pytest.mark.usefixtures("needs_qemu", "needs_gdb")

SOURCE = """
test:   putc    'a'
        b       entry
        .globl  entry
        .type   entry, %function
entry:  mov     x5, #7
        putc    'b'
        exit    7
"""


@pytest.fixture(scope="module")
def needs_gdb() -> None:
    needs(gdb.PROGRAMS[0], gdb.INSTALL)


@pytest.fixture(autouse=True)
def _no_settings_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))


def test_it_stops_at_the_entry_and_goes_on_to_the_exit(
    image: Image, board: Board, capfd: pytest.CaptureFixture[str]
) -> None:
    path = image(SOURCE)
    batch = ("stepi", "print $x5", "continue")
    assert gdb.debug(path, board, "entry", batch=batch) == 0
    said = capfd.readouterr().out
    assert "$1 = 7" in said
    assert re.search(r"\na\nBreakpoint 1, 0x\w+ in entry .*\nb.*exited with code 07", said, re.DOTALL)
    assert not running(path)


def test_a_guest_that_never_exits_is_ended_with_gdb(
    image: Image, board: Board, capfd: pytest.CaptureFixture[str]
) -> None:
    path = image("test: b .")
    assert gdb.debug(path, board, "test", batch=("info registers pc",)) == 0
    assert "<test>" in capfd.readouterr().out
    assert not running(path)


def test_an_entry_that_does_not_exist_is_refused(image: Image, board: Board) -> None:
    path = image(SOURCE)
    with pytest.raises(UserError, match=r"there is no function 'main\.KernelMain' to stop at"):
        gdb.debug(path, board, "main.KernelMain", batch=("quit",))
    assert not running(path)


def test_a_qemu_that_does_not_start_is_heard_and_not_waited_for(
    image: Image, board: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "qemu-system-aarch64"
    broken.write_text("#!/bin/sh\necho broken >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    path = image(SOURCE)
    gdb.debug(path, board, "entry", batch=("print 1",))
    assert capfd.readouterr().err.startswith("broken\n")
    assert not running(path)


SESSION = """
import os
from pathlib import Path
from buildsys.config import board
from buildsys.machines import gdb
print(f"<{{os.getpid()}}>", flush=True)
status = gdb.debug(Path({image!r}), board.load({board!r}, "the test"), "test")
print(f"[{{status}}]")
"""


class Terminal:
    """A process with a terminal of its own, which is read and typed at."""

    def __init__(self, command: list[str]) -> None:
        self.ours, self.theirs = pty.openpty()
        self.before = termios.tcgetattr(self.theirs)
        # A shell stays between, as at a user's terminal: it is not the death of the session to lose the command.
        command = ["setsid", "--ctty", "sh", "-c", 'trap : INT; "$@"; sleep 100', "sh", *command]
        environment = {**os.environ, "TERM": "dumb"}
        self.process = subprocess.Popen(
            command, stdin=self.theirs, stdout=self.theirs, stderr=self.theirs, env=environment
        )

    def until(self, text: str) -> str:
        """What is said up to and including `text`."""
        said = ""
        while text not in said:
            said += read(self.ours, 1).decode()
        return said

    def type(self, text: str) -> None:
        os.write(self.ours, text.encode())

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.ours)
        os.close(self.theirs)


def session(path: Path, board: Board) -> tuple[Terminal, int]:
    """gdb at its prompt, and the process that runs debug()."""
    code = SESSION.format(image=str(path), board=str(board.path))
    terminal = Terminal([sys.executable, "-c", code])
    terminal.until("<")
    number = int(terminal.until(">")[:-1])
    terminal.until("Breakpoint 1, ")
    terminal.until("(gdb) ")
    return terminal, number


def test_ctrl_c_stops_the_guest_and_quitting_leaves_the_terminal_as_it_was(image: Image, board: Board) -> None:
    path = image("test: putc 'z'\n b .")
    terminal, _ = session(path, board)
    terminal.type("continue\n")
    terminal.until("Continuing.")
    terminal.until("z")  # it runs
    terminal.type("\x03")
    terminal.until("SIGINT")
    terminal.until("(gdb) ")
    terminal.type("quit\n")
    terminal.until("(y or n) ")
    terminal.type("y\n")
    terminal.until("[0]")
    assert termios.tcgetattr(terminal.theirs) == terminal.before
    assert not running(path)
    terminal.close()


def test_the_death_of_this_process_is_the_death_of_qemu_and_gdb(image: Image, board: Board) -> None:
    path = image("test: putc 'z'\n b .")
    terminal, number = session(path, board)
    assert len(running(path)) == 2
    os.kill(number, signal.SIGKILL)
    assert gone(path)
    assert terminal.process.poll() is None, "the session did not end"
    terminal.close()


def test_keys_and_commands_are_shown_before_the_first_stop(image: Image, board: Board) -> None:
    path = image("test: putc 'z'\n b .")
    code = SESSION.format(image=str(path), board=str(board.path))
    terminal = Terminal([sys.executable, "-c", code])
    said = terminal.until("(gdb) ")
    before, _, _ = said.partition("Breakpoint 1, ")
    assert "Ctrl-C stops the guest" in before
    assert "Ctrl-D or quit ends it." in before
    assert "info goroutines" in before
    terminal.type("quit\ny\n")
    terminal.until("[0]")
    terminal.close()


def test_ctrl_d_ends_it_and_leaves_the_terminal_as_it_was(image: Image, board: Board) -> None:
    path = image("test: putc 'z'\n b .")
    terminal, _ = session(path, board)
    terminal.type("\x04")
    said = terminal.until("(y or n) ")
    assert "Quit anyway?" in said
    terminal.type("\x04")  # the end of input is a yes
    terminal.until("[0]")
    assert termios.tcgetattr(terminal.theirs) == terminal.before
    assert not running(path)
    terminal.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_asked_to_end_it_leaves_no_process_and_the_terminal_as_it_was(
    number: signal.Signals, image: Image, board: Board
) -> None:
    path = image("test: putc 'z'\n b .")
    terminal, process = session(path, board)
    os.kill(process, number)
    assert gone(path)
    assert termios.tcgetattr(terminal.theirs) == terminal.before
    terminal.close()


# Go sources.

MAIN = """package main

import "kernel/port"

var sent int

//go:noinline
func KernelMain(base uintptr) int32 {
	port.Send(base, 'g')
	sent++
	return int32(sent)
}

func main() { KernelMain(0) }
"""

PORT = """package port

import "unsafe"

//go:noinline
func Send(base uintptr, value byte) { *(*uint32)(unsafe.Pointer(base)) = uint32(value) }
"""

GO_SCRIPT = """
ENTRY(_start)
PHDRS { text PT_LOAD FLAGS(5); data PT_LOAD FLAGS(6); tls PT_TLS; }
SECTIONS {
    . = %#x;
    .text : { *(.text*) } :text
    .rodata : { *(.rodata* .gopclntab .data.rel.ro* .go.* .note* .init_array) } :text
    .tbss : { *(.tbss*) } :text :tls
    .bss %#x : { *(.bss* .noptrbss*) } :data
    .data : { *(.noptrdata* .data*) } :data
}
"""


@pytest.fixture(scope="module")
def go_kernel(board: Board, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """An image of a Go module, the module's folder (with a space in its name), and the Go tree."""
    go = toolchain.find("wheel", "a test")
    folder = tmp_path_factory.mktemp("a kernel")
    (folder / "port").mkdir()
    (folder / "go.mod").write_text("// a module\nmodule kernel\n\ngo 1.19\n")
    (folder / "main.go").write_text(MAIN)
    (folder / "port" / "port.go").write_text(PORT)
    made = tmp_path_factory.mktemp("go")
    make_object(go, folder, GoOptions(), made / "go.o", made / "tools")
    script = made / "kernel.ld"
    script.write_text(GO_SCRIPT % (board.text, board.bss) + f'INPUT("{made / "go.o"}")\n')
    image, entry = made / "kernel.elf", board.text
    for _ in range(2):  # Go's symbols are local: link, look, and link again
        calling = f"""
test:   mov     x0, #3 << 20                // floating point on, for Go
        msr     CPACR_EL1, x0
        isb
        mov     x28, sp                     // no stack check is made so near the top
        address x0, UART
        address x9, {entry:#x}
        sub     x28, sp, #1024
        str     xzr, [x28, #16]
        blr     x9
        mov     x19, x0
        b       leave
"""
        assemble(prelude(board) + calling, image, script)
        entry = Elf.read(image).symbols.addresses("main.KernelMain")["main.KernelMain"]
    return image, folder, go.root


@pytest.mark.slow
def test_go_sources_of_module_and_runtime_are_shown(
    go_kernel: tuple[Path, Path, Path], board: Board, capfd: pytest.CaptureFixture[str]
) -> None:
    image, folder, goroot = go_kernel
    batch = (
        *("info source", "list kernel/port.Send", "list runtime.mallocgc", "info auto-load python-scripts"),
        *("next", "next", "print main.sent", "continue"),
    )
    assert gdb.debug(image, board, "main.KernelMain", folder, goroot, batch) == 0
    said = capfd.readouterr().out
    assert "Breakpoint 1, main.KernelMain (base=" in said
    assert f"Located in {folder}/main.go" in said
    assert "func Send(base uintptr, value byte)" in said
    assert "func mallocgc(" in said
    assert re.search(r"Yes +runtime/runtime-gdb\.py", said)
    assert re.search(r"sent\+\+", said)
    assert "exited with code 01" in said
    assert not running(image)


@pytest.mark.slow
def test_a_package_below_its_module_finds_the_module(go_kernel: tuple[Path, Path, Path]) -> None:
    _, folder, _ = go_kernel
    assert gdb_startup.modules(folder / "port") == gdb_startup.modules(folder) == [("kernel", folder)]


def test_a_package_without_a_module_has_none(tmp_path: Path) -> None:
    assert gdb_startup.modules(tmp_path) == []
    assert gdb_startup.modules(None) == []
