"""The command `buildsys`: what is done where there is no dodo.py. Everything else is a task of doit's."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from buildsys.errors import UserError
from buildsys.front import patching


def main(arguments: Sequence[str] | None = None) -> int:
    """What the script `buildsys` calls. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="buildsys", description="Bare-metal AArch64 images from Go packages.")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    making = commands.add_parser("new", help="write a small kernel, ready to build, to a new folder")
    making.add_argument("folder", metavar="DIR", type=Path, help="a folder that does not exist yet, or an empty one")
    making.add_argument("--program", action="store_true", help="an ordinary Go program, with all of Go's runtime")
    making.set_defaults(perform=_new)
    patched = commands.add_parser("patch", help=patching.HELP)
    patching.add(patched)
    patched.set_defaults(perform=patching.perform)
    examining = commands.add_parser("doctor", help="say of every tool what is there and what is wanted")
    examining.add_argument("--json", action="store_true", help="everything, as JSON")
    examining.set_defaults(perform=_doctor)
    chosen = parser.parse_args(arguments)
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


def _new(chosen: argparse.Namespace) -> int:
    from buildsys.front.new import new

    for path in new(chosen.folder, chosen.program):
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
