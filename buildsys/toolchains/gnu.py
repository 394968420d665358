"""GNU binutils for AArch64, from the system: `toolchain = "gnu"`."""

from __future__ import annotations

import shutil
from pathlib import Path

from buildsys.errors import MissingError
from buildsys.toolchains.binary import LINK_FLAGS, BinaryToolchain

PREFIXES = ("aarch64-linux-gnu-", "aarch64-none-elf-", "aarch64-elf-")


def toolchain() -> BinaryToolchain:
    """The first binutils for AArch64 in PATH. Raises MissingError if there are none."""
    for prefix in PREFIXES:
        assembler, linker = shutil.which(f"{prefix}as"), shutil.which(f"{prefix}ld")
        if assembler and linker:
            return BinaryToolchain(
                "gnu",
                (assembler,),
                (linker, "-m", "aarch64elf", *LINK_FLAGS),
                (Path(assembler).resolve(), Path(linker).resolve()),
            )
    raise MissingError(
        'toolchain = "gnu", but there is no GNU assembler and linker for AArch64',
        'apt-get install binutils-aarch64-linux-gnu, or set toolchain = "zig"',
    )
