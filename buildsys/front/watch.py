"""`doit watch`: one warm process; after each save, a build, a run and the quick checks; then the slower ones.

This thread waits for everything: saves, keys, signals, what the chain tells, which works in a
thread of its own, and what runs and checks tell, which are in processes apart (`trial`). So
nothing makes it deaf: a kernel that loops is ended by the next save, or by a key.

A save during a cycle leads to another look; if that finds something to do, the cycle before is
over, whatever of it was still to come. A look that finds nothing is not shown at all.

Without a terminal, or with --json, each cycle is one line of JSON on standard output, written
as soon as its verdict is there:

    event       "cycle"
    cycle       its number, from 1
    state       "passed", "failed", or "superseded": a newer save ended it before its verdict
    failed      what failed: "configuration", "compile", "runtime", "link", "patch", "run",
                "claims", or "restart" if buildsys itself changed; empty if nothing did
    changed     the files saved; none for the first cycle
    redone      the steps that were not up to date, in their order
    stages      the same, each with name, reason, seconds, origin ("built", "restored", "remote") and
                said: what its tool warned of
    seconds     from when the save was noticed to the verdict
    error       null, or message, hint, and places: file, line, column (or null) and text of each
                line that names one
    run         null, or machine, end, status (null unless end is "exit"), seconds, lost_writes,
                says (the end in words) and details
    serial      the guest's output, its last 65536 characters; serial_bytes is how much it was
    barriers    null, or what the barrier policy kept of the run, in lines; all of it is in build/barriers.json
    claims      names: hold, not_run, unchecked; false, each with name, title, figure, details, advice

The claims that take longer are checked behind the verdict, unless the run took longer still.
When they are through, and no save was sooner, one line more tells what is then known of the same
cycle: event "claims", cycle, state, failed and claims, as above.
"""

from __future__ import annotations

import gc
import io
import json
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, redirect_stderr, suppress
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from types import FrameType
from typing import TYPE_CHECKING

from buildsys import processes
from buildsys.config.project import Project, load
from buildsys.config.toml import nearest
from buildsys.errors import UserError
from buildsys.front import follow, trial
from buildsys.front.command import HUNG_UP, hang_up
from buildsys.front.cycle import Cycle, Failure
from buildsys.front.deadends import dead_ends
from buildsys.front.reporter import Failed
from buildsys.front.saves import Places, Saves
from buildsys.front.verify import Line
from buildsys.machines.interruption import Interruption
from buildsys.stages.templates import TEMPLATE

if TYPE_CHECKING:
    from buildsys.front.attach import Waiting
    from buildsys.front.screen import Screen
    from buildsys.proof.claim import Claim

# Claims checked beside the run, which takes as long; those checked after the verdict; others on `v` alone,
# for they run the image again and again, or build it anew. A claim nobody thought of is one of the last.
QUICK = ("boot-code", "memory-map")
BEHIND = ("symbols", "call-sites", "flag-readers", "barriers", "handlers")

COMPILING = 0.05  # seconds waited for templates that are compiled elsewhere
SOON, LATER = 0.1, 0.5  # seconds until something that changes by and by is drawn
TIDYING = 2.0  # seconds
# Seconds until a thread that computes lets another in: the one that writes the image has little to do, and the
# run waits for it.
TURN = 1e-4

Message = set[str] | str | UserError | BaseException | follow.Told


def watch(
    load_project: Callable[[], Project] = load, machine: str = "embedded", as_json: bool = False, time_limit: float = 0
) -> Failed | None:
    """Watch the project until the user quits. A run ends after `time_limit` seconds; 0 stands for the project's own.

    Fails for options that make no sense, a project that cannot be read to begin with, and
    folders that cannot be watched. Raises KeyboardInterrupt, with everything tidied.
    """
    if machine not in trial.MACHINES:
        return Failed(UserError(f"--machine={machine}: there is no such machine", nearest(machine, trial.MACHINES)))
    if time_limit < 0:
        return Failed("--time-limit must be more than 0 seconds")
    if threading.current_thread() is not threading.main_thread():
        return Failed(UserError("watch needs doit to itself", "leave out -n"))
    drawn = not as_json and sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
    sys.setswitchinterval(TURN)
    try:
        chain = follow.Chain(load_project, load_project())
        _warm(drawn)
        with ExitStack() as stack:
            bench = trial.Bench()
            stack.callback(bench.close)
            wake = stack.enter_context(Interruption())
            return _Loop(chain, bench, wake, machine, time_limit, stack, drawn).run()
    except UserError as error:
        return Failed(error)
    except BrokenPipeError:
        hang_up()
        return Failed("", HUNG_UP)


def _warm(drawn: bool) -> None:
    """Import now what a cycle needs."""
    from importlib import import_module

    trial.warm()
    names = ["watchfiles", "jinja2", "jinja2.bccache", "concurrent.futures.thread", "pickle", "difflib"]
    names += [f"buildsys.{each}" for each in ("stages.objects", "stages.link", "stages.patch", "stages.rendering")]
    names += ["buildsys.stages.translation", "buildsys.go.inputs", "buildsys.proof.claims"]
    names += ["buildsys.front.screen", "buildsys.front.attach"] if drawn else []
    for name in names:
        import_module(name)


class _Loop:
    """What is going on: at most one look at the chain, one run, one set of checks, one machine waiting for gdb."""

    def __init__(
        self,
        chain: follow.Chain,
        bench: trial.Bench,
        wake: Interruption,
        machine: str,
        time_limit: float,
        stack: ExitStack,
        drawn: bool,
    ) -> None:
        self._chain, self._bench, self._wake = chain, bench, wake
        self._machine, self._time_limit = machine, time_limit
        self._messages: SimpleQueue[Message] = SimpleQueue()
        self._cycle: Cycle | None = None
        self._count = 0
        self._looking: threading.Thread | None = None
        self._settling: threading.Thread | None = None
        self._saved: set[str] = set()
        self._saved_at = time.monotonic()
        self._asked = self._forced = False
        self._changed: set[str] = set()  # what the look that goes on is about
        self._changed_at = self._saved_at
        self._unnamed = False  # that look was not asked for by a save
        self._places = Places()
        self._watched: frozenset[str] = frozenset()
        self._begun = False  # whether these are watched by now
        self._running: Connection | None = None
        self._checking: Connection | None = None
        self._compiling: Connection | None = None
        self._compiled: tuple[str, ...] = ()
        self._verifying = False
        self._debugger: Waiting | None = None
        self._note = ""
        self._screen: Screen | None = None
        self._draw_at: float | None = None
        self._keys = -1
        self._resized = self._suspended = self._quit = False
        # Each is undone in the reverse order, whatever ends the loop.
        stack.callback(self._end)
        self._saves = Saves(self._tell, self._tell)
        stack.callback(self._saves.close)
        if drawn:
            stack.enter_context(self._terminal())

    def run(self) -> Failed | None:
        """Go on until the user quits or Ctrl-C comes."""
        self._watch(self._chain.places())
        while not self._quit:
            self._wait()
            if self._wake.seen:
                raise KeyboardInterrupt
            if self._suspended:
                self._suspend()
            while not self._messages.empty():
                self._heed(self._messages.get())
            self._look_if_asked()
            if self._draw_at is not None and time.monotonic() >= self._draw_at:
                self._draw()
        return None

    def _wait(self) -> None:
        """Until something happened; what came through a file descriptor is seen to here."""
        readers: dict[int, Callable[[], object]] = {self._wake.fd: self._wake.drain}
        if self._keys >= 0:
            readers[self._keys] = self._read_keys
        for connection in (self._running, self._checking):
            if connection is not None:
                readers[connection.fileno()] = partial(self._hear, connection)
        if (debugger := self._debugger) is not None:
            readers[debugger.fileno()] = lambda: self._hear_debugged(debugger)
        remaining = None if self._draw_at is None else max(0.0, self._draw_at - time.monotonic())
        if not self._messages.empty():
            remaining = 0
        for ready in select.select(list(readers), [], [], remaining)[0]:
            readers[ready]()

    # Saves, and the chain.

    def _tell(self, message: Message) -> None:
        """Called from other threads."""
        self._messages.put(message)
        with suppress(OSError):  # the loop is over
            self._wake.wake()

    def _heed(self, message: Message) -> None:
        if isinstance(message, set):
            self._notice(message)
        elif isinstance(message, follow.Begun):
            self._begin()
        elif isinstance(message, follow.Doing) and self._cycle is not None:
            self._cycle.doing = message.name, message.began
            self._draw_soon(SOON)
        elif isinstance(message, follow.Did) and self._cycle is not None:
            self._cycle.stages.append(message.stage)
            self._cycle.doing = "", 0.0
        elif isinstance(message, follow.Written):
            self._try(message)
        elif isinstance(message, follow.Made):
            self._made(message.failure)
        elif isinstance(message, follow.Looked):
            self._looking = None
            self._settle()
        elif isinstance(message, Places):
            self._watch(message)
        elif isinstance(message, str):
            self._warn(message)
        elif isinstance(message, BaseException):
            raise message

    def _notice(self, paths: set[str]) -> None:
        if not paths:
            self._begun = True
            if self._cycle is not None and self._cycle.complete:
                self._decide()
        if any(path in self._watched or Path(path).is_dir() for path in paths):
            self._watched = frozenset()  # one that is watched came or went: it has to be watched anew
        # What is in order is looked at for next to nothing, but what failed would be tried again for no reason.
        elif paths and self._cycle is not None and self._cycle.failure and not any(map(self._places.concern, paths)):
            return
        if any(path.endswith(TEMPLATE) for path in paths):
            self._compile(tuple(paths))
        if not self._saved and not self._asked:
            self._saved_at = time.monotonic()
        self._saved |= paths
        if self._unnamed:  # the look that goes on may see a save before it is told: then this is what it is about
            self._changed |= paths
            if self._cycle is not None and not self._cycle.decided and not self._cycle.changed:
                self._cycle.changed = self._named(paths)
        self._asked = True
        # That folders are watched is told for the first time: this is when to begin.
        self._forced = self._forced or not self._count

    def _compile(self, paths: tuple[str, ...]) -> None:
        """Have templates among `paths` compiled beside the chain, which has much to look at before it renders them."""
        if self._compiling is not None:
            self._compiling.close()
        compiling = self._compiling = self._bench.start(trial.Compile(self._chain.steps.project, paths))
        self._compiled = paths

        def wait() -> None:
            with suppress(OSError):  # a newer save is compiled
                compiling.poll(COMPILING)

        self._chain.before_rendering = wait

    def _look_if_asked(self) -> None:
        if self._looking is not None or not (self._asked or self._forced):
            return
        forced, self._forced, self._asked = self._forced, False, False
        self._unnamed = not forced and not self._saved
        self._changed, self._saved, self._changed_at = self._saved, set(), self._saved_at

        def look() -> None:
            try:
                self._chain.look(forced, self._tell)
            except BaseException as defect:
                self._tell(defect)

        self._looking = threading.Thread(target=look, name="chain", daemon=True)
        self._looking.start()

    def _begin(self) -> None:
        """A cycle begins; the one before is over."""
        self._drop()
        if self._cycle is not None and not self._cycle.decided:
            self._cycle.left = True
            self._write(self._cycle)
        self._count += 1
        self._note = ""
        self._cycle = Cycle(
            number=self._count,
            changed=self._named(self._changed),
            began=self._changed_at,
            machine=self._machine,
            time_limit=self._time_limit,
            claims={number: claim.name for number, claim in self._claims.items()},
            quick=frozenset(self._numbers(QUICK)),
        )
        self._draw_soon(SOON)

    def _made(self, failure: Failure | None) -> None:
        cycle = self._cycle
        if cycle is None or cycle.built or cycle.failure is not None:
            return  # there was nothing to do
        if failure is not None:
            self._untry(cycle)
            # If something was saved meanwhile, it may have been read half-written, and is looked at next anyway.
            if not (self._saved and failure.where in follow.STEPS):
                cycle.failure = failure
                self._decide()
            return
        cycle.built = True
        if self._running is None and cycle.outcome is None:
            steps = self._chain.steps
            self._start(cycle, steps.image, dead_ends(steps.patch_json))
        elif cycle.complete:
            self._decide()

    def _try(self, tried: follow.Written) -> None:
        """Run and check an image that is not known to be sound: what is seen counts once it is."""
        cycle = self._cycle
        if cycle is not None and not cycle.built and cycle.failure is None:
            self._untry(cycle)
            self._start(cycle, tried.path, tried.dead_ends)

    def _untry(self, cycle: Cycle) -> None:
        """End what goes on and forget what was seen: the image was not sound, or nothing came of it."""
        self._drop()
        cycle.forget()

    def _start(self, cycle: Cycle, image: Path, ends: Mapping[int, str]) -> None:
        cycle.time_limit = self._time_limit or self._chain.steps.project.time_limit
        self._running = self._bench.start(self._run_of(cycle, image, ends))
        self._check((*QUICK, *BEHIND), image)
        self._draw_soon(SOON)

    def _settle(self) -> None:
        """Hear, once what was made is kept, what went wrong with that; a shared cache may take its time."""
        if self._settling is None or not self._settling.is_alive():
            self._settling = threading.Thread(target=lambda: [*map(self._tell, self._chain.settle())], daemon=True)
            self._settling.start()

    def _warn(self, trouble: str) -> None:
        if self._screen is None:
            print(f"warning: {trouble}", file=sys.stderr)
        else:
            self._note = trouble
            self._draw_soon(SOON)

    def _watch(self, places: Places) -> None:
        self._places = places
        if places.watched != self._watched:
            self._watched, self._begun = places.watched, False
            self._saves.watch(self._watched)

    def _named(self, paths: set[str]) -> tuple[str, ...]:
        """Those of `paths` that matter, as the user would write them here; not what came and went meanwhile."""
        kept = [
            path
            for path in paths
            if path in self._places.files or (self._places.concern(path) and Path(path).is_file())
        ]
        near = {path: os.path.relpath(path) for path in kept}
        return tuple(sorted(path if name.startswith("..") else name for path, name in near.items()))

    # Runs and checks.

    @property
    def _claims(self) -> dict[int, Claim]:
        """The claims about what the project is now, by number."""
        from buildsys.proof.claims import of

        return dict(enumerate(of(self._chain.steps.project.program is not None), 1))

    def _numbers(self, names: tuple[str, ...]) -> list[int]:
        known = {claim.name: number for number, claim in self._claims.items()}
        return [known[name] for name in names if name in known]

    def _check(self, names: tuple[str, ...], image: Path) -> None:
        assert self._cycle is not None
        job = self._check_of(names, image)
        self._cycle.checking = frozenset(job.claims)
        self._checking = self._bench.start(job)

    def _run_of(self, cycle: Cycle, image: Path, ends: Mapping[int, str]) -> trial.Run:
        return trial.Run(self._chain.steps.project, image, self._machine, cycle.time_limit, ends)

    def _check_of(self, names: tuple[str, ...], image: Path) -> trial.Check:
        numbers = tuple(self._numbers(names))
        soon = len(numbers) if self._verifying else len(self._numbers(QUICK))
        return trial.Check(self._chain.steps.project, image, numbers, soon)

    def _hear(self, connection: Connection) -> None:
        """Take what a run or a check tells."""
        cycle = self._cycle
        if cycle is None or connection not in (self._running, self._checking):
            return
        try:
            told: trial.Told | None = connection.recv()
        except (EOFError, OSError):
            told = None
        if not cycle.built and self._gave_up(connection, cycle, told):
            self._untry(cycle)  # it is tried again, and heard, when it is known to be sound
            return
        if isinstance(told, trial.Serial):
            cycle.add_serial(told.data)
            self._draw_soon(SOON)
        elif isinstance(told, trial.Ended):
            cycle.add_serial(b"")
            cycle.outcome, cycle.barriers = told.outcome, told.barriers
        elif isinstance(told, trial.Checked):
            claim = self._claims[told.number]
            cycle.lines[told.number] = Line(told.number, claim, told.verdict, told.seconds)
            cycle.checking -= {told.number}
            self._draw_soon(SOON)
        elif isinstance(told, trial.Refused):
            cycle.failure = Failure("run" if connection is self._running else "claims", told.error)
        elif isinstance(told, trial.Defect):
            raise RuntimeError(f"in a process apart:\n{told.text}")
        else:
            self._over(connection, cycle)
        if cycle.complete:
            self._decide()

    def _gave_up(self, connection: Connection, cycle: Cycle, told: trial.Told | None) -> bool:
        """Whether a run or a check says that it cannot be done, or is gone without having told all."""
        missing = cycle.outcome is None if connection is self._running else bool(cycle.checking)
        return isinstance(told, trial.Refused) or (told is None and missing)

    def _over(self, connection: Connection, cycle: Cycle) -> None:
        """A hand is gone; it should have told all."""
        connection.close()
        if connection is self._running:
            self._running = None
            if cycle.outcome is None and cycle.failure is None:
                cycle.failure = Failure("run", UserError(f"the process that ran {self._chain.steps.image} was ended"))
            return
        self._checking = None
        if cycle.checking and cycle.failure is None:
            cycle.failure = Failure("claims", UserError("the process that checked claims was ended"))
        cycle.checking = frozenset()
        if cycle.decided and not self._verifying:
            self._write_claims(cycle)
        self._verifying = False
        self._draw_soon(0)

    def _drop(self) -> None:
        """End the run and the checks that go on: they are about an image that is no longer of interest."""
        for connection in (self._running, self._checking):
            if connection is not None:
                connection.close()
        self._running = self._checking = None
        self._verifying = False

    def _decide(self) -> None:
        """All that the verdict needs is there: say it, once. Who reads it may save at once: that must be noticed."""
        cycle = self._cycle
        if cycle is None or cycle.decided or not self._begun:
            return
        cycle.decided = time.monotonic()
        if cycle.barriers is not None and cycle.built:
            with suppress(OSError):  # what is shown is there all the same
                cycle.barriers.written()
        self._write(cycle)
        self._draw()
        if self._checking is not None:
            trial.go_on(self._checking)
        # While nobody waits: have the next hands ready, and what was made in this cycle out of collections' way.
        if cycle.built:
            image = self._chain.steps.image
            compiling = trial.Compile(self._chain.steps.project, self._compiled)
            self._bench.prepare(self._run_of(cycle, image, {}), self._check_of(QUICK, image), compiling)
            self._chain.prepare()
        gc.freeze()

    # Keys.

    def _read_keys(self) -> None:
        keys = os.read(self._keys, 64)
        if not keys:
            self._keys = -1
        if keys.startswith(b"\x1b"):
            return  # a key that sends several characters, some of which may look like ours
        for key in keys.decode("latin-1"):
            if key in ("q", "Q", "\x04"):
                self._quit = True
            elif key in ("r", "R"):
                self._forced, self._saved_at = True, time.monotonic()
            elif key in ("v", "V"):
                self._verify_all()
            elif key in ("g", "G"):
                self._debug()
        self._draw_soon(0)

    def _verify_all(self) -> None:
        cycle = self._cycle
        if cycle is None or not cycle.built:
            self._note = "there is no image to verify"
            return
        if self._checking is not None:
            self._checking.close()
        self._verifying, self._note = True, ""
        self._check(tuple(claim.name for claim in self._claims.values()), self._chain.steps.image)

    def _debug(self) -> None:
        from buildsys.front.attach import Waiting

        if self._debugger is not None:
            self._debugger.close()
            self._debugger = None
        cycle = self._cycle
        if cycle is None or not cycle.built:
            self._note = "there is no image to debug"
            return
        try:
            self._debugger = Waiting(self._chain.steps)
            self._note = ""
        except UserError as error:
            self._note = error.message + (f": {error.hint}" if error.hint else "")

    def _hear_debugged(self, debugger: Waiting) -> None:
        if debugger is not self._debugger:
            return  # a key replaced it a moment ago
        if not debugger.read():
            said = debugger.serial.strip().splitlines()
            debugger.close()
            self._debugger = None
            self._note = "QEMU, for gdb, has ended" + (f": {said[-1]}" if said else "")
        self._draw_soon(SOON)

    # What is shown.

    @contextmanager
    def _terminal(self) -> Iterator[None]:
        from buildsys.front.screen import Screen

        self._keys = sys.stdin.fileno() if sys.stdin is not None and sys.stdin.isatty() else -1
        self._screen = Screen(self._keys >= 0)
        before = {each: signal.signal(each, self._signalled) for each in (signal.SIGWINCH, signal.SIGTSTP)}
        try:
            self._screen.enter()
            self._draw_soon(SOON)
            # What is said elsewhere, such as that another build is waited for, would be lost on this screen.
            with redirect_stderr(_Notes(self._tell)):
                yield
        finally:
            self._screen.leave()
            for number, handler in before.items():
                signal.signal(number, handler)
            with suppress(OSError):
                self._last_words()

    def _signalled(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGTSTP:
            self._suspended = True
        self._draw_at = 0.0

    def _suspend(self) -> None:
        """Ctrl-Z: give the terminal back until we are continued."""
        assert self._screen is not None
        self._suspended = False
        self._screen.leave()
        os.kill(os.getpid(), signal.SIGSTOP)
        self._screen.enter()
        self._draw()

    def _draw_soon(self, seconds: float) -> None:
        """Draw within so many seconds, at the latest."""
        if self._screen is not None:
            at = time.monotonic() + seconds
            self._draw_at = at if self._draw_at is None else min(at, self._draw_at)

    def _draw(self) -> None:
        from buildsys.front.screen import View

        if self._screen is None:
            return
        project, debugger = self._chain.steps.project, self._debugger
        self._screen.draw(
            View(
                cycle=self._cycle,
                about=f"{project.package} for {project.board.name}, cycle {self._count}",
                keys=self._keys >= 0,
                note=self._note,
                debugging=debugger.command if debugger else "",
                debugged=debugger.serial if debugger else "",
            )
        )
        busy = self._running is not None or self._looking is not None
        self._draw_at = time.monotonic() + LATER if busy else None

    def _write(self, cycle: Cycle) -> None:
        if self._screen is None:
            self._line(cycle.as_json())

    def _write_claims(self, cycle: Cycle) -> None:
        if self._screen is None:
            about = {"event": "claims", "cycle": cycle.number, "state": cycle.state, "failed": cycle.failed_in}
            self._line(about | {"claims": cycle.claims_as_json()})

    @staticmethod
    def _line(value: object) -> None:
        sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")
        sys.stdout.flush()

    def _last_words(self) -> None:
        """What stays on the terminal afterwards."""
        if self._cycle is not None:
            failed = self._cycle.failed_in
            print(f"watched {self._count} cycles; the last one {'failed: ' + failed if failed else self._cycle.state}")

    # The end.

    def _end(self) -> None:
        """Leave nothing behind: no tool, no emulator."""
        self._drop()
        for connection in (self._compiling, self._debugger):
            if connection is not None:
                connection.close()
        if self._looking is not None:
            processes.end_all()
            self._looking.join(TIDYING)
        self._chain.close()


class _Notes(io.TextIOBase):
    """What takes the place of stderr while the screen is shown: lines become notes."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell

    def write(self, text: str) -> int:
        """Tell what `text` says, if anything."""
        if text.strip():
            self._tell(text.strip().splitlines()[-1])
        return len(text)
