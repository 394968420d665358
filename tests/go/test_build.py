"""The cross build: what it makes, and what it says when it cannot."""

from __future__ import annotations

import io
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from elftools.elf.elffile import ELFFile

from buildsys.errors import UserError
from buildsys.go.build import FLAGS, LDFLAGS
from buildsys.go.options import GoOptions
from buildsys.go.toolchain import GoToolchain
from buildsys.stages.compilation import make_object, pack
from buildsys.toolchains.zig import program
from tests.binutils import INSTALL, PREFIX
from tests.machines.conftest import needs

from .conftest import MAIN, MODULE, write

NONE = GoOptions()
OBJECT, ARCHIVE = Path("go.o"), Path("kernel.a")


def tools() -> Path:
    """What Go's linker is given to run, of this run of the tests: beside the working folders of all of them."""
    return Path.cwd().parent / "tools"


def compiled(
    go: GoToolchain,
    package: Path,
    made: Path = OBJECT,
    options: GoOptions = NONE,
    meanwhile: Callable[[], object] = lambda: None,
) -> str:
    return make_object(go, package, options, made, tools(), meanwhile)


def refused(go: GoToolchain, package: Path, options: GoOptions = NONE) -> UserError:
    with pytest.raises(UserError) as caught:
        compiled(go, package, options=options)
    assert not OBJECT.exists()
    return caught.value


def test_the_object_is_relocatable_aarch64(go: GoToolchain, kernel: Path) -> None:
    assert compiled(go, kernel) == ""
    assert sorted(path.name for path in Path().iterdir()) == ["go.o", "src"]
    elf: Any = ELFFile(io.BytesIO(OBJECT.read_bytes()))
    assert (elf["e_type"], elf["e_machine"], elf.elfclass) == ("ET_REL", "EM_AARCH64", 64)
    assert any(symbol.name == "main.Start" for symbol in elf.get_section_by_name(".symtab").iter_symbols())


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


def test_an_earlier_object_survives_an_error(go: GoToolchain, kernel: Path) -> None:
    compiled(go, kernel)
    before = OBJECT.read_bytes()
    write(kernel, {"main.go": "package main\nfunc main() { 1 }\n"})
    with pytest.raises(UserError):
        compiled(go, kernel)
    assert OBJECT.read_bytes() == before
    assert sorted(path.name for path in Path().iterdir()) == ["go.o", "src"]


def test_the_same_source_in_another_folder_makes_the_same_object(go: GoToolchain, kernel: Path, tmp_path: Path) -> None:
    shutil.copytree(kernel, tmp_path / "some" / "where")
    compiled(go, kernel)
    compiled(go, tmp_path / "some" / "where", Path("other.o"))
    assert OBJECT.read_bytes() == Path("other.o").read_bytes()


def test_tags_and_flags_reach_the_compiler(go: GoToolchain, kernel: Path) -> None:
    write(kernel, {"tagged.go": "//go:build extra\n\npackage main\n\nvar x int = nothing\n"})
    compiled(go, kernel)
    OBJECT.unlink()
    assert "src/tagged.go:5:13: undefined: nothing" in refused(go, kernel, GoOptions(tags=("extra",))).message
    assert "-nonsense" in refused(go, kernel, GoOptions(gcflags="-nonsense")).message
    assert "-nonsense" in refused(go, kernel, GoOptions(ldflags="-nonsense")).message


def test_what_breaks_off_meanwhile_ends_go(go: GoToolchain, kernel: Path) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compiled(go, kernel, meanwhile=interrupt)
    assert not OBJECT.exists()


def test_an_object_that_goes_elsewhere_is_missed(go: GoToolchain, kernel: Path, tmp_path: Path) -> None:
    other = tmp_path / "other-ar"
    other.write_text("#!/bin/sh\n: >$4\n")
    other.chmod(0o755)
    error = refused(go, kernel, GoOptions(ldflags=f"-extar={other}"))
    assert error.message == "go build of src left no object"
    assert "-extar" in error.hint


def test_the_object_is_handed_over_to_another_file_system(go: GoToolchain, kernel: Path) -> None:
    """Where no link can be made, it is copied; to a name with blanks and quotes in it, too."""
    elsewhere = Path(tempfile.mkdtemp(prefix="it's a ", dir="/dev/shm"))
    try:
        assert elsewhere.stat().st_dev != Path(tempfile.gettempdir()).stat().st_dev
        compiled(go, kernel, elsewhere / OBJECT)
        compiled(go, kernel)
        assert (elsewhere / OBJECT).read_bytes() == OBJECT.read_bytes()
    finally:
        shutil.rmtree(elsewhere)


def test_the_archive_is_what_gos_linker_would_have_packed(go: GoToolchain, kernel: Path) -> None:
    compiled(go, kernel)
    pack(program(), OBJECT, ARCHIVE)
    packer = Path("ar").resolve()
    packer.write_text(f'#!/bin/sh\nexec {shlex.quote(str(program()))} ar "$@"\n')
    packer.chmod(0o755)
    subprocess.run(
        [go.command, "build", *FLAGS, f"-ldflags={LDFLAGS} '-extar={packer}'", "-o", Path("gos.a").resolve(), "."],
        cwd=kernel, env=go.environment(), check=True,
    )  # fmt: skip
    assert ARCHIVE.read_bytes() == Path("gos.a").read_bytes()
    needs(PREFIX + "ar", INSTALL)
    told = subprocess.run([PREFIX + "ar", "p", ARCHIVE, "go.o"], capture_output=True, check=True).stdout
    assert OBJECT.read_bytes() == told


def test_an_archive_that_cannot_be_packed_leaves_the_one_before(tmp_path: Path) -> None:
    archive = tmp_path / ARCHIVE
    archive.write_bytes(b"before")
    with pytest.raises(UserError, match=r"kernel\.a: it could not be packed\n.*missing\.o"):
        pack(program(), tmp_path / "missing.o", archive)
    assert archive.read_bytes() == b"before"
    assert [path.name for path in tmp_path.iterdir()] == ["kernel.a"]
