"""LLVM's clang and lld, from the system: `toolchain = "llvm"`.

Distributions install them as `clang` and `ld.lld`, or under names with their version
(`clang-19`, `ld.lld-19`). The plain names go first: they are what the system's owner chose.
Of the others the newest that has both; the two are never mixed from different versions.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from buildsys.errors import MissingError
from buildsys.toolchains.binary import LINK_FLAGS, BinaryToolchain

INSTALL = "apt-get install --no-install-recommends clang lld"


def toolchain() -> BinaryToolchain:
    """The clang and lld in PATH. Raises MissingError if there are none."""
    for suffix in ("", *_versions()):
        assembler, linker = shutil.which(f"clang{suffix}"), shutil.which(f"ld.lld{suffix}")
        if assembler and linker:
            return BinaryToolchain(
                "llvm",
                (assembler, "-target", "aarch64-none-elf", "-c"),
                (linker, "-m", "aarch64elf", *LINK_FLAGS),
                tuple(sorted({*_files(assembler), *_files(linker)})),
                words=1,
            )
    lacking = [name for name in ("clang", "ld.lld") if not shutil.which(name)]
    raise MissingError(
        f'toolchain = "llvm", but there is no {" and no ".join(lacking)}',
        f'{INSTALL}, or set toolchain = "zig", which has both of its own',
    )


def _versions() -> list[str]:
    """The suffixes of the versioned clangs in PATH, the newest first: "-19", "-14"."""
    found: set[int] = set()
    for folder in os.get_exec_path():
        with suppress(OSError):
            found |= {int(name[1]) for entry in os.listdir(folder) if (name := re.fullmatch(r"clang-(\d+)", entry))}
    return [f"-{version}" for version in sorted(found, reverse=True)]


def _files(program: str) -> Iterator[Path]:
    """The program, and the library most of it is in where LLVM was built shared."""
    whole = Path(program).resolve()
    yield whole
    for library in (whole.parent.parent / "lib").glob("libLLVM*.so*"):
        yield library.resolve()
