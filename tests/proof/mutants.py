"""Images with one thing wrong, and which claims see it.

A claim that no mutant can turn red is not a claim. Each test makes one change
to a good image and asserts, by the fixture `only_red` (conftest.py), that
exactly the claim it concerns fails; the fixture also writes the table that the
suite prints at its end.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from buildsys.config.board import Board
from buildsys.errors import UserError
from buildsys.formats.elf import Elf
from buildsys.formats.patch import patch, resolve
from buildsys.front.steps import Steps
from buildsys.proof.case import Case
from buildsys.proof.claim import Result, Verdict
from buildsys.proof.claims import CLAIMS

# The claims that look at files only; the others run the image.
STATIC = frozenset(
    {
        "barriers",
        "symbols",
        "call-sites",
        "flag-readers",
        "handlers",
        "boot-code",
        "memory-map",
        "reproducible",
        "stacks",
    }
)
# What a Case has found out from the Go object alone: the same for every mutant of an image.
_OF_THE_OBJECT = ("object", "plan", "offsets")


def patched(case: Case, folder: Path, changes: Mapping[int, bytes], *, linked: bool = False) -> Case:
    """`case` with other bytes at some addresses of its image, kept in `folder`.

    Only the patched image is changed, as by a call-site pass gone wrong, or with
    `linked` the unpatched one as well, as by a template or a linker gone wrong.
    Building again gives the mutant again: to that extent it is reproducible.
    """

    def offset(elf: Elf, address: int) -> int:
        at = elf.file_offset(address)
        assert at is not None, f"{elf.name} holds no byte for {address:#x}"
        return at

    def write(elf: Elf, name: str) -> Path:
        return _write(elf, folder / name, {offset(elf, address): new for address, new in changes.items()})

    image = write(case.elf, "mutant.elf")
    return of_files(case, image, write(case.before, "mutant.unpatched.elf") if linked else case.unpatched)


def edited(case: Case, folder: Path, changes: Mapping[int, bytes]) -> Case:
    """`case` with other bytes at some offsets of both its image files, such as in their headers."""
    image = _write(case.elf, folder / "mutant.elf", changes)
    return of_files(case, image, _write(case.before, folder / "mutant.unpatched.elf", changes))


def relinked(
    built: Steps, case: Case, folder: Path, edits: Mapping[str, Mapping[str, str]], board: Board | None = None
) -> Case:
    """`case` linked and patched again with other templates, or for another board than it is judged by.

    `edits` has for each template (or linker script) what is to be replaced by what, everywhere in it.
    """
    templates = folder / "edited"
    templates.mkdir()
    for name, replacements in edits.items():
        source = next(place / name for place in built.project.templates if (place / name).exists())
        text = source.read_text()
        for old, new in replacements.items():
            assert old in text, f"{source} has no {old!r}: this is no mutant"
            text = text.replace(old, new)
        (templates / name).parent.mkdir(exist_ok=True)
        (templates / name).write_text(text)
    project = dataclasses.replace(
        built.project,
        root=folder,
        templates=(templates, *built.project.templates),
        board=board or built.project.board,
    )
    steps = Steps(project)
    project.build.mkdir()
    for made in built.of_go:
        shutil.copy2(made, project.build)
    steps.records.perform(steps.link())
    # Not the patch stage: it refuses some of these images, and it is the claims that are tried here.
    unpatched = Elf.read(steps.unpatched)
    plan = case.plan
    done = patch(unpatched, resolve(unpatched, plan.called), resolve(unpatched, plan.entered))
    steps.image.write_bytes(done.contents)
    return of_files(case, steps.image, steps.unpatched)


def of_files(case: Case, image: Path, unpatched: Path) -> Case:
    """`case` with two other files as its images; building again gives `image` again.

    Its identity is not looked at, which is another in any of them: a pass gone wrong would identify what it made.
    """
    mutant = dataclasses.replace(
        case, image=image, unpatched=unpatched, rebuild=_copier(image), configuration=lambda: None
    )
    for name in _OF_THE_OBJECT:
        if name in vars(case):
            vars(mutant)[name] = vars(case)[name]
    return mutant


def red(case: Case) -> set[str]:
    """The names of the static claims that fail for `case`."""
    return {name for name, verdict in verdicts(case).items() if verdict.result is Result.FAILED}


def verdicts(case: Case) -> dict[str, Verdict]:
    """The verdict of every static claim, by name; as in `doit verify`, a UserError is a failure."""
    return {claim.name: _verdict(claim.check, case) for claim in CLAIMS if claim.name in STATIC}


def _verdict(check: Callable[[Case], Verdict], case: Case) -> Verdict:
    try:
        return check(case)
    except UserError as error:
        return Verdict(Result.FAILED, error.message, {}, (error.message,), error.hint)


def _write(elf: Elf, path: Path, changes: Mapping[int, bytes]) -> Path:
    contents = bytearray(elf.data)
    for at, new in changes.items():
        assert contents[at : at + len(new)] != new, f"offset {at:#x} holds {new.hex()} already: this is no mutant"
        contents[at : at + len(new)] = new
    path.write_bytes(contents)
    return path


def _copier(image: Path) -> Callable[[Path], Path]:
    return lambda folder: Path(shutil.copy2(image, folder / image.name))
