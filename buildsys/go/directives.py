"""`//buildsys:redirect NAME …` above a Go function: that function takes the place of another.

Directives are comments like Go's own: no blank behind the slashes, in the comment right above the function.
Whatever looks like one and is none is an error: a redirect that is silently not made is found late.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from buildsys.errors import UserError

PREFIX, VERB = "buildsys:", "redirect"
SPELLING = f"//{PREFIX}{VERB} NAME [mode=calls|entry|both] [pointers] [original=NAME] [allow=…]"

# Go's comments and what may look like one: the Go Programming Language Specification, "Lexical elements".
_TOKEN = re.compile(r"//[^\n]*|/\*.*?\*/|`[^`]*`|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'", re.DOTALL)
_MEANT = re.compile(r"[/*\s]*build-?sys(?::\S|\s*:\s*redir)", re.IGNORECASE)
_FUNCTION = re.compile(
    r"(?:\n[ \t]*//[^\n]*)*\n[ \t]*func\b[ \t]*(?:\((?P<receiver>[^()]*)\)[ \t]*)?(?P<name>\w+)[ \t]*(?P<generic>\[)?"
)
_RECEIVER = re.compile(r"\s*(?:\w+\s+)?(?P<pointer>\*?)\s*(?P<type>\w+)\s*(?P<generic>\[.*)?", re.DOTALL)
_LINKNAME = re.compile(r"^//go:linkname[ \t]+(\w+)[ \t]+(\S+)", re.MULTILINE)


class Directive(NamedTuple):
    """One directive: the words behind its name, the symbol of the function below it, and where it stands."""

    words: tuple[str, ...]
    symbol: str
    file: Path
    line: int


def directives(files: Iterable[tuple[str, Path]], shown: Callable[[Path], str]) -> list[Directive]:
    """Every directive in Go files, each given with what its package's symbols begin with.

    `shown` gives what messages call a file. Raises UserError for one that is misspelt or above no function,
    OSError if a file cannot be read.
    """
    found: list[Directive] = []
    for package, file in files:
        contents = file.read_bytes()
        if re.search(rb"build-?sys\s*:", contents, re.IGNORECASE):
            found += _in(contents.decode("utf-8", "replace").replace("\r\n", "\n"), package, file, shown(file))
    return found


def _in(text: str, package: str, file: Path, name: str) -> Iterator[Directive]:
    for token in _TOKEN.finditer(text):
        comment = token[0]
        if comment[0] != "/" or not _MEANT.match(comment):
            continue
        line = text.count("\n", 0, token.start()) + 1
        where = f"{name}:{line}"
        if not comment.startswith(f"//{PREFIX}"):
            raise UserError(
                f"{where}: {comment.splitlines()[0]} is no directive", f"without a blank, in one line: {SPELLING}"
            )
        verb, *words = comment.removeprefix(f"//{PREFIX}").split()
        if verb != VERB:
            raise UserError(f"{where}: there is no directive {PREFIX}{verb}", f"did you mean {SPELLING}?")
        if text[text.rfind("\n", 0, token.start()) + 1 : token.start()].strip():
            raise UserError(f"{where}: {comment} stands behind code", "put it right above the function")
        yield Directive(tuple(words), _symbol(text, token.end(), package, f"{where}: {comment}"), file, line)


def _symbol(text: str, end: int, package: str, what: str) -> str:
    """The symbol of the function right below the comment that ends at `end`."""
    function = _FUNCTION.match(text, end)
    if function is None:
        raise UserError(f"{what} is not above a function", "no blank line may be between the two")
    name = function["name"]
    if function["generic"]:
        raise UserError(f"{what} is above {name}, which is generic", "a function with type parameters is several")
    if function["receiver"] is not None:
        receiver = _RECEIVER.fullmatch(function["receiver"])
        if receiver is None or receiver["generic"]:
            raise UserError(f"{what} is above a method of a generic type", "such a method is several functions")
        owner = receiver["type"]
        return f"{package}.(*{owner}).{name}" if receiver["pointer"] else f"{package}.{owner}.{name}"
    if name in ("init", "_"):
        raise UserError(f"{what} is above func {name}, which nothing can call by its name")
    linked: dict[str, str] = dict(_LINKNAME.findall(text))
    return linked.get(name, f"{package}.{name}")


def prefix(import_path: str, name: str) -> str:
    """What the symbols of a package begin with: cmd/internal/objabi/path.go, PathToPrefix."""
    if name == "main":
        return "main"
    last = import_path.rfind("/")
    return "".join(
        f"%{byte:02x}"
        if byte <= 0x20 or byte >= 0x7F or chr(byte) in '%"' or (byte == 0x2E and at > last)
        else chr(byte)
        for at, byte in enumerate(import_path.encode())
    )
