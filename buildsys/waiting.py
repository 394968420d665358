"""Programs begun before their arguments are known: a tool is then at work the moment it is needed.

One takes them from a response file that is a pipe, and waits until somebody has written there. LLVM's programs read
such a file to its end; GNU's ask how long it is, and so cannot be begun like that.

What comes of one counts only if it succeeds: else it is run as any other, and that is what is told.
"""

from __future__ import annotations

import os
import re
import select
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from buildsys import processes


class _Waiting(NamedTuple):
    """What was begun: `telling` is the end of its pipe to write to, `file` what tells its program from another."""

    process: subprocess.Popen[str]
    telling: int
    env: Mapping[str, str] | None
    file: tuple[int, ...]


_waiting: dict[tuple[str, ...], _Waiting] = {}  # by the words that name the program


def begin(program: Sequence[str], env: Mapping[str, str] | None = None) -> None:
    """Begin `program` for the next `run` of it, in this folder and with the environment `env`.

    If nobody is left who could write its arguments, it ends. Raises UserError if it cannot be started.
    """
    dismiss(program)
    file = _identity(program[0])
    reading, telling = os.pipe()
    try:
        process = processes.start([*program, f"@/proc/self/fd/{reading}"], None, env, (reading,))
    except BaseException:
        os.close(telling)
        raise
    finally:
        os.close(reading)
    _waiting[tuple(program)] = _Waiting(process, telling, env, file)


def dismiss(*programs: Sequence[str]) -> None:
    """End those of `programs` that wait; all that do, if none is named."""
    for program in [tuple(each) for each in programs] or [*_waiting]:
        if waiting := _waiting.pop(program, None):
            os.close(waiting.telling)
            processes.end(waiting.process)


def run(
    command: Sequence[str], cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """As `processes.run`, by the program of `command` that waits, if one does."""
    if cwd is None and (process := _told(command, env)):
        done = processes.finished(lambda: process, command)
        if not done.returncode:
            return done
    return processes.run(command, cwd, env)


def _told(command: Sequence[str], env: Mapping[str, str] | None) -> subprocess.Popen[str] | None:
    """The program of `command`, told the rest of it; None if none such waits."""
    program = next((each for each in list(_waiting) if tuple(command[: len(each)]) == each), ())
    waiting = _waiting.pop(program, None)
    if waiting is None:
        return None
    arguments = " ".join(map(_quoted, command[len(program) :])).encode("utf-8", "surrogateescape")
    try:
        # What is more than a pipe holds could not be written at once; and its file may be another by now.
        fits = len(arguments) <= select.PIPE_BUF and (waiting.env, waiting.file) == (env, _identity(program[0]))
        if fits and waiting.process.poll() is None:
            os.write(waiting.telling, arguments)
            return waiting.process
    except BrokenPipeError:
        pass
    finally:
        os.close(waiting.telling)
    processes.end(waiting.process)
    return None


def _quoted(argument: str) -> str:
    """`argument` as a response file has it: a backslash before whatever would end it (TokenizeGNUCommandLine)."""
    return re.sub(r"""([\s\\'"])""", r"\\\1", argument) or '""'


def _identity(program: str) -> tuple[int, ...]:
    try:
        status = os.stat(program)
    except OSError:
        return ()
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev
