"""Debugging an image: QEMU halted at reset, gdb attached to it with symbols and Go sources.

gdb gets the terminal; QEMU has none, so Ctrl-C interrupts the guest through gdb and nothing
else. What the guest sends appears between gdb's own lines.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import termios
from collections.abc import Iterator, Sequence
from pathlib import Path

from buildsys.config.board import Board
from buildsys.errors import UserError
from buildsys.formats.elf import Elf
from buildsys.machines import gdb_startup, qemu
from buildsys.machines.interruption import Interruption
from buildsys.processes import dies_with_parent

# The last may know AArch64 or not, depending on how it was built.
PROGRAMS = ("gdb-multiarch", "aarch64-linux-gnu-gdb", "aarch64-none-elf-gdb", "gdb")
PREFIX, SOCKET = "buildsys-gdb-", "gdb"
LONGEST = 107  # characters of a socket's path: unix(7), sun_path
INSTALL = "apt-get install --no-install-recommends gdb-multiarch"

CONSOLE = "Ctrl-C stops the guest, whose output appears here; Ctrl-D or quit ends it."
KEPT = "Ctrl-D or quit ends it."

SCRIPT = "debug.gdb"  # beside the image, for a gdb started elsewhere

ANSWER = 60  # seconds gdb waits for QEMU to start and answer
LINGER = 0.5  # seconds


def debug(
    image: Path,
    board: Board,
    entry: str,
    package: Path | None = None,
    goroot: Path | None = None,
    batch: Sequence[str] = (),
) -> int:
    """Run gdb on `image`, stopped at the function `entry`, until the user quits; gdb's exit status.

    `package` is the folder of the Go package, `goroot` the Go tree that compiled it: their
    sources are shown, and Go's own gdb commands loaded. With `batch`, gdb carries out these
    commands and ends. No QEMU is left afterwards. Raises UserError without QEMU or a gdb for
    AArch64, and for an entry the image does not have.
    """
    debugger, stop = program(), gdb_startup.stop(image, entry)
    with tempfile.TemporaryDirectory(prefix=PREFIX, dir=place_for_socket()) as folder, _same_terminal(), Interruption():
        address = str(Path(folder, SOCKET))
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(address)
            listening.listen()
            with subprocess.Popen(
                [debugger, *arguments(image, address, stop, package, goroot, batch)],
                # It has the terminal; asked to end, it leaves it as it was.
                preexec_fn=dies_with_parent(signal.SIGTERM),
            ) as process:
                _serve(process, listening, image, board)
                return process.wait()


def inspect(
    image: Path, core: Path, package: Path | None = None, goroot: Path | None = None, batch: Sequence[str] = ()
) -> int:
    """Run gdb on `image` and the machine kept in `core`, until the user quits; gdb's exit status.

    The rest is as for debug(). Raises UserError without a gdb for AArch64.
    """
    # Core files are those of Linux: without this gdb finds no registers in one.
    first = ["set osabi GNU/Linux", "set print thread-events off", *gdb_startup.before(package, goroot)]
    then = [*([] if batch else _told(KEPT)), *gdb_startup.after(image, package, goroot, core.parent), *batch]
    command = [program(), "-q", *(["-batch"] if batch else []), *_each("-iex", first), str(image), str(core)]
    with (
        _same_terminal(),
        Interruption(),
        subprocess.Popen([*command, *_each("-ex", then)], preexec_fn=dies_with_parent(signal.SIGTERM)) as process,
    ):
        return process.wait()


def serve(image: Path, board: Board, port: int, script: Path) -> int:
    """QEMU with `image`, halted at reset, its gdb stub at `port` of localhost, until the guest exits or Ctrl-C.

    A gdb that reads `script` knows sources and commands.

    For debuggers in editors. Returns QEMU's exit status, -1 if it was interrupted. Raises UserError without QEMU.
    """
    Elf.read(image)
    if not 0 < port < 1 << 16:
        raise UserError(f"--server={port} is no port", "ports are numbers from 1 to 65535: --server=1234")
    with socket.socket() as listening, contextlib.ExitStack() as stack:
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(("localhost", port))
            listening.listen()
        except OSError as error:
            raise UserError(
                f"--server={port}: {error.strerror}", "another debugger waits there, or choose another"
            ) from error
        number = listening.fileno()
        command = [
            *qemu.command(image, board),
            *("-chardev", "stdio,id=console,mux=on,signal=off", "-serial", "chardev:console"),
            *("-chardev", f"socket,id=gdb,server=on,wait=off,fd={number}", "-gdb", "chardev:gdb", "-S"),
        ]
        interruption = stack.enter_context(Interruption())
        machine = stack.enter_context(qemu.ending(qemu.start(command, pass_fds=(number,))))
        listening.close()
        gone = os.pidfd_open(machine.pid)
        try:
            # Whoever connects from here on is heard when QEMU is ready.
            print(f"QEMU waits at reset for gdb: target remote localhost:{port}")
            print(f"({script} tells gdb of sources and commands; Ctrl-C ends QEMU)", flush=True)
            if gone not in select.select([gone, interruption.fd], [], [])[0]:
                return -1
        finally:
            os.close(gone)
        return machine.wait()


def place_for_socket() -> str:
    """The folder for temporary files in which a folder's socket can have a path that is not too long."""
    usual = tempfile.gettempdir()
    longest = Path(usual, PREFIX + "_" * 8, SOCKET)
    return usual if len(bytes(longest)) <= LONGEST else "/tmp"


def _serve(debugger: subprocess.Popen[bytes], listening: socket.socket, image: Path, board: Board) -> None:
    """When gdb connects, start QEMU on the connection, and keep it until gdb has gone.

    QEMU tells gdb of the guest's exit and is gone at once; gdb then answers, and would complain
    that nobody listens. So the connection stays open here for a moment longer.
    """
    ended = os.pidfd_open(debugger.pid)
    try:
        if listening.fileno() not in select.select([listening.fileno(), ended], [], [])[0]:
            return
        connection, _ = listening.accept()
        with connection, qemu.ending(_halted(image, board, connection)) as machine:
            gone = os.pidfd_open(machine.pid)
            try:
                select.select([ended, gone], [], [])
            finally:
                os.close(gone)
            select.select([ended], [], [], LINGER)
    finally:
        os.close(ended)


def _halted(image: Path, board: Board, connection: socket.socket) -> subprocess.Popen[bytes]:
    """QEMU with `image`, not started, its gdb stub on `connection`."""
    number = connection.fileno()
    return qemu.start(
        [
            *qemu.command(image, board),
            *("-chardev", "stdio,id=console,mux=on,signal=off", "-serial", "chardev:console"),
            *("-chardev", f"socket,id=gdb,fd={number}", "-gdb", "chardev:gdb", "-S"),
        ],
        pass_fds=(number,),
    )


def arguments(
    image: Path, address: str, stop: str, package: Path | None, goroot: Path | None, batch: Sequence[str]
) -> list[str]:
    """gdb's arguments for `image`, whose machine listens at `address`, a gdb remote target; it goes on to `stop`."""
    then = [
        *gdb_startup.after(image, package, goroot),
        *([] if batch else _told(CONSOLE)),
        *connecting(address),
        stop,
        "continue",
        *batch,
    ]
    first = gdb_startup.before(package, goroot)
    return ["-q", *(["-batch"] if batch else []), *_each("-iex", first), str(image), *_each("-ex", then)]


def connecting(address: str) -> list[str]:
    """What gdb is told to reach the machine at `address`."""
    return [f"set remotetimeout {ANSWER}", f"target remote {address}"]


def _told(keys: str) -> list[str]:
    return [f"echo {keys}\\n", f"echo Of buildsys: {gdb_startup.NAMES}\\n"]


def _each(option: str, commands: Sequence[str]) -> list[str]:
    return [part for command in commands for part in (option, command)]


def program() -> str:
    """The path of a gdb that knows AArch64. Raises UserError, with the command that installs one."""
    for name in PROGRAMS:
        path = shutil.which(name)
        if path and (name != "gdb" or _knows_aarch64(path)):
            return path
    raise UserError("there is no gdb for AArch64", f"on Debian: {INSTALL}")


def _knows_aarch64(path: str) -> bool:
    asked = [path, "-nx", "-batch", "-ex", "set architecture aarch64"]
    return '"aarch64"' in subprocess.run(asked, capture_output=True, text=True, check=False).stdout


@contextlib.contextmanager
def _same_terminal() -> Iterator[None]:
    """If there is a terminal, it behaves afterwards as it did before."""
    try:
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        yield
        return
    try:
        before = termios.tcgetattr(terminal)
        try:
            yield
        finally:
            termios.tcsetattr(terminal, termios.TCSADRAIN, before)
    finally:
        os.close(terminal)
