"""What a build reads: every file is known, a new one is noticed, and asking once is as good as asking again."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from buildsys.cache.action import Action, Discovered, Records
from buildsys.cache.key import Places
from buildsys.cache.memory import Memory
from buildsys.errors import UserError
from buildsys.go import inputs as asking
from buildsys.go.inputs import Inputs, inputs, known_inputs
from buildsys.go.options import GoOptions
from buildsys.go.toolchain import GoToolchain

from .conftest import MODULE, write

NONE = GoOptions()
MEMORY = Path("memory.json")

TREE = {
    "src/go.mod": MODULE + "require example.org/lib v0.0.0\nreplace example.org/lib => ../lib\n",
    "src/main.go": """package main

import (
	"embed"

	"example.org/lib"
	"kernel/sub"
)

//go:embed assets one.txt pages/*/*.html
var files embed.FS

func main() { lib.F(); sub.F() }
""",
    "src/other_windows.go": "package main\n",
    "src/tagged.go": "//go:build extra\n\npackage main\n",
    "src/assembly_arm64.s": '#include "header.h"\n',
    "src/assembly_amd64.s": "\n",
    "src/header.h": "\n",
    "src/one.txt": "1",
    "src/assets/deep/deeper/two.txt": "2",
    "src/pages/a/index.html": "3",
    "src/sub/sub.go": "package sub\n\nfunc F() {}\n",
    "lib/go.mod": "module example.org/lib\n\ngo 1.21\n",
    "lib/lib.go": "package lib\n\nfunc F() {}\n",
}


@pytest.fixture
def tree(kernel: Path) -> Path:
    write(Path(), TREE)
    # Folders in which nothing is embedded yet.
    (kernel / "assets" / "empty").mkdir()
    (kernel / "pages" / "b").mkdir()
    return kernel


def here(paths: Iterable[Path]) -> set[str]:
    return {os.path.relpath(path) for path in paths}


def test_every_file_a_build_reads_is_an_input(go: GoToolchain, tree: Path) -> None:
    assert here(inputs(go, tree, NONE).files) == set(TREE)


def test_every_folder_in_which_a_new_file_would_count_is_known(go: GoToolchain, tree: Path) -> None:
    assert here(inputs(go, tree, NONE).folders) == {
        "lib",
        "src",
        "src/sub",
        *("src/assets", "src/assets/deep", "src/assets/deep/deeper", "src/assets/empty"),
        *("src/pages", "src/pages/a", "src/pages/b"),
    }


def test_a_vendored_tree_is_an_input(go: GoToolchain, tree: Path) -> None:
    subprocess.run([go.command, "mod", "vendor"], cwd=tree, env=go.environment(), check=True, capture_output=True)
    shutil.rmtree("lib")
    found = here(inputs(go, tree, NONE).files)
    assert {"src/vendor/modules.txt", "src/vendor/example.org/lib/lib.go"} <= found
    assert not {name for name in found if name.startswith("lib/")}


def test_a_checksum_file_is_an_input(go: GoToolchain, tree: Path) -> None:
    write(tree, {"go.sum": ""})
    assert "src/go.sum" in here(inputs(go, tree, NONE).files)


def test_tags_decide_what_is_read(go: GoToolchain, tree: Path) -> None:
    write(
        tree,
        {"tagged.go": '//go:build extra\n\npackage main\n\nimport _ "kernel/extra"\n', "extra/x.go": "package extra\n"},
    )
    assert "src/extra/x.go" not in here(inputs(go, tree, NONE).files)
    assert "src/extra/x.go" in here(inputs(go, tree, GoOptions(tags=("extra",))).files)


def test_a_package_that_cannot_be_listed_is_an_error_with_its_place(go: GoToolchain, tree: Path) -> None:
    write(tree, {"sub/sub.go": 'package sub\n\nimport _ "no/such"\n'})
    with pytest.raises(UserError) as caught:
        inputs(go, tree, NONE)
    assert caught.value.message.startswith("go list of src failed\nsrc/sub/sub.go:3:8: package no/such is not in std")


EDITS = [
    ("src/main.go", "package main\n\nfunc main() {}\n"),
    ("src/header.h", "#define X 1\n"),
    ("src/assembly_arm64.s", "// edited\n"),
    ("src/other_windows.go", "//go:build linux\n\npackage main\n"),
    ("src/assembly_amd64.s", "// edited\n"),
    ("src/one.txt", "3"),
    ("src/assets/deep/deeper/two.txt", "3"),
    ("src/sub/sub.go", "package sub\n\nfunc F() { println() }\n"),
    ("src/go.mod", TREE["src/go.mod"] + "// edited\n"),
    ("lib/go.mod", TREE["lib/go.mod"] + "// edited\n"),
    ("lib/lib.go", "package lib\n\nfunc F() { println() }\n"),
    ("src/new.go", "package main\n"),
    ("src/new_arm64.s", "\n"),
    ("src/sub/new.go", "package sub\n"),
    ("src/assets/deep/deeper/new.txt", "4"),
    ("src/assets/new.txt", "4"),
    ("src/assets/deep/new/new.txt", "4"),
    ("src/assets/new/new.txt", "4"),
    ("src/assets/empty/new.txt", "4"),
    ("src/pages/b/new.html", "4"),
    ("src/pages/new/new.html", "4"),
    ("lib/new.go", "package lib\n"),
    ("src/go.sum", ""),
]


def known(go: GoToolchain, package: Path, options: GoOptions) -> Inputs:
    """What is known of the inputs, remembered in the working folder alone."""
    places = Places(Path.cwd())
    return known_inputs(go, package, options, Memory(MEMORY, lambda: "", None), places.name, places.path)


@pytest.mark.parametrize(("name", "text"), EDITS)
def test_an_edited_or_added_file_makes_the_step_stale(recorded: tuple[Records, Action], name: str, text: str) -> None:
    records, action = recorded
    assert records.stale(action) == ""
    write(Path(), {name: text})
    file = name.rpartition("/")[2]
    reason = records.stale(action)
    assert reason.endswith((f"{file} changed", "has other files in it")), reason


@pytest.fixture
def recorded(go: GoToolchain, tree: Path) -> tuple[Records, Action]:
    """A step that reads what a build of the tree reads, done and recorded."""

    def discover() -> Discovered:
        found = known(go, tree, NONE)
        return Discovered(found.files, found.folders)

    def run() -> dict[str, Any]:
        Path("made").write_text("made")
        return {}

    action = Action("compile", (), (Path("made"),), {}, run, discover)
    records = Records(Path("done"))
    records.perform(action)
    return records, action


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *EDITS,
        ("src/main.go", TREE["src/main.go"].replace('\t"kernel/sub"\n', "").replace("sub.F()", "")),
        ("src/sub/sub.go", "package sub\n\nimport `kernel/third`\n\nfunc F() { third.F() }\n"),
        ("src/sub/sub.go", 'package sub\n\nimport (\n. /* */ "kernel/third"\n)\n'),
        ("src/sub/sub.go", "package sub\n\nfunc F() {}\n\nfunc G() {}\n"),
        ("src/tagged.go", "package main\n"),
        ("src/main.go", TREE["src/main.go"].replace("assets one.txt pages/*/*.html", "assets")),
        ("src/main.go", TREE["src/main.go"].replace("assets one.txt pages/*/*.html", "assets *.txt third/*.go")),
    ],
)
def test_what_is_remembered_is_what_go_would_tell_again(go: GoToolchain, tree: Path, name: str, text: str) -> None:
    write(tree, {"third/third.go": "package third\n\nfunc F() {}\n"})
    known(go, tree, NONE)
    write(Path(), {name: text})
    assert known(go, tree, NONE) == inputs(go, tree, NONE)


def test_go_is_not_asked_again_after_an_edit_that_can_not_matter(
    go: GoToolchain, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = known(go, tree, NONE)

    def refuse(*_: object) -> Inputs:
        raise AssertionError("go was asked")

    monkeypatch.setattr(asking, "inputs", refuse)
    write(tree, {"sub/sub.go": "package sub\n\nfunc F() { println(1) }\n"})
    assert known(go, tree, NONE) == before
    with pytest.raises(AssertionError, match="go was asked"):
        known(go, tree, GoOptions(tags=("extra",)))


@pytest.mark.parametrize("damage", ["", "[]", "{}", "null", '{"files": 3}', "\x00"])
def test_a_damaged_memory_is_made_again(go: GoToolchain, tree: Path, damage: str) -> None:
    before = known(go, tree, NONE)
    MEMORY.write_text(damage)
    assert known(go, tree, NONE) == before


def test_a_folder_that_is_not_there_is_refused(go: GoToolchain, kernel: Path) -> None:
    with pytest.raises(UserError, match="sorce: there is no such folder"):
        inputs(go, Path("sorce"), NONE)
