"""The reference kernel under each barrier policy: its Go object linked and patched again."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from buildsys.barriers.kept import Kept
from buildsys.config.barrier import COUNT, RECORD, USER, BarrierPolicy
from buildsys.config.project import load
from buildsys.front.steps import Steps
from buildsys.front.verify import case_of
from buildsys.machines import embedded, qemu
from buildsys.machines.outcome import End, Outcome
from buildsys.proof.case import Case
from tests.conftest import copy_project
from tests.machines.conftest import needs

FUNCTION = "main.onBarrier"
# Sums up what it is given, and says so in variables that no pointer is stored to.
GO = """package main

type entry struct {
	site, count uintptr
	slots       [8]uintptr
}

var batches, calls, pointers, sum uintptr

//go:noinline
func onBarrier(batch []entry) {
	batches++
	calls += uintptr(len(batch))
	for i := range batch {
		pointers += batch[i].count
		for _, slot := range batch[i].slots[:batch[i].count] {
			sum += slot
		}
	}
}
"""
Relink = Callable[..., Case]


@pytest.fixture(scope="session")
def with_function(tmp_path_factory: pytest.TempPathFactory) -> Steps:
    """The reference project with a function of Go's to give batches to, compiled."""
    root = copy_project(tmp_path_factory.mktemp("batches") / "project")
    (root / "src" / "batches.go").write_text(GO)
    main = root / "src" / "main.go"
    main.write_text(main.read_text().replace("func main() {\n", "func main() {\n\tonBarrier(nil)\n", 1))
    steps = Steps(dataclasses.replace(load(root), barrier=BarrierPolicy(USER, 64, FUNCTION)))
    for action in (steps.compile, steps.runtime):
        steps.records.perform(action())
    return steps


def linked(steps: Steps, folder: Path, policy: BarrierPolicy, edits: Mapping[str, Mapping[str, str]]) -> Case:
    """What `steps` compiled, linked and patched in `folder` with this policy; `edits` as for `mutants.relinked`."""
    folder.mkdir(parents=True, exist_ok=True)
    templates = folder / "edited"
    templates.mkdir()
    for name, replacements in edits.items():
        text = next(place / name for place in steps.project.templates if (place / name).exists()).read_text()
        for old, new in replacements.items():
            assert old in text, f"{name} has no {old!r}: this is no mutant"
            text = text.replace(old, new)
        (templates / name).write_text(text)
    project = dataclasses.replace(
        steps.project, root=folder, barrier=policy, templates=(templates, *steps.project.templates)
    )
    made = Steps(project)
    project.build.mkdir()
    for file in (steps.go_object, steps.runtime_json):
        shutil.copy2(file, project.build)
    for action in (made.link, made.patch):
        made.records.perform(action())
    return dataclasses.replace(case_of(made), rebuild=lambda there: Path(shutil.copy2(made.image, there / "again")))


@pytest.fixture
def relink(built: Steps, tmp_path: Path, request: pytest.FixtureRequest) -> Relink:
    """Make a case of a policy: `relink(COUNT, ring=…, edits={template: {old: new}})`."""
    made = [0]

    def make(name: str, ring: int = 8192, edits: Mapping[str, Mapping[str, str]] | None = None) -> Case:
        made[0] += 1
        policy = BarrierPolicy(name, ring, FUNCTION if name == USER else "")
        steps = request.getfixturevalue("with_function") if name == USER else built
        return linked(steps, tmp_path / f"linked{made[0]}", policy, edits or {})

    return make


@pytest.fixture(scope="session")
def counting(built: Steps, tmp_path_factory: pytest.TempPathFactory) -> Case:
    return linked(built, tmp_path_factory.mktemp("counting") / "linked", BarrierPolicy(COUNT), {})


@pytest.fixture(scope="session")
def recording(built: Steps, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """With room for every call there is."""
    return linked(built, tmp_path_factory.mktemp("recording") / "linked", BarrierPolicy(RECORD, 8192), {})


@pytest.fixture(scope="session")
def giving(with_function: Steps, tmp_path_factory: pytest.TempPathFactory) -> Case:
    return linked(with_function, tmp_path_factory.mktemp("giving") / "linked", with_function.project.barrier, {})


def ran(case: Case, machine: str = "embedded", more: Mapping[str, int] | None = None) -> tuple[Outcome, Kept]:
    """A run of the image of `case`, with what its policy keeps, and 64-bit words at the addresses in `more`."""
    kept = Kept(case.elf, case.barrier.name)
    ranges = [*kept.ranges, *(range(at, at + 8) for at in (more or {}).values())]
    if machine == "qemu":
        needs(qemu.PROGRAM, qemu.INSTALL)
        outcome = qemu.run(case.image, case.board, case.time_limit, keep=ranges)
    else:
        outcome = embedded.run(case.image, case.board, case.time_limit, keep=ranges)
    assert (outcome.end, outcome.exit_code) == (End.EXIT, 0)
    return outcome, kept
