"""`doit watch`: what a save leads to, told as lines of JSON; its screen and its keys; that it leaves nothing behind."""

from __future__ import annotations

import fcntl
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from buildsys.front.cycle import Cycle, Failure
from buildsys.front.saves import BESIDE, places
from buildsys.front.screen import View, frame, plain
from buildsys.machines.gdb import PROGRAMS
from buildsys.proof.claims import CLAIMS
from tests.conftest import ROOT
from tests.front.conftest import DOIT, Checkout, wait_for

ALL = ["compile", "runtime", "link", "patch"]
QUICK = {"boot-code", "memory-map"}
BEHIND = {"symbols", "barriers", "call-sites", "flag-readers", "handlers"}
NAMES = {claim.name for claim in CLAIMS}
FOREVER = 'uart.At(given.UART).Puts("here\\r\\n")\nfor {\n\tnumber++\n}\nreturn 0'
GOOD = 'pointer = &number\nuart.At(given.UART).Puts("well\\r\\n")\nreturn 0'
UART = 'import "kernel/uart"\n'
WAIT = 30.0  # seconds

FromNothing = Callable[[Checkout], bytes]

REPLACED = """
import "kernel/semihosting"

//buildsys:redirect runtime.panic* mode=both allow=signature
//go:noinline
func quiet() {
	semihosting.Exit(0)
	for {
	}
}

//go:noinline
func beyond() int { return len(table) }
"""


@dataclass
class Watching:
    """A `doit watch --json` that runs, and what it tells."""

    checkout: Checkout
    process: subprocess.Popen[str]
    _read: bytes = b""
    lines: list[dict[str, Any]] = field(default_factory=list)

    def line(self, seconds: float = WAIT) -> dict[str, Any] | None:
        """The next line; None if it ended."""
        assert self.process.stdout is not None
        number, deadline = self.process.stdout.fileno(), time.monotonic() + seconds
        while b"\n" not in self._read:
            assert select.select([number], [], [], max(0, deadline - time.monotonic()))[0], (
                f"no line: {self.lines[-2:]}"
            )
            data = os.read(number, 65536)
            if not data:
                return None
            self._read += data
        line, self._read = self._read.split(b"\n", 1)
        told: dict[str, Any] = json.loads(line)
        self.lines.append(told)
        return told

    def next(self, event: str = "cycle") -> dict[str, Any]:
        """The next line of this kind."""
        while (told := self.line()) is not None:
            if told["event"] == event:
                return told
        pytest.fail(f"it ended: {self.process.communicate()[1]}")

    def passed(self, *redone: str) -> dict[str, Any]:
        """The next cycle, which passed and did these steps again, no more and no fewer."""
        told = self.next()
        assert (told["state"], told["failed"], told["error"]) == ("passed", "", None), told
        assert told["redone"] == list(redone), told
        assert (told["run"]["end"], told["run"]["status"]) == ("exit", 0)
        assert set(told["claims"]["hold"]) >= QUICK
        return told

    def failed(self, where: str) -> dict[str, Any]:
        """The next cycle, which failed there."""
        told = self.next()
        assert (told["state"], told["failed"]) == ("failed", where), told
        return told

    def end(self, number: signal.Signals = signal.SIGINT) -> int:
        """Ask it to end: its status. Nothing of it is left."""
        self.process.send_signal(number)
        _, err = self.process.communicate(timeout=10)
        assert err in ("interrupted\n", ""), err
        assert self.checkout.left() == []
        return self.process.returncode


@contextmanager
def watching(checkout: Checkout, *arguments: str, modules: Path | None = None) -> Iterator[Watching]:
    """`doit watch` in `checkout`; at the end it is interrupted, if it still is there, and must leave nothing."""
    ours = {"PYTHONPATH": str(modules), "PYTHONDONTWRITEBYTECODE": "1"} if modules else {}
    process = checkout.start("watch", "--json", *arguments, largest_file=None, ignoring=None, **ours)
    try:
        started = Watching(checkout, process)
        yield started
        if process.poll() is None:
            assert started.end() == 130
    finally:
        process.kill()
        process.communicate()


def renamed(path: Path, text: str) -> None:
    """Save as many editors do: a new file beside, which takes the place of the old one."""
    beside = path.with_name(path.name + ".new")
    beside.write_text(text)
    beside.replace(path)


def backed_up(path: Path, text: str) -> None:
    """Save as Vim may: the old file becomes a backup, a new one gets its name."""
    path.with_name("4913").touch()
    path.with_name("4913").unlink()
    path.replace(path.with_name(path.name + "~"))
    path.write_text(text)


def test_the_first_cycle_is_of_the_project_as_it_is(checkout: Checkout) -> None:
    with watching(checkout) as watch:
        told = watch.passed()
        assert (told["cycle"], told["changed"], told["stages"]) == (1, [], [])
        assert told["serial"].endswith("Exiting via semihosting...\n")
        behind = watch.next("claims")
        assert (behind["cycle"], behind["state"]) == (1, "passed")
        assert set(behind["claims"]["hold"]) == QUICK | BEHIND


def test_what_was_not_checked_is_said(checkout: Checkout) -> None:
    with watching(checkout) as watch:
        for told in (watch.next(), watch.next("claims")):
            claims = told["claims"]
            groups = [
                claims["hold"],
                claims["not_run"],
                claims["unchecked"],
                [each["name"] for each in claims["false"]],
            ]
            assert sorted(name for group in groups for name in group) == sorted(NAMES)
        assert set(claims["unchecked"]) == NAMES - QUICK - BEHIND


def test_each_kind_of_save_redoes_what_it_must(checkout: Checkout, from_nothing: FromNothing) -> None:
    checkout.own_templates()
    checkout.own_board()
    source, template = checkout.path("src/main.go"), checkout.path("templates/boot.s.j2")
    with watching(checkout) as watch:
        watch.passed("link")
        # An edit in place, and a comment, at which the chain stops early.
        checkout.replace("src/main.go", "Testing write barrier...", "Testing write barriers..")
        told = watch.passed(*ALL)
        assert told["changed"] == ["src/main.go"]
        assert told["stages"][0]["reason"] == "src/main.go changed"
        assert "Testing write barriers.." in told["serial"]
        checkout.append("src/main.go", "// nothing\n")
        assert watch.passed("compile")["changed"] == ["src/main.go"]
        # Saved as editors do.
        renamed(source, source.read_text().replace("write barriers..", "write-barriers.."))
        assert "src/main.go" in (told := watch.passed(*ALL))["changed"]
        assert "Testing write-barriers.." in told["serial"]
        backed_up(source, source.read_text().replace("write-barriers..", "the barriers...."))
        assert watch.passed(*ALL)["changed"] == ["src/main.go"]
        # Files come and go, and folders.
        checkout.path("src/more.go").write_text("package main\n\nfunc init() { println(1) }\n")
        assert watch.passed(*ALL)["changed"] == ["src/more.go"]
        checkout.path("src/more.go").unlink()
        assert watch.passed(*ALL)["changed"] == ["src/more.go"]
        # Templates, linker script, board, settings.
        template.write_text(template.read_text().replace("_start:\n", "_start:\n    nop\n"))
        assert watch.passed("link", "patch")["changed"] == ["templates/boot.s.j2"]
        renamed(template, template.read_text() + "// nothing\n")
        watch.passed("link")
        checkout.append("linker/kernel.ld.j2", "/* nothing */\n")
        watch.passed("link")
        checkout.replace("board.toml", "\nstack = ", "\nstack = 0x8000 #")
        assert watch.passed("link", "patch")["changed"] == ["board.toml"]
        checkout.set('gcflags = "-N"')
        assert watch.passed(*ALL)["changed"] == ["pyproject.toml"]
        assert checkout.image == from_nothing(checkout)
        checkout.set('gcflags = ""')
        watch.passed(*ALL)
    assert checkout.image == from_nothing(checkout)
    assert checkout.doit("build").succeeded().steps == ()


def test_a_package_in_a_new_folder_is_watched_as_soon_as_it_is_used(
    checkout: Checkout, from_nothing: FromNothing
) -> None:
    with watching(checkout) as watch:
        watch.passed()
        checkout.path("src/words").mkdir()
        checkout.path("src/words/words.go").write_text(
            'package words\n\nconst First = "Testing the first.......\\r\\n"\n'
        )
        checkout.replace("src/main.go", '"kernel/uart"', '"kernel/uart"\n\t"kernel/words"')
        checkout.replace("src/main.go", '"Testing write barrier...\\r\\n"', "words.First")
        while (told := watch.next())["state"] != "passed" or "words.First" not in checkout.path(
            "src/main.go"
        ).read_text():
            assert told["state"] in ("failed", "superseded"), told  # between one save and the next
        assert "the first" in told["serial"]
        checkout.replace("src/words/words.go", "the first...", "the second..")
        told = watch.passed(*ALL)
        assert told["changed"] == ["src/words/words.go"]
        assert "the second" in told["serial"]
    assert checkout.image == from_nothing(checkout)


def test_what_was_built_before_is_restored(checkout: Checkout) -> None:
    first, second = "Testing write barriers..", "Testing the barriers...."
    with watching(checkout) as watch:
        watch.passed()
        checkout.replace("src/main.go", "Testing write barrier...", first)
        told = watch.passed(*ALL)
        assert [stage["origin"] for stage in told["stages"]] == ["built"] * 4
        image = checkout.image
        for old, new in ((first, second), (second, first)):
            watch.next("claims")
            checkout.replace("src/main.go", old, new)
            told = watch.passed(*ALL)
            assert new in told["serial"]
        assert [stage["origin"] for stage in told["stages"]] == ["restored"] * 4
        assert checkout.image == image


def test_what_is_no_input_costs_no_cycle(checkout: Checkout) -> None:
    with watching(checkout) as watch:
        watch.passed()
        watch.next("claims")
        checkout.path("notes.txt").write_text("no input")
        checkout.path("src/.main.go.swp").write_text("an editor's")
        checkout.path("src/main.go").touch()
        checkout.path(".git").mkdir()
        checkout.path(".git/index").write_text("git's")
        checkout.replace("src/main.go", "Testing write barrier...", "Testing write barriers..")
        told = watch.passed(*ALL)
        assert (told["cycle"], told["changed"]) == (2, ["src/main.go"])
        assert [each["event"] for each in watch.lines] == ["cycle", "claims", "cycle"]


def test_gos_errors_are_told_with_their_places_until_they_are_mended(
    checkout: Checkout, from_nothing: FromNothing
) -> None:
    with watching(checkout) as watch:
        watch.passed()
        before = checkout.image
        checkout.append("src/list.go", "func wrong() int32 { return absent }\n")
        told = watch.failed("compile")
        line = checkout.path("src/list.go").read_text().count("\n")
        assert told["error"]["places"] == [
            {"file": "src/list.go", "line": line, "column": 29, "text": "undefined: absent"}
        ]
        assert f"src/list.go:{line}:29: undefined: absent" in told["error"]["message"].splitlines()
        assert (told["run"], told["redone"], checkout.image) == (None, [], before)
        assert set(told["claims"]["unchecked"]) == NAMES
        checkout.path("notes.txt").write_text("this mends nothing, and is not tried")
        checkout.replace("src/list.go", "absent", "1")
        told = watch.passed("compile")
        assert (told["cycle"], told["stages"][0]["reason"]) == (3, "it failed the last time")
    assert checkout.image == from_nothing(checkout)


@pytest.mark.parametrize(
    ("file", "old", "new", "where", "said"),
    [
        ("pyproject.toml", 'entry = "main', 'entry = main"', "configuration", "pyproject.toml:"),
        ("pyproject.toml", 'toolchain = "zig"', 'toolchain = "zag"', "configuration", "did you mean `zig`?"),
        ("board.toml", "\ntext = ", "\ntext = 0x9000000 #", "configuration", "board.toml:"),
        ("templates/boot.s.j2", "_start:\n", "_start:\n{{ nowhere }}\n", "link", "templates/boot.s.j2:"),
        ("templates/boot.s.j2", "_start:\n", "_start:\n    nup\n", "link", "build/boot.s:"),
    ],
    ids=["no TOML", "an unknown toolchain", "an impossible board", "an undefined name", "no instruction"],
)
def test_a_mistake_is_the_state_and_watching_goes_on(
    checkout: Checkout, from_nothing: FromNothing, file: str, old: str, new: str, where: str, said: str
) -> None:
    checkout.own_templates()
    checkout.own_board()
    with watching(checkout) as watch:
        watch.passed("link")
        checkout.replace(file, old, new)
        error = watch.failed(where)["error"]
        assert said in error["message"] + error["hint"]
        assert "Traceback" not in error["message"]
        checkout.replace(file, new, old)
        told = watch.next()
        assert (told["state"], told["cycle"]) == ("passed", 3)
    assert checkout.image == from_nothing(checkout)


def test_a_claim_that_does_not_hold_is_told_behind_the_verdict(checkout: Checkout) -> None:
    checkout.own_templates()
    with watching(checkout) as watch:
        watch.next()
        # A function the runtime calls, with a register clobbered that no caller of it saves.
        checkout.replace("templates/writebarrier.s.j2", "{{ reader }}:\n", "{{ reader }}:\n    mov     x20, xzr\n")
        watch.next()
        behind = watch.next("claims")
        assert (behind["state"], behind["failed"]) == ("failed", "claims")
        [false] = behind["claims"]["false"]
        assert false["name"] == "handlers"
        assert any("x20" in detail for detail in false["details"])
        assert "handlers" not in behind["claims"]["hold"]


def test_a_guest_that_fails_is_a_failed_run(checkout: Checkout) -> None:
    with watching(checkout) as watch:
        watch.passed()
        checkout.kernel("return 3")
        told = watch.failed("run")
        assert (told["run"]["status"], told["run"]["says"]) == (3, "exited with status 3")


def test_nothing_is_told_of_the_run_of_an_image_that_is_refused(checkout: Checkout, from_nothing: FromNothing) -> None:
    """It begins while the image is still looked at."""
    checkout.kernel(GOOD, UART)
    with watching(checkout) as watch:
        watch.passed("compile", "runtime", "link", "patch")
        before = checkout.image
        checkout.kernel(GOOD.replace("return 0", "go func() { slice = nil }()\nreturn 0"), UART + "var slice []int32\n")
        told = watch.failed("patch")
        assert "the kernel can reach " in told["error"]["message"]
        assert (told["run"], told["serial"], told["serial_bytes"], told["claims"]["hold"]) == (None, "", 0, [])
        assert checkout.image == before
        checkout.kernel(GOOD.replace("well", "very well"), UART)
        assert watch.passed("compile", "runtime", "link", "patch")["serial"] == "very well\n"
    assert checkout.image == from_nothing(checkout)
    assert list(checkout.path("build").glob("*.partial")) == []


def test_what_the_barrier_policy_kept_is_told_after_each_cycle_as_after_a_run(checkout: Checkout) -> None:
    checkout.set('barrier = "count"')
    with watching(checkout) as watch:
        told = watch.next()
        assert told["state"] == "passed"
        assert re.match(r"barriers: \d+ calls from \d+ places, on \d+ lines$", told["barriers"][0])
        written = json.loads(checkout.path("build/barriers.json").read_text())
        assert written["exit_code"] == 0
    run = checkout.doit("run")
    assert run.status == 0
    assert "\n".join(told["barriers"]) in run.err


def test_what_took_the_place_of_a_panic_makes_no_good_end_here_either(checkout: Checkout) -> None:
    """It ends the run with 0, and is not believed; nor is the image tried before all is known of it."""
    checkout.kernel("if number > 0 {\n\tquiet()\n}\nreturn table[beyond()]", REPLACED)
    with watching(checkout) as watch:
        told = watch.failed("run")
        assert told["run"]["status"] == 0
        assert "no good end: " in told["run"]["says"]
        assert "main.quiet" in told["run"]["says"]
    assert checkout.doit("run").status == 4
    assert "main.quiet" in checkout.doit("verify", "-v", "--claim", "outcome").out


def test_a_run_ends_at_the_time_limit(checkout: Checkout) -> None:
    checkout.kernel(FOREVER, UART)
    with watching(checkout, "--time-limit", "0.5") as watch:
        told = watch.failed("run")
        assert (told["run"]["end"], told["run"]["status"], told["serial"]) == ("time-limit", None, "here\n")
        assert told["run"]["says"] == "ended by the time limit of 0.5 s"


def test_while_a_run_takes_long_the_slower_claims_are_checked(checkout: Checkout) -> None:
    checkout.kernel(FOREVER, UART)
    with watching(checkout, "--time-limit", "8") as watch:
        assert set(watch.failed("run")["claims"]["hold"]) >= QUICK | BEHIND - {"barriers"}  # it stores no pointer


def test_tools_that_wait_for_a_save_end_with_it_however_it_ends(checkout: Checkout) -> None:
    def waiting() -> list[str]:
        return [each for each in checkout.left() if "@/proc/self/fd/" in each]

    checkout.own_templates()
    with watching(checkout) as watch:
        assert watch.next()["state"] == "passed"
        wait_for(lambda: len(waiting()) == 2, "assembler and linker")
        checkout.replace("templates/boot.s.j2", "_start:\n", "_start:\n    nop\n")
        watch.passed("link", "patch")
        wait_for(lambda: len(waiting()) == 2, "the next ones")
        watch.process.kill()
        watch.process.communicate()
        wait_for(lambda: not checkout.left(), "their end")


def test_templates_are_compiled_by_a_process_apart(checkout: Checkout) -> None:
    checkout.own_templates()
    checkout.doit("build").succeeded()
    compiled = checkout.folder / "build" / ".templates"
    before = {path.name for path in compiled.iterdir()}
    for path in compiled.iterdir():
        path.unlink()
    script = """
import os
from buildsys.config.project import load
from buildsys.front import trial
bench = trial.Bench()
for paths in (("templates/boot.s.j2", "templates/fatal.s.j2", "templates/none.s.j2", "src/main.go"), ()):
    hand = bench.start(trial.Compile(load(), tuple(map(os.path.abspath, paths))))
    print(hand.recv())
bench.close()
"""
    command = [sys.executable, "-c", script]
    told = subprocess.check_output(command, cwd=checkout.folder, text=True, timeout=60)
    assert told == "Compiled()\n" * 2
    made = {path.name for path in compiled.iterdir()}
    assert made < before
    assert len(made) == 2


def test_a_run_on_qemu_is_one(checkout: Checkout) -> None:
    with watching(checkout, "--machine", "qemu") as watch:
        assert watch.passed()["run"]["machine"] == "qemu"


def test_a_kernel_that_loops_does_not_make_watch_deaf(checkout: Checkout, from_nothing: FromNothing) -> None:
    checkout.kernel(GOOD, UART)
    with watching(checkout, "--time-limit", "600") as watch:
        watch.passed(*ALL)
        before = checkout.image
        checkout.kernel(FOREVER, UART)
        wait_for(lambda: checkout.image != before, "the image that loops")
        checkout.kernel(GOOD, UART)
        left = watch.next()
        assert (left["cycle"], left["state"], left["run"]) == (2, "superseded", None)
        told = watch.passed(*ALL)
        assert (told["cycle"], told["serial"]) == (3, "well\n")
    assert checkout.image == from_nothing(checkout)


def caught(checkout: Checkout, moment: str) -> None:
    """Save, again and again, and return while a tool runs, or a file is written, that is called so: that takes some ms.

    By that name no linker that links is told from one that waits for its arguments.
    """
    for _ in range(60):
        checkout.replace("src/main.go", "Testing", "again, Testing")
        deadline = time.monotonic() + 1
        while time.monotonic() < deadline:
            if any(moment in each for each in (*checkout.left(), *os.listdir(checkout.folder / "build"))):
                return
    pytest.fail(f"{moment!r} was never seen")


def test_a_save_during_a_build_is_not_lost(checkout: Checkout, from_nothing: FromNothing) -> None:
    checkout.own_templates()
    with watching(checkout) as watch:
        watch.next()
        for number, moment in enumerate(("bin/go build", "/compile ", "/link -o", ".linked.elf.")):
            caught(checkout, moment)
            checkout.replace("src/main.go", "Testing", f"{number} testing, Testing")
            checkout.replace("templates/boot.s.j2", "_start:\n", "_start:\n    nop\n")
            wanted = f"{number} testing, "
            while wanted not in watch.next()["serial"]:
                pass  # a cycle about what was there before, or about a file that was half-written
        # The last save may still be one of a cycle to come.
        image = from_nothing(checkout)
        wait_for(lambda: checkout.image == image, "the image of all that was saved")


def test_when_buildsys_changes_nothing_is_built_until_it_is_started_again(checkout: Checkout) -> None:
    for name in ("buildsys", "templates", "linker"):
        shutil.copytree(ROOT / name, checkout.temporary / name, ignore=shutil.ignore_patterns("__pycache__"))
    checkout.own_templates()
    module = checkout.temporary / "buildsys" / "stages" / "patch.py"
    text = module.read_text()
    with watching(checkout, modules=checkout.temporary) as watch:
        assert watch.next()["state"] == "passed"
        before = checkout.image
        module.write_text(text + "# another\n")
        told = watch.failed("restart")
        assert "buildsys/stages/patch.py" in told["error"]["message"]
        checkout.replace("src/main.go", "Testing write barrier...", "Testing write barriers..")
        module.write_text(text)
        assert watch.passed(*ALL)["cycle"] == 3
        assert checkout.image != before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_asked_to_end_during_a_build_it_ends_in_one_line_and_leaves_nothing(
    checkout: Checkout, from_nothing: FromNothing, number: signal.Signals
) -> None:
    with watching(checkout) as watch:
        watch.passed()
        before = checkout.image
        checkout.replace("src/main.go", "Testing write barrier...", "Testing write barriers..")
        wait_for(lambda: any("bin/go build" in each for each in checkout.left()), "the compiler")
        assert watch.end(number) == 130
    assert checkout.image == before
    assert [name for name in checkout.artifacts() if name.endswith(".partial")] == []
    checkout.doit("build").succeeded()
    assert checkout.image == from_nothing(checkout)


def test_killed_it_leaves_no_emulator(checkout: Checkout) -> None:
    checkout.kernel(FOREVER, UART)
    checkout.doit("build").succeeded()
    for machine in ("embedded", "qemu"):
        process = checkout.start("watch", "--json", "--time-limit", "600", "--machine", machine)
        program = "qemu-system" if machine == "qemu" else "watch"
        wait_for(lambda program=program: sum(program in each for each in checkout.left()) > 0, machine)  # type: ignore[misc]
        process.kill()
        process.communicate()
        wait_for(lambda: not checkout.left(), "the end of what it started")


def test_it_ends_when_nobody_reads_what_it_tells(checkout: Checkout) -> None:
    process = checkout.start("watch")
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    checkout.replace("src/main.go", "Testing write barrier...", "Testing write barriers..")
    assert process.stderr is not None
    assert process.stderr.read() == ""
    assert process.wait(timeout=10) == 141
    assert checkout.left() == []


def test_options_that_make_no_sense_are_refused(checkout: Checkout) -> None:
    checkout.doit("watch", "--machine", "qemo").refused("did you mean `qemu`?")
    checkout.doit("watch", "--time-limit", "-1").refused("--time-limit")
    checkout.doit("-n", "2", "watch").refused("leave out -n")


# On a terminal.


@dataclass
class Terminal:
    """A terminal in which `doit watch` runs."""

    checkout: Checkout
    process: subprocess.Popen[bytes]
    number: int
    before: list[Any]
    shown: str = ""
    seen: int = 0

    def until(self, *words: str) -> str:
        """Return once all `words` were shown, since the last time."""
        deadline = time.monotonic() + WAIT
        while not all(word in self.shown[self.seen :] for word in words):
            left = deadline - time.monotonic()
            assert select.select([self.number], [], [], max(0, left))[0], f"{words} in {self.shown[self.seen :]!r}"
            try:
                self.shown += os.read(self.number, 65536).decode(errors="replace")
            except OSError:  # EIO: it has ended
                break
        new, self.seen = self.shown[self.seen :], len(self.shown)
        assert all(word in new for word in words), f"{words} in {new!r}"
        return new

    def type(self, keys: str) -> None:
        os.write(self.number, keys.encode())

    def ended(self) -> int:
        """The status it ends with, having given back the terminal and left nothing."""
        self.until("\x1b[?25h\x1b[?1049l")
        status = self.process.wait(timeout=10)
        while select.select([self.number], [], [], 0)[0]:
            try:
                self.shown += os.read(self.number, 65536).decode(errors="replace")
            except OSError:
                break
        assert termios.tcgetattr(self.number) == self.before
        assert self.checkout.left() == []
        return status


@contextmanager
def terminal(checkout: Checkout, *arguments: str) -> Iterator[Terminal]:
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, b"\x28\0\x64\0\0\0\0\0")  # 40 lines of 100 columns
    before = termios.tcgetattr(ours)

    def enter() -> None:
        os.setsid()
        fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    process = subprocess.Popen(
        [DOIT, "watch", *arguments],
        cwd=checkout.folder,
        env={**checkout.variables, "TERM": "xterm", "NO_COLOR": "1"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        preexec_fn=enter,
    )
    os.close(theirs)
    try:
        yield Terminal(checkout, process, ours, before)
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def test_the_screen_shows_each_cycle_and_q_gives_the_terminal_back(checkout: Checkout) -> None:
    with terminal(checkout) as shown:
        shown.until(
            "passed", "up to date", "exited with status 0", "Exiting via semihosting", "7 of 13 hold; 6 not checked"
        )
        checkout.append("src/list.go", "func wrong() int32 { return absent }\n")
        shown.until("failed: compile", "src/list.go:", "undefined: absent")
        checkout.replace("src/list.go", "absent", "1")
        new = shown.until("passed", "exited with status 0", "7 of 13 hold")
        assert "\n" not in new, "what is drawn does not scroll"
        shown.type("q")
        assert shown.ended() == 0
        assert "the last one passed" in shown.shown


def test_r_runs_again_and_v_verifies_all(checkout: Checkout) -> None:
    with terminal(checkout) as shown:
        shown.until("passed", "7 of 13 hold")
        shown.type("r")
        shown.until("cycle 2", "run again", "7 of 13 hold")
        shown.type("v")
        shown.until("13 of 13 hold")
        shown.type("q")
        assert shown.ended() == 0


def test_q_during_a_verification_leaves_no_tool_and_no_folder(checkout: Checkout) -> None:
    with terminal(checkout) as shown:
        shown.until("passed", "7 of 13 hold")
        shown.type("v")
        wait_for(lambda: any("bin/go build" in each for each in checkout.left()), "the rebuild of a claim")
        shown.type("q")
        assert shown.ended() == 0
    assert [path.name for path in checkout.temporary.iterdir() if path != checkout.cache] == []


@pytest.mark.parametrize("keys", ["q", "\x03", "\x03\x03"], ids=["q", "Ctrl-C", "Ctrl-C twice"])
def test_a_kernel_that_loops_is_left_at_once(checkout: Checkout, keys: str) -> None:
    checkout.kernel(FOREVER, UART)
    with terminal(checkout, "--time-limit", "600") as shown:
        shown.until("running", "here")
        shown.type(keys)
        assert shown.ended() == (0 if keys == "q" else 130)


def test_a_kernel_that_loops_is_shown_and_ended_by_the_next_save(checkout: Checkout) -> None:
    checkout.kernel(FOREVER, UART)
    with terminal(checkout, "--time-limit", "600") as shown:
        shown.until("running", "here")
        checkout.kernel(GOOD, UART)
        shown.until("passed", "well")
        shown.type("q")
        assert shown.ended() == 0


def test_g_has_qemu_wait_for_a_gdb_that_comes_when_it_likes(checkout: Checkout) -> None:
    with terminal(checkout) as shown:
        shown.until("passed", "7 of 13 hold")
        shown.type("g")
        command = re.search(r"QEMU waits for (?:\x1b\[1m)?([^\x1b\r]+)", shown.until("QEMU waits for"))
        assert command is not None
        program, *arguments = command[1].split()
        assert program in PROGRAMS
        done = subprocess.run(
            [program, "-batch", *arguments, "-ex", "kill"],
            cwd=checkout.folder, capture_output=True, text=True, timeout=WAIT, check=False,
        )  # fmt: skip
        assert "Breakpoint 1, main.KernelMain" in done.stdout, done.stdout + done.stderr
        shown.until("QEMU, for gdb, has ended")
        shown.type("gq")
        assert shown.ended() == 0


def test_the_terminal_is_given_back_while_it_is_suspended(checkout: Checkout) -> None:
    with terminal(checkout) as shown:
        shown.until("passed")
        shown.type("\x1a")
        shown.until("\x1b[?25h\x1b[?1049l")
        stopped = Path(f"/proc/{shown.process.pid}/stat")
        wait_for(lambda: stopped.read_text().split(") ")[1][0] == "T", "that it stops")
        assert termios.tcgetattr(shown.number) == shown.before
        shown.process.send_signal(signal.SIGCONT)
        shown.until("\x1b[?1049h", "passed")
        shown.type("q")
        assert shown.ended() == 0


# Its parts.


def cycle(**facts: Any) -> Cycle:
    return Cycle(
        number=1, changed=("src/main.go",), began=0.0, machine="embedded", time_limit=20.0,
        claims=dict(enumerate(sorted(NAMES), 1)), quick=frozenset(), **facts,
    )  # fmt: skip


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40), (40, 12), (20, 5), (1, 1)])
def test_whatever_is_shown_stays_within_the_screen(width: int, height: int) -> None:
    from buildsys.errors import UserError

    long = cycle(built=True, decided=1.0)
    long.add_serial("".join(f"line {number} {'é世' * 80}\r\n" for number in range(500)).encode())
    wrong = cycle(
        failure=Failure("compile", UserError("\n".join(f"a.go:{n}:1: {'x' * 300}" for n in range(99)), "mend it"))
    )
    for each in (long, wrong):
        lines = frame(View(cycle=each, about="about", keys=True, note="n" * 100), width, height)
        assert all(line.cell_len <= width for line in lines)
        assert len(lines) <= height
    assert len(frame(View(long, "", True), 80, 24)) == 24
    assert "line 499" in "\n".join(line.plain for line in frame(View(long, "", True), 120, 40))
    assert any("more lines" in line.plain for line in frame(View(wrong, "", True), 80, 24))


def test_a_guest_cannot_write_to_the_terminal_but_text() -> None:
    assert plain("a\x1b[2Jb\x1b]0;title\x07c\x07d\x9be\tf") == "abc·d·e f"


def test_what_editors_put_beside_a_file_is_no_save() -> None:
    for name in ("main.go~", ".main.go.swp", ".#main.go", "#main.go#", "4913", "main.go___jb_tmp___"):
        assert BESIDE.fullmatch(name), name
    for name in ("main.go", "a.s", "kernel.ld.j2", "go.mod", "swp", "main_test.go"):
        assert not BESIDE.fullmatch(name), name


def test_what_a_build_makes_is_not_watched_but_a_package_called_build_is(tmp_path: Path) -> None:
    for name in ("build/deep", "src/build", "src/.hidden", "src/env"):
        tmp_path.joinpath(name).mkdir(parents=True)
    tmp_path.joinpath("src/env/pyvenv.cfg").touch()
    found = places(tmp_path / "build", [tmp_path], [tmp_path / "gone" / "x.toml"], [])
    assert found.folders == {str(tmp_path), str(tmp_path / "src"), str(tmp_path / "src/build")}
    assert found.watched == found.folders
    assert found.concern(str(tmp_path / "src/new.go"))
    assert not found.concern(str(tmp_path / "build/go.o"))
