"""`doit go-test` as a user types it: packages by patterns, several at once, one table, one exit status."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

from buildsys.front.command import spelt

DOIT = Path(sys.executable).with_name("doit")
LIMIT = 120  # seconds
PROCESSORS = """package processors

import (
	"runtime"
	"testing"
)

func TestProcessors(t *testing.T) { t.Log("there are", runtime.GOMAXPROCS(0)) }
"""


def go_test(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """What the command said."""
    return subprocess.run(
        [DOIT, "go-test", *arguments], cwd=project, capture_output=True, text=True, check=False, timeout=LIMIT
    )


def test_several_packages_are_told_in_order_and_one_that_fails_fails_all(project: Path, tmp_path: Path) -> None:
    junit = tmp_path / "deep" / "junit.xml"
    done = go_test(project, "./...", "-run", "Sum|First|Fails|Exits|Beside", "--junit", str(junit), "--jobs", "2")
    assert done.returncode == 1, done.stdout + done.stderr
    verdicts = [line.split()[:2] for line in done.stdout.splitlines() if line.startswith(("ok  ", "FAIL  ", "?  "))]
    order = ["example", "example/files", "example/good", "example/network", "example/trouble"]
    assert [name for _, name in verdicts[: len(order)]] == order
    assert [word for word, _ in verdicts[: len(order)]] == ["?", "ok", "ok", "ok", "FAIL"]
    assert "3 of 4 packages passed" in done.stdout
    assert "TestExits ended its boot: panic: unexpected call to os.Exit(0) during test" in done.stdout
    assert "\x16" not in done.stdout
    assert "supervisor: run" not in done.stdout
    assert "error: 1 of 5 packages failed: example/trouble" in done.stderr
    suites = {suite.get("name"): suite for suite in ElementTree.parse(junit).getroot()}
    failed = {case.get("name") for case in suites["example/trouble"] if case.find("failure") is not None}
    assert failed == {"TestExits", "TestFails"}
    assert suites["example/good"].get("failures") == "0"
    passed = [line for line in done.stdout.splitlines() if "--- PASS: " in line and "Sum" in line]
    assert len(suites["example/good"]) == int(suites["example/good"].get("tests", "")) == len(passed) == 7


def test_what_was_built_is_not_built_again(project: Path) -> None:
    go_test(project, "./good", "-run=Words")
    image = project / "build/go-test/example+good/kernel.elf"
    before = image.stat()
    done = go_test(project, "./good", "-run=Words")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no end of line--- PASS: TestWords" in done.stdout
    assert (image.stat().st_ino, image.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert not list(image.parent.glob("boot-*"))


def test_a_mistake_is_told_in_one_message(project: Path) -> None:
    for arguments, said in (
        (["nowhere"], "package nowhere is not in std"),
        (["./good", "--machine", "abacus"], "known: qemu, embedded"),
        (["./good", "--count", "0"], "--count must be at least 1"),
        (["./good", "--cpu", "-1"], "--cpu must be at least 1"),
        (["./good", "--memory", "1"], "from 128 to"),
        (["./good", "--board", "none"], "--board"),
        (["."], "no package named has test files"),
    ):
        done = go_test(project, *arguments)
        assert done.returncode == 1, arguments
        assert said in done.stderr, done.stderr
        assert "Traceback" not in done.stderr


def test_the_tests_are_told_of_as_many_processors_as_is_asked_for(project: Path) -> None:
    package = project / "src/processors"
    package.mkdir()
    try:
        (package / "processors_test.go").write_text(PROCESSORS)
        for option, said in ((["-cpu", "3"], "there are 3"), ([], "there are 1")):
            done = go_test(project, "./processors", *option)
            assert done.returncode == 0, done.stdout + done.stderr
            assert said in done.stdout
    finally:
        (package / "processors_test.go").unlink()
        package.rmdir()


def test_tests_that_do_not_compile_fail_their_package(project: Path) -> None:
    broken = project / "src/broken"
    broken.mkdir()
    try:
        (broken / "broken_test.go").write_text("package broken\n\nvar number string = 1\n")
        done = go_test(project, "./broken")
    finally:
        (broken / "broken_test.go").unlink()
        broken.rmdir()
    assert done.returncode == 1
    assert "broken_test.go:3:21: cannot use 1" in done.stdout


def test_ctrl_c_ends_all_of_it(project: Path) -> None:
    with subprocess.Popen(
        [DOIT, "go-test", "./trouble", "-run", "Hangs"], cwd=project, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        while b"TestHangs" not in process.stdout.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        process.stdout.read()
        assert process.wait(LIMIT) == 130
    image = str(project / "build/go-test/example+trouble")
    running = [Path("/proc", each, "cmdline") for each in os.listdir("/proc") if each.isdigit()]
    assert not [path for path in running if _said(path).find(image) >= 0]
    assert not list(Path(image).glob("boot-*"))


def _said(path: Path) -> str:
    try:
        return path.read_bytes().decode(errors="replace")
    except OSError:
        return ""  # it ended


def test_gos_options_may_have_one_dash_behind_go_test_alone() -> None:
    assert spelt(["go-test", "fmt", "-run", "X", "-cpu=2"]) == ["go-test", "fmt", "--run", "X", "--cpu=2"]
    assert spelt(["go-test:kernel", "--run", "-bench"]) == ["go-test:kernel", "--run", "--bench"]
    assert spelt(["list", "-run"]) == ["list", "-run"]
