"""Completion, asked of the program itself and by the Tab key in real shells."""

from __future__ import annotations

import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pyte
import pytest

from buildsys.config import board as boards
from buildsys.front.completion import SHELLS
from buildsys.proof.claims import CLAIMS
from tests.front.conftest import Checkout

BIN = Path(sys.executable).parent
PROMPT = "ready>"
STARTS = {
    "bash": ["bash", "--noprofile", "--norc", "-i"],
    "zsh": ["zsh", "-f", "-i"],
    "fish": ["fish", "--no-config", "-i"],
}
SET_UP = {
    "bash": f'PS1="{PROMPT} "; bind "set enable-bracketed-paste off"; eval "$(buildsys completion bash)"',
    "zsh": f'PS1="{PROMPT} "; autoload -U compinit; compinit -u -D; eval "$(buildsys completion zsh)"',
    "fish": f'function fish_prompt; echo -n "{PROMPT} "; end; function fish_right_prompt; end; '
    "set fish_greeting; set -g fish_autosuggestion_enabled 0; buildsys completion fish | source",
}


def answer(checkout: Checkout, line: str) -> dict[str, str]:
    """What is answered for a line: words, and what is said of each."""
    done = subprocess.run(
        [BIN / "buildsys", "complete", line],
        cwd=checkout.folder,
        env=checkout.variables,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return dict((line + "\t").split("\t")[:2] for line in done.stdout.splitlines())


def test_every_task_is_offered_with_its_sentence(reference: Checkout) -> None:
    listed = reference.doit("list").succeeded().out
    tasks = dict(re.split(" +", line, maxsplit=1) for line in listed.splitlines())
    offered = answer(reference, "doit ")
    assert tasks.items() <= offered.items()
    assert {"list", "help", "clean"} <= offered.keys()
    assert answer(reference, "./dev veri") == {"verify": tasks["verify"]}


def test_options_are_those_of_the_task_before(reference: Checkout) -> None:
    assert {"--claim", "--details", "-v", "--strict"} <= answer(reference, "doit verify -").keys()
    assert answer(reference, "doit build --") == {}
    assert answer(reference, "doit verify --cl").keys() == {"--claim"}


def test_values_are_those_of_the_option_before(reference: Checkout) -> None:
    assert answer(reference, "doit verify --claim ") == {claim.name: claim.title for claim in CLAIMS}
    assert answer(reference, "doit watch --machine=q").keys() == {"--machine=qemu"}
    assert answer(reference, "doit matrix --toolchain zig,l").keys() == {"zig,llvm"}
    assert answer(reference, "doit -r j").keys() == {"json"}
    assert answer(reference, "doit size --compare l").keys() == {"last"}


def test_words_are_steps_functions_packages_and_topics(reference: Checkout) -> None:
    assert {"build", "compile", "link"} <= answer(reference, "doit why ").keys()
    assert "main.KernelMain" in answer(reference, "doit reach main.K")
    assert "kernel/uart" in answer(reference, "doit size kernel/")
    assert "too-big" in answer(reference, "doit help-topics t")


def test_boards_are_offered_to_who_begins_a_kernel(reference: Checkout) -> None:
    assert set(answer(reference, "buildsys new --board ")) == set(boards.names())
    assert answer(reference, "buildsys comp").keys() == {"completion"}
    assert set(answer(reference, "buildsys completion ")) == set(SHELLS)


def test_each_of_several_kernels_is_offered(tmp_path: Path) -> None:
    folder = tmp_path / "two"
    subprocess.run([BIN / "buildsys", "new", folder], check=True, capture_output=True)
    settings = folder / "buildsys.toml"
    settings.write_text(settings.read_text() + '\n[kernel.one]\n[kernel.two]\nboard = "raspi3b"\n')
    assert {"build", "build:one", "build:two"} <= answer(Checkout(folder, tmp_path), "doit b").keys()


@pytest.mark.parametrize("text", ["raise SystemExit('no')", "print('noise')\nthis is no Python", ""])
def test_where_nothing_can_be_known_nothing_is_said(text: str, tmp_path: Path) -> None:
    if text:
        (tmp_path / "dodo.py").write_text(text)
    checkout = Checkout(tmp_path, tmp_path)
    for line in ("doit ", "doit verify --claim ", "doit reach ", "", "unknown "):
        assert answer(checkout, line) == {}


def test_a_shell_that_is_not_known_is_refused() -> None:
    done = subprocess.run([BIN / "buildsys", "completion", "fsh"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: there is no completion for 'fsh'\n\nhint: did you mean `fish`?\n"


class Shell:
    """A shell in a terminal, with completion set up as a user does it."""

    def __init__(self, name: str, checkout: Checkout) -> None:
        self._screen = pyte.Screen(100, 50)
        self._stream = pyte.ByteStream(self._screen)
        self._ours, theirs = os.openpty()
        environment = {**checkout.variables, "TERM": "xterm", "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
        environment |= {"HOME": str(checkout.temporary), "LINES": "50", "COLUMNS": "100"}

        def enter() -> None:
            os.setsid()
            import fcntl
            import struct
            import termios

            fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)
            fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 100, 0, 0))
            signal.signal(signal.SIGINT, signal.SIG_DFL)

        self.process = subprocess.Popen(
            STARTS[name], cwd=checkout.folder, env=environment, stdin=theirs, stdout=theirs, stderr=theirs,
            preexec_fn=enter,
        )  # fmt: skip
        os.close(theirs)
        self.type(SET_UP[name] + "; clear\n")
        self.until(rf"\A\s*{PROMPT} *\Z")

    @property
    def text(self) -> str:
        return "\n".join(line.rstrip() for line in self._screen.display).strip("\n")

    def type(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    def until(self, pattern: str) -> str:
        """What is on the screen once `pattern` is."""
        deadline = time.monotonic() + 30
        while not re.search(pattern, self.text):
            assert time.monotonic() < deadline, f"{pattern} has not come:\n{self.text}"
            if select.select([self._ours], [], [], 0.5)[0]:
                self._stream.feed(os.read(self._ours, 65536))
        return self.text

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._ours)


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest, reference: Checkout) -> Iterator[Shell]:
    if shutil.which(request.param) is None:
        pytest.skip(f"{request.param} is not installed: apt-get install --no-install-recommends {request.param}")
    shell = Shell(request.param, reference)
    yield shell
    shell.close()


def test_tab_completes_in_the_shell(shell: Shell) -> None:
    for typed, completed in (
        ("doit verif", "doit verify "),
        ("doit verify --cl", "doit verify --claim "),
        ("doit verify --claim call-", "doit verify --claim call-sites "),
        ("doit watch --machine=qe", "doit watch --machine=qemu"),
        ("buildsys new --board ras", "buildsys new --board raspi3b "),
    ):
        shell.type(typed + "\t")
        shell.until(re.escape(f"{PROMPT} {completed}".rstrip()))
        shell.type("\x15\x0c")  # Ctrl-U Ctrl-L: an empty line on an empty screen
        shell.until(rf"\A\s*{PROMPT} *\Z")


def test_two_tabs_show_what_there_is(shell: Shell) -> None:
    shell.type("doit run-\t\t")
    shown = shell.until("(?s)run-embedded.*run-qemu")
    assert "run-qemu" in shown
    assert "error" not in shown


def test_a_kernels_own_task_is_completed_behind_its_colon(tmp_path: Path) -> None:
    folder = tmp_path / "two"
    subprocess.run([BIN / "buildsys", "new", folder], check=True, capture_output=True)
    settings = folder / "buildsys.toml"
    settings.write_text(settings.read_text() + '\n[kernel.first]\n[kernel.second]\nboard = "raspi3b"\n')
    for name in SHELLS:
        if shutil.which(name) is None:
            pytest.skip(f"{name} is not installed: apt-get install --no-install-recommends {name}")
        shell = Shell(name, Checkout(folder, tmp_path))
        try:
            shell.type("doit build:sec\t")
            shell.until(re.escape(f"{PROMPT} doit build:second"))
        finally:
            shell.close()
