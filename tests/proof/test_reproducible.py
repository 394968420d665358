"""The claim that building again gives the same bytes, and builds that do not."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from buildsys.config.project import load
from buildsys.front.steps import Steps
from buildsys.proof.case import Case
from buildsys.proof.claims import reproducible
from buildsys.proof.claims.reproducible import first_difference
from tests.conftest import copy_project

from .conftest import OnlyRed
from .mutants import edited, patched


def test_the_reference_kernel_passes(case: Case) -> None:
    """A real build, in a folder with another name."""
    verdict = reproducible.check(case)
    assert verdict.passed, verdict.details
    assert verdict.evidence["sha256"] == verdict.evidence["sha256 of the other"]


def rebuilt(folder: Path, edits: dict[str, tuple[str, str]]) -> Path:
    """The reference project built in `folder`, files of its saying something else; its templates are its own."""
    root = copy_project(folder / "project")
    settings = {"pyproject.toml": ("time-limit = 20", 'time-limit = 20\ntemplates = ["templates"]')}
    for name, (old, new) in (settings | edits).items():
        text = (root / name).read_text()
        assert old in text
        (root / name).write_text(text.replace(old, new))
    steps = Steps(load(root))
    for action in (steps.compile, steps.runtime, steps.link, steps.patch):
        steps.records.perform(action())
    return steps.image


def test_the_folders_name_in_the_image_is_seen(case: Case, only_red: OnlyRed) -> None:
    def rebuild(folder: Path) -> Path:
        text = ("text_0x:        .asciz ", f'text_folder: .asciz "{folder}"\ntext_0x:        .asciz ')
        return rebuilt(folder, {"templates/fatal.s.j2": text})

    mutant = dataclasses.replace(case, rebuild=rebuild)
    assert "built again" in only_red("the folder's name in the image", mutant, "reproducible").figure


def test_a_source_changed_since_the_build_is_seen(case: Case, only_red: OnlyRed) -> None:
    def rebuild(folder: Path) -> Path:
        return rebuilt(folder, {"src/main.go": ("Testing write barrier...", "Testing write barrier,,,")})

    changed = dataclasses.replace(case, rebuild=rebuild)
    said = only_red("a source changed after the build", changed, "reproducible").figure
    assert "is 0x2c, not 0x2e" in said
    assert ".rodata+0x" in said


def test_a_changed_byte_is_named_by_address_and_symbol(case: Case, tmp_path: Path, only_red: OnlyRed) -> None:
    """A byte of a string in read-only data: no other claim has an opinion on it."""
    section = case.elf.section(".rodata")
    assert section is not None
    text = b"Testing write barrier..."
    at = case.elf.data.index(text, section.offset)
    address = section.address + at - section.offset
    mutant = dataclasses.replace(patched(case, tmp_path, {address: b"t"}, linked=True), rebuild=case.rebuild)
    said = only_red("one byte of a string changed", mutant, "reproducible").figure
    variable = case.elf.symbols.object_at(address)
    assert variable is not None
    assert f"{address:#x} in {variable.name}" in said
    assert "is 0x54, not 0x74" in said


def test_a_shorter_image_is_seen(case: Case, tmp_path: Path, only_red: OnlyRed) -> None:
    size = len(case.elf.data)

    def rebuild(folder: Path) -> Path:
        (folder / "short.elf").write_bytes(case.elf.data[:-1])
        return folder / "short.elf"

    said = only_red("the last byte missing", dataclasses.replace(case, rebuild=rebuild), "reproducible").figure
    assert f"has {size - 1} bytes, not {size}" in said


def test_a_byte_of_no_section_is_seen(case: Case, tmp_path: Path, only_red: OnlyRed) -> None:
    mutant = dataclasses.replace(edited(case, tmp_path, {9: b"x"}), rebuild=case.rebuild)
    said = only_red("a byte of the ELF header changed", mutant, "reproducible").figure
    assert "byte 0x9 is 0x00, not 0x78" in said
    assert "headers" in said


@given(st.binary(max_size=40), st.binary(max_size=40), st.binary(max_size=40))
def test_the_first_difference_is_the_first(same: bytes, ours: bytes, theirs: bytes) -> None:
    a, b = same + ours, same + theirs
    at = first_difference(a, b)
    assert a[:at] == b[:at]
    assert at == min(len(a), len(b)) or a[at] != b[at]
