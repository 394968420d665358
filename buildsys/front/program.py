"""The command `buildsys`: what is done where there is no dodo.py. Everything else is a task of doit's."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from buildsys.errors import UserError
from buildsys.front import patching


def main(arguments: Sequence[str] | None = None) -> int:
    """What the script `buildsys` calls. Returns the exit status."""
    chosen = _parser().parse_args(arguments)
    try:
        status: int = chosen.perform(chosen)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        from buildsys.front.command import HUNG_UP, hang_up

        hang_up()
        return HUNG_UP
    return status


class _Parser(argparse.ArgumentParser):
    """argparse's, with its complaints in the words of all others."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, and end with argparse's own status."""
        if chosen := re.match(r"argument COMMAND: invalid choice: '(.*?)'", message):
            from buildsys.config.toml import nearest

            hint = nearest(chosen[1], ("new", "patch", "doctor", "completion"))
            message = f"there is no command {chosen[1]!r}"
        else:
            hint = f"`{self.prog} --help` shows what can be said"
        print(f"error: {UserError(message, hint)}", file=sys.stderr)
        raise SystemExit(2)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="buildsys", description="Bare-metal AArch64 images from Go packages.")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    making = commands.add_parser("new", help="write a small kernel, ready to build, to a new folder")
    making.add_argument("folder", metavar="DIR", type=Path, help="a folder that does not exist yet, or an empty one")
    making.add_argument("--program", action="store_true", help="an ordinary Go program, with all of Go's runtime")
    making.add_argument("--board", metavar="NAME", default="", help="the board it is for (default: qemu-virt)")
    making.set_defaults(perform=_new)
    patched = commands.add_parser("patch", help=patching.HELP)
    patching.add(patched)
    patched.set_defaults(perform=patching.perform)
    examining = commands.add_parser("doctor", help="say of every tool what is there and what is wanted")
    examining.add_argument("--json", action="store_true", help="everything, as JSON")
    examining.set_defaults(perform=_doctor)
    completing = commands.add_parser("completion", help="print what makes bash, zsh or fish complete commands")
    completing.add_argument("shell", metavar="SHELL", help="bash, zsh or fish")
    completing.set_defaults(perform=_completion)
    answering = commands.add_parser("complete")  # asked by those scripts, not by people: it has no help
    answering.add_argument("line")
    answering.set_defaults(perform=_complete)
    return parser


def _new(chosen: argparse.Namespace) -> int:
    from buildsys.front.new import new

    for path in new(chosen.folder, chosen.program, chosen.board):
        print(path)
    print(f"\nIt builds and boots: cd {chosen.folder}; doit run; doit verify", flush=True)
    return 0


def _doctor(chosen: argparse.Namespace) -> int:
    from buildsys.front.doctor import anywhere

    failed = anywhere(Path(), chosen.json)
    if failed is None:
        return 0
    print(f"error: {failed.message}", file=sys.stderr)
    return 1


def _completion(chosen: argparse.Namespace) -> int:
    from buildsys.front.completion import script

    print(script(chosen.shell), end="", flush=True)
    return 0


def _complete(chosen: argparse.Namespace) -> int:
    from buildsys.front.completion import answer

    for line in answer(chosen.line, _parser()):
        print(line)
    sys.stdout.flush()
    return 0
