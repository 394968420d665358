"""doit's `run` command, which every `doit TASK` goes through, with three things added.

`doit run` by itself boots the image; the exit status is the guest's where a
task ran one; Ctrl-C and a request to terminate end in one line, not a traceback.
"""

from __future__ import annotations

import signal
import sys
from typing import Any

from doit.cmd_run import Run as DoitRun
from doit.exceptions import InvalidCommand

from buildsys.front.reporter import Reporter

EMBEDDED = "run-embedded"


class Run(DoitRun):  # type: ignore[misc]  # doit has no type information
    """`doit [run] [TASK ...]`."""

    doc_purpose = "run tasks; with no task, boot the image on the embedded emulator"

    def execute(self, params: Any, args: list[str]) -> int:
        """Run the tasks in `args`. Returns the exit status: the guest's, if one ran and failed."""
        if not args and sys.argv[1:] == ["run"]:
            args = [EMBEDDED]
        signal.signal(signal.SIGTERM, _terminated)
        try:
            result: int = super().execute(params, args)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return 130
        except InvalidCommand as error:
            if error.not_found:
                raise _unknown(error.not_found, [task.name for task in self.task_list]) from error
            raise
        return result

    def _execute(self, outfile: Any, verbosity: Any = None, always: Any = False, continue_: Any = False,
                 reporter: Any = "console", num_process: Any = 0, par_type: Any = "process", single: Any = False,
                 auto_delayed_regex: Any = False, force_verbosity: Any = False, failure_verbosity: Any = 0,
                 pdb: Any = False) -> int:  # fmt: skip
        """As doit's, whose parameter names are its interface, but with the reporter at hand afterwards."""
        if reporter == Reporter.NAME:
            reporter = Reporter(sys.stdout if outfile is None else outfile, {})
        result: int = super()._execute(
            outfile, verbosity, always, continue_, reporter, num_process, par_type, single, auto_delayed_regex,
            force_verbosity, failure_verbosity, pdb,
        )  # fmt: skip
        status: int | None = getattr(reporter, "exit_status", None)
        return result if status is None else status


def _terminated(number: int, frame: object) -> None:
    # As an exception it reaches every `finally`, and the tools we run end with us.
    raise KeyboardInterrupt


def _unknown(name: str, tasks: list[str]) -> InvalidCommand:
    from difflib import get_close_matches

    near = get_close_matches(name, tasks, 1)
    return InvalidCommand(
        f"there is no task or target {name!r}\n\nhint: "
        + (f"did you mean `doit {near[0]}`?" if near else "`doit list` shows the tasks")
    )
