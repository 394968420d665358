"""Runs and checks of an image in processes apart: what loops in one, or crashes, can be ended by closing a connection.

A bench is a process that has imported everything and has one thread, so that it can be
forked at any time for next to nothing. What it forks is a hand: it waits for one job, does
it, and is gone. A hand whose connection is closed, because a newer image is there or because
we are gone ourselves, ends what it does as Ctrl-C would: no tool and no QEMU of it is left.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

from buildsys.cache.fingerprint import Print, of_file, settled
from buildsys.config.project import Project
from buildsys.errors import UserError
from buildsys.machines.outcome import Outcome
from buildsys.proof.claim import Verdict
from buildsys.stages.templates import TEMPLATE

if TYPE_CHECKING:
    from buildsys.front.barriers import Barriers
    from buildsys.machines.embedded import Machine
    from buildsys.proof.goobject import GoObject
    from buildsys.stages.templates import Templates

EMBEDDED = "embedded"
MACHINES = (EMBEDDED, "qemu")
TOGETHER = 0.02  # seconds: serial output that comes in less is told together
PATIENCE, TIMES = 0.5, 4  # seconds a hand is given to tidy, and how often it is asked
DETAILS = 50
GRACE = 0.25  # seconds; a run that is not over by then may go on for long


@dataclass(frozen=True)
class Run:
    """A job: run `image`, which is for the board of `project`, on `machine`, for at most `time_limit` seconds.

    `dead_ends` are functions that no good end follows, names by address.
    """

    project: Project
    image: Path
    machine: str
    time_limit: float
    dead_ends: Mapping[int, str]


@dataclass(frozen=True)
class Check:
    """A job: check the claims with these numbers, in this order, of `image`, which is the project's.

    The first `soon` are waited for. The others would keep a processor from the run and the chain: they come when
    `go_on` says so, or after GRACE.
    """

    project: Project
    image: Path
    claims: tuple[int, ...]
    soon: int


@dataclass(frozen=True)
class Compile:
    """A job: compile those templates of `project` among the files `paths`, for the chain, which will want them next."""

    project: Project
    paths: tuple[str, ...]


@dataclass(frozen=True)
class Serial:
    """Bytes the guest sent."""

    data: bytes


@dataclass(frozen=True)
class Ended:
    """The run is over; its serial output was told before. `barriers` is what the barrier policy kept of it."""

    outcome: Outcome
    barriers: Barriers | None


@dataclass(frozen=True)
class Checked:
    """A claim's verdict, without the evidence, and the seconds it took."""

    number: int
    verdict: Verdict
    seconds: float


@dataclass(frozen=True)
class Compiled:
    """All templates are compiled that can be."""


@dataclass(frozen=True)
class Refused:
    """The job cannot be done, for a reason the user can mend."""

    error: UserError


@dataclass(frozen=True)
class Defect:
    """The job cannot be done, for a reason of ours: a traceback."""

    text: str


Job = Run | Check | Compile
Told = Serial | Ended | Checked | Compiled | Refused | Defect


class Bench:
    """Starts jobs. To be made while this process has one thread."""

    def __init__(self) -> None:
        gc.collect()
        gc.freeze()  # what is here now stays: no collection need look at it, nor make pages of it our own
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sys.stdout.flush()
        sys.stderr.flush()
        self._pid = os.fork()
        if not self._pid:
            self._control.close()
            _apart(lambda: _serve(theirs))
        theirs.close()
        self._idle: dict[type[Job], tuple[Connection, Project]] = {}

    def start(self, job: Job) -> Connection:
        """Begin `job`; the connection gives what is `Told` of it, then EOFError. Closing it ends the job."""
        hand, _ = self._idle.pop(type(job), None) or (self._hire(job), None)
        hand.send(job)
        return hand

    def prepare(self, *jobs: Job) -> None:
        """Have a hand waiting for each of `jobs`, which has done the like before: these as they are now."""
        for job in jobs:
            kind = type(job)
            if kind in self._idle and self._idle[kind][1] != job.project:
                self._idle.pop(kind)[0].close()
            if kind not in self._idle:
                self._idle[kind] = self._hire(job, rehearsed=True), job.project

    def close(self) -> None:
        """End every hand that is idle, and the bench; returns when all that came of it is gone."""
        while self._idle:
            self._idle.popitem()[1][0].close()
        self._control.close()
        with suppress(ChildProcessError):
            os.waitpid(self._pid, 0)

    def _hire(self, job: Job, rehearsed: bool = False) -> Connection:
        import pickle

        ours, theirs = socket.socketpair()
        try:
            socket.send_fds(self._control, [pickle.dumps((job, rehearsed))], [theirs.fileno()])
        except OSError as error:
            ours.close()
            raise RuntimeError("the process that runs and checks images is gone") from error
        finally:
            theirs.close()
        return Connection(ours.detach())


def go_on(hand: Connection) -> None:
    """Have `hand` do what of its job nobody waits for."""
    with suppress(OSError):  # it is through with it
        hand.send(None)


def _apart(work: Callable[[], None]) -> None:
    """Do `work` in a process just forked, which shares nothing with the terminal, and end it."""
    try:
        os.setsid()  # the terminal's Ctrl-C is for the one who started us
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGWINCH, signal.SIGTSTP):
            signal.signal(number, signal.SIG_DFL)
        nothing = os.open(os.devnull, os.O_RDWR)
        for standard in (0, 1, 2):
            os.dup2(nothing, standard)
        os.close(nothing)
        work()
    finally:
        os._exit(0)


def _serve(control: socket.socket) -> None:
    """Fork a hand for each connection that comes, until nobody can send one; then wait until all are gone."""
    import pickle

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # none of them is waited for
    known: _Known | None = None
    while True:
        request, connections, _, _ = socket.recv_fds(control, 1 << 20, 1)
        if not request:
            break
        job, rehearsed = pickle.loads(request)
        known = _Known.of(job.project, known)
        if os.fork():
            os.close(connections[0])
            continue
        control.close()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        _Hand(Connection(connections[0]), known).work(job if rehearsed else None)
        return
    with suppress(ChildProcessError):
        os.wait()  # while they are ignored, this returns when the last has gone


@dataclass(frozen=True)
class _Known:
    """What a Go object says by itself, read and decoded before there is a job, and its print of then."""

    object: GoObject
    print: Print

    @classmethod
    def of(cls, project: Project, before: _Known | None) -> _Known | None:
        """Of the Go object of `project` as it is now; `before` if that is it. None if it cannot be read."""
        from buildsys.front.steps import Steps
        from buildsys.proof.goobject import GoObject

        path = Steps(project).go_object
        if before is not None and before.object == GoObject(path, project.sets) and before.still:
            return before
        with suppress(Exception):  # whatever it is, the hand whose job it is will come to it again, and tell
            found = cls(GoObject(path, project.sets), settled(of_file(path)))
            for each in ("plan", "offsets", "samples"):
                getattr(found.object, each)
            if found.still:
                return found
        return None

    @property
    def still(self) -> bool:
        """Whether the object is what it was."""
        return of_file(self.object.path, self.print)[1] == self.print[1]


class _Hand:
    """Does one job. `known` may be what the Go object says that the job is about."""

    def __init__(self, connection: Connection, known: _Known | None = None) -> None:
        self._connection, self._known = connection, known
        self._lock, self._go_on = threading.Lock(), threading.Event()
        self._serial = bytearray()
        self._machine: Machine | None = None
        self._templates: Templates | None = None

    def work(self, likely: Job | None) -> None:
        """Wait for a job and do it. `likely` is one like that, to try hands at."""
        try:
            if likely is not None:
                self._rehearse(likely)
            job = self._connection.recv()
        except (EOFError, OSError, KeyboardInterrupt):
            return
        threading.Thread(target=self._heed, daemon=True).start()
        try:
            if isinstance(job, Run):
                self._run(job)
            elif isinstance(job, Check):
                self._check(job)
            else:
                self._compile(job)
        except UserError as error:
            self._tell(Refused(error))
        except KeyboardInterrupt:
            pass
        except OSError as error:
            if not isinstance(error, BrokenPipeError):
                self._tell(Defect(traceback.format_exc()))
        except Exception:
            self._tell(Defect(traceback.format_exc()))

    def _rehearse(self, job: Job) -> None:
        """Do of `job` what can be done before there is one, and forget what came of it.

        What is read and loaded then need not be when someone waits; nor need pages of memory be made our own.
        """
        from buildsys.machines.embedded import Machine

        with suppress(Exception):  # the job itself will come to it again, and tell
            if isinstance(job, Check):
                for _ in self._checked(job):
                    if self._connection.poll():
                        return
            elif isinstance(job, Compile):
                self._compile(job, rehearsed=True)
            elif job.machine == EMBEDDED:
                Machine(job.project.board).load(job.image, job.dead_ends)
                self._machine = Machine(job.project.board)

    def _run(self, job: Run) -> None:
        from buildsys.front.barriers import Reporting
        from buildsys.front.steps import Steps
        from buildsys.machines import qemu
        from buildsys.machines.embedded import Machine

        image, board = job.image, job.project.board
        reporting = Reporting(job.project, image, Steps(job.project).runtime_json, job.machine)
        if job.machine == "qemu":
            outcome = qemu.run(
                image, board, job.time_limit, self._serial.extend, keep=reporting.ranges, dead_ends=job.dead_ends
            )
        else:
            machine = self._machine if self._machine and self._machine.board == board else Machine(board)
            machine.load(image, job.dead_ends)
            outcome = machine.run(job.time_limit, self._serial.extend)
            outcome.memory.update(machine.kept(reporting.ranges))
        self._flush()
        self._tell(Ended(replace(outcome, serial=b"", memory={}), reporting.of(outcome)))

    def _check(self, job: Check) -> None:
        for number, checked in enumerate(self._checked(job), 1):
            self._tell(checked)
            if number == job.soon < len(job.claims):
                self._go_on.wait(GRACE)

    def _checked(self, job: Check) -> Iterator[Checked]:
        from buildsys.front.steps import Steps
        from buildsys.front.verify import case_of, check
        from buildsys.proof.claims import of

        claims = of(job.project.program is not None)
        known = self._known.object if self._known and self._known.still else None
        case = replace(case_of(Steps(job.project)), image=job.image, known=known)
        for number in job.claims:
            [line] = check(case, [(number, claims[number - 1])])
            details = () if line.verdict.passed else line.verdict.details[:DETAILS]
            yield Checked(number, replace(line.verdict, evidence={}, details=details), line.seconds)

    def _compile(self, job: Compile, rehearsed: bool = False) -> None:
        from buildsys.front.steps import Steps
        from buildsys.stages.rendering import COMPILED
        from buildsys.stages.templates import Templates

        steps = Steps(job.project)
        compiled = job.project.build / COMPILED
        names = list(_names(job.paths, steps.folders))
        if self._templates is None and compiled.is_dir():
            self._templates = Templates(steps.folders, compiled)
        if self._templates is not None:
            self._templates.compile(names, kept=not rehearsed)
        if not rehearsed:
            self._tell(Compiled())

    def _tell(self, what: Told) -> None:
        with self._lock, suppress(BrokenPipeError):
            self._connection.send(what)

    def _flush(self) -> None:
        with self._lock:
            data = bytes(self._serial)
            if data:
                del self._serial[: len(data)]
                with suppress(BrokenPipeError):
                    self._connection.send(Serial(data))

    def _heed(self) -> None:
        """Tell serial output as it comes, and notice when nobody wants to hear of it any more."""
        with suppress(EOFError, OSError):
            while True:
                if select.select([self._connection], [], [], TOGETHER)[0]:
                    self._connection.recv()
                    self._go_on.set()
                self._flush()
        for _ in range(TIMES):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(PATIENCE)
        os._exit(1)


def _names(paths: Iterable[str], folders: Iterable[Path]) -> Iterator[str]:
    """What templates among the files `paths` are called, by the folder they are in."""
    for folder in folders:
        within = f"{os.path.realpath(folder)}{os.sep}"
        for path in paths:
            if path.startswith(within) and path.endswith(TEMPLATE):
                yield path.removeprefix(within)


def warm() -> None:
    """Import what runs and checks need."""
    from importlib import import_module

    for name in (
        "capstone", "unicorn", "unicorn.arm64_const", "unicorn.unicorn_py3.unicorn", "elftools.dwarf.dwarfinfo",
        "buildsys.front.verify", "buildsys.machines.embedded", "buildsys.machines.qemu", "buildsys.proof.claims",
        "buildsys.proof.on_qemu",
    ):  # fmt: skip
        import_module(name)
