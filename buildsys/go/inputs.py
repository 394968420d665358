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
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from buildsys.cache.fingerprint import of_folder
from buildsys.errors import UserError
from buildsys.files import replace
from buildsys.go.build import located, run
from buildsys.go.options import GoOptions
from buildsys.go.toolchain import GoToolchain

TELLING = re.compile(rb"""^[^\n]*(?:["`]|/\*|\*/|//go:|\+build|\bimport\b|\bpackage\b)[^\n]*$""", re.MULTILINE)


@dataclass(frozen=True)
class Inputs:
    """Files a build reads outside the Go tree, and the folders they lie in, where a new file may become one."""

    files: tuple[Path, ...]
    folders: tuple[Path, ...]


def known_inputs(go: GoToolchain, package: Path, options: GoOptions, memory: Path) -> Inputs:
    """The inputs of a build of `package`, from the file `memory` if what it remembers still stands."""
    asked = [str(package.resolve()), go.release, *options.tags]
    try:
        stored = json.loads(memory.read_bytes())
        found = Inputs(tuple(map(Path, stored["files"])), tuple(map(Path, stored["folders"])))
        if stored["asked"] == asked and stored["telling"] == _telling(found):
            return found
    except (OSError, ValueError, KeyError, TypeError):
        pass
    found = inputs(go, package, options)
    memory.parent.mkdir(parents=True, exist_ok=True)
    stored = {
        "asked": asked,
        "telling": _telling(found),
        "files": list(map(str, found.files)),
        "folders": list(map(str, found.folders)),
    }
    replace(memory, json.dumps(stored).encode())
    return found


def _telling(found: Inputs) -> str:
    """A digest of all that decides which files are read."""
    digest = hashlib.sha256()
    for folder in found.folders:
        digest.update(of_folder(folder)[1].encode())
    for file in found.files:
        contents = file.read_bytes() if file.suffix == ".go" or file.name in ("go.mod", "go.sum") else b""
        lines: Iterable[bytes] = TELLING.findall(contents) if file.suffix == ".go" else (contents,)
        digest.update(b"\n".join((str(file).encode(), *lines)) + b"\0")
    return digest.hexdigest()


def inputs(go: GoToolchain, package: Path, options: GoOptions) -> Inputs:
    """What a build of `package` reads outside the Go tree: files and folders.

    A file that appears in one of the folders may become part of the build.
    Source: `go help list`, the fields of Package and Module. Raises UserError.
    """
    command = [str(go.command), "list", "-deps", "-json=Dir,Standard,Module,EmbedPatterns," + ",".join(_FILES)]
    command += [f"-tags={','.join(options.tags)}"] if options.tags else []
    done = run(go, [*command, "."], package)
    if done.returncode:
        raise UserError(f"go list of {package} failed\n{located(done.stderr.strip(), package)}")
    files: set[Path] = set()
    folders: set[Path] = set()
    for entry in _objects(done.stdout):
        if entry.get("Standard"):
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
    return Inputs(tuple(sorted(files)), tuple(sorted(folders)))


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
