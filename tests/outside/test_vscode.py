"""F5 in VS Code, without it: launch.json and tasks.json as `buildsys new` writes them, done as its extension does.

The C/C++ extension starts `miDebuggerPath --interpreter=mi` and says, in this order (github.com/microsoft/MIEngine,
DebuggedProcess.GetInitializeCommands): `setupCommands`, `-environment-cd`, `-file-exec-and-symbols`, a breakpoint
at main, `-target-select remote`; then each of the user's breakpoints as `-break-insert -f FILE:LINE`, FILE as the
editor has it; and shows what `fullname` tells of a frame.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from buildsys.machines import gdb
from tests.machines.conftest import needs
from tests.outside.conftest import Outside, Venv
from tests.outside.test_debugging import free_port

pytestmark = pytest.mark.slow

# Of type cppdbg: github.com/microsoft/vscode-cpptools, Extension/package.json; and what every debugger of VS Code has.
KNOWN = {
    "name", "type", "request", "preLaunchTask",
    "program", "cwd", "MIMode", "miDebuggerPath", "miDebuggerServerAddress", "setupCommands", "stopAtConnect",
}  # fmt: skip
LIMIT = 60  # seconds
MATCHER = {"pattern", "background"}


class Mi:
    """gdb behind its machine interface ("Debugging with GDB", GDB/MI)."""

    def __init__(self, command: list[str], cwd: Path, home: Path) -> None:
        environment = {**os.environ, "HOME": str(home), "XDG_CONFIG_HOME": str(home)}
        self._process = subprocess.Popen(
            command, cwd=cwd, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        # A stop that never comes ends the test, not the tests.
        self._watchdog = threading.Timer(LIMIT, self._process.kill)
        self._watchdog.start()
        self._until(r"\(gdb\) ?")

    def do(self, command: str) -> str:
        """Carry out one command, as setupCommands may hold it; what was said. It must not fail."""
        said = self.ask(command)
        assert re.search(r"(?m)^\^(done|connected|running|exit)", said), f"{command}: {said}"
        return said

    def ask(self, command: str) -> str:
        """Likewise; it may fail."""
        if not command.startswith("-"):
            command = f"-interpreter-exec console {json.dumps(command)}"
        assert self._process.stdin is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        return self._until(r"\^.*")

    def stopped(self) -> str:
        """What is told of the next stop."""
        return self._until(r"\*stopped.*").splitlines()[-1]

    def close(self) -> None:
        """End it, whatever it does."""
        self._watchdog.cancel()
        self._process.kill()
        self._process.communicate()

    def _until(self, pattern: str) -> str:
        said = ""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            said += line
            if re.fullmatch(pattern, line.rstrip("\n")):
                return said
        pytest.fail(f"gdb ended: {said}")


def uncommented(path: Path, folder: Path, port: int) -> Any:
    """The JSON in a file of VS Code's, its variables filled in; another port, for tests run beside each other."""
    text = re.sub(r"(?m)^\s*//.*$", "", path.read_text()).replace("${workspaceFolder}", str(folder))
    assert "${" not in text, "a variable the test does not know"
    return json.loads(re.sub(r"\b1234\b", str(port), text))


@pytest.fixture(params=["bare", pytest.param("program", marks=pytest.mark.campaign)])
def opened(request: pytest.FixtureRequest, venv: Venv, tmp_path: Path) -> Outside:
    """A new project, of each kind, in a folder with a name of its own."""
    options = ["--program"] if request.param == "program" else []
    venv.run(tmp_path, "buildsys", "new", "opened", *options).succeeded()
    return Outside(tmp_path / "opened", venv)


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def configuration(opened: Outside, port: int) -> dict[str, Any]:
    (found,) = uncommented(opened.path(".vscode/launch.json"), opened.folder, port)["configurations"]
    assert isinstance(found, dict)
    return found


@pytest.fixture
def task(opened: Outside, configuration: dict[str, Any], port: int) -> Iterator[subprocess.Popen[str]]:
    """The task named to be run before, in a shell, once its output says that it is ready."""
    tasks = uncommented(opened.path(".vscode/tasks.json"), opened.folder, port)["tasks"]
    (named,) = [each for each in tasks if each["label"] == configuration["preLaunchTask"]]
    assert named["isBackground"], "VS Code would wait for its end"
    matcher = named["problemMatcher"]
    assert set(matcher) == MATCHER
    path = f"{opened.venv.folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONUNBUFFERED")}
    process = subprocess.Popen(
        named["command"], shell=True, cwd=opened.folder, env={**kept, "PATH": path},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if re.search(matcher["background"]["endsPattern"], line):
            break
    else:
        pytest.fail(f"it ended, and was not ready: {said}")
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def test_a_breakpoint_in_a_go_source_is_hit_and_locals_are_read(
    opened: Outside, configuration: dict[str, Any], task: subprocess.Popen[str], tmp_path: Path
) -> None:
    needs(gdb.PROGRAMS[0], gdb.INSTALL)
    assert set(configuration) <= KNOWN
    assert (configuration["type"], configuration["request"], configuration["MIMode"]) == ("cppdbg", "launch", "gdb")
    source = opened.path("src/main.go")
    is_program = 'kind = "program"' in opened.path("buildsys.toml").read_text()
    text, local = ("lengths[word] = len(word)", "word") if is_program else ("greeting = &words", "table")
    line = next(number for number, each in enumerate(source.read_text().splitlines(), 1) if text in each)
    mi = Mi([configuration["miDebuggerPath"], "--interpreter=mi"], opened.folder, tmp_path)
    try:
        for each in configuration["setupCommands"]:
            mi.do(each["text"])
        mi.do('-interpreter-exec console "set pagination off"')
        mi.do("-gdb-set auto-solib-add on")
        mi.do(f"-environment-cd {configuration['cwd']}")
        mi.do(f"-file-exec-and-symbols {configuration['program']}")
        mi.ask("-break-insert -f main")
        mi.do(f"-target-select remote {configuration['miDebuggerServerAddress']}")
        assert configuration["stopAtConnect"], "it would go on before breakpoints are there"
        inserted = mi.do(f"-break-insert -f {source}:{line}")
        assert f'line="{line}"' in inserted
        mi.do("-exec-continue")
        first = mi.stopped()
        assert 'reason="breakpoint-hit"' in first
        assert f'func="main.{"main" if is_program else "KernelMain"}"' in first
        assert f'fullname="{source}"' in first, "an editor could not show it"
        mi.do("-exec-continue")
        second = mi.stopped()
        assert f'line="{line}"' in second
        assert local in mi.do("-stack-list-variables --simple-values")
        assert "goroutine" in mi.ask("info goroutines")
        assert "0x" in mi.do("info pages $sp")
        mi.do("-break-delete")
        mi.do("-exec-continue")
        assert 'reason="exited-normally"' in mi.stopped()
        mi.ask("-gdb-exit")
        said, _ = task.communicate(timeout=60)
    finally:
        mi.close()
    assert task.returncode == 0, said
    assert "Hello from Go" in said
