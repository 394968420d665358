"""The binary toolchain: something that assembles and links AArch64."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from buildsys import waiting
from buildsys.errors import UserError

# What every linker is asked: keep relocations (the oracle for call sites), name every section, no build ID.
LINK_FLAGS = ("-static", "--emit-relocs", "--orphan-handling=error", "--build-id=none", "-z", "max-page-size=4096")

PASSED = ("HOME", "PATH", "TMPDIR")


@dataclass(frozen=True)
class BinaryToolchain:
    """An assembler and a linker, as argument vectors to put file names behind.

    `files` are the programs themselves: when their contents change, so may what they make. `words` is how many
    name a program that can be begun before its other arguments are known; 0 if none can.
    """

    name: str
    assembler: tuple[str, ...]
    linker: tuple[str, ...]
    files: tuple[Path, ...]
    words: int = 0

    def prepare(self) -> None:
        """Begin both now, for the next time each is needed, if they can be. Raises UserError if one is not there."""
        commands = (self.assembler, self.linker) if self.words else ()
        waiting.begin(*(command[: self.words] for command in commands), env=_environment())

    def assemble(self, source: Path, output: Path, folder: Path | None = None, root: Path | None = None) -> None:
        """Assemble `source` (GNU syntax, named in messages as given) into the object `output`.

        What it includes is looked for in `root`, by default the working folder, then in `folder`.
        """
        look = [] if folder is None else ["-I", str(folder if root in (None, Path()) else folder.absolute())]
        if root not in (None, Path()):  # the tool runs there
            source, output = source.absolute(), output.absolute()
        said = _run([*self.assembler, *look, str(source), "-o", str(output)], root)
        if said is not None:
            raise UserError(f"assembling {source} failed\n{said}")

    def link(self, script: Path, objects: Sequence[Path], output: Path) -> None:
        """Link `objects` by `script` into `output`, keeping relocations; orphan sections are errors."""
        said = _run([*self.linker, "-T", str(script), "-o", str(output), *map(str, objects)])
        if said is not None:
            if overflow := _overflow(said):
                raise UserError(
                    f"linking with {script}: the kernel does not fit: {overflow}",
                    "the board file says where flash and RAM end, and where in them code and zeroed data begin",
                )
            raise UserError(f"linking with {script} failed\n{said}")


def _run(command: Sequence[str], folder: Path | None = None) -> str | None:
    """Run a tool, in `folder`. None if it succeeded, else what it said."""
    done = waiting.run(command, folder, _environment())
    if not done.returncode:
        return None
    return (done.stderr or done.stdout).strip() or f"it ended with status {done.returncode} and said nothing"


def _environment() -> dict[str, str]:
    # Some variables change what compilers and linkers make (CCC_OVERRIDE_OPTIONS, LDEMULATION, …): none reach them.
    return {name: os.environ[name] for name in PASSED if name in os.environ} | {"LC_ALL": "C"}


def _overflow(said: str) -> str:
    """The regions of the linker script that are too small, and by how much; empty if that is not what is wrong.

    lld counts for every section what is missing so far, GNU ld says it once.
    """
    import re

    found: dict[str, int] = {}
    for region, size in re.findall(r"region [`'](\w+)':? overflowed by (\d+)", said):
        found[region] = max(found.get(region, 0), int(size))
    return ", ".join(f"{region} is too small by {size} bytes" for region, size in sorted(found.items()))
