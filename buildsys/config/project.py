"""What the user asks for: `[tool.buildsys]` in pyproject.toml or a buildsys.toml, typed and checked."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from buildsys.config import board as boards
from buildsys.config.barrier import DISCARDING, BarrierPolicy, barrier_policy
from buildsys.config.board import Board
from buildsys.config.caching import Caching, caching, go_folder
from buildsys.config.expected import NOTHING, Expected, expected
from buildsys.config.program import KINDS, SUPERVISED, Program, program
from buildsys.config.redirects import Redirection, redirections
from buildsys.config.toml import Table, nearest, read
from buildsys.errors import UserError
from buildsys.go import sets
from buildsys.go.options import GoOptions

# The configuration is a table of the first, or the whole of the second.
FILE, OWN_FILE = "pyproject.toml", "buildsys.toml"
PACKAGE = Path(__file__).parent.parent
DEFAULT_SETS = ("print", "panic")
TOOLCHAINS = ("zig", "gnu", "llvm")

BOARD_TABLE = "board"  # the argument that is the address of the board table
ADDRESS_OF = "&"
ARGUMENT_REGISTERS = 8  # x0 to x7, as in a call of C; ABIInternal has more

Argument = int | str


@dataclass(frozen=True)
class Project:
    """One kernel to build. Paths are relative to `root`, the folder of the configuration file `file`.

    `kernel` is its name among several, "" if it is the only one; `setting` what messages put before its keys.
    An argument of the entry is a number, BOARD_TABLE, or ADDRESS_OF and a symbol.
    `redirects` are the functions the configuration replaces by others; the sources may name more (go/directives.py).
    `sets` are the names of the ready sets. The set `alloc` hands out `alloc_memory` bytes, None for half of what
    is left, or has the function `allocator` of the kernel do it.
    `program` is what an ordinary Go program is given, if the package is one; the entry is then the supervisor's.
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
    arguments: tuple[Argument, ...] = (BOARD_TABLE,)
    boot: Path | None = None
    assembly: tuple[Path, ...] = ()
    objects: tuple[Path, ...] = ()
    redirects: tuple[Redirection, ...] = ()
    barrier: BarrierPolicy = DISCARDING
    expected: Expected = NOTHING
    sets: tuple[str, ...] = ()
    allocator: str = ""
    alloc_memory: int | None = None
    program: Program | None = None
    kernel: str = ""
    file: Path = Path(FILE)
    setting: str = "tool.buildsys."

    @property
    def begins(self) -> str:
        """The Go function that is the first of the user's own to run."""
        return "main.main" if self.program else self.entry

    @property
    def build(self) -> Path:
        """The folder everything is made in; what runs the tests of a package has one of its own."""
        tests = self.options.tests.replace("+", "++").replace("/", "+")
        return self.root.joinpath("build", self.kernel, *(("go-test", tests) if tests else ()))


def load(root: Path = Path(), kernel: str = "") -> Project:
    """The project described in `root`; of several kernels, the one called `kernel`. Raises UserError."""
    found = {project.kernel: project for project in kernels(root)}
    if not kernel and len(found) == 1:
        return next(iter(found.values()))
    if kernel not in found:
        raise UserError(
            f"{next(iter(found.values())).file}: has {'no kernel ' + repr(kernel) if kernel else 'several kernels'}",
            "its kernels: " + ", ".join(found),
        )
    return found[kernel]


def kernels(root: Path = Path()) -> tuple[Project, ...]:
    """Every kernel described in `root`: one, or those of the tables `kernel.NAME`. Raises UserError."""
    table = configuration(root)
    named = table.table("kernel")
    kept = caching(table.table("cache"))
    if list(named):
        found = []
        for name in named:
            if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_-]*", name):
                raise named.error(name, "is no name for a kernel", "letters, digits, - and _: tasks are named after it")
            own = named.table(name).before(table)
            found.append(replace(_project(root, own, kept), kernel=name))
            own.refuse_unknown()
    else:
        found = [_project(root, table, kept)]
    table.refuse_unknown()
    return tuple(found)


def configuration(root: Path) -> Table:
    """The table with the user's settings: `[tool.buildsys]` of pyproject.toml, or buildsys.toml. Raises UserError."""
    shared, own = root / FILE, root / OWN_FILE
    if not own.is_file():
        if not shared.is_file() and not shared.is_symlink():
            raise UserError(
                f"{shared}: cannot be read: No such file; nor is there a {OWN_FILE}",
                "`buildsys new DIR` writes a project",
            )
        return read(shared).table("tool").table("buildsys")
    table = read(own)
    if shared.is_file() and (tools := read(shared).table("tool")).has("buildsys"):
        raise UserError(f"{tools.where('buildsys')} and {own} both describe this project", "keep one of the two")
    return table


def _project(root: Path, table: Table, kept: Caching | None) -> Project:
    folders = [root / folder for folder in table.strings("templates")]
    for folder in folders:
        if not folder.is_dir():
            raise table.error("templates", f"names {folder}, which is no folder")
    name = table.string("board", "qemu-virt")
    if name.endswith(".toml"):
        name = str(root / name)
    board = boards.load(name, table.where("board"))
    expects = expected(table)
    programs = table.choice("kind", KINDS, KINDS[0]) != KINDS[0]
    supervised = program(table) if programs else None
    project = Project(
        root=root,
        package=root / table.string("package"),
        entry=SUPERVISED.entry if programs else table.string("entry", "main.KernelMain"),
        board=replace(board, qemu=(*board.qemu, *table.strings("qemu-arguments")), until=expects.until.encode()),
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
        arguments=SUPERVISED.arguments
        if programs
        else tuple(_argument(table, each) for each in table.values("entry-arguments", [BOARD_TABLE])),
        boot=_boot(root, table),
        assembly=tuple(_files(root, table, "assembly", (".s", ".s.j2"))),
        objects=tuple(_files(root, table, "objects", (".o",))),
        redirects=tuple(redirections(table.table("redirect"))),
        barrier=barrier_policy(table),
        expected=expects,
        sets=tuple(_sets(table)),
        allocator=table.string("alloc", ""),
        alloc_memory=_alloc_memory(table, board),
        program=supervised,
        file=table.path,
        setting=table.prefix,
    )
    if not project.package.is_dir():
        raise table.error("package", f"names {project.package}, which is no folder", "it is the folder of package main")
    if "." not in project.entry and not project.assembly and not project.objects:
        raise table.error("entry", f"is {project.entry!r}", "write it with its package: main.KernelMain")
    if len(project.arguments) > ARGUMENT_REGISTERS:
        raise table.error("entry-arguments", f"has more than {ARGUMENT_REGISTERS}", "they are passed in x0 to x7")
    if project.time_limit <= 0:
        raise table.error("time-limit", "must be more than 0 seconds")
    return project


def _argument(table: Table, value: object) -> Argument:
    if isinstance(value, int) and not isinstance(value, bool) and -1 << 63 <= value < 1 << 64:
        return value
    if isinstance(value, str) and (value == BOARD_TABLE or (value[:1] == ADDRESS_OF and value[1:])):
        return value
    raise table.error(
        "entry-arguments",
        f"has {value!r} in it",
        f'each is a number of 64 bits, "{BOARD_TABLE}" (the board table), or "{ADDRESS_OF}main.x" (an address)',
    )


def _sets(table: Table) -> Iterable[str]:
    named = table.strings("sets", DEFAULT_SETS)
    for name in named:
        if name not in sets.known():
            raise table.error("sets", f"names {name!r}, which is no ready set", nearest(name, sets.known()))
    if table.has("alloc"):  # an allocator of the kernel's own is served by that set
        named = [*named, sets.ALLOC]
    return dict.fromkeys(name for name in named if name != sets.BARRIER)


def _alloc_memory(table: Table, board: Board) -> int | None:
    key = "alloc-memory"
    if not table.has(key):
        return None
    size = table.integer("alloc-memory")
    if table.has("alloc"):
        raise table.error(key, "is not for an allocator of your own", "leave out this, or `alloc`")
    if sets.ALLOC not in table.strings("sets", DEFAULT_SETS):
        raise table.error(key, "is for the ready set alloc", 'add "alloc" to `sets`, or leave it out')
    if size <= 0 or size % boards.PAGE:
        raise table.error(key, f"is {size}", f"it is a number of bytes, a multiple of {boards.PAGE}")
    if size >= board.ram.length:
        raise table.error(key, f"is {size:#x} bytes; all RAM of board {board.name} is {board.ram.length:#x}")
    return size


def _boot(root: Path, table: Table) -> Path | None:
    if not table.has("boot"):
        return None
    path = root / table.string("boot")
    if not path.name.endswith((".s", ".s.j2")) or not path.is_file():
        raise table.error("boot", f"names {path}, which is no .s or .s.j2 file", _near(path))
    return _within(root, table, "boot", path)


def _files(root: Path, table: Table, key: str, endings: tuple[str, ...]) -> Iterable[Path]:
    """The files the patterns at `key` name, each once, in the order given."""
    found: dict[Path, None] = {}
    for pattern in table.strings(key):
        plain = root / pattern
        matching = [plain] if plain.is_file() else sorted(_glob(root, pattern))
        if not matching:
            raise table.error(key, f"names {plain}, which is not there", _near(plain))
        for path in matching:
            if not path.name.endswith(endings):
                raise table.error(key, f"names {path}, which is no {' or '.join(endings)} file")
            found[_within(root, table, key, path)] = None
    return found


def _within(root: Path, table: Table, key: str, path: Path) -> Path:
    if path.name.endswith(".j2") and not path.resolve().is_relative_to(root.resolve()):
        raise table.error(key, f"names {path}, a template outside the project", "move it into the project")
    return path


def _glob(root: Path, pattern: str) -> list[Path]:
    try:
        return [path for path in root.glob(pattern) if path.is_file()]
    except (ValueError, NotImplementedError):  # no pattern, or one that begins at /
        return []


def _near(path: Path) -> str:
    from difflib import get_close_matches

    there = [each.name for each in path.parent.glob("*")] if path.parent.is_dir() else []
    near = get_close_matches(path.name, there, 1)
    return f"did you mean `{path.with_name(near[0])}`?" if near else ""


def shipped(name: str) -> Path:
    """The folder `name` (templates, linker, …) that comes with buildsys: inside the wheel, or beside the package."""
    for place in (PACKAGE / "data" / name, PACKAGE.parent / name):
        if place.is_dir():
            return place
    raise UserError(f"this installation of buildsys has no {name}", "install it again")
