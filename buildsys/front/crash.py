"""After a run that failed: why, in a few lines, and all of it kept; `doit crash [DIR]` shows that again."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from buildsys.errors import UserError
from buildsys.front.reporter import Failed
from buildsys.front.steps import Steps
from buildsys.machines.outcome import End, Outcome


def explain(steps: Steps, outcome: Outcome, machine: str, ended: str) -> None:
    """Say on stderr why the run failed, if the machine was kept, and keep what there is to see."""
    snapshot = outcome.snapshot
    if snapshot is None or outcome.end in (End.INTERRUPTED, End.EMULATOR):
        return
    from buildsys.crash.context import context
    from buildsys.crash.folder import save
    from buildsys.crash.report import Run, report
    from buildsys.crash.text import short
    from buildsys.formats.elf import Elf

    elf, project = Elf.mapped(steps.image), steps.project
    run = Run(machine, ended, outcome.serial, outcome.boots)
    found = report(snapshot, elf, project.board, run, roots(steps), steps.go.root)
    print("\n".join(short(found)), file=sys.stderr)
    try:
        folder = save(project.build, steps.image, snapshot, context(snapshot, elf), found)
    except OSError as error:
        print(f"warning: the crash could not be kept: {error.filename}: {error.strerror}", file=sys.stderr)
        return
    print(f"{folder}: all of it; `doit crash` shows it, `doit debug --crash {folder}` opens it in gdb", file=sys.stderr)


def roots(steps: Steps) -> list[tuple[str, Path]]:
    """The modules whose sources are here, and their folders."""
    from buildsys.config.project import shipped
    from buildsys.machines.gdb_startup import modules

    supervisor = modules(shipped("src")) if steps.project.program else []
    return [*modules(steps.project.package), *supervisor]


def crash(steps: Steps, names: list[str], as_json: bool) -> Failed | None:
    """Show the report of a crash: of the folder or identity named, else of the newest."""
    from buildsys.crash.folder import chosen, read_report
    from buildsys.crash.text import whole

    if len(names) > 1:
        return Failed("`doit crash` shows one crash: name one folder, or none for the newest")
    try:
        folder = chosen(steps.project.build, names[0] if names else "")
        found = read_report(folder)
    except UserError as error:
        return Failed(error)
    print(json.dumps(found, indent=1) if as_json else "\n".join([f"{folder}", *whole(found)]), flush=True)
    return None


def debug_crash(steps: Steps, named: str) -> int:
    """gdb on the crash `named`; its exit status. Raises UserError."""
    from buildsys.crash.folder import CORE, IMAGE, chosen, read_report, refuse_other
    from buildsys.machines.gdb import inspect

    folder = chosen(steps.project.build, named)
    refuse_other(folder, read_report(folder))
    return inspect(folder / IMAGE, folder / CORE, steps.project.package, steps.go.root)
