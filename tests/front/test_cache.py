"""Nothing is made twice, and nothing wrong is served: builds with a store behind them, as stories.

What ran is told by the tools themselves (recording.py), not by what a build prints. Every story ends with the image
that a clean build makes of the same state, bit for bit.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests.front.recording import ASSEMBLER, EVERY, GO, LINKER, NOTHING, Again, Clean, Recorded, opened, recording
from tests.front.test_incremental import append, at_time, delete, edit, setting, touch, write

pytest_plugins = ["tests.front.cached"]

RUN = edit("src/main.go", "Testing write barrier...", "Testing write barriers..")
BOOT = edit("templates/boot.s.j2", "_start:\n", "_start:\n    nop\n")
Change = Callable[[Recorded], object]


def sources(folder: Path, kept: Path) -> Callable[[], None]:
    """Keep what is in `folder`, what was built left out; returns what puts it back, every file written anew."""
    shutil.copytree(folder, kept, symlinks=True, ignore=shutil.ignore_patterns("build"))

    def back() -> None:
        for path in folder.iterdir():
            if path.name != "build":
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        for path in kept.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.copytree(path, folder / path.name, symlinks=True)
            else:
                shutil.copyfile(path, folder / path.name, follow_symlinks=False)

    return back


# There, and back.


@dataclass(frozen=True)
class There:
    """`change` makes another state of a project, to which the tools that `run` bring what was built.

    It is another image, unless it is the `same`. Going back to the first state runs no tool.
    """

    name: str
    change: Change
    run: frozenset[str]
    same: bool = False


def chmod(name: str, mode: int) -> Change:
    return lambda checkout: checkout.path(name).chmod(mode)


def rename(name: str, other: str) -> Change:
    return lambda checkout: checkout.path(name).rename(checkout.path(other))


def link(name: str) -> Change:
    """Let `name` be a link to what it was, elsewhere in the project."""

    def change(checkout: Recorded) -> None:
        path = checkout.path(name)
        path.symlink_to(path.rename(checkout.path(f"linked-{path.name}")))

    return change


STATES = (
    There("a source is touched", touch("src/main.go"), NOTHING, same=True),
    There("a source may be executed", chmod("src/main.go", 0o755), NOTHING, same=True),
    There("a source may only be read", chmod("src/main.go", 0o444), NOTHING, same=True),
    There("a source becomes a link", link("src/list.go"), NOTHING, same=True),
    There("a template becomes a link", link("templates/boot.s.j2"), NOTHING, same=True),
    There("the kernel package becomes a link", link("src"), NOTHING, same=True),
    There("a comment in Go", edit("src/list.go", "// ", "// indeed, "), GO, same=True),
    There("Go code that is run", RUN, GO | LINKER),
    There("the same, by a clock that stands still", at_time(RUN, "src/main.go", None), GO | LINKER),
    There("the same, by a clock that was set back", at_time(RUN, "src/main.go", 1e8), GO | LINKER),
    There("the same, by a clock that is ahead", at_time(RUN, "src/main.go", 4e9), GO | LINKER),
    There("a Go file is deleted", delete("src/extra.go"), EVERY),
    There("a Go file is added", write("src/more.go", "package main\n\nfunc init() { heapLength = 2 }\n"), GO | LINKER),
    There("a Go file is renamed", rename("src/extra.go", "src/zzz.go"), EVERY),
    There("Go assembly", edit("src/flag_arm64.s", "\n\tRET", "\n\tNOOP\n\tRET"), GO | LINKER),
    There("boot code", BOOT, ASSEMBLER | LINKER),
    There("boot code that comes to the same", append("templates/boot.s.j2", "{# the end #}"), NOTHING, same=True),
    There("the linker script", edit("linker/kernel.ld.j2", "__bss_end = .;", ". += 64; __bss_end = .;"), LINKER),
    There("the board: a larger stack", edit("board.toml", "stack = 0x20000", "stack = 0x40000"), LINKER),
    There("the board: its description", edit("board.toml", "QEMU virt", "The same"), LINKER, same=True),
    There("the entry", setting('entry = "main.main"'), ASSEMBLER | LINKER),
    There("the toolchain", setting('toolchain = "gnu"'), NOTHING),  # none of those that record
    There("a flag of the compiler", setting('gcflags = "-B"'), EVERY),  # without its checks data lies elsewhere
    There("a flag of the linker", setting('ldflags = "-X=main.none=1"'), GO),
    There("a tag", setting('tags = ["extra"]'), GO | LINKER),
)


@pytest.mark.parametrize("there", STATES, ids=lambda there: there.name)
def test_another_state_runs_what_it_needs_and_going_back_runs_nothing(
    there: There, recorded: Recorded, clean: Clean, tmp_path: Path
) -> None:
    first, image = recorded.made(), recorded.image
    back = sources(recorded.folder, tmp_path / "kept")
    there.change(recorded)
    recorded.doit("build").succeeded()
    assert recorded.ran() == there.run
    assert recorded.image == clean(recorded)
    assert (recorded.image == image) is there.same
    back()
    recorded.doit("build").succeeded()
    assert recorded.ran() == NOTHING
    assert recorded.made() == first


# Elsewhere.


def git(folder: Path, *words: str) -> None:
    given = {"HOME": str(folder), "PATH": os.environ["PATH"], "GIT_CONFIG_NOSYSTEM": "1"}
    identity = ("-c", "user.name=Somebody", "-c", "user.email=somebody@example.org", "-c", "core.autocrlf=false")
    subprocess.run(["git", *identity, *words], cwd=folder, env=given, check=True, capture_output=True)


def test_branches_are_switched_without_a_tool(recorded: Recorded, clean: Clean) -> None:
    write(".gitignore", "build/\n")(recorded)
    git(recorded.folder, "init", "--quiet", "--initial-branch=one")
    git(recorded.folder, "add", ".")
    git(recorded.folder, "commit", "--quiet", "--message=one")
    one = recorded.image
    git(recorded.folder, "switch", "--quiet", "--create=two")
    RUN(recorded)
    BOOT(recorded)
    delete("src/extra.go")(recorded)
    git(recorded.folder, "commit", "--quiet", "--all", "--message=two")
    recorded.doit("build").succeeded()
    assert recorded.ran() == EVERY
    two = recorded.image
    assert two == clean(recorded) != one
    for branch, image in (("one", one), ("two", two), ("one", one)):
        git(recorded.folder, "switch", "--quiet", branch)
        recorded.doit("build").succeeded()
        assert recorded.ran() == NOTHING
        assert recorded.image == image


def test_a_clone_elsewhere_with_a_warm_store_runs_no_tool(recorded: Recorded, tmp_path: Path) -> None:
    git(recorded.folder, "init", "--quiet")
    git(recorded.folder, "add", "src", "templates", "linker", "pyproject.toml", "dodo.py", "board.toml")
    git(recorded.folder, "commit", "--quiet", "--message=one")
    clone = replace(recorded, folder=tmp_path / "deeper" / "down" / "a clone, 2")
    git(tmp_path, "clone", "--quiet", str(recorded.folder), str(clone.folder))
    done = clone.doit("build").succeeded()
    assert clone.ran() == NOTHING
    assert done.out.count("restored from the local cache") == 4
    assert clone.made() == recorded.made()
    RUN(clone)
    clone.doit("build").succeeded()
    assert clone.ran() == EVERY  # what was restored as a whole has no parts to begin with
    RUN(recorded)
    recorded.doit("build").succeeded()
    assert recorded.ran() == NOTHING
    assert clone.made() == recorded.made()


def test_a_project_reached_through_a_link_is_the_same_project(recorded: Recorded, tmp_path: Path) -> None:
    (tmp_path / "linked").symlink_to(recorded.folder)
    linked = replace(recorded, folder=tmp_path / "linked")
    linked.doit("build").succeeded()
    assert recorded.ran() == NOTHING
    shutil.rmtree(recorded.path("build"))
    done = linked.doit("build").succeeded()
    assert recorded.ran() == NOTHING
    assert done.out.count("restored") == 4
    assert recorded.doit("build").succeeded().steps == ()


def test_two_projects_share_a_store_and_nothing_of_it_is_mixed_up(
    recorded: Recorded, again: Again, clean: Clean
) -> None:
    """They have the same names and other contents."""
    other = replace(again(), temporary=recorded.temporary)
    other.kernel("return 0")
    other.path("templates/boot.s.j2").write_text(other.path("templates/boot.s.j2").read_text() + "    nop\n")
    other.doit("build").succeeded()
    assert recorded.ran() == EVERY
    images = recorded.image, other.image
    for checkout in (recorded, other):
        shutil.rmtree(checkout.path("build"))
    for checkout in (recorded, other):
        checkout.doit("build").succeeded()
    assert recorded.ran() == NOTHING
    assert (recorded.image, other.image) == images == (clean(recorded), clean(other))


def test_a_relative_folder_is_one_from_where_doit_is_run(recorded: Recorded, clean: Clean) -> None:
    shutil.rmtree(recorded.path("build"))
    for expected in (EVERY, NOTHING):
        recorded.doit("build", BUILDSYS_CACHE="../kept here").succeeded()
        assert recorded.ran() == expected
        assert recorded.image == clean(recorded)
        shutil.rmtree(recorded.path("build"))
    assert recorded.folder.with_name("kept here").is_dir()


def test_the_cache_turned_off_keeps_nothing(recorded: Recorded) -> None:
    before = recorded.image
    shutil.rmtree(recorded.cache)
    shutil.rmtree(recorded.path("build"))
    recorded.doit("build", BUILDSYS_CACHE="off").succeeded()
    assert recorded.ran() == EVERY
    assert recorded.image == before
    assert not recorded.cache.exists()


# What a user's shell may hold that would change what Go, clang or a linker makes, if it reached them.
SHELL: dict[str, Any] = {
    "GOFLAGS": "-gcflags=-N", "GOOS": "windows", "GOARCH": "386", "GOARM64": "v9.0", "GOROOT": "/nowhere",
    "GOEXPERIMENT": "nosuchthing", "GOTOOLCHAIN": "go1.99.0", "GOWORK": "/nowhere/go.work", "GOENV": "/nowhere/env",
    "GODEBUG": "panicnil=1", "GO_EXTLINK_ENABLED": "1", "CGO_ENABLED": "1", "CC": "false", "CFLAGS": "-O0",
    "CCC_OVERRIDE_OPTIONS": "# +-DNOTHING +-g", "LDEMULATION": "elf_x86_64", "LDFLAGS": "-s", "LD_RUN_PATH": "/nowhere",
    "COMPILER_PATH": "/nowhere", "CPATH": "/nowhere", "SOURCE_DATE_EPOCH": "1", "ZIG_LIB_DIR": "/nowhere",
    "AR": "false", "AS": "false", "LD": "false", "TZ": "Asia/Kathmandu", "LANG": "tr_TR.UTF-8", "LC_ALL": "tr_TR.UTF-8",
}  # fmt: skip


@pytest.mark.parametrize("toolchain", ["zig", "gnu"])
def test_the_users_shell_changes_neither_an_image_nor_a_key(recorded: Recorded, toolchain: str) -> None:
    setting(f'toolchain = "{toolchain}"')(recorded)
    recorded.doit("build").succeeded()
    first = recorded.made()
    recorded.ran()
    shutil.rmtree(recorded.path("build"))
    recorded.doit("build", **SHELL, BUILDSYS_CACHE="off").succeeded()
    assert recorded.ran() == (EVERY if toolchain == "zig" else GO)
    assert recorded.made() == first
    shutil.rmtree(recorded.path("build"))
    recorded.doit("build", **SHELL).succeeded()
    assert recorded.ran() == NOTHING
    assert recorded.made() == first


# Tools.


def test_another_go_tree_is_another_tool_and_the_same_tree_elsewhere_is_not(
    recorded: Recorded, clean: Clean, tmp_path: Path
) -> None:
    first = recorded.image
    tree = recording(tmp_path / "other") / "go"
    setting(f'go = "{tree}"')(recorded)
    recorded.doit("build").succeeded()
    assert recorded.ran() == GO  # a tree of one's own: its sources count, too
    setting(f'go = "{recording(tmp_path / "elsewhere") / "go"}"')(recorded)
    recorded.doit("build").succeeded()
    assert recorded.ran() == NOTHING
    setting(f'go = "{tree}"')(recorded)
    recorded.doit("build").succeeded()
    recorded.ran()
    with opened(tree, "VERSION").open("a") as version:
        version.write("built by somebody\n")
    recorded.doit("build").succeeded()
    assert recorded.ran() == GO
    assert recorded.image == first == clean(recorded)
    setting('go = "wheel"')(recorded)
    recorded.doit("build").succeeded()
    assert recorded.ran() == NOTHING


@pytest.mark.parametrize("program", ["compile", "link", "asm"])
def test_a_program_of_the_go_tree_that_changes_is_another_tool(
    recorded: Recorded, tmp_path: Path, program: str
) -> None:
    tree = recording(tmp_path / "other") / "go"
    setting(f'go = "{tree}"')(recorded)
    recorded.doit("build").succeeded()
    assert recorded.ran() == GO
    [real] = (tree / "pkg" / "tool").glob(f"*/{program}")
    with opened(tree, str(real.relative_to(tree))).open("ab") as file:
        file.write(b"\0")
    recorded.doit("build").succeeded()
    assert recorded.ran() >= GO


def test_an_edit_of_ones_own_go_tree_is_built(recorded: Recorded, clean: Clean, tmp_path: Path) -> None:
    tree = recording(tmp_path / "other") / "go"
    setting(f'go = "{tree}"')(recorded)
    recorded.doit("build").succeeded()
    first = recorded.image
    source = opened(tree, "src/runtime/panic.go")
    text = source.read_text()
    assert '"index out of range"' in text
    source.write_text(text.replace('"index out of range"', '"index far out of range"'))
    recorded.doit("build").succeeded()
    assert recorded.ran() >= GO
    assert recorded.image == clean(recorded) != first


def test_another_zig_is_another_tool(recorded: Recorded, tmp_path: Path, clean: Clean) -> None:
    first = recorded.image
    other = replace(recorded, tools=recording(tmp_path / "other"))
    append_to(other.tools / "ziglang" / "zig", "# another version\n")
    other.doit("build").succeeded()
    assert recorded.ran() == EVERY
    assert recorded.image == first == clean(recorded)
    recorded.doit("build").succeeded()
    assert recorded.ran() == NOTHING


def append_to(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)
