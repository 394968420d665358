"""The machine beneath a program: its devices' registers and interrupts, its counter, the count of barriers."""

from __future__ import annotations

import json
from pathlib import Path

from tests.programs.conftest import Boot, text_of

UART = 33  # of the PL011 of QEMU's virt: hw/arm/virt.c, a15irqmap, and 32
RUN = "metal"


def test_a_program_sends_by_registers_and_is_told_by_interrupts(on_qemu: Boot) -> None:
    outcome = on_qemu(RUN, str(UART), more='barrier = "count"')
    assert text_of(outcome) == "abc\ndone metal\n"
    assert outcome.exit_code == 0


def test_devices_and_the_counter_are_there_on_the_embedded_emulator(on_embedded: Boot) -> None:
    assert text_of(on_embedded(RUN)) == "done metal\n"


def test_what_the_counts_say_is_the_program(on_qemu: Boot, program: Path) -> None:
    """Told twice: by the program at its end, and by memory when the run has ended."""
    outcome = on_qemu("collector", more='barrier = "count"')
    assert outcome.exit_code == 0
    report = json.loads((program / "build/patch.json").read_text())
    ours = [each for each in report["functions"] if each["kind"] == "program"]
    assert {each["name"] for each in ours} == {f"program.runtime.gcWriteBarrier{n}" for n in range(1, 9)}
    assert sum(each["count"] for each in ours) > 1000
