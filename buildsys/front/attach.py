"""QEMU halted before the first instruction, waiting for a debugger that the user starts elsewhere."""

from __future__ import annotations

import os
import shlex
import shutil
import tempfile
from pathlib import Path

from buildsys.files import replace
from buildsys.front.boot import SerialText
from buildsys.front.steps import Steps
from buildsys.machines import gdb, gdb_startup, qemu

SCRIPT = "attach.gdb"
KEPT = 1 << 16  # characters


class Waiting:
    """A machine that waits for gdb, until it has run or is closed. Raises UserError without QEMU or a gdb."""

    def __init__(self, steps: Steps) -> None:
        project = steps.project
        debugger = gdb.program()
        said = gdb_startup.script(steps.image, project.begins, project.package, steps.go.root)
        # A socket's path may have 107 characters; one in the project could be longer.
        self._folder = tempfile.mkdtemp(prefix=gdb.PREFIX, dir=gdb.place_for_socket())
        address = str(Path(self._folder, gdb.SOCKET))
        script = project.build / SCRIPT
        replace(script, "\n".join([said, *gdb.connecting(address), "continue", ""]).encode())
        self.command = shlex.join([Path(debugger).name, "-q", "-x", str(script)])
        self._text, self.serial = SerialText(), ""
        reading, writing = os.pipe2(os.O_CLOEXEC)
        try:
            self._process = qemu.start(
                [
                    *qemu.command(steps.image, project.board),
                    *("-chardev", "stdio,id=console,mux=on,signal=off", "-serial", "chardev:console"),
                    *("-chardev", f"socket,id=gdb,path={address},server=on,wait=off", "-gdb", "chardev:gdb", "-S"),
                ],
                stdout=writing,
                stderr=writing,
            )
        except BaseException:
            os.close(reading)
            shutil.rmtree(self._folder, ignore_errors=True)
            raise
        finally:
            os.close(writing)
        self._reading = reading

    def fileno(self) -> int:
        """What becomes readable when there is something for read()."""
        return self._reading

    def read(self) -> bool:
        """Take what the guest, or QEMU, said. False if that was the end."""
        data = os.read(self._reading, 65536)
        self.serial = (self.serial + self._text.add(data))[-KEPT:]
        return bool(data)

    def close(self) -> None:
        """End the machine."""
        self._process.kill()
        self._process.wait()
        os.close(self._reading)
        shutil.rmtree(self._folder, ignore_errors=True)
