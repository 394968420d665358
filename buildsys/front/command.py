"""The `doit` command of this project: doit's own, with what happens before and around its commands seen to.

That is Ctrl-C while Python still imports, a pyproject.toml that doit cannot read, output
that its reader does not want to the end, and a disk that refuses: one line each, no traceback.

Little is imported before the handlers are set: what takes time is doit itself.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

BEGAN = time.monotonic()

# What a disk, not a defect of ours, makes of a write.
DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
# Exit statuses, as of a shell after SIGINT and SIGPIPE.
INTERRUPTED, HUNG_UP = 130, 141

# What ends the things that were begun before doit is loaded.
_begun: list[Callable[[], None]] = []


def main() -> int:
    """What the script `doit` calls. Returns the exit status."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupted)
    if sys.stdout is None:  # it was closed before we began
        sys.stdout = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8")
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]  # what is opened as a text file can
    from buildsys.front import ahead

    _begun.append(ahead.end)
    ahead.begin(sys.argv[1:])
    try:
        return _doit()
    finally:
        ahead.end()


def _interrupted(number: int, frame: FrameType | None) -> None:
    # `run` sets handlers of its own before it begins; what may have begun by now is the compile step.
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)
    for end in _begun:
        end()
    os.write(2, b"interrupted\n")
    os._exit(INTERRUPTED)


def _doit() -> int:
    from doit.doit_cmd import DoitMain

    class Main(DoitMain):  # type: ignore[misc]  # doit has no type information
        def get_cmds(self) -> Any:
            commands = super().get_cmds()
            del commands["dumpdb"]  # what it reads is no database of ours
            for name in commands:
                commands[name] = _answering(_own(name) or commands.get_plugin(name))
            return commands

    try:
        program = Main()
    except Exception:
        # doit looks for settings of its own in pyproject.toml. If that cannot be read we say it better.
        from buildsys.front.chain import kernels_steps

        kernels_steps()
        raise
    status: int = program.run(spelt(sys.argv[1:]))
    return status


def _own(name: str) -> Any:
    """The class of a command of doit's that is another here, and is asked for."""
    if name not in ("help", "list") or name not in spelt(sys.argv[1:]):
        return None
    from buildsys.front import help as helping

    return {"help": helping.Help, "list": helping.List}[name]


# Options that `go test` has too, and with one dash.
GO_TEST, AS_GO_HAS_THEM = "go-test", ("run", "bench", "count", "cpu")


def spelt(arguments: list[str]) -> list[str]:
    """`arguments` as doit reads them: `--help` is `help`, and behind `go-test`, `-run X` is as good as `--run X`."""
    if arguments[:1] in (["--help"], ["-h"]):
        arguments = ["help", *arguments[1:]]
    at = next((at for at, each in enumerate(arguments) if each.partition(":")[0] == GO_TEST), len(arguments))
    found = arguments[: at + 1]
    for each in arguments[at + 1 :]:
        name = each.removeprefix("-").partition("=")[0]
        found.append(f"-{each}" if each.startswith("-") and name in AS_GO_HAS_THEM else each)
    return found


def _answering(command: Any) -> Any:
    """The class `command`, with one message in place of a traceback for a file or a task it cannot get at."""
    from doit.cmdparse import CmdParseError
    from doit.exceptions import InvalidCommand, InvalidDodoFile, InvalidTask

    class Answering(command):  # type: ignore[misc]  # doit has no type information
        name = command.get_name()

        def parse_execute(self, in_args: list[str]) -> int:
            try:
                status: int = super().parse_execute(in_args)
                sys.stdout.flush()
            except KeyError as error:
                if error.args[0] not in in_args:
                    raise
                print(
                    f"error: there is no task {error.args[0]!r}\n\nhint: `doit list` shows the tasks", file=sys.stderr
                )
                return 3
            except (CmdParseError, InvalidCommand, InvalidDodoFile, InvalidTask) as error:
                from buildsys.front.mistakes import USAGE, told

                print(f"error: {told(error, self)}", file=sys.stderr)
                return USAGE
            except BrokenPipeError:
                hang_up()
                return HUNG_UP
            except OSError as error:
                if error.filename is None and error.errno not in DISK:
                    raise
                print(f"error: {error.filename or 'standard output'}: {error.strerror}", file=sys.stderr)
                hang_up()
                return 1
            return status

    return Answering


def hang_up() -> None:
    """Nobody takes our output any more: let the rest go nowhere, also what Python holds and writes as it ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.__stdout__.fileno() if sys.__stdout__ else 1)
    os.close(nowhere)
