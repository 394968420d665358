"""Which package a function belongs to, told from its symbol, and which packages are not Go's own.

The modules an image was built from are named in the text `go version -m` prints,
which the linker keeps as the string `runtime.modinfo`: src/runtime/debug/mod.go.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Collection
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
    return frozenset(row[1] for row in _module_rows(elf) if row[0] in ("mod", "dep", "=>"))


def _module_rows(elf: Elf) -> list[list[str]]:
    """The lines of the text about modules, split into fields, of which each has at least two."""
    place = elf.symbols.addresses(MODULES).get(MODULES)
    start, size = (elf.word(place, 8), elf.word(place + 8, 8)) if place is not None else (None, None)
    at = elf.file_offset(start) if start else None
    if at is None or size is None or size > _LONGEST:
        return []
    # 16 bytes at each end tell `go version` where it is: cmd/go/internal/modload, ModInfoData.
    text = elf.data[at + 16 : at + size - 16].decode("utf-8", "replace")
    return [row for line in text.splitlines() if len(row := line.split("\t")) > 1]


def sources(elf: Elf, folder: str) -> Callable[[str], str]:
    """How the user names a source file: `folder` is that of the main package, "" if that is not known.

    With -trimpath, files are named by the path of their module: kernel/uart/uart.go is uart/uart.go in its folder.
    """
    named = {row[0]: row[1] for row in reversed(_module_rows(elf)) if row[0] in ("path", "mod")}
    package, module = named.get("path", ""), named.get("mod", "")
    if not folder or not module or not (package + "/").startswith(module + "/"):
        return str
    below = package[len(module) :].strip("/")
    root = posixpath.join(folder, *(".." for part in below.split("/") if part))

    def name(file: str) -> str:
        if not file.startswith(module + "/"):
            return file
        return posixpath.normpath(posixpath.join(root, file[len(module) + 1 :]))

    return name


def is_own(package: str, modules: Collection[str]) -> bool:
    """Whether `package` is the kernel's: `main`, or of one of `modules`, or of a path no standard package has."""
    first = package.split("/", 1)[0]
    # The first element of a path outside the standard library may be a domain: https://go.dev/ref/mod#module-path.
    return (
        package == "main"
        or ("." in first and not package.startswith("vendor/"))
        or any(package == module or package.startswith(module + "/") for module in modules)
    )
