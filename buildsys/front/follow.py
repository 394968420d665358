"""The chain, followed: after each save, what is no longer up to date is made again, in a thread of its own."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from buildsys import waiting
from buildsys.cache.action import BUILT
from buildsys.cache.caches import Caches
from buildsys.cache.fingerprint import MISSING, Print, of_file, settled
from buildsys.config.project import Project
from buildsys.errors import UserError
from buildsys.files import share
from buildsys.front.command import DISK
from buildsys.front.cycle import Failure, Stage
from buildsys.front.modules import Modules, restart
from buildsys.front.saves import Places, module, places
from buildsys.front.steps import Steps

STEPS = ("compile", "runtime", "link", "patch")


@dataclass(frozen=True)
class Begun:
    """Something is to be done: this is a cycle."""


@dataclass(frozen=True)
class Doing:
    """A step begins."""

    name: str
    began: float


@dataclass(frozen=True)
class Did:
    """A step is done."""

    stage: Stage


@dataclass(frozen=True)
class Written:
    """There is an image, at `path`; whether it is sound is still being found out: Made or another one will follow.

    `dead_ends` are functions of the user's that no good end follows, names by address.
    """

    path: Path
    dead_ends: Mapping[int, str]


@dataclass(frozen=True)
class Made:
    """All is as it should be, or `failure` says why not."""

    failure: Failure | None


@dataclass(frozen=True)
class Looked:
    """The look is over."""


Told = Begun | Doing | Did | Written | Places | Made | Looked  # Places: where a save counts from now on


class Chain:
    """The project as it is now and its steps. `load` reads its configuration."""

    def __init__(self, load: Callable[[], Project], project: Project) -> None:
        self._load = load
        self.steps = _steps(project)
        self._wrong: Failure | None = None
        self._modules = Modules()
        # Called before templates are rendered: what prepared them may still be at it.
        self.before_rendering: Callable[[], None] = lambda: None
        self._changed: list[str] = []
        self._failed = ""
        self._made: list[str] = []  # in this look
        # Prints taken before the configuration was last read, so that no change of it is missed.
        self._settings: dict[Path, Print] = {}
        self._places = self.places()

    def look(self, forced: bool, tell: Callable[[Told], None]) -> None:
        """Make again what is not up to date. Tells Begun only if there is something new, or if `forced`.

        Then Places, Made, Looked.

        Raises nothing that the user can mend.
        """
        begun = False

        def begin() -> None:
            nonlocal begun
            if not begun:
                begun = True
                tell(Begun())

        if forced:
            begin()
        failure = self._outdated(begin) or self._refresh(begin) or self._make(begin, tell)
        failure = self._undone(begin) or failure
        found = self.places()
        # A step that failed has no record, but what it read before may be what mends it.
        self._places = found | self._places if failure else found
        tell(self._places)  # while the run goes on: who reads the verdict may save at once
        tell(Made(failure))
        tell(Looked())

    def places(self) -> Places:
        """Where a save may be one of an input."""
        project, records = self.steps.project, self.steps.records
        return places(
            project.build,
            (module(project.package), *project.templates),
            (project.file, project.board.path),
            map(records.path, STEPS),
            self._modules.folders,
        )

    @property
    def _trial(self) -> Path:
        """Another name of an image that is not known to be sound yet; it stays when that one is put in its place."""
        image = self.steps.image
        return image.with_name(f"{image.name}.trial.{os.getpid()}.partial")  # if we are killed: cache.lock.sweep

    def prepare(self) -> None:
        """While nobody waits: begin the tools that a save in a template will need."""
        with suppress(UserError):  # whoever needs them will say so
            self.steps.binutils.prepare()

    def close(self) -> None:
        """Leave nothing behind."""
        waiting.begin()
        self._trial.unlink(missing_ok=True)

    def settle(self) -> list[str]:
        """Wait until what was made is kept in the caches; returns what went wrong with them."""
        caches = self.steps.records.caches
        return caches.settle() if caches else []

    def _outdated(self, begin: Callable[[], None]) -> Failure | None:
        """Whether our own modules changed: what the old code makes would be recorded as made by the new."""
        before, self._changed = self._changed, self._modules.changed()
        if self._changed != before:
            begin()
        return Failure("restart", restart(self._changed)) if self._changed else None

    def _undone(self, begin: Callable[[], None]) -> Failure | None:
        """If our own modules changed while steps were made, forget these: they are recorded as made by the new ones."""
        failure = self._outdated(begin) if self._made else None
        for name in self._made if failure else ():
            self.steps.records.forget(name)
        self._made.clear()
        return failure

    def _refresh(self, begin: Callable[[], None]) -> Failure | None:
        """Read the configuration again if it changed."""
        before = project = self.steps.project
        files = (project.file, project.board.path)
        now = {path: settled(of_file(path, self._settings.get(path, MISSING))) for path in files}
        digests = {path: digest for path, (_, digest) in self._settings.items()}
        if self._wrong is not None or {path: digest for path, (_, digest) in now.items()} != digests:
            was, self._settings = self._wrong, now
            try:
                project, self._wrong = self._load(), None
            except UserError as error:
                self._wrong = Failure("configuration", error)
            if was is not None and self._wrong is not None and str(was.error) == str(self._wrong.error):
                return self._wrong
            if project != before or was is not None or self._wrong is not None:
                begin()
        if project != before or not _same_tools(self.steps):
            self.steps = _steps(project)
        return self._wrong

    def _make(self, begin: Callable[[], None], tell: Callable[[Told], None]) -> Failure | None:
        records = self.steps.records
        records.vouched = self._modules.prints  # that this holds to the end of the look is seen to then

        def written(image: Path, dead_ends: Mapping[int, str]) -> None:
            with suppress(OSError):  # then it is tried when it is where it belongs
                share(image, self._trial)
                tell(Written(self._trial, dead_ends))

        self.steps.written, self.steps.before_rendering = written, self.before_rendering
        for name in STEPS:
            began = time.monotonic()
            try:
                action = getattr(self.steps, name)()
                reason = records.stale(action)
                if not reason:
                    continue
                if self._failed == name:
                    reason = "it failed the last time"  # and so has no record, which would be the reason
                begin()
                tell(Doing(name, began))
                if name == "compile":  # what it needs may have to be fetched first, and is an input then
                    self.steps.make_ready()
                    action = self.steps.compile()
                facts = records.perform(action)
                self._failed = ""
            except UserError as error:
                begin()
                self._failed = name
                return Failure(name, error)
            except OSError as error:
                if error.filename is None and error.errno not in DISK:
                    raise
                begin()
                return Failure(name, UserError(f"{error.filename or records.folder.parent}: {error.strerror}"))
            said = "\n".join(filter(None, (facts.get("said"), facts.get("remark"))))
            self._made.append(name)
            last = records.last(name)
            tell(Did(Stage(name, reason, time.monotonic() - began, last.origin if last else BUILT, said)))
        return None


def _steps(project: Project) -> Steps:
    return Steps(project, caches=Caches(project.caching) if project.caching else None)


def _same_tools(steps: Steps) -> bool:
    """Whether the project's tools still are those that `steps` found."""
    now = Steps(steps.project)
    try:
        return (now.go, now.binutils) == (steps.go, steps.binutils)
    except UserError:
        return False
