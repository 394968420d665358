"""The cross build: a kernel package becomes one relocatable object."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from buildsys import processes
from buildsys.errors import UserError
from buildsys.go.options import GoOptions
from buildsys.go.toolchain import GoToolchain

# Reproducible whatever folder it is run in: no paths, no VCS stamp, no build ID.
FLAGS = ("-buildmode=c-archive", "-trimpath", "-buildvcs=false")
LDFLAGS = "-buildid="
# Printed by every c-archive build without cgo; means nothing here.
HARMLESS = ("loadinternal: cannot find runtime/cgo",)
# cmd/go/internal/work/build.go: what go says of a package without func main, and of several packages.
NOT_MAIN = "-buildmode=c-archive requires exactly one main package"
AR_MAGIC = b"!<arch>\n"


def build(
    go: GoToolchain,
    package: Path,
    options: GoOptions,
    archive: Path,
    archiver: Path,
    meanwhile: Callable[[], object] | None = None,
) -> str:
    """Compile the `main` package in folder `package`, or the tests `options` names, to a c-archive.

    `archiver` is the `ar` Go's linker packs it with. `meanwhile` is called while
    Go runs. Returns what the compiler warned of. Raises UserError with Go's own
    words, once, if it does not compile.
    """
    extar = f"'-extar={archiver}'"  # quoted as cmd/internal/quoted reads it
    command = [
        str(go.command),
        *(("test", "-c", "-vet=off") if options.tests else ("build",)),
        *FLAGS,
        f"-ldflags={' '.join(filter(None, (LDFLAGS, extar, options.ldflags)))}",
        *([f"-gcflags={options.gcflags}"] if options.gcflags else []),
        *([f"-tags={','.join(options.tags)}"] if options.tags else []),
        "-o",
        str(archive.resolve()),
        options.tests or ".",
    ]
    done = run(go, command, package, meanwhile)
    said = located("\n".join(line for line in done.stderr.splitlines() if line not in HARMLESS), package)
    if NOT_MAIN in said:
        raise UserError(
            f"{package} is not a `main` package",
            "the kernel package must be `package main` with a func main that calls the entry function",
        )
    if done.returncode:
        what = f"the tests of {options.tests} do not compile" if options.tests else f"go build of {package} failed"
        raise UserError(f"{what}\n{said}")
    return "\n".join(line for line in said.splitlines() if not line.startswith("# "))


def extract(archive: Path) -> memoryview:
    """The bytes of go.o, the one object a c-archive holds (ar(5)). Raises UserError for anything else."""
    data = archive.read_bytes()
    at = len(AR_MAGIC)
    while data[: len(AR_MAGIC)] == AR_MAGIC and at + 60 <= len(data):
        name, size = data[at : at + 16].decode("ascii", "replace").strip().rstrip("/"), data[at + 48 : at + 58].strip()
        if not size.isdigit() or at + 60 + int(size) > len(data):
            break
        length = int(size)
        if name == "go.o":
            return memoryview(data)[at + 60 : at + 60 + length]
        at += 60 + length + length % 2
    raise UserError(f"{archive}: holds no go.o; it is no Go c-archive")


def run(
    go: GoToolchain, command: Sequence[str], package: Path, meanwhile: Callable[[], object] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the go command in `package`, with nothing of the user's settings. Raises UserError if it cannot be.

    What it and its linker put aside (`go-build…`, `go-link-…`) is gone afterwards, also if they are ended.
    """
    if not package.is_dir():
        raise UserError(f"{package}: there is no such folder", "`package` in [tool.buildsys] names the kernel package")
    with TemporaryDirectory(prefix="buildsys-go-", ignore_cleanup_errors=True) as aside:
        return processes.run(command, package, go.environment() | {"TMPDIR": aside}, meanwhile, dies_with_us=True)


def located(said: str, package: Path) -> str:
    """Go names files as seen from the package it ran in; name them as the user would from here."""
    import os
    import re

    def place(found: re.Match[str]) -> str:
        file = package / found[2]
        return found[1] + (os.path.normpath(file) if file.is_file() else found[2])

    return "\n".join(re.sub(r"^(\s*)([^\s:]+)(?=:\d)", place, line) for line in said.splitlines() if line)
