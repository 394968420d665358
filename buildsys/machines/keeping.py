"""Memory of a guest on QEMU, read when its run ends: QEMU itself is gone with the guest that exits.

So the machine is stopped before each semihosting call that would end it, through the gdb stub,
and looked into; the guest then goes on to its end. One that is stopped by its time limit, or
that powered the machine off, is looked into where it stands.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Sequence

from buildsys.formats.elf import Elf
from buildsys.machines import gdb_remote
from buildsys.machines.semihosting import SYS_EXIT, SYS_EXIT_EXTENDED, calls_in

LONG = 1e9  # seconds; who waits for the end is told by others when to stop
STOPPING = 30.0  # seconds a machine may take to stop and be read


class Keeper(threading.Thread):
    """Drives the stub behind `connection`, from the start of the machine on; `memory` is what it read.

    QEMU is to be started with -S and -no-shutdown.
    """

    def __init__(self, connection: socket.socket, elf: Elf, ranges: Sequence[range]) -> None:
        super().__init__(name="QEMU's memory", daemon=True)
        self.memory: dict[int, bytes] = {}
        self._connection, self._ranges = connection, ranges
        self._exits = frozenset(calls_in(elf))

    def run(self) -> None:
        """Start the machine, and come back when it has ended or will not go on."""
        with contextlib.suppress(gdb_remote.RemoteError, OSError, TimeoutError):
            remote = gdb_remote.Remote(self._connection)
            for address in self._exits:
                remote.stop_at(address)
            while remote.run(LONG):
                registers = remote.registers()
                pc = registers["pc"]
                ends = pc not in self._exits or registers["x0"] & 0xFFFF_FFFF in (SYS_EXIT, SYS_EXIT_EXTENDED)
                if ends:
                    self._read(remote)
                if pc not in self._exits:
                    return  # stopped from outside: its time is over, or it powered itself off
                remote.pass_by(pc)
                if not remote.step():
                    return
                remote.stop_at(pc)

    def stop(self) -> None:
        """Have the machine stopped and read, unless it has ended; back when that is done."""
        if self.is_alive():
            with contextlib.suppress(OSError):
                self._connection.sendall(gdb_remote.INTERRUPT)
            self.join(STOPPING)

    def _read(self, remote: gdb_remote.Remote) -> None:
        for each in self._ranges:
            with contextlib.suppress(gdb_remote.RemoteError):
                self.memory[each.start] = remote.read(each.start, len(each))
