"""`kind = "program"`: an ordinary Go program, and what it is given where an operating system would."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from buildsys.config.barrier import COUNT, DISCARD
from buildsys.config.toml import Table

KINDS = ("bare", "program")


@dataclass(frozen=True)
class Program:
    """What a program finds: `arguments`, os.Args with the name of the program first, and `environment`, KEY=VALUE."""

    arguments: tuple[str, ...]
    environment: tuple[str, ...]


class Supervised(NamedTuple):
    """How boot code calls the supervisor (src/supervisor), which is the kernel of such an image."""

    entry: str
    arguments: tuple[str, ...]


SUPERVISED = Supervised("main.KernelMain", ("board", "&supervisor.table"))

# Keys of `kind = "bare"`: they are about a kernel that boot code calls, and here that is the supervisor.
_OF_KERNELS = (
    "entry", "entry-arguments", "boot", "assembly", "objects", "redirect", "sets", "symbols", "literals",
    "sections", "paths",
)  # fmt: skip
# Of the program's own, which always do what Go's collector needs: the first says that no more is done.
BARRIERS = (DISCARD, COUNT)
_NAME = "/program"  # os.Args[0], and where the file is that stands for it


def program(table: Table) -> Program:
    """What the settings give the program. Raises UserError, also for a key that means nothing to one."""
    for key in _OF_KERNELS:
        if table.has(key):
            raise table.error(key, 'is not for `kind = "program"`', "the kernel of such an image is the supervisor")
    table.choice("barrier", BARRIERS, BARRIERS[0])
    variables = table.table("env")
    environment = [f"{name}={variables.string(name)}" for name in variables]
    arguments = (_NAME, *table.strings("args"))
    for key, texts in (("args", arguments), ("env", environment)):
        if any("\0" in text for text in texts):
            raise table.error(key, "has a zero byte in it", "strings end there")
    for name in variables:
        if not name or "=" in name:
            raise variables.error(name, "is no name for a variable")
    return Program(arguments, tuple(environment))
