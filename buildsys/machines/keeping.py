"""What a run on QEMU came to, and what was in the machine then: QEMU itself is gone with the guest that exits.

So the machine is stopped, through the gdb stub, before each semihosting call that would end it, and
at each place no good end follows, and looked into; the guest then goes on. One that is stopped by its
time limit, or that powered the machine off, is looked into where it stands.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from buildsys.config.board import Board
from buildsys.machines import gdb_remote
from buildsys.machines.ends import BOOTS, Ends
from buildsys.machines.semihosting import APPLICATION_EXIT, SYS_EXIT, SYS_EXIT_EXTENDED
from buildsys.machines.snapshot import SYSTEM, Snapshot, held, ram_of

LONG = 1e9  # seconds; who waits for the end is told by others when to stop
STOPPING = 30.0  # seconds a machine may take to stop and be read
# Names of QEMU's, where they differ from the architecture's: target/arm/helper.c.
ALIASES = {"pstate": ("cpsr",), "vbar_el1": ("vbar",), "sctlr_el1": ("sctlr",)}


class Keeper(threading.Thread):
    """Drives the stub behind `connection`, from the start of the machine on.

    `memory` is what it read of `ranges`; `doubt` why a status of 0, or an end from outside, is no good end;
    `restarted` says that it ended a machine that started over and over; `snapshot` is the machine as it was, if
    `monitor`, a connection to QMP, is given. `over` tells, while the machine stands, whether the run had ended before
    it came here: QEMU goes on for a moment after it sent what ends its run. QEMU is to be started with -S and
    -no-shutdown.
    """

    def __init__(
        self,
        connection: socket.socket,
        ends: Ends,
        ranges: Sequence[range],
        board: Board,
        monitor: socket.socket | None = None,
    ) -> None:
        super().__init__(name="QEMU's memory", daemon=True)
        self.memory: dict[int, bytes] = {}
        self.doubt = ""
        self.restarted = False
        self.over: Callable[[], bool] = lambda: False
        self.snapshot: Snapshot | None = None
        self._connection, self._ranges, self._ends = connection, ranges, ends
        self._board, self._monitor = board, monitor
        self._looking, self._since = 0.0, 0.0

    def run(self) -> None:
        """Start the machine, and come back when it has ended or will not go on."""
        with contextlib.suppress(gdb_remote.RemoteError, OSError, TimeoutError):
            remote = gdb_remote.Remote(self._connection)
            stops = {*self._ends.exits, *self._ends.dead}
            stops |= set() if self._ends.booted is None else {self._ends.booted}
            for address in stops:
                remote.stop_at(address)
            while remote.run(LONG):
                pc = remote.registers()["pc"]
                if pc not in stops:
                    self._stopped_from_outside(remote)
                    return  # its time is over, or it powered itself off
                remote.pass_by(pc)
                again = self._noticed(remote, pc)
                if self._ends.boots >= BOOTS:
                    self._stopped_from_outside(remote)
                    self.restarted = True
                    remote.kill()
                    return
                if not remote.step():
                    return
                if again:
                    remote.stop_at(pc)

    def stop(self) -> None:
        """Have the machine stopped and read, unless it has ended; back when that is done."""
        if self.is_alive():
            with contextlib.suppress(OSError):
                self._connection.sendall(gdb_remote.INTERRUPT)
            self.join(STOPPING)

    @property
    def looking(self) -> float:
        """Seconds that the guest was stopped for a look at all of its memory: they are not the guest's."""
        since = self._since
        return self._looking + (time.monotonic() - since if since else 0.0)

    def _noticed(self, remote: gdb_remote.Remote, pc: int) -> bool:
        """See to what the machine came to; whether it is to stop here again."""
        ends, registers = self._ends, remote.registers()
        if pc == ends.booted:
            ends.boots += 1
            return True
        if pc in ends.dead:
            dead = ends.ended_at(pc, lambda at, size: self._bytes(remote, at, size))
            if dead is not None and ends.came_to is None and not self.over():
                ends.came_to = dead
                self._take(remote, ends)
            return dead is None
        if registers["x0"] & 0xFFFF_FFFF in (SYS_EXIT, SYS_EXIT_EXTENDED):
            block = self._bytes(remote, registers["x1"], 16)
            words = (int.from_bytes(block[:8], "little"), int.from_bytes(block[8:], "little")) if block else (0, 0)
            if words[0] == APPLICATION_EXIT and not words[1] & 0xFF:
                self.doubt = ends.doubt(pc, registers["x1"], lambda at, size: self._bytes(remote, at, size))
            self._read(remote)
        return True

    def _stopped_from_outside(self, remote: gdb_remote.Remote) -> None:
        if self.snapshot is None:
            self._take(remote, self._ends)
        self.doubt = self._ends.overflow(lambda at, size: self._bytes(remote, at, size))
        self._read(remote)

    def _bytes(self, remote: gdb_remote.Remote, address: int, size: int) -> bytes | None:
        with contextlib.suppress(gdb_remote.RemoteError):
            return remote.read(address, size)
        return None

    def _take(self, remote: gdb_remote.Remote, ends: Ends) -> None:
        if self._monitor is None:
            return
        self._since = time.monotonic()
        registers, ram = {**remote.registers(), **remote.system_registers(SYSTEM, ALIASES)}, ram_of(self._board)
        if registers.get("pstate", 0) & 1:
            registers["sp_el1"] = registers["sp"]  # QEMU's own is that of the last time the stack changed
        else:
            registers["sp_el0"] = registers["sp"]
        with tempfile.TemporaryDirectory(prefix="buildsys-memory-") as folder:
            monitor = _Monitor(self._monitor, Path(folder, "memory"))
            self.snapshot = Snapshot(registers, held(ram, monitor.load), ram, ends.came_to)
        self._looking, self._since = self.looking, 0.0

    def _read(self, remote: gdb_remote.Remote) -> None:
        for each in self._ranges:
            with contextlib.suppress(gdb_remote.RemoteError):
                self.memory[each.start] = remote.read(each.start, len(each))


class _Monitor:
    """A connection to QMP (qapi/machine.json) that saves memory to `file`."""

    def __init__(self, connection: socket.socket, file: Path) -> None:
        self._connection, self._file, self._text = connection, file, b""
        connection.settimeout(STOPPING)
        self._execute("qmp_capabilities")

    def load(self, address: int, size: int) -> bytes:
        """`size` bytes at a physical address. Raises OSError."""
        self._execute("pmemsave", val=address, size=size, filename=str(self._file))
        return self._file.read_bytes()

    def _execute(self, command: str, **arguments: object) -> None:
        self._connection.sendall(json.dumps({"execute": command, "arguments": arguments}).encode())
        while True:
            found = re.search(rb'^\{"(return|error)".*\r?\n', self._text, re.MULTILINE)
            if found:
                self._text = self._text[found.end() :]
                if found[1] == b"error":
                    raise OSError(found[0].decode())
                return
            data = self._connection.recv(65536)
            if not data:
                raise OSError("QEMU is gone")
            self._text += data
