"""`doit debug --server PORT`: QEMU waits, halted, for the gdb of an editor."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess

import pytest

from tests.outside.conftest import Outside

GDB = "gdb-multiarch"


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("localhost", 0))
        port: int = listening.getsockname()[1]
        return port


@pytest.fixture
def waiting(project: Outside) -> subprocess.Popen[str]:
    port = free_port()
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONUNBUFFERED")}
    process = subprocess.Popen(
        [project.venv.folder / "bin" / "doit", "debug", "--server", str(port)],
        cwd=project.folder,
        env=kept,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout is not None
    for line in process.stdout:  # a pattern of .vscode/tasks.json waits for the same
        if line.startswith("QEMU waits"):
            assert line.endswith(f"target remote localhost:{port}\n")
            return process
    pytest.fail("it ended without waiting")


def test_a_gdb_started_elsewhere_stops_at_the_entry_and_goes_on_to_the_exit(
    project: Outside, waiting: subprocess.Popen[str]
) -> None:
    if not shutil.which(GDB):
        waiting.kill()
        pytest.skip(f"{GDB} is not installed")
    port = str(waiting.args[-1])  # type: ignore[index]  # a list, as above
    commands = [f"target remote localhost:{port}", "break main.KernelMain", "continue", "info registers pc", "continue"]
    done = subprocess.run(
        [GDB, "-nx", "-q", "-batch", *(part for each in commands for part in ("-ex", each)), "build/kernel.elf"],
        cwd=project.folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert "Breakpoint 1, main.KernelMain" in done.stdout, done.stdout + done.stderr
    said, _ = waiting.communicate(timeout=60)
    assert "Hello from Go" in said
    assert waiting.returncode == 0


def test_a_port_that_is_taken_or_none_is_refused(project: Outside) -> None:
    with socket.socket() as other:
        other.bind(("localhost", 0))
        other.listen()
        taken = other.getsockname()[1]
        project.doit("debug", "--server", str(taken)).refused(f"--server={taken}: Address already in use", "hint: ")
    project.doit("debug", "--server", "99999").refused("--server=99999 is no port", "--server=1234")
    project.doit("debug", "--server", "x").refused("--server takes a number, not 'x'", "hint: ")


def test_ctrl_c_ends_it_and_leaves_no_qemu(project: Outside, waiting: subprocess.Popen[str]) -> None:
    waiting.send_signal(signal.SIGINT)
    waiting.communicate(timeout=60)
    assert waiting.returncode != 0
    image = str(project.path("build/kernel.elf"))
    left = [path for path in os.listdir("/proc") if path.isdecimal() and image in _command(path)]
    assert left == []


def _command(process: str) -> str:
    try:
        with open(f"/proc/{process}/cmdline", encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
