"""A head start: Go compiles while Python still loads doit.

Loading doit takes nearly half as long as Go takes for a small change. So when
the command line asks for an image and the compile step is stale, that step
begins in a thread of its own before anything else is done; the task of that
name then waits for it rather than doing it again. Whatever is wrong is left for
the task to find and to tell.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from buildsys import processes
from buildsys.cache.caches import Caches
from buildsys.config.project import kernels
from buildsys.errors import UserError
from buildsys.front.steps import Steps

# Tasks that need an image, and doit's commands that only speak of them.
WANTED = {
    "build", "patch", "link", "runtime", "compile", "run", "run-embedded", "run-qemu", "verify", "debug", "size",
    "archive",
}  # fmt: skip
SPEAKING = {"list", "clean", "info", "forget", "ignore", "help", "tabcompletion", "strace", "why"}
# Options with which doit looks elsewhere, or does nothing.
ELSEWHERE = ("-f", "--file", "-d", "--dir", "-h", "--help", "--version")
ENDING = 1.0  # seconds a step that was told to end may take to put its files away

_begun: list[Ahead] = []  # one at most: there is one command line


class Ahead:
    """The compile step of a project, being performed in `thread` once that is started."""

    def __init__(self, steps: Steps, because: str) -> None:
        self.steps, self.because = steps, because
        self.began = time.time()
        self.taken = False
        self._under_way = threading.Event()
        steps.compiling = self._under_way.set
        self._facts: dict[str, Any] = {}
        self._failure: BaseException | None = None
        # A thread that nobody waits for does not keep the process.
        self.thread = threading.Thread(target=self._perform, daemon=True)

    def start(self) -> None:
        """Begin; returns when Go has been started, or will not be: Python does one thing at a time."""
        self.thread.start()
        self._under_way.wait()

    def facts(self) -> dict[str, Any]:
        """What the step told, when it has ended. Raises what it raised."""
        self.taken = True
        self.thread.join()
        if self._failure is not None:
            raise self._failure
        return self._facts

    def _perform(self) -> None:
        try:
            self.steps.make_ready()
            self._facts = self.steps.records.perform(self.steps.compile())
        except BaseException as error:  # raised again where it is waited for
            self._failure = error
        finally:
            self._under_way.set()


def begin(arguments: Sequence[str]) -> None:
    """Begin the compile step if doit's command line `arguments` comes to it and it is stale."""
    if any(argument.startswith(ELSEWHERE) for argument in arguments) or not _wanted(arguments):
        return
    if not Path("dodo.py").is_file():
        return
    try:
        steps, *others = of_kernels()
        if others:  # which of them is wanted, the tasks will tell
            return
        because = steps.records.stale(steps.compile())
    except (UserError, OSError):
        return
    if because:
        _begun.append(Ahead(steps, because))  # before it starts: whatever ends us must find it
        _begun[0].start()


def _wanted(arguments: Sequence[str]) -> bool:
    words = [argument for argument in arguments if argument[:1] != "-"]
    known = [word for word in words if word in WANTED | SPEAKING]
    if words[:1] == ["run"] and len(words) > 1:
        return words[1] in WANTED
    return known[0] in WANTED if known else not words


def of_kernels() -> tuple[Steps, ...]:
    """The steps of each kernel of the project in the working folder. Raises UserError."""
    if _begun:
        return (_begun[0].steps,)
    projects = kernels()
    caches = Caches(projects[0].caching) if projects[0].caching else None
    return tuple(Steps(project, caches=caches) for project in projects)


def of(steps: Steps) -> Ahead | None:
    """The head start of `steps`, if there is one."""
    return next((ahead for ahead in _begun if ahead.steps is steps), None)


def threads() -> list[threading.Thread]:
    """The thread of the head start, while it runs."""
    return [ahead.thread for ahead in _begun if ahead.thread.is_alive()]


def end() -> None:
    """End what was begun, if it still runs: we were interrupted, or the command line did not come to it after all."""
    for ahead in _begun:
        if ahead.thread.is_alive():
            processes.end_all()
            ahead.thread.join(ENDING)
