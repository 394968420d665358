"""What a build says while it runs: a line for each step done, one at the end. Failures go to stderr."""

from __future__ import annotations

import sys
import time
from typing import Any

from doit.exceptions import BaseFail, TaskError, TaskFailed

from buildsys.errors import UserError


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
        self._ran: list[str] = []
        self._selected: list[str] = []
        self._closing: Any = None
        self._failed = False
        self.exit_status: int | None = None

    def initialize(self, tasks: Any, selected_tasks: list[str]) -> None:
        """Remember what was asked for."""
        self._selected = list(selected_tasks)
        for name in self._selected:
            closing = (tasks[name].meta or {}).get("closing") if name in tasks else None
            self._closing = closing or self._closing

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

    def add_failure(self, task: Any, fail: BaseFail) -> None:
        """A task failed: say why, with a traceback only if it is a defect."""
        self._failed = True
        if getattr(fail, "exit_status", None) is not None:
            self.exit_status = fail.exit_status
        if not fail.report:
            return
        if isinstance(fail, Failed):
            if message := fail.message:
                self._complain(f"error: {message}")
        elif isinstance(fail, TaskError):
            self._complain(f"{task.name}: {fail.get_msg()}")
        else:
            self._complain(f"error: {task.name}: {fail.get_msg().strip()}")

    def skip_uptodate(self, task: Any) -> None:
        """A task had nothing to do."""

    def skip_ignore(self, task: Any) -> None:
        """A task was told to be ignored."""
        self._write(f"{task.name:9} ignored (doit forget {task.name} ends that)")

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
        """Everything is over: the closing line of what was asked for, if all went well."""
        if self._closing and not self._failed:
            self._write(self._closing(bool(self._ran), time.monotonic() - self._began))

    def _write(self, line: str) -> None:
        self._out.write(line + "\n")
        self._out.flush()

    def _complain(self, text: str) -> None:
        self._out.flush()
        sys.stderr.write(text.rstrip() + "\n")
