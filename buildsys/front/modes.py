"""The ways to show progress that `doit -r NAME` and BUILDSYS_PROGRESS choose from, and where it is shown."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from typing import TYPE_CHECKING, Any

from buildsys.errors import UserError
from buildsys.front.lines import Lines
from buildsys.front.reporter import Reporter

if TYPE_CHECKING:
    from buildsys.front.progress import View

# Names the way to show progress, for who does not want to say it each time.
PROGRESS = "BUILDSYS_PROGRESS"


class Mode:
    """A way to show progress, on a stream, of several tasks at once or not; `desc` is what `doit help run` says."""

    def __init__(self, desc: str, view: Callable[[Any, bool], View]) -> None:
        self.desc, self.view = desc, view


def _quiet(out: Any, several: bool) -> View:
    from buildsys.front.quiet import Quiet

    return Quiet()


def _events(out: Any, several: bool) -> View:
    from buildsys.front.events import Events

    return Events(out)


JSON = "json"
MODES = {
    Reporter.NAME: Mode(Reporter.desc, Lines),
    "plain": Mode("the same lines, and no more on a terminal", lambda out, several: Lines(out, live=False)),
    "quiet": Mode("failures only", _quiet),
    JSON: Mode("one JSON object a line, as things happen", _events),
}


def reporting(name: Any, stream: Any, several: bool) -> AbstractContextManager[Any]:
    """The reporter `name`, writing to `stream`, for `several` tasks at once; closed in the end.

    What is none of ours is left to doit, which makes a reporter from its name or class.
    """
    mode = MODES.get(name) if isinstance(name, str) else None
    return nullcontext(name) if mode is None else closing(Reporter(stream, {}, mode.view(stream, several), several))


def output(file: Any, reporter: Any) -> AbstractContextManager[Any]:
    """Where the reporter `reporter` writes: a file by its name, a stream, or standard output. Raises UserError."""
    if isinstance(file, str):
        try:
            return open(file, "w", encoding="utf-8")
        except OSError as error:
            raise UserError(f"--output-file {file}: {error.strerror}") from None
    if reporter == JSON:
        from buildsys.front.events import alone_on_stdout

        return alone_on_stdout()
    return nullcontext(sys.stdout if file is None else file)


def chosen_anywhere(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """(the words that choose a reporter, the others): doit reads options of its own only before the first task."""
    chosen: list[str] = []
    others: list[str] = []
    coming = iter(words)
    for word in coming:
        if word == "--":
            others += [word, *coming]
        elif word in ("-r", "--reporter"):
            chosen += [word, *itertools.islice(coming, 1)]
        elif word.startswith("--reporter="):
            chosen.append(word)
        else:
            others.append(word)
    return chosen, others
