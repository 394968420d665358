"""Ctrl-C, kill, and the worst: at any moment a build or a run ends in one line, and nothing of it goes on.

What was built before stays, what was finished is not done again, and the next build is right.
"""

from __future__ import annotations

import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.conftest import copy_project
from tests.front.conftest import Checkout, in_terminal, wait_for

ASKED = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
SEVERAL = ("-n", "2")
OPTIONS = pytest.mark.parametrize("options", [(), SEVERAL], ids=["one by one", "several at once"])
# Python, when it ends, takes handlers back: a signal then is one to it, and it says nothing.
SILENT = {0, -signal.SIGINT, -signal.SIGTERM}

FOREVER = "for {\n\tnumber++\n}\nreturn 0"
GREETING = 'uart.At(given.UART).Puts("here\\r\\n")\n'


def change(checkout: Checkout) -> None:
    """Have everything to do again."""
    checkout.replace("src/main.go", "Testing write barrier...", "Testing write barriers..")
    checkout.own_templates()
    checkout.replace("templates/boot.s.j2", "_start:\n", "_start:\n    nop\n")


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The image a clean build makes after `change`."""
    folder = tmp_path_factory.mktemp("whole")
    checkout = Checkout(copy_project(folder / "project"), folder)
    change(checkout)
    checkout.doit("build").succeeded()
    return checkout.image


@pytest.fixture
def busy(checkout: Checkout) -> Iterator[Checkout]:
    """A built checkout with everything to do again; at the end nothing started in it is left."""
    change(checkout)
    yield checkout
    assert checkout.left() == []


def parts(checkout: Checkout) -> list[str]:
    """Files of which only a part was written."""
    return [
        name for name in checkout.artifacts() if name.endswith((".partial", ".compiling", ".linking", ".assembling"))
    ]


def shown(process: subprocess.Popen[str], words: str) -> Callable[[], bool]:
    """Whether a line with these words has come; waits for it."""
    output = process.stdout
    assert output is not None
    return lambda: any(words in line for line in iter(output.readline, ""))


ALL = ("compile", "runtime", "link", "patch")
# Each is a moment in a build: how it is told, and how many steps are done by then.
MOMENTS = {
    "go lists": ("process:go list", 0),
    "go compiles": ("process:bin/go build", 0),
    "go links": ("process:/link -o", 0),
    "compiled": ("line:compile", 1),
    "linking": ("line:runtime", 2),
    "patching": ("line:link", 3),
}


def descended(process: int) -> Iterator[str]:
    """The command lines of what `process` has started, and what that has: a linker is gone in some 50 ms.

    To ask every process of the machine takes so long that it can be missed.
    """
    for children in Path(f"/proc/{process}/task").glob("*/children"):
        with suppress(OSError):  # it has ended meanwhile
            for child in map(int, children.read_text().split()):
                yield Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").decode()
                yield from descended(child)


def at(moment: str, checkout: Checkout, process: subprocess.Popen[str]) -> None:
    """Return at that moment of the build `process`."""
    kind, words = MOMENTS[moment][0].split(":")
    if kind == "line":
        wait_for(shown(process, words), moment)
    else:
        wait_for(lambda: any(words in command for command in descended(process.pid)), moment)


def begun(process: subprocess.Popen[str]) -> None:
    """Return once `doit` has seen to signals. Python leaves SIGTERM alone, so that is when it is caught."""

    def caught() -> bool:
        status = Path(f"/proc/{process.pid}/status").read_text()
        found = re.search(r"(?m)^SigCgt:\s+(\w+)$", status)
        return found is not None and bool(int(found[1], 16) >> signal.SIGTERM - 1 & 1)

    wait_for(caught, "a handler for SIGTERM")


@pytest.mark.parametrize(
    ("moment", "number", "options"),
    [
        *((moment, signal.SIGINT, ()) for moment in MOMENTS if moment != "go lists"),
        *((moment, signal.SIGTERM, ()) for moment in ("go links", "linking")),
        *((moment, signal.SIGINT, SEVERAL) for moment in ("go compiles", "linking", "patching")),
        *((moment, signal.SIGTERM, SEVERAL) for moment in ("go links", "compiled")),
    ],
    ids=lambda value: value.name if isinstance(value, signal.Signals) else str(value) if value else "",
)
def test_an_interrupted_build_says_so_in_one_line_and_the_next_is_right(
    busy: Checkout,
    whole: bytes,
    moment: str,
    number: signal.Signals,
    options: tuple[str, ...],
) -> None:
    before = busy.image
    process = busy.start(*options, "build")
    at(moment, busy, process)
    process.send_signal(number)
    _, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (130, "interrupted\n")
    assert busy.left() == parts(busy) == []
    left = busy.image
    done = busy.doit(*options, "build").succeeded().steps
    assert busy.image == whole != before
    if options:  # what another thread is at when the signal comes it may still finish
        assert left in (before, whole)
        assert done in [ALL[steps:] for steps in range(MOMENTS[moment][1], len(ALL) + 1)]
    else:
        assert left == before
        assert done == ALL[MOMENTS[moment][1] :]


@pytest.mark.parametrize(
    ("number", "options"),
    [(signal.SIGINT, ()), (signal.SIGTERM, ()), (signal.SIGINT, SEVERAL)],
    ids=["SIGINT", "SIGTERM", "SIGINT, several at once"],
)
def test_whenever_a_signal_comes_there_is_a_line_or_silence_and_nothing_left(
    busy: Checkout, whole: bytes, number: signal.Signals, options: tuple[str, ...]
) -> None:
    finished, interrupted = 0, 0
    delay = 0.005
    while not finished:
        busy.append("src/main.go", f"// {delay}\n")
        process = busy.start(*options, "build")
        begun(process)
        time.sleep(delay)
        process.send_signal(number)
        out, err = process.communicate(timeout=20)
        assert err in ("", "interrupted\n"), f"after {delay} s: {err}"
        assert process.returncode == 130 if err else process.returncode in SILENT
        assert busy.left() == []
        interrupted += bool(err)
        finished += "sites patched" in out
        delay *= 1.6
    assert interrupted > 3
    busy.doit("build").succeeded()
    assert busy.image == whole
    assert parts(busy) == []


@pytest.mark.parametrize("moment", MOMENTS)
def test_after_a_kill_the_next_build_is_right_and_does_not_redo_what_was_finished(
    busy: Checkout, whole: bytes, moment: str
) -> None:
    if moment == "go lists":
        busy.append("src/go.mod", "// so what belongs to the package is asked again\n")
    process = busy.start("build")
    at(moment, busy, process)
    process.kill()
    process.communicate()
    done = busy.doit("build").succeeded()
    assert done.steps == ALL[MOMENTS[moment][1] :]
    assert busy.image == whole
    wait_for(lambda: not busy.left(), "the end of what was orphaned")
    assert busy.doit("build").succeeded().steps == ()


@ASKED
@OPTIONS
@pytest.mark.parametrize("task", ["run-embedded", "run-qemu"])
def test_an_interrupted_run_says_so_in_one_line_and_leaves_no_emulator(
    checkout: Checkout, task: str, number: signal.Signals, options: tuple[str, ...]
) -> None:
    checkout.kernel(GREETING + FOREVER, 'import "kernel/uart"\n')
    checkout.doit("build").succeeded()
    process = checkout.start(*options, task, "--time-limit", "30")
    wait_for(shown(process, "here"), "the guest")
    process.send_signal(number)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert re.fullmatch(r"interrupted(: .*)?\n", err)
    if options:  # QEMU dies with the thread that waits for it, which is not waited for
        wait_for(lambda: not checkout.left(), "the end of QEMU", 2)
    assert checkout.left() == []


def test_a_killed_run_takes_qemu_with_it(checkout: Checkout) -> None:
    checkout.kernel(GREETING + FOREVER, 'import "kernel/uart"\n')
    checkout.doit("build").succeeded()
    process = checkout.start("run-qemu", "--time-limit", "30")
    wait_for(shown(process, "here"), "the guest")
    assert any("qemu-system-aarch64" in command for command in checkout.left())
    process.kill()
    process.communicate()
    wait_for(lambda: not checkout.left(), "the end of QEMU")


@pytest.mark.parametrize("command", [("run",), ("run-qemu",), ("-n", "2", "run-qemu")], ids=" ".join)
def test_ctrl_c_in_a_terminal_ends_a_run_and_leaves_the_terminal_as_it_was(
    checkout: Checkout, command: tuple[str, ...]
) -> None:
    checkout.kernel(GREETING + FOREVER, 'import "kernel/uart"\n')
    checkout.doit("build").succeeded()
    terminal = in_terminal(checkout, *command, at="here", keys=b"\x03\x03")
    assert (terminal.status, terminal.same) == (130, True)
    assert terminal.shown.count("interrupted") == 1
    assert "Traceback" not in terminal.shown
    wait_for(lambda: not checkout.left(), "the end of the emulator", 2)


@OPTIONS
def test_ctrl_c_in_a_terminal_again_and_again_ends_a_build_once(busy: Checkout, options: tuple[str, ...]) -> None:
    before = busy.image
    terminal = in_terminal(busy, *options, "build", at="runtime", keys=b"\x03\x03\x03")
    assert (terminal.status, terminal.same) == (130, True)
    assert terminal.shown.count("interrupted") == 1
    assert "Traceback" not in terminal.shown
    assert busy.image == before


def test_a_build_in_the_background_is_not_ended_by_ctrl_c(busy: Checkout) -> None:
    """A shell without job control starts it with SIGINT ignored, and so it must stay."""
    process = busy.start("build", ignoring=signal.SIGINT)
    wait_for(shown(process, "compile"), "the first step")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (0, "")
    assert "sites patched" in out


def test_a_build_in_the_background_is_ended_by_a_request(busy: Checkout) -> None:
    process = busy.start("build", ignoring=signal.SIGINT)
    wait_for(shown(process, "compile"), "the first step")
    process.terminate()
    _, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (130, "interrupted\n")


@pytest.mark.parametrize("command", ["list", "clean", "help", "forget"])
def test_other_commands_are_interrupted_in_silence_or_in_one_line(busy: Checkout, command: str) -> None:
    for delay in (0, 0.02, 0.04, 0.08):
        process = busy.start(command)
        begun(process)
        time.sleep(delay)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
        assert err in ("", "interrupted\n"), f"after {delay} s"
        assert process.returncode in {130, *SILENT}
    busy.doit("build").succeeded()
