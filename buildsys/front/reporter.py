"""What a build says while it runs: a line for each step done, one at the end. Failures go to stderr."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from typing import Any

from doit.exceptions import BaseFail, TaskError, TaskFailed, UnmetDependency

from buildsys.errors import UserError
from buildsys.front.command import hang_up


class Failed(TaskFailed):  # type: ignore[misc]  # doit has no type information
    """A task failed for a reason the user can mend; `exit_status` is the command's, if it has one of its own."""

    def __init__(self, error: UserError | str, exit_status: int | None = None) -> None:
        super().__init__(str(error))
        self.exit_status = exit_status


class Reporter:
    """doit's reporter interface; `exit_status` is a failed task's own, None if no task had one."""

    NAME = "buildsys"
    desc = "a line for each step done"

    def __init__(self, outstream: Any, options: Any) -> None:
        self._out = outstream
        self._began = time.monotonic()
        self._task_began = self._began
        self._selected: list[str] = []
        self._ran: list[str] = []
        self._skipped: list[str] = []
        self._closing: Any = None
        self._ignored = False
        self._failed = False
        self.exit_status: int | None = None

    def initialize(self, tasks: Any, selected_tasks: list[str]) -> None:
        """Remember what was asked for."""
        self._selected = list(dict.fromkeys(selected_tasks))

    def get_status(self, task: Any) -> None:
        """A task is looked at."""

    def execute_task(self, task: Any) -> None:
        """A task begins."""
        self._task_began = time.monotonic()

    def add_success(self, task: Any) -> None:
        """A task is done."""
        if task.meta and "step" in task.meta:
            self._ran.append(task.name)
            self._write(f"{task.name:9} {task.meta['step']:58} {time.monotonic() - self._task_began:6.2f} s")
            if remark := task.values.get("remark"):
                self._write(f"{'':9} {remark}")
            if said := task.values.get("said"):
                self._complain(said)  # the tool's own words, such as gcflags asked for
        if task.meta and task.name in self._selected:
            self._closing = task.meta.get("closing", self._closing)

    def add_failure(self, task: Any, fail: BaseFail) -> None:
        """A task failed: say why, with a traceback only if it is a defect."""
        self._failed = True
        if getattr(fail, "exit_status", None) is not None:
            self.exit_status = fail.exit_status
        if not fail.report or isinstance(fail, UnmetDependency):
            return  # what it depends on has said why
        if isinstance(fail, Failed):
            if message := fail.message:
                self._complain(f"error: {message}")
        elif isinstance(fail, TaskError):
            self._complain(f"{task.name}: {fail.get_msg()}")
        else:
            self._complain(f"error: {task.name}: {fail.get_msg().strip()}")

    def skip_uptodate(self, task: Any) -> None:
        """A task had nothing to do."""
        self._skipped.append(task.name)

    def skip_ignore(self, task: Any) -> None:
        """A task was told to be ignored."""
        if not self._ignored:
            self._write(f"{task.name:9} ignored, and what needs it; `doit forget {task.name}` ends that")
        self._ignored = True

    def cleanup_error(self, exception: Any) -> None:
        """A teardown failed."""
        self._complain(exception.get_msg())

    def runtime_error(self, msg: str) -> None:
        """The tasks themselves make no sense."""
        self._failed = True
        self._complain(f"error: {msg}")

    def teardown_task(self, task: Any) -> None:
        """A teardown begins."""

    def complete_run(self) -> None:
        """Everything is over, also if it was interrupted: the closing line of what was asked for, if all went well."""
        if self._failed:
            return
        if self._closing:
            self._write(self._closing(bool(self._ran), time.monotonic() - self._began))
        elif self._selected and set(self._selected) <= set(self._skipped):
            self._write(f"{', '.join(self._selected)}: everything is up to date")

    def _write(self, line: str) -> None:
        try:
            self._out.write(line + "\n")
            self._out.flush()
        except BrokenPipeError:
            hang_up()  # and finish the build, though nobody listens

    def _complain(self, text: str) -> None:
        with suppress(BrokenPipeError):
            self._out.flush()
            sys.stderr.write(text.rstrip() + "\n")
