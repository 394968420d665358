"""Makes the commands known to gdb."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from buildsys.debugging.barriers import BreakBarrier, InfoBarriers
from buildsys.debugging.goroutines import InfoGoroutines, OnGoroutine
from buildsys.debugging.golang import mend
from buildsys.debugging.pages import InfoPages
from buildsys.debugging.session import Session

COMMANDS = (InfoGoroutines, OnGoroutine, InfoBarriers, BreakBarrier, InfoPages)


def begin(image: str, roots: Sequence[tuple[str, str]], goroot: str, kept: str = "") -> None:
    """Define all commands, for `image`, and for the crash in the folder `kept` if there is one."""
    session = Session(Path(image), roots, goroot, Path(kept) if kept else None)
    for command in COMMANDS:
        command(session)
    mend()
