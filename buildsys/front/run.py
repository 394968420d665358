"""doit's `run` command, which every `doit TASK` goes through, with a few things added.

`doit run` by itself boots the image; the exit status is the guest's where a
task ran one; Ctrl-C and a request to terminate end in one line, not a
traceback; a name or an option that does not exist is answered with the nearest;
`-r NAME` says how to show progress, wherever it stands.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from getopt import GetoptError, gnu_getopt
from pathlib import Path
from types import FrameType
from typing import Any

from doit import reporter
from doit.cmd_run import Run as DoitRun
from doit.cmdparse import CmdOption, CmdParse, CmdParseError
from doit.dependency import DbmDB, JsonDB, SqliteDB
from doit.exceptions import InvalidCommand
from doit.plugin import PluginDict
from doit.runner import MThreadRunner

from buildsys import processes
from buildsys.errors import UserError
from buildsys.front import ahead
from buildsys.front.command import INTERRUPTED
from buildsys.front.database import Database
from buildsys.front.mistakes import USAGE, option_of, unknown_task, wrong_option
from buildsys.front.modes import MODES, PROGRESS, chosen_anywhere, output, reporting
from buildsys.front.reporter import Reporter
from buildsys.signals import ENDING

EMBEDDED = "run-embedded"
TIDYING = 0.1  # seconds


class Run(DoitRun):  # type: ignore[misc]  # doit has no type information
    """`doit [run] [TASK ...]`."""

    doc_purpose = "run tasks; with no task, boot the image on the embedded emulator"

    def get_backends(self) -> _Plugins:
        """doit's databases and ours; those of other packages are looked for only if one is asked for."""
        return self._choices("backend", {"dbm": DbmDB, "json": JsonDB, "sqlite3": SqliteDB, "buildsys": Database})

    def get_reporters(self) -> _Plugins:
        """doit's reporters and ours, likewise. `json` is ours: doit's tells everything at the end, and no origin."""
        known = {
            "console": reporter.ConsoleReporter,
            "executed-only": reporter.ExecutedOnlyReporter,
            "zero": reporter.ZeroReporter,
            "error-only": reporter.ErrorOnlyReporter,
            **MODES,
        }
        if os.environ.get(PROGRESS) != "":
            self.cmdparser["reporter"].env_var = PROGRESS
        return self._choices("reporter", known)

    def _choices(self, option: str, known: dict[str, Any]) -> _Plugins:
        plugins = _Plugins(known, self.config, option.upper())
        if option in self.cmdparser:
            self.cmdparser[option].choices = _Descriptions(plugins)
        return plugins

    def parse_execute(self, in_args: list[str]) -> int:
        """Run what the command line says: options of doit's, then tasks, each with its options."""
        try:
            status = int(self.execute(*self._parsed(in_args)))
            ahead.end()
            return self._left(status)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            return USAGE
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            if any(thread.is_alive() for thread in _workers()):
                # Python would end under a thread that may be in an emulator, which crashes.
                os._exit(INTERRUPTED)
            return INTERRUPTED

    def _left(self, status: int) -> int:
        """`status`, if Python is to end in its own way; as the doit command we leave at once.

        To take itself apart, module by module, takes Python as long as a build with nothing to do takes us.
        """
        if Path(sys.argv[0]).name != self.bin_name or sys.gettrace() or _workers():
            return status
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        except (OSError, ValueError, AttributeError):
            return status  # Python has its own way to say that nobody listens
        atexit._run_exitfuncs()
        os._exit(status)

    def _parsed(self, in_args: list[str]) -> tuple[Any, list[str]]:
        """(doit's options, task names with theirs); `doit run` has its own task, whose options may stand alone."""
        explicit = "run" in sys.argv[1:]
        reporter, rest = chosen_anywhere(in_args)
        try:
            params, args = self.cmdparser.parse([*reporter, *rest])
        except CmdParseError as error:
            if not explicit or not option_of(error):
                raise wrong_option(error, self.cmdparser.options) from None
            params, args = self.cmdparser.parse(reporter)[0], [EMBEDDED, *rest]
        self.pdb = params["pdb"]
        params.update(self.opt_vals)
        return params, args if args or not explicit else [EMBEDDED]

    def execute(self, params: Any, args: list[str]) -> int:
        """Run the tasks in `args`. Returns the exit status: the guest's, if one ran and failed. Raises UserError."""
        try:
            result: int = super().execute(params, args)
        except CmdParseError as error:
            options = [CmdOption(each) for task in self.task_list if task.name in args for each in task.params]
            raise wrong_option(error, options) from None
        except InvalidCommand as error:
            if error.not_found:
                raise unknown_task(error.not_found, [task.name for task in self.task_list]) from None
            raise UserError(str(error)) from None
        return result

    def _execute(self, outfile: Any, verbosity: Any = None, always: Any = False, continue_: Any = False,
                 reporter: Any = "console", num_process: Any = 0, par_type: Any = "process", single: Any = False,
                 auto_delayed_regex: Any = False, force_verbosity: Any = False, failure_verbosity: Any = 0,
                 pdb: Any = False) -> int:  # fmt: skip
        """As doit's, whose parameter names are its interface, but with the reporter at hand afterwards.

        `doit -n` uses threads, whatever `par_type` says: what takes time are tools, in processes of their own. And
        a doit that is interrupted while it starts processes waits for them for ever.
        """
        self._order_words()
        if reporter == Reporter.NAME and self._asks_for_json():
            reporter = "quiet"  # whoever reads that reads nothing else
        with (
            output(outfile, reporter) as stream,
            _interruptible(),
            reporting(reporter, stream, num_process > 0) as chosen,
        ):
            result: int = super()._execute(
                stream, verbosity, always, continue_, chosen, num_process, "thread", single, auto_delayed_regex,
                force_verbosity, failure_verbosity, pdb,
            )  # fmt: skip
            self._settle()
        status: int | None = getattr(chosen, "exit_status", None)
        return result if status is None else status

    def _settle(self) -> None:
        """Wait for what is still being kept in the caches, and tell what went wrong with them."""
        for caches in {id(each): each for task in self.task_list if (each := (task.meta or {}).get("caches"))}.values():
            for trouble in caches.settle():
                print(f"warning: {trouble}", file=sys.stderr)

    def _asks_for_json(self) -> bool:
        """Whether the answer of a task about the image is asked for as JSON: steps are of no interest."""
        names = getattr(self, "sel_tasks", None) or []
        tasks = {task.name: task for task in self.task_list}
        return "--json" in names and any((tasks[each].meta or {}).get("of_image") for each in names if each in tasks)

    def _order_words(self) -> None:
        """For a task that takes words of its own, put its options first, wherever they stand: doit reads no others.

        Such a task with words is about them, not about the image, unless it says so: it needs no other task.
        """
        name, *rest = getattr(self, "sel_tasks", None) or [""]
        task = next((task for task in self.task_list if task.name == name and task.pos_arg), None)
        if task is None:
            return
        known = CmdParse([CmdOption(each) for each in task.params])
        try:
            options, words = gnu_getopt(rest, known.get_short(), known.get_long())
        except GetoptError as error:
            raise CmdParseError(str(error)) from None
        first = [f"{option}={value}" if value and option[:2] == "--" else option + value for option, value in options]
        self.sel_tasks = [name, *first, *words]
        if words and not (task.meta or {}).get("of_image"):
            task.task_dep.clear()


class _Plugins(dict[str, Any]):
    """Plugins by name. Those of other packages are looked for only if one is asked for: that takes long."""

    def __init__(self, known: dict[str, Any], config: Any, category: str) -> None:
        super().__init__(known)
        self._config, self._category = config, category

    def __missing__(self, name: str) -> Any:
        others = PluginDict()
        others.add_plugins(self._config, self._category)
        return others.get_plugin(name)

    def get(self, name: str, default: Any = None) -> Any:
        """The plugin called `name`."""
        try:
            return self[name]
        except KeyError:
            return default


class _Descriptions(dict[str, str]):
    """What can be said for an option, and a word on each."""

    def __init__(self, plugins: _Plugins) -> None:
        super().__init__({name: getattr(each, "desc", "") for name, each in plugins.items()})
        self._plugins = plugins

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or (isinstance(name, str) and self._plugins.get(name) is not None)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Inside, whatever asks us to end is a KeyboardInterrupt, once; the tools that run end with it.

    As an exception it reaches every `finally`. What comes after the first is ignored: cleaning up is
    on its way, and a second Ctrl-C would cut it short.
    """
    before = {number: signal.getsignal(number) for number in ENDING}

    def interrupt(number: int, frame: FrameType | None) -> None:
        for each in ENDING:
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt

    def request(number: int, frame: FrameType | None) -> None:
        # An emulator may have put its own in the place of Ctrl-C's handler, to end in its own way.
        handler = signal.getsignal(signal.SIGINT)
        (handler if callable(handler) else interrupt)(number, frame)

    for number, handler in before.items():
        if handler is not signal.SIG_IGN:  # a job in the background, or under nohup
            signal.signal(number, interrupt if number is signal.SIGINT else request)
    try:
        yield
    except KeyboardInterrupt:
        processes.end_all()  # those that tasks in other threads wait for
        for thread in _workers():
            thread.join(TIDYING)  # it has a file to put away; or, by now, nothing to do
        ahead.end()
        raise  # and go on ignoring signals: all that is left is to say so
    for number, handler in before.items():
        if handler is not None:
            signal.signal(number, handler)


def _workers() -> list[threading.Thread]:
    """The threads of `doit -n`, and the head start's."""
    return [
        *(thread for thread in threading.enumerate() if isinstance(thread, MThreadRunner.DaemonThread)),
        *ahead.threads(),
    ]
