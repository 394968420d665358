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
def test_an_overwritten_target_is_told_and_restored_without_a_tool(own: Recorded, name: str) -> None:
    first = own.made()
    own.doit("build").succeeded()
    corrupt(f"build/{name}")(own)
    done = own.doit("build").succeeded()
    assert f"build/{name} is not what was made" in done.out
    assert own.ran() == NOTHING
    assert own.made() == first


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
def test_stored_contents_that_are_damaged_are_told_and_made_again(own: Recorded, damage: str) -> None:
    first = own.made()
    for path in stored(own, "cas"):
        DAMAGE[damage](path)
    shutil.rmtree(own.path("build"))
    done = own.doit("build")
    assert done.status == 0
    assert own.ran() == EVERY
    assert own.made() == first
    told = done.err.splitlines()
    assert len(told) >= 4
    assert all(line.startswith("warning: ") and "is not what was stored, and was dropped" in line for line in told)
    shutil.rmtree(own.path("build"))
    own.doit("build").succeeded()
    assert own.ran() == NOTHING
    assert own.made() == first


@pytest.mark.parametrize("damage", ["truncated", "emptied", "zeroes"])
def test_stored_results_that_are_damaged_are_told_and_made_again(own: Recorded, damage: str) -> None:
    first = own.made()
    for path in stored(own, "ac"):
        DAMAGE[damage](path)
    shutil.rmtree(own.path("build"))
    done = own.doit("build")
    assert done.status == 0
    assert own.ran() == EVERY
    assert "is not what was stored, and was dropped" in done.err
    assert "Traceback" not in done.err
    assert own.made() == first
    shutil.rmtree(own.path("build"))
    own.doit("build").succeeded()
    assert own.ran() == NOTHING


def test_a_store_that_is_deleted_is_filled_again(own: Recorded) -> None:
    first = own.made()
    shutil.rmtree(own.cache)
    own.doit("build").succeeded()
    assert own.ran() == NOTHING  # it is up to date
    shutil.rmtree(own.path("build"))
    own.doit("build").succeeded()
    assert own.ran() == EVERY
    shutil.rmtree(own.path("build"))
    own.doit("build").succeeded()
    assert own.ran() == NOTHING
    assert own.made() == first


def test_a_store_may_be_deleted_while_it_is_in_use(own: Recorded, clean: Clean) -> None:
    RUN(own)
    process = own.start("build")
    while process.poll() is None:
        shutil.rmtree(own.cache, ignore_errors=True)
    _, err = process.communicate()
    assert process.returncode == 0, err
    assert all(line.startswith("warning: ") for line in err.splitlines())
    assert own.image == clean(own)
    own.ran()
    shutil.rmtree(own.path("build"))
    own.doit("build").succeeded()
    assert own.image == clean(own)


@pytest.mark.parametrize("place", ["a file", "in a file", "of the system", "a folder of files"])
def test_a_store_that_cannot_be_is_told_once_and_builds_go_on(own: Recorded, place: str, tmp_path: Path) -> None:
    first = own.made()
    file = tmp_path / "file"
    file.write_text("mine\n")
    for name in ("ac", "cas", "tmp"):
        write(f"../odd/{name}", "mine\n")(replace(own, folder=made_folder(tmp_path / "odd")))
    where = {
        "a file": file,
        "in a file": file / "cache",
        "of the system": "/proc/self",
        "a folder of files": tmp_path / "odd",
    }
    shutil.rmtree(own.path("build"))
    for expected in (EVERY, NOTHING):
        done = own.doit("build", BUILDSYS_CACHE=str(where[place]))
        assert done.status == 0, done.err
        assert own.ran() == expected
        assert own.made() == first
        if expected:
            assert len(done.err.splitlines()) == 1
            assert done.err.startswith("warning: nothing is kept in the local cache: ")
        else:
            assert done.err == ""
    assert file.read_text() == "mine\n"


def made_folder(path: Path) -> Path:
    path.mkdir(exist_ok=True)
    return path


def test_a_store_on_a_full_disk_is_told_once_and_harms_nothing(own: Recorded, clean: Clean) -> None:
    shutil.rmtree(own.cache)
    own.cache.mkdir()
    if not mount("-t", "tmpfs", "-o", "size=6m", "none", own.cache):
        return  # where one may not mount, the test above is as near as one comes
    try:
        RUN(own)
        done = own.doit("build")
        assert done.status == 0, done.err
        assert len(done.err.splitlines()) == 1
        assert "nothing is kept in the local cache" in done.err
        assert "No space left on device" in done.err
        assert own.image == clean(own)
        assert not list((own.cache / "tmp").iterdir())
        own.ran()
        fill(own.cache / "filling")
        shutil.rmtree(own.path("build"))
        assert own.doit("build").status == 0
        assert own.image == clean(own)
    finally:
        subprocess.run(["umount", own.cache], check=True)


def test_a_store_that_can_only_be_read_is_read(own: Recorded) -> None:
    first = own.made()
    shutil.rmtree(own.path("build"))
    if not mount("--bind", own.cache, own.cache):
        return  # root writes to what has no permission
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", own.cache], check=True)
        own.doit("build").succeeded()
        assert own.ran() == NOTHING
        assert own.made() == first
        append("src/main.go", "// indeed\n")(own)
        done = own.doit("build")
        assert done.status == 0
        assert own.ran() == GO
        assert done.err.startswith("warning: nothing is kept in the local cache")
    finally:
        subprocess.run(["umount", own.cache], check=True)


def test_a_store_keeps_to_its_limit(own: Recorded, clean: Clean) -> None:
    append("pyproject.toml", '\n[tool.buildsys.cache]\nlimit = "40 MB"\n')(own)
    for number in range(4):
        edit("src/main.go", "Testing write barrier", f"{number} Testing write barrier")(own)
        own.doit("build").succeeded()
        assert sum(path.stat().st_size for path in own.cache.rglob("*") if path.is_file()) < 48e6
    assert own.image == clean(own)


# At once.


def ended(process: subprocess.Popen[str]) -> None:
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err or out
    assert err in ("", WAITING)


@pytest.mark.parametrize("count", [2, 4])
def test_builds_at_once_in_one_folder_do_the_work_once(count: int, own: Recorded, clean: Clean) -> None:
    RUN(own)
    BOOT(own)
    for process in [own.start("build") for _ in range(count)]:
        ended(process)
    log = own.calls()
    assert log.count("go build") == 1
    assert log.count("zig clang") == 1
    assert own.image == clean(own)
    assert own.doit("build").succeeded().steps == ()


@pytest.mark.parametrize("count", [2, 4])
def test_builds_at_once_in_several_folders_share_a_store(count: int, own: Recorded, again: Again, clean: Clean) -> None:
    """Half of them build the one state, half the other, from nothing."""
    shutil.rmtree(own.cache)
    checkouts = [replace(again(), temporary=own.temporary) for _ in range(count)]
    for checkout in checkouts[::2]:
        RUN(checkout)
    for process in [checkout.start("build") for checkout in checkouts]:
        ended(process)
    images = [clean(checkouts[0]), clean(checkouts[1])]
    assert images[0] != images[1]
    own.ran()
    for checkout, image in zip(checkouts, images * count, strict=False):
        assert checkout.image == image
        shutil.rmtree(checkout.path("build"))
        checkout.doit("build").succeeded()
        assert checkout.image == image
    # What Go says of the sources of one state may be lost where that of another is kept at the same moment.
    assert set(own.calls()) <= {"go list"}


# Edits while a build is on its way.


@pytest.mark.parametrize("moment", ["go build", "zig ld.lld"])
def test_an_edit_in_another_terminal_is_in_this_build_or_in_the_next(moment: str, own: Recorded, clean: Clean) -> None:
    append("src/main.go", "func init() { heapLength = 3 }\n")(own)
    process = own.start("build")
    wait_for(lambda: own.runs(moment), moment)
    RUN(own)
    BOOT(own)
    ended(process)
    own.doit("build").succeeded()
    assert own.image == clean(own)
    assert own.doit("build").succeeded().steps == ()


@pytest.fixture
def slow(own: Recorded, tmp_path: Path) -> Callable[..., None]:
    """Lets Go do something before it compiles (or does what `word` says), and something after, the next time."""
    tree = recording(tmp_path / "slow") / "go"
    setting(f'go = "{tree}"')(own)

    def let(before: str, after: str, word: str = "build") -> None:
        command, flag = tree / "bin" / "go", tmp_path / "once"
        flag.touch()
        *shebang, last = command.read_text().splitlines()
        once = f'if [ "$1" = {word} ] && rm "{flag}" 2>/dev/null; then\n{before}\n'
        once += f"{last.removeprefix('exec ')}\nstatus=$?\n{after}\nexit $status\nfi"
        command.write_text("\n".join((*shebang, once, last, "")))

    return let


def test_an_input_edited_while_go_runs_is_not_recorded_as_built(
    own: Recorded, slow: Callable[..., None], clean: Clean
) -> None:
    source = own.path("src/main.go")
    slow(":", f"sed -i 's/Testing write barrier/Indeed testing write barrier/' '{source}'")
    own.doit("build").succeeded()
    assert own.calls().count("go build") == 2
    assert "Indeed testing" in source.read_text()
    assert own.image == clean(own)


def test_an_input_edited_and_edited_back_while_go_runs_is_not_recorded_as_built(
    own: Recorded, slow: Callable[..., None], clean: Clean, tmp_path: Path
) -> None:
    """Go reads what was there for a moment only."""
    source, kept = own.path("src/main.go"), tmp_path / "kept.go"
    shutil.copy(source, kept)
    slow(f"sed -i 's/Testing write barrier/Indeed testing write barrier/' '{source}'", f"cp '{kept}' '{source}'")
    own.doit("build").succeeded()
    assert source.read_text() == kept.read_text()
    assert b"Indeed testing" not in own.image
    assert own.image == clean(own)
    shutil.rmtree(own.path("build"))
    own.doit("build").succeeded()
    assert own.image == clean(own)


def test_an_input_added_while_go_runs_is_watched_from_then_on(
    own: Recorded, slow: Callable[..., None], clean: Clean
) -> None:
    extra = own.path("src/extra")
    extra.mkdir()
    (extra / "extra.go").write_text("package extra\n\nvar Number = 1\n\nfunc init() { Number = 2 }\n")
    slow(f"sed -i 's,^import (,import (\\n\\t_ \"kernel/extra\",' '{own.path('src/main.go')}'", ":")
    own.doit("build").succeeded()
    assert '_ "kernel/extra"' in own.path("src/main.go").read_text()
    first = own.image
    edit("src/extra/extra.go", "Number = 2", "Number = 3")(own)
    own.doit("build").succeeded()
    assert own.image == clean(own) != first


def test_an_import_added_while_go_lists_what_it_reads_is_watched_from_then_on(
    own: Recorded, slow: Callable[..., None], clean: Clean
) -> None:
    """What Go says was asked of the sources before, and must not be remembered of those after."""
    extra = own.path("src/extra")
    extra.mkdir()
    (extra / "extra.go").write_text("package extra\n\nvar Number = 1\n\nfunc init() { Number = 2 }\n")
    slow(":", f"sed -i 's,^import (,import (\\n\\t_ \"kernel/extra\",' '{own.path('src/main.go')}'", "list")
    own.doit("build").succeeded()
    assert '_ "kernel/extra"' in own.path("src/main.go").read_text()
    first = own.image
    edit("src/extra/extra.go", "Number = 2", "Number = 3")(own)
    own.doit("build").succeeded()
    assert own.image == clean(own) != first


def test_a_damaged_compiled_template_makes_no_wrong_image(own: Recorded, clean: Clean) -> None:
    """Blanks in place of an instruction: whatever else is checked, nobody would tell."""
    harmed = 0
    for path in own.path("build/.templates").iterdir():
        contents = path.read_bytes()
        path.write_bytes(contents.replace(b"msr     ", b"//      "))
        harmed += path.read_bytes() != contents
    assert harmed
    setting('entry = "main.main"')(own)
    own.doit("build").succeeded()
    assert own.ran() == ASSEMBLER | LINKER
    assert own.image == clean(own)
