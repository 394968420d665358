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
from buildsys.cache.fingerprint import stat_of


class _Waiting(NamedTuple):
    """What was begun: `telling` is the end of its pipe to write to, `file` what tells its program from another."""

    process: subprocess.Popen[str]
    telling: int
    env: Mapping[str, str] | None
    file: tuple[int, ...]

    def fits(self, program: Sequence[str], env: Mapping[str, str] | None) -> bool:
        """Whether it still waits, is what would be started now, and in that environment."""
        same = (self.env, self.file) == (env, stat_of(program[0]))
        return same and self.process.poll() is None


_waiting: dict[tuple[str, ...], _Waiting] = {}  # by the words that name the program


def begin(*programs: Sequence[str], env: Mapping[str, str] | None = None) -> None:
    """Have each of `programs` wait for the next `run` of it in this folder and with the environment `env`; no others.

    If nobody is left who could write its arguments, one ends. Raises UserError if one cannot be started.
    """
    wanted = [tuple(each) for each in programs]
    fit = {program for program, each in list(_waiting.items()) if program in wanted and each.fits(program, env)}
    dismiss(*(_waiting.keys() - fit))
    for program in wanted:
        if program not in fit:
            _begin(program, env)


def _begin(program: tuple[str, ...], env: Mapping[str, str] | None) -> None:
    file = stat_of(program[0])
    reading, telling = os.pipe()
    try:
        process = processes.start([*program, f"@/proc/self/fd/{reading}"], None, env, (reading,))
    except BaseException:
        os.close(telling)
        raise
    finally:
        os.close(reading)
    _waiting[program] = _Waiting(process, telling, env, file)


def dismiss(*programs: tuple[str, ...]) -> None:
    """End those of `programs` that wait."""
    for program in programs:
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
        # What is more than a pipe holds could not be written at once.
        if len(arguments) <= select.PIPE_BUF and waiting.fits(program, env):
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
