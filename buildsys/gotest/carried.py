"""Which files a package's tests find on the bare machine: what they would find beside them here."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from buildsys.gotest.bundle import Entry
from buildsys.gotest.packages import Package

# Go's tree on the bare machine, and where the packages of modules are there.
GOROOT, SOURCES = PurePosixPath("/go"), PurePosixPath("/src")
TESTDATA = "testdata"
# What tests of the standard library look for in Go's tree: src/internal/testenv, src/time.
OF_GO = ("VERSION", "src/go.mod", "lib/time/zoneinfo.zip")


def folder_of(package: Package) -> PurePosixPath:
    """The folder the tests are run in."""
    return (GOROOT / "src" if package.standard else SOURCES) / package.name


def carried(package: Package, go_root: Path) -> list[Entry]:
    """The files of the package's folder, whatever lies beneath that is no package, the module's go.mod, and test data.

    Also that of the folders above, up to the module's: packages share it. Of Go's own tree a few files.
    """
    found: dict[PurePosixPath, Path | None] = {PurePosixPath("/tmp"): None}
    at, there = package.folder, folder_of(package)
    for path in sorted(at.iterdir()):
        if path.is_dir():
            if path.name == TESTDATA or not _has_package(path):
                found |= _beneath(path, there / path.name)
        elif path.is_file():
            found[there / path.name] = path
    while at != package.module and package.module in at.parents:
        at, there = at.parent, there.parent
        if (at / TESTDATA).is_dir():
            found |= _beneath(at / TESTDATA, there / TESTDATA)
    if (at / "go.mod").is_file():
        found[there / "go.mod"] = at / "go.mod"
    if package.standard:
        found |= {GOROOT / name: go_root / name for name in OF_GO if (go_root / name).is_file()}
    return [Entry(path, file) for path, file in found.items()]


def _beneath(folder: Path, there: PurePosixPath) -> Iterator[tuple[PurePosixPath, Path | None]]:
    """What is in `folder`, with the folders, which may be empty."""
    for place, folders, names in os.walk(folder):
        folders.sort()
        inner = there / Path(place).relative_to(folder)
        yield inner, None
        for name in sorted(names):
            if (path := Path(place, name)).is_file():
                yield inner / name, path


def _has_package(folder: Path) -> bool:
    """Whether there is Go source, or a module, in `folder` or beneath it."""
    return any(name.endswith(".go") or name == "go.mod" for _, _, names in os.walk(folder) for name in names)
