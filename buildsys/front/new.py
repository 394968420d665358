"""`buildsys new DIR`: a project with one small kernel, every line of it explained, which builds at once.

Its own files are in buildsys/starter. The Go packages beside it are those of the reference kernel,
copied as they are: the module is called `kernel` there as here.
"""

from __future__ import annotations

from pathlib import Path

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
PACKAGES = ("board", "memory", "semihosting", "uart")


def new(folder: Path) -> list[Path]:
    """Write the project to `folder`, which must be empty or not exist; returns the files. Raises UserError."""
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UserError(
                f"{folder} is not empty" if folder.is_dir() else f"{folder} is a file",
                "name a folder that does not exist yet, or an empty one",
            )
        return [_write(folder / to, contents) for to, contents in _contents().items()]
    except OSError as error:
        raise UserError(f"{error.filename or folder}: {error.strerror}") from error


def _contents() -> dict[str, bytes]:
    found = {to: (STARTER / name).read_bytes() for name, to in FILES.items()}
    for package in PACKAGES:
        for file in sorted((shipped("src") / package).iterdir()):
            if file.suffix in (".go", ".s") and not file.name.endswith("_test.go"):
                found[f"src/{package}/{file.name}"] = file.read_bytes()
    return found


def _write(path: Path, contents: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as file:
        file.write(contents)
    return path
