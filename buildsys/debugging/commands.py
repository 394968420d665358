"""Makes the commands known to gdb."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import gdb

from buildsys.debugging.barriers import BreakBarrier, InfoBarriers
from buildsys.debugging.golang import mend
from buildsys.debugging.goroutines import InfoGoroutines, OnGoroutine
from buildsys.debugging.pages import InfoPages
from buildsys.debugging.session import Session

COMMANDS = (InfoGoroutines, OnGoroutine, InfoBarriers, BreakBarrier, InfoPages)


def begin(image: str, roots: Sequence[tuple[str, str]], goroot: str, kept: str = "") -> None:
    """Define all commands, for `image`, and for the crash in the folder `kept` if there is one."""
    session = Session(Path(image), roots, goroot, Path(kept) if kept else None)

    def define() -> None:
        for command in COMMANDS:
            command(session)
        mend()

    def again(stopped: object) -> None:
        gdb.events.stop.disconnect(again)
        define()

    define()
    # An editor reads the image after this, and gdb then reads Go's helper, which has two of these commands as well.
    gdb.events.stop.connect(again)
