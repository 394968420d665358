"""What can go wrong with kept results, and what people do at once: no image is wrong after it, and none is lost.

As in test_cache.py, the tools themselves tell whether they ran, and every story ends with the image of a clean build.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.front.conftest import wait_for
from tests.front.recording import ASSEMBLER, EVERY, GO, LINKER, NOTHING, Again, Clean, Recorded, recording
from tests.front.test_bad_input import fill, mount
from tests.front.test_incremental import append, corrupt, edit, setting, write

pytest_plugins = ["tests.front.cached"]

RUN = edit("src/main.go", "Testing write barrier...", "Testing write barriers..")
BOOT = edit("templates/boot.s.j2", "_start:\n", "_start:\n    nop\n")
WAITING = "another build is at work in build: waiting for it\n"


# Damage.


@pytest.mark.parametrize("name", ["go.o", "runtime.json", "boot.o", "kernel.unpatched.elf", "kernel.elf", "patch.json"])
def test_an_overwritten_target_is_told_and_restored_without_a_tool(recorded: Recorded, name: str) -> None:
    first = recorded.made()
    recorded.doit("build").succeeded()
    corrupt(f"build/{name}")(recorded)
    done = recorded.doit("build").succeeded()
    assert f"build/{name} is not what was made" in done.out
    assert recorded.ran() == NOTHING
    assert recorded.made() == first


def stored(checkout: Recorded, kind: str) -> list[Path]:
    return sorted(path for path in (checkout.cache / kind).rglob("*") if path.is_file())


def flip(path: Path) -> None:
    """Change a bit in the middle."""
    contents = bytearray(path.read_bytes())
    contents[len(contents) // 2] ^= 1
    path.write_bytes(contents)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "a bit is flipped": flip,
    "truncated": lambda path: os.truncate(path, path.stat().st_size // 2),
    "emptied": lambda path: os.truncate(path, 0),
    "zeroes": lambda path: path.write_bytes(bytes(path.stat().st_size)),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_stored_contents_that_are_damaged_are_told_and_made_again(recorded: Recorded, damage: str) -> None:
    first = recorded.made()
    for path in stored(recorded, "cas"):
        DAMAGE[damage](path)
    shutil.rmtree(recorded.path("build"))
    done = recorded.doit("build")
    assert done.status == 0
    assert recorded.ran() == EVERY
    assert recorded.made() == first
    told = done.err.splitlines()
    assert len(told) >= 4
    assert all(line.startswith("warning: ") and "is not what was stored, and was dropped" in line for line in told)
    shutil.rmtree(recorded.path("build"))
    recorded.doit("build").succeeded()
    assert recorded.ran() == NOTHING
    assert recorded.made() == first


@pytest.mark.parametrize("damage", ["truncated", "emptied", "zeroes"])
def test_stored_results_that_are_damaged_are_told_and_made_again(recorded: Recorded, damage: str) -> None:
    first = recorded.made()
    for path in stored(recorded, "ac"):
        DAMAGE[damage](path)
    shutil.rmtree(recorded.path("build"))
    done = recorded.doit("build")
    assert done.status == 0
    assert recorded.ran() == EVERY
    assert "is not what was stored, and was dropped" in done.err
    assert "Traceback" not in done.err
    assert recorded.made() == first
    shutil.rmtree(recorded.path("build"))
    recorded.doit("build").succeeded()
    assert recorded.ran() == NOTHING


def test_a_store_that_is_deleted_is_filled_again(recorded: Recorded) -> None:
    first = recorded.made()
    shutil.rmtree(recorded.cache)
    recorded.doit("build").succeeded()
    assert recorded.ran() == NOTHING  # it is up to date
    shutil.rmtree(recorded.path("build"))
    recorded.doit("build").succeeded()
    assert recorded.ran() == EVERY
    shutil.rmtree(recorded.path("build"))
    recorded.doit("build").succeeded()
    assert recorded.ran() == NOTHING
    assert recorded.made() == first


def test_a_store_may_be_deleted_while_it_is_in_use(recorded: Recorded, clean: Clean) -> None:
    RUN(recorded)
    process = recorded.start("build")
    while process.poll() is None:
        shutil.rmtree(recorded.cache, ignore_errors=True)
    _, err = process.communicate()
    assert process.returncode == 0, err
    assert all(line.startswith("warning: ") for line in err.splitlines())
    assert recorded.image == clean(recorded)
    recorded.ran()
    shutil.rmtree(recorded.path("build"))
    recorded.doit("build").succeeded()
    assert recorded.image == clean(recorded)


@pytest.mark.parametrize("place", ["a file", "in a file", "of the system", "a folder of files"])
def test_a_store_that_cannot_be_is_told_once_and_builds_go_on(recorded: Recorded, place: str, tmp_path: Path) -> None:
    first = recorded.made()
    file = tmp_path / "file"
    file.write_text("mine\n")
    for name in ("ac", "cas", "tmp"):
        write(f"../odd/{name}", "mine\n")(replace(recorded, folder=made_folder(tmp_path / "odd")))
    where = {
        "a file": file,
        "in a file": file / "cache",
        "of the system": "/proc/self",
        "a folder of files": tmp_path / "odd",
    }
    shutil.rmtree(recorded.path("build"))
    for expected in (EVERY, NOTHING):
        done = recorded.doit("build", BUILDSYS_CACHE=str(where[place]))
        assert done.status == 0, done.err
        assert recorded.ran() == expected
        assert recorded.made() == first
        if expected:
            assert len(done.err.splitlines()) == 1
            assert done.err.startswith("warning: nothing is kept in the local cache: ")
        else:
            assert done.err == ""
    assert file.read_text() == "mine\n"


def made_folder(path: Path) -> Path:
    path.mkdir(exist_ok=True)
    return path


def test_a_store_on_a_full_disk_is_told_once_and_harms_nothing(recorded: Recorded, clean: Clean) -> None:
    shutil.rmtree(recorded.cache)
    recorded.cache.mkdir()
    if not mount("-t", "tmpfs", "-o", "size=6m", "none", recorded.cache):
        return  # where one may not mount, the test above is as near as one comes
    try:
        RUN(recorded)
        done = recorded.doit("build")
        assert done.status == 0, done.err
        assert len(done.err.splitlines()) == 1
        assert "nothing is kept in the local cache" in done.err
        assert "No space left on device" in done.err
        assert recorded.image == clean(recorded)
        assert not list((recorded.cache / "tmp").iterdir())
        recorded.ran()
        fill(recorded.cache / "filling")
        shutil.rmtree(recorded.path("build"))
        assert recorded.doit("build").status == 0
        assert recorded.image == clean(recorded)
    finally:
        subprocess.run(["umount", recorded.cache], check=True)


def test_a_store_that_can_only_be_read_is_read(recorded: Recorded) -> None:
    first = recorded.made()
    shutil.rmtree(recorded.path("build"))
    if not mount("--bind", recorded.cache, recorded.cache):
        return  # root writes to what has no permission
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", recorded.cache], check=True)
        recorded.doit("build").succeeded()
        assert recorded.ran() == NOTHING
        assert recorded.made() == first
        append("src/main.go", "// indeed\n")(recorded)
        done = recorded.doit("build")
        assert done.status == 0
        assert recorded.ran() == GO
        assert done.err.startswith("warning: nothing is kept in the local cache")
    finally:
        subprocess.run(["umount", recorded.cache], check=True)


def test_a_store_keeps_to_its_limit(recorded: Recorded, clean: Clean) -> None:
    append("pyproject.toml", '\n[tool.buildsys.cache]\nlimit = "40 MB"\n')(recorded)
    for number in range(4):
        edit("src/main.go", "Testing write barrier", f"{number} Testing write barrier")(recorded)
        recorded.doit("build").succeeded()
        assert sum(path.stat().st_size for path in recorded.cache.rglob("*") if path.is_file()) < 48e6
    assert recorded.image == clean(recorded)


# At once.


def ended(process: subprocess.Popen[str]) -> None:
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err or out
    assert err in ("", WAITING)


@pytest.mark.parametrize("count", [2, 4])
def test_builds_at_once_in_one_folder_do_the_work_once(count: int, recorded: Recorded, clean: Clean) -> None:
    RUN(recorded)
    BOOT(recorded)
    for process in [recorded.start("build") for _ in range(count)]:
        ended(process)
    log = recorded.calls()
    assert log.count("go build") == 1
    assert log.count("zig clang") == 1
    assert recorded.image == clean(recorded)
    assert recorded.doit("build").succeeded().steps == ()


@pytest.mark.parametrize("count", [2, 4])
def test_builds_at_once_in_several_folders_share_a_store(
    count: int, recorded: Recorded, again: Again, clean: Clean
) -> None:
    """Half of them build the one state, half the other, from nothing."""
    shutil.rmtree(recorded.cache)
    checkouts = [replace(again(), temporary=recorded.temporary) for _ in range(count)]
    for checkout in checkouts[::2]:
        RUN(checkout)
    for process in [checkout.start("build") for checkout in checkouts]:
        ended(process)
    images = [clean(checkouts[0]), clean(checkouts[1])]
    assert images[0] != images[1]
    recorded.ran()
    for checkout, image in zip(checkouts, images * count, strict=False):
        assert checkout.image == image
        shutil.rmtree(checkout.path("build"))
        checkout.doit("build").succeeded()
        assert checkout.image == image
    # What Go says of the sources of one state may be lost where that of another is kept at the same moment.
    assert set(recorded.calls()) <= {"go list"}


# Edits while a build is on its way.


@pytest.mark.parametrize("moment", ["go build", "zig ld.lld"])
def test_an_edit_in_another_terminal_is_in_this_build_or_in_the_next(
    moment: str, recorded: Recorded, clean: Clean
) -> None:
    append("src/main.go", "func init() { heapLength = 3 }\n")(recorded)
    process = recorded.start("build")
    wait_for(lambda: recorded.runs(moment), moment)
    RUN(recorded)
    BOOT(recorded)
    ended(process)
    recorded.doit("build").succeeded()
    assert recorded.image == clean(recorded)
    assert recorded.doit("build").succeeded().steps == ()


@pytest.fixture
def slow(recorded: Recorded, tmp_path: Path) -> Callable[..., None]:
    """Lets Go do something before it compiles (or does what `word` says), and something after, the next time."""
    tree = recording(tmp_path / "slow") / "go"
    setting(f'go = "{tree}"')(recorded)

    def let(before: str, after: str, word: str = "build") -> None:
        command, flag = tree / "bin" / "go", tmp_path / "once"
        flag.touch()
        *shebang, last = command.read_text().splitlines()
        once = f'if [ "$1" = {word} ] && rm "{flag}" 2>/dev/null; then\n{before}\n'
        once += f"{last.removeprefix('exec ')}\nstatus=$?\n{after}\nexit $status\nfi"
        command.write_text("\n".join((*shebang, once, last, "")))

    return let


def test_an_input_edited_while_go_runs_is_not_recorded_as_built(
    recorded: Recorded, slow: Callable[..., None], clean: Clean
) -> None:
    source = recorded.path("src/main.go")
    slow(":", f"sed -i 's/Testing write barrier/Indeed testing write barrier/' '{source}'")
    recorded.doit("build").succeeded()
    assert recorded.calls().count("go build") == 2
    assert "Indeed testing" in source.read_text()
    assert recorded.image == clean(recorded)


def test_an_input_edited_and_edited_back_while_go_runs_is_not_recorded_as_built(
    recorded: Recorded, slow: Callable[..., None], clean: Clean, tmp_path: Path
) -> None:
    """Go reads what was there for a moment only."""
    source, kept = recorded.path("src/main.go"), tmp_path / "kept.go"
    shutil.copy(source, kept)
    slow(f"sed -i 's/Testing write barrier/Indeed testing write barrier/' '{source}'", f"cp '{kept}' '{source}'")
    recorded.doit("build").succeeded()
    assert source.read_text() == kept.read_text()
    assert b"Indeed testing" not in recorded.image
    assert recorded.image == clean(recorded)
    shutil.rmtree(recorded.path("build"))
    recorded.doit("build").succeeded()
    assert recorded.image == clean(recorded)


def test_an_input_added_while_go_runs_is_watched_from_then_on(
    recorded: Recorded, slow: Callable[..., None], clean: Clean
) -> None:
    extra = recorded.path("src/extra")
    extra.mkdir()
    (extra / "extra.go").write_text("package extra\n\nvar Number = 1\n\nfunc init() { Number = 2 }\n")
    slow(f"sed -i 's,^import (,import (\\n\\t_ \"kernel/extra\",' '{recorded.path('src/main.go')}'", ":")
    recorded.doit("build").succeeded()
    assert '_ "kernel/extra"' in recorded.path("src/main.go").read_text()
    first = recorded.image
    edit("src/extra/extra.go", "Number = 2", "Number = 3")(recorded)
    recorded.doit("build").succeeded()
    assert recorded.image == clean(recorded) != first


def test_an_import_added_while_go_lists_what_it_reads_is_watched_from_then_on(
    recorded: Recorded, slow: Callable[..., None], clean: Clean
) -> None:
    """What Go says was asked of the sources before, and must not be remembered of those after."""
    extra = recorded.path("src/extra")
    extra.mkdir()
    (extra / "extra.go").write_text("package extra\n\nvar Number = 1\n\nfunc init() { Number = 2 }\n")
    slow(":", f"sed -i 's,^import (,import (\\n\\t_ \"kernel/extra\",' '{recorded.path('src/main.go')}'", "list")
    recorded.doit("build").succeeded()
    assert '_ "kernel/extra"' in recorded.path("src/main.go").read_text()
    first = recorded.image
    edit("src/extra/extra.go", "Number = 2", "Number = 3")(recorded)
    recorded.doit("build").succeeded()
    assert recorded.image == clean(recorded) != first


def test_a_damaged_compiled_template_makes_no_wrong_image(recorded: Recorded, clean: Clean) -> None:
    """Blanks in place of an instruction: whatever else is checked, nobody would tell."""
    harmed = 0
    for path in recorded.path("build/.templates").iterdir():
        contents = path.read_bytes()
        path.write_bytes(contents.replace(b"msr     ", b"//      "))
        harmed += path.read_bytes() != contents
    assert harmed
    setting('entry = "main.main"')(recorded)
    recorded.doit("build").succeeded()
    assert recorded.ran() == ASSEMBLER | LINKER
    assert recorded.image == clean(recorded)
