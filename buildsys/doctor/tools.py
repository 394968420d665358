"""The programs of the system: assemblers and linkers, QEMU, gdb, git; and the Go the configuration asks for."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator

from buildsys.config.project import Project
from buildsys.doctor.check import Check, State, numbers
from buildsys.errors import UserError
from buildsys.go import releases, toolchain
from buildsys.machines import gdb, qemu
from buildsys.stages.programs import OLDEST as OLDEST_OF_PROGRAMS
from buildsys.toolchains import choice

PATIENCE = 20  # seconds a program may take to tell its version
# The oldest ones that were tried: docs/matrix.md, and the systems continuous integration runs on.
OLDEST_GO = (1, 19)
OLDEST_QEMU = "7.2"
OLDEST_GDB = "12"
OLDEST_TOOLS = {"gnu": "2.35", "llvm": "14"}  # --orphan-handling=error came with GNU ld 2.26, and lld 14 links arm64


def go(project: Project) -> Check:
    """The Go that compiles the kernel."""
    name, newest = _named("Go", project), releases.releases()[0].version
    oldest = OLDEST_OF_PROGRAMS if project.program else OLDEST_GO
    wanted, use = f">={_dotted(oldest)}", f"build (go = {project.go!r})"
    try:
        found = toolchain.find(project.go, project.go_setting, project.go_folder)
    except UserError as error:
        return Check(name, State.MISSING, "", wanted, use, error.hint or error.message, True)
    if found.version < oldest:
        mend = f'go = "{_dotted(releases.numbers(newest)[:2])}" in {project.file}'
        return Check(name, State.MISSING, found.release, wanted, use, mend, True)
    if found.pinned is not None and not found.command.is_file():
        return Check(name, State.WARN, f"{found.release}, not fetched", wanted, use, "doit compile")
    if found.version[:2] > releases.numbers(newest)[:2]:
        mend = f"nobody tried it: newer than {newest}; `doit verify` tells whether it works"
        return Check(name, State.WARN, found.release, wanted, use, mend)
    return Check(name, State.OK, found.release, wanted, use)


def binutils(project: Project) -> Check:
    """The assembler and linker of the configuration."""
    name = _named(f"toolchain {project.toolchain}", project)
    wanted = f">={OLDEST_TOOLS[project.toolchain]}" if project.toolchain in OLDEST_TOOLS else "any"
    try:
        found = choice.find(project.toolchain)
    except UserError as error:
        return Check(name, State.MISSING, "", wanted, "build", error.hint, True)
    told = _version([*found.linker[: 2 if project.toolchain == "zig" else 1], "--version"])
    if not told:
        return Check(name, State.MISSING, "", wanted, "build", f"{found.linker[0]} does not run: install it anew", True)
    oldest = OLDEST_TOOLS.get(project.toolchain, "0")
    if numbers(told) < numbers(oldest):
        return Check(name, State.WARN, told, wanted, "build", 'a newer one, or toolchain = "zig"')
    return Check(name, State.OK, told, wanted, "build")


def emulator() -> Check:
    """QEMU. Without it a kernel runs on the embedded emulator, and claims are checked on that alone."""
    use, wanted = "run-qemu, debug, verify", f">={OLDEST_QEMU}"
    try:
        found = qemu.version()
    except (UserError, OSError):
        return Check("QEMU", State.MISSING, "", wanted, use, qemu.INSTALL)
    state = State.OK if numbers(found) >= numbers(OLDEST_QEMU) else State.WARN
    return Check("QEMU", state, found, wanted, use, "" if state is State.OK else qemu.INSTALL)


def debugger() -> Check:
    """A gdb that knows AArch64, and Python for Go's own commands."""
    wanted = f">={OLDEST_GDB}"
    try:
        program = gdb.program()
    except UserError:
        return Check("gdb", State.MISSING, "", wanted, "debug", gdb.INSTALL)
    found = _version([program, "--version"])
    asked = subprocess.run([program, "-nx", "-batch", "-ex", "python print(6 * 7)"], capture_output=True, text=True,
                           check=False, timeout=PATIENCE)  # fmt: skip
    if "42" not in asked.stdout:
        return Check("gdb", State.WARN, f"{found}, no Python", wanted, "debug", gdb.INSTALL)
    state = State.OK if numbers(found) >= numbers(OLDEST_GDB) else State.WARN
    return Check("gdb", state, found, wanted, "debug", "" if state is State.OK else gdb.INSTALL)


def git() -> Check:
    """git, which tells the revision of what is archived, and builds one to compare with."""
    found = _version(["git", "--version"]) if shutil.which("git") else ""
    mend = "" if found else "apt-get install --no-install-recommends git"
    use = "archive, size"
    return Check("git", State.OK if found else State.MISSING, found, "any", use, mend)


def of_system() -> Iterator[Check]:
    """The programs every project may use."""
    yield emulator()
    yield debugger()
    yield git()


def _version(command: list[str]) -> str:
    """The first version a program tells of itself; empty if it tells none."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    found = re.search(r"\b(\d+\.\d+(?:\.\d+)*)", done.stdout)
    return found[1] if found and done.returncode == 0 else ""


def _named(name: str, project: Project) -> str:
    return f"{name} of {project.kernel}" if project.kernel else name


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
