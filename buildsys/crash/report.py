"""The report of a crash, as data: what ended the run, where, why as far as that is known, and what else was seen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

from buildsys.config.board import Board
from buildsys.crash.context import Context, context
from buildsys.crash.facts import Stopped, facts
from buildsys.crash.goroutine import Goroutines
from buildsys.crash.hints import chosen, hints
from buildsys.crash.places import Places
from buildsys.crash.source import Source
from buildsys.crash.threads import served, threads
from buildsys.crash.unwind import Frame, Unwinder
from buildsys.crash.view import View
from buildsys.formats.elf import Elf
from buildsys.machines.snapshot import GENERAL, SYSTEM, Snapshot

FORMAT = 1
KEPT = 64  # frames at either end of a stack
OTHERS = 16  # frames of a goroutine that is not the one that failed
LAST = 4096  # bytes of serial output


@dataclass(frozen=True)
class Run:
    """What a report tells of the run: on which `machine`, how it `ended` in a sentence, what was sent last."""

    machine: str
    ended: str
    serial: bytes
    boots: int = 0


def report(
    snapshot: Snapshot,
    elf: Elf,
    board: Board,
    run: Run,
    roots: Sequence[tuple[str, Path]] = (),
    goroot: Path | None = None,
) -> dict[str, Any]:
    """The report of `snapshot`, in which the image `elf` ran on `board`; what stands for JSON."""
    view = View(snapshot, elf)
    places, source = Places(elf, board, view), Source(elf, roots, goroot)
    failed = context(snapshot, elf)
    unwinder = Unwinder(elf, view, source)
    inner = list(unwinder.frames(failed.registers, called=bool(failed.called)))
    thread = served(elf, view, failed.registers, inner[-1].function)
    below = [replace(each, served=not number) for number, each in enumerate(unwinder.frames(thread) if thread else ())]
    frames, left_out = _both_ends([*inner, *below])
    stopped = Stopped(snapshot, elf, board, view, places, failed, frames, run.boots)
    known = facts(stopped)
    hint = chosen(hints(), known)
    goroutines = Goroutines(elf, view)
    g = (thread or failed.registers).get("x28", 0)
    return {
        "format": FORMAT,
        "machine": run.machine,
        "board": board.name,
        "ended": run.ended,
        "cause": _cause(snapshot, failed, known.words),
        "places": _places(places, failed),
        "hint": None if hint is None else {"name": hint.name, "says": hint.says, "do": hint.do},
        "goroutine": goroutines.current(g),
        "frames": [frame_told(each, source) for each in frames],
        "frames_left_out": left_out,
        "goroutines": [] if not goroutines.of_program else list(_others(goroutines, unwinder, source, failed, g)),
        "threads": list(_threads(elf, source, snapshot)),
        "registers": {name: hex(failed.registers[name]) for name in (*GENERAL, *SYSTEM) if name in failed.registers},
        "serial": run.serial[-LAST:].decode("utf-8", "replace"),
    }


def _cause(snapshot: Snapshot, failed: Context, words: frozenset[str]) -> dict[str, Any]:
    """Why the code that failed could not go on, in words."""
    if failed.syndrome is not None:
        told = failed.syndrome
        return {
            "kind": "exception",
            "says": told.about(failed.address) if told.has_address else str(told),
            "class": told.kind,
            "syndrome": hex(told.value),
            "address": hex(failed.address) if told.has_address else None,
        }
    if failed.called:
        return {"kind": "dead end", "says": f"{failed.called.removesuffix('.abi0')} was called"}
    if snapshot.at is not None:
        return {"kind": "dead end", "says": str(snapshot.at)}
    return {"kind": "stopped", "says": "asleep in wfi" if "asleep" in words else "running"}


def _places(places: Places, failed: Context) -> dict[str, str]:
    found = {"pc": places.of(failed.registers["pc"]), "sp": places.stack(failed.registers["sp"])}
    if failed.syndrome is not None and failed.syndrome.has_address:
        found["address"] = places.of(failed.address)
    return found


def _both_ends(frames: list[Frame]) -> tuple[list[Frame], int]:
    """The innermost frames and the outermost, and how many between them are left out."""
    return [*frames[:KEPT], *frames[KEPT:][-KEPT:]], max(len(frames) - 2 * KEPT, 0)


def frame_told(frame: Frame, source: Source) -> dict[str, Any]:
    """One frame, as it stands in a report."""
    return {
        "pc": hex(frame.pc),
        "sp": hex(frame.sp),
        "function": frame.name,
        "offset": frame.offset,
        "guess": frame.guess,
        "served": frame.served,
        "lines": [
            {
                "function": each.function,
                "file": each.file,
                "line": each.line,
                "source": source.text(each),
                "inlined": each.inlined,
            }
            for each in frame.positions
        ],
    }


def _others(
    goroutines: Goroutines, unwinder: Unwinder, source: Source, failed: Context, g: int
) -> Iterator[dict[str, Any]]:
    """Every goroutine, with its frames but for the one that failed, that of `g`, whose frames are told already."""
    own = goroutines.of(g)
    for each in goroutines.all():
        stands = None if each.address in (own, g) else goroutines.stands(each, failed.registers)
        yield {
            "goroutine": each.number,
            "state": each.state,
            "failed": each.address == own,
            "frames": [frame_told(frame, source) for frame in islice(unwinder.frames(stands), OTHERS)]
            if stands
            else [],
        }


def _threads(elf: Elf, source: Source, snapshot: Snapshot) -> Iterator[dict[str, Any]]:
    """Every thread of a program: what it does, which goroutine it runs, where it stands in its process's memory."""

    @cache
    def seen(tables: int) -> tuple[Goroutines, Unwinder]:
        registers = {**snapshot.registers, "ttbr0_el1": tables}
        view = View(replace(snapshot, registers=registers), elf)
        return Goroutines(elf, view), Unwinder(elf, view, source)

    for each in threads(elf, View(snapshot, elf), snapshot.registers):
        goroutines, unwinder = seen(each.tables)
        yield {
            "thread": each.number,
            "process": each.process,
            "state": each.state,
            "runs": goroutines.current(each.registers["x28"]),
            "frames": [frame_told(frame, source) for frame in islice(unwinder.frames(each.registers), OTHERS)],
        }
