"""GNU binutils for AArch64, from the system: the outside opinion on what is in a file."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.machines.conftest import needs

PREFIX = "aarch64-linux-gnu-"
INSTALL = "apt-get install binutils-aarch64-linux-gnu"


def binutils(tool: str, *arguments: str | Path) -> str:
    """What `tool` prints. Skips the test where it is not installed; on CI that is a failure."""
    needs(PREFIX + tool, INSTALL)
    return subprocess.run([PREFIX + tool, *arguments], capture_output=True, text=True, check=True).stdout
