"""The binary toolchain: something that assembles and links AArch64."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from buildsys import processes
from buildsys.errors import UserError


@dataclass(frozen=True)
class BinaryToolchain:
    """An assembler and a linker, as argument vectors to put file names behind.

    `files` are the programs themselves: when their contents change, so may what they make.
    """

    name: str
    assembler: tuple[str, ...]
    linker: tuple[str, ...]
    files: tuple[Path, ...]

    def assemble(self, source: Path, output: Path) -> None:
        """Assemble `source` (GNU syntax, named in messages as given) into the object `output`."""
        _run([*self.assembler, str(source), "-o", str(output)], f"assembling {source} failed")

    def link(self, script: Path, objects: Sequence[Path], output: Path) -> None:
        """Link `objects` by `script` into `output`, keeping relocations; orphan sections are errors."""
        _run(
            [*self.linker, "-T", str(script), "-o", str(output), *map(str, objects)],
            f"linking with {script} failed",
        )


def _run(command: Sequence[str], failure: str) -> None:
    """Run a tool. Raises UserError with `failure` and what the tool said, once, if it fails."""
    done = processes.run(command)
    if done.returncode:
        said = (done.stderr or done.stdout).strip()
        raise UserError(f"{failure}\n{said}" if said else f"{failure} (exit status {done.returncode})")


def find(name: str) -> BinaryToolchain:
    """The toolchain called `name`, one of `config.project.TOOLCHAINS`. Raises UserError if it is not installed."""
    from buildsys.toolchains import gnu, zig

    known: dict[str, Callable[[], BinaryToolchain]] = {"zig": zig.toolchain, "gnu": gnu.toolchain}
    return known[name]()
