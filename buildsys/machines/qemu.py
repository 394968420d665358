"""QEMU as a machine: run an image on a board and return an outcome.

QEMU exits with the guest's status, but also with 1 when it does not understand its
arguments. The two are told apart by QMP: the machine is held until QEMU has answered
there, which it does only when it is set up; whatever QEMU exits with after that is the
guest's, unless an event said that the machine was powered off or reset.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import selectors
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from buildsys.config.board import Board
from buildsys.errors import MissingError, UserError
from buildsys.formats.elf import Elf
from buildsys.machines.ends import NO_IDENTITY, NOTHING, Ends
from buildsys.machines.given import Feeder
from buildsys.machines.interruption import Interruption
from buildsys.machines.outcome import End, Outcome
from buildsys.machines.outcome import ending as ending_at
from buildsys.processes import dies_with_parent

if TYPE_CHECKING:
    from buildsys.machines.keeping import Keeper

PROGRAM = "qemu-system-aarch64"
INSTALL = "apt-get install --no-install-recommends qemu-system-arm"

# QMP's ShutdownCause (qapi/run-state.json) of the guest's own doing.
GUEST_ENDS = {"guest-shutdown": End.POWER_OFF, "guest-reset": End.RESET}

# The serial port and semihosting's console are both standard output. Where the port has input too, they are no
# multiplexer, which would take Ctrl-A for itself.
CONSOLE = ("-serial", "chardev:console", "-chardev", "stdio,id=console,mux=on,signal=off")
CONSOLE_AND_PORT = (
    *("-serial", "chardev:port", "-chardev", "stdio,id=port,signal=off"),
    *("-chardev", "file,id=console,path=/dev/stdout"),
)


def run(
    image: Path,
    board: Board,
    time_limit: float,
    on_serial: Callable[[bytes], None] | None = None,
    extra: Sequence[str] = (),
    keep: Sequence[range] = (),
    dead_ends: Mapping[int, str] = NOTHING,
    snapshot: bool = False,
    given: int | None = None,
    copied: str = "",
) -> Outcome:
    """Run `image` on QEMU for at most `time_limit` seconds; Ctrl-C ends it too, as an outcome.

    `on_serial` gets serial output as it comes. `extra` are more arguments for QEMU. `keep` are
    ranges of memory to read when the run has ended. `dead_ends` are functions that no good end follows, names by
    address; with `snapshot` the machine is kept as it was when it came to one, or did not end. The serial port
    receives what can be read from the descriptor `given`; what it sends is also written to the file `copied`, before
    the guest goes on. When this returns, or this process dies in any
    way, no QEMU is left. Raises UserError without QEMU, and for an image that is not one: QEMU would run
    any file's bytes.
    """
    began = time.monotonic()
    ends = Ends.of(Elf.read(image), dead_ends)
    watches = ends.watched or keep or snapshot
    with contextlib.ExitStack() as opened:
        qmp, theirs = map(opened.enter_context, socket.socketpair())
        arguments = [
            *command(image, board),
            *(_console(copied) if given is None else CONSOLE_AND_PORT),
            *("-chardev", f"socket,id=qmp,fd={theirs.fileno()}", "-mon", "chardev=qmp,mode=control"),
            *("-S", "-no-reboot", *extra),
        ]
        keeper, passed = None, [theirs]
        if watches:
            stub, at_stub = map(opened.enter_context, socket.socketpair())
            arguments += ["-chardev", f"socket,id=stub,fd={at_stub.fileno()}", "-gdb", "chardev:stub", "-no-shutdown"]
            passed.append(at_stub)
            monitor = None
            if snapshot:
                monitor, at_monitor = map(opened.enter_context, socket.socketpair())
                arguments += ["-chardev", f"socket,id=monitor,fd={at_monitor.fileno()}"]
                arguments += ["-mon", "chardev=monitor,mode=control"]
                passed.append(at_monitor)
            keeper = _keeper(stub, ends, keep, board, monitor)
        interruption = opened.enter_context(Interruption())
        process = start(
            arguments,
            pass_fds=[each.fileno() for each in passed],
            stdin=opened.enter_context(_feeding(given)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for each in passed:
            each.close()
        with ending(process):
            watched = opened.enter_context(contextlib.closing(_Watched(process, qmp, on_serial, keeper, board.until)))
            stopped = watched.until(began + time_limit, interruption)
            if keeper is not None:
                keeper.stop()
            if stopped is not None or watched.paused:
                process.kill()
            watched.rest()
            status = process.wait()
    end, exit_code, detail = _verdict(stopped, status, watched)
    if keeper is not None and keeper.restarted:
        end, exit_code, detail = End.OVER_AND_OVER, None, ""
    outcome = Outcome(end, bytes(watched.serial), time.monotonic() - began, exit_code, detail)
    if keeper is None:
        return replace(outcome, doubt=NO_IDENTITY) if exit_code == 0 else outcome
    doubt = keeper.doubt if end is End.EXIT else ends.doubted or keeper.doubt
    return replace(
        outcome,
        memory=keeper.memory,
        doubt=doubt if exit_code in (0, None) else "",
        identity=ends.identity.hex(),
        boots=ends.boots,
        snapshot=None if end is End.EXIT and ends.came_to is None else keeper.snapshot,
    )


def _console(copied: str) -> tuple[str, ...]:
    *before, console = CONSOLE
    return (*before, f"{console},logfile={copied},logappend=on" if copied else console)


@contextlib.contextmanager
def _feeding(given: int | None) -> Iterator[int]:
    """What is to be QEMU's standard input."""
    if given is None:
        yield subprocess.DEVNULL
        return
    with Feeder(given) as feeder:
        yield feeder.reading


def _keeper(
    stub: socket.socket, ends: Ends, ranges: Sequence[range], board: Board, monitor: socket.socket | None
) -> Keeper:
    from buildsys.machines.keeping import Keeper

    return Keeper(stub, ends, ranges, board, monitor)


def command(image: Path, board: Board) -> list[str]:
    """QEMU's arguments for `image` on `board`, without a serial port. Raises UserError without QEMU.

    The console of semihosting goes to the chardev "console", which the caller defines.
    """
    return [
        program(),
        *board.qemu,
        *("-display", "none", "-monitor", "none", "-parallel", "none"),
        *("-semihosting-config", "enable=on,target=native,chardev=console"),
        *("-kernel", str(image)),
    ]


def program() -> str:
    """QEMU's path. Raises MissingError, with the command that installs it, if there is none."""
    found = shutil.which(PROGRAM)
    if found is None:
        raise MissingError(f"{PROGRAM} is not installed", f"on Debian: {INSTALL}")
    return found


def version() -> str:
    """QEMU's version, such as "7.2.22". Raises UserError without QEMU."""
    asked = subprocess.run([program(), "--version"], capture_output=True, text=True, check=False)
    found = re.search(r"version (\d+(?:\.\d+)+)", asked.stdout)
    if found is None:
        raise UserError(f"{program()} --version does not name a version: {asked.stdout or asked.stderr!r}")
    return found[1]


def start(
    arguments: Sequence[str],
    *,
    pass_fds: Sequence[int] = (),
    stdin: int = subprocess.DEVNULL,
    stdout: int | None = None,
    stderr: int | None = None,
) -> subprocess.Popen[bytes]:
    """Start a process that dies with this one, out of reach of the terminal's Ctrl-C and keyboard."""
    return subprocess.Popen(
        arguments,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        pass_fds=pass_fds,
        start_new_session=True,
        preexec_fn=dies_with_parent(),
    )


@contextlib.contextmanager
def ending(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """Whatever happens inside, `process` is gone afterwards."""
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


class _Watched:
    """What a running QEMU tells: serial output, its own messages, QMP's answers and events."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        qmp: socket.socket,
        on_serial: Callable[[bytes], None] | None,
        keeper: Keeper | None,
        until: bytes = b"",
    ) -> None:
        assert process.stdout is not None
        assert process.stderr is not None
        self.serial, self.messages = bytearray(), bytearray()
        self.started = False
        self.shutdown = ""
        self._on_serial, self._keeper = on_serial, keeper
        self._until, self._said = until, 0
        self._reading, self._woken = threading.Lock(), os.eventfd(0, os.EFD_CLOEXEC)
        self._qmp, self._qmp_text = qmp, b""
        self._selector = selectors.DefaultSelector()
        self._output = process.stdout.fileno()
        os.set_blocking(self._output, False)  # two threads read it
        self._readers = {
            process.stdout.fileno(): self._on_output,
            process.stderr.fileno(): self.messages.extend,
            qmp.fileno(): self._on_qmp,
        }
        for number in self._readers:
            self._selector.register(number, selectors.EVENT_READ)
        if keeper is not None and until:
            keeper.over = self._over
        self._say("qmp_capabilities")

    def close(self) -> None:
        """Give back what waits for QEMU."""
        self._selector.close()
        os.close(self._woken)

    @property
    def paused(self) -> bool:
        """Whether the machine shut down, and waits so that its memory can be read."""
        return bool(self.shutdown) and self._keeper is not None

    def until(self, deadline: float, interruption: Interruption) -> End | None:
        """Read until QEMU is gone, or paused (None), `deadline` or Ctrl-C."""
        others = (interruption.fd, self._woken)
        for each in others:
            self._selector.register(each, selectors.EVENT_READ)
        while len(self._selector.get_map()) > len(others):
            looking = self._keeper.looking if self._keeper is not None else 0.0
            remaining = deadline + looking - time.monotonic()
            if self.paused:
                return None
            if interruption.seen:
                return End.INTERRUPTED
            if remaining <= 0:
                return End.TIME_LIMIT
            if self._said:
                return End.SAID
            for key, _ in self._selector.select(min(remaining, 3600.0)):
                if key.fd == interruption.fd:
                    interruption.drain()
                elif key.fd != self._woken:
                    self._read(key.fd)
        return End.SAID if self._said else None

    def rest(self) -> None:
        """Read what a QEMU that is gone, or going, still said."""
        os.set_blocking(self._output, True)
        for number in self._readers:
            while number in self._selector.get_map():
                self._read(number)

    def _read(self, number: int) -> None:
        with self._reading:
            try:
                data = os.read(number, 65536)
            except ConnectionResetError:
                data = b""
            except BlockingIOError:
                return  # `_over` has read it
            if data:
                self._readers[number](data)
            else:
                self._selector.unregister(number)

    def _over(self) -> bool:
        """Whether what ends the run was sent. Asked by the keeper's thread, while the machine stands: no more comes."""
        with self._reading, contextlib.suppress(BlockingIOError):
            while data := os.read(self._output, 65536):
                self._on_output(data)
        if self._said:
            os.eventfd_write(self._woken, 1)
        return bool(self._said)

    def _on_output(self, data: bytes) -> None:
        if self._said:
            return  # it says more until it is ended
        before = len(self.serial)
        self.serial += data
        self._said = ending_at(self.serial, self._until, before)
        if self._said:
            data = data[: self._said - before]
            del self.serial[self._said :]
        if self._on_serial is not None:
            self._on_serial(data)

    def _on_qmp(self, data: bytes) -> None:
        *lines, self._qmp_text = (self._qmp_text + data).split(b"\n")
        for line in lines:
            message = json.loads(line)
            if message.get("event") == "SHUTDOWN":
                self.shutdown = message["data"]["reason"]
            elif "return" in message and not self.started:
                # QEMU answers once its main loop runs: the machine is set up, the image loaded.
                self.started = True
                if self._keeper is not None:
                    self._keeper.start()
                else:
                    self._say("cont")

    def _say(self, execute: str) -> None:
        # A QEMU that failed to start is gone; its messages say why.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._qmp.sendall(json.dumps({"execute": execute}).encode())


def _verdict(stopped: End | None, status: int, watched: _Watched) -> tuple[End, int | None, str]:
    words = watched.messages.decode(errors="replace").strip()
    if stopped is not None:
        return stopped, None, words
    if watched.shutdown:
        end = GUEST_ENDS.get(watched.shutdown, End.EMULATOR)
        return end, None, f"QEMU shut down: {watched.shutdown}\n{words}".strip()
    if status < 0:
        return End.EMULATOR, None, f"QEMU was ended by {signal.Signals(-status).name}\n{words}".strip()
    if not watched.started:
        return End.EMULATOR, None, words or f"QEMU exited with status {status} before it ran the guest"
    return End.EXIT, status, words
