"""The real tools behind scripts that write down each call: what a build printed is no proof that it ran nothing.

They are put in the place of the wheels that buildsys finds; so nothing of a project is different, nor its action keys.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from shlex import quote

from tests.front.conftest import Checkout

NOTHING: frozenset[str] = frozenset()
GO, ASSEMBLER, LINKER = (frozenset({name}) for name in ("go", "assembler", "linker"))
EVERY = GO | ASSEMBLER | LINKER
# Each is told by the word that says what it is to do. Go's own linker has zig pack the archive.
WORDS = {
    "go list": "go", "go build": "go", "zig ar": "go", "zig clang": "assembler", "zig ld.lld": "linker",
}  # fmt: skip
LOG = "tools.log"


@dataclass(frozen=True)
class Recorded(Checkout):
    """A checkout whose builds run the tools in the folder `tools`, and say in a log which."""

    tools: Path

    @property
    def variables(self) -> dict[str, str]:
        inherited = super().variables
        path = os.pathsep.join(filter(None, (str(self.tools), inherited.get("PYTHONPATH"))))
        return {**inherited, "PYTHONPATH": path}

    def ran(self) -> frozenset[str]:
        """The tools that ran since this, or `calls`, was asked last."""
        return frozenset(WORDS[call] for call in self.calls())

    def calls(self) -> list[str]:
        """Every call of a tool since then, by one of WORDS."""
        log = self.temporary / LOG
        lines = log.read_text().splitlines() if log.exists() else []
        log.unlink(missing_ok=True)
        return lines

    def made(self) -> dict[str, str]:
        """What steps made, by name, without what they work with."""
        return {name: contents for name, contents in self.artifacts().items() if name[0] != "."}

    def runs(self, word: str) -> bool:
        """Whether a tool was called with that word since then."""
        log = self.temporary / LOG
        return log.exists() and word in log.read_text()


# What the fixtures in cached.py give.
Again = Callable[..., Recorded]
Clean = Callable[[Checkout], bytes]


def recording(folder: Path) -> Path:
    """Make a folder for Recorded.tools: Go and zig as wheels of their own, whose programs are scripts."""
    real = wheel("go")
    tree = go_tree(folder / "go")
    (tree / "bin").unlink()
    (tree / "bin").mkdir()
    _script(tree / "bin" / "go", real / "bin" / "go", "go ")
    zig = folder / "ziglang"
    zig.mkdir()
    (zig / "__init__.py").touch()
    _script(zig / "zig", wheel("ziglang") / "zig", "zig ")
    return folder


def go_tree(tree: Path) -> Path:
    """Make a Go tree that is the wheel's own, by links, to change something in."""
    tree.mkdir(parents=True)
    for each in wheel("go").iterdir():
        if each.name != "__pycache__":
            (tree / each.name).symlink_to(each)
    return tree


def opened(tree: Path, name: str) -> Path:
    """The file `name` of such a tree, made the tree's own, with every folder above it, to be written to."""
    at = tree
    for part in Path(name).parts:
        at = at / part
        if at.is_symlink():
            real = at.resolve()
            at.unlink()
            if real.is_dir():
                at.mkdir()
                for each in real.iterdir():
                    (at / each.name).symlink_to(each)
            else:
                at.write_bytes(real.read_bytes())
                at.chmod(real.stat().st_mode)
    return at


def wheel(name: str) -> Path:
    """Where the package `name` is installed."""
    spec = find_spec(name)
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(os.path.realpath(spec.submodule_search_locations[0]))


def _script(path: Path, program: Path, name: str) -> None:
    # TMPDIR is the checkout's, or Go's own in it, and is one of the few variables that reach a tool.
    path.write_text(
        f'#!/bin/sh\necho "{name}$1" >> "${{TMPDIR%/buildsys-go-*}}/{LOG}"\nexec {quote(str(program))} "$@"\n'
    )
    path.chmod(0o755)
