"""What may happen to a checkout between two builds: its sources change, what was built is harmed, a build is killed."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from tests.front.conftest import wait_for
from tests.front.dying import Place, at_once, killed, orphans, without_power
from tests.front.inprocess import build, clean_build

SOURCES = ("src", "templates", "linker", "board.toml", "pyproject.toml")
WRITES = 160  # of a build that has everything to do; a few less or more
FUTURE, PAST = 4_000_000_000, 100_000_000  # seconds after 1970

# A change is made and, the next time, undone: (file, what is there, what else could be).
CHANGES = (
    ("src/main.go", "Testing write barrier...", "Testing write barriers.."),
    ("src/main.go", "import (\n", "import (\n\t_ \"kernel/memory\"\n"),
    ("src/list.go", "// A node is", "// A node indeed is"),
    ("src/uart/uart.go", "0123456789abcdef", "0123456789ABCDEF"),
    ("src/flag_arm64.s", "\n\tRET", "\n\tNOOP\n\tRET"),
    ("src/extra.go", "", "package main\n\nfunc init() { heapLength = 1 }\n"),
    ("src/extra_plan9.go", "", "package main\n\nfunc init() { heapLength = 1 }\n"),
    ("templates/boot.s.j2", "_start:\n", "_start:\n    nop\n"),
    ("templates/boot.s.j2", "\n", "\n{# nothing #}"),
    ("templates/none.s.j2", "", "// nothing\n"),
    ("linker/kernel.ld.j2", "__bss_end = .;", ". += 64; __bss_end = .;"),
    ("board.toml", "stack = 0x20000", "stack = 0x40000"),
    ("pyproject.toml", 'toolchain = "zig"', 'toolchain = "gnu"'),
    ("pyproject.toml", 'entry = "main.KernelMain"', 'entry = "main.main"'),
    ("pyproject.toml", "[tool.buildsys]\n", '[tool.buildsys]\ngcflags = "-B"\n'),
)  # fmt: skip


class Images:
    """The images of clean builds so far, by the state of the sources."""

    def __init__(self) -> None:
        self._known: dict[str, bytes] = {}

    def of(self, sources: Mapping[str, bytes], build: Callable[[], bytes]) -> bytes:
        """The image of those sources, which `build` makes if it is not known."""
        state = sha256(repr(sorted(sources.items())).encode()).hexdigest()
        if state not in self._known:
            self._known[state] = build()
        return self._known[state]


@dataclass
class Story:
    """A checkout in `folder`, its store beside it, and what was done so far.

    `images` are shared by all stories. `start` is told when the machine was started again.
    """

    folder: Path
    images: Images
    start: Callable[[object], None]
    branches: dict[int, Mapping[str, bytes]] = field(default_factory=dict)
    done: list[str] = field(default_factory=list)

    @property
    def root(self) -> Path:
        return self.folder / "project"

    @property
    def store(self) -> Path:
        return self.folder / "cache"

    @property
    def place(self) -> Place:
        return Place(self.root, self.store, self.folder, self.folder / "aside.json")

    def sources(self) -> dict[str, bytes]:
        """Every source by its name, with what is in it."""
        tops = [self.root / name for name in SOURCES]
        files = [path for top in tops for path in (sorted(top.rglob("*")) if top.is_dir() else [top])]
        return {str(path.relative_to(self.root)): path.read_bytes() for path in files if path.is_file()}

    def check(self) -> None:
        """Build; the image is that of a clean build, and there is nothing left to do."""
        build(self.root, self.store)
        clean = self.images.of(self.sources(), lambda: clean_build(self.root, self.folder / "clean build"))
        same = (self.root / "build/kernel.elf").read_bytes() == clean
        assert same, self.done
        assert set(build(self.root, self.store).values()) == {"up to date"}, self.done


Step = Callable[[Story, random.Random], None]


def change(story: Story, chance: random.Random) -> None:
    """One source changes, or changes back; its time may be what it was, or far away."""
    name, one, other = chance.choice(CHANGES)
    path = story.root / name
    was = path.stat().st_mtime_ns if path.exists() else 0
    if one:
        text = path.read_text()
        assert one in text or other in text
        path.write_text(text.replace(other, one, 1) if other in text else text.replace(one, other, 1))
    elif path.exists():
        path.unlink()
        return
    else:
        path.write_text(other)
    then = chance.choice((None, None, was, PAST * 10**9, FUTURE * 10**9))
    if then:
        os.utime(path, ns=(then, then))


def branch(story: Story, chance: random.Random) -> None:
    """Another branch is checked out: what differs is written, as by git; where there is none yet, it begins here."""
    number = chance.randrange(3)
    now = story.sources()
    wanted = story.branches.setdefault(number, now)
    for name in now.keys() - wanted.keys():
        (story.root / name).unlink()
    for name, contents in wanted.items():
        if now.get(name) != contents:
            (story.root / name).write_bytes(contents)


def touch(story: Story, chance: random.Random) -> None:
    """Every source has another time, or may be executed."""
    for name in story.sources():
        if chance.random() < 0.5:
            (story.root / name).touch()
        else:
            (story.root / name).chmod(0o755)


def harm(story: Story, chance: random.Random) -> None:
    """A file that was built is harmed, and has its time again."""
    built = [path for path in sorted((story.root / "build").iterdir()) if path.is_file()]
    _harm(chance.choice(built), chance)


def harm_records(story: Story, chance: random.Random) -> None:
    """A record is harmed so that it is none, or all are gone."""
    records = sorted((story.root / "build/.done").glob("*.json"))
    if chance.random() < 0.3:
        shutil.rmtree(story.root / "build/.done")
    elif records:
        path = chance.choice(records)
        os.truncate(path, path.stat().st_size // 2)


def harm_store(story: Story, chance: random.Random) -> None:
    """Some of what is stored is harmed."""
    files = [path for path in sorted(story.store.rglob("*")) if path.is_file()]
    for path in chance.sample(files, min(len(files), chance.choice((1, 5, 50)))):
        if path.parent.parent.name == "ac":  # its bytes are no hash of its contents: it can only be seen to be none
            os.truncate(path, path.stat().st_size // 2)
        else:
            _harm(path, chance)


def clear_store(story: Story, chance: random.Random) -> None:
    """The store is deleted, or one kind of what is in it."""
    shutil.rmtree(story.store / chance.choice(("", "ac", "cas", "tmp")), ignore_errors=True)


def clear_build(story: Story, chance: random.Random) -> None:
    """The build folder is deleted."""
    shutil.rmtree(story.root / "build")


def kill(story: Story, chance: random.Random) -> None:
    """A source changes, and the build of that is killed."""
    change(story, chance)
    killed(story.place, chance.randint(1, WRITES))
    if chance.random() < 0.5:  # else what it started goes on beside what comes next
        wait_for(lambda: not orphans(story.place), "the end of what was orphaned")


def lose_power(story: Story, chance: random.Random) -> None:
    """A source changes, and the build of that loses its power."""
    change(story, chance)
    without_power(story.place, chance.randint(1, WRITES), chance.getrandbits(32))
    story.start(chance.random())


def several(story: Story, chance: random.Random) -> None:
    """A source changes, and several builds of that begin at once."""
    change(story, chance)
    at_once(story.place, chance.randint(2, 3))


def _harm(path: Path, chance: random.Random) -> None:
    status = path.stat()
    contents = bytearray(path.read_bytes())
    how = chance.choice(("bit", "end", "gone"))
    if how == "gone" or not contents:
        path.unlink()
        return
    if how == "bit":
        contents[chance.randrange(len(contents))] ^= 1 << chance.randrange(8)
    else:
        del contents[chance.randrange(len(contents)) :]
    path.write_bytes(contents)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


STEPS: tuple[Step, ...] = (
    change, change, change, branch, branch, touch, harm, harm, harm_records, harm_store, clear_store, clear_build,
    kill, kill, lose_power, several,
)  # fmt: skip
