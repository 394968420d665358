"""A program begun before its arguments are known makes what it would have made, and none outlives us."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildsys import waiting
from buildsys.errors import UserError
from buildsys.toolchains import choice, zig
from tests.front.conftest import wait_for

# Says, as JSON, which process it is, what it was given, and an environment variable; a file it is to read it reads.
TOOL = f"""#!{sys.executable} -I
import json, os, shlex, sys
words = sys.argv[1:]
if words[0].startswith("@"):
    words = shlex.split(open(words[0][1:], encoding="utf-8", errors="surrogateescape").read())
print(json.dumps([os.getpid(), words, os.environ.get("LOOK")]))
sys.exit(words[:1] == ["fail"] or (not words and 3))
"""

SECTIONS = (".text", ".data", ".bss", ".comment", ".symtab", ".strtab", ".shstrtab")


@pytest.fixture
def tool(tmp_path: Path) -> Iterator[tuple[str]]:
    path = tmp_path / "tool"
    path.write_text(TOOL)
    path.chmod(0o755)
    yield (str(path),)
    waiting.begin()


def began(program: tuple[str, ...]) -> int:
    """The process that waits."""
    return waiting._waiting[program].process.pid


def told(done: subprocess.CompletedProcess[str]) -> tuple[int, list[str], str | None]:
    process, words, look = json.loads(done.stdout)
    return process, words, look


def gone(process: int) -> Callable[[], bool]:
    def is_gone() -> bool:
        try:
            return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except OSError:
            return True

    return is_gone


def test_the_one_that_waits_is_the_one_that_runs_and_once(tool: tuple[str]) -> None:
    waiting.begin(tool, env={"LOOK": "here"})
    process = began(tool)
    assert told(waiting.run([*tool, "a", "b c"], env={"LOOK": "here"})) == (process, ["a", "b c"], "here")
    again, words, _ = told(waiting.run([*tool, "d"], env={"LOOK": "here"}))
    assert again != process
    assert words == ["d"]


@pytest.mark.parametrize(
    ("word", "cwd", "env"),
    [("a", None, {"LOOK": "there"}), ("a", Path("/"), {"LOOK": "here"}), ("a" * 5000, None, {"LOOK": "here"})],
    ids=["another environment", "another folder", "more than fits a pipe at once"],
)
def test_one_that_does_not_fit_is_not_taken(tool: tuple[str], word: str, cwd: Path | None, env: dict[str, str]) -> None:
    waiting.begin(tool, env={"LOOK": "here"})
    process = began(tool)
    other, words, look = told(waiting.run([*tool, word], cwd, env))
    assert other != process
    assert (words, look) == ([word], env["LOOK"])


def test_a_program_that_was_replaced_meanwhile_runs_as_it_is_now(tool: tuple[str]) -> None:
    waiting.begin(tool)
    beside = Path(tool[0] + ".new")
    beside.write_text(TOOL.replace("os.environ.get", "'new' or os.environ.get"))
    beside.chmod(0o755)
    beside.replace(tool[0])
    assert told(waiting.run([*tool, "a"]))[2] == "new"


def test_one_that_was_ended_meanwhile_is_begun_anew(tool: tuple[str]) -> None:
    waiting.begin(tool)
    process = began(tool)
    os.kill(process, signal.SIGKILL)
    wait_for(gone(process), "its end")
    assert told(waiting.run([*tool, "a"]))[1] == ["a"]


def test_what_fails_is_run_as_any_other_and_told_of_that(tool: tuple[str]) -> None:
    waiting.begin(tool)
    process = began(tool)
    done = waiting.run([*tool, "fail", "x"])
    assert done.returncode == 1
    assert told(done)[0] != process
    assert told(done)[1] == ["fail", "x"]


def test_those_that_are_wanted_still_go_on_waiting_and_others_end(tool: tuple[str]) -> None:
    other = (sys.executable, "-c", "import sys; open(sys.argv[1][1:]).read()")
    waiting.begin(tool, other)
    kept, ended = began(tool), began(other)
    waiting.begin(tool)
    assert began(tool) == kept
    assert gone(ended)()
    waiting.begin(tool, env={"LOOK": "here"})
    assert began(tool) != kept
    assert gone(kept)()


def test_a_program_that_is_not_there_is_an_error_and_nothing_waits(tmp_path: Path) -> None:
    before = set(os.listdir("/proc/self/fd"))
    with pytest.raises(UserError, match="cannot be run"):
        waiting.begin([str(tmp_path / "none")])
    assert not waiting._waiting
    assert len(set(os.listdir("/proc/self/fd"))) == len(before)


def test_those_dismissed_are_gone_and_no_descriptor_of_theirs_is_left(tool: tuple[str]) -> None:
    before = len(os.listdir("/proc/self/fd"))
    waiting.begin(tool)
    process = began(tool)
    waiting.begin()
    assert gone(process)()
    waiting.begin(tool)
    waiting.run([*tool, "a"])
    assert len(os.listdir("/proc/self/fd")) <= before


def test_when_we_are_killed_it_ends(tool: tuple[str]) -> None:
    script = f"import sys, time\nfrom buildsys import waiting\nwaiting.begin(({tool[0]!r},))\n"
    script += "print(waiting._waiting.popitem()[1].process.pid, flush=True)\ntime.sleep(60)\n"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as ours:
        assert ours.stdout is not None
        process = int(ours.stdout.readline())
        time.sleep(0.2)
        assert not gone(process)()
        ours.kill()
    wait_for(gone(process), "its end")


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20), max_size=6))
def test_words_are_quoted_so_that_they_come_apart_as_they_were(words: list[str]) -> None:
    assert shlex.split(" ".join(map(waiting._quoted, words))) == words


@pytest.mark.slow
def test_what_tools_make_is_the_same_and_so_is_what_they_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tools = zig.toolchain()
    source = Path(r"""it's "one"\of them, ü.s""")
    source.write_text("    .global _start\n_start:\n    b other\n")
    other = Path("other.s")
    other.write_text("    .global other\nother:\n    bl _start\n    ret\n")
    script = Path("a script.ld")
    script.write_text("SECTIONS {" + " ".join(f"{name} : {{ *({name}) }}" for name in SECTIONS) + "}")
    made: list[list[bytes]] = []
    used: list[object] = []
    told = waiting._told

    def note(command: Sequence[str], env: Mapping[str, str] | None) -> subprocess.Popen[str] | None:
        found = told(command, env)
        used.append(found)
        return found

    monkeypatch.setattr(waiting, "_told", note)
    for waits in (False, True):
        made.append([])
        objects = [each.with_suffix(".o") for each in (source, other)]
        for each, goal in zip((source, other), objects, strict=True):
            if waits:
                tools.prepare()
            tools.assemble(each, goal)
            made[-1].append(goal.read_bytes())
        tools.link(script, objects, Path("an image.elf"))
        made[-1].append(Path("an image.elf").read_bytes())
        if waits:
            tools.prepare()
        with pytest.raises(UserError) as caught:
            tools.link(script, objects[1:], Path("refused.elf"))
        made[-1].append(str(caught.value).encode())
    waiting.begin()
    assert [process is not None for process in used] == [False] * 4 + [True] * 4
    assert made[0] == made[1]
    assert b"_start" in made[0][3]


def test_only_those_that_read_their_arguments_to_the_end_of_a_pipe_are_begun() -> None:
    assert zig.toolchain().words == 2
    try:
        gnu = choice.find("gnu")
    except UserError:
        return
    gnu.prepare()
    assert not waiting._waiting
