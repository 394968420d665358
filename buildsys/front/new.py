"""`buildsys new DIR`: a project with one small kernel, every line of it explained, which builds at once.

Its own files are in buildsys/starter. The Go packages beside it are those of the reference kernel,
copied as they are: the module is called `kernel` there as here.
"""

from __future__ import annotations

import re
from pathlib import Path

from buildsys.config import board as boards
from buildsys.config.project import PACKAGE, shipped
from buildsys.errors import UserError

STARTER = PACKAGE / "starter"
# Where each file of the starter goes.
FILES = {
    "buildsys.toml": "buildsys.toml",
    "dodo.py": "dodo.py",
    "gitignore": ".gitignore",
    "go.mod": "src/go.mod",
    "main.go": "src/main.go",
    "tasks.json": ".vscode/tasks.json",
    "launch.json": ".vscode/launch.json",
}
# Of a program, these are others.
PROGRAM = {name: f"program/{name}" for name in ("buildsys.toml", "go.mod", "main.go")}
PACKAGES = ("board", "memory", "semihosting", "uart")
OF_PROGRAMS = ("memory", "metal")  # for what programs elsewhere have not: the machine


def new(folder: Path, program: bool = False, board: str = "") -> list[Path]:
    """Write the project to `folder`, which must be empty or not exist; returns the files. Raises UserError.

    With `program` it is one of `kind = "program"`; it is for `board`, one that comes with buildsys.
    """
    contents = _contents(program)
    if board.endswith(".toml"):
        raise UserError(f"--board {board}: names a file", "copy it into the project, and name it there: `board`")
    if board:
        contents["buildsys.toml"] = _for(contents["buildsys.toml"], boards.load(board, "--board").name)
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UserError(
                f"{folder} is not empty" if folder.is_dir() else f"{folder} is a file",
                "name a folder that does not exist yet, or an empty one",
            )
        return [_write(folder / to, each) for to, each in contents.items()]
    except OSError as error:
        raise UserError(f"{error.filename or folder}: {error.strerror}") from error


def _for(settings: bytes, board: str) -> bytes:
    """The settings of the starter with another board."""
    found, count = re.subn(rb'(?m)^board = "[^"]*"', f'board = "{board}"'.encode(), settings)
    assert count == 1, "the starter names its board"
    return found


def _contents(program: bool) -> dict[str, bytes]:
    names = PROGRAM if program else {}
    found = {to: (STARTER / names.get(name, name)).read_bytes() for name, to in FILES.items()}
    for package in OF_PROGRAMS if program else PACKAGES:
        for file in sorted((shipped("src") / package).iterdir()):
            if file.suffix in (".go", ".s") and not file.name.endswith("_test.go"):
                found[f"src/{package}/{file.name}"] = file.read_bytes()
    return found


def _write(path: Path, contents: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as file:
        file.write(contents)
    return path
