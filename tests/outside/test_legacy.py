"""A kernel in the style others write them, with configuration alone: tests/kernels/legacy.

Its own lib.s, vectors and boot.s; assembly that calls Go and Go that calls assembly; literal addresses;
build tags; what must not run redirected. Three kernels of one source.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.outside.conftest import Outside, Venv

LEGACY = ROOT / "tests" / "kernels" / "legacy"
Made = Callable[[str], Outside]


def copied(to: Path, venv: Venv) -> Outside:
    shutil.copytree(LEGACY, to)
    return Outside(to, venv)


@pytest.fixture(scope="session")
def built(venv: Venv, tmp_path_factory: pytest.TempPathFactory) -> Outside:
    """The three kernels, built; not to be changed."""
    project = copied(tmp_path_factory.mktemp("legacy") / "legacy", venv)
    project.doit("build").succeeded()
    return project


@pytest.fixture
def legacy(built: Outside, tmp_path: Path) -> Outside:
    """The same, to do anything with."""
    shutil.copytree(built.folder, tmp_path / "legacy")
    return Outside(tmp_path / "legacy", built.venv)


@pytest.fixture
def plain(legacy: Outside) -> Outside:
    """One kernel alone."""
    text = legacy.path("buildsys.toml").read_text()
    legacy.path("buildsys.toml").write_text(text[: text.index("[kernel.plain]")])
    shutil.rmtree(legacy.path("build"))
    return legacy


@pytest.mark.parametrize(("kernel", "way"), [("plain", "the boot code of buildsys"), ("booted", "its own boot code")])
def test_it_boots_on_both_emulators_and_is_proved(legacy: Outside, kernel: str, way: str) -> None:
    for machine in ("run-embedded", "run-qemu"):
        said = legacy.doit(f"{machine}:{kernel}").succeeded().out
        assert f"booted by {way}, version legacy\nall is well\n" in said
    said = legacy.doit(f"verify:{kernel}", "--strict").succeeded().out
    assert "13 of 13 claims hold" in said
    assert "bound for assembly" in said
    assert "2 of the kernel's redirects" in said


def test_the_gnu_tools_make_the_same_of_it(plain: Outside) -> None:
    plain.set('toolchain = "gnu"')
    assert "all is well" in plain.doit("run").succeeded().out
    assert "13 of 13 claims hold" in plain.doit("verify", "--strict").succeeded().out


def test_each_kernel_has_a_build_folder_of_its_own_and_tasks(built: Outside) -> None:
    images = {path.parent.name for path in built.path("build").glob("*/kernel.elf")}
    assert images == {"plain", "booted", "board"}
    listed = {line.split()[0] for line in built.doit("list", "--all").succeeded().out.splitlines()}
    assert {
        f"{task}:{kernel}" for task in ("build", "run-qemu", "verify", "debug", "why") for kernel in images
    } <= listed
    assert "up to date" in built.doit("build:plain").succeeded().out


def test_one_kernel_is_built_without_the_others(plain: Outside) -> None:
    shutil.copy2(LEGACY / "buildsys.toml", plain.folder)
    plain.doit("build:board").succeeded()
    assert [path.name for path in plain.path("build").iterdir() if path.is_dir()] == ["board"]


def test_build_tags_decide_what_is_compiled(built: Outside) -> None:
    def strings(kernel: str) -> bytes:
        return built.path(f"build/{kernel}/kernel.elf").read_bytes()

    assert b"main.putc" in strings("plain")
    assert b"uart_board.go" in strings("board")
    assert b"uart_qemu.go" in strings("plain")
    assert b"boot_own.go" in strings("booted")


def test_what_assembly_names_of_go_is_bound_to_where_it_lies(built: Outside) -> None:
    said = subprocess.run(
        ["aarch64-linux-gnu-nm", built.path("build/booted/kernel.elf")], capture_output=True, text=True, check=True
    ).stdout
    places: dict[str, dict[str, str]] = {}
    for line in said.splitlines():
        address, letter, name = line.split(maxsplit=2)
        places.setdefault(name, {})[letter] = address
    bound = {name: letters["A"] for name, letters in places.items() if "A" in letters and len(letters) > 1}
    assert bound.keys() == {
        "main.Exception", "main.Increment", "main.KernelMain", "main.Twice", "main.calls", "main.greeting", "main.last",
        "runtime.g0", "runtime.writeBarrier",
    }  # fmt: skip
    for name, address in bound.items():
        assert {address} == set(places[name].values()), name
    binding = json.loads(built.path("build/booted/binding.json").read_text())
    assert {name: int(address, 16) for name, address in bound.items()}.items() <= binding.items()


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("asm/lib.s", "// What Go", "    // What Go"),
        ("asm/params.inc", "SPILL, 272", "SPILL, 288"),
        ("asm/uart.s.j2", "// In: nothing", "// In: nothing at all"),
    ],
)
def test_an_edit_of_assembly_or_what_it_includes_links_again_without_go(
    plain: Outside, name: str, old: str, new: str
) -> None:
    plain.doit("build").succeeded()
    plain.replace(name, old, new)
    said = plain.doit("build").succeeded().out
    assert "link" in said
    assert "compile" not in said
    assert "everything is up to date" in plain.doit("build").succeeded().out
    assert "all is well" in plain.doit("run").succeeded().out


def test_an_edit_of_an_included_binary_is_noticed_and_a_cache_is_not_fooled(plain: Outside, tmp_path: Path) -> None:
    cache = {"BUILDSYS_CACHE": str(tmp_path / "cache")}
    first = plain.path("assets/logo.bin").read_bytes()
    plain.doit("build", **cache).succeeded()
    image = plain.path("build/kernel.elf").read_bytes()
    plain.path("assets/logo.bin").write_bytes(b"\xff" + first[1:])
    plain.doit("build", **cache).succeeded()
    assert plain.path("build/kernel.elf").read_bytes() != image
    assert "ERROR: the picture" in plain.doit("run", **cache).out
    plain.path("assets/logo.bin").write_bytes(first)
    assert "restored" in plain.doit("build", **cache).succeeded().out
    assert plain.path("build/kernel.elf").read_bytes() == image


def test_an_object_serves_as_well_as_its_source(plain: Outside) -> None:
    subprocess.run(["aarch64-linux-gnu-as", "-I", "asm", "asm/lib.s", "-o", "lib.o"], cwd=plain.folder, check=True)
    plain.path("asm/lib.s").rename(plain.path("asm/lib.txt"))
    plain.set('objects = ["lib.o"]')
    assert "all is well" in plain.doit("run").succeeded().out
    assert "13 of 13 claims hold" in plain.doit("verify", "--strict").succeeded().out


# What can be wrong in it.


def test_a_go_name_that_assembly_misspells_is_answered_with_the_nearest(plain: Outside) -> None:
    plain.replace("asm/lib.s", "bl      main.Twice", "bl      main.Twcie")
    plain.doit("build").refused("main.Twcie", "did you mean main.Twice?")


def test_a_function_without_a_body_that_no_assembly_has_is_told(plain: Outside) -> None:
    plain.replace("kernel/lib.go", "//go:linkname bzero bzero", "//go:linkname bzero bzreo")
    plain.doit("build").refused("bzreo", "did you mean bzero?", "without a body")


def test_what_go_left_out_is_told(plain: Outside) -> None:
    plain.replace("kernel/callback.go", "\tTwice(0)\n", "")
    plain.doit("build").refused("main.Twice", "Go keeps only what main.main can reach")


def test_an_error_in_assembly_has_the_users_file_and_line(plain: Outside) -> None:
    line = plain.path("asm/lib.s").read_text().splitlines().index("mmio_write:") + 2
    plain.replace("asm/lib.s", "str     w1, [x0]", "srt     w1, [x0]")
    plain.doit("build").refused(f"asm/lib.s:{line}:")


def test_an_error_in_a_template_has_the_users_file_and_line(plain: Outside) -> None:
    line = len(plain.path("asm/uart.s.j2").read_text().splitlines()) + 1
    with plain.path("asm/uart.s.j2").open("a") as file:
        file.write("// {{ bord }}\n")
    plain.doit("build").refused(f"asm/uart.s.j2:{line}: 'bord' is undefined")


def test_an_include_that_cannot_be_followed_is_refused(plain: Outside) -> None:
    with plain.path("asm/lib.s").open("a") as file:
        file.write('    .macro picture name\n    .incbin "assets/\\name"\n    .endm\n')
    plain.doit("build").refused("asm/lib.s:", ".incbin", "cannot be told")


def test_an_include_that_may_be_two_files_is_refused(plain: Outside) -> None:
    plain.write("params.inc", "")
    plain.doit("build").refused("asm/lib.s:2: ", "params.inc may be", "rename")


def test_code_that_would_not_be_loaded_is_refused(plain: Outside) -> None:
    plain.replace("asm/exceptions.s", '".vectors", "ax"', '".vectors"')
    plain.doit("build").refused("asm/exceptions.s", ".vectors", '"ax"')


def test_an_object_for_another_machine_is_refused(plain: Outside) -> None:
    plain.path("x.o").write_bytes(Path("/bin/true").read_bytes())
    plain.set('objects = ["x.o"]')
    plain.doit("build").refused("x.o")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('"main.initStub" = "nothing"', "did you mean main.initStubs?"),
        ('"main.fail" = "nothin"', "did you mean nothing?"),
        ('"main.fail" = "main.fail"', "the same function"),
        ('"runtime.gcWriteBarrier2" = "nothing"', "taken over already"),
        ('"main.fail" = "main.initStubs"', "redirected itself"),
        ("main.fail = 'nothing'", "in quotes"),
    ],
)
def test_a_redirect_that_cannot_be_is_refused(plain: Outside, line: str, said: str) -> None:
    with plain.path("buildsys.toml").open("a") as file:
        file.write(f"{line}\n")
    plain.doit("build").refused(said)


def test_a_redirected_function_that_is_still_reached_through_a_pointer_is_refused(plain: Outside) -> None:
    with plain.path("buildsys.toml").open("a") as file:
        file.write('"main.Increment" = "nothing"\n')
    plain.doit("build").refused("the kernel can reach main.Increment", "its address is taken")


ALLOCATE = """package main

var kept *uint64

//go:noinline
func allocate(x uint64) *uint64 {
	kept = new(uint64)
	*kept = x
	return kept
}
"""


def test_what_assembly_reaches_counts_as_reached(plain: Outside) -> None:
    """Its labels say neither that they are functions nor how long: Go needs a runtime for what it calls."""
    plain.replace("kernel/callback.go", "{ return 2 * x }", "{ return *allocate(2 * x) }")
    plain.write("kernel/allocate.go", ALLOCATE)
    plain.doit("build").refused("has no allocator", "call_back\n  → main.Twice\n  → main.allocate")
