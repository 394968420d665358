"""`doit help` and `doit list`: what can be done here, in lines that fit the terminal.

They are doit's commands; their words are ours, and the tasks come first. What goes into a file or a pipe has a line
for each task, however long.
"""

from __future__ import annotations

import os
import re
import sys
from textwrap import wrap
from typing import Any, TextIO

from doit.cmd_help import Help as DoitHelp
from doit.cmd_list import List as DoitList
from doit.cmdparse import CmdOption, TaskParse
from doit.exceptions import InvalidCommand, InvalidDodoFile

# doit's other commands are there as well, and told of by `doit help NAME`.
COMMANDS = {
    "run": "do tasks; with no task, boot the image on the embedded emulator",
    "list": "tell the tasks",
    "clean": "remove what was built: everything, or what one task made",
    "forget": "do a task again next time, whatever has changed",
    "info": "tell what a task needs, and what it makes",
    "help": "this; with the name of a task or command, its options",
}
CLOSING = (
    "`doit help NAME` tells the options of a task or a command.",
    "`doit help-topics WORD` leads from what you see to the page that explains it.",
    "`buildsys new DIR` writes a small kernel, ready to build.",
)
HELP_COLUMN = 28  # where doit/cmdparse.py has what an option is for
HELD = "\0"  # in the place of a space at which no line ends: inside a command
NARROWEST = 40  # columns; in fewer, lines are not made to fit


class Help(DoitHelp):  # type: ignore[misc]  # doit has no type information
    """`doit help [NAME]`."""

    doc_purpose = "tell what can be done, or how"
    doc_usage = "[TASK | COMMAND]"

    def execute(self, params: Any, args: list[str]) -> int:
        """Tell of everything, or of the task or command that `args` names. Raises InvalidCommand if there is none."""
        if args and args[0] in self.cmds:
            print(self.cmds[args[0]](cmds=self._cmds, **self.init_kwargs).help())
            return 0
        try:
            status: int = super(DoitHelp, self).execute(params, args)
        except InvalidDodoFile:  # no project is here: there are no tasks
            if args:
                raise
            self._overview([])
            return 0
        return status

    def _execute(self, pos_args: list[str]) -> int:
        """As execute(), when the tasks are known."""
        if not pos_args:
            self._overview([(each.name, each.doc) for each in self.task_list if not each.subtask_of])
            return 0
        task = next((each for each in self.task_list if each.name == pos_args[0]), None)
        if task is None:
            raise InvalidCommand(not_found=pos_args[0])
        print(fitted(f"{task.name}  {task.doc}", len(task.name) + 2, sys.stdout))
        for option in TaskParse([CmdOption(each) for each in (*task.creator_params, *task.params)]).options:
            for line in option.help_doc():
                said = re.sub(r" +\(config: \w+\)$", "", line)  # doit's own way of settings, which is not ours
                print(fitted(said, HELP_COLUMN, sys.stdout))
        return 0

    def _overview(self, tasks: list[tuple[str, str]]) -> None:
        told = [(name, says) for name, says in sorted(tasks) if not name.startswith("_")]
        longest = max(len(name) for name, _ in (*told, *COMMANDS.items()))
        for title, rows in (("Tasks: `doit NAME`", told), ("Commands: `doit NAME`", [*COMMANDS.items()])):
            if rows:
                print(title)
                for name, says in rows:
                    print(fitted(f"  {name:<{longest}}  {says or ''}", longest + 4, sys.stdout))
                print()
        for line in CLOSING:
            print(fitted(line, 2, sys.stdout))


class List(DoitList):  # type: ignore[misc]  # doit has no type information
    """`doit list [TASK ...]`."""

    doc_purpose = "tell the tasks"

    def _print_task(self, template: str, task: Any, status: bool, list_deps: bool, tasks: Any) -> None:
        # A template of the user's has no tasks in columns.
        if list_deps or status or not template.endswith("}{doc}\n"):
            super()._print_task(template, task, status, list_deps, tasks)
            return
        line = template.format(name=task.name, doc=task.doc or "").rstrip()
        start = len(template.removesuffix("{doc}\n").format(name=task.name))
        self.outstream.write(fitted(line, start, self.outstream) + "\n")


def fitted(line: str, start: int, out: TextIO) -> str:
    """`line` in as many as a terminal needs, each but the first from column `start` on."""
    width = os.get_terminal_size(out.fileno()).columns if out.isatty() else 0
    if width < max(NARROWEST, start + NARROWEST // 2) or len(line) <= width:
        return line
    whole = re.sub(r"`[^`]*`", lambda command: command[0].replace(" ", HELD), line)
    lines = wrap(whole, width, subsequent_indent=" " * start, break_long_words=False, break_on_hyphens=False)
    return "\n".join(lines).replace(HELD, " ")
