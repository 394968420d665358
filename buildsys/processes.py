"""Running a tool so that nothing of it outlives us."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from buildsys.errors import UserError
from buildsys.signals import undisturbed

PR_SET_PDEATHSIG = 1  # linux/prctl.h

# The tools that run now, in whatever thread: only this process as a whole can be interrupted.
_running: set[subprocess.Popen[str]] = set()
_no_more = threading.Event()


def run(
    command: Sequence[str],
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    meanwhile: Callable[[], object] | None = None,
    dies_with_us: bool = False,
) -> subprocess.CompletedProcess[str]:
    """Run `command` to its end, capturing what it says; `meanwhile` is called while it runs.

    What takes long and writes at its end `dies_with_us` even if we are killed, where the system has setpriv(1).

    It gets a session of its own, and whatever ends us (Ctrl-C, a signal turned
    into an exception, an error in `meanwhile`) ends it and all its children.
    Raises UserError if it cannot be started, or a signal ended it.
    """
    bound = _bound() if dies_with_us and not _missing(command) else ()
    return finished(lambda: start([*bound, *command], cwd, env), command, meanwhile)


def finished(
    begin: Callable[[], subprocess.Popen[str]], command: Sequence[str], meanwhile: Callable[[], object] | None = None
) -> subprocess.CompletedProcess[str]:
    """See the process that `begin` gives, which runs `command`, to its end, as `run` does."""
    process: subprocess.Popen[str] | None = None
    try:
        # An exception between the start of a process and its assignment would leave it without an owner.
        with undisturbed():
            process = begin()
        if _no_more.is_set():
            raise UserError("interrupted")
        if meanwhile:
            meanwhile()
        out, err = process.communicate()
    except BaseException:
        if process is not None:
            end(process)
        raise
    _running.discard(process)
    if process.returncode < 0:
        raise UserError(
            f"{command[0]} was ended by {signal.Signals(-process.returncode).name}",
            "a full disk or too little memory does that, or somebody who ended it",
        )
    return subprocess.CompletedProcess(list(command), process.returncode, out, err)


def end_all() -> None:
    """End every tool that runs, with all its children, whichever thread waits for it; no other can be run."""
    _no_more.set()
    for process in tuple(_running):
        end(process)


def dies_with_parent(number: int = signal.SIGKILL) -> Callable[[], None]:
    """What a new process has to call to get signal `number` when its parent dies, even by SIGKILL."""
    from ctypes import CDLL  # which takes long to load

    parent = os.getpid()
    # Looked up here: little is safe between fork and exec.
    prctl = CDLL(None, use_errno=True).prctl

    def arrange() -> None:
        prctl(PR_SET_PDEATHSIG, number)
        if os.getppid() != parent:  # it died before the line above
            os.kill(os.getpid(), number)

    return arrange


def _bound() -> tuple[str, ...]:
    """What a command is run by so that the kernel ends it with us (prctl(2), PR_SET_PDEATHSIG).

    Between fork and exec nothing is run here, for that could wait for a lock that another thread holds.
    """
    import shutil

    found = shutil.which("setpriv")
    return (found, "--pdeathsig", "KILL") if found else ()


def _missing(command: Sequence[str]) -> bool:
    """Whether a command named by its place cannot be run: setpriv would say so in words of its own."""
    return os.sep in command[0] and not os.access(command[0], os.X_OK)


def start(
    command: Sequence[str],
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    passed: Sequence[int] = (),
) -> subprocess.Popen[str]:
    """Begin `command` with the file descriptors `passed`; it is one of those `end_all` ends. Raises UserError."""
    try:
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
            pass_fds=passed,
        )
    except OSError as error:
        raise UserError(f"{command[0]}: cannot be run: {error.strerror}") from error
    _running.add(process)
    return process


def end(process: subprocess.Popen[str]) -> None:
    """End what `start` began, with all its children."""
    _running.discard(process)
    # It leads a group of that number until it is waited for, and the group outlives it.
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
