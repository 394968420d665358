"""A user at work: copies of the project, `doit` run in them as a user runs it, and what that leaves behind."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import resource
import select
import shutil
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import copy_project

DOIT = Path(sys.executable).with_name("doit")
STEP = re.compile(r"^(\w+) .* \d+\.\d\d s$", re.MULTILINE)
# A record made right after its file cannot trust the file's time yet; the next look at it can.
SETTLED = 0.05

KERNEL = """package main

import "kernel/board"
{declared}
var number int32
var pointer *int32
var table [4]int32

func main() {{
	KernelMain(nil)
}}

//go:noinline
func KernelMain(given *board.Table) int32 {{
{body}
}}
"""


@dataclass(frozen=True)
class Done:
    """A `doit` that ended: exit status, and all it wrote."""

    status: int
    out: str
    err: str

    @property
    def steps(self) -> tuple[str, ...]:
        """The steps that were done, by their lines."""
        return tuple(line[1] for line in STEP.finditer(self.out) if line[1] != "build")

    def succeeded(self) -> Done:
        """Itself, having exited with 0 and complained of nothing."""
        assert self.status == 0, self.err or self.out
        assert self.err == ""
        return self

    def refused(self, *words: str) -> str:
        """What it complained of: one message, without a traceback, that holds every one of `words`."""
        assert self.status != 0, self.out
        assert "Traceback" not in self.err + self.out
        message = self.err
        assert len(re.findall(r"(?im)^(error|interrupted)\b", message)) == 1, message
        for word in words:
            assert word in message, f"{word!r} is not said in:\n{message}"
            assert message.count(word) == 1 or len(word) < 20, f"{word!r} is said twice in:\n{message}"
        return message


@dataclass(frozen=True)
class Checkout:
    """A copy of the project in a folder of its own.

    Everything started in it can be told from other processes: `temporary` is its TMPDIR, which every tool inherits.
    """

    folder: Path
    temporary: Path

    def doit(self, *arguments: str, largest_file: int | None = None, **environment: str) -> Done:
        """Run `doit` to its end; no file may become larger than `largest_file` bytes."""
        process = self.start(*arguments, largest_file=largest_file, ignoring=None, **environment)
        try:
            out, err = process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            pytest.fail(f"doit {' '.join(arguments)} does not end\n{out}\n{err}")
        return Done(process.returncode, out, err)

    def start(
        self,
        *arguments: str,
        largest_file: int | None = None,
        ignoring: signal.Signals | None = None,
        **environment: str,
    ) -> subprocess.Popen[str]:
        """Start `doit`. SIGINT is at its default in it, whatever the tests were started by, unless it is ignored."""

        def prepare() -> None:
            signal.signal(signal.SIGINT, signal.SIG_IGN if ignoring == signal.SIGINT else signal.SIG_DFL)
            if largest_file is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))

        return subprocess.Popen(
            [DOIT, *arguments],
            cwd=self.folder,
            env={**self.variables, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=prepare,
        )

    @property
    def variables(self) -> dict[str, str]:
        """The environment `doit` is run in."""
        kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONUNBUFFERED", "NO_COLOR")}
        return {**kept, "TMPDIR": str(self.temporary), "BUILDSYS_CACHE": str(self.cache)}

    @property
    def cache(self) -> Path:
        """The store of this checkout's builds, which it shares with no other."""
        return self.temporary / "cache"

    def left(self) -> list[str]:
        """The command lines of processes started in here that are still there."""
        found, place = [], f"TMPDIR={self.temporary}".encode()
        for process in Path("/proc").iterdir():
            if process.name.isdecimal():
                try:
                    # Go has a folder of its own in it.
                    if any(each.startswith(place) for each in (process / "environ").read_bytes().split(b"\0")):
                        found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
                except OSError:
                    continue
        return found

    def path(self, name: str) -> Path:
        return self.folder / name

    @property
    def image(self) -> bytes:
        return self.path("build/kernel.elf").read_bytes()

    def artifacts(self) -> dict[str, str]:
        """What a build made, records left out: sha256 by name. To tell how two large ones differ would take hours."""
        found = [path for path in self.path("build").iterdir() if path.is_file()]
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in found}

    def replace(self, name: str, old: str, new: str) -> None:
        """Put `new` where `old`, which is there, is in the file `name`."""
        text = self.path(name).read_text()
        assert old in text
        self.path(name).write_text(text.replace(old, new, 1))

    def append(self, name: str, text: str) -> None:
        with self.path(name).open("a") as file:
            file.write(text)

    def set(self, line: str) -> None:
        """Set a key of [tool.buildsys], which may be there."""
        key = line.split(" ")[0]
        text = re.sub(rf"(?m)^{key} = .*\n", "", self.path("pyproject.toml").read_text())
        self.path("pyproject.toml").write_text(text.replace("[tool.buildsys]\n", f"[tool.buildsys]\n{line}\n", 1))

    def own_templates(self) -> None:
        """Use the templates of the copy rather than those that come with buildsys."""
        self.set('templates = ["templates", "linker"]')

    def own_board(self) -> None:
        """Use a board file in the copy, `board.toml`, to begin with the same as qemu-virt."""
        from buildsys.config.board import BOARDS

        shutil.copy(BOARDS / "qemu-virt.toml", self.path("board.toml"))
        self.set('board = "board.toml"')

    def kernel(self, body: str, declared: str = "") -> None:
        """Let the kernel be one function. `body` has `number`, `pointer`, `table` and the board table `given`."""
        for file in self.path("src").iterdir():
            if file.suffix in (".go", ".s"):
                file.unlink()
        indented = "\n".join(f"\t{line}" for line in body.splitlines())
        self.path("src/main.go").write_text(KERNEL.format(body=indented, declared=declared))


@dataclass(frozen=True)
class Terminal:
    """What a terminal saw of a command: exit status, all that was shown, and whether its settings were left alone."""

    status: int
    shown: str
    same: bool


def in_terminal(
    checkout: Checkout, *arguments: str, at: str = "", keys: bytes = b"", environment: Mapping[str, str] | None = None
) -> Terminal:
    """Run `doit` in a terminal of its own, where `keys` are typed once `at` has been shown."""
    ours, theirs = os.openpty()
    before = termios.tcgetattr(ours)

    def enter() -> None:
        os.setsid()
        fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    process = subprocess.Popen(
        [DOIT, *arguments],
        cwd=checkout.folder,
        env={**checkout.variables, "TERM": "xterm", **(environment or {})},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        preexec_fn=enter,
    )
    os.close(theirs)
    shown, typed = b"", not keys
    try:
        while select.select([ours], [], [], 60)[0]:
            try:
                shown += os.read(ours, 65536)
            except OSError:  # EIO: nobody has the other end
                break
            if not typed and at.encode() in shown:
                os.write(ours, keys)
                typed = True
        status = process.wait(timeout=10)
        return Terminal(status, shown.decode(errors="replace"), termios.tcgetattr(ours) == before)
    finally:
        process.kill()
        process.wait()
        os.close(ours)


Copies = Callable[..., Checkout]


@pytest.fixture
def copies(tmp_path: Path) -> Iterator[Copies]:
    """Makes a copy of a checkout, or of the project; removes them after the test, for an image is large."""
    made: list[Path] = []

    def copy(original: Checkout | None = None, without: str = "") -> Checkout:
        folder, temporary = tmp_path / f"copy{len(made)}", tmp_path / f"temporary{len(made)}"
        made.append(folder)
        temporary.mkdir()
        if original is None:
            copy_project(folder)
        else:
            shutil.copytree(original.folder, folder, symlinks=True, ignore=shutil.ignore_patterns(without))
        return Checkout(folder, temporary)

    yield copy
    for folder in made:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def fresh(copies: Copies) -> Checkout:
    """The project, nothing built."""
    return copies()


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """The project, built; not to be changed."""
    folder = tmp_path_factory.mktemp("built")
    checkout = Checkout(copy_project(folder / "project"), folder)
    checkout.doit("build").succeeded()
    time.sleep(SETTLED)
    checkout.doit("build").succeeded()
    return checkout


@pytest.fixture
def checkout(reference: Checkout, copies: Copies) -> Checkout:
    """The project, built, to do anything with. That it was copied must not matter: nothing is redone."""
    return copies(reference)


@pytest.fixture(scope="session")
def built_from_its_own(reference: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """The project, built from templates and a board file of its own; not to be changed."""
    folder = tmp_path_factory.mktemp("own")
    shutil.copytree(reference.folder, folder / "project")
    checkout = Checkout(folder / "project", folder)
    checkout.own_templates()
    checkout.own_board()
    checkout.doit("build").succeeded()
    return checkout


@pytest.fixture
def own(built_from_its_own: Checkout, copies: Copies) -> Checkout:
    """The same, to do anything with."""
    checkout = copies(built_from_its_own)
    assert checkout.doit("build").succeeded().steps == ()  # a copy is as good as the original
    time.sleep(SETTLED)
    return checkout


@pytest.fixture
def from_nothing(copies: Copies) -> Callable[[Checkout], bytes]:
    """The image a clean build makes of a checkout's present state, in another folder."""

    def build(checkout: Checkout) -> bytes:
        other = copies(checkout, without="build")
        other.doit("build").succeeded()
        return other.image

    return build


def wait_for(event: Callable[[], object], what: str, seconds: float = 20) -> None:
    """Return once `event` is true."""
    deadline = time.monotonic() + seconds
    while not event():
        assert time.monotonic() < deadline, f"{what}: has not come"
        time.sleep(0.002)
