"""A kernel that was built by a linker script of its own, and never ends, with configuration alone.

tests/kernels/foreign takes symbols of that script from Go and from assembly, has addresses of an image of long
ago, a section without flags, its author's paths, a screen and PCI devices.
"""

from __future__ import annotations

import dataclasses
import re
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from buildsys.config.project import load
from buildsys.formats.elf import SHT_SYMTAB, Elf
from buildsys.front.steps import Steps
from buildsys.front.verify import case_of
from buildsys.proof.case import Case
from buildsys.proof.claims import boot_code, symbols
from tests.conftest import ROOT
from tests.outside.conftest import Outside, Venv

FOREIGN = ROOT / "tests" / "kernels" / "foreign"
RUNNING = "foreign: begins\nPCI: the host's bridge\nforeign: running"


@pytest.fixture(scope="module")
def built(venv: Venv, tmp_path_factory: pytest.TempPathFactory) -> Outside:
    """The kernel, built; not to be changed."""
    folder = tmp_path_factory.mktemp("foreign") / "foreign"
    shutil.copytree(FOREIGN, folder)
    project = Outside(folder, venv)
    project.doit("build").succeeded()
    return project


@pytest.fixture
def foreign(built: Outside, tmp_path: Path) -> Outside:
    """The same, to do anything with."""
    shutil.copytree(built.folder, tmp_path / "foreign")
    return Outside(tmp_path / "foreign", built.venv)


def test_it_runs_until_its_last_line_on_both_emulators(built: Outside) -> None:
    for machine in ("run-embedded", "run-qemu"):
        ended = built.doit(machine).succeeded()
        assert ended.out.endswith(f"{RUNNING}\n"), ended.out
        assert "sent what ends its run" in ended.err


def test_it_is_proved(built: Outside) -> None:
    said = built.doit("verify", "--strict").succeeded().out
    assert "13 of 13 claims hold" in said
    assert "3 symbols as configured, at 4 places of Go's, 1 literals" in said
    assert "'foreign: running' sent" in said


def test_the_gnu_tools_make_the_same_of_it(foreign: Outside) -> None:
    foreign.set('toolchain = "gnu"')
    assert "13 of 13 claims hold" in foreign.doit("verify", "--strict").succeeded().out


@pytest.mark.parametrize(
    ("lost", "said"),
    [
        ('__end = "__heap_low"\n', "ERROR: the end of the kernel is within it"),
        ('"main.vectorsStart" = "exception_vectors"\n', "its vector, 0x"),
        ('0x40026b40 = "runtime.writeBarrier"\n', "ERROR: the flag is not where it was"),
    ],
)
def test_what_is_left_out_is_missed(foreign: Outside, lost: str, said: str) -> None:
    """Each piece of the configuration does something: without it the kernel fails as it does elsewhere."""
    foreign.replace("buildsys.toml", lost, "")
    ended = foreign.doit("run-embedded", "--time-limit", "2")
    assert ended.status != 0
    assert "foreign: running" not in ended.out
    assert said in ended.out + ended.err


def test_a_change_of_a_symbol_links_again_without_go(foreign: Outside) -> None:
    before = foreign.path("build/kernel.elf").read_bytes()
    foreign.replace("buildsys.toml", '"__heap_low"', '"__heap_low + 0x1000"')
    said = foreign.doit("build").succeeded().out
    assert "link" in said
    assert "compile" not in said
    assert foreign.path("build/kernel.elf").read_bytes() != before
    assert "13 of 13 claims hold" in foreign.doit("verify", "--strict").succeeded().out
    foreign.replace("buildsys.toml", '"__heap_low + 0x1000"', '"__heap_low"')
    foreign.doit("build").succeeded()
    assert foreign.path("build/kernel.elf").read_bytes() == before


def test_a_file_at_a_moved_path_is_an_input(foreign: Outside) -> None:
    foreign.path("assets/picture.bin").write_bytes(b"\xff" * 8)
    ended = foreign.doit("run-embedded")
    assert ended.status == 1
    assert "ERROR: the picture" in ended.out


def test_what_must_not_run_and_does_is_told(foreign: Outside) -> None:
    foreign.replace("kernel/pages.go", "p.address < base {", "p.address > base {")
    ended = foreign.doit("run-embedded")
    assert ended.status == 2
    assert "fatal: a function redirected to buildsys.unexpected called from 0x" in ended.out


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            '"main.vectorsStart" =',
            '"vectorsStart" =',
            ("neither Go nor assembly names", "did you mean main.vectorsStart?"),
        ),
        (
            '"exception_vectors"',
            '"exception_vector"',
            ("nothing is called exception_vector", "did you mean exception_vectors?"),
        ),
        ('__end = "__heap_low"', '__end = "runtime.g0"', ("which a linker cannot name",)),
        ('__end = "__heap_low"', '"main.fail" = "__heap_low"', ("main.fail", "only variables can be placed")),
        ('__end = "__heap_low"', '__bss_end = "__heap_low"', ("__bss_end", "defines already")),
        ("0x40026b40 =", "0x40026b44 =", ("holds 0x40026b44, and it does not", "it holds 0x40026b40")),
        ('"main.flagSet"]', '"main.flagSte"]', ("main.flagSte", "did you mean main.flagSet?")),
        (
            '"runtime.writeBarrier"',
            '"runtime.writeBarier"',
            ("nothing is called runtime.writeBarier", "did you mean runtime.writeBarrier?"),
        ),
        ('".vectors" = "ax"', "", ("section .vectors", '"ax"', "`sections`")),
        (
            '"/home/author/kernel" = "."',
            "",
            ("assembling asm/picture.s failed", "/home/author/kernel/assets/picture.bin"),
        ),
        ('"buildsys.unexpected"', '"buildsys.unexpectd"', ("did you mean buildsys.unexpected?",)),
    ],
)
def test_what_cannot_be_is_one_message(foreign: Outside, old: str, new: str, said: tuple[str, ...]) -> None:
    foreign.replace("buildsys.toml", old, new)
    foreign.doit("build").refused(*said)


def test_a_kernel_that_ends_before_its_last_line_has_not_done_what_it_should(foreign: Outside) -> None:
    foreign.replace("kernel/main.go", '\tputs("foreign: running\\r\\n")\n', "\texit(0)\n")
    foreign.doit("run-embedded").succeeded()
    ended = foreign.doit("verify", "--claim", "outcome")
    assert ended.status != 0
    assert "exited and had not sent 'foreign: running'" in ended.out


# The proof can fail: the image with one thing changed.


@pytest.fixture(scope="module")
def case(built: Outside) -> Case:
    return case_of(Steps(load(built.folder)))


def problems(case: Case, tmp_path: Path, change: Callable[[bytearray], None]) -> list[str]:
    """What claim `symbols` has to say of the image with `change` made to its bytes."""
    contents = bytearray(case.image.read_bytes())
    change(contents)
    (tmp_path / "mutant.elf").write_bytes(contents)
    found = symbols.CLAIM.check(dataclasses.replace(case, image=tmp_path / "mutant.elf"))
    return [] if found.passed else [found.figure, *found.details]


def flipped(case: Case, address: int, mask: int) -> Callable[[bytearray], None]:
    at = case.elf.file_offset(address)
    assert at is not None

    def flip(contents: bytearray) -> None:
        word = int.from_bytes(contents[at : at + 4], "little") ^ mask
        contents[at : at + 4] = word.to_bytes(4, "little")

    return flip


def made_of(case: Case, name: str) -> list[int]:
    """The places in code that the linker made from the global symbol `name`."""
    return sorted(
        place
        for table in case.elf.relocations()
        for place, info in zip(table.offsets, table.infos, strict=True)
        if (symbol := case.elf.symbols.by_index(info >> 32)) and symbol.name == name and symbol.is_global
        if any(place in section for section in case.elf.code)
    )


def test_the_image_as_it_is_passes(case: Case, tmp_path: Path) -> None:
    assert not problems(case, tmp_path, lambda contents: None)


def test_a_place_of_gos_that_means_another_address_is_found(case: Case, tmp_path: Path) -> None:
    place = made_of(case, "__end")[1]  # the ADD behind the ADRP
    (said, *_) = problems(case, tmp_path, flipped(case, place, 1 << 12))
    assert f"{place:#x} in main.pagesInit was made from the address of __end" in said


def test_a_symbol_with_another_value_is_found(case: Case, tmp_path: Path) -> None:
    def change(contents: bytearray) -> None:
        table = next(section for section in case.elf.sections if section.kind == SHT_SYMTAB)
        names = case.elf.contents(case.elf.sections[table.link])
        for at in range(table.offset, table.offset + table.size, 24):
            (name,) = struct.unpack_from("<I", contents, at)
            if names[name:].startswith(b"__end\0"):
                struct.pack_into("<Q", contents, at + 8, 0x40000000)

    said = "\n".join(problems(case, tmp_path, change))
    assert re.search(r"__end is 0x40000000, and __heap_low is 0x\w+", said)


def test_a_literal_that_is_another_address_is_found(case: Case, tmp_path: Path) -> None:
    for place in sorted(case.kept.instructions):
        said = "\n".join(problems(case, tmp_path, flipped(case, place, 1 << 9)))
        assert re.search(r"in main.flagSet holds 0x\w+, not 0x\w+, which runtime.writeBarrier is", said)


def test_a_literal_in_another_register_is_found(case: Case, tmp_path: Path) -> None:
    said = "\n".join(problems(case, tmp_path, flipped(case, max(case.kept.instructions), 1)))
    assert "is not the instruction that held a part of 0x40026b40" in said


def test_an_address_nobody_asked_for_is_found(case: Case) -> None:
    expected = dataclasses.replace(case.expected, literals=())
    found = symbols.CLAIM.check(dataclasses.replace(case, expected=expected))
    assert not found.passed
    assert "was made from an address by the linker, and `literals` does not say so" in found.figure


def test_the_go_object_alone_says_what_was_to_be_made(case: Case) -> None:
    """The proof looks at the object as Go made it: not at the one that was linked."""
    assert case.go_object.name == "go.o"
    assert Elf.read(case.go_object).symbols.named("__end")["__end"]
    assert not any(each.section for each in case.before.symbols.named("__end")["__end"] if not each.is_global)


def test_the_document_shows_this_configuration() -> None:
    (shown,) = re.findall(r"```toml\n(.*?)```", (ROOT / "docs" / "your-kernel.md").read_text("utf-8"), re.DOTALL)
    written = (FOREIGN / "buildsys.toml").read_text("utf-8").splitlines(keepends=True)
    assert shown == "".join(line for line in written if not line.startswith(("#", "time-limit")))


# With its own boot code, and as many files as such a kernel has.

OWN_BOOT = """
[literals._start]
0x40026b40 = "runtime.writeBarrier"

[literals.kernel_main]
0x40100ce0 = "runtime.g0"
"""


def grow(project: Outside, files: int = 40, functions: int = 12) -> None:
    """Give the kernel that many more files, half of them by a build tag, whose lists `Main` sums up."""
    for number in range(files):
        tag = "//go:build !small\n\n" if number % 2 else ""
        text = f"{tag}package main\n\ntype node{number} struct {{\n\tnext  *node{number}\n\tvalue uint64\n}}\n"
        text += f"\nvar head{number} *node{number}\n\nvar pool{number} [{functions}]node{number}\n"
        for each in range(functions):
            text += f"\n//go:noinline\nfunc push{number}x{each}() {{\n\tn := &pool{number}[{each}]\n"
            text += f"\tn.value = {each + 1}\n\tn.next = head{number}\n\thead{number} = n\n}}\n"
        calls = "".join(f"\tpush{number}x{each}()\n" for each in range(functions))
        text += f"\nfunc sum{number}() uint64 {{\n{calls}\ttotal := uint64(0)\n"
        text += f"\tfor n := head{number}; n != nil; n = n.next {{\n\t\ttotal += n.value\n\t}}\n\treturn total\n}}\n"
        project.write(f"kernel/part{number}.go", text)
    total = files * functions * (functions + 1) // 2
    sums = " + ".join(f"sum{number}()" for number in range(files))
    project.replace(
        "kernel/main.go", "\tpagesInit()\n", f'\tpagesInit()\n\tif {sums} != {total} {{\n\t\tfail("a list")\n\t}}\n'
    )


@pytest.fixture(scope="module")
def grown(venv: Venv, tmp_path_factory: pytest.TempPathFactory) -> Outside:
    """The kernel with its own boot code and dozens of files, proved; not to be changed."""
    folder = tmp_path_factory.mktemp("booted") / "foreign"
    shutil.copytree(FOREIGN, folder)
    project = Outside(folder, venv)
    grow(project)
    project.set('boot = "boot/boot.s"')
    project.replace("virt.toml", "\ncpu = ", "\ncores = 4\ncpu = ")
    project.path("buildsys.toml").write_text(project.path("buildsys.toml").read_text() + OWN_BOOT)
    return project


@pytest.fixture(scope="module")
def booted(grown: Outside) -> Outside:
    grown.doit("build").succeeded()
    return grown


@pytest.fixture(scope="module")
def case_of_booted(booted: Outside) -> Case:
    return case_of(Steps(load(booted.folder)))


def test_its_own_boot_code_and_thousands_of_lines_are_proved(booted: Outside) -> None:
    lines = sum(len(path.read_text().splitlines()) for path in booted.path("kernel").glob("*.go"))
    assert lines > 3000
    said = booted.doit("verify", "--strict", "--details").succeeded().out
    assert "13 of 13 claims hold" in said
    assert re.search(r"(\d+) of them in the kernel's own packages", said)
    assert "1, at runtime.writeBarrier 0x" in said
    assert "stack 0x4eff0000..0x4f000000, sp 0x4efffef0" in said
    assert "3 literals" in said


def test_its_own_boot_code_runs_on_both_emulators(booted: Outside) -> None:
    for machine in ("run-embedded", "run-qemu"):
        assert booted.doit(machine).succeeded().out.endswith(f"S{RUNNING}\n")


def test_a_number_left_in_boot_code_is_found_by_what_it_does(booted: Outside, tmp_path: Path) -> None:
    shutil.copytree(booted.folder, tmp_path / "foreign")
    project = Outside(tmp_path / "foreign", booted.venv)
    project.replace("buildsys.toml", OWN_BOOT[: OWN_BOOT.index("[literals.k")], "")
    ended = project.doit("verify", "--claim", "boot-code")
    assert ended.status != 0
    assert "stores its 1 at 0x40026b40" in ended.out


def red(case: Case, tmp_path: Path, routine: str, old: str, new: int) -> str:
    """What claim `boot-code` says of the image with the first instruction of `routine` that is `old` made another."""
    from capstone import CS_ARCH_ARM64, CS_MODE_ARM, Cs

    (symbol,) = case.elf.symbols.named(routine)[routine]
    at = case.elf.file_offset(symbol.value)
    assert at is not None
    contents = bytearray(case.image.read_bytes())
    code = Cs(CS_ARCH_ARM64, CS_MODE_ARM).disasm(bytes(contents[at : at + symbol.size]), symbol.value)
    place = next(at + each.address - symbol.value for each in code if f"{each.mnemonic} {each.op_str}" == old)
    struct.pack_into("<I", contents, place, new)
    (tmp_path / "mutant.elf").write_bytes(contents)
    found = boot_code.CLAIM.check(dataclasses.replace(case, image=tmp_path / "mutant.elf"))
    assert not found.passed
    return f"{found.result.value}: {found.figure}"


@pytest.mark.parametrize(
    ("routine", "old", "new", "said"),
    [
        ("_start", "cmp x1, #0", 0xF100043F, "failed: the core with MPIDR_EL1 0x80000001 is not parked"),  # cmp x1, #1
        ("_start", "strb w11, [x10]", 0xD503201F, "is not set when main.Main is called"),  # nop
        ("_start", "stp x5, x6, [x4], #0x10", 0xA9811885, "failed: .bss lies at"),  # stp x5, x6, [x4, #16]!
        ("kernel_main", "stp x0, x1, [x28]", 0xD503201F, "failed: runtime.g0.stack.lo"),
        ("kernel_main", "sub x0, x1, #0x10, lsl #12", 0x91404020, "failed: runtime.g0.stack.lo"),  # add
        ("_start", "mov w13, #0x53", 0x3400004C, "not run: your boot code can be followed up to"),  # cbz w12, .+8
    ],
)
def test_what_its_boot_code_does_otherwise_is_seen(
    case_of_booted: Case, tmp_path: Path, routine: str, old: str, new: int, said: str
) -> None:
    assert said in red(case_of_booted, tmp_path, routine, old, new)


def test_what_comes_after_the_last_line_is_no_part_of_the_run(foreign: Outside) -> None:
    """QEMU goes on until it is told to stop: what the guest comes to meanwhile is not held against the run."""
    foreign.replace("kernel/main.go", "\tfor {\n\t\tidle()\n\t}\n", "\tchecked(0)\n")
    assert "13 of 13 claims hold" in foreign.doit("verify", "--strict").succeeded().out
    foreign.replace("kernel/main.go", '\tputs("foreign: running\\r\\n")\n', "")
    assert "a function redirected to buildsys.unexpected" in foreign.doit("run-qemu").out
