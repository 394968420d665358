"""A machine stopped and looked into: a small client of the GDB Remote Serial Protocol, and QEMU behind it.

Only what watching takes: registers and memory read, breakpoints set and taken away, running
and interrupting. Nothing of the guest is written, so what it does it also does unwatched.
Source: "Debugging with GDB", appendix E; the layout of the registers is QEMU's
gdb-xml/aarch64-core.xml.
"""

from __future__ import annotations

import contextlib
import re
import socket
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from buildsys.config.board import Board
from buildsys.formats.elf import Elf
from buildsys.machines import qemu
from buildsys.machines.outcome import ending

ANSWER = 10.0  # seconds a stub may take for anything but running
LARGEST_READ = 0x7C0  # bytes; QEMU's packets hold 4096 characters, two for each
INTERRUPT = b"\x03"
NO_ALIASES: Mapping[str, Sequence[str]] = MappingProxyType({})
REGISTERS = (*(f"x{number}" for number in range(31)), "sp", "pc")


class RemoteError(Exception):
    """The stub is gone, or said something a stub does not say."""


class GoneError(RemoteError):
    """The machine has ended, and the stub with it."""


class Remote:
    """The stub at the other end of `connection`; the machine behind it is stopped, or stops at once.

    `said` tells that the guest sent what ends its run: the machine was then stopped, at no breakpoint.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._pending = b""
        self._numbers: dict[str, int] = {}
        self.said = threading.Event()
        self._ask("?")

    def registers(self) -> dict[str, int]:
        """x0 to x30, sp and pc."""
        answer = self._bytes("g")
        if len(answer) < 8 * len(REGISTERS):
            raise RemoteError(f"the stub gave {len(answer)} bytes of registers")
        return {name: int.from_bytes(answer[8 * at : 8 * at + 8], "little") for at, name in enumerate(REGISTERS)}

    def system_registers(
        self, names: Iterable[str], aliases: Mapping[str, Sequence[str]] = NO_ALIASES
    ) -> dict[str, int]:
        """Those of `names` that the stub has, in small letters; `aliases` are other names it may know them by.

        "pstate" stands in the description of the core, where it is called cpsr.
        """
        if not self._numbers:
            for file in ("aarch64-core.xml", "system-registers.xml"):
                text = self._transfer(f"qXfer:features:read:{file}")
                for tag in re.findall(r"<reg [^>]*>", text):
                    about = dict(re.findall(r'(\w+)="([^"]*)"', tag))
                    number = int(about["regnum"]) if "regnum" in about else len(self._numbers)
                    self._numbers[about["name"].lower()] = number
        found = {}
        for name in names:
            known = next((each for each in (name, *aliases.get(name, ())) if each in self._numbers), None)
            if known is not None:
                with contextlib.suppress(RemoteError):
                    found[name] = int.from_bytes(self._bytes(f"p{self._numbers[known]:x}"), "little")
        return found

    def _transfer(self, what: str) -> str:
        """A file of the stub's, which it sends in pieces: m, of which there is more, and l, the last."""
        text = ""
        while True:
            answer = self._ask(f"{what}:{len(text):x},{LARGEST_READ:x}")
            text += answer[1:]
            if answer[:1] != "m" or not answer[1:]:
                return text

    def read(self, address: int, size: int) -> bytes:
        """`size` bytes at `address` as the guest sees them. Raises RemoteError where it sees nothing."""
        data = b""
        while len(data) < size:
            step = min(LARGEST_READ, size - len(data))
            data += self._bytes(f"m{address + len(data):x},{step:x}", step)
        return data

    def stop_at(self, address: int) -> None:
        """Stop before each execution of the instruction at `address`, by a hardware breakpoint."""
        self._ok(f"Z1,{address:x},4")

    def pass_by(self, address: int) -> None:
        """Take the breakpoint at `address` away."""
        self._ok(f"z1,{address:x},4")

    def run(self, seconds: float) -> bool:
        """Run to the next breakpoint (True) or the end of the machine (False).

        Raises TimeoutError if neither comes within `seconds`; the machine is then stopped where it was.
        """
        self._send("c")
        try:
            return self._stopped(seconds)
        except TimeoutError:
            self._connection.sendall(INTERRUPT)
            if not self._stopped(ANSWER):
                return False
            raise

    def kill(self) -> None:
        """End the machine, and QEMU with it."""
        with contextlib.suppress(GoneError):
            self._send("k")

    def interrupt(self) -> None:
        """Stop the machine; run(), in another thread, comes back."""
        with contextlib.suppress(OSError):  # it may have ended by itself
            self._connection.sendall(INTERRUPT)

    def step(self) -> bool:
        """Run one instruction; whether the machine is still there."""
        self._send("s")
        return self._stopped(ANSWER)

    def _stopped(self, seconds: float) -> bool:
        try:
            answer = self._receive(seconds)
        except GoneError:
            return False
        if answer[:1] not in ("S", "T", "W", "X"):
            raise RemoteError(f"the stub answered {answer!r} where it should have stopped")
        return answer[0] in "ST"

    def _ok(self, packet: str) -> None:
        answer = self._ask(packet)
        if answer != "OK":
            raise RemoteError(f"the stub answered {answer!r} to {packet!r}")

    def _bytes(self, packet: str, size: int | None = None) -> bytes:
        answer = self._ask(packet)
        try:
            data = bytes.fromhex(answer)
        except ValueError:
            data = b""
        if not data or size not in (None, len(data)):
            raise RemoteError(f"the stub answered {answer!r} to {packet!r}")
        return data

    def _ask(self, packet: str) -> str:
        self._send(packet)
        try:
            return self._receive(ANSWER)
        except TimeoutError as error:
            raise RemoteError(f"{error} to {packet!r}") from error

    def _send(self, packet: str) -> None:
        data = packet.encode()
        try:
            self._connection.sendall(b"$%s#%02x" % (data, sum(data) & 0xFF))
        except OSError as error:
            raise GoneError(f"the stub is gone: {error.strerror}") from error

    def _receive(self, seconds: float) -> str:
        """The next packet's contents. A Unix socket loses nothing, so no sum needs checking."""
        deadline = time.monotonic() + seconds
        while True:
            start = self._pending.find(b"$")
            end = self._pending.find(b"#", start)
            if 0 <= start < end and len(self._pending) >= end + 3:
                contents = self._pending[start + 1 : end]
                self._pending = self._pending[end + 3 :]
                with contextlib.suppress(OSError):  # a stub that said it ends may be gone
                    self._connection.sendall(b"+")
                return contents.decode("ascii", "replace")
            self._connection.settimeout(max(deadline - time.monotonic(), 0.001))
            try:
                data = self._connection.recv(65536)
            except TimeoutError:
                raise TimeoutError(f"the stub did not answer within {seconds:g} s") from None
            except OSError as error:
                raise GoneError(f"the stub is gone: {error.strerror}") from error
            if not data:
                raise GoneError("the stub is gone")
            self._pending += data


@contextlib.contextmanager
def halted(image: Path, board: Board) -> Iterator[Remote]:
    """QEMU with `image` loaded on `board` and not started; gone when the block ends.

    What the guest sends over its serial port is read for what ends its run, and dropped. Raises
    UserError without QEMU and for a file that is no image, RemoteError if QEMU does not start.
    """
    Elf.read(image)
    ours, theirs = socket.socketpair()
    heard, spoken = socket.socketpair()
    console = f"socket,id=console,fd={spoken.fileno()}" if board.until else "null,id=console"
    with ours, heard, spoken, tempfile.TemporaryFile() as messages:
        with theirs:
            process = qemu.start(
                [
                    *qemu.command(image, board),
                    *("-chardev", f"{console},mux=on", "-serial", "chardev:console"),
                    *("-chardev", f"socket,id=gdb,fd={theirs.fileno()}", "-gdb", "chardev:gdb"),
                    *("-S", "-no-reboot"),
                ],
                pass_fds=(theirs.fileno(), spoken.fileno()),
                stderr=messages.fileno(),
            )
        with qemu.ending(process):
            try:
                remote = Remote(ours)
            except RemoteError as error:
                process.kill()
                process.wait()
                messages.seek(0)
                words = messages.read().decode(errors="replace")
                raise RemoteError(f"{error}\n{words}".strip()) from error
            spoken.close()
            listener = threading.Thread(target=_listen, args=(heard, board.until, remote), daemon=True)
            listener.start()
            yield remote
        listener.join()


def _listen(console: socket.socket, until: bytes, remote: Remote) -> None:
    """Read what the guest sends until QEMU is gone; stop the machine when that has `until` in it."""
    sent = bytearray()
    while data := console.recv(65536):
        before = len(sent)
        sent += data
        if not remote.said.is_set() and ending(sent, until, before):
            remote.said.set()
            remote.interrupt()
