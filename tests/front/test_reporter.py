"""Progress, as its readers have it: a file, a terminal (a real one, its screen drawn by pyte), a program.

The projects are small ones with a real doit: stages that wait at a gate (a named pipe) until the test lets them on.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyte
import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildsys.front.progress import ORIGINS, hit_rate, shares
from buildsys.front.reporter import BUILT, REMOTE, RESTORED, UP_TO_DATE
from buildsys.front.turns import Turns
from tests.front.conftest import STEP, Checkout, Done

DODO = """
import json
import pathlib
import sys

from buildsys.front.reporter import Failed

DOIT_CONFIG = {"reporter": "buildsys", "backend": "buildsys", "verbosity": 2, "default_tasks": ["build"]}


def closing(built, seconds):
    return f"kernel.elf  1.5 MB, {seconds:.2f} s" if built else "kernel.elf  1.5 MB; everything is up to date"


def stage(says="did it", gate="", out="", err="", error="", defect="", done=False, after=(), wait=0, **values):
    def perform():
        sys.stdout.write(out)
        sys.stderr.write(err)
        if gate:
            open(gate).read()
        if wait:
            import time
            time.sleep(wait)
        if defect:
            raise ValueError(defect)
        return Failed(error) if error else values

    return {"actions": [perform], "uptodate": [done], "task_dep": list(after), "meta": {"step": says}}


def task_all():
    plan = json.loads(pathlib.Path("plan.json").read_text())
    for name, about in plan["stages"].items():
        yield {"basename": name, **stage(**about)}
    for name, command in plan["commands"].items():
        yield {"basename": name, "actions": [command], "io": {"capture": False}}
    yield {"basename": "build", "actions": [], "task_dep": plan["build"], "meta": {"closing": closing}}
"""
CHAIN = ("compile", "runtime", "link", "patch")
RUNNING = re.compile(r"^(\S+) +… (\d+\.\d) s(, and \d+ more)?$", re.MULTILINE)


@dataclass(frozen=True)
class Small:
    """A project of a few stages."""

    checkout: Checkout

    def plan(
        self, stages: Mapping[str, Mapping[str, Any]], commands: Mapping[str, str] | None = None, *build: str
    ) -> None:
        """Say what there is to do; unless told otherwise, what the last stage needs is to be built."""
        wanted = list(build) or list(stages)[-1:]
        for about in stages.values():
            if "gate" in about and not self.checkout.path(about["gate"]).exists():
                os.mkfifo(self.checkout.path(about["gate"]))
        text = json.dumps({"stages": stages, "commands": commands or {}, "build": wanted})
        self.checkout.path("plan.json").write_text(text)

    def chain(self, **stages: Mapping[str, Any]) -> None:
        """The four stages one after the other; what is told of one is in `stages`."""
        self.plan(
            {
                name: {"says": f"the {name} step", "after": CHAIN[:number][-1:], **stages.get(name, {})}
                for number, name in enumerate(CHAIN)
            }
        )

    def open(self, gate: str) -> None:
        """Let who waits at `gate`, or comes to it, go on."""
        self.checkout.path(gate).write_bytes(b"")

    def doit(self, *arguments: str, **environment: str) -> Done:
        return self.checkout.doit(*arguments, largest_file=None, **environment)

    def terminal(self, *arguments: str, columns: int = 100, program: str = "", **environment: str) -> Screen:
        return Screen(self.checkout, arguments, columns, program, environment)


class Screen:
    """A terminal of 60 lines in which `doit` runs, or the shell `program` does."""

    def __init__(
        self, checkout: Checkout, arguments: tuple[str, ...], columns: int, program: str, environment: dict[str, str]
    ) -> None:
        self._screen = pyte.Screen(columns, 60)
        self._stream = pyte.ByteStream(self._screen)
        self._master, theirs = os.openpty()
        self.raw = b""
        self._size(columns)

        def enter() -> None:
            os.setsid()
            fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)
            signal.signal(signal.SIGINT, signal.SIG_DFL)

        from tests.front.conftest import DOIT

        self.process = subprocess.Popen(
            ["sh", "-mc", program.format(doit=DOIT)] if program else [DOIT, *arguments],
            cwd=checkout.folder,
            env={**checkout.variables, "TERM": "xterm", **environment},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            preexec_fn=enter,
        )
        os.close(theirs)

    @property
    def text(self) -> str:
        """What is on the screen, without the empty lines below."""
        return "\n".join(line.rstrip() for line in self._screen.display).rstrip("\n")

    @property
    def lines(self) -> list[str]:
        return self.text.splitlines()

    def resize(self, columns: int) -> None:
        """Make it wider or narrower; what is on it is cut, as xterm does."""
        self._screen.resize(60, columns)
        self._size(columns)

    def type(self, keys: bytes) -> None:
        os.write(self._master, keys)

    def until(self, seen: Callable[[str], object], what: str) -> None:
        """Return once the screen is as `seen` wants it."""
        deadline = time.monotonic() + 30
        while not seen(self.text):
            assert time.monotonic() < deadline, f"{what} has not come:\n{self.text}"
            assert self._more() or seen(self.text), f"{what} was never shown:\n{self.text}"

    def running(self, name: str, later_than: float = 0) -> float:
        """Wait for the line of the running stage `name`, with more than so many seconds. Returns them."""
        found: list[float] = []

        def seen(text: str) -> bool:
            match = RUNNING.search(text)
            if match and match[1] == name and float(match[2]) > later_than:
                found.append(float(match[2]))
            return bool(found)

        self.until(seen, f"the line of {name}")
        return found[0]

    def end(self) -> int:
        """Read all there is to come. Returns the exit status."""
        deadline = time.monotonic() + 30
        while self._more():
            assert time.monotonic() < deadline, f"it does not end:\n{self.text}"
        return self.process.wait(timeout=10)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._master)

    def _more(self) -> bool:
        if not select.select([self._master], [], [], 30)[0]:
            return True
        try:
            data = os.read(self._master, 65536)
        except OSError:  # EIO: nobody has the other end
            return False
        self.raw += data
        self._stream.feed(data)
        return True

    def _size(self, columns: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", 60, columns, 0, 0))


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Small]:
    folder, temporary = tmp_path / "project", tmp_path / "temporary"
    folder.mkdir()
    temporary.mkdir()
    (folder / "dodo.py").write_text(DODO)
    checkout = Checkout(folder, temporary)
    yield Small(checkout)
    assert checkout.left() == []


@pytest.fixture
def terminal(small: Small) -> Iterator[Callable[..., Screen]]:
    """Opens terminals, and closes them in the end."""
    opened: list[Screen] = []

    def start(*arguments: str, columns: int = 100, program: str = "", **environment: str) -> Screen:
        opened.append(small.terminal(*arguments, columns=columns, program=program, **environment))
        return opened[-1]

    yield start
    for screen in opened:
        screen.close()


Terminals = Callable[..., Screen]


def untimed(text: str) -> str:
    return re.sub(r" +\d+\.\d\d s", " … s", text.rstrip("\n"))


def events(done: Done) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.out.splitlines()]


# Lines


def test_a_line_tells_what_was_done_or_which_cache_it_came_from_and_how_long_it_took(small: Small) -> None:
    small.chain(runtime={"origin": RESTORED}, link={"origin": REMOTE, "remark": "in 3 passes"}, patch={"origin": BUILT})
    out = small.doit("build").succeeded().out
    assert tuple(match[1] for match in STEP.finditer(out)) == CHAIN
    assert untimed(out).splitlines() == [
        "compile   the compile step … s",
        "runtime   restored from the local cache … s",
        "link      fetched from the shared cache … s",
        "          in 3 passes",
        "patch     the patch step … s",
        "kernel.elf  1.5 MB, … s; 2 of 4 steps from the cache, 1 of them shared",
    ]
    assert {len(line) for line in out.splitlines() if STEP.match(line)} == {9 + 1 + 58 + 9}


@pytest.mark.parametrize(
    ("origins", "said"),
    [
        ((BUILT, BUILT, BUILT, BUILT), ""),
        ((RESTORED, RESTORED, RESTORED, BUILT), "; 3 of 4 steps from the cache"),
        ((REMOTE, REMOTE, REMOTE, REMOTE), "; 4 of 4 steps from the shared cache"),
        ((RESTORED, REMOTE, REMOTE, RESTORED), "; 4 of 4 steps from the cache, 2 of them shared"),
        ((UP_TO_DATE, UP_TO_DATE, UP_TO_DATE, BUILT), "; 3 of 4 steps up to date"),
        ((UP_TO_DATE, UP_TO_DATE, RESTORED, BUILT), "; 1 of 4 steps from the cache, 2 up to date"),
    ],
)
def test_the_last_line_tells_how_much_had_not_to_be_built(small: Small, origins: tuple[str, ...], said: str) -> None:
    about = {
        name: {"done": True} if origin == UP_TO_DATE else {"origin": origin}
        for name, origin in zip(CHAIN, origins, strict=True)
    }
    small.chain(**about)
    last = small.doit("build").succeeded().out.splitlines()[-1]
    assert untimed(last) == f"kernel.elf  1.5 MB, … s{said}"


def test_a_stage_that_tells_no_origin_was_built(small: Small) -> None:
    small.chain()
    assert small.doit("build").succeeded().steps == CHAIN


def test_with_nothing_to_do_there_is_one_line(small: Small) -> None:
    small.chain(**{name: {"done": True} for name in CHAIN})
    assert small.doit("build").succeeded().out == "kernel.elf  1.5 MB; everything is up to date\n"
    assert small.doit("patch").succeeded().out == "patch: everything is up to date\n"


@given(st.dictionaries(st.sampled_from(ORIGINS), st.integers(0, 50)))
def test_the_shares_are_those_of_the_counts(counts: dict[str, int]) -> None:
    said = shares(counts)
    cached = counts.get(RESTORED, 0) + counts.get(REMOTE, 0)
    there = counts.get(UP_TO_DATE, 0)
    numbers = [int(word) for word in re.findall(r"\d+", said)]
    assert bool(said) == bool(cached or there)
    if cached:
        assert numbers[:2] == [cached, sum(counts.values())]
        assert (f"{there} up to date" in said) == bool(there)
    elif there:
        assert numbers == [there, sum(counts.values())]
    rate = hit_rate(counts)
    assert (rate is None) == (cached + counts.get(BUILT, 0) == 0)
    assert rate is None or rate * (cached + counts.get(BUILT, 0)) == pytest.approx(cached)


# A terminal


def test_a_stage_that_runs_has_a_line_with_its_time_and_then_its_plain_one(small: Small, terminal: Terminals) -> None:
    small.chain(link={"gate": "gate", "origin": RESTORED})
    screen = terminal("build")
    first = screen.running("link")
    later = screen.running("link", first)
    assert later > first
    assert [line.split()[0] for line in screen.lines] == ["compile", "runtime", "link"]
    small.open("gate")
    assert screen.end() == 0
    plain = terminal("build", "-r", "plain")
    small.open("gate")
    assert plain.end() == 0
    assert b"\x1b" not in plain.raw
    assert untimed(screen.text) == untimed(plain.text)
    assert [line.split()[0] for line in screen.lines] == [*CHAIN, "kernel.elf"]


def test_the_screen_is_what_a_file_would_hold(small: Small, terminal: Terminals) -> None:
    small.chain(
        compile={"gate": "gate", "out": "one\ntwo\n", "err": "three\n", "said": "go says"}, link={"remark": "remarked"}
    )
    screen = terminal("build")
    screen.running("compile")
    small.open("gate")
    assert screen.end() == 0
    output = small.checkout.path("output")
    with output.open("w") as file:
        process = subprocess.Popen(
            ["doit", "build"],
            executable=Path(screen.process.args[0]),  # type: ignore[index, arg-type]
            cwd=small.checkout.folder,
            stdout=file,
            stderr=file,
        )
        small.open("gate")
        assert process.wait(timeout=30) == 0
    written = output.read_text()
    assert sorted(untimed(screen.text).splitlines()) == sorted(untimed(written).splitlines())


def test_nothing_is_loaded_for_the_terminal_if_everything_is_up_to_date(small: Small, terminal: Terminals) -> None:
    def loaded() -> bool:
        screen = terminal("build", PYTHONPROFILEIMPORTTIME="1", columns=200)
        assert screen.end() == 0
        assert b"buildsys.front.lines" in screen.raw
        return b"buildsys.front.live" in screen.raw

    small.chain(**{name: {"done": True} for name in CHAIN})
    assert not loaded()
    small.chain()
    assert loaded()


def test_colours_are_few_and_not_for_those_who_refuse_them(small: Small, terminal: Terminals) -> None:
    def shown(**environment: str) -> bytes:
        screen = terminal("build", **environment)
        screen.running("compile")
        small.open("gate")
        assert screen.end() == 1
        assert "error: no" in screen.lines
        return screen.raw

    small.chain(compile={"gate": "gate"}, runtime={"origin": REMOTE}, link={"error": "no"})
    colour = re.compile(rb"\x1b\[[0-9;]*m")
    assert set(colour.findall(shown())) == {b"\x1b[2m", b"\x1b[32m", b"\x1b[1;31m", b"\x1b[0m"}
    assert colour.findall(shown(NO_COLOR="1")) == []


@pytest.mark.parametrize("kind", ["dumb", "", "unknown"])
def test_a_terminal_that_cannot_take_a_line_back_gets_plain_ones(small: Small, terminal: Terminals, kind: str) -> None:
    small.chain(compile={"wait": 0.4}, runtime={"origin": REMOTE}, link={"error": "no"})
    screen = terminal("build", TERM=kind)
    assert screen.end() == 1
    assert b"\x1b" not in screen.raw
    assert not RUNNING.search(screen.raw.decode())


@pytest.mark.parametrize("columns", [20, 31, 40, 78])
def test_lines_fit_a_narrow_terminal(small: Small, terminal: Terminals, columns: int) -> None:
    small.chain(link={"says": "linked " + "very " * 20 + "long", "gate": "gate"})
    screen = terminal("link", columns=columns)
    screen.until(lambda text: len(text.splitlines()) == 3 and text.splitlines()[2].startswith("link      …"), "link")
    small.open("gate")
    assert screen.end() == 0
    fitting = [line for line in screen.lines if line.split()[0] in CHAIN]
    assert [line.split()[0] for line in fitting] == ["compile", "runtime", "link"]
    assert len(screen.lines) == 3
    assert all(re.search(r"\d\.\d\d s$", line) for line in fitting)
    assert "…" in fitting[-1]


def test_a_terminal_made_narrower_keeps_nothing_of_the_line(small: Small, terminal: Terminals) -> None:
    small.chain(link={"gate": "gate"})
    screen = terminal("build")
    seconds = screen.running("link")
    screen.resize(34)
    screen.running("link", seconds)
    small.open("gate")
    assert screen.end() == 0
    assert "…" not in screen.lines[2]
    assert [line.split()[0] for line in screen.lines if not line.startswith(" ")][:4] == list(CHAIN)
    assert all(len(line) < 34 for line in screen.lines[2:4])


def test_what_a_stage_writes_stands_by_itself_above_the_line(small: Small, terminal: Terminals) -> None:
    small.chain(
        compile={"gate": "one", "err": "first\n"},
        runtime={"gate": "two", "out": "warning: a\nwarning: b\n"},
    )
    screen = terminal("build")
    screen.running("compile")
    assert screen.lines[0] == "first"
    small.open("one")
    screen.running("runtime")
    assert [line.split("  ")[0] for line in screen.lines] == ["first", "compile", "warning: a", "warning: b", "runtime"]
    small.open("two")
    assert screen.end() == 0
    assert not RUNNING.search(screen.text)
    assert screen.text.count("warning") == 2


def test_a_part_of_a_line_that_a_stage_writes_is_not_taken_away(small: Small, terminal: Terminals) -> None:
    small.chain(compile={"out": "50 %", "wait": 0.4})
    screen = terminal("build")
    assert screen.end() == 0
    assert screen.lines[0].startswith("50 %compile   the compile step")


def test_a_failure_is_told_where_the_line_was(small: Small, terminal: Terminals) -> None:
    small.chain(runtime={"gate": "gate", "error": "main.go:3: no\n\nhint: yes"})
    screen = terminal("build")
    screen.running("runtime")
    small.open("gate")
    assert screen.end() == 1
    assert screen.lines[1:] == ["error: main.go:3: no", "", "hint: yes"]
    assert screen.lines[0].startswith("compile   the compile step")


def test_a_defect_leaves_its_traceback_and_no_line(small: Small, terminal: Terminals) -> None:
    small.chain(compile={"gate": "gate", "defect": "ours"})
    screen = terminal("build")
    screen.running("compile")
    small.open("gate")
    assert screen.end() == 2
    assert not RUNNING.search(screen.text)
    assert "ValueError: ours" in screen.text
    assert screen.lines[0].startswith("compile: ")


@pytest.mark.parametrize("options", [(), ("-n", "2")], ids=["one by one", "several at once"])
def test_ctrl_c_takes_the_line_away(small: Small, terminal: Terminals, options: tuple[str, ...]) -> None:
    small.chain(runtime={"gate": "gate"})
    screen = terminal(*options, "build")
    screen.running("runtime")
    screen.type(b"\x03")
    assert screen.end() == 130
    assert screen.lines[1:] == ["interrupted"]
    assert screen.lines[0].startswith("compile ")


def test_in_the_background_no_line_is_written_over_the_prompt(small: Small, terminal: Terminals) -> None:
    small.chain(compile={"wait": 0.4})
    behind = terminal(program="{doit} build & wait")
    assert behind.end() == 0
    assert not RUNNING.search(behind.raw.decode())
    assert "the compile step" in behind.text
    ahead = terminal(program="{doit} build; true")
    assert ahead.end() == 0
    assert "… 0.1 s" in ahead.raw.decode()


def test_a_command_that_has_the_terminal_is_left_alone(small: Small, terminal: Terminals) -> None:
    counting = 'for n in 1 2 3 4; do printf "$n "; sleep 0.15; done; echo five'
    small.plan({"compile": {"gate": "gate"}}, {"count": counting}, "compile", "count")
    screen = terminal("-n", "2", "build")
    screen.until(lambda text: "five" in text, "the command's output")
    screen.running("compile")  # now that it is over
    assert "1 2 3 4 five" in screen.lines
    small.open("gate")
    assert screen.end() == 0
    assert "1 2 3 4 five" in screen.lines
    assert not RUNNING.search(screen.text)


# Several at once

SLOW_FIRST: dict[str, dict[str, Any]] = {
    "a1": {"gate": "gate", "says": "first"},
    "b1": {"says": "second"},
    "a2": {"says": "third", "after": ["a1"]},
    "b2": {"says": "fourth", "after": ["b1"], "origin": RESTORED},
    "c": {"says": "none", "done": True},
}


@pytest.mark.parametrize("number", ["1", "2", "4"])
def test_several_at_once_are_told_in_the_order_of_one_by_one(small: Small, number: str) -> None:
    small.plan(SLOW_FIRST, {}, "a2", "b2", "c")

    def lines(*options: str) -> str:
        process = small.checkout.start(*options, "build")
        small.open("gate")
        out, err = process.communicate(timeout=30)
        assert (process.returncode, err) == (0, "")
        return untimed(out)

    expected = lines()
    assert expected.count("\n") == 4
    for _ in range(5):
        assert lines("-n", number) == expected


def test_what_is_done_before_its_turn_waits_for_it(small: Small, terminal: Terminals) -> None:
    done = small.checkout.path("done")
    last = f"touch {done}"
    small.plan(SLOW_FIRST, {"last": last}, "a2", "b2", "last", "c")
    screen = terminal("-n", "2", "build")
    screen.until(lambda text: done.exists() and RUNNING.search(text), "the end of all others")
    assert [line.split()[:2] for line in screen.lines] == [["a1", "…"]]
    small.open("gate")
    assert screen.end() == 0
    assert [line.split()[1] for line in screen.lines[:4]] == ["first", "second", "third", "restored"]


def test_the_line_tells_how_many_more_run(small: Small, terminal: Terminals) -> None:
    small.plan({name: {"gate": name + ".gate"} for name in "abc"}, {}, *"abc")
    screen = terminal("-n", "3", "build")
    screen.until(lambda text: ", and 2 more" in text, "three at once")
    for name in "cba":
        small.open(name + ".gate")
    assert screen.end() == 0
    assert [line[0] for line in screen.lines] == ["a", "b", "c", "k"]


@given(st.permutations("abcdefg"), st.integers(0, 7))
def test_everybody_speaks_once_and_in_turn(order: list[str], heard: int) -> None:
    said: list[str] = []
    turns = Turns("abcdefg")
    for number, name in enumerate(order[:heard]):
        # One in three has nothing to say, which must not hold the others up.
        say = (lambda name=name: said.append(name)) if number % 3 else None
        for each in turns.next(name, say):
            each()
        assert said == sorted(said)
    for each in turns.rest():
        each()
    assert said == sorted(name for number, name in enumerate(order[:heard]) if number % 3)


# Quiet


def test_quiet_is_silent_if_all_goes_well(small: Small, terminal: Terminals) -> None:
    small.chain(link={"remark": "r", "origin": REMOTE})
    assert small.doit("build", "-r", "quiet").succeeded().out == ""
    screen = terminal("-r", "quiet", "build")
    assert screen.end() == 0
    assert screen.raw == b""


def test_quiet_tells_failures_and_what_is_ignored(small: Small) -> None:
    small.chain(link={"error": "no\n\nhint: yes"})
    done = small.doit("build", "-r", "quiet")
    assert (done.status, done.out, done.err) == (1, "", "error: no\n\nhint: yes\n")
    small.doit("ignore", "runtime").succeeded()
    done = small.doit("build", "-r", "quiet")
    assert (done.status, done.out) == (0, "")
    assert re.fullmatch(r"runtime: ignored, .*\n", done.err)


# JSON


def test_every_stage_is_an_event_as_it_begins_and_as_it_ends(small: Small) -> None:
    small.chain(
        compile={"done": True},
        runtime={"origin": RESTORED, "because": "src/main.go changed"},
        link={"origin": REMOTE, "remark": "3 passes"},
        patch={"said": "see"},
    )
    told = events(small.doit("build", "-r", "json").succeeded())
    assert [(each["event"], each.get("name")) for each in told] == [
        ("stage", "compile"),
        *((event, name) for name in CHAIN[1:] for event in ("start", "stage")),
        ("done", None),
    ]
    stages = {each["name"]: each for each in told if each["event"] == "stage"}
    assert [stages[name]["origin"] for name in CHAIN] == [UP_TO_DATE, RESTORED, REMOTE, BUILT]
    assert stages["runtime"]["because"] == "src/main.go changed"
    assert (stages["link"]["remark"], stages["patch"]["said"]) == ("3 passes", "see")
    assert all(isinstance(each["seconds"], int | float) for each in stages.values())
    done = told[-1]
    assert untimed(done.pop("text")) == (
        "kernel.elf  1.5 MB, … s; 2 of 4 steps from the cache, 1 of them shared, 1 up to date"
    )
    assert done.pop("seconds") >= 0
    assert done == {
        "event": "done", "ok": True, "stages": 4, "built": 1, "restored": 1, "remote": 1, "up_to_date": 1,
        "hit_rate": 0.667,
    }  # fmt: skip


def test_an_event_comes_when_it_happens(small: Small) -> None:
    small.chain(link={"gate": "gate"})
    process = small.checkout.start("build", "-r", "json")
    assert process.stdout is not None
    came = [json.loads(process.stdout.readline()) for _ in range(5)]
    assert (came[-1]["event"], came[-1]["name"]) == ("start", "link")
    assert process.poll() is None
    small.open("gate")
    out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, "")
    assert json.loads(out.splitlines()[-1])["ok"] is True


def test_a_failure_is_an_event_and_an_error(small: Small) -> None:
    small.chain(link={"error": "no\n\nhint: yes"})
    done = small.doit("build", "-r", "json")
    assert (done.status, done.err) == (1, "error: no\n\nhint: yes\n")
    *_, failed, end = events(done)
    assert failed == {"event": "failed", "name": "link", "error": "no\n\nhint: yes", "exit_status": None}
    assert (end["event"], end["ok"], end["text"], end["built"]) == ("done", False, "", 2)


def test_an_interrupted_build_ends_not_ok(small: Small) -> None:
    small.chain(link={"gate": "gate"})
    process = small.checkout.start("build", "-r", "json")
    assert process.stdout is not None
    while json.loads(process.stdout.readline()) != {"event": "start", "name": "link"}:
        pass
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (130, "interrupted\n")
    [end] = [json.loads(line) for line in out.splitlines()]
    assert (end["event"], end["ok"], end["stages"]) == ("done", False, 2)


@pytest.mark.parametrize("options", [(), ("-n", "2")], ids=["one by one", "several at once"])
def test_what_others_write_to_standard_output_is_no_event(small: Small, options: tuple[str, ...]) -> None:
    small.plan({"compile": {"out": "from Python\n"}}, {"talk": "echo from a shell"}, "compile", "talk")
    done = small.doit(*options, "build", "-r", "json")
    assert {each["event"] for each in events(done)} == {"start", "stage", "task", "done"}
    assert sorted(done.err.splitlines()) == ["from Python", "from a shell"]


def test_events_are_the_same_in_a_file_and_with_several_at_once(small: Small) -> None:
    small.chain(link={"origin": REMOTE})
    expected = re.sub(r"\d+\.\d+", "", small.doit("build", "-r", "json").succeeded().out)
    assert small.doit("-o", "file", "build", "-r", "json").succeeded().out == ""
    for text in (small.checkout.path("file").read_text(), small.doit("-n", "4", "-r", "json", "build").out):
        assert re.sub(r"\d+\.\d+", "", text) == expected


def test_a_reader_of_events_that_goes_away_does_not_end_the_build(small: Small) -> None:
    small.chain(compile={"gate": "gate"}, patch={"gate": "last"})
    process = small.checkout.start("build", "-r", "json")
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["name"] == "compile"
    process.stdout.close()
    small.open("gate")
    small.open("last")  # blocks until the last stage, which is reached
    assert process.wait(timeout=30) == 0
    assert process.stderr is not None
    assert process.stderr.read() == ""
    process.stderr.close()


# Choosing

ANYWHERE = [
    ("-r", "quiet", "build"),
    ("build", "-r", "quiet"),
    ("build", "--reporter", "quiet"),
    ("--reporter=quiet", "build"),
    ("build", "--reporter=quiet"),
    ("run", "build", "-r", "quiet"),
    ("-r", "quiet"),
]


@pytest.mark.parametrize("arguments", ANYWHERE, ids=" ".join)
def test_the_reporter_may_stand_anywhere(small: Small, arguments: tuple[str, ...]) -> None:
    small.chain()
    assert small.doit(*arguments).succeeded().out == ""


def test_the_environment_chooses_and_the_command_line_overrules_it(small: Small) -> None:
    small.chain()
    assert small.doit("build", BUILDSYS_PROGRESS="quiet").succeeded().out == ""
    assert small.doit("build", BUILDSYS_PROGRESS="").succeeded().steps == CHAIN
    assert small.doit("build", "-r", "plain", BUILDSYS_PROGRESS="quiet").succeeded().steps == CHAIN


@pytest.mark.parametrize(("typed", "nearest"), [("quite", "quiet"), ("jsn", "json"), ("buildsy", "buildsys")])
def test_a_reporter_that_does_not_exist_is_answered_with_the_nearest(small: Small, typed: str, nearest: str) -> None:
    small.chain()
    for done, where in (
        (small.doit("build", "-r", typed), "--reporter"),
        (small.doit("build", BUILDSYS_PROGRESS=typed), "BUILDSYS_PROGRESS"),
    ):
        assert done.refused(where, f"'{typed}'", "hint:") == (
            f"error: {where} cannot be '{typed}'\n\nhint: did you mean `{nearest}`?\n"
        )
        assert done.out == ""


def test_what_is_near_none_is_answered_with_all(small: Small) -> None:
    small.chain()
    message = small.doit("build", "-r", "xyzzy").refused("'xyzzy'")
    assert {"buildsys", "json", "plain", "quiet", "console"} <= set(re.findall(r"[\w-]+", message))


def test_doits_own_reporters_are_still_there(small: Small) -> None:
    small.chain()
    assert ".  compile" in small.doit("build", "-r", "console").succeeded().out
