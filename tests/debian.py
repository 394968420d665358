"""Packages of Debian's archive, unpacked in a folder of their own: nothing is installed, nothing is replaced.

From the archive the system itself gets its packages from; apt checks what comes by Debian's own keys. Known are one
suite and one architecture at a time: another release's, or another machine's, as the case may be.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

KEYS = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
TARGETS = ("indextargets", "--format", "$(REPO_URI) $(ORIGIN) $(CODENAME)", "Created-By: Packages")


class NoArchiveError(Exception):
    """There is no Debian here, or its archive cannot be had; the text says why."""


class Suite:
    """The packages of one suite, such as "bookworm-backports", for one architecture; `folder` is made and kept in.

    Raises NoArchiveError.
    """

    def __init__(self, folder: Path, name: str, architecture: str) -> None:
        self._folder = folder.absolute()
        for each in ("lists/partial", "cache/archives/partial", "unpacked"):
            (self._folder / each).mkdir(parents=True, exist_ok=True)
        (self._folder / "status").touch()
        source = f"deb [signed-by={KEYS} arch={architecture}] {archive(name.partition('-')[0])} {name} main\n"
        (self._folder / "sources.list").write_text(source)
        settings = {
            "APT::Architecture": architecture,
            "APT::Architectures": architecture,
            "APT::Sandbox::User": "",
            "Dir::State::lists": self._folder / "lists",
            "Dir::State::status": self._folder / "status",
            "Dir::Cache": self._folder / "cache",
            "Dir::Etc::sourcelist": self._folder / "sources.list",
            "Dir::Etc::sourceparts": "/dev/null",
        }
        self._options = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
        _apt(["apt-get", "-qq", *self._options, "update"], self._folder)

    def depends(self, package: str) -> list[str]:
        """What a package needs, by name: of one that is only a name for the newest, that."""
        words = ["apt-cache", *self._options, "depends", "--important", package]
        lines = [line.split() for line in _apt(words, self._folder).splitlines()]
        return [line[1] for line in lines if line[:1] == ["Depends:"]]

    def unpack(self, *packages: str) -> Path:
        """The folder these were unpacked in, as if it were the root of a system."""
        place = self._folder / "unpacked"
        _apt(["apt-get", "-qq", *self._options, "download", *packages], self._folder)
        for each in self._folder.glob("*.deb"):
            _apt(["dpkg-deb", "--extract", str(each), str(place)], self._folder)
        return place


def archive(release: str) -> str:
    """The address of the archive this system has `release` from. Raises NoArchiveError."""
    if not KEYS.is_file():
        raise NoArchiveError(f"{KEYS} is not there: this is no Debian")
    for line in _apt(["apt-get", *TARGETS], None).splitlines():
        address, origin, name = line.split(" ", 2)
        if origin == "Debian" and name == release:
            return address
    raise NoArchiveError(f"this system has no packages of Debian {release}")


def _apt(command: Sequence[str], folder: Path | None) -> str:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise NoArchiveError(f"{error.filename} is not installed: this is no Debian") from None
    if done.returncode:
        raise NoArchiveError(f"{' '.join(command[:2])} … {command[-1]}: {done.stderr.strip()}")
    return done.stdout
