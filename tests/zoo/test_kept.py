"""A crash that was kept: gdb reads it as we do, `doit crash` shows it again, and it is of one image."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from buildsys.crash.facts import Facts
from buildsys.crash.folder import CORE, IMAGE, refuse_other
from buildsys.crash.hints import chosen, hints
from buildsys.errors import UserError
from buildsys.front import crash
from buildsys.machines import gdb
from tests.machines.conftest import needs
from tests.zoo.conftest import ANIMALS, MACHINES, Animal, Run, built

pytestmark = pytest.mark.slow
BT = re.compile(r"^#\d+ +(?:0x(\w+) in )?([\w.()*\[\]/]+) \(", re.MULTILINE)


def animal(name: str) -> Animal:
    return next(each for each in ANIMALS if each.name == name)


@pytest.mark.parametrize("name", ["store to flash", "breakpoint"])
@pytest.mark.parametrize("machine", MACHINES)
def test_gdb_unwinds_the_kept_machine_to_the_same_frames(name: str, machine: str, seen: Run) -> None:
    needs("gdb-multiarch", gdb.INSTALL)
    run = seen(animal(name), machine)
    assert run.folder is not None
    told = subprocess.run(
        [
            gdb.program(), "-q", "-nx", "-batch", "-iex", "set osabi GNU/Linux", "-iex", "set auto-load no",
            run.folder / IMAGE, run.folder / CORE, "-ex", "bt", "-ex", "info registers",
        ],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    theirs = [found.replace("[", ".").replace("]", "") for _, found in BT.findall(told)]
    assert list(dict.fromkeys(theirs)) == [frame["function"] for frame in run.report["frames"]]
    for name_, value in run.report["registers"].items():
        if re.fullmatch(r"x\d+|sp|pc", name_):
            found = re.search(rf"^{name_} +(0x\w+)", told, re.MULTILINE)
            assert found
            assert int(found[1], 16) == int(value, 16)


def test_the_report_can_be_shown_again(
    seen: Run,
    zoo: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = seen(animal("breakpoint"), "embedded")
    assert run.folder is not None
    steps = built(zoo, animal("breakpoint"))
    for named in ([], [str(run.folder)], [run.folder.name[:5]]):
        assert crash.crash(steps, named, as_json=False) is None
        shown = capsys.readouterr().out
        assert "crash: brk #0x2a" in shown
        assert "g0, which boot code runs the kernel on" in shown
        assert "the zoo: 16" in shown
    assert crash.crash(steps, [], as_json=True) is None
    told = json.loads(capsys.readouterr().out)
    assert told == run.report
    assert told["identity"].startswith(run.folder.name)
    failed = crash.crash(steps, ["nonsense"], as_json=False)
    assert failed is not None
    assert "known: " in str(failed)


def test_a_crash_of_another_image_is_refused(seen: Run, tmp_path: Path) -> None:
    run = seen(animal("breakpoint"), "embedded")
    assert run.folder is not None
    refuse_other(run.folder, run.report)
    shutil.copytree(run.folder, tmp_path / "copy")
    other = seen(animal("system call"), "embedded")
    assert other.folder is not None
    shutil.copy2(other.folder / IMAGE, tmp_path / "copy" / IMAGE)
    with pytest.raises(UserError, match="the crash is of"):
        refuse_other(tmp_path / "copy", run.report)


def test_a_stack_pointer_that_is_no_multiple_of_16_has_a_hint() -> None:
    """No emulator here notices one."""
    found = chosen(hints(), Facts(frozenset({"misaligned sp"}), {"sp_value": "0x4007ee48"}))
    assert found is not None
    assert found.name == "misaligned stack pointer"
    assert found.says.endswith("it is 0x4007ee48")
