"""`doit why` names what changed, old and new; and `doit build` then does what was said, and nothing else."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from buildsys.cache.action import FORMAT
from buildsys.config.project import PACKAGE
from buildsys.front.why import ago
from buildsys.go import toolchain
from buildsys.toolchains import zig
from tests.front.conftest import DOIT, Checkout, in_terminal
from tests.front.test_incremental import append, at_time, corrupt, delete, edit, setting, touch, write

STEPS = ("compile", "runtime", "link", "patch")
ASSEMBLED = (
    "boot.s",
    "constants.s",
    "writebarrier.s",
    "fatal.s",
    "sets:print.s",
    "sets:alloc.s",
    "sets:wait.s",
    "sets:panic.s",
)
PARTS = ("render", *(f"assemble {name}" for name in ASSEMBLED), "join")
ALL, LINK, CHECK = STEPS, ("link", "patch"), ("compile",)
NOTHING = ("up to date",) * 4
FROM_COMPILE = ("to do", "depends", "depends", "depends")
# The identity that the last step writes tells of flags and tools as well: buildsys.formats.identity.
NAMED = ("to do", "depends", "depends", "to do")
FROM_LINK = ("up to date", "up to date", "to do", "depends")


def told(checkout: Checkout, *words: str, **environment: str) -> dict[str, str]:
    """What `doit why` prints, by step, line ends and indents left out; nothing is written to print it."""
    before = state(checkout)
    done = checkout.doit("why", *words, largest_file=None, **environment).succeeded()
    assert state(checkout) == before
    for line in done.out.splitlines():  # a path is not broken
        assert len(line) <= 80 or any(len(word) > 35 for word in line.split()), line
    found: dict[str, str] = {}
    for line in done.out.splitlines():
        name = re.match(r"(assemble \S+|\w+)  +", line)
        if name:
            found[step := name[1]] = line[name.end() :]
        else:
            assert line.startswith(" " * 10)
            found[step] += f" {line.strip()}"
    return found


def looked(checkout: Checkout, *words: str, **environment: str) -> dict[str, dict[str, Any]]:
    """What `doit why --json` prints, by step."""
    before = state(checkout)
    done = checkout.doit("why", "--json", *words, largest_file=None, **environment).succeeded()
    assert state(checkout) == before
    found = json.loads(done.out)
    assert found["format"] == 1
    return {step["name"]: step for step in found["steps"]}


def states(checkout: Checkout, *words: str, **environment: str) -> tuple[str, ...]:
    return tuple(step["state"] for step in looked(checkout, *words, **environment).values())


def state(checkout: Checkout) -> dict[str, tuple[int, ...]]:
    """Every file and folder of a checkout, with what a write to it would change."""
    found: dict[str, tuple[int, ...]] = {}
    for path in (*checkout.folder.rglob("*"), *checkout.cache.rglob("*")):
        if "__pycache__" not in path.parts:
            status = path.lstat()
            found[str(path)] = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    return found


def contents(checkout: Checkout, name: str) -> tuple[str, str]:
    """The first digits of the sha256 of a file and its size, as they are printed; of one that is not there, none."""
    path = checkout.path(name)
    if not name or not path.exists():
        return "", ""
    data = path.read_bytes()
    return hashlib.sha256(data).hexdigest()[:12], f"{len(data):,}"


@dataclass(frozen=True)
class Story:
    """`change` is done to a built checkout; `doit why` says `says` of the first of the steps, `doit build` redoes some.

    In `says`, {old} and {new} stand for the digests of `file`, {size} and {size_now} for its sizes.
    `states` are told for the four steps.
    """

    name: str
    change: Callable[[Checkout], object]
    says: str
    states: tuple[str, ...]
    redone: tuple[str, ...]
    file: str = ""


def another_go(checkout: Checkout) -> None:
    """A Go tree that is the wheel's but for what it says its release is."""
    wheel = toolchain.find("wheel", "the tests").root
    tree = checkout.path("go")
    tree.mkdir()
    for path in wheel.iterdir():
        (tree / path.name).symlink_to(path)
    (tree / "VERSION").unlink()
    (tree / "VERSION").write_text("go1.99.99\n")
    checkout.set('go = "go"')


def records(name: str, change: Callable[[dict[str, Any]], object]) -> Callable[[Checkout], None]:
    """Change what the record of a step says, as if it had been made by something else."""

    def changed(checkout: Checkout) -> None:
        path = checkout.path(f"build/.done/{name}.json")
        record = json.loads(path.read_bytes())
        change(record)
        path.write_text(json.dumps(record))

    return changed


def made_by(path: Path, digest: str) -> Callable[[dict[str, Any]], None]:
    """A record of a run for which the file at `path` had other contents, of 5 bytes."""

    def change(record: dict[str, Any]) -> None:
        assert str(path) in record["inputs"]
        record["inputs"][str(path)] = [[5, 1, 1, 1, 1, True], digest * 64]

    return change


def both(*changes: Callable[[Checkout], object]) -> Callable[[Checkout], object]:
    return lambda checkout: [change(checkout) for change in changes]


MAIN = edit("src/main.go", "Testing write barrier...", "Testing write barriers..")
CHANGES = (
    Story("nothing", lambda checkout: None, "up to date", NOTHING, ()),
    Story("a source is touched", touch("src/main.go"), "up to date", NOTHING, ()),
    Story("an artifact is touched", touch("build/kernel.elf"), "up to date", NOTHING, ()),
    Story("Go code", MAIN, "src/main.go changed: {old} → {new}, {size} bytes", FROM_COMPILE, ALL, "src/main.go"),
    Story(
        "a comment in Go, one byte more",
        edit("src/list.go", "// ", "//  "),
        "src/list.go changed: {old} → {new}, {size} → {size_now} bytes",
        FROM_COMPILE,
        CHECK,
        "src/list.go",
    ),
    Story(
        "other contents at the same time",
        at_time(MAIN, "src/main.go", None),
        "src/main.go changed: {old} → {new}",
        FROM_COMPILE,
        ALL,
        "src/main.go",
    ),
    Story(
        "an edit that was undone",
        both(MAIN, edit("src/main.go", "Testing write barriers..", "Testing write barrier...")),
        "up to date",
        NOTHING,
        (),
    ),
    Story(
        "a new Go file",
        write("src/extra.go", "package main\n\nfunc init() { heapLength = 1 }\n"),
        "to be done because src/extra.go is new",
        FROM_COMPILE,
        ALL,
    ),
    Story("a file Go does not read", write("src/NOTES", ""), "because src/NOTES is new", FROM_COMPILE, CHECK),
    Story(
        "a Go file under another name",
        lambda checkout: checkout.path("src/list.go").rename(checkout.path("src/lists.go")),
        "because src/lists.go is new src/list.go is missing: was {old}, {size} bytes",
        FROM_COMPILE,
        ALL,
        "src/list.go",
    ),
    Story("flags for the Go compiler", setting('gcflags = "-B"'), 'because gcflags changed: "" → -B', NAMED, ALL),
    Story("a tag", setting('tags = ["extra"]'), 'because tags changed: [] → ["extra"]', NAMED, ALL),
    Story(
        "another Go",
        another_go,
        "because Go release changed: {release} → 1.99.99 Go is another one: {wheel} → go",
        NAMED,
        ("compile", "patch"),
    ),
    Story(
        "boot code",
        edit("templates/boot.s.j2", "_start:\n", "_start:\n    nop\n"),
        "templates/boot.s.j2 changed: {old} → {new}, {size} → {size_now} bytes",
        FROM_LINK,
        LINK,
        "templates/boot.s.j2",
    ),
    Story(
        "a new template",
        write("templates/extra.s.j2", "// nothing\n"),
        "because templates/extra.s.j2 is new",
        FROM_LINK,
        ("link",),
    ),
    Story(
        "the board",
        edit("board.toml", "stack = 0x20000", "stack = 0x40000"),
        "board.toml changed: {old} → {new}",
        FROM_LINK,
        LINK,
        "board.toml",
    ),
    Story(
        "the entry",
        setting('entry = "main.main"'),
        "to be done because entry changed: main.KernelMain → main.main",
        ("up to date", "up to date", "to do", "to do"),
        LINK,
    ),
    Story(
        "the toolchain",
        setting('toolchain = "gnu"'),
        "because toolchain changed: zig → gnu tool {as} is a new input: ",
        ("up to date", "up to date", "to do", "to do"),
        LINK,
    ),
    Story(
        "another zig",
        records("link", made_by(zig.program(), "0")),
        "because tool {zig} changed: 000000000000 → ",
        FROM_LINK,
        ("link",),
    ),
    Story(
        "a module of ours",
        records("patch", made_by(PACKAGE / "stages" / "patch.py", "5")),
        "because buildsys itself changed: stages/patch.py: 555555555555 → ",
        ("up to date", "up to date", "up to date", "to do"),
        ("patch",),
    ),
    Story(
        "two modules of ours",
        both(
            records("patch", made_by(PACKAGE / "stages" / "patch.py", "5")),
            records("patch", made_by(PACKAGE / "formats" / "patch.py", "5")),
        ),
        "because buildsys itself changed: formats/patch.py, stages/patch.py",
        ("up to date", "up to date", "up to date", "to do"),
        ("patch",),
    ),
    Story(
        "another environment",
        records("compile", lambda record: record["parameters"]["environment"].update(GOARM64="v9.0")),
        "because environment.GOARM64 changed: v9.0 → v8.0",
        FROM_COMPILE,
        CHECK,
    ),
    Story(
        "an overwritten artifact",
        corrupt("build/kernel.elf"),
        "because build/kernel.elf is not what was made: {old} → {new}",
        ("up to date", "up to date", "up to date", "to do"),
        ("patch",),
        "build/kernel.elf",
    ),
    Story(
        "an overwritten artifact that others read",
        corrupt("build/go.o"),
        "because build/go.o is not what was made: {old} → {new}",
        FROM_COMPILE,
        CHECK,
        "build/go.o",
    ),
    Story(
        "a deleted artifact",
        delete("build/kernel.unpatched.elf"),
        "because build/kernel.unpatched.elf, which it makes, is missing",
        FROM_LINK,
        ("link",),
    ),
    Story(
        "two deleted artifacts",
        both(delete("build/boot.o"), delete("build/boot.s")),
        "because of what it makes there is missing: build/boot.o, build/boot.s",
        FROM_LINK,
        ("link",),
    ),
    Story(
        "a deleted record",
        delete("build/.done/runtime.json"),
        "because there is no record of it: never done, or not to its end",
        ("up to date", "to do", "depends", "depends"),
        ("runtime",),
    ),
    Story(
        "a corrupt record", write("build/.done/link.json", "{"), "because its record is damaged", FROM_LINK, ("link",)
    ),
    Story(
        "a record of another format",
        records("patch", lambda record: record.update(format=0)),
        "because its record has format 0, where {format} is written now",
        ("up to date", "up to date", "up to date", "to do"),
        ("patch",),
    ),
    Story(
        "Go code and a template",
        both(MAIN, append("templates/boot.s.j2", "// the end\n")),
        "src/main.go changed",
        ("to do", "depends", "to do", "depends"),
        ALL,
    ),
)


@pytest.mark.parametrize("story", CHANGES, ids=lambda story: story.name)
def test_what_is_said_is_what_changed_and_what_is_then_done(story: Story, own: Checkout) -> None:
    old, size = contents(own, story.file)
    story.change(own)
    new, size_now = contents(own, story.file)
    assert old != new or not story.file
    wheel = toolchain.find("wheel", "the tests")
    says = story.says.format(
        old=old,
        new=new,
        size=size,
        size_now=size_now,
        wheel=wheel.root,
        release=wheel.release,
        zig=zig.program(),
        format=FORMAT,
        **{"as": Path(shutil.which("aarch64-linux-gnu-as") or "").resolve()},
    )
    said = told(own)
    first = next((step for step, now in zip(STEPS, story.states, strict=True) if now == "to do"), "compile")
    assert says in said[first]
    assert states(own) == story.states
    assert own.doit("build").succeeded().steps == story.redone
    must = {step for step, now in zip(STEPS, story.states, strict=True) if now == "to do"}
    may = {step for step, now in zip(STEPS, story.states, strict=True) if now == "depends"}
    assert must <= set(story.redone) <= must | may
    assert states(own) == NOTHING


def test_a_folder_that_is_gone_is_one_reason(own: Checkout) -> None:
    shutil.rmtree(own.path("src/uart"))
    assert told(own, "compile") == {
        "compile": "to be done because the folder src/uart is missing, with 1 input",
    }


def test_many_inputs_are_counted(own: Checkout) -> None:
    inputs = json.loads(own.path("build/.done/compile.json").read_bytes())["inputs"]
    sources = [name for name in inputs if name.startswith("src/") and name.endswith(".go")]
    assert len(sources) > 12
    for name in sources:
        own.append(name, "// more\n")
    said = told(own, "compile")["compile"]
    assert said.count(" changed: ") == 10
    assert said.endswith(f"and {len(sources) - 10} more inputs; `doit why --json` has them all")
    assert [each["name"] for each in looked(own)["compile"]["differences"]] == sorted(sources)


def test_steps_can_be_named_and_are_told_in_their_order(own: Checkout) -> None:
    assert list(told(own)) == list(told(own, "build")) == list(STEPS)
    assert list(told(own, "patch", "compile", "patch")) == ["compile", "patch"]
    assert list(told(own, "assemble", "boot.s", "link")) == ["link", "assemble boot.s"]
    assert list(told(own, "assemble boot.s")) == ["assemble boot.s"]
    assert list(told(own, "assemble")) == list(PARTS[1:-1])
    assert list(told(own, "render")) == ["render"]
    assert own.doit("why", "patch", "--json").out == own.doit("why", "--json", "patch").out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["compil"], ["'compil'", "did you mean `compile`?"]),
        (["assemble", "boots.s"], ["'assemble boots.s'", "did you mean `assemble boot.s`?"]),
        (["verify"], ["'verify'", "known: "]),
        (["--jsn"], ["--jsn", "--json"]),
    ],
)
def test_a_mistake_is_answered_with_what_was_meant(own: Checkout, words: list[str], said: list[str]) -> None:
    own.doit("why", *words).refused(*said)


def test_a_step_within_link_is_done_with_it(own: Checkout) -> None:
    own.append("templates/boot.s.j2", "// the end\n")
    said = told(own, *PARTS)
    assert said["render"].startswith(
        "to be done if link is done, and not restored, because templates/boot.s.j2 changed: "
    )
    assert said["assemble boot.s"] == "looked at after render; done only if build/boot.s comes out different"
    assert states(own, *PARTS) == ("depends",) * len(PARTS)


def test_a_step_within_link_is_done_with_it_if_nothing_is_kept(own: Checkout) -> None:
    off = {"BUILDSYS_CACHE": "off"}
    own.append("templates/boot.s.j2", "// the end\n")
    assert told(own, "render", **off)["render"].startswith("to be done because templates/boot.s.j2 changed: ")
    assert states(own, *PARTS, **off) == ("to do", *("depends",) * (len(PARTS) - 1))
    render = json.loads(own.path("build/.done/render.json").read_bytes())["when"]
    assert own.doit("build", BUILDSYS_CACHE="off").succeeded().steps == ("link",)
    assert json.loads(own.path("build/.done/render.json").read_bytes())["when"] > render
    assert states(own, *PARTS) == ("up to date",) * len(PARTS)


def test_a_step_within_link_is_not_done_without_it(own: Checkout) -> None:
    own.path("build/.done/render.json").unlink()
    assert told(own, "render")["render"].startswith(
        "not looked at, as link is up to date; it would be done because there is no record of it"
    )
    assert states(own) == NOTHING
    assert own.doit("build").succeeded().steps == ()
    assert not own.path("build/.done/render.json").exists()


def test_an_archive_that_was_removed_is_packed_again_by_link(own: Checkout) -> None:
    assert states(own, "pack") == ("up to date",)
    own.path("build/kernel.a").unlink()
    said = told(own, "pack", BUILDSYS_CACHE="off")
    assert said == {"pack": "to be done because build/kernel.a, which it makes, is missing"}
    assert own.doit("build", BUILDSYS_CACHE="off").succeeded().steps == ("link",)
    assert states(own, "pack", *PARTS) == ("up to date",) * (1 + len(PARTS))


def test_a_step_within_link_may_be_done_though_nothing_it_reads_changed(own: Checkout) -> None:
    own.path("build/kernel.unpatched.elf").unlink()
    assert told(own, "render") == {"render": "looked at within link; done only if an address it binds moves"}


def test_addresses_that_were_lost_are_a_reason_and_are_told_as_addresses(own: Checkout) -> None:
    bound = json.loads(own.path("build/binding.json").read_bytes())
    own.path("build/binding.json").unlink()
    said = told(own, "render")["render"]
    assert f"addresses.runtime.g0 changed: {bound['runtime.g0']:#x} → not set" in said


def test_without_go_that_is_the_reason_and_nothing_else_is_reached(own: Checkout) -> None:
    own.set('go = "none"')
    said = told(own)
    assert re.match(r"cannot be done: pyproject\.toml:\d+: `tool\.buildsys\.go` is ", said["compile"])
    assert "which is no version of Go and no folder" in said["compile"]
    assert [said[step] for step in STEPS[1:]] == ["not reached: compile comes first"] * 3
    assert states(own, *PARTS) == ("not reached",) * len(PARTS)
    assert "no version of Go" in looked(own)["compile"]["error"]
    own.doit("build").refused("no version of Go")


def test_without_binutils_compiling_is_looked_at_all_the_same(own: Checkout, tmp_path: Path) -> None:
    own.set('toolchain = "gnu"')
    own.append("src/list.go", "// more\n")
    before = own.doit("why", PATH=str(tmp_path)).succeeded().out
    assert "src/list.go changed" in before
    assert re.search(r"(?m)^link +cannot be done: toolchain = \"gnu\", but there is no GNU assembler", before)
    assert re.search(r"(?m)^patch +not reached: link comes first", before)


def test_a_step_that_is_ignored_is_told_so(own: Checkout) -> None:
    own.append("src/list.go", "// more\n")
    own.doit("ignore", "compile")
    said = told(own, *STEPS, "render")
    assert said["render"] == "not reached: link comes first"
    assert said["compile"] == "ignored, and what needs it; `doit forget compile` ends that"
    assert said["runtime"] == "not reached: compile comes first"
    assert own.doit("build").steps == ()


def test_before_anything_was_built_all_is_to_do(fresh: Checkout) -> None:
    assert states(fresh) == ("to do",) * 4
    assert not fresh.path("build").exists()


def test_json_has_every_difference_with_whole_digests(own: Checkout) -> None:
    texts = [own.path("src/main.go").read_bytes()]
    MAIN(own)
    texts.append(own.path("src/main.go").read_bytes())
    own.set('gcflags = "-B"')
    before, after = ({"sha256": hashlib.sha256(each).hexdigest(), "size": len(each)} for each in texts)
    found = looked(own, "compile", "runtime")
    for step in found.values():
        del step["last"]
    assert found == {
        "compile": {
            "name": "compile",
            "state": "to do",
            "after": [],
            "differences": [
                {"kind": "parameter", "name": "gcflags", "before": "", "after": "-B"},
                {"kind": "input", "name": "src/main.go", "before": before, "after": after},
            ],
            "error": None,
        },
        "runtime": {"name": "runtime", "state": "depends", "after": ["compile"], "differences": [], "error": None},
    }


OLD, NEW = ({"sha256": digit * 64, "size": size} for digit, size in (("1", 5), ("2", 6)))
CHANGED = ["input", "src/main.go", OLD, NEW]


@pytest.mark.parametrize(
    ("last", "said"),
    [
        ({"because": ""}, "up to date; built 3 min ago"),
        ({"because": "src/main.go changed"}, "up to date; built 3 min ago because src/main.go changed"),
        (
            {"because": [CHANGED]},
            "up to date; built 3 min ago because src/main.go changed: 111111111111 → 222222222222, 5 → 6 bytes",
        ),
        (
            {"ago": 7300, "origin": "restored", "because": [["parameter", "gcflags", "", "-B"]]},
            'up to date; restored from the local cache 2 h ago because gcflags changed: "" → -B',
        ),
        (
            {"ago": 86400 * 3 + 10, "origin": "remote", "because": [["record", "compile", None, None]]},
            "fetched from the shared cache 3 days ago because there was no record of it: never done, or not to its end",
        ),
        ({"because": [3]}, "up to date; built 3 min ago"),
        ({"because": [["input", "x", "y", "z"]]}, "up to date; built 3 min ago"),
    ],
)
def test_of_what_is_up_to_date_the_last_run_is_told(own: Checkout, last: Mapping[str, Any], said: str) -> None:
    about = {"ago": 200, "origin": "built", **last}
    about["when"] = time.time() - about.pop("ago")
    records("compile", lambda record: record.update(about))(own)
    assert told(own, "compile")["compile"].endswith(said)
    assert looked(own, "compile")["compile"]["last"] == about


def test_what_was_said_before_a_build_is_told_after_it(own: Checkout) -> None:
    own.set('gcflags = "-B"')
    own.doit("build").succeeded()
    said = told(own)
    assert re.match(r"up to date; built (just now|\d s ago) because gcflags ", said["compile"])
    assert re.match(r"up to date; built (just now|\d s ago) because build/go\.o changed", said["runtime"])


def test_times_are_told_as_people_do() -> None:
    now = time.time()
    told = [ago(seconds, now - seconds) for seconds in (0.5, 1, 59, 60, 3599, 3600, 86_400, 3 * 86_400)]
    assert told == [
        "just now", "1 s ago", "59 s ago", "1 min ago", "59 min ago", "1 h ago", "24 h ago", "3 days ago",
    ]  # fmt: skip
    assert re.fullmatch(r"on \d{4}-\d\d-\d\d at \d\d:\d\d", ago(-5, now + 5))
    assert re.fullmatch(r"on \d{4}-\d\d-\d\d at \d\d:\d\d", ago(1e8, now - 1e8))


def test_neither_go_nor_any_other_tool_is_run_nor_rich_loaded(own: Checkout) -> None:
    """A process that was told of each program that starts, and of each module."""
    watch = (
        "import sys\n"
        "sys.addaudithook(lambda event, args: event in ('subprocess.Popen', 'os.posix_spawn', 'os.exec')"
        " and sys.exit(f'{event} {args}'))\n"
        "from buildsys.config.project import load\n"
        "from buildsys.front.steps import Steps\n"
        "from buildsys.front.why import why\n"
        "why(Steps(load()), [])\n"
        "print(*sorted({'rich', 'jinja2', 'elftools', 'capstone', 'unicorn'} & sys.modules.keys()), file=sys.stderr)\n"
    )
    own.append("src/main.go", "// more\n")
    own.path("src/new.go").write_text("package main\n")
    done = subprocess.run(
        [sys.executable, "-c", watch], cwd=own.folder, env=own.variables, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "\n")
    assert "src/new.go is new" in done.stdout


@pytest.mark.parametrize("option", [(), ("--json",)])
def test_a_disk_that_is_full_is_one_message(own: Checkout, option: tuple[str, ...]) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [DOIT, "why", *option], cwd=own.folder, stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.stderr == "error: standard output: No space left on device\n"
    assert done.returncode != 0


def test_a_terminal_is_shown_the_same(own: Checkout) -> None:
    own.append("src/list.go", "// more\n")
    shown = in_terminal(own, "why")
    assert shown.status == 0
    assert shown.shown.replace("\r\n", "\n") == own.doit("why").out
