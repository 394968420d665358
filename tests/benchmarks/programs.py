"""What a program costs: reset to main.main, calls of the supervisor, and computing, beside the same under Linux.

Instructions are counted by QEMU: with `-icount shift=0` each takes a nanosecond of the counter's time; that is so to
the percent on any machine, and it is what the bounds are on. The other side is the same source compiled for Linux, on
Debian's kernel, booted by the same QEMU as the same machine. Where that kernel cannot be had it is user emulation by
QEMU's qemu-aarch64, which has Linux itself, and the translation of addresses, at the host's speed: then in time.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from buildsys.config.project import load
from buildsys.formats.elf import Elf
from buildsys.front.steps import Steps
from buildsys.machines import qemu
from buildsys.machines.embedded import Machine
from tests.benchmarks import linux as system
from tests.benchmarks.measure import Row
from tests.conftest import ROOT
from tests.debian import NoArchiveError

LINUX = "qemu-aarch64"
RUNS = 5
LIMIT = 120  # seconds
FREQUENCY = 62_500_000  # Hz, of the counter of QEMU's virt: target/arm/cpu.h, GTIMER_SCALE
COUNTING = ("-icount", "shift=0,sleep=off")
COUNTING_TEXT = json.dumps(COUNTING)
CALLS = (
    ("call", "program: a system call (getppid)"),
    ("fault", "program: a page touched first"),
    ("switch", "program: a thread's turn, by pipes, with 2 calls"),
)
BOUND = ("cpu", "computing", 1.10), ("gc", "collecting", 1.25)


@dataclass(frozen=True)
class Cost:
    """So many instructions for one of something."""

    what: str
    instructions: float

    def text(self) -> str:
        """A line of the table."""
        return f"{self.what:52} {self.instructions:8.0f} instructions"


@dataclass(frozen=True)
class Share:
    """So many instructions for all of it, here and on Linux, and how many times those may be these."""

    what: str
    ours: float
    theirs: float
    most: float

    def text(self) -> str:
        """A line of the table."""
        times = self.ours / self.theirs
        kept = "ok" if times <= self.most else "OVER"
        millions = f"{self.ours / 1e6:8.1f} M   {times:5.2f}×  {self.theirs / 1e6:8.1f} M "
        return f"{self.what:52} {millions} {'instructions on Linux':27} ≤ {self.most:g}×     {kept}"


def rows(folder: Path) -> Iterator[Row | Cost | Share]:
    """Every row."""
    shutil.copytree(ROOT / "tests/kernels/measured", folder / "src")
    reached = statistics.median(_run(folder, "start") for _ in range(RUNS))
    yield Row("program: reset to main.main, QEMU", reached, "", None, "≤ 50 ms", reached <= 50)
    for spent, what in _boot(folder):
        yield Row(f"  reset to {what}, embedded emulator", spent, "", None, "", kept=True)
    for part, what in CALLS:
        yield Cost(what, _run(folder, part, COUNTING_TEXT) * 1e9 / FREQUENCY)
    yield Cost("program: a barrier counted, beside Go's own", _counted(folder))
    try:
        yield from _system(folder)
    except NoArchiveError as error:
        print(f"no kernel to compare with ({error}): user emulation in its place")
        yield from _user(folder)


def _system(folder: Path) -> Iterator[Row | Cost | Share]:
    """Against Linux as a system: instructions, of all that the core does meanwhile; and then time."""
    kernel = system.kernel(folder / "debian")
    archive = folder / "initial"
    archive.write_bytes(system.initial(_linux(folder)))
    board = load(folder).board
    for part, what in CALLS:
        count = system.run(kernel, archive, board, part, COUNTING)
        yield Cost(f"  Linux: {what.partition(': ')[2]}", count * 1e9 / FREQUENCY)
    for part, what, most in BOUND:
        here, there = _run(folder, part, COUNTING_TEXT), system.run(kernel, archive, board, part, COUNTING)
        yield Share(f"program: {what}, QEMU", 1e6 * here, 1e6 * there, most)  # a millisecond has a million
        ours, theirs = [], []
        for _ in range(RUNS):
            ours.append(_run(folder, part))
            theirs.append(system.run(kernel, archive, board, part))
        yield Row(
            f"program: {what}, QEMU", statistics.median(ours), "Linux, the same machine", statistics.median(theirs), "",
            kept=True,
        )  # fmt: skip


def _user(folder: Path) -> Iterator[Row]:
    """Against Linux as QEMU's user emulation has it."""
    if shutil.which(LINUX) is None:
        print(f"{LINUX} is not installed: nothing to compare with (Debian: qemu-user)")
        return
    linux = _linux(folder)
    for part, what, most in BOUND:
        ours, theirs = [], []
        for _ in range(RUNS):
            ours.append(_run(folder, part))
            theirs.append(float(_output([LINUX, str(linux), part])))
        times = statistics.median(ours), statistics.median(theirs)
        kept = times[0] <= most * times[1]
        yield Row(f"program: {what}, QEMU", times[0], "Linux, user emulation", times[1], f"≤ {most:g}×", kept)


def _steps(folder: Path, part: str, arguments: str = "[]", barrier: str = "discard") -> Steps:
    settings = f'kind = "program"\npackage = "src"\nargs = ["{part}"]\nqemu-arguments = {arguments}\n'
    (folder / "buildsys.toml").write_text(f'{settings}barrier = "{barrier}"\n')
    steps = Steps(load(folder))
    for make in (steps.compile, steps.runtime, steps.link, steps.patch):
        if steps.records.stale(make()):
            steps.records.perform(make())
    return steps


def _run(folder: Path, part: str, arguments: str = "[]") -> float:
    """The number the program prints on QEMU."""
    steps = _steps(folder, part, arguments)
    outcome = qemu.run(steps.image, steps.project.board, LIMIT)
    assert outcome.exit_code == 0, outcome
    return float(outcome.serial.split()[0])


def _boot(folder: Path) -> Iterator[tuple[float, str]]:
    """The parts of it: how many milliseconds after the core began each is come to, on the embedded emulator."""
    steps = _steps(folder, "start")
    names = {
        "main.KernelMain": "the supervisor",
        "program.runtime.main": "runtime.main",
        "program.main.main": "main.main",
    }
    came: dict[str, float] = {}
    machine = Machine(steps.project.board)
    machine.load(steps.image)
    for name, place in Elf.read(steps.image).symbols.addresses(*names).items():
        machine.watch(place, partial(_came, came, name))
    began = time.perf_counter()
    machine.run(LIMIT)
    yield from ((1000 * (came[name] - began), what) for name, what in names.items())


def _came(times: dict[str, float], name: str, _: Machine) -> None:
    times.setdefault(name, time.perf_counter())


def _counted(folder: Path) -> int:
    """The instructions of what counts a barrier, all of which run where the place is found at once."""
    steps = _steps(folder, "start", barrier="count")
    name = json.loads(steps.program_json.read_text())["barriers"][0]
    ours = next(each for each in Elf.read(steps.image).symbols.named(name)[name] if each.is_global)
    return ours.size // 4


def _linux(folder: Path) -> Path:
    """The same program for Linux."""
    made = folder / "linux"
    steps = _steps(folder, "start")
    environment = {**os.environ, **steps.go.environment(), "GOOS": "linux", "GOARCH": "arm64", "CGO_ENABLED": "0"}
    command = [str(steps.go.command), "build", "-o", str(made.resolve()), "."]
    subprocess.run(command, cwd=folder / "src", env=environment, check=True, capture_output=True)
    return made


def _output(command: list[str]) -> str:
    environment = {**os.environ, "GOMAXPROCS": "1"}  # one core, as there
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
