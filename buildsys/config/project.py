"""What the user asks for: `[tool.buildsys]` in pyproject.toml, typed and checked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from buildsys.config import board as boards
from buildsys.config.board import Board
from buildsys.config.caching import Caching, caching, go_folder
from buildsys.config.toml import read
from buildsys.errors import UserError
from buildsys.go.options import GoOptions

FILE = "pyproject.toml"
PACKAGE = Path(__file__).parent.parent
TOOLCHAINS = ("zig", "gnu", "llvm")


@dataclass(frozen=True)
class Project:
    """One kernel to build. Paths are relative to `root`, the folder of the configuration file.

    `go_setting` is how messages name the setting that chose the Go toolchain, `go_folder` where trees are fetched to.
    """

    root: Path
    package: Path
    entry: str
    board: Board
    toolchain: str
    go: str
    go_setting: str
    go_folder: Path | None
    options: GoOptions
    time_limit: float
    templates: tuple[Path, ...]
    caching: Caching | None

    @property
    def build(self) -> Path:
        """The folder everything is made in."""
        return self.root / "build"


def load(root: Path = Path()) -> Project:
    """The project described in `root`/pyproject.toml. Raises UserError."""
    table = read(root / FILE).table("tool").table("buildsys")
    folders = [root / folder for folder in table.strings("templates")]
    for folder in folders:
        if not folder.is_dir():
            raise table.error("templates", f"names {folder}, which is no folder")
    name = table.string("board", "qemu-virt")
    if name.endswith(".toml"):
        name = str(root / name)
    kept = caching(table.table("cache"))
    project = Project(
        root=root,
        package=root / table.string("package"),
        entry=table.string("entry", "main.KernelMain"),
        board=boards.load(name, table.where("board")),
        toolchain=table.choice("toolchain", TOOLCHAINS, "zig"),
        go=table.string("go", "wheel"),
        go_setting=table.where("go"),
        go_folder=go_folder(kept),
        options=GoOptions(
            tags=tuple(table.strings("tags")),
            gcflags=table.string("gcflags", ""),
            ldflags=table.string("ldflags", ""),
        ),
        time_limit=table.number("time-limit", 20),
        templates=(*folders, shipped("templates"), shipped("linker")),
        caching=kept,
    )
    table.refuse_unknown()
    if not project.package.is_dir():
        raise table.error("package", f"names {project.package}, which is no folder", "it is the folder of package main")
    if "." not in project.entry:
        raise table.error("entry", f"is {project.entry!r}", "write it with its package: main.KernelMain")
    if project.time_limit <= 0:
        raise table.error("time-limit", "must be more than 0 seconds")
    return project


def shipped(name: str) -> Path:
    """The folder `name` (templates, linker) that comes with buildsys: inside the wheel, or beside the package."""
    for place in (PACKAGE / "data" / name, PACKAGE.parent / name):
        if place.is_dir():
            return place
    raise UserError(f"this installation of buildsys has no {name}", "install it again")
