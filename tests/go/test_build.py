"""The cross build: what it makes, and what it says when it cannot."""

from __future__ import annotations

import io
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from elftools.elf.elffile import ELFFile
from hypothesis import given
from hypothesis import strategies as st

from buildsys.errors import UserError
from buildsys.go.build import AR_MAGIC, build, extract
from buildsys.go.options import GoOptions
from buildsys.go.toolchain import GoToolchain
from buildsys.stages.compilation import make_object
from buildsys.toolchains.zig import archiver
from tests.binutils import INSTALL, PREFIX
from tests.machines.conftest import needs

from .conftest import MAIN, MODULE, write

NONE = GoOptions()
ARCHIVE = Path("kernel.a")


def ar() -> Path:
    """The archiver of this run of the tests, beside the working folders of all of them."""
    return archiver(Path.cwd().parent / "ar")


def refused(go: GoToolchain, package: Path, options: GoOptions = NONE) -> UserError:
    with pytest.raises(UserError) as caught:
        build(go, package, options, ARCHIVE, ar())
    assert not ARCHIVE.exists()
    return caught.value


def test_the_object_in_the_archive_is_relocatable_aarch64(go: GoToolchain, kernel: Path) -> None:
    assert build(go, kernel, NONE, ARCHIVE, ar()) == ""
    made = extract(ARCHIVE)
    elf: Any = ELFFile(io.BytesIO(made))
    assert (elf["e_type"], elf["e_machine"], elf.elfclass) == ("ET_REL", "EM_AARCH64", 64)
    assert any(symbol.name == "main.Start" for symbol in elf.get_section_by_name(".symtab").iter_symbols())
    needs(PREFIX + "ar", INSTALL)
    told = subprocess.run([PREFIX + "ar", "p", ARCHIVE, "go.o"], capture_output=True, check=True).stdout
    assert made == told


def test_a_compile_error_is_shown_once_as_go_wrote_it(go: GoToolchain, kernel: Path) -> None:
    write(kernel, {"main.go": MAIN.replace("func Start() {}", 'func Start() { var x int = "a" }')})
    error = refused(go, kernel)
    own = subprocess.run([go.command, "vet", "."], cwd=kernel, env=go.environment(), capture_output=True, text=True)
    words = 'cannot use "a" (untyped string constant) as int value in variable declaration'
    assert words in own.stderr
    assert error.message.splitlines() == [
        "go build of src failed",
        "# kernel",
        "src/main.go:6:20: declared and not used: x",
        f"src/main.go:6:28: {words}",
    ]


def test_an_error_beneath_the_package_is_named_from_where_the_user_is(go: GoToolchain, kernel: Path) -> None:
    write(
        Path(),
        {
            "src/go.mod": MODULE + "require example.org/lib v0.0.0\nreplace example.org/lib => ../lib\n",
            "src/main.go": MAIN.replace(
                "\nfunc main", 'import (\n\t_ "example.org/lib"\n\t_ "kernel/sub"\n)\nfunc main'
            ),
            "src/sub/sub.go": "package sub\n\nvar x int = 1 1\n",
            "lib/go.mod": "module example.org/lib\n\ngo 1.21\n",
            "lib/lib.go": 'package lib\n\nvar X int = "a"\n',
        },
    )
    said = refused(go, kernel).message.splitlines()
    assert "src/sub/sub.go:3:15: syntax error: unexpected literal 1 after top level declaration" in said
    (kernel / "sub" / "sub.go").write_text("package sub\n")
    said = refused(go, kernel).message.splitlines()
    assert said[1:3] == ["# example.org/lib", f"lib/lib.go:3:13: {said[2].partition(': ')[2]}"]
    (kernel / "sub" / "sub.go").write_text('package sub\n\nimport _ "no/such/package"\n')
    assert any(line.startswith("src/sub/sub.go:3:8: package no/such/package is not in std") for line in
               refused(go, kernel).message.splitlines())  # fmt: skip


def test_a_package_that_is_not_main_is_refused(go: GoToolchain, kernel: Path) -> None:
    write(kernel, {"main.go": "package kernel\n"})
    error = refused(go, kernel)
    assert error.message == "src is not a `main` package"
    assert "package main" in error.hint


def test_a_folder_without_go_files_or_module_is_refused_in_gos_words(go: GoToolchain, kernel: Path) -> None:
    (kernel / "main.go").unlink()
    assert "no Go files in" in refused(go, kernel).message
    write(kernel, {"main.go": MAIN})
    (kernel / "go.mod").unlink()
    assert "go.mod file not found" in refused(go, kernel).message


def test_a_folder_that_is_not_there_is_refused(go: GoToolchain, kernel: Path) -> None:
    error = refused(go, Path("sorce"))
    assert error.message == "sorce: there is no such folder"


def test_a_go_that_vanished_is_one_message(go: GoToolchain, kernel: Path, tmp_path: Path) -> None:
    gone = GoToolchain(tmp_path / "gone", go.release)
    assert refused(gone, kernel).message == f"{tmp_path}/gone/bin/go: cannot be run: No such file or directory"


def test_a_go_tree_without_its_compiler_is_refused_in_gos_words(go: GoToolchain, kernel: Path, tmp_path: Path) -> None:
    root = tmp_path / "go"
    root.mkdir()
    for entry in go.root.iterdir():
        if entry.name != "pkg":
            (root / entry.name).symlink_to(entry)
    error = refused(GoToolchain(root, go.release), kernel)
    assert "go build of src failed" in error.message
    assert "compile" in error.message


def test_an_earlier_archive_survives_an_error(go: GoToolchain, kernel: Path) -> None:
    made = Path("go.o")
    make_object(go, kernel, NONE, ARCHIVE, made, ar(), lambda: None)
    before = ARCHIVE.read_bytes(), made.read_bytes()
    write(kernel, {"main.go": "package main\nfunc main() { 1 }\n"})
    with pytest.raises(UserError):
        make_object(go, kernel, NONE, ARCHIVE, made, ar(), lambda: None)
    assert (ARCHIVE.read_bytes(), made.read_bytes()) == before
    assert sorted(path.name for path in Path().iterdir()) == ["go.o", "kernel.a", "src"]


def test_the_same_source_in_another_folder_makes_the_same_object(go: GoToolchain, kernel: Path, tmp_path: Path) -> None:
    shutil.copytree(kernel, tmp_path / "some" / "where")
    build(go, kernel, NONE, ARCHIVE, ar())
    build(go, tmp_path / "some" / "where", NONE, Path("other.a"), ar())
    assert extract(ARCHIVE) == extract(Path("other.a"))


def test_tags_and_flags_reach_the_compiler(go: GoToolchain, kernel: Path) -> None:
    write(kernel, {"tagged.go": "//go:build extra\n\npackage main\n\nvar x int = nothing\n"})
    build(go, kernel, NONE, ARCHIVE, ar())
    ARCHIVE.unlink()
    assert "src/tagged.go:5:13: undefined: nothing" in refused(go, kernel, GoOptions(tags=("extra",))).message
    assert "-nonsense" in refused(go, kernel, GoOptions(gcflags="-nonsense")).message
    assert "-nonsense" in refused(go, kernel, GoOptions(ldflags="-nonsense")).message


def test_what_breaks_off_meanwhile_ends_go(go: GoToolchain, kernel: Path) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(go, kernel, NONE, ARCHIVE, ar(), interrupt)
    assert not ARCHIVE.exists()


@given(st.binary(max_size=200), st.booleans())
def test_what_is_no_archive_is_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes, magic: bool) -> None:
    path = tmp_path_factory.getbasetemp() / "noise.a"
    path.write_bytes(AR_MAGIC * magic + data)
    with pytest.raises(UserError, match=r"noise\.a: holds no go\.o; it is no Go c-archive"):
        extract(path)


def member(name: str, size: str, data: bytes = b"") -> bytes:
    return f"{name:<16}{0:<12}{0:<6}{0:<6}{0:<8}{size:<10}`\n".encode() + data


@pytest.mark.parametrize("size", ["-60", "x", "", "99", "1_0"])
def test_a_damaged_member_header_is_refused(tmp_path: Path, size: str) -> None:
    path = tmp_path / "damaged.a"
    for first in ("other", "go.o"):
        path.write_bytes(AR_MAGIC + member(first, size, b"12") + member("go.o", "99"))
        with pytest.raises(UserError, match="holds no go"):
            extract(path)


def test_the_object_is_found_behind_other_members(tmp_path: Path) -> None:
    path = tmp_path / "two.a"
    path.write_bytes(
        AR_MAGIC + member("other", "3", b"abc\n") + member("go.o/", "2", b"xy") + member("last", "1", b"z")
    )
    assert bytes(extract(path)) == b"xy"
