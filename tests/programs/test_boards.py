"""Programs on machines other than the usual one: little RAM, several cores, another interrupt controller."""

from __future__ import annotations

from pathlib import Path

from buildsys.config.board import BOARDS
from buildsys.config.project import load
from buildsys.front.new import new
from buildsys.front.steps import Steps
from buildsys.machines import embedded, qemu
from tests.programs.conftest import LIMIT, Boot, made, text_of


def test_eight_megabytes_are_enough_for_hello_world(tmp_path: Path) -> None:
    new(tmp_path / "hello", program=True)
    text, ram = (BOARDS / "qemu-virt.toml").read_text(), 'length = 0x{}00000\nkind = "ram"'
    assert text.count(ram.format("080")) == text.count('"128M"') == 1
    small = text.replace(ram.format("080"), ram.format("008")).replace('"128M"', '"8M"')
    (tmp_path / "hello/small.toml").write_text(small)
    settings = tmp_path / "hello/buildsys.toml"
    settings.write_text(settings.read_text().replace('"qemu-virt"', '"small.toml"'))
    steps = made(Steps(load(tmp_path / "hello")))
    for machine in (embedded, qemu):
        outcome = machine.run(steps.image, steps.project.board, LIMIT)
        assert text_of(outcome) == "Hello from Go: map[bare:4 metal:5]\n"
        assert outcome.exit_code == 0


def test_the_other_cores_of_a_machine_stay_parked(on_qemu: Boot) -> None:
    outcome = on_qemu("shared,goroutines,preempted", more='qemu-arguments = ["-smp", "4"]')
    assert text_of(outcome).splitlines() == ["done shared", "done goroutines", "done preempted"]


def test_a_program_runs_on_a_raspberry_pi_and_is_preempted_there(on_qemu: Boot) -> None:
    outcome = on_qemu("collector,shared,threads,preempted", more='board = "raspi3b"')
    assert text_of(outcome).splitlines() == ["done collector", "done shared", "done threads", "done preempted"]
