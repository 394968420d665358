"""Running a tool so that nothing of it outlives us."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import NamedTuple

from buildsys.errors import UserError

# What asks a program to end: Ctrl-C, kill, a terminal that is closed.
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
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
    process: subprocess.Popen[str] | None = None
    try:
        # An exception between the start of a process and its assignment would leave it without an owner.
        with undisturbed():
            process = None if dies_with_us else _told(command, cwd, env)
            if process is None:
                bound = _bound() if dies_with_us and not _missing(command) else ()
                process = _start([*bound, *command], cwd, env)
            _running.add(process)
        if _no_more.is_set():
            raise UserError("interrupted")
        if meanwhile:
            meanwhile()
        out, err = process.communicate()
    except BaseException:
        if process is not None:
            _end(process)
        raise
    finally:
        if process is not None:
            _running.discard(process)
    if process.returncode < 0:
        raise UserError(
            f"{command[0]} was ended by {signal.Signals(-process.returncode).name}",
            "a full disk or too little memory does that, or somebody who ended it",
        )
    return subprocess.CompletedProcess(list(command), process.returncode, out, err)


class _Waiting(NamedTuple):
    """A program that was begun and waits for its arguments, which are to be written to `telling`."""

    process: subprocess.Popen[str]
    telling: int
    cwd: Path | None
    env: Mapping[str, str] | None
    file: tuple[int, ...]


_waiting: dict[tuple[str, ...], _Waiting] = {}  # by the words that name the program


def await_arguments(program: Sequence[str], cwd: Path | None = None, env: Mapping[str, str] | None = None) -> None:
    """Begin `program` now, for the next `run` of it in this folder and environment, which then need not wait for that.

    It must take arguments from a file, as those of LLVM and GNU do: that is a pipe, and until somebody writes there
    it waits; when we are gone, it ends. Raises UserError if it cannot be started.
    """
    dismiss(program)
    file = _identity(program[0])
    reading, telling = os.pipe()
    try:
        process = _start([*program, f"@/proc/self/fd/{reading}"], cwd, env, (reading,))
    except BaseException:
        os.close(telling)
        raise
    finally:
        os.close(reading)
    _waiting[tuple(program)] = _Waiting(process, telling, cwd, env, file)


def dismiss(*programs: Sequence[str]) -> None:
    """End those of `programs` that wait for arguments; all of them, if none is named."""
    for program in [tuple(each) for each in programs] or [*_waiting]:
        if waiting := _waiting.pop(program, None):
            os.close(waiting.telling)
            _end(waiting.process)


def _told(command: Sequence[str], cwd: Path | None, env: Mapping[str, str] | None) -> subprocess.Popen[str] | None:
    """The program of `command`, if it waits, has been told the rest of it; None if none such is at hand."""
    program = next((each for each in _waiting if tuple(command[: len(each)]) == each), None)
    waiting = _waiting.pop(program, None) if program else None
    if program is None or waiting is None:
        return None
    arguments = " ".join(map(_quoted, command[len(program) :])).encode("utf-8", "surrogateescape")
    fits = (waiting.cwd, waiting.env, waiting.file) == (cwd, env, _identity(program[0]))
    try:
        # More than a pipe holds is not to be written while nobody may read it.
        if fits and len(arguments) <= select.PIPE_BUF and waiting.process.poll() is None:
            os.write(waiting.telling, arguments)
            return waiting.process
    except BrokenPipeError:
        pass
    finally:
        os.close(waiting.telling)
    _end(waiting.process)
    return None


def _quoted(argument: str) -> str:
    """`argument` as a response file has it: libiberty's buildargv and LLVM's TokenizeGNUCommandLine read it alike."""
    return re.sub(r"([\s\\'\"])", r"\\\1", argument) or '""'


def _identity(program: str) -> tuple[int, ...]:
    """What tells that the file of `program` is the one it was."""
    try:
        status = os.stat(program)
    except OSError:
        return ()
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev


def end_all() -> None:
    """End every tool that runs, with all its children, whichever thread waits for it; no other can be run."""
    _no_more.set()
    dismiss()
    for process in tuple(_running):
        _end(process)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Inside, a signal that asks us to end waits until the block is done.

    Not by blocking it: a process started inside would inherit that, and not notice it either.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # Python runs signal handlers in the main thread alone
        return
    seen: list[int] = []

    def remember(number: int, frame: FrameType | None) -> None:
        seen.append(number)

    before = {number: signal.getsignal(number) for number in ENDING}
    ours = [number for number, handler in before.items() if callable(handler)]
    for number in ours:
        signal.signal(number, remember)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, before[number])
        for each in seen:
            signal.raise_signal(each)


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


def _start(
    command: Sequence[str], cwd: Path | None, env: Mapping[str, str] | None, passed: Sequence[int] = ()
) -> subprocess.Popen[str]:
    try:
        return subprocess.Popen(
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


def _end(process: subprocess.Popen[str]) -> None:
    # It leads a group of that number until it is waited for, and the group outlives it.
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
