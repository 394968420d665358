"""zig's clang and lld, from the `ziglang` wheel: nothing to install on the system.

The driver's `clang` and `ld.lld` are LLVM's own entry points; `zig cc` would
add debug sections that name the working folder, and a cache of its own.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from buildsys.errors import MissingError
from buildsys.toolchains.binary import LINK_FLAGS, BinaryToolchain


def program() -> Path:
    """zig itself. Raises MissingError if the wheel is not installed."""
    spec = find_spec("ziglang")
    if spec is None or not spec.submodule_search_locations:
        raise MissingError("the `ziglang` wheel is not installed", "run ./dev, which installs what is needed")
    return Path(spec.submodule_search_locations[0]) / "zig"


def toolchain() -> BinaryToolchain:
    """zig's assembler and linker. Raises MissingError if the wheel is not installed."""
    zig = program()
    return BinaryToolchain(
        "zig",
        (str(zig), "clang", "-target", "aarch64-none-elf", "-c"),
        (str(zig), "ld.lld", "-m", "aarch64elf", *LINK_FLAGS),
        (zig,),
        words=2,
    )
