"""The ready set `print`: print and println send to the serial port what they write on an operating system."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

from buildsys.errors import UserError
from buildsys.front.steps import Steps
from buildsys.front.verify import case_of
from buildsys.go.toolchain import GoToolchain
from buildsys.machines import embedded, qemu
from buildsys.machines.outcome import End
from buildsys.proof.reports import tried
from tests.conftest import ROOT
from tests.sets.conftest import build, fresh

SEND = """
// send says how long a text is.
//
//go:noinline
func send(text []byte) {
\tuart.At(port).PutDecimal(uint64(len(text)))
}

var port uintptr
"""
SOURCES = ROOT / "tests" / "kernels" / "prints"
GOS = ("system", "1.21", "1.22", "1.23", "1.24", "1.25", "1.26", "1.27")


def printing(root: Path, settings: str = "") -> Steps:
    fresh(root, "values()")
    shutil.copy2(SOURCES / "values.go", root / "src")
    return build(root, settings)


def printed(steps: Steps, machine: ModuleType) -> bytes:
    """What the kernel printed after its own last line."""
    outcome = machine.run(steps.image, steps.project.board, steps.project.time_limit)
    assert (outcome.end, outcome.exit_code) == (End.EXIT, 0)
    sent: bytes = outcome.serial
    return sent.partition(b" bytes\r\n")[2]


def natively(go: GoToolchain) -> bytes:
    """What the same program prints on the machine the tests run on, as a serial line has its lines."""
    environment = {name: value for name, value in go.environment().items() if name not in ("GOOS", "GOARCH")}
    done = subprocess.run([go.command, "run", "."], cwd=SOURCES, env=environment, capture_output=True, check=True)
    return done.stderr.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


@pytest.fixture(scope="module")
def prints(tmp_path_factory: pytest.TempPathFactory) -> Steps:
    return printing(tmp_path_factory.mktemp("prints") / "mine")


@pytest.mark.slow
def test_values_of_every_kind_are_printed_as_on_an_operating_system(prints: Steps) -> None:
    expected = natively(prints.go)
    assert expected.count(b"\r\n") > 30
    assert expected.endswith(b"120 that is all\r\n")
    assert printed(prints, embedded) == printed(prints, qemu) == expected


@pytest.mark.campaign
@pytest.mark.parametrize("go", GOS)
def test_so_they_are_with_every_go(tmp_path: Path, go: str) -> None:
    steps = printing(tmp_path / "mine", f'go = "{go}"\n')
    assert printed(steps, embedded) == printed(steps, qemu) == natively(steps.go)


def test_the_reference_kernel_prints(built: Steps) -> None:
    """What it prints by println is among what it tells."""
    for machine in (embedded, qemu):
        serial = machine.run(built.image, built.project.board, built.project.time_limit).serial
        assert re.search(rb"println: [0-9]+ checks, 0 failed, true\r\n", serial)


def test_without_the_set_panic_floating_point_is_refused_where_it_may_allocate(tmp_path: Path) -> None:
    """Since Go 1.26 what formats it could ask for memory; the set `panic` would have some to spare."""
    with pytest.raises(UserError) as caught:
        printing(tmp_path / "mine", 'sets = ["print"]\n')
    assert "internal/strconv." in caught.value.message


def test_what_the_kernel_redirects_itself_is_its_own(tmp_path: Path) -> None:
    root = fresh(tmp_path / "mine", 'console.Puts("<")\n\tprintln("ab")\n\tconsole.Puts(">")')
    port = "console := uart.At(table.UART)"
    source = root / "src" / "main.go"
    text = source.read_text().replace(port, f"port = table.UART\n\t{port}", 1)
    source.write_text(text.replace("\tKernelMain(nil)\n", "\tKernelMain(nil)\n\tsend(nil)\n", 1) + SEND)
    steps = build(root, '\n[redirect]\n"runtime.gwrite" = "main.send"\n')
    assert printed(steps, embedded) == b"<21>"
    own = "taken over by the kernel, no longer by this build: runtime.gwrite by main.send"
    assert own in steps.records.facts("patch")["remark"]
    report = json.loads(steps.patch_json.read_text())
    (told,) = [each for each in report["functions"] if each["name"] == "runtime.gwrite"]
    assert (told["to"], told["instead_of"]) == ("main.send", "print")
    assert tried(case_of(steps)).problems == ()
