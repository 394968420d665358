"""The redirects that stand in Go sources: found while Go compiles them, and kept beside the object."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from buildsys.config.redirects import Redirection, of_words
from buildsys.errors import UserError
from buildsys.files import replace
from buildsys.go.directives import directives


def directed(files: Iterable[tuple[str, Path]], shown: Callable[[Path], str]) -> list[Redirection]:
    """What directives in Go files ask for, each file given with what its package's symbols begin with.

    `shown` gives what messages call a file. Raises UserError.
    """
    return [of_words(each.words, each.symbol, f"{shown(each.file)}:{each.line}") for each in directives(files, shown)]


def write(found: Iterable[Redirection], output: Path) -> None:
    """Keep them, a line each."""
    lines = ",\n ".join(json.dumps(each.stored()) for each in found)
    replace(output, f"[{lines}]\n".encode())


def read(path: Path) -> list[Redirection]:
    """What `write` kept."""
    return [Redirection.restored(each) for each in json.loads(path.read_text("utf-8"))]


def merged(configured: Sequence[Redirection], found: Iterable[Redirection]) -> tuple[Redirection, ...]:
    """Both together; what both say is said once. Raises UserError where they disagree."""
    by_old = {each.old: each for each in configured}
    more = []
    for each in found:
        other = by_old.get(each.old)
        if other is None:
            more.append(each)
        elif other != each:
            raise UserError(
                f"{each.place}: {each.old} is redirected to {each.to} ({_options(each)}), and to {other.to} "
                f"({_options(other)}) at {other.place}",
                "leave one out",
            )
    return (*configured, *more)


def _options(each: Redirection) -> str:
    return f"mode {each.mode}" + (", pointers" if each.pointers else "")
