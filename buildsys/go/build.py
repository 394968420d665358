"""The cross build: a kernel package becomes one relocatable object."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from buildsys import processes
from buildsys.errors import UserError
from buildsys.go.toolchain import GoToolchain

# Reproducible whatever folder it is run in: no paths, no VCS stamp, no build ID.
FLAGS = ("-buildmode=c-archive", "-trimpath", "-buildvcs=false")
LDFLAGS = "-buildid="
# Printed by every c-archive build without cgo; means nothing here.
HARMLESS = ("loadinternal: cannot find runtime/cgo",)
AR_MAGIC = b"!<arch>\n"


@dataclass(frozen=True)
class GoOptions:
    """What the user may add to the build: tags, and flags for compiler and linker."""

    tags: tuple[str, ...] = ()
    gcflags: str = ""
    ldflags: str = ""


def build(
    go: GoToolchain,
    package: Path,
    options: GoOptions,
    archive: Path,
    meanwhile: Callable[[], object] | None = None,
) -> str:
    """Compile the `main` package in folder `package` to a c-archive.

    `meanwhile` is called while Go runs. Returns what the compiler warned of. Raises UserError with Go's own words,
    once, if it does not compile.
    """
    command = [
        str(go.command),
        "build",
        *FLAGS,
        f"-ldflags={' '.join(filter(None, (LDFLAGS, options.ldflags)))}",
        *([f"-gcflags={options.gcflags}"] if options.gcflags else []),
        *([f"-tags={','.join(options.tags)}"] if options.tags else []),
        "-o",
        str(archive.resolve()),
        ".",
    ]
    done = _run(go, command, package, meanwhile)
    said = "\n".join(line for line in done.stderr.splitlines() if line not in HARMLESS)
    if done.returncode:
        raise UserError(f"go build of {package} failed\n{_located(said, package)}")
    lines = [line for line in said.splitlines() if not line.startswith("# ")]
    if not archive.is_file() or archive.read_bytes()[: len(AR_MAGIC)] != AR_MAGIC:
        raise UserError(
            f"{package}: go built no archive: is this a `main` package?",
            "the kernel package must be `package main` with a func main that calls the entry function",
        )
    return "\n".join(lines)


def extract(archive: Path) -> bytes:
    """The bytes of go.o, the one object a c-archive holds (ar(5)). Raises UserError for anything else."""
    data = archive.read_bytes()
    at = len(AR_MAGIC)
    while data[: len(AR_MAGIC)] == AR_MAGIC and at + 60 <= len(data):
        name, size = data[at : at + 16].decode("ascii", "replace").strip().rstrip("/"), data[at + 48 : at + 58]
        length = int(size)
        if name == "go.o":
            return data[at + 60 : at + 60 + length]
        at += 60 + length + length % 2
    raise UserError(f"{archive}: holds no go.o; it is no Go c-archive")


def inputs(go: GoToolchain, package: Path, options: GoOptions) -> tuple[list[Path], list[Path]]:
    """What a build of `package` reads outside the Go tree: (files, the folders they lie in).

    A file that appears in one of the folders may become part of the build.
    Source: `go help list`, the fields of Package and Module. Raises UserError.
    """
    command = [str(go.command), "list", "-deps", "-json=Dir,Standard,Module," + ",".join(_FILES)]
    command += [f"-tags={','.join(options.tags)}"] if options.tags else []
    done = _run(go, [*command, "."], package)
    if done.returncode:
        raise UserError(f"go list of {package} failed\n{_located(done.stderr.strip(), package)}")
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
                folders.add((folder / name).parent)
        module = entry.get("Module") or {}
        for origin in (module, module.get("Replace") or {}):
            if origin.get("GoMod"):
                files.add(Path(origin["GoMod"]))
                if (checksums := Path(origin["GoMod"]).with_name("go.sum")).is_file():
                    files.add(checksums)
                folders.add(Path(origin["GoMod"]).parent)
    return sorted(files), sorted(folders)


_FILES = ("GoFiles", "IgnoredGoFiles", "SFiles", "HFiles", "OtherFiles", "EmbedFiles", "SysoFiles")


def _objects(text: str) -> list[dict[str, Any]]:
    decoder, found, at = json.JSONDecoder(), [], 0
    while (at := text.find("{", at)) >= 0:
        value, at = decoder.raw_decode(text, at)
        found.append(value)
    return found


def _run(
    go: GoToolchain, command: Sequence[str], package: Path, meanwhile: Callable[[], object] | None = None
) -> subprocess.CompletedProcess[str]:
    if not package.is_dir():
        raise UserError(f"{package}: there is no such folder", "`package` in [tool.buildsys] names the kernel package")
    return processes.run(command, package, go.environment(), meanwhile)


def _located(said: str, package: Path) -> str:
    """Go names files relative to the package it ran in; name them as the user would from here."""
    return "\n".join(f"{package}/{line[2:]}" if line.startswith("./") else line for line in said.splitlines() if line)
