"""The first step: the kernel package to `kernel.a` and the Go object in it.

What this imports is loaded before Go is started, so it is little.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from buildsys.files import partial, put, replace
from buildsys.go import build
from buildsys.go.options import GoOptions
from buildsys.go.toolchain import GoToolchain


def make_object(
    go: GoToolchain,
    package: Path,
    options: GoOptions,
    archive: Path,
    go_object: Path,
    archiver: Path,
    meanwhile: Callable[[], object],
) -> str:
    """Compile `package` to `archive` and take `go_object` out of it; returns Go's warnings. Raises UserError."""
    with partial(archive) as beside:
        said = build.build(go, package, options, beside, archiver, meanwhile)
        contents = build.extract(beside)
        put(beside, archive)
    replace(go_object, contents)
    return said
