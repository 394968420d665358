"""What a user can do wrong, and what the machine can refuse.

Each ends in one message that says what, where and what to do, a status other than 0, no traceback, and what was
built before as it was.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.front.conftest import Checkout


@pytest.fixture
def intact(checkout: Checkout) -> Iterator[Checkout]:
    """A built checkout whose image, and what patched it, must be the same after the test."""
    before = checkout.artifacts()
    yield checkout
    after = checkout.artifacts()
    for name in ("kernel.elf", "patch.json"):
        assert after[name] == before[name]
    leftovers = {name for name in after if name.endswith((".partial", ".compiling", ".linking", ".assembling"))}
    assert leftovers == set()


# The configuration.


@pytest.mark.parametrize("command", ["build", "run-qemu", "list", "clean"])
def test_no_pyproject_is_named(intact: Checkout, command: str) -> None:
    intact.path("pyproject.toml").unlink()
    intact.doit(command).refused("pyproject.toml", "No such file")


@pytest.mark.parametrize("command", ["build", "run-qemu", "list", "clean"])
def test_a_pyproject_that_is_no_toml_is_named_with_its_line(intact: Checkout, command: str) -> None:
    intact.append("pyproject.toml", "\nno = = toml\n")
    line = len(intact.path("pyproject.toml").read_text().splitlines())
    intact.doit(command).refused(f"pyproject.toml:{line}: ", "not valid TOML")


@pytest.mark.parametrize(
    ("contents", "said"),
    [
        (b"# \xff\n", "UTF-8"),
        (b"tool = 3\n", "`tool` must be a table"),
        (b"[tool]\nbuildsys = 3\n", "`tool.buildsys` must be a table"),
        (b"[project]\nname = 'x'\n", "`tool.buildsys.package` is missing"),
    ],
)
def test_a_pyproject_that_says_nothing_is_told_what_it_lacks(intact: Checkout, contents: bytes, said: str) -> None:
    intact.path("pyproject.toml").write_bytes(contents)
    intact.doit("build").refused("pyproject.toml", said)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('toolchain = "gun"', "did you mean `gnu`?"),
        ('toolchain = "gcc"', "known: gnu, llvm, zig"),
        ('board = "qemu-vrit"', "did you mean 'qemu-virt'?"),
        ('board = "none.toml"', "none.toml"),
        ('entry = "KernelMain"', "main.KernelMain"),
        ("time-limit = 0", "more than 0"),
        ("time-limit = nan", "finite"),
        ('time-limit = "long"', "must be a number"),
        ('tags = "one"', "a list of strings"),
        ('templates = ["none"]', "no folder"),
        ('package = "./none"', "no folder"),
    ],
)
def test_a_setting_that_cannot_be_is_named_with_its_line(intact: Checkout, line: str, said: str) -> None:
    intact.set(line)
    key = line.split()[0]
    number = intact.path("pyproject.toml").read_text().splitlines().index(line) + 1
    intact.doit("build").refused(f"pyproject.toml:{number}: ", f"`tool.buildsys.{key}`", said)


@pytest.mark.parametrize("place", ["/nonexistent", "src", "~/nonexistent"])
def test_a_go_that_is_not_there_is_named_with_the_setting(intact: Checkout, place: str) -> None:
    intact.set(f'go = "{place}"')
    intact.doit("build").refused("pyproject.toml", "`tool.buildsys.go`", "no Go tree")
    assert intact.doit("list").status == 0  # what does not need it works


def test_a_go_that_is_no_program_is_named(intact: Checkout) -> None:
    tree = intact.path("go")
    (tree / "bin").mkdir(parents=True)
    (tree / "VERSION").write_text("go1.27.3\n")
    (tree / "bin/go").write_text("no program")
    intact.set('go = "go"')
    intact.doit("build").refused("go/bin/go")


# Go.


def test_what_go_does_not_compile_is_shown_as_go_wrote_it_once(intact: Checkout) -> None:
    intact.replace("src/main.go", "status := int32(1)", 'status := int32("one")')
    intact.replace("src/main.go", "console.Drain()", "console.Drian()")
    lines = intact.path("src/main.go").read_text().splitlines()
    one, two = (
        next(number for number, text in enumerate(lines, 1) if words in text)
        for words in ('int32("one")', "console.Drian()")
    )
    for command in ("build", "run", "verify"):
        intact.doit(command).refused(
            f'src/main.go:{one}:18: cannot convert "one" (untyped string constant) to type int32',
            f"src/main.go:{two}:11: console.Drian undefined",
        )


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("src/extra.go", "func (", "src/extra.go:1:1: expected 'package'"),
        ("src/extra.go", "package other\n", "main"),
        ("src/extra.go", 'package main\n\nimport _ "kernel/urat"\n', "kernel/urat"),
        ("src/extra.go", 'package main\n\nimport _ "example.com/none"\n', "src/extra.go:3:8: no required module"),
        ("src/extra_arm64.s", "TEXT ·extra(SB), 4, $0\n\tMVO R0, R1\n", "MVO"),
        ("src/go.mod", "modle kernel\n", "go.mod:1: unknown directive: modle"),
        ("src/go.mod", "module kernel\n\ngo 1.99\n", "go >= 1.99"),
    ],
)
def test_what_go_cannot_read_is_shown_with_file_and_line(intact: Checkout, name: str, text: str, said: str) -> None:
    intact.path(name).write_text(text)
    intact.doit("build").refused(said)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"go.mod": "module other\n", "other.go": "package other\n\nfunc F() {}\n"}, "`main` package"),
        ({"go.mod": "module other\n"}, "no Go files"),
        ({"other.go": "package main\n\nfunc main() {}\n"}, "go.mod file not found"),
    ],
)
def test_a_package_that_is_no_kernel_is_told(intact: Checkout, files: dict[str, str], said: str) -> None:
    intact.path("other").mkdir()
    for name, text in files.items():
        intact.path(f"other/{name}").write_text(text)
    intact.set('package = "./other"')
    message = intact.doit("build").refused(said)
    assert "other" in message


HELPER = """
var text string
var slice []int32
var numbers map[uintptr]int32

//go:noinline
func helper(given *board.Table) int32 {{
{body}
}}
"""


@pytest.mark.parametrize(
    ("body", "function"),
    [
        ("pointer = new(int32)\nreturn 0", "runtime.malloc"),
        ("text = text + text\nreturn 0", "runtime.concatstring"),
        ("slice = make([]int32, given.Size)\nreturn 0", "runtime.m"),
        ("numbers[given.Size] = 1\nreturn 0", "runtime.mapassign"),
    ],
    ids=["new", "string", "make", "map"],
)
def test_a_kernel_that_needs_gos_runtime_is_refused_with_the_way_it_gets_there(
    intact: Checkout, body: str, function: str
) -> None:
    intact.set('sets = ["print", "panic"]')
    intact.kernel("return helper(given)", HELPER.format(body=body))
    message = intact.doit("build").refused("the kernel can reach it", "hint: avoid what leads there")
    assert f"  main.KernelMain\n  → main.helper\n  → {function}" in message


def test_a_go_statement_is_refused_whatever_else_is_served(intact: Checkout) -> None:
    intact.kernel("return helper(given)", HELPER.format(body="go func() { slice = nil }()\nreturn 0"))
    message = intact.doit("build").refused("a `go` statement", "hint: avoid what leads there")
    assert "  main.KernelMain\n  → main.helper\n  → runtime.newproc" in message


# Entry, templates, tools.


@pytest.mark.parametrize("built", [False, True])
def test_an_entry_that_does_not_exist_is_answered_with_the_nearest(
    fresh: Checkout, checkout: Checkout, built: bool
) -> None:
    project = checkout if built else fresh
    project.set('entry = "main.KernelMian"')
    project.doit("build").refused("main.KernelMian", "main.KernelMain", "//go:noinline")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{% if %}", "Expected an expression"),
        ("// {{ bord.text }}", "'bord' is undefined"),
        ("// {{ board.texd }}", "texd"),
        ('// {{ address("runtime.writeBarier") }}', "runtime.writeBarier"),
        ('// {{ offset("runtime.g.none") }}', "runtime.g.none"),
        ("// {{ 3 | hexx }}", "hexx"),
        ('{% include "none.j2" %}', "none.j2"),
        ("// {{ 1 / 0 }}", "division by zero"),
    ],
)
def test_a_mistake_in_a_template_is_named_with_template_and_line(intact: Checkout, line: str, said: str) -> None:
    intact.own_templates()
    intact.append("templates/boot.s.j2", f"{line}\n")
    number = len(intact.path("templates/boot.s.j2").read_text().splitlines())
    intact.doit("build").refused(f"templates/boot.s.j2:{number}: ", said)


def test_a_template_that_is_no_text_is_named(intact: Checkout) -> None:
    intact.own_templates()
    intact.path("templates/boot.s.j2").write_bytes(b"// \xff\n")
    intact.doit("build").refused("boot.s.j2")


TOOLCHAINS = pytest.mark.parametrize("toolchain", ["zig", "gnu"])


@TOOLCHAINS
@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("    mvo x0, x1", ("assembling build/boot.s failed", "mvo x0")),
        ("    bl nothing", ("linking with build/kernel.ld failed", "nothing")),
        ('    .section .odd, "aw"\n    .quad 1', ("linking with build/kernel.ld failed", ".odd")),
        (
            "    .global buildsys.fatal\nbuildsys.fatal:\n    ret",
            ("linking with build/kernel.ld failed", "buildsys.fatal"),
        ),
    ],
    ids=["mnemonic", "undefined", "orphan", "twice"],
)
def test_what_assembler_and_linker_say_is_shown_once(
    intact: Checkout, toolchain: str, lines: str, said: tuple[str, ...]
) -> None:
    intact.set(f'toolchain = "{toolchain}"')
    intact.own_templates()
    intact.append("templates/boot.s.j2", f"    .text\n{lines}\n")
    intact.doit("build").refused(*said)


@TOOLCHAINS
@pytest.mark.parametrize("region", ["flash", "ram"])
def test_a_kernel_that_does_not_fit_is_told_by_how_much_or_where(intact: Checkout, toolchain: str, region: str) -> None:
    intact.set(f'toolchain = "{toolchain}"')
    intact.own_board()
    if region == "flash":  # what is left of it after the code's first address
        intact.replace("board.toml", "text = 0x00200000", "text = 0x07fff000")
    else:
        intact.replace("board.toml", "stack = 0x20000", "stack = 0x07ff0000")
    intact.doit("build").refused("build/kernel.ld", "fit" if region == "ram" else "")


def test_gnu_binutils_that_are_not_there_are_named_with_their_package(intact: Checkout) -> None:
    intact.set('toolchain = "gnu"')
    intact.doit("build", PATH="/nonexistent").refused('toolchain = "gnu"', "binutils-aarch64-linux-gnu", '"zig"')


def test_a_build_with_zig_needs_no_program_of_the_system(fresh: Checkout) -> None:
    assert fresh.doit("build", PATH="/nonexistent").succeeded().steps == ("compile", "runtime", "link", "patch")


# The disk.


def mount(*arguments: str | Path) -> bool:
    """Whether the system lets us mount."""
    return subprocess.run(["mount", *arguments], capture_output=True, check=False).returncode == 0


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Let `folder` be one nobody can write to."""
    if mount("--bind", folder, folder):
        try:
            subprocess.run(["mount", "-o", "remount,ro,bind", folder], check=True)
            yield
        finally:
            subprocess.run(["umount", folder], check=True)
    elif os.geteuid():
        folder.chmod(0o555)
        (folder / ".done").chmod(0o555)
        yield
        folder.chmod(0o755)
        (folder / ".done").chmod(0o755)
    else:  # root may write anywhere but here
        folder.rename(folder.with_name("aside"))
        folder.symlink_to("/proc/self/task")
        yield
        folder.unlink()
        folder.with_name("aside").rename(folder)


def test_a_build_folder_that_cannot_be_written_is_named(intact: Checkout) -> None:
    intact.append("src/main.go", "var extra int\n")
    with read_only(intact.path("build")):
        for command in (["build"], ["run"], ["forget"], ["ignore", "patch"]):
            intact.doit(*command).refused("build")


def test_nothing_to_do_needs_no_writing(intact: Checkout) -> None:
    intact.doit("build").succeeded()  # what was copied is looked at once
    with read_only(intact.path("build")):
        assert "up to date" in intact.doit("build").out


def test_a_file_in_the_place_of_the_build_folder_is_named(fresh: Checkout) -> None:
    fresh.path("build").write_text("a file\n")
    for command in ("build", "run"):
        fresh.doit(command).refused("build", "directory")
    assert fresh.path("build").read_text() == "a file\n"
    fresh.path("build").unlink()
    fresh.path("build").symlink_to("nowhere/build")
    fresh.doit("build").refused("build")


def lose(checkout: Checkout, name: str) -> None:
    """Remove an artifact, and what it could be had from without a link."""
    checkout.path(f"build/{name}").unlink()
    if name == "kernel.unpatched.elf":
        checkout.path("build/.linked.elf").unlink()


LOST = pytest.mark.parametrize(
    ("lost", "step"), [("go.o", "compile"), ("kernel.unpatched.elf", "link"), ("kernel.elf", "patch")]
)


@LOST
def test_a_file_that_may_not_grow_is_told_and_its_step_done_when_it_may(
    checkout: Checkout, lost: str, step: str
) -> None:
    before = checkout.artifacts()
    lose(checkout, lost)
    checkout.doit("build", largest_file=1 << 20).refused("")
    assert not checkout.path(f"build/{lost}").exists()
    assert checkout.doit("build").succeeded().steps == (step,)
    assert checkout.artifacts() == before


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """Let `folder` be on a disk of its own, with 30 MB; False if the system does not let us mount."""
    aside = folder.rename(folder.with_name("aside"))
    folder.mkdir()
    mounted = mount("-t", "tmpfs", "-o", "size=30m", "none", folder)
    try:
        shutil.copytree(aside, folder, dirs_exist_ok=True)
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", folder], check=True)


def fill(path: Path) -> None:
    """Write to `path` until the disk takes no more."""
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(1 << 12))


@LOST
def test_a_full_disk_is_told_and_the_step_done_when_there_is_room(checkout: Checkout, lost: str, step: str) -> None:
    before = checkout.artifacts()
    with small_disk(checkout.path("build")) as mounted:
        if not mounted:
            return  # the test above is as near as one comes without
        checkout.doit("build").succeeded()
        lose(checkout, lost)
        fill(checkout.path("build/filling"))
        checkout.doit("build").refused("")
        assert not checkout.path(f"build/{lost}").exists()
        checkout.path("build/filling").unlink()
        assert checkout.doit("build").succeeded().steps == (step,)
        assert checkout.artifacts() == before
