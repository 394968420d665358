"""Linux on the same emulated machine: Debian's kernel for arm64, whose first and only process is a Go program.

The kernel boots with what its makers protect it by at a price turned off (KASLR, and mitigations of processors'
faults), which a program that runs alone with the supervisor does without as well.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from buildsys.config.board import Board
from buildsys.machines.qemu import ending, program, start
from tests.debian import Suite

RELEASE, NEWEST = "bookworm", "linux-image-cloud-arm64"
NUMBER = re.compile(rb"^\d+(\.\d+)?(e[+-]\d+)?\r?\n", re.MULTILINE)
# A name that is no parameter of the kernel's is the first argument of its first process.
PARAMETERS = "console=ttyAMA0 quiet panic=-1 nokaslr mitigations=off"
# Documentation/driver-api/early-userspace/buffer-format.rst: newc
CONSOLE = 5, 1
NONE: Mapping[str, bytes] = MappingProxyType({})


def kernel(folder: Path) -> Path:
    """The newest kernel of the release. Raises NoArchiveError."""
    suite = Suite(folder, RELEASE, "arm64")
    (image,) = (name for name in suite.depends(NEWEST) if name.startswith("linux-image-"))
    return next(suite.unpack(image).glob("boot/vmlinuz-*"))


def initial(made: Path, files: Mapping[str, bytes] = NONE) -> bytes:
    """An archive of a root folder that has `made` as its first process, a console, and `files`, by name."""
    entries = (
        ("dev", 0o40755, b"", (0, 0)),
        ("dev/console", 0o20600, b"", CONSOLE),
        ("init", 0o100755, made.read_bytes(), (0, 0)),
        *((name, 0o100755, data, (0, 0)) for name, data in files.items()),
        ("TRAILER!!!", 0, b"", (0, 0)),
    )
    return b"".join(_entry(number, *each) for number, each in enumerate(entries, 1))


def _entry(number: int, name: str, mode: int, data: bytes, device: tuple[int, int]) -> bytes:
    named = name.encode() + b"\0"
    words = (number, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(named), 0)
    head = b"070701" + b"".join(b"%08X" % word for word in words) + named
    return head + bytes(-len(head) % 4) + data + bytes(-len(data) % 4)


def run(linux: Path, archive: Path, board: Board, argument: str, extra: Sequence[str] = ()) -> float:
    """The number that the program of `archive` prints, called with `argument`, on the board's machine."""
    said = serial(linux, archive, board, argument, extra)
    found = NUMBER.search(said)
    assert found is not None, said.decode("utf-8", "replace")[-2000:]
    return float(found[0])


def serial(linux: Path, archive: Path, board: Board, argument: str, extra: Sequence[str] = ()) -> bytes:
    """All that is sent until the first process ends."""
    words = [
        program(), *board.qemu, *extra, "-display", "none", "-monitor", "none", "-serial", "stdio", "-no-reboot",
        "-kernel", str(linux), "-initrd", str(archive), "-append", f"{argument} {PARAMETERS}",
    ]  # fmt: skip
    with ending(start(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)) as process:
        assert process.stdout is not None
        return process.stdout.read()  # the kernel misses its first process then, and QEMU ends
