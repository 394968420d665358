"""Timing things side by side: runs alternate, so that a noisy machine is noisy to both; medians are compared."""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Row:
    """One promise: what was measured, in ms, against what, and the bound on it, in words and as a verdict."""

    what: str
    median: float
    against: str
    reference: float | None
    bound: str
    kept: bool

    def text(self) -> str:
        reference = f"{self.reference:8.1f} ms {self.against}" if self.reference is not None else ""
        ratio = f"{self.median / self.reference:5.2f}×" if self.reference else " " * 6
        kept = "ok" if self.kept else "OVER"
        return f"{self.what:52} {self.median:8.1f} ms  {ratio}  {reference:30} {self.bound:10} {kept}"


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def side_by_side(runs: int, *works: Callable[[], object]) -> list[float]:
    """The median of each of `works`, in milliseconds, over `runs` rounds."""
    times: list[list[float]] = [[] for _ in works]
    for _ in range(runs):
        for at, work in enumerate(works):
            times[at].append(1000 * seconds(work))
    return [statistics.median(each) for each in times]


def command(words: list[str], folder: Path, env: dict[str, str] | None = None) -> Callable[[], None]:
    """Running a command to its end, silently; it must succeed. Python keeps what it compiled, as it does for users."""
    variables = {name: value for name, value in (env or os.environ).items() if name != "PYTHONDONTWRITEBYTECODE"}

    def work() -> None:
        subprocess.run(words, cwd=folder, env=variables, stdin=subprocess.DEVNULL, capture_output=True, check=True)

    return work


def ratio(what: str, times: list[float], against: str, most: float) -> Row:
    """A row that promises `times[0]` to be at most `most` times `times[1]`."""
    return Row(what, times[0], against, times[1], f"≤ {most:g}×", times[0] <= most * times[1])
