"""`doit size`: what takes the memory of the board, by region, section, package and symbol; and what changed.

The rows of each table add up to its last one. `build/size.html` is the same to look at.
"""

from __future__ import annotations

import json
import subprocess
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

from buildsys import files
from buildsys.cache.caches import Caches
from buildsys.config.project import load
from buildsys.config.toml import nearest
from buildsys.errors import MissingError, UserError
from buildsys.formats.elf import Elf
from buildsys.front.reporter import Failed
from buildsys.front.steps import Steps
from buildsys.sizes import snapshot
from buildsys.sizes.account import Account, account
from buildsys.sizes.names import Names, definitions
from buildsys.stages.programs import PREFIX

LAST = "last"  # what is compared with, if it is the build before this one
SAVED = "sizes"  # the folder in the build folder where those saved by a name are
PAGE = "size.html"
PATTERNS = "a name is that of a package or of a symbol, `*` stands for any part of it: `doit size 'runtime.*' --all`"


@dataclass(frozen=True)
class Asked:
    """What the user wants to see: the tables `by` which rows, with all of their rows or the largest ones."""

    by: Sequence[str]
    every: bool
    compare: str
    save: str
    as_json: bool
    patterns: Sequence[str]


def size(steps: Steps, asked: Asked) -> Failed | None:
    """Show the sizes of the image, save or compare them."""
    from buildsys.front import size_text

    if unknown := [each for each in asked.by if each not in size_text.TABLES]:
        return Failed(UserError(f"--by {unknown[0]}: there is no such table", nearest(unknown[0], size_text.TABLES)))
    try:
        found = measured(steps, steps.image)
        if none := size_text.unmatched(found, asked.patterns):
            return Failed(UserError(f"no package or symbol of the image is {none!r}", PATTERNS))
        before = _before(steps, asked.compare) if asked.compare else None
        if asked.save:
            snapshot.save(found, _saved(steps, asked.save))
        page = _write_page(steps, found)
    except UserError as error:
        return Failed(error)
    if asked.as_json:
        told = snapshot.as_json(found)
        if before:
            told["compared with"] = {"what": asked.compare, **size_text.changes_as_json(before, found)}
        print(json.dumps(told, indent=1))
        return None
    lines = size_text.tables(found, asked.by, asked.every, asked.patterns)
    if before:
        lines = size_text.comparison(before, found, _what(asked.compare), asked.every)
    print("\n".join(lines))
    if asked.save:
        print(f"{_saved(steps, asked.save)}: saved; `doit size --compare {asked.save}` will tell what changed since")
    print(f"{page}: the same to look at", flush=True)
    return None


def measured(steps: Steps, image: Path) -> Account:
    """The account of `image`, which `steps` built, or built before. Raises UserError."""
    elf = Elf.read(image)
    return replace(account(elf, steps.project.board, names(steps, elf)), image=_within(image, steps.project.root))


def names(steps: Steps, elf: Elf) -> Names:
    """Whose the symbols of an image are: of packages by their names, of assembly by the objects in the build folder."""
    made: dict[tuple[str, int, int], str] = {}
    for file, built in steps.assembled:
        made = {**definitions(file, Elf.read(built).symbols.all()), **made}
    ends = elf.symbols.named(*(f"{prefix}runtime.{name}" for prefix in ("", PREFIX) for name in ("text", "etext")))
    code = [
        (low.value, high.value)
        for prefix in ("", PREFIX)
        for low, high in zip(ends[f"{prefix}runtime.text"], ends[f"{prefix}runtime.etext"], strict=False)
    ]
    return Names(made, tuple(sorted(code)), steps.project.program is not None)


def _within(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def _what(compared: str) -> str:
    return "the build before" if compared == LAST else compared


def _saved(steps: Steps, name: str) -> Path:
    """Where sizes are saved under `name`, which may be a file's."""
    if "/" in name or name.endswith(".json"):
        return steps.project.root / name
    return steps.project.build / SAVED / f"{name}.json"


def _before(steps: Steps, compared: str) -> Account:
    """What to compare with: the build before, saved sizes, or a revision of git's. Raises UserError."""
    if compared == LAST:
        if not steps.previous.is_file():
            raise UserError(
                f"{steps.project.build}: there was one build only: nothing is kept of one before it",
                "build once more after a change, or name a git revision: `doit size --compare HEAD`",
            )
        return measured(steps, steps.previous)
    saved = _saved(steps, compared)
    if saved.is_file():
        return snapshot.read(saved)
    return _of_revision(steps, compared)


def _of_revision(steps: Steps, revision: str) -> Account:
    """The sizes of the project as it is in a revision of git's, built in a folder of its own. Raises UserError."""
    root, project = steps.project.root.resolve(), steps.project
    commit = _git(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}").strip()
    if not commit:
        known = sorted(path.stem for path in (project.build / SAVED).glob("*.json"))
        raise UserError(
            f"--compare {revision}: is no revision of git's here, and no sizes are saved under that name",
            f"`{LAST}` is the build before this one; " + (f"saved: {', '.join(known)}" if known else "none are saved"),
        )
    top = Path(_git(root, "rev-parse", "--show-toplevel").strip())
    with tempfile.TemporaryDirectory(prefix="buildsys-size-") as folder:
        archive = subprocess.run(["git", "archive", "--format=tar", commit], cwd=top, capture_output=True, check=False)
        if archive.returncode:
            raise UserError(f"git archive {revision}: {archive.stderr.decode('utf-8', 'replace').strip()}")
        with tarfile.open(fileobj=BytesIO(archive.stdout)) as members:
            # Python 3.11.4 and newer: nothing outside the folder, no devices. Before that there is no such thing.
            members.extraction_filter = getattr(tarfile, "data_filter", None)
            members.extractall(folder)
        there = Path(folder) / root.relative_to(top)
        try:
            then = load(there, project.kernel)
            old = Steps(then, caches=Caches(then.caching) if then.caching else None)
            old.make_ready()
            for action in (old.compile, old.runtime, old.link, old.patch):
                old.records.perform(action())
            if old.records.caches:
                old.records.caches.settle()
            return measured(old, old.image)
        except UserError as error:
            said = error.message.replace(f"{there}/", "")
            raise UserError(f"{revision} cannot be built: {said}", error.hint) from error


def _git(folder: Path, *arguments: str) -> str:
    """What git prints; nothing if it fails. Raises UserError if there is no git."""
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise MissingError("git is not installed", "a revision can be compared with only where git is") from error
    return done.stdout if done.returncode == 0 else ""


def _write_page(steps: Steps, found: Account) -> str:
    from buildsys.front.size_page import page

    path = steps.project.build / PAGE
    try:
        files.replace(path, page(found).encode())
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    return _within(path, steps.project.root)
