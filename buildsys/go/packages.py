"""Which package a function belongs to, told from its symbol, and which packages are not Go's own.

The modules an image was built from are named in the text `go version -m` prints,
which the linker keeps as the string `runtime.modinfo`: src/runtime/debug/mod.go.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from urllib.parse import unquote

from buildsys.formats.elf import Elf

MODULES = "runtime.modinfo"
_LONGEST = 1 << 20  # bytes; a few hundred a module


def package_of(symbol: str) -> str:
    """The import path a symbol begins with, empty for what is no package's.

    Dots in the last element of a path are escaped: cmd/internal/objabi, PathToPrefix.
    """
    # Receivers, type arguments and struct types name packages of their own.
    plain = re.split(r"[(\[{]", symbol, maxsplit=1)[0]
    head, slash, tail = plain.rpartition("/")
    name, dot, _ = tail.partition(".")
    return unquote(head + slash + name) if dot and ":" not in plain else ""


def own_modules(elf: Elf) -> frozenset[str]:
    """The paths of the kernel's module and of those it depends on; none if the image does not say."""
    place = elf.symbols.addresses(MODULES).get(MODULES)
    start, size = (elf.word(place, 8), elf.word(place + 8, 8)) if place is not None else (None, None)
    at = elf.file_offset(start) if start else None
    if at is None or size is None or size > _LONGEST:
        return frozenset()
    text = elf.data[at : at + size].decode("utf-8", "replace")
    rows = [line.split("\t") for line in text.splitlines()]
    return frozenset(row[1] for row in rows if len(row) > 1 and row[0] in ("mod", "dep", "=>"))


def is_own(package: str, modules: Collection[str]) -> bool:
    """Whether `package` is the kernel's: `main`, or of one of `modules`, or of a path no standard package has."""
    first = package.split("/", 1)[0]
    # The first element of a path outside the standard library may be a domain: https://go.dev/ref/mod#module-path.
    return (
        package == "main"
        or ("." in first and not package.startswith("vendor/"))
        or any(package == module or package.startswith(module + "/") for module in modules)
    )
