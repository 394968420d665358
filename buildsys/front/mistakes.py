"""What a wrong command line is answered with: one sentence, and the nearest of what there is."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from typing import Any

from doit.cmdparse import CmdParseError

from buildsys.errors import UserError
from buildsys.front.modes import PROGRESS

USAGE = 3  # the status, as doit has it: nothing was run


def told(error: Exception, command: Any) -> UserError:
    """What an exception of doit's says of the command line of one of its commands, in our words."""
    if isinstance(error, CmdParseError):
        return wrong_option(error, list(command.cmdparser.options))
    not_found = getattr(error, "not_found", None)
    said = re.sub(r"^ERROR: ?", "", str(error)).strip()
    found = re.match(r"'(.+)' is not a task\.", said)
    if not_found or found:
        tasks = [task.name for task in getattr(command, "task_list", None) or ()]
        return unknown_task(not_found or (found[1] if found else ""), tasks)
    if found := re.match(r"Could not find dodo file '(.+)'", said):
        return UserError(
            f"no project is here: there is no {found[1]}", "`buildsys new DIR` makes one; or go to one's folder"
        )
    first, _, rest = said.partition("\n")
    hint = " ".join(rest.split())
    return UserError(first.rstrip("."), hint[:1].lower() + hint[1:].rstrip("."))


def option_of(error: CmdParseError) -> str:
    """The option nobody knows, if that is what `error` says."""
    found = re.search(r"option (--?\S+) not recognized", str(error))
    return found[1] if found else ""


def wrong_option(error: CmdParseError, options: Sequence[Any]) -> UserError:
    """What doit says of an option, without the insides of its parser."""
    known = [f"--{option.long}" for option in options if option.long]
    if option := option_of(error):
        return UserError(f"there is no option {option}", _nearest(option, known, _few(known)))
    said = re.sub(r" \(parsing options: .*", "", str(error).strip(), flags=re.DOTALL)
    named = {option.name: option for option in options}
    longs = {name: f"--{option.long}" for name, option in named.items()}
    if found := re.match(r"Error parsing parameter '(\w+)'\. Provided '(.*?)' but available choices", said):
        name, value = found.groups()
        meant = os.environ.get(PROGRESS) == value and value not in sys.argv
        known = list(named[name].choices)
        return UserError(
            f"{PROGRESS if meant else longs[name]} cannot be {value!r}",
            _nearest(value, known, f"known: {', '.join(known)}"),
        )
    if found := re.match(r"Error parsing parameter '(\w+)' <class '(\w+)'>\.\n", said):
        value = re.search(r": ('.*')$", said[found.end() :], re.DOTALL)
        told = f"{longs.get(found[1], found[1])} takes a number" + (f", not {value[1]}" if value else "")
        return UserError(told, "`doit help` and the name of the task tell more")
    return UserError(re.sub(r"^Error parsing (Command|Task): ", "", said))


def _few(options: Sequence[str]) -> str:
    if len(options) > 5:
        return "`doit help run` shows the options"
    return f"known: {', '.join(options)}" if options else "the task has no options"


def unknown_task(name: str, tasks: list[str]) -> UserError:
    """That there is no task or target `name`, and the nearest of `tasks`."""
    hint = _nearest(name, tasks, "`doit list` shows the tasks")
    return UserError(f"there is no task or target {name!r}", hint)


def _nearest(name: str, known: Sequence[str], otherwise: str) -> str:
    from difflib import get_close_matches

    near = get_close_matches(name, known, 1)
    return f"did you mean `{near[0]}`?" if near else otherwise
