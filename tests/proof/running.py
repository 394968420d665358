"""Images with one thing wrong that only a run can tell, and which of the claims about runs see it.

As with the mutants of files (mutants.py), each test makes one change. A run is one chain of
causes, though: what stops the kernel early also leaves later stores undone. Tests say
which claims a change must falsify besides its own, and why.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import pytest

from buildsys.config.project import load
from buildsys.errors import UserError
from buildsys.formats.a64 import BRANCH, encode_branch
from buildsys.front.steps import Steps
from buildsys.front.verify import case_of
from buildsys.proof.case import Case
from buildsys.proof.claim import Claim, Result, Verdict
from buildsys.proof.claims import CLAIMS
from buildsys.proof.following import MOVES
from buildsys.proof.groups import Group, group_of

from .conftest import ROW

RUNNING = ("flag-at-run-time", "executions", "stores", "outcome")
NOP, RET = 0xD503201F, 0xD65F03C0
BL = BRANCH | 1 << 31

Record = Callable[[str, object], None]


def claims() -> dict[str, Claim]:
    """The claims about runs, by name."""
    found = {claim.name: claim for claim in CLAIMS if claim.name in RUNNING}
    assert tuple(found) == RUNNING
    return found


def verdicts(case: Case) -> dict[str, Verdict]:
    """What each claim about runs finds; as in `doit verify`, a UserError is a failure."""
    return {name: _verdict(claim, case) for name, claim in claims().items()}


def caught(record: Record, mutant: str, case: Case, expected: str, also: Collection[str] = ()) -> Verdict:
    """Assert that `expected` and the claims in `also` fail for `case`, and no other one about runs.

    `mutant` says what was changed; `record` is pytest's record_property: it makes a row of the
    table the suite prints. Returns the verdict on `expected`.
    """
    found = verdicts(case)
    red = {name: verdict.figure for name, verdict in found.items() if verdict.result is Result.FAILED}
    record(ROW, [mutant, expected, ", ".join(red) or "nothing"])
    assert red.keys() == {expected, *also}, red
    return found[expected]


def rebuilt(built: Steps, folder: Path, edits: Mapping[str, tuple[str, str]]) -> Case:
    """The reference kernel built with text replaced in its sources: `edits` gives, by file, what by what."""
    root = folder / "mutant"
    shutil.copytree(built.project.root, root)
    # The project's own templates come before those of the package.
    own = {"pyproject.toml": ("[tool.buildsys]\n", '[tool.buildsys]\ntemplates = ["templates", "linker"]\n')}
    for name, (old, new) in {**own, **edits}.items():
        text = (root / name).read_text("utf-8")
        assert old in text, f"{name} does not say {old!r}"
        (root / name).write_text(text.replace(old, new, 1), "utf-8")
    steps = Steps(load(root))
    for action in (steps.compile, steps.runtime, steps.link, steps.patch):
        steps.records.perform(action())
    return case_of(steps)


def without_qemu(case: Case, monkeypatch: pytest.MonkeyPatch) -> Case:
    """`case` with nothing run yet, on a machine without QEMU."""
    monkeypatch.setenv("PATH", "")
    return dataclasses.replace(case)


def word(value: int) -> bytes:
    """An instruction, as it is in memory."""
    return value.to_bytes(4, "little")


def words(*values: int) -> bytes:
    """Several instructions."""
    return b"".join(word(value) for value in values)


def load_address(register: int, address: int) -> tuple[int, int]:
    """movz and movk of a 32-bit address."""
    return (
        0xD2800000 | (address & 0xFFFF) << 5 | register,
        0xF2A00000 | (address >> 16 & 0xFFFF) << 5 | register,
    )


def branch(at: int, target: int) -> bytes:
    """A `b`."""
    return word(encode_branch(BRANCH, at, target))


def call(at: int, target: int) -> bytes:
    """A `bl`."""
    return word(encode_branch(BL, at, target))


def unused(case: Case) -> int:
    """Code that nothing runs, for instructions of a mutant's own: the kernel's main.main."""
    function = case.elf.symbols.named("main.main")["main.main"][0]
    assert function.size >= 32
    return function.value


def site(case: Case, function: str, called: str) -> int:
    """The one call of ours called `called` in `function`, which runs."""
    found = {
        at
        for name, at in case.embedded.executions
        if name == called and (symbol := case.elf.symbols.function_at(at)) and symbol.name == function
    }
    assert len(found) == 1, found
    return found.pop()


def group(case: Case, at: int) -> Group:
    """The line of code around the call at `at`."""
    ours = {pair.new.value: name for name, pair in case.called.items() if pair.new}
    found = group_of(case.elf, at, ours, MOVES)
    assert found is not None
    return found


def _verdict(claim: Claim, case: Case) -> Verdict:
    try:
        return claim.check(case)
    except UserError as error:
        return Verdict(Result.FAILED, error.message, {}, (error.message,), error.hint)
