"""The commands of every day, as a user types them."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.conftest import PROJECT
from tests.front.conftest import DOIT, Checkout, Done, in_terminal

STEPS = ("compile", "runtime", "link", "patch")


def test_a_first_build_shows_each_step_and_closes_with_image_size_sites_and_seconds(fresh: Checkout) -> None:
    done = fresh.doit("build").succeeded()
    assert done.steps == STEPS
    closing = re.fullmatch(
        r"build/kernel\.elf  (\d+\.\d) MB, (\d+) sites patched, \d+\.\d\d s", done.out.splitlines()[-1]
    )
    assert closing
    # tests/front/test_size.py holds the numbers against sections and segments.
    memory = r"memory    flash \d+ KiB of 126 MiB, \d+\.\d %; ram \d+ KiB of 128 MiB, \d+\.\d %"
    assert re.fullmatch(memory, done.out.splitlines()[-2])
    assert float(closing[1]) == pytest.approx(len(fresh.image) / 1e6, abs=0.05)
    assert int(closing[2]) > 100


def test_a_second_build_has_no_steps_and_says_that_everything_is_up_to_date(checkout: Checkout) -> None:
    done = checkout.doit("build").succeeded()
    assert re.fullmatch(r"build/kernel\.elf  \d+\.\d MB, \d+ sites patched; everything is up to date\n", done.out)


def test_doit_alone_builds(checkout: Checkout) -> None:
    assert checkout.doit().succeeded().out == checkout.doit("build").succeeded().out


def test_every_task_has_a_sentence_of_help(fresh: Checkout) -> None:
    listed = fresh.doit("list").succeeded().out
    tasks = dict(line.split(maxsplit=1) for line in listed.splitlines())
    assert {"build", "compile", "runtime", "link", "patch", "run-qemu", "run-embedded", "verify"} <= set(tasks)
    for name, sentence in tasks.items():
        assert re.fullmatch(r"[A-Z].{15,}\.", sentence), f"{name}: {sentence!r}"


@pytest.mark.parametrize("option", ["--status", "-s"])
def test_the_list_tells_which_steps_would_run(checkout: Checkout, option: str) -> None:
    def status() -> dict[str, str]:
        listed = checkout.doit("list", option).succeeded().out
        return {line.split()[1]: line[0] for line in listed.splitlines()}

    assert {status()[name] for name in STEPS} == {"U"}
    checkout.path("build/kernel.elf").unlink()
    assert {name for name in STEPS if status()[name] == "R"} == {"patch"}


def test_clean_removes_all_that_was_made_and_can_be_repeated(checkout: Checkout) -> None:
    before = checkout.image
    for _ in range(2):
        checkout.doit("clean").succeeded()
        assert not checkout.path("build").exists()
    assert {path.name for path in checkout.folder.iterdir()} <= {*PROJECT, "__pycache__"}
    assert checkout.doit("build").succeeded().steps == STEPS
    assert checkout.image == before


def test_a_clean_that_is_tried_removes_nothing(checkout: Checkout) -> None:
    before = checkout.artifacts()
    checkout.doit("clean", "-n").succeeded()
    assert checkout.artifacts() == before


def test_forget_has_the_next_build_do_everything(checkout: Checkout) -> None:
    before = checkout.image
    checkout.doit("forget").succeeded()
    assert checkout.doit("build").succeeded().steps == STEPS
    assert checkout.image == before


def test_an_ignored_step_is_named_until_it_is_forgotten(checkout: Checkout) -> None:
    checkout.append("src/main.go", "var added *int\n")
    checkout.doit("ignore", "patch").succeeded()
    for _ in range(2):
        done = checkout.doit("build").succeeded()
        assert re.search(r"^patch +ignored.*`doit forget patch`", done.out, re.MULTILINE)
        assert "up to date" not in done.out
    checkout.doit("forget", "patch").succeeded()
    assert "patch" in checkout.doit("build").succeeded().steps


def test_info_tells_of_a_step(checkout: Checkout) -> None:
    told = checkout.doit("info", "patch").succeeded().out
    for words in ("build/kernel.elf", "build/patch.json", "up-to-date", "link"):
        assert words in told


def test_help_lists_the_commands_and_explains_a_task(fresh: Checkout) -> None:
    assert "embedded emulator" in fresh.doit("help").succeeded().out
    assert "--time-limit" in fresh.doit("help", "run-qemu").succeeded().out
    overview = fresh.doit("help").succeeded().out
    assert fresh.doit("--help").succeeded().out == overview
    for line in fresh.doit("list").succeeded().out.splitlines():
        assert re.search(rf"(?m)^  {re.escape(line.split()[0])} +\S", overview), line


def test_where_no_project_is_that_is_said(tmp_path: Path) -> None:
    """And help is there all the same."""
    done = subprocess.run([DOIT, "list"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith(f"error: no project is here: there is no {tmp_path / 'dodo.py'}\n\nhint: ")
    helped = subprocess.run([DOIT, "help"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert helped.startswith("Commands:")
    assert "`buildsys new DIR`" in helped


def test_several_at_once_print_the_same_text(checkout: Checkout) -> None:
    def text(*options: str) -> str:
        checkout.doit("forget").succeeded()
        builds = [checkout.doit(*options, "build", BUILDSYS_CACHE="off").succeeded() for _ in range(2)]
        twice = "".join(build.out for build in builds)
        return re.sub(r"\d+\.\d\d s", "…", twice)

    expected = text()
    for options in (("-n", "2"), ("-n", "2", "-P", "process"), ("-n", "2", "-P", "thread")):
        assert text(*options) == expected


@pytest.mark.parametrize("name", ["patch", "build/kernel.elf"])
def test_a_step_can_be_asked_for_by_its_name_or_by_what_it_makes(checkout: Checkout, name: str) -> None:
    checkout.path("build/patch.json").unlink()
    assert checkout.doit(name).succeeded().steps == ("patch",)
    assert checkout.doit(name).succeeded().out == "patch: everything is up to date\n"


@pytest.mark.parametrize(
    ("typed", "nearest"),
    [("biuld", "build"), ("run-qmeu", "run-qemu"), ("verfy", "verify"), ("build/kernel.efl", "")],
)
def test_a_task_that_does_not_exist_is_answered_with_the_nearest(fresh: Checkout, typed: str, nearest: str) -> None:
    fresh.doit(typed).refused(repr(typed), f"did you mean `{nearest}`?" if nearest else "`doit list`")


@pytest.mark.parametrize("command", ["info", "list", "clean", "forget", "ignore", "help"])
def test_other_commands_answer_a_task_that_does_not_exist_in_one_message(fresh: Checkout, command: str) -> None:
    done = fresh.doit(command, "biuld")
    assert "Traceback" not in done.err
    assert done.status == 3
    assert "'biuld'" in done.err


@pytest.mark.parametrize(
    ("arguments", "wrong", "nearest"),
    [
        (("verify", "--clam", "2"), "--clam", "--claim"),
        (("verify", "--claims", "2"), "--claims", "--claim"),
        (("run-qemu", "--time-limt", "3"), "--time-limt", "--time-limit"),
        (("run", "--time-limt", "3"), "--time-limt", "--time-limit"),
        (("--alwasy-execute", "build"), "--alwasy-execute", "--always-execute"),
        (("build", "--frobnicate"), "--frobnicate", "no options"),
        (("run-qemu", "--frobnicate"), "--frobnicate", "known: --time-limit"),
    ],
)
def test_an_option_that_does_not_exist_is_answered_with_the_nearest(
    fresh: Checkout, arguments: tuple[str, ...], wrong: str, nearest: str
) -> None:
    message = fresh.doit(*arguments).refused(f"no option {wrong}\n", "hint:", nearest)
    assert len(message.splitlines()) == 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("run-qemu", "--time-limit", "soon"), "--time-limit takes a number"),
        (("run-qemu", "--time-limit", "0"), "--time-limit must be more than 0"),
        (("run", "--time-limit"), "--time-limit requires"),
        (("-n", "many", "build"), "--process takes a number"),
        (("-o", "nowhere/out", "build"), "nowhere/out"),
    ],
)
def test_an_option_with_a_wrong_value_is_named(fresh: Checkout, arguments: tuple[str, ...], said: str) -> None:
    fresh.doit(*arguments).refused(said)


KEYS = {
    "package": '"./src"',
    "entry": '"main.KernelMain"',
    "board": '"qemu-virt"',
    "toolchain": '"zig"',
    "go": '"wheel"',
    "tags": "[]",
    "gcflags": '""',
    "ldflags": '""',
    "time-limit": "3",
    "templates": "[]",
}


@pytest.mark.parametrize("key", KEYS)
def test_a_mistyped_key_is_answered_with_its_line_and_the_right_one(fresh: Checkout, key: str) -> None:
    typed = key[:-2] + key[:-3:-1] if len(key) > 2 else f"{key}o"
    assert typed != key
    fresh.set(f"{key} = {KEYS[key]}")
    fresh.replace("pyproject.toml", f"\n{key} = ", f"\n{typed} = ")
    lines = fresh.path("pyproject.toml").read_text().splitlines()
    line = next(number for number, text in enumerate(lines, 1) if text.startswith(f"{typed} ="))
    message = fresh.doit("build").refused(f"`tool.buildsys.{typed}`", "hint:")
    assert f"`{key}`" in message or f"`tool.buildsys.{key}` is missing" in message
    assert key == "package" or f"pyproject.toml:{line}: " in message


@pytest.mark.parametrize("key", KEYS)
def test_every_key_is_known(fresh: Checkout, key: str) -> None:
    fresh.set(f"{key} = {KEYS[key]}")
    fresh.doit("list").succeeded()


def test_what_go_says_of_a_build_that_went_well_is_shown_if_it_was_asked_for(checkout: Checkout) -> None:
    checkout.set('gcflags = "-m"')
    done = checkout.doit("build")
    assert done.status == 0
    assert "can inline main" in done.err
    assert "loadinternal" not in done.err


def test_output_to_a_file_is_complete(checkout: Checkout) -> None:
    for name in ("redirected", "asked-for"):
        checkout.append("src/main.go", "// …\n")
        path = checkout.path(name)
        if name == "redirected":
            with path.open("w") as file:
                subprocess.run([DOIT, "build"], cwd=checkout.folder, stdout=file, check=True)
        else:
            assert checkout.doit("-o", name, "build").succeeded().out == ""
        done = Done(0, path.read_text(), "")
        assert done.steps == ("compile",)
        assert "sites patched" in done.out.splitlines()[-1]


@pytest.mark.parametrize("command", ["build", "verify", "list", "help", "info patch", "clean"])
def test_a_reader_that_goes_away_is_no_error_of_ours(checkout: Checkout, command: str) -> None:
    checkout.append("src/main.go", "// …\n")
    done = subprocess.run(
        ["sh", "-c", f"{DOIT} {command} | true"], cwd=checkout.folder, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    if command == "build":
        assert checkout.doit("build").succeeded().steps == ()  # it was finished all the same


@pytest.mark.parametrize("command", ["build", "list", "run"])
def test_a_full_disk_under_the_output_is_told(checkout: Checkout, command: str) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [DOIT, command], cwd=checkout.folder, stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    Done(done.returncode, "", done.stderr).refused("standard output", "No space left on device")


def test_a_closed_output_is_done_without(checkout: Checkout) -> None:
    done = subprocess.run(
        ["sh", "-c", f"{DOIT} build >&-"], cwd=checkout.folder, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_an_output_that_has_no_arrows_gets_something_else(checkout: Checkout) -> None:
    listed = checkout.doit("list", PYTHONIOENCODING="ascii").succeeded().out
    assert "? build/go.o" in listed


@pytest.mark.parametrize("environment", [{}, {"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_colours_are_for_terminals(checkout: Checkout, environment: dict[str, str]) -> None:
    assert "\x1b" not in checkout.doit("verify", "--claim", "2", largest_file=None, **environment).succeeded().out


def test_colours_are_not_for_those_who_refuse_them(checkout: Checkout) -> None:
    green = "\x1b[32m"
    assert green in in_terminal(checkout, "verify", "--claim", "2").shown
    assert green not in in_terminal(checkout, "verify", "--claim", "2", environment={"NO_COLOR": "1"}).shown
