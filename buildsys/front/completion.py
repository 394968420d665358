"""What can be typed next: `buildsys complete LINE` answers the scripts that `buildsys completion SHELL` prints.

An answer is a line for each word: the word, a tab, what it is. A line with `:` alone says that files fit, too.
Whatever is wrong (no dodo.py, a configuration that cannot be read) is no matter of a Tab key: then there is no answer.
"""

from __future__ import annotations

import argparse
import contextlib
import inspect
import os
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from buildsys.config.project import PACKAGE, TOOLCHAINS, kernels
from buildsys.errors import UserError

SHELLS = ("bash", "zsh", "fish")
FILES = ":"
MOST = 400  # words in an answer: nobody reads more
DODO = "dodo.py"
OPTIONS_OF_PEOPLE = ("-r", "--reporter")
Word = tuple[str, str]
SOME_FILE: Word = (FILES, "")


def script(shell: str) -> str:
    """The script that makes `shell` ask us. Raises UserError for a shell that is not known."""
    if shell not in SHELLS:
        from buildsys.config.toml import nearest

        raise UserError(f"there is no completion for {shell!r}", nearest(shell, SHELLS))
    return (PACKAGE / "front" / f"completion.{shell}").read_text("utf-8")


def answer(line: str, parser: argparse.ArgumentParser) -> list[str]:
    """The lines to print for the command line so far; `parser` is that of the command `buildsys`."""
    words = line.split()
    if not words:
        return []
    if line[-1:].isspace():
        words.append("")
    ours = Path(words[0]).name == "buildsys"
    found: Iterable[Word] = ()
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        try:
            found = list(_of_buildsys(words[1:], parser) if ours else _of_doit(words[1:]))
        except (Exception, SystemExit):  # a dodo.py may do anything
            found = ()
    current = words[-1]
    fitting = dict.fromkeys(each for each in found if each == SOME_FILE or each[0].startswith(current))
    return [f"{word}\t{about}".rstrip("\t") for word, about in list(fitting)[:MOST]]


# ---- doit ----


def _of_doit(words: Sequence[str]) -> Iterator[Word]:
    """What may stand for the last of `words`, which are those behind `doit`."""
    *before, current = words
    if before[-1:] and before[-1] in OPTIONS_OF_PEOPLE:
        from buildsys.front.modes import MODES

        yield from ((name, mode.desc) for name, mode in MODES.items())
        return
    from doit import loader
    from doit.doit_cmd import DoitMain

    commands = {each.get_name(): each.doc_purpose for each in DoitMain.DOIT_CMDS if each.get_name() != "dumpdb"}
    module = loader.get_module(DODO, None, False)
    tasks = {task.name: task for task in loader.load_tasks(dict(inspect.getmembers(module)), list(commands))}
    task = next((tasks[word] for word in reversed(before) if word in tasks), None)
    command = next((word for word in before if word in commands), "")
    if task is not None and command in ("", "run"):
        yield from _of_task(task, before, current)
        if task.pos_arg:
            return
    if current.startswith("-"):
        if task is None and command in ("", "run"):
            yield ("-r", "how to tell progress")
            yield ("-n", "how many tasks at once")
            yield ("-a", "do what is up to date, too")
        return
    yield from ((name, each.doc or "") for name, each in tasks.items())
    if not before or before == ["help"]:
        yield from commands.items()


def _of_task(task: Any, before: Sequence[str], current: str) -> Iterator[Word]:
    """Options of a task, their values, and the words it takes."""
    options = {f"--{each['long']}": each for each in task.params if each.get("long")}
    name = task.name.split(":")[0]
    last = before[-1] if before else ""
    option, sign, _ = current.partition("=")
    if sign and option in options:
        yield from ((f"{option}={word}", about) for word, about in _values(task.name, options[option], current))
    elif last in options and options[last].get("type") is not bool:
        yield from _values(task.name, options[last], current)
    elif current.startswith("-"):
        yield from ((word, each.get("help", "")) for word, each in options.items())
        yield from ((f"-{each['short']}", each.get("help", "")) for each in task.params if each.get("short"))
    elif task.pos_arg:
        yield from _words(name, task.name.partition(":")[2], current)


def _values(task: str, option: Mapping[str, Any], current: str) -> Iterator[Word]:
    """The values of an option of a task, which may be a list with commas."""
    name, _, kernel = task.partition(":")
    key = (name, option["long"])
    if key in LISTED:
        head = current.rpartition("=")[2].rpartition(",")[0]
        yield from ((f"{head},{word}" if head else word, about) for word, about in LISTED[key]())
    elif key in VALUES:
        yield from VALUES[key]()
    elif key in OF_IMAGE:
        yield from _functions(kernel, current.rpartition("=")[2])
    elif key == ("size", "compare"):
        yield ("last", "the build before this one")
        yield from _saved(kernel)
        yield from _revisions()
    elif key == ("size", "save"):
        yield from _saved(kernel)
    elif option.get("type", str) is str:
        yield SOME_FILE


def _words(task: str, kernel: str, current: str) -> Iterator[Word]:
    """The words a task takes that are no options."""
    if task == "why":
        from buildsys.front.why import CHAIN

        yield from ((step, "a step") for step in ("build", *CHAIN, "render", "assemble", "join"))
    elif task == "reach":
        yield from _functions(kernel, current)
    elif task == "size":
        yield from _packages(kernel)
    elif task == "help-topics":
        from buildsys.front.topics import topics

        yield from ((topic.name, topic.symptom) for topic in topics())
    else:
        yield SOME_FILE


def _claims() -> Iterator[Word]:
    from buildsys.proof.claims import CLAIMS

    return ((claim.name, claim.title) for claim in CLAIMS)


def _machines() -> Iterator[Word]:
    return iter((("embedded", "the emulator that comes with buildsys"), ("qemu", "QEMU")))


def _tables() -> Iterator[Word]:
    from buildsys.front.size_text import TABLES

    return ((name, "a table") for name in TABLES)


def _toolchains() -> Iterator[Word]:
    return ((name, "a toolchain") for name in TOOLCHAINS)


def _gos() -> Iterator[Word]:
    from buildsys.go import releases

    return ((name, "a Go") for name in ("wheel", "system", *releases.lines()))


VALUES = {("verify", "claim"): _claims, ("watch", "machine"): _machines, ("size", "by"): _tables}
LISTED = {("matrix", "emulator"): _machines, ("matrix", "toolchain"): _toolchains, ("matrix", "go"): _gos}
OF_IMAGE = {("reach", "from")}


def _build_folder(kernel: str) -> Path:
    return next(project.build for project in kernels() if project.kernel == kernel)


def _functions(kernel: str, current: str) -> Iterator[Word]:
    """The functions of the image there is, whose names a shell takes as they are."""
    from buildsys.formats.elf import Elf

    elf = Elf.mapped(_build_folder(kernel) / "kernel.elf")
    names = {each.name.removesuffix(".abi0") for each in elf.symbols.functions()}
    plain = (name for name in names if name.startswith(current) and not set(name) & set("()[]{}*<>;&|'\"` $"))
    return ((name, "a function") for name in sorted(plain))


def _packages(kernel: str) -> Iterator[Word]:
    from buildsys.formats.elf import Elf
    from buildsys.sizes.names import group_of

    elf = Elf.mapped(_build_folder(kernel) / "kernel.elf")
    names = {group_of(each.name) for each in elf.symbols.functions()}
    return ((name, "a package") for name in sorted(names) if name and not name.startswith("("))


def _saved(kernel: str) -> Iterator[Word]:
    from buildsys.front.size import SAVED

    for path in sorted((_build_folder(kernel) / SAVED).glob("*.json")):
        yield path.stem, "sizes that were saved"


def _revisions() -> Iterator[Word]:
    command = ["git", "for-each-ref", "--format=%(refname:short)", "refs/heads", "refs/tags"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return ((name, "a git revision") for name in ("HEAD", *done.stdout.split()) if done.returncode == 0)


# ---- buildsys ----


def _of_buildsys(words: Sequence[str], parser: argparse.ArgumentParser) -> Iterator[Word]:
    """What may stand for the last of `words`, which are those behind `buildsys`."""
    *before, current = words
    choices = _commands(parser)
    if not before:
        yield from ((name, about) for name, (about, _) in choices.items() if about)
        return
    if before[0] not in choices:
        return
    options = {
        each: action for action in choices[before[0]][1]._actions for each in action.option_strings
    }  # argparse tells them nowhere else
    if before[-1] == "--board":
        from buildsys.config import board

        yield from ((name, board.load(name, "").description) for name in board.names())
    elif before[-1] in options and options[before[-1]].nargs != 0:
        yield SOME_FILE
    elif current.startswith("-"):
        yield from ((name, action.help or "") for name, action in options.items())
    elif before[0] == "completion":
        yield from ((shell, "a shell") for shell in SHELLS)
    elif before[0] in ("new", "patch"):
        yield SOME_FILE


def _commands(parser: argparse.ArgumentParser) -> dict[str, tuple[str, argparse.ArgumentParser]]:
    """The commands of `parser`, each with its help and its own parser."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            helps = {each.dest: each.help or "" for each in action._choices_actions}
            return {name: (helps.get(name, ""), each) for name, each in action.choices.items()}
    return {}
