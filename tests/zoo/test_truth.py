"""What a report says of an exception is what QEMU says of it itself: the trace of `-d int` is the other road."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from buildsys.crash.report import Run as Ran
from buildsys.crash.report import report
from buildsys.formats.elf import Elf
from buildsys.front.deadends import dead_ends
from buildsys.machines import embedded, qemu
from tests.zoo.conftest import ANIMALS, MACHINES, Animal, built

pytestmark = pytest.mark.slow
# target/arm/helper.c, arm_log_exception and arm_cpu_do_interrupt_aarch64; of QEMU 10 also the SPSR
TAKEN = re.compile(
    r"^Taking exception \d+ \[(?P<name>[^\]]+)\].*?^\.\.\.with ESR 0x(?P<kind>\w+)/0x(?P<esr>\w+)"
    r"(?:\n\.\.\.with FAR 0x(?P<far>\w+))?(?:\n\.\.\.with SPSR 0x\w+)?\n\.\.\.with ELR 0x(?P<elr>\w+)",
    re.MULTILINE | re.DOTALL,
)
# Those that come to an exception which a handler of ours tells of: the embedded emulator ends a run that finds no
# device.
FAULTS = [
    each
    for each in ANIMALS
    if each.status == 3
    or each.name in ("nil read", "nil write", "nil function", "call of nil", "a service of the runtime")
]


@pytest.mark.parametrize("animal", FAULTS, ids=[each.name for each in FAULTS])
def test_a_report_has_the_registers_of_the_exception_that_qemu_took(
    animal: Animal, zoo: Path, tmp_path: Path, needs_qemu: None
) -> None:
    steps = built(zoo, animal)
    trace, board, ends = tmp_path / "trace", steps.project.board, dead_ends(steps.patch_json)
    runs = {
        "qemu": qemu.run(
            steps.image, board, animal.limit, extra=("-d", "int", "-D", str(trace)), dead_ends=ends, snapshot=True
        )
    }
    if "embedded" in animal.on:
        runs["embedded"] = embedded.run(steps.image, board, animal.limit, dead_ends=ends, snapshot=True)
    assert runs.keys() <= set(MACHINES)
    taken = [each for each in TAKEN.finditer(trace.read_text()) if each["name"] != "Semihosting call"]
    first = taken[-1] if animal.hint == "exception in an exception" else taken[0]
    for machine, outcome in runs.items():
        assert outcome.snapshot is not None
        told = report(outcome.snapshot, Elf.read(steps.image), board, Ran(machine, "", b""))
        registers = told["registers"]
        assert int(told["cause"]["syndrome"], 16) == int(first["esr"], 16), machine
        assert int(registers["pc"], 16) == int(first["elr"], 16), machine
        assert int(first["kind"], 16) == int(first["esr"], 16) >> 26
        if told["cause"]["address"] is not None:
            assert first["far"], "QEMU tells a fault address where we do"
            assert int(told["cause"]["address"], 16) == int(first["far"], 16), machine
