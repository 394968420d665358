"""`doit matrix` as a user runs it: a Go that is fetched, parts and their merger, what is missing, what fails."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from buildsys.config.project import TOOLCHAINS
from buildsys.machines import qemu
from buildsys.matrix.rows import EMULATORS, every_go
from tests import binutils
from tests.conftest import ROOT
from tests.front.conftest import Checkout, Copies, Done, wait_for
from tests.machines.conftest import needs

PATIENCE = 900  # seconds; a slow machine, a slow network

pytestmark = pytest.mark.slow


def matrix(checkout: Checkout, *options: str, **environment: str) -> Done:
    """`doit matrix` to its end."""
    process = checkout.start("matrix", *options, largest_file=None, ignoring=None, **environment)
    try:
        out, err = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    return Done(process.returncode, out, err)


def written(checkout: Checkout, name: str = "build/matrix.json") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(checkout.path(name).read_text())
    return found


def results(checkout: Checkout) -> dict[tuple[str, str, str], str]:
    """The result of each cell."""
    return {
        (line["go"], line["toolchain"], name): verdict["result"]
        for line in written(checkout)["lines"]
        for name, verdict in line["verdicts"].items()
    }


@pytest.fixture
def without(tmp_path: Path) -> Callable[..., str]:
    """A PATH on which some programs are not found: the others by links."""

    def path(*names: str) -> str:
        folder = tmp_path / "programs"
        folder.mkdir()
        for each in reversed(os.get_exec_path()):
            for program in Path(each).glob("*") if Path(each).is_dir() else ():
                if not any(program.name == name or program.name.startswith(f"{name}-") for name in names):
                    (folder / program.name).unlink(missing_ok=True)
                    (folder / program.name).symlink_to(program)
        return str(folder)

    return path


def test_another_go_is_fetched_and_its_kernel_passes_and_is_then_kept(fresh: Checkout) -> None:
    needs(qemu.PROGRAM, qemu.INSTALL)
    folder = fresh.temporary / "gos"
    options = ("--go", "1.24", "--toolchain", "zig")
    first = matrix(fresh, *options, BUILDSYS_GO_FOLDER=str(folder))
    assert first.status == 0, first.err
    assert "fetching Go 1.24." in first.err
    assert "2 of 2 cells passed" in first.out
    (line,) = written(fresh)["lines"]
    assert line["release"].startswith("1.24.")
    assert sorted(line["sites"]) == [f"runtime.gcWriteBarrier{slots}" for slots in range(1, 9)]
    assert [verdict["kept"] for verdict in line["verdicts"].values()] == [False, False]

    again = matrix(fresh, *options, BUILDSYS_GO_FOLDER=str(folder))
    assert "fetching" not in again.err
    assert again.out == first.out
    (kept,) = written(fresh)["lines"]
    assert [verdict["kept"] for verdict in kept["verdicts"].values()] == [True, True]
    assert kept["sha256"] == line["sha256"]

    # A clone beside it gets all of it from the cache, also the verdicts.
    shutil.rmtree(fresh.path("build"))
    cached = matrix(fresh, *options, BUILDSYS_GO_FOLDER=str(folder))
    (restored,) = written(fresh)["lines"]
    assert [verdict["kept"] for verdict in restored["verdicts"].values()] == [True, True]
    assert (restored["sha256"], restored["seconds"]) == (line["sha256"], None)
    assert "  kept  " in cached.out
    assert "go1.24." in fresh.doit("cache-info", BUILDSYS_GO_FOLDER=str(folder)).succeeded().out


def test_parts_merge_to_the_same_as_the_whole(fresh: Checkout) -> None:
    needs(binutils.PREFIX + "ld", binutils.INSTALL)
    options = ("--go", "wheel", "--toolchain", "zig,gnu", "--emulator", "embedded")
    for number in ("1", "2"):
        done = matrix(fresh, *options, "--shard", f"{number}/2", "--output", f"build/part{number}.json")
        assert done.status == 0, done.err
        assert f"1 of 1 cells passed (part {number}/2)" in done.out
    merged = matrix(fresh, "--merge", "build/part2.json", "build/part1.json")
    assert merged.status == 0, merged.err
    assert merged.err == ""  # nothing was run
    parts = written(fresh)
    assert "2 of 2 cells passed" in merged.out
    whole = matrix(fresh, *options)
    assert whole.out == merged.out
    for each in (parts, whole_json := written(fresh)):
        for line in each["lines"]:
            line["verdicts"]["embedded"]["kept"] = True
    assert parts == whole_json
    matrix(fresh, "--merge", "build/part1.json").refused("no file has part 2/2")
    fresh.append("src/main.go", "// another state\n")
    matrix(fresh, *options, "--shard", "2/2", "--output", "build/part2.json")
    matrix(fresh, "--merge", "build/part1.json", "build/part2.json").refused("other sources")


def test_what_is_missing_is_not_run_and_named_with_what_installs_it(
    fresh: Checkout, without: Callable[..., str]
) -> None:
    path = without("clang", "go", "qemu-system-aarch64")
    done = matrix(fresh, "--go", "wheel,system", "--toolchain", "zig,llvm", PATH=path)
    assert done.status == 0, done.err
    assert results(fresh) == {
        ("wheel", "zig", "embedded"): "passed",
        ("wheel", "zig", "qemu"): "not run",
        **{("wheel", "llvm", emulator): "not run" for emulator in EMULATORS},
        **{("system", toolchain, emulator): "not run" for toolchain in ("zig", "llvm") for emulator in EMULATORS},
    }
    for package in ("clang lld", "golang-go", "qemu-system-arm"):
        assert f"apt-get install --no-install-recommends {package}" in done.out
    assert "1 of 8 cells passed, 7 not run" in done.out
    suite = ElementTree.parse(fresh.path("build/matrix.xml")).getroot()
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("8", "0", "7")


def test_with_strict_what_is_missing_is_a_failure(fresh: Checkout, without: Callable[..., str]) -> None:
    done = matrix(fresh, "--go", "wheel", "--toolchain", "llvm", "--strict", PATH=without("clang"))
    done.refused("2 of 2 cells did not run")


def test_a_kernel_that_is_wrong_fails_and_the_claim_is_named(fresh: Checkout) -> None:
    fresh.kernel("return 1")
    done = matrix(fresh, "--go", "wheel", "--toolchain", "zig", "--emulator", "embedded")
    done.refused("1 of 1 cells failed")
    assert "failed: Go 1.27.3, zig, embedded: claim 12, outcome: " in done.out
    # It is not kept: the next time it is tried again.
    matrix(fresh, "--go", "wheel", "--toolchain", "zig", "--emulator", "embedded")
    (line,) = written(fresh)["lines"]
    assert (line["verdicts"]["embedded"]["result"], line["verdicts"]["embedded"]["kept"]) == ("failed", False)


def test_a_kernel_that_does_not_compile_fails_in_gos_own_words(fresh: Checkout) -> None:
    fresh.append("src/main.go", "\nfunc wrong() { undefined() }\n")
    done = matrix(fresh, "--go", "wheel", "--toolchain", "zig", "--emulator", "embedded")
    done.refused("1 of 1 cells failed")
    assert "undefined: undefined" in done.out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--go", "1.12"], ("--go is '1.12'", "did you mean `1.21`?")),
        (["--go", "wheel,"], ("--go is empty",)),
        (["--toolchain", "zgi"], ("there is no 'zgi'", "did you mean `zig`?")),
        (["--emulator", "qmeu"], ("there is no 'qmeu'", "did you mean `qemu`?")),
        (["--shard", "3/2"], ("--shard is '3/2'", "I/N")),
        (["--jobs", "-1"], ("--jobs must be",)),
        (["x.json"], ("takes no 'x.json'", "doit matrix --merge x.json")),
        (["--merge"], ("none is",)),
        (["--merge", "--go", "1.24", "x.json"], ("--merge runs nothing",)),
        (["--merge", "x.json"], ("x.json: cannot be read",)),
        (["--merge", "pyproject.toml"], ("pyproject.toml: is no result of `doit matrix`",)),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_built(
    fresh: Checkout, options: list[str], words: tuple[str, ...]
) -> None:
    matrix(fresh, *options).refused(*words)
    assert not fresh.path("build/matrix").exists()
    assert not fresh.path("build/matrix.json").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_ends_every_row_and_what_it_started(fresh: Checkout, number: signal.Signals) -> None:
    process = fresh.start("matrix", "--go", "wheel", "--toolchain", "zig,gnu", "--jobs", "2", ignoring=None)
    try:
        wait_for(lambda: sum("buildsys.matrix.row" in line for line in fresh.left()) == 2, "two rows at once", 60)
        wait_for(lambda: any("go build" in line or "/go " in line for line in fresh.left()), "a compiler", 60)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert err.strip().splitlines()[-1] == "interrupted"
    assert "Traceback" not in err
    wait_for(lambda: not fresh.left(), "the end of all it started")


def test_rows_do_not_outlive_a_doit_that_is_killed(fresh: Checkout) -> None:
    process = fresh.start("matrix", "--go", "wheel", "--toolchain", "zig", ignoring=None)
    try:
        wait_for(lambda: any("buildsys.matrix.row" in line for line in fresh.left()), "a row", 60)
    finally:
        process.kill()
        process.communicate()
    wait_for(lambda: not any("buildsys.matrix.row" in line for line in fresh.left()), "the end of the row", 60)


def test_a_release_newer_than_any_that_is_known_is_proved_like_the_others(fresh: Checkout, copies: Copies) -> None:
    """As far as that can be had today: the Go at hand, under a version nobody has seen."""
    from buildsys.go import toolchain

    wheel = toolchain.find("wheel", "the tests").root
    tree = fresh.temporary / "go"
    tree.mkdir()
    for entry in wheel.iterdir():
        (tree / entry.name).symlink_to(entry)
    (tree / "VERSION").unlink()
    (tree / "VERSION").write_text("go1.99.0\n")
    done = matrix(fresh, "--go", str(tree), "--toolchain", "zig", "--emulator", "embedded")
    assert done.status == 0, done.err + done.out
    assert done.out.splitlines()[1].startswith(f"1.99.0 ({tree})")
    assert "1 of 1 cells passed" in done.out


@pytest.mark.campaign
def test_the_whole_matrix_is_green_and_as_the_document_has_it(fresh: Checkout) -> None:
    done = matrix(fresh, "--strict")
    assert done.status == 0, done.out + done.err
    found, shown = written(fresh), json.loads((ROOT / "docs" / "matrix.json").read_text())
    assert len(results(fresh)) == len(every_go()) * len(TOOLCHAINS) * len(EMULATORS)

    def told(stored: dict[str, Any]) -> list[tuple[Any, ...]]:
        # What a linker of another version makes may differ in size; what Go makes may not.
        return [(line["go"], line["release"], line["toolchain"], line["sites"]) for line in stored["lines"]]

    assert told(found) == told(shown)
