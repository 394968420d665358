"""`info pages`: the same as QEMU translates, and as the board's tables are."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from buildsys.formats.elf import Elf
from buildsys.front.steps import Steps
from tests.debugging.conftest import Session

pytestmark = pytest.mark.slow

ASK = Path(__file__).with_name("ask_qemu.py")
ROW = re.compile(r"^ +(0x\w+) +\.\. +(0x\w+)  ([-rwxu]{3}(?: device)?) +(itself|0x\w+)$", re.MULTILINE)


def rows(said: str) -> list[tuple[int, int, str, int]]:
    """First address, last, rights, physical address."""
    return [
        (int(low, 16), int(high, 16), rights, int(low if to == "itself" else to, 16))
        for low, high, rights, to in ROW.findall(said)
    ]


@pytest.mark.parametrize("kind", ["built", "program"])
def test_every_range_is_where_qemu_says_it_is_and_around_it_nothing(
    kind: str, session: Session, request: pytest.FixtureRequest
) -> None:
    steps: Steps = request.getfixturevalue(kind)
    command = f"source {ASK}"
    asked = json.loads(session(steps, [command])[command])
    found, qemu = rows(asked["told"]), {int(at): physical for at, physical in asked["qemu"].items()}
    assert len(found) > 3
    for low, high, _, physical in found:
        assert (qemu[low], qemu[high - 1]) == (physical, physical + high - 1 - low)
    inside = [(low, high) for low, high, _, _ in found]
    around = [at for at in qemu if not any(low <= at < high for low, high in inside)]
    assert around
    assert {qemu[at] for at in around} == {None}
    for at, said in asked["walks"].items():
        physical = qemu[int(at)]
        if physical is None:
            assert said.endswith("every access faults")
        else:
            assert said.startswith(f"{int(at):#x} is {physical:#x}, ")


def test_an_address_is_followed_from_table_to_table(built: Steps, session: Session) -> None:
    entry = built.project.entry
    commands = (f"info pages '{entry}'", "info pages 0", "info pages 0xffff000000000000", "info pages nonsense")
    said = session(built, commands)
    address = Elf.read(built.image).symbols.addresses(entry)[entry]
    *levels, end = said[commands[0]].splitlines()[1:]
    assert [line.split()[1] for line in levels] == ["1", "2", "3"]
    assert levels[-1].endswith("page of 4 KiB")
    assert end == f"{address:#x} is {address:#x}, r-x"
    assert "0x0 is not mapped: every access faults" in said["info pages 0"]
    assert "is in no range that is translated" in said["info pages 0xffff000000000000"]
    assert "nonsense" in said["errors"]
    assert "Traceback" not in said["errors"]


def test_before_the_mmu_is_on_that_is_said(built: Steps, session: Session) -> None:
    said = session(built, ("info pages", "info pages $pc"), entry="enable_mmu")
    assert said["info pages"].startswith("the MMU is off (SCTLR_EL1.M is 0)")
    pc = Elf.read(built.image).symbols.addresses("enable_mmu")["enable_mmu"]
    assert said["info pages $pc"].splitlines()[-1] == f"{pc:#x} is {pc:#x}"
