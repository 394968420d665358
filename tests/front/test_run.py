"""Booting what was built: what the guest says and how it ends is what the user sees and what `doit` exits with."""

from __future__ import annotations

import re
import subprocess

import pytest

from buildsys.front.boot import SerialText
from tests.front.conftest import DOIT, Checkout

BOTH = pytest.mark.parametrize("command", ["run", "run-qemu"])
SEED = (
    "Testing write barrier...",
    "Write barrier flag: enabled",
    "SUCCESS: Global pointer assignment works!",
    "Heap initialized at RAM region",
    "All tests passed! Exiting via semihosting...",
)
GREETING = 'console := uart.At(given.UART)\nconsole.Puts("one\\r\\ntwo →\\r\\n")'
UART = 'import "kernel/uart"\n'
FOREVER = """
for {
	number++
}
return 0"""
TICKING = """
for {
	number++
	if number%100000 == 0 {
		uart.At(given.UART).Puts("tick\\r\\n")
	}
}
return 0"""
DEEP = """
//go:noinline
func deep(n uintptr) uintptr {
	if n == 0 {
		return 1
	}
	return deep(n-1)*3 + n
}
"""


@pytest.mark.parametrize(
    "arguments", [("run",), ("run-embedded",), ("run-qemu",), ("run", "run-qemu"), ("-n", "2", "run-qemu")]
)
def test_the_reference_kernel_says_what_the_seed_said_and_exits_with_0(
    checkout: Checkout, arguments: tuple[str, ...]
) -> None:
    done = checkout.doit(*arguments)
    assert done.status == 0
    assert tuple(line for line in done.out.splitlines() if line in SEED) == SEED
    assert re.fullmatch(r"(the guest exited with status 0 after \d+\.\d\d s\nstacks: at least .* used\n)+", done.err)


def test_run_builds_first_and_with_a_task_it_is_that_task(fresh: Checkout) -> None:
    assert fresh.doit("run").steps == ("compile", "runtime", "link", "patch")
    assert fresh.doit("run", "build").succeeded().out.endswith("everything is up to date\n")


def test_run_takes_the_options_of_its_task(checkout: Checkout) -> None:
    checkout.kernel(FOREVER)
    done = checkout.doit("run", "--time-limit", "0.2")
    assert done.status == 124
    assert "0.2 s" in done.err


@BOTH
def test_the_exit_status_is_the_guests(checkout: Checkout, command: str) -> None:
    checkout.kernel("return 7")
    done = checkout.doit(command)
    assert done.status == 7
    assert re.fullmatch(r"the guest exited with status 7 after \d+\.\d\d s\nstacks: at least .* used\n", done.err)


@BOTH
def test_a_kernel_that_hangs_is_ended_by_the_time_limit(checkout: Checkout, command: str) -> None:
    checkout.set("time-limit = 0.5")
    checkout.kernel(FOREVER)
    done = checkout.doit(command)
    assert done.status == 124
    assert re.match(
        r"ended by the time limit of 0\.5 s \(--time-limit, or time-limit in \[tool\.buildsys\]\)", done.err
    )
    assert re.search(r"(?m)^it was running\n  pc .* main\.KernelMain", done.err)
    assert checkout.left() == []


@BOTH
@pytest.mark.parametrize(
    ("body", "message", "function"),
    [
        ('panic("no")\nreturn 0', "panic: no", "runtime.gopanic"),
        (
            "return table[given.Size]",
            r"panic: runtime error: index out of range \[\d+\] with length \d+",
            "runtime.panicBounds",
        ),
        (
            "return int32(given.Size / uintptr(number))",
            "panic: runtime error: integer divide by zero",
            "runtime.panicdivide",
        ),
    ],
)
def test_a_kernel_that_panics_exits_with_2_and_says_why(
    checkout: Checkout, command: str, body: str, message: str, function: str
) -> None:
    checkout.kernel(body)
    done = checkout.doit(command)
    assert done.status == 2
    assert re.search(rf"(?m)^{message}\n\ngoroutine 1 \[running\]:\nmain\.KernelMain\(", done.out)
    checkout.set("sets = []")  # without the set that tells it in Go's words, it tells who was called
    done = checkout.doit(command)
    assert done.status == 2
    assert re.search(rf"(?m)^fatal: {re.escape(function)} called from 0x[0-9a-f]{{16}}$", done.out)


@BOTH
def test_a_kernel_that_recurses_too_deep_says_that_the_stack_is_full(checkout: Checkout, command: str) -> None:
    checkout.kernel("return int32(deep(given.Size << 20))", DEEP)
    done = checkout.doit(command)
    assert done.status == 2
    assert re.search(r"(?m)^fatal error: stack overflow\n\ngoroutine 1 \[running\]:\nmain\.deep\(", done.out)


@BOTH
def test_a_nil_dereference_exits_with_2_and_shows_the_exception(checkout: Checkout, command: str) -> None:
    checkout.kernel("return *pointer")
    done = checkout.doit(command)
    assert done.status == 2
    assert "\npanic: runtime error: invalid memory address or nil pointer dereference\n" in done.out
    # Arm ARM, ESR_EL1: class 0x25 is a data abort without a change of level; DFSC 0b0001xx a translation fault.
    found = re.search(r"(?m)^exception: ESR_EL1 0x(\w{16}) ELR_EL1 0x(\w{16}) FAR_EL1 0x(\w{16})$", done.out)
    assert found
    syndrome, _, address = (int(value, 16) for value in found.groups())
    assert syndrome >> 26 == 0x25
    assert syndrome >> 2 & 0xF == 1
    assert address == 0


def test_both_emulators_show_the_same_exception(checkout: Checkout) -> None:
    checkout.kernel("return *pointer")
    checkout.doit("build").succeeded()
    assert checkout.doit("run").out == checkout.doit("run-qemu").out


@BOTH
def test_serial_output_is_text_lines_whatever_pieces_it_comes_in(checkout: Checkout, command: str) -> None:
    checkout.kernel(f'{GREETING}\nconsole.Puts("no end")\nreturn 0', UART)
    checkout.doit("build").succeeded()
    assert checkout.doit(command).out == "one\ntwo →\nno end\n"


@BOTH
def test_output_appears_while_the_guest_runs(checkout: Checkout, command: str) -> None:
    checkout.kernel(GREETING + FOREVER, UART)
    checkout.doit("build").succeeded()
    process = checkout.start(command, "--time-limit", "30")
    try:
        assert process.stdout is not None
        assert [process.stdout.readline(), process.stdout.readline()] == ["one\n", "two →\n"]
        assert process.poll() is None
    finally:
        process.terminate()
        process.communicate()


@BOTH
@pytest.mark.parametrize("options", ["", "-n 2 "])
def test_a_reader_that_goes_away_ends_the_run_in_silence(checkout: Checkout, command: str, options: str) -> None:
    checkout.kernel(TICKING, UART)
    checkout.doit("build").succeeded()
    task = command if options == "" else {"run": "run-embedded"}.get(command, command)
    done = subprocess.run(
        ["sh", "-c", f"{{ {DOIT} {options}{task}; echo $? >&2; }} | head -1"],
        cwd=checkout.folder, env=checkout.variables, capture_output=True, text=True, check=True, timeout=30,
    )  # fmt: skip
    assert done.stdout == "tick\n"
    assert done.stderr == "141\n"
    assert checkout.left() == []


def test_without_qemu_the_message_says_how_to_install_it(checkout: Checkout) -> None:
    checkout.doit("run-qemu", PATH="/nonexistent").refused("qemu-system-aarch64", "apt-get install", "qemu-system-arm")
    assert checkout.doit("run", PATH="/nonexistent").status == 0


def test_a_run_does_not_boot_an_image_older_than_its_sources(checkout: Checkout) -> None:
    checkout.append("src/main.go", "func (")
    assert "SUCCESS" not in checkout.doit("run").out
    assert checkout.doit("run").status == 1


def test_serial_text_holds_back_what_is_not_whole_yet() -> None:
    text = SerialText()
    assert [text.add(bytes([byte])) for byte in "é\r\n\rx".encode()] == ["", "é", "", "\n", "", "\rx"]
    assert (text.add(b"\r"), text.at_line_start, text.end(), text.at_line_start) == ("", False, "\r", False)
