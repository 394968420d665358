"""A crash on disk: `build/crash/IDENTITY/`, with all that it takes to look at it again.

| file | what |
|---|---|
| `kernel.elf` | the image |
| `core` | memory and registers, as gdb reads them |
| `registers.json` | every register, and what the machine had come to |
| `report.json`, `report.txt` | what was made of it |
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from buildsys.crash.context import Context
from buildsys.crash.goroutine import Goroutines
from buildsys.crash.text import whole
from buildsys.crash.view import View
from buildsys.errors import UserError
from buildsys.files import replace, share
from buildsys.formats.core import Piece, core
from buildsys.formats.elf import Elf
from buildsys.formats.identity import SHOWN, identity
from buildsys.machines.snapshot import Snapshot

IMAGE, CORE, REGISTERS, REPORT, TEXT = "kernel.elf", "core", "registers.json", "report.json", "report.txt"
CRASHES = "crash"
KEPT = 8  # crashes, the newest


def save(build: Path, image: Path, snapshot: Snapshot, failed: Context, found: Mapping[str, Any]) -> Path:
    """Write a crash of `image` below `build`; returns its folder. Raises OSError."""
    elf = Elf.mapped(image)
    folder = build / CRASHES / (identity(elf).hex()[:SHOWN] or "unknown")
    folder.mkdir(parents=True, exist_ok=True)
    share(image, folder / IMAGE)
    replace(folder / CORE, *core(threads(snapshot, elf, failed), pieces(snapshot, elf)))
    at = None if snapshot.at is None else {"name": snapshot.at.name, "meaning": snapshot.at.meaning}
    registers = {name: hex(value) for name, value in snapshot.registers.items()}
    replace(folder / REGISTERS, _json({"at": at, "registers": registers}))
    replace(folder / TEXT, ("\n".join(whole(found)) + "\n").encode())
    replace(folder / REPORT, _json({"identity": identity(elf).hex(), "image": str(image), **found}))
    _forget(folder.parent)
    return folder


def threads(snapshot: Snapshot, elf: Elf, failed: Context) -> list[tuple[int, dict[str, int]]]:
    """The code that failed, and each other goroutine of a program with its number, where it goes on."""
    goroutines = Goroutines(elf, View(snapshot, elf))
    every = list(goroutines.all())
    g = failed.registers.get("x28", 0)
    own = next((each.number for each in every if each.address == g), 0)
    # What fails on no goroutine gets a number that none has.
    number = own or (max((each.number for each in every), default=-1) + 1)
    others = [(each.number, goroutines.stands(each, failed.registers)) for each in every if each.number != own]
    return [(number, failed.registers), *((other, stands) for other, stands in others if stands)]


def pieces(snapshot: Snapshot, elf: Elf) -> list[Piece]:
    """The RAM of a machine by the addresses its kernel knew it by; by its own if it translated none."""
    view = View(snapshot, elf)
    found = []
    for start, data in snapshot.memory.items():
        end = start + len(data)
        if not view.mapped:
            found.append(Piece(start, start, data))
        for each in view.mapped:
            low = max(start, each.physical)
            high = min(end, each.physical + each.end - each.start)
            if low < high:
                found.append(Piece(low - each.physical + each.start, low, data[low - start : high - start]))
    return sorted(found)


def chosen(build: Path, named: str) -> Path:
    """The folder of the crash `named`: a folder, or the beginning of an identity; else the newest. Raises UserError."""
    given = Path(named)
    if named and (given / REPORT).is_file():
        return given
    known = crashes(build)
    if not known:
        raise UserError(
            f"{build / CRASHES}: no crash was kept", "one is whenever a run fails: `doit run`, `doit run-qemu`"
        )
    if not named:
        return known[0]
    meant = [each for each in known if each.name.startswith(named)]
    if len(meant) != 1:
        listed = ", ".join(each.name for each in known)
        raise UserError(f"{'there is no' if not meant else 'several are a'} crash {named!r}", f"known: {listed}")
    return meant[0]


def crashes(build: Path) -> list[Path]:
    """The folders of crashes below `build`, the newest first."""
    found = [(each.stat().st_mtime_ns, each.parent) for each in (build / CRASHES).glob(f"*/{REPORT}")]
    return [folder for _, folder in sorted(found, reverse=True)]


def read_report(folder: Path) -> dict[str, Any]:
    """The report in `folder`. Raises UserError if it cannot be read."""
    try:
        found: dict[str, Any] = json.loads((folder / REPORT).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{folder / REPORT}: cannot be read: {error}") from error
    return found


def refuse_other(folder: Path, told: Mapping[str, Any]) -> None:
    """Raise UserError if the image in `folder` is not the one that the report is about."""
    carried = identity(Elf.read(folder / IMAGE)).hex()
    if carried != told["identity"]:
        raise UserError(
            f"{folder / IMAGE} has {f'the identity {carried[:SHOWN]}' if carried else 'no identity'}, "
            f"and the crash is of {told['identity'][:SHOWN]}",
            "give the folder of a crash as it was written",
        )


def _forget(folder: Path) -> None:
    """Remove all but the newest crashes."""
    for each in crashes(folder.parent)[KEPT:]:
        with suppress(OSError):
            shutil.rmtree(each)


def _json(value: object) -> bytes:
    return json.dumps(value, indent=1).encode() + b"\n"
