"""What gdb is told of an image: where its sources are, our own commands, where to stop first."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

from buildsys.errors import UserError
from buildsys.formats.elf import Elf
from buildsys.formats.lines import Lines

START = Path(__file__).parent.parent / "debugging" / "start.py"
PROGRAM = "program."  # before the names of a program's symbols: buildsys.stages.programs
NAMES = "info goroutines, goroutine N COMMAND, info barriers, break-barrier FILE:LINE, info pages [ADDRESS]"


def before(package: Path | None, goroot: Path | None) -> list[str]:
    """What to say before gdb reads the image, whose sources are those of `package` and of the Go tree `goroot`."""
    found = [f'set substitute-path {name} "{folder}"' for name, folder in modules(package)]
    if goroot is not None:
        # The image names Go's gdb commands by a path relative to these sources.
        found.append(f'directory "{goroot / "src"}"')
        found.append(f"add-auto-load-safe-path {goroot / 'src' / 'runtime' / 'runtime-gdb.py'}")
    return [*found, f"source {START}"]


def after(image: Path, package: Path | None, goroot: Path | None, kept: Path | None = None) -> list[str]:
    """What to say when it has, to have our own commands; `kept` is the folder of a crash, if it is of one."""
    roots = [(name, str(folder)) for name, folder in modules(package)]
    given = (str(image.absolute()), roots, str(goroot or ""), str(kept.absolute()) if kept else "")
    return [f"python buildsys_begin{given!r}"]


def stop(image: Path, entry: str) -> str:
    """The breakpoint at the function `entry`, of the program if the image has one. Raises UserError without it."""
    elf = Elf.read(image)
    of_program = f"{PROGRAM}{entry}"
    found = elf.symbols.addresses(entry, of_program)
    if of_program in found:
        # The supervisor has a function of that name, too: the line is of one of them.
        address = found[of_program]
        place = Lines(elf, whole=True).of(address, [address]).get(address, f"*{address:#x}")
        return f"break {place}"
    if entry not in found:
        raise UserError(f"{image}: there is no function {entry!r} to stop at", "`entry` names the Go function")
    return f"break '{entry}'"


def script(image: Path, entry: str, package: Path | None, goroot: Path | None) -> str:
    """All of it, for a gdb that is started elsewhere, as a file of commands. Raises UserError without `entry`."""
    said = [*before(package, goroot), f'file "{image.absolute()}"', *after(image, package, goroot), stop(image, entry)]
    return "\n".join([*said, ""])


def modules(package: Path | None) -> list[tuple[str, Path]]:
    """The Go module `package` is in, as (path, folder): `-trimpath` puts the one for the other."""
    if package is None:
        return []
    for folder in (package.resolve(), *package.resolve().parents):
        with contextlib.suppress(OSError):
            found = re.search(r'^\s*module\s+"?([^\s"]+)', (folder / "go.mod").read_text("utf-8"), re.MULTILINE)
            return [(found[1], folder)] if found else []
    return []
