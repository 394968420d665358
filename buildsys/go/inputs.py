"""What a build of a Go package reads: asked of the go command, which costs as much as it tells, once.

The answer stands as long as the folders hold the same names, go.mod and go.sum
the same text, and every Go file the same lines of some kinds: those with a
quote (an import's path is quoted, on one line), those that begin or end a
comment, and those with a build constraint, an embed pattern or a package name.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from buildsys.cache.fingerprint import RACY, of_folder
from buildsys.errors import UserError
from buildsys.go.build import located, run
from buildsys.go.directives import prefix
from buildsys.go.options import GoOptions
from buildsys.go.toolchain import GoToolchain

ATTEMPTS = 3
TELLING = re.compile(rb"""^[^\n]*(?:["`]|/\*|\*/|//go:|\+build|\bimport\b|\bpackage\b)[^\n]*$""", re.MULTILINE)


@dataclass(frozen=True)
class Inputs:
    """Files a build reads, and the folders they lie in, where a new file may become one.

    `own` are the Go files that are the user's to edit, compiled in this build, each with what the symbols of its
    package begin with: those of the main module (or of the workspace), and of modules replaced by a folder.
    """

    files: tuple[Path, ...]
    folders: tuple[Path, ...]
    own: tuple[tuple[str, Path], ...] = ()


class Memory(Protocol):
    """Where answers of the go command are kept: JSON objects, the likeliest first."""

    def recall(self) -> Iterator[Mapping[str, Any]]:
        """The answers kept so far."""

    def keep(self, answer: Mapping[str, Any], new: bool = True) -> None:
        """Keep one, `new` or recalled, as the likeliest. Raises OSError."""


def known_inputs(
    go: GoToolchain,
    package: Path,
    options: GoOptions,
    memory: Memory,
    name: Callable[[Path], str],
    path: Callable[[str], Path],
) -> Inputs:
    """The inputs of a build of `package`, from `memory` if what it remembers still stands.

    `name` gives what a file is called there, the same in every clone, and `path` the file.
    """
    asked = [
        name(package),
        go.release,
        go.sealed,
        *options.tags,
        *([f"tests of {options.tests}"] * bool(options.tests)),
    ]
    for answer in memory.recall():
        try:
            if answer["asked"] == asked:
                own = tuple((symbols, path(file)) for symbols, file in answer["own"])
                found = Inputs(tuple(map(path, answer["files"])), tuple(map(path, answer["folders"])), own)
                if answer["telling"] == _telling(found, name):
                    memory.keep(answer, new=False)
                    return found
        except (OSError, ValueError, KeyError, TypeError):
            continue  # of another state of the sources, or damaged
    found, telling = _rested(go, package, options, name)
    memory.keep(
        {
            "asked": asked,
            "telling": telling,
            "files": list(map(name, found.files)),
            "folders": list(map(name, found.folders)),
            "own": [[symbols, name(file)] for symbols, file in found.own],
        }
    )
    return found


def _rested(go: GoToolchain, package: Path, options: GoOptions, name: Callable[[Path], str]) -> tuple[Inputs, str]:
    """The inputs as they are now, and what tells that: asked again if one was changed while the go command looked.

    Else what it says of one state of the sources would be remembered of the next.
    """
    for _ in range(ATTEMPTS):
        began = time.time_ns()
        found = inputs(go, package, options)
        telling = _telling(found, name)
        if not any(_changed(path, began - RACY) for path in (*found.files, *found.folders)):
            break
    return found, telling


def _changed(path: Path, since: int) -> bool:
    """Whether it was changed at or after `since` (ns), or is gone, as far as its time of change tells."""
    try:
        return path.stat().st_ctime_ns >= since
    except OSError:
        return True


def _telling(found: Inputs, name: Callable[[Path], str]) -> str:
    """A digest of all that decides which files are read."""
    digest = hashlib.sha256()
    for folder in found.folders:
        digest.update(of_folder(folder)[1].encode())
    for file in found.files:
        whole = file.name in ("go.mod", "go.sum", "modules.txt")
        contents = file.read_bytes() if file.suffix == ".go" or whole else b""
        lines = (contents,) if whole else _lines(contents)
        digest.update(b"\n".join((name(file).encode(), *lines)) + b"\0")
    return digest.hexdigest()


@lru_cache(maxsize=256)  # it is asked before a build, while Go compiles, and after: most files are as they were
def _lines(contents: bytes) -> tuple[bytes, ...]:
    return tuple(TELLING.findall(contents))


def inputs(go: GoToolchain, package: Path, options: GoOptions) -> Inputs:
    """What a build of `package`, or of the tests `options` names, reads: files and folders.

    Of the Go tree only if that is not sealed.

    A file that appears in one of the folders may become part of the build.
    Source: `go help list`, the fields of Package and Module. Raises UserError.
    """
    fields = ("Dir", "ImportPath", "Name", "Standard", "Module", "EmbedPatterns", *_FILES)
    command = [str(go.command), "list", "-deps", f"-json={','.join(fields)}"]
    command += [f"-tags={','.join(options.tags)}"] if options.tags else []
    done = run(go, [*command, *(("-test", options.tests) if options.tests else (".",))], package)
    if done.returncode:
        raise UserError(f"go list of {package} failed\n{located(done.stderr.strip(), package)}")
    files = set() if go.sealed else set((go.root / "pkg" / "include").glob("*.h"))
    folders: set[Path] = set()
    own: list[tuple[str, Path]] = []
    for entry in _objects(done.stdout):
        if (entry.get("Standard") and go.sealed) or _is_generated(entry):
            continue
        folder = Path(entry["Dir"])
        folders.add(folder)
        for key in _FILES:
            for name in entry.get(key) or ():
                files.add(folder / name)
        folders |= _embedding(folder, entry.get("EmbedPatterns") or ())
        module = entry.get("Module") or {}
        for origin in (module, module.get("Replace") or {}):
            if origin.get("GoMod"):
                above = Path(origin["GoMod"]).parent
                beside = (Path(origin["GoMod"]), above / "go.sum", above / "vendor" / "modules.txt")
                files |= {file for file in beside if file.is_file()}
                folders.add(above)
        if _is_own(entry):
            symbols = prefix(entry["ImportPath"], entry["Name"])
            own += [(symbols, folder / name) for name in entry.get("GoFiles") or ()]
    return Inputs(tuple(sorted(files)), tuple(sorted(folders)), tuple(own))


def _is_own(entry: Mapping[str, Any]) -> bool:
    """Whether a package is in the user's hands: of the main module, of no module, or of one replaced by a folder."""
    module = entry.get("Module") or {}
    replaced = module.get("Replace")
    local = replaced is not None and "Version" not in replaced
    return not entry.get("Standard") and (not module or bool(module.get("Main")) or local)


def _is_generated(entry: Mapping[str, Any]) -> bool:
    """Whether it is the main package of a test, which go writes: src/cmd/go/internal/load/test.go, TestPackagesFor."""
    return entry["Name"] == "main" and str(entry["ImportPath"]).endswith(".test")


# An ignored file is one whose build constraint does not hold: an edit can make it count.
_FILES = (
    "GoFiles", "IgnoredGoFiles", "SFiles", "HFiles", "OtherFiles", "IgnoredOtherFiles", "EmbedFiles", "SysoFiles",
)  # fmt: skip


def _embedding(package: Path, patterns: Iterable[str]) -> set[Path]:
    """Every folder beneath `package` in which a new file could match one of the patterns of a go:embed."""
    found: set[Path] = set()
    for pattern in patterns:
        places = {package}
        for part in pattern.removeprefix("all:").split("/"):
            places = {inner for place in places for inner in place.glob(part) if inner.is_dir()}
            found |= places
        # An embedded folder is embedded with all that is in it.
        found |= {inner for place in places for inner in place.rglob("*") if inner.is_dir()}
    return found


def _objects(text: str) -> list[dict[str, Any]]:
    decoder, found, at = json.JSONDecoder(), [], 0
    while (at := text.find("{", at)) >= 0:
        value, at = decoder.raw_decode(text, at)
        found.append(value)
    return found
