"""What is redone when something changed: two tables of stories.

Each ends with the image that a clean build makes of the same state, bit for bit.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.front.conftest import Checkout

ALL = ("compile", "runtime", "link", "patch")
LINK = ("link", "patch")
CHECK = ("compile",)  # Go looks at it, and makes the same as before


@dataclass(frozen=True)
class Story:
    """`change` is done to a built checkout; then the steps `redone`, no more and no fewer, make it whole again."""

    name: str
    change: Callable[[Checkout], object]
    redone: tuple[str, ...]


def edit(name: str, old: str, new: str) -> Callable[[Checkout], object]:
    return lambda checkout: checkout.replace(name, old, new)


def append(name: str, text: str) -> Callable[[Checkout], object]:
    return lambda checkout: checkout.append(name, text)


def setting(line: str) -> Callable[[Checkout], object]:
    return lambda checkout: checkout.set(line)


def write(name: str, text: str) -> Callable[[Checkout], object]:
    return lambda checkout: checkout.path(name).write_text(text)


def delete(name: str) -> Callable[[Checkout], object]:
    return lambda checkout: checkout.path(name).unlink()


def touch(name: str) -> Callable[[Checkout], object]:
    return lambda checkout: checkout.path(name).touch()


def corrupt(name: str) -> Callable[[Checkout], object]:
    """Change one byte in the middle, and give the file its time of modification back."""

    def change(checkout: Checkout) -> None:
        path = checkout.path(name)
        status = path.stat()
        contents = bytearray(path.read_bytes())
        contents[len(contents) // 2] ^= 1
        path.write_bytes(contents)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

    return change


def at_time(change: Callable[[Checkout], object], name: str, seconds: float | None) -> Callable[[Checkout], object]:
    """Do `change`, then set the file's time: to what it was (None), or to so many seconds after 1970."""

    def changed(checkout: Checkout) -> None:
        before = checkout.path(name).stat().st_mtime_ns
        change(checkout)
        then = before if seconds is None else int(seconds * 1e9)
        os.utime(checkout.path(name), ns=(then, then))

    return changed


def replace_by_a_link(checkout: Checkout) -> None:
    """The same file, from elsewhere."""
    path = checkout.path("src/list.go")
    other = path.rename(checkout.path("list.go"))
    path.symlink_to(other)


def checked_out_again(checkout: Checkout) -> None:
    """Every file written anew with the same contents, as by a version control system that went there and back."""
    for name in ("src", "templates", "linker"):
        folder = checkout.path(name)
        shutil.copytree(folder, checkout.path("again"))
        shutil.rmtree(folder)
        checkout.path("again").rename(folder)


# What a user changes.
CHANGES = (
    Story("nothing", lambda checkout: None, ()),
    Story("a source is touched", touch("src/main.go"), ()),
    Story("a template is touched", touch("templates/boot.s.j2"), ()),
    Story("every source is written anew", checked_out_again, ()),
    Story("a comment in Go", edit("src/list.go", "// ", "// indeed, "), CHECK),
    Story("a comment at the end of a Go file", append("src/list.go", "// the end\n"), CHECK),
    Story(
        "Go code that nothing calls",
        append("src/list.go", "func extra() int { return heapCount }\n\nvar heapCount int\n"),
        CHECK,
    ),
    Story("Go code that is run", edit("src/main.go", "Testing write barrier...", "Testing write barriers.."), ALL),
    Story("a package of the kernel", edit("src/uart/uart.go", "0123456789abcdef", "0123456789ABCDEF"), ALL),
    Story("Go assembly", edit("src/flag_arm64.s", "\n\tRET", "\n\tNOOP\n\tRET"), ALL),
    Story("the Go module file", append("src/go.mod", "// a comment\n"), CHECK),
    Story("a new Go file", write("src/extra.go", "package main\n\nfunc init() { heapLength = 1 }\n"), ALL),
    Story("a new Go file without code", write("src/extra.go", "package main\n"), CHECK),
    Story("a new Go file for another system", write("src/extra_plan9.go", "package main\n\nfunc init() {}\n"), CHECK),
    Story("a Go test", write("src/extra_test.go", "package main\n"), CHECK),
    Story("a file beside them that Go does not read", write("src/NOTES.md", "to do\n"), CHECK),
    Story("boot code", edit("templates/boot.s.j2", "_start:\n", "_start:\n    nop\n"), LINK),
    Story("a comment in boot code", append("templates/boot.s.j2", "// the end\n"), ("link",)),
    Story("the linker script", edit("linker/kernel.ld.j2", "__bss_end = .;", ". += 64; __bss_end = .;"), LINK),
    Story("a new template nobody includes", write("templates/extra.s.j2", "// nothing\n"), ("link",)),
    Story("the board: a larger stack", edit("board.toml", "stack = 0x20000", "stack = 0x40000"), LINK),
    Story("the board: where code begins", edit("board.toml", "text = 0x00200000", "text = 0x00400000"), LINK),
    Story("the board: its description", edit("board.toml", "QEMU virt", "The same"), ("link",)),
    Story("the entry", setting('entry = "main.main"'), LINK),
    Story("the toolchain", setting('toolchain = "gnu"'), LINK),
    Story("flags for the Go compiler", setting('gcflags = "-B"'), ALL),
    Story("a tag", setting('tags = ["extra"]'), ALL),  # Go writes the tags into the image
    Story("the time limit", setting("time-limit = 7"), ()),
    Story(
        "other contents at the same time",
        at_time(edit("src/main.go", "Testing write barrier...", "Testing write barriers.."), "src/main.go", None),
        ALL,
    ),
    Story(
        "an edit by a clock that was set back",
        at_time(edit("src/main.go", "Testing write barrier...", "Testing write barriers.."), "src/main.go", 1e8),
        ALL,
    ),
    Story(
        "an edit by a clock that is ahead",
        at_time(edit("src/main.go", "Testing write barrier...", "Testing write barriers.."), "src/main.go", 4e9),
        ALL,
    ),
    Story("a source becomes a link to the same", replace_by_a_link, ()),
)

# What happens to what was made.
DAMAGES = (
    Story("an artifact is touched", touch("build/kernel.elf"), ()),
    *(
        Story(f"{name} is {word}", how(f"build/{name}"), redone)
        for word, how in (("deleted", delete), ("corrupt", corrupt))
        for name, redone in (
            ("kernel.a", ("link",)),
            ("go.o", CHECK),
            ("runtime.json", ("runtime",)),
            ("boot.s", ("link",)),
            ("boot.o", ("link",)),
            ("kernel.ld", ("link",)),
            ("binding.json", ("link",)),
            ("kernel.unpatched.elf", ("link",)),
            ("kernel.elf", ("patch",)),
            ("patch.json", ("patch",)),
        )
    ),
    Story("all artifacts are deleted", lambda checkout: shutil.rmtree(checkout.path("build")), ALL),
    Story("the records are deleted", lambda checkout: shutil.rmtree(checkout.path("build/.done")), ALL),
    Story("a record is corrupt", write("build/.done/link.json", "{"), ("link",)),
)


@pytest.mark.parametrize("story", CHANGES, ids=lambda story: story.name)
def test_only_what_depends_on_a_change_is_redone(
    story: Story, own: Checkout, from_nothing: Callable[[Checkout], bytes]
) -> None:
    before = own.image
    story.change(own)
    assert own.doit("build").succeeded().steps == story.redone
    assert own.image == (from_nothing(own) if story.redone else before)
    assert own.doit("build").succeeded().steps == ()


@pytest.mark.parametrize("story", DAMAGES, ids=lambda story: story.name)
def test_damage_is_noticed_and_no_more_than_that_is_mended(story: Story, own: Checkout) -> None:
    before = own.artifacts()
    story.change(own)
    assert own.doit("build").succeeded().steps == story.redone
    assert own.artifacts() == before


def there_and_back(
    checkout: Checkout, change: Callable[[Checkout], object], back: Callable[[Checkout], object]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The steps redone by a change and by its undoing, after which the image is the first again."""
    first = checkout.image
    change(checkout)
    there = checkout.doit("build").succeeded().steps
    assert checkout.image != first
    back(checkout)
    again = checkout.doit("build").succeeded().steps
    assert checkout.image == first
    return there, again


def test_another_toolchain_and_back(own: Checkout) -> None:
    assert there_and_back(own, setting('toolchain = "gnu"'), setting('toolchain = "zig"')) == (LINK, LINK)


def test_another_entry_and_back(own: Checkout) -> None:
    assert there_and_back(own, setting('entry = "main.main"'), setting('entry = "main.KernelMain"')) == (LINK, LINK)


def test_a_go_file_added_and_removed(own: Checkout) -> None:
    source = "package main\n\nfunc init() { heapLength = 1 }\n"
    assert there_and_back(own, write("src/extra.go", source), delete("src/extra.go")) == (ALL, ALL)


def test_a_mistake_and_its_mending_leave_the_first_image(own: Checkout) -> None:
    first, source = own.artifacts(), own.path("src/main.go").read_text()
    own.append("src/main.go", "func (")
    own.doit("build").refused("syntax error")
    assert own.artifacts() == first
    own.path("src/main.go").write_text(source)
    assert own.doit("build").succeeded().steps == CHECK
    assert own.artifacts() == first


@pytest.mark.parametrize(
    ("change", "steps"),
    [
        (edit("templates/boot.s.j2", "_start:\n", "_start:\n    nop\n"), LINK),
        (edit("linker/kernel.ld.j2", "__bss_end = .;", ". += 64; __bss_end = .;"), LINK),
        (edit("board.toml", "stack = 0x20000", "stack = 0x40000"), LINK),
        (delete("build/kernel.elf"), ("patch",)),
    ],
    ids=["template", "linker script", "board", "image"],
)
def test_go_is_not_run_for_what_is_no_go(
    change: Callable[[Checkout], object], steps: tuple[str, ...], own: Checkout
) -> None:
    change(own)
    # Without its cache go compiles nothing.
    assert own.doit("build", GOCACHE="off").succeeded().steps == steps
    own.append("src/main.go", "// so Go is asked\n")
    own.doit("build", GOCACHE="off").refused("GOCACHE")


def test_a_tool_that_changes_is_used_anew(own: Checkout, tmp_path: Path) -> None:
    """GNU's assembler and linker behind scripts of ours; editing a script is a new version of the tool."""
    for name in ("as", "ld"):
        script = tmp_path / f"aarch64-linux-gnu-{name}"
        script.write_text(f'#!/bin/sh\nexec {shutil.which(script.name)} "$@"\n')
        script.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    own.set('toolchain = "gnu"')
    assert own.doit("build", PATH=path).succeeded().steps == LINK
    assert own.doit("build", PATH=path).succeeded().steps == ()
    (tmp_path / "aarch64-linux-gnu-ld").open("a").write("# another version\n")
    assert own.doit("build", PATH=path).succeeded().steps == ("link",)


def test_a_project_that_moved_is_up_to_date(own: Checkout, tmp_path: Path) -> None:
    first = own.image
    own.folder.rename(tmp_path / "elsewhere")
    moved = Checkout(tmp_path / "elsewhere", own.temporary)
    assert moved.doit("build").succeeded().steps == ()
    assert moved.image == first


def test_two_builds_at_once_both_succeed(fresh: Checkout, from_nothing: Callable[[Checkout], bytes]) -> None:
    both = [fresh.start("build") for _ in range(2)]
    for process in both:
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, out
        assert err in ("", "another build is at work in build: waiting for it\n")
    assert fresh.doit("build").succeeded().steps == ()
    assert fresh.image == from_nothing(fresh)
