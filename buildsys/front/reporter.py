"""doit's reporter interface: it keeps count, and a view shows what there is to say.

doit calls `execute_task` from the threads of `doit -n`, everything else from the main one.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from doit.exceptions import BaseFail, TaskError, TaskFailed, UnmetDependency

from buildsys.errors import UserError
from buildsys.front.command import BEGAN
from buildsys.front.lines import Lines

if TYPE_CHECKING:
    from buildsys.front.progress import View
    from buildsys.front.turns import Turns

# Where what a stage makes came from: made now, the local store, the shared cache, or it was there already.
BUILT, RESTORED, REMOTE, UP_TO_DATE = "built", "restored", "remote", "up to date"


class Failed(TaskFailed):  # type: ignore[misc]  # doit has no type information
    """A task failed for a reason the user can mend; `exit_status` is the command's, if it has one of its own."""

    def __init__(self, error: UserError | str, exit_status: int | None = None) -> None:
        super().__init__(str(error))
        self.exit_status = exit_status


class Reporter:
    """Progress of what was asked for, told to `view`.

    A stage is a task with `step` in its meta: what it says it did. Its values may have `origin` (built, restored,
    remote), `because` (why it had to be done), `remark` and `said`. A task asked for may have `closing` in its
    meta: a function that, given whether anything was done and the seconds it took, returns the last line.

    With `several` at once it is told in the order in which one at a time they would be done.
    `exit_status` is a failed task's own, None if no task had one.
    """

    NAME = "buildsys"
    desc = "a line for each step done, and on a terminal one for what runs"

    def __init__(self, outstream: Any, options: Any, view: View | None = None, several: bool = False) -> None:
        self._view: View = view or Lines(outstream)
        self._several = several
        self._turns: Turns | None = None
        self._began = BEGAN
        self._task_began: dict[str, float] = {}
        self._selected: list[str] = []
        self._decided: set[str] = set()
        self._skipped: set[str] = set()
        self._counts: Counter[str] = Counter()
        self._closing: Any = None
        self._ignored = False
        self._failed = False
        self.exit_status: int | None = None

    def initialize(self, tasks: Any, selected_tasks: list[str]) -> None:
        """Remember what was asked for."""
        self._selected = list(dict.fromkeys(selected_tasks))
        if self._several:
            from buildsys.front.turns import Turns, order_of

            self._turns = Turns(order_of(tasks, self._selected))

    def get_status(self, task: Any) -> None:
        """A task is looked at."""

    def execute_task(self, task: Any) -> None:
        """A task begins."""
        self._task_began[task.name] = time.monotonic()
        if task.actions:
            self._view.begins(task.name, is_stage(task))

    def add_success(self, task: Any) -> None:
        """A task is done."""
        seconds = task.values.get("seconds", self._ended(task))  # of a stage that began before its task
        if is_stage(task):
            from buildsys.front.progress import Stage

            about = {key: task.values.get(key) or "" for key in ("because", "remark", "said")}
            stage = Stage(task.name, task.meta["step"], task.values.get("origin", BUILT), seconds, **about)
            self._counts[stage.origin] += 1
            self._tell(task, partial(self._view.stage, stage))
        else:
            self._tell(task, partial(self._view.task, task.name, seconds) if task.actions else None)
        if task.meta and task.name in self._selected:
            self._closing = task.meta.get("closing", self._closing)

    def add_failure(self, task: Any, fail: BaseFail) -> None:
        """A task failed: say why, with a traceback only if it is a defect."""
        self._ended(task)
        self._failed = True
        status = getattr(fail, "exit_status", None)
        if status is not None:
            self.exit_status = status
        if not fail.report or isinstance(fail, UnmetDependency):
            self._tell(task, None)  # what it depends on has said why
            return
        if isinstance(fail, Failed):
            message = f"error: {fail.message}" if fail.message else ""
        elif isinstance(fail, TaskError):
            message = f"{task.name}: {fail.get_msg()}"
        else:
            message = f"error: {task.name}: {fail.get_msg().strip()}"
        self._tell(task, partial(self._view.failed, task.name, message, status))

    def skip_uptodate(self, task: Any) -> None:
        """A task had nothing to do."""
        self._skipped.add(task.name)
        stage = is_stage(task)
        self._counts[UP_TO_DATE] += stage
        self._tell(task, partial(self._view.up_to_date, task.name, stage) if task.actions else None)

    def skip_ignore(self, task: Any) -> None:
        """A task was told to be ignored."""
        text = f"ignored, and what needs it; `doit forget {task.name}` ends that"
        self._tell(task, None if self._ignored else partial(self._view.ignored, task.name, text))
        self._ignored = True

    def cleanup_error(self, exception: Any) -> None:
        """A teardown failed."""
        self._view.complain(exception.get_msg())

    def runtime_error(self, msg: str) -> None:
        """The tasks themselves make no sense."""
        self._failed = True
        self._view.complain(f"error: {msg}")

    def teardown_task(self, task: Any) -> None:
        """A teardown begins."""

    def complete_run(self) -> None:
        """Everything is over, also if it was interrupted: the closing line of what was asked for, if all went well."""
        for say in self._turns.rest() if self._turns else ():
            say()
        seconds = time.monotonic() - self._began
        text = "" if self._failed else self._last_words(seconds)
        ok = not self._failed and self._decided >= set(self._selected)
        self._view.done(ok, seconds, self._counts, text)
        self._view.close()

    def close(self) -> None:
        """Leave the terminal as it was, whatever happened. May come again."""
        self._view.close()

    def _last_words(self, seconds: float) -> str:
        done = sum(self._counts.values()) - self._counts[UP_TO_DATE]
        if self._closing:
            said: str = self._closing(bool(done), seconds)
            if not done:
                return said
            from buildsys.front.progress import shares

            about = shares(self._counts)
            return f"{said}; {about}" if about else said
        if self._selected and set(self._selected) <= self._skipped:
            return f"{', '.join(self._selected)}: everything is up to date"
        return ""

    def _ended(self, task: Any) -> float:
        """Seconds `task` took, which is over."""
        if task.actions:
            self._view.ends(task.name)
        now = time.monotonic()
        return now - self._task_began.get(task.name, now)

    def _tell(self, task: Any, say: Callable[[], None] | None) -> None:
        self._decided.add(task.name)
        if self._turns is None:
            if say:
                say()
            return
        for each in self._turns.next(task.name, say):
            each()


def is_stage(task: Any) -> bool:
    """Whether `task` is a stage of the build."""
    return bool(task.meta and "step" in task.meta)
