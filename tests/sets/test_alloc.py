"""The ready set `alloc`: Go code that allocates says on bare metal what it says where Go has its own runtime."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from buildsys.config.project import load
from buildsys.errors import UserError
from buildsys.front.new import new
from buildsys.front.steps import Steps
from buildsys.front.verify import case_of
from buildsys.machines import embedded, qemu
from buildsys.machines.outcome import Outcome
from buildsys.proof import allocations
from buildsys.proof.claims import boot_code, executions, memory_map

from .allocating import built_of, copy_kernels, natively

pytestmark = pytest.mark.slow

Build = Callable[..., Steps]


@pytest.fixture(scope="session")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project, for a session."""
    return copy_kernels(tmp_path_factory.mktemp("kernels"))


@pytest.fixture(scope="session")
def build(kernels: Path) -> Build:
    """Build one of the kernels, once."""
    known: dict[str, Steps] = {}

    def of(kernel: str) -> Steps:
        if kernel not in known:
            known[kernel] = built_of(kernels, kernel)
        return known[kernel]

    return of


@pytest.fixture(scope="session")
def said(kernels: Path, build: Build) -> str:
    """What the features say natively: a line each, and none of a fault."""
    text = natively(kernels, build("plain").go)
    assert len(text.splitlines()) > 30
    assert ", 0 faults" in text
    return text


# Put into the kernel that `buildsys new` writes.
MORE = """\
	var squares []string
	for i := 1; i <= 3; i++ {
		squares = append(squares, string(rune('0'+i*i)))
	}
	counts := map[string]int{squares[0]: 7}
	console.Puts(squares[0] + squares[1] + squares[2] + "\\r\\n")
	console.PutDecimal(uint64(counts["1"]))
"""


def ran(steps: Steps, machine: str = "embedded") -> Outcome:
    if machine == "qemu":
        return qemu.run(steps.image, steps.project.board, 20)
    return embedded.run(steps.image, steps.project.board, 20)


def text_of(outcome: Outcome) -> str:
    return outcome.serial.decode().replace("\r\n", "\n")


@pytest.mark.parametrize("machine", ["embedded", "qemu"])
@pytest.mark.parametrize("kernel", ["plain", "reports", "dirty", "own"])
def test_every_feature_has_the_value_it_has_natively(build: Build, said: str, kernel: str, machine: str) -> None:
    """`dirty` fills memory before it is handed out; `own` has an allocator in Go."""
    outcome = ran(build(kernel), machine)
    assert text_of(outcome) == said
    assert outcome.exit_code == 0


def test_without_the_set_the_image_is_refused(kernels: Path) -> None:
    steps = Steps(load(kernels, "without"))
    for action in (steps.compile, steps.runtime, steps.link):
        steps.records.perform(action())
    with pytest.raises(UserError, match=r"the kernel can reach it:\n  main\.KernelMain\n"):
        steps.records.perform(steps.patch())


@pytest.mark.parametrize("machine", ["embedded", "qemu"])
@pytest.mark.parametrize("kernel", ["exhaust", "exhaust-reports"])
def test_memory_is_handed_out_to_its_end_and_then_the_run_fails(build: Build, kernel: str, machine: str) -> None:
    outcome = ran(build(kernel), machine)
    assert outcome.exit_code == 2
    text = text_of(outcome)
    assert "out of memory" in text
    # Blocks of 100,000 bytes of 1 MiB, and the slices that hold them.
    assert re.findall(r"(?m)^\d+$", text) == [str(n) for n in range(11)]
    if kernel == "exhaust-reports":
        assert "main.Exhaust" in text


@pytest.mark.parametrize("kernel", ["toomuch", "toomuch-reports"])
def test_more_than_there_can_be_is_out_of_memory_at_once(build: Build, kernel: str) -> None:
    outcome = ran(build(kernel))
    assert (outcome.exit_code, "out of memory" in text_of(outcome)) == (2, True)


def test_what_is_handed_out_is_not_the_kernels_heap(build: Build) -> None:
    names = ("__heap_low", "__heap_high", "__alloc_low", "__alloc_high")
    half = [case_of(build("plain")).elf.symbols.addresses(*names)[name] for name in names]
    assert half[0] < half[1] == half[2] < half[3] == build("plain").project.board.ram.end
    assert abs((half[1] - half[0]) - (half[3] - half[2])) <= 4096
    asked = [case_of(build("exhaust")).elf.symbols.addresses(*names)[name] for name in names]
    assert asked[3] - asked[2] == 0x100000
    assert asked[1] == asked[2]
    assert "__alloc_low" not in case_of(build("own")).elf.symbols.addresses(*names)


@pytest.mark.parametrize("kernel", ["plain", "own"])
def test_the_claims_about_it_hold(build: Build, kernel: str) -> None:
    case = replace(case_of(build(kernel)), alone=True)  # both emulators run it above
    assert allocations.tried(case).problems == []
    for claim in (boot_code, memory_map, executions):
        verdict = claim.check(case)
        assert verdict.passed, verdict.details
    called = set(case.plan.of_set("alloc").calls)
    ran_ours = {name for name, count in case.embedded.by_function.items() if count}
    assert "runtime.mallocgc" in called & ran_ours
    # Since Go 1.27 compiled code calls the variants for size classes itself.
    assert any(re.search(r"SC\d+$", name) for name in called & ran_ours)


def test_an_allocator_that_allocates_is_refused(kernels: Path) -> None:
    with pytest.raises(UserError, match=r"main\.careless is to allocate, and allocates itself") as refused:
        built_of(kernels, "careless")
    assert refused.value.message.splitlines()[1:] == [
        "  main.careless",
        "  → runtime.growslice",
        "  → runtime.mallocgc",
    ]


def test_an_allocator_that_is_not_there_is_refused(kernels: Path) -> None:
    with pytest.raises(UserError, match=r"`alloc` names main\.alocate") as refused:
        built_of(kernels, "nobody")
    assert "did you mean main.allocate?" in refused.value.hint


def test_a_kernel_of_the_users_allocates(tmp_path: Path) -> None:
    new(tmp_path / "mine")
    settings = tmp_path / "mine" / "buildsys.toml"
    settings.write_text('sets = ["alloc"]\n' + settings.read_text())
    main = tmp_path / "mine" / "src" / "main.go"
    text = main.read_text()
    old = "\tconsole.Puts(*greeting)"
    assert old in text
    main.write_text(text.replace(old, MORE + old, 1))
    steps = built_of(tmp_path / "mine", "")
    for machine in ("embedded", "qemu"):
        outcome = ran(steps, machine)
        assert outcome.exit_code == 0
        assert text_of(outcome).startswith("149\n7Hello from Go")
