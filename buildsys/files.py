"""Writing files so that a reader sees the old contents or the new, never a part."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def partial(path: Path) -> Iterator[Path]:
    """A name beside `path`, this process's own, to write to and then rename to `path`; nothing is left of it."""
    beside = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        yield beside
    finally:
        beside.unlink(missing_ok=True)


def replace(path: Path, *pieces: bytes | memoryview) -> None:
    """Write `pieces` beside `path` and rename the file into place. Raises OSError; nothing is left behind."""
    with partial(path) as beside:
        with beside.open("wb", buffering=0) as file:
            for piece in pieces:
                written = memoryview(piece)
                while written:
                    written = written[file.write(written) :]
        beside.replace(path)
