"""Running a tool so that nothing of it outlives us."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from buildsys.errors import UserError


def run(
    command: Sequence[str],
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    meanwhile: Callable[[], object] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run `command` to its end, capturing what it says; `meanwhile` is called while it runs.

    It gets a session of its own, and whatever ends us (Ctrl-C, a signal turned
    into an exception, an error in `meanwhile`) ends it and all its children.
    Raises UserError if it cannot be started.
    """
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
        )
    except OSError as error:
        raise UserError(f"{command[0]}: cannot be run: {error.strerror}") from error
    try:
        if meanwhile:
            meanwhile()
        out, err = process.communicate()
    except BaseException:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    return subprocess.CompletedProcess(list(command), process.returncode, out, err)
