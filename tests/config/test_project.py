"""`[tool.buildsys]`: read whole, defaults filled in, every mistake named with file and line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from buildsys.config.board import BOARDS
from buildsys.config.project import Project, load, shipped
from buildsys.errors import UserError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "src").mkdir()
    (tmp_path / "mine").mkdir()
    return tmp_path


def project(root: Path, *lines: str) -> Project:
    (root / "pyproject.toml").write_text("\n".join(["[tool.buildsys]", *lines, ""]))
    return load(root)


def refused(root: Path, *lines: str) -> UserError:
    with pytest.raises(UserError) as caught:
        project(root, *lines)
    return caught.value


def test_a_package_is_all_a_project_must_name(root: Path) -> None:
    found = project(root, 'package = "src"')
    assert found.package == root / "src"
    assert (found.entry, found.board.name, found.toolchain, found.go) == (
        "main.KernelMain",
        "qemu-virt",
        "zig",
        "wheel",
    )
    assert found.time_limit == 20
    assert found.templates == (shipped("templates"), shipped("linker"))
    assert found.build == root / "build"


def test_everything_can_be_set(root: Path) -> None:
    board = root / "own.toml"
    board.write_text((BOARDS / "qemu-virt.toml").read_text())
    found = project(
        root,
        'package = "src"',
        'entry = "main.Start"',
        'board = "own.toml"',
        'toolchain = "gnu"',
        'go = "/opt/go"',
        'tags = ["a", "b"]',
        'gcflags = "-N"',
        'ldflags = "-X main.v=1"',
        'templates = ["mine"]',
        "time-limit = 1.5",
    )
    assert (found.entry, found.board.path, found.toolchain, found.go) == ("main.Start", board, "gnu", "/opt/go")
    assert (found.options.tags, found.options.gcflags) == (("a", "b"), "-N")
    assert (found.options.ldflags, found.time_limit) == ("-X main.v=1", 1.5)
    assert found.templates[0] == root / "mine"


@pytest.mark.parametrize(("lines", "number"), [(['package = "src"'], 1), (['package = "src"', 'go = "1.24"'], 3)])
def test_messages_about_go_name_the_line_that_sets_it_or_would(root: Path, lines: list[str], number: int) -> None:
    assert project(root, *lines).go_setting == f"{root}/pyproject.toml:{number}: `tool.buildsys.go`"


def test_fetched_gos_are_kept_with_results_or_without(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BUILDSYS_GO_FOLDER", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    for said, folder in (("/kept", "/kept/go"), ("off", "/caches/buildsys/go")):
        monkeypatch.setenv("BUILDSYS_CACHE", said)
        assert project(root, 'package = "src"').go_folder == Path(folder)
    monkeypatch.setenv("BUILDSYS_GO_FOLDER", "/gos")
    assert project(root, 'package = "src"').go_folder == Path("/gos")


def test_other_tools_may_share_the_file(root: Path) -> None:
    (root / "pyproject.toml").write_text('[project]\nname = "x"\n[tool.ruff]\n[tool.buildsys]\npackage = "src"\n')
    assert load(root).package == root / "src"


@pytest.mark.parametrize(
    ("line", "message", "hint"),
    [
        ('entyr = "main.Start"', "unknown key `tool.buildsys.entyr`", "did you mean `entry`?"),
        ("entry = 3", "`tool.buildsys.entry` must be a string, not 3", ""),
        ('tags = "a"', "`tool.buildsys.tags` must be a list of strings, not 'a'", ""),
        ('entry = "KernelMain"', "`tool.buildsys.entry` is 'KernelMain'", "main.KernelMain"),
        ('board = "qemu-vrit"', "`tool.buildsys.board`: there is no board 'qemu-vrit'", "did you mean 'qemu-virt'?"),
        ('board = "no.toml"', "`tool.buildsys.board`: there is no board", "known boards: qemu-virt"),
        ('toolchain = "gcc"', "`tool.buildsys.toolchain` is 'gcc'", "known: gnu, llvm, zig"),
        ("time-limit = -1", "`tool.buildsys.time-limit` must be more than 0 seconds", ""),
        ("time-limit = 0", "`tool.buildsys.time-limit` must be more than 0 seconds", ""),
        ("time-limit = nan", "`tool.buildsys.time-limit` must be a finite number", ""),
        ('templates = ["mine", "other"]', "`tool.buildsys.templates` names ", ""),
        ("alloc-memory = 4096", "`tool.buildsys.alloc-memory` is for the ready set alloc", 'add "alloc" to `sets`'),
        ('alloc-memory = 0\nsets = ["alloc"]', "`tool.buildsys.alloc-memory` is 0", "a multiple of 4096"),
        ('alloc-memory = 4095\nsets = ["alloc"]', "`tool.buildsys.alloc-memory` is 4095", "a multiple of 4096"),
        ('alloc-memory = 0x8000000\nsets = ["alloc"]', "`tool.buildsys.alloc-memory` is 0x8000000 bytes; all RAM", ""),
        ('alloc-memory = 4096\nalloc = "main.f"', "`tool.buildsys.alloc-memory` is not for an allocator", "`alloc`"),
    ],
)
def test_a_mistake_is_named_with_file_line_and_key(root: Path, line: str, message: str, hint: str) -> None:
    error = refused(root, "# the kernel", 'package = "src"', line)
    assert error.message.startswith(f"{root}/pyproject.toml:4: {message}")
    assert hint in error.hint


def test_a_folder_that_is_not_there_is_named(root: Path) -> None:
    error = refused(root, 'package = "sorce"')
    assert error.message == f"{root}/pyproject.toml:2: `tool.buildsys.package` names {root}/sorce, which is no folder"
    error = refused(root, 'package = "src"', 'templates = ["mine", "other"]')
    assert error.message.endswith(f"names {root}/other, which is no folder")


def test_a_misspelt_package_is_recognised(root: Path) -> None:
    error = refused(root, 'pakage = "src"')
    assert error.message == f"{root}/pyproject.toml:1: `tool.buildsys.package` is missing"
    assert error.hint == "is `tool.buildsys.pakage` meant to be it?"


def test_a_missing_file_and_a_missing_table_are_named(root: Path) -> None:
    with pytest.raises(UserError, match=re.escape(f"{root}/pyproject.toml: cannot be read: No such file")):
        load(root)
    (root / "pyproject.toml").write_text("[tool.ruff]\n")
    with pytest.raises(UserError, match=re.escape("pyproject.toml: `tool.buildsys.package` is missing")):
        load(root)


def test_what_is_not_toml_is_named_with_its_line(root: Path) -> None:
    assert refused(root, "package = src").message.startswith(f"{root}/pyproject.toml:2: ")


def test_a_mistake_in_the_projects_own_board_file_is_named_with_its_line(root: Path) -> None:
    text = (BOARDS / "qemu-virt.toml").read_text().replace("\nbss = ", "\nbsss = ")
    (root / "own.toml").write_text(text)
    line = text[: text.index("bsss")].count("\n") + 1
    error = refused(root, 'package = "src"', 'board = "own.toml"')
    assert error.message == f"{root}/own.toml:{line}: unknown key `layout.bsss`"
    assert error.hint == "did you mean `bss`?"


def test_an_allocator_of_the_kernels_own_brings_the_set(root: Path) -> None:
    found = project(root, 'package = "src"', 'alloc = "main.f"')
    assert ("alloc" in found.sets, found.allocator, found.alloc_memory) == (True, "main.f", None)
    assert "alloc" not in project(root, 'package = "src"').sets
    found = project(root, 'package = "src"', 'sets = ["alloc"]', "alloc-memory = 8192")
    assert (found.sets, found.allocator, found.alloc_memory) == (("alloc",), "", 8192)
