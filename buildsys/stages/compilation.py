"""The first step: the kernel package to the Go object; and the archive of that, for others.

What this imports is loaded before Go is started, so it is little.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from buildsys import processes
from buildsys.errors import UserError
from buildsys.files import partial, put
from buildsys.go import build
from buildsys.go.options import GoOptions
from buildsys.go.toolchain import GoToolchain


def make_object(
    go: GoToolchain,
    package: Path,
    options: GoOptions,
    go_object: Path,
    tools: Path,
    meanwhile: Callable[[], object] = lambda: None,
) -> str:
    """Compile `package` to `go_object`; returns Go's warnings. Raises UserError.

    What Go's linker is to run is written to the folder `tools`.
    """
    with partial(go_object) as made, partial(go_object.with_suffix(".a")) as empty:
        said = build.build(go, package, options, empty, made, tools, meanwhile)
        put(made, go_object)
    return said


def pack(zig: Path, go_object: Path, archive: Path) -> None:
    """Make `archive` of `go_object`, with an index of its symbols, as Go's linker would have it: by `ar -q -c -s`.

    Raises UserError.
    """
    with partial(archive) as beside:
        done = processes.run([str(zig), "ar", "-q", "-c", "-s", str(beside), str(go_object)])
        if done.returncode:
            raise UserError(f"{archive}: it could not be packed\n{done.stderr.strip()}")
        put(beside, archive)
