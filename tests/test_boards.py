"""The reference kernel on every board there is, and on boards of a user's own: built, booted and verified."""

from __future__ import annotations

import dataclasses
import re
import shutil
from itertools import pairwise
from pathlib import Path

import pytest

from buildsys.config import board as boards
from buildsys.config.board import BOARDS, PAGE, Board
from buildsys.formats.elf import PT_LOAD, SHF_EXECINSTR, SHF_WRITE, Elf
from buildsys.front.steps import Steps
from buildsys.front.verify import case_of, check
from buildsys.machines import embedded, gdb, qemu
from buildsys.machines.embedded import Machine
from buildsys.machines.outcome import End, Outcome
from buildsys.proof.bootcode import STARTS, Start, until_call
from buildsys.proof.case import Case
from buildsys.proof.claim import Result
from buildsys.proof.claims import CLAIMS
from buildsys.proof.claims.memory_map import allocated
from buildsys.proof.paging import needs
from tests.boards import build_for, with_keys
from tests.machines.conftest import needs as needs_program
from tests.proof.mutants import relinked

LAST = b"All tests passed! Exiting via semihosting...\r\n"
RAM_BOARD = (BOARDS / "qemu-virt-ram.toml").read_text()
FLASH_BOARD = (BOARDS / "qemu-virt.toml").read_text()

pytestmark = pytest.mark.usefixtures("_needs_qemu")


@pytest.fixture(scope="session")
def _needs_qemu() -> None:
    needs_program(qemu.PROGRAM, qemu.INSTALL)


@pytest.fixture(scope="session", params=boards.names())
def placed(request: pytest.FixtureRequest, built: Steps, tmp_path_factory: pytest.TempPathFactory) -> Steps:
    """The reference kernel for each board that comes with buildsys."""
    return build_for(built, request.param, tmp_path_factory.mktemp("board") / request.param)


@pytest.fixture(scope="session")
def placed_case(placed: Steps) -> Case:
    return case_of(placed)


def assert_proven(case: Case) -> None:
    """Every claim holds, none was left out."""
    lines = check(case, list(enumerate(CLAIMS, 1)))
    assert len(lines) == len(CLAIMS) > 10
    assert {line.claim.name: line.verdict.figure for line in lines if line.verdict.result is not Result.PASSED} == {}
    assert [run.machine for run in case.runs] == ["the embedded emulator", "QEMU"]


def test_every_claim_holds_on_every_board(placed_case: Case) -> None:
    assert_proven(placed_case)


def test_the_three_boards_are_there() -> None:
    assert {"qemu-virt", "qemu-virt-ram", "raspi3b"} <= set(boards.names())


def test_an_image_for_ram_is_loaded_where_it_lives(placed_case: Case) -> None:
    board, elf = placed_case.board, placed_case.elf
    loaded = [segment for segment in elf.segments if segment.kind == PT_LOAD and segment.memory_size]
    assert len(loaded) == 4
    moved = [segment for segment in loaded if segment.file_size and segment.lma != segment.vma]
    assert len(moved) == (1 if board.in_flash else 0)
    if not board.in_flash:
        assert all(segment.vma in board.ram for segment in loaded)
        # Permissions change at pages, and nothing but that keeps sections apart.
        sections = sorted(allocated(elf), key=lambda section: section.address)
        for below, above in pairwise(sections):
            assert above.address == -(-below.end // max(PAGE, above.alignment)) * max(PAGE, above.alignment)


def run_on(machine: str, image: Path, board: Board) -> Outcome:
    return qemu.run(image, board, 60) if machine == "QEMU" else embedded.run(image, board, 60)


@pytest.mark.parametrize("level", [1, 2, 3])
def test_it_boots_from_every_level_on_the_embedded_emulator(placed: Steps, level: int) -> None:
    board = dataclasses.replace(placed.project.board, exception_level=level)
    began: list[int] = []
    machine = Machine(board)
    machine.load(placed.image)
    # The first thing that depends on the level: mrs x0, CurrentEL.
    elf = Elf.read(placed.image)
    reads = next(at for at in range(elf.entry, elf.entry + 64, 4) if elf.word(at) == 0xD5384240)
    machine.watch(reads + 4, lambda machine: began.append(machine.register("x0") >> 2))
    outcome = machine.run(60)
    assert began == [level]
    assert (outcome.end, outcome.exit_code) == (End.EXIT, 0)
    assert outcome.serial.endswith(LAST)


# What QEMU calls a virt machine with an EL2 and an EL3. Its EL3 takes flash away from what is not secure.
LEVELS_OF_VIRT = {
    "virt,virtualization=on": ("qemu-virt", "qemu-virt-ram"),
    "virt,secure=on": ("qemu-virt-ram",),
    "virt,secure=on,virtualization=on": ("qemu-virt-ram",),
}


@pytest.mark.parametrize(
    ("machine", "name"), [(machine, name) for machine, names in LEVELS_OF_VIRT.items() for name in names]
)
def test_it_boots_from_every_level_on_qemu(built: Steps, tmp_path: Path, machine: str, name: str) -> None:
    steps = build_for(built, name, tmp_path / "project")
    board = steps.project.board
    arguments = tuple(machine if argument == "virt" else argument for argument in board.qemu)
    assert arguments != board.qemu
    outcome = qemu.run(steps.image, dataclasses.replace(board, qemu=arguments), 60)
    assert (outcome.end, outcome.exit_code) == (End.EXIT, 0), outcome
    assert outcome.serial.endswith(LAST)


# No processor of the embedded emulator is without an EL2; QEMU's machine is, in the test above.
@pytest.mark.parametrize("begins", [start for start in STARTS if start.has_el2], ids=str)
def test_what_is_followed_from_each_level_is_what_runs(placed_case: Case, begins: Start) -> None:
    """Registers at the entry, and the level it is entered at, are those that following foretold."""
    _, call = until_call(placed_case.boot.starts[begins])
    assert call is not None
    machine = Machine(dataclasses.replace(placed_case.board, exception_level=begins.level))
    machine.load(placed_case.image)
    arrived: list[dict[str, int]] = []
    machine.watch(
        call.target or 0,
        lambda machine: arrived.append(machine.registers() | {"level": machine.register("pstate") >> 2 & 3}),
    )
    assert machine.run(60).exit_code == 0
    (registers,) = arrived
    known = {f"x{number}": value.number for number, value in enumerate(call.registers) if value.number is not None}
    known.pop("x30", None)  # the call sets it
    assert {"x0", "x28"} <= known.keys()
    assert {name: registers[name] for name in known} == known
    assert (registers["sp"], registers["level"]) == (call.sp.number, 1)


# What is done, the exception class and fault status it leads to, and where: a symbol, or nowhere for address 0.
FAULTS = {
    "a nil pointer is followed": ("    mov x1, xzr\n    ldr x1, [x1]\n", 0x25, 0x04, ""),
    "code is written": ("    adr x1, _start\n    str x1, [x1]\n", 0x25, 0x0C, "_start"),
    "constants are written": (
        "    adrp x1, buildsys.board\n    add x1, x1, :lo12:buildsys.board\n    str x1, [x1]\n",
        0x25,
        0x0C,
        "buildsys.board",
    ),
    "constants are run": (
        "    adrp x1, buildsys.board\n    add x1, x1, :lo12:buildsys.board\n    br x1\n",
        0x21,
        0x0C,
        "buildsys.board",
    ),
    "a stack is run off": ("    adrp x1, __stack_guard\n    str x1, [x1]\n", 0x25, 0x04, "__stack_guard"),
    "data is run": ("    adrp x1, __stack_low\n    br x1\n", 0x21, 0x0C, "__stack_low"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_page_tables_protect_on_both_emulators(
    built: Steps, placed: Steps, placed_case: Case, tmp_path: Path, fault: str
) -> None:
    """What must not be done faults, with the level 3 tables as the processor reads them, and is reported."""
    code, kind, status, where = FAULTS[fault]
    broken = relinked(placed, placed_case, tmp_path, {"boot.s.j2": {"    blr     x9\n": f"{code}    blr     x9\n"}})
    address = broken.elf.symbols.addresses(where)[where] if where else 0
    serials = []
    for machine in ("the embedded emulator", "QEMU"):
        outcome = run_on(machine, broken.image, placed.project.board)
        assert (outcome.end, outcome.exit_code) == (End.EXIT, 3 if where else 2), outcome
        told = re.match(rb"exception: ESR_EL1 (\w+) ELR_EL1 (\w+) FAR_EL1 (\w+)\r\n", outcome.serial)
        assert told, outcome.serial
        syndrome, _, at = (int(number, 16) for number in told.groups())
        # Arm ARM, ESR_EL1: the class; of an abort, the fault status without its level.
        assert (syndrome >> 26, syndrome & 0x3C) == (kind, status), f"{machine}: {syndrome:#x}"
        assert at == address
        serials.append(outcome.serial)
    assert serials[0] == serials[1]


def test_what_must_be_mapped_is_told_from_the_image(placed_case: Case) -> None:
    """The oracle of the page tables, against the section headers: each page has the rights of what is in it."""
    needed = needs(placed_case.board, placed_case.elf)
    for section in allocated(placed_case.elf):
        use = "writable" if section.flags & SHF_WRITE else "code" if section.flags & SHF_EXECINSTR else "constants"
        assert [need.use for need in needed if need.low <= section.address and section.end <= need.high] == [use]
    assert sum(need.use == "code" for need in needed) == 1


@pytest.fixture
def _no_settings_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))


@pytest.mark.usefixtures("_no_settings_of_the_user")
def test_gdb_stops_at_the_entry_on_every_board(placed: Steps, capfd: pytest.CaptureFixture[str]) -> None:
    needs_program(gdb.PROGRAMS[0], gdb.INSTALL)
    project = placed.project
    assert gdb.debug(placed.image, project.board, project.entry, project.package, batch=("print $pc", "continue")) == 0
    said = capfd.readouterr().out
    assert re.search(r"Breakpoint 1, .*main\.KernelMain", said)
    assert "exited normally" in said


OWN = {
    "RAM, data far above the code": with_keys(
        RAM_BOARD, arguments='["-machine", "virt", "-cpu", "cortex-a72", "-m", "64M", "-nic", "none"]'
    )
    .replace("length = 0x08000000", "length = 0x04000000")
    .replace("text = 0x40200000", "text = 0x40345000\nbss = 0x41234000"),
    "RAM of odd pages, larger stacks": RAM_BOARD.replace("origin = 0x40000000", "origin = 0x40103000")
    .replace("length = 0x08000000", "length = 0x01fff000")
    .replace("text = 0x40200000", "text = 0x40107000")
    .replace("stack = 0x20000", "stack = 0x123450"),
    "code in one RAM, data in another": RAM_BOARD.replace(
        "[memory.ram]", '[memory.fast]\norigin = 0x40200000\nlength = 0x00201000\nkind = "ram"\n\n[memory.ram]'
    )
    .replace("origin = 0x40000000", "origin = 0x40401000")
    .replace("length = 0x08000000", "length = 0x00800000")
    .replace("text = 0x40200000", "text = 0x40200000\nbss = 0x40403000"),
    "flash of odd pages, less RAM": re.sub(
        r"origin = 0x00000000\nlength = 0x08000000", "origin = 0x00101000\nlength = 0x00305000", FLASH_BOARD
    )
    .replace("length = 0x08000000\nkind = \"ram\"", "length = 0x00305000\nkind = \"ram\"")
    .replace("text = 0x00200000", "text = 0x00103000"),
    "another processor, another level": with_keys(
        RAM_BOARD,
        cpu='"cortex-a53"',
        exception_level="2",
        arguments='["-machine", "virt,virtualization=on", "-cpu", "cortex-a53", "-m", "128M", "-nic", "none"]',
    ),
}  # fmt: skip


@pytest.mark.parametrize("text", OWN.values(), ids=OWN.keys())
def test_a_board_of_ones_own_needs_nothing_but_its_file(built: Steps, tmp_path: Path, text: str) -> None:
    assert text not in (RAM_BOARD, FLASH_BOARD)
    steps = build_for(built, text, tmp_path / "project")
    assert steps.project.board.path.name == "own.toml"
    assert_proven(case_of(steps))
    shutil.rmtree(tmp_path / "project")


@pytest.mark.parametrize("toolchain", ["zig", "gnu"])
def test_each_linker_places_everything_in_ram(built: Steps, tmp_path: Path, toolchain: str) -> None:
    text = RAM_BOARD.replace("text = 0x40200000", "text = 0x40200000\nbss = 0x40800000")
    steps = build_for(built, text, tmp_path / "project")
    again = Steps(dataclasses.replace(steps.project, toolchain=toolchain))
    for action in (again.link, again.patch):
        again.records.perform(action())
    elf = Elf.read(again.image)
    found = {section.name: section.address for section in allocated(elf)}
    assert (found[".text"], found[".bss"]) == (0x40200000, 0x40800000)
    assert found[".rodata"] % PAGE == found[".data"] % PAGE == 0
    assert all(segment.lma == segment.vma for segment in elf.segments if segment.kind == PT_LOAD)
    assert embedded.run(again.image, again.project.board, 60).exit_code == 0
