"""The cross build: a kernel package becomes one relocatable object.

Go's linker makes that object, `go.o`, and has an archiver pack it. The archiver it is given here hands the object
over instead: to pack it, to take it out again and to have the go command read the archive for a build ID takes
longer than any step of ours, and nothing that follows asks for an archive.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType

from buildsys import processes
from buildsys.errors import UserError
from buildsys.files import replace
from buildsys.go.options import GoOptions
from buildsys.go.toolchain import GoToolchain

# Reproducible whatever folder it is run in: no paths, no VCS stamp, no build ID.
FLAGS = ("-buildmode=c-archive", "-trimpath", "-buildvcs=false")
LDFLAGS = "-buildid="
# Printed by every c-archive build without cgo; means nothing here.
HARMLESS = ("loadinternal: cannot find runtime/cgo",)
# cmd/go/internal/work/build.go: what go says of a package without func main, and of several packages.
NOT_MAIN = "-buildmode=c-archive requires exactly one main package"
# cmd/link/internal/ld/lib.go, (*Link).archive: `EXTAR -q -c -s ARCHIVE TMPDIR/go.o`. The go command wants a file there.
OBJECT = "BUILDSYS_GO_OBJECT"
HANDOVER = f"""\
#!/bin/sh
# What Go's linker runs to pack the object it made: the object goes to ${OBJECT}, and the archive is empty.
set -e
PATH=${{PATH:+$PATH:}}/usr/bin:/bin  # an empty one would begin with the folder it is run in
for each; do
    case $each in
    -*) ;;
    */go.o) object=$each ;;
    *) archive=${{archive:-$each}} ;;
    esac
done
ln "$object" "${OBJECT}" 2>/dev/null || cp "$object" "${OBJECT}"
printf '!<arch>\\n' >"$archive"
"""


def build(
    go: GoToolchain,
    package: Path,
    options: GoOptions,
    archive: Path,
    made: Path,
    tools: Path,
    meanwhile: Callable[[], object] | None = None,
) -> str:
    """Compile the `main` package in folder `package`, or the tests `options` names, as for a c-archive.

    Its object goes to `made`, and at `archive` an empty one is left. What Go's linker is to run is written to the
    folder `tools`. `meanwhile` is called while Go runs. Returns what the compiler warned of. Raises UserError with
    Go's own words, once, if it does not compile.
    """
    extar = f"'-extar={_handover(tools / 'ar')}'"  # quoted as cmd/internal/quoted reads it
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
    done = run(go, command, package, meanwhile, {OBJECT: str(made.resolve())})
    said = located("\n".join(line for line in done.stderr.splitlines() if line not in HARMLESS), package)
    if NOT_MAIN in said:
        raise UserError(
            f"{package} is not a `main` package",
            "the kernel package must be `package main` with a func main that calls the entry function",
        )
    if done.returncode:
        what = f"the tests of {options.tests} do not compile" if options.tests else f"go build of {package} failed"
        raise UserError(f"{what}\n{said}")
    if not made.is_file():
        raise UserError(
            f"go build of {package} left no object",
            "its linker hands it over to what -extar names, which is for the build to say: `ldflags` must not",
        )
    made.chmod(0o644)
    return "\n".join(line for line in said.splitlines() if not line.startswith("# "))


def _handover(path: Path) -> Path:
    """Write what Go's linker runs in place of `ar` to `path`, unless it is there; returns it, absolute."""
    if not path.is_file() or path.read_text("utf-8", "replace") != HANDOVER:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace(path, HANDOVER.encode())
    path.chmod(0o755)
    return path.resolve()


def run(
    go: GoToolchain,
    command: Sequence[str],
    package: Path,
    meanwhile: Callable[[], object] | None = None,
    telling: Mapping[str, str] = MappingProxyType({}),
) -> subprocess.CompletedProcess[str]:
    """Run the go command in `package`, with nothing of the user's settings. Raises UserError if it cannot be.

    `telling` are variables for what it runs.

    What it and its linker put aside (`go-build…`, `go-link-…`) is gone afterwards, also if they are ended.
    """
    if not package.is_dir():
        raise UserError(f"{package}: there is no such folder", "`package` in [tool.buildsys] names the kernel package")
    with TemporaryDirectory(prefix="buildsys-go-", ignore_cleanup_errors=True) as aside:
        environment = {**go.environment(), **telling, "TMPDIR": aside}
        return processes.run(command, package, environment, meanwhile, dies_with_us=True)


def located(said: str, package: Path) -> str:
    """Go names files as seen from the package it ran in; name them as the user would from here."""
    import os
    import re

    def place(found: re.Match[str]) -> str:
        file = package / found[2]
        return found[1] + (os.path.normpath(file) if file.is_file() else found[2])

    return "\n".join(re.sub(r"^(\s*)([^\s:]+)(?=:\d)", place, line) for line in said.splitlines() if line)
