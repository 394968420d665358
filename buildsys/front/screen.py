"""The one calm screen of `doit watch`: a frame of lines, of which only those that changed are written.

The alternate screen is used, so that what was there before comes back. Colours are the
terminal's own sixteen, none of them as a background: they are made for it, light or dark.
"""

from __future__ import annotations

import os
import re
import sys
import termios
import time
import tty
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from buildsys.cache.action import BUILT
from buildsys.front.cycle import Cycle
from buildsys.front.follow import STEPS
from buildsys.machines.outcome import End
from buildsys.proof.claim import Result

ENTER, LEAVE = "\x1b[?1049h\x1b[?25l\x1b[2J", "\x1b[?25h\x1b[?1049l"
# Terminals that know it show what is between these at once; the others ignore it.
TOGETHER, SHOWN = "\x1b[?2026h", "\x1b[?2026l"
KEYS = (("r", "rerun"), ("v", "verify all"), ("g", "wait for gdb"), ("q", "quit"))
STYLES = {"passed": "bold green", "failed": "bold red", "superseded": "dim"}
NAME = 10  # columns
DETAILS = 5
LOW = 14  # lines: a screen with fewer has no room for what the keys are


@dataclass(frozen=True)
class View:
    """What is to be seen."""

    cycle: Cycle | None
    about: str
    keys: bool
    note: str = ""
    debugging: str = ""
    debugged: str = ""


class Screen:
    """The terminal, from enter() to leave()."""

    def __init__(self, keys: bool) -> None:
        self._output = sys.stdout.fileno()
        self._input = sys.stdin.fileno() if keys else -1
        self._before: list[Any] | None = None
        self._shown: list[str] = []
        self._size = (0, 0)
        self._console = Console(force_terminal=True, highlight=False, emoji=False, markup=False, soft_wrap=False)

    def enter(self) -> None:
        """Take the terminal: the alternate screen, no cursor; keys come one by one and are not shown."""
        if self._input >= 0:
            self._before = termios.tcgetattr(self._input)
            tty.setcbreak(self._input, termios.TCSADRAIN)
        self._shown = []
        self._write(ENTER)

    def leave(self) -> None:
        """Give it back as it was."""
        with suppress(OSError):
            self._write(SHOWN + LEAVE)
        if self._before is not None:
            with suppress(termios.error):
                # Keys typed since were for us.
                termios.tcsetattr(self._input, termios.TCSAFLUSH, self._before)
            self._before = None

    def draw(self, view: View) -> None:
        """Show `view`. Raises OSError if the terminal is gone."""
        try:
            width, height = os.get_terminal_size(self._output)
        except OSError:
            width, height = 80, 24
        width, height = width or 80, height or 24
        if (width, height) != self._size:
            self._size, self._shown = (width, height), []
        lines = self._render(frame(view, width, height), width)[:height]
        lines += [""] * (height - len(lines))
        if changed := [at for at, line in enumerate(lines) if at >= len(self._shown) or self._shown[at] != line]:
            clear = "" if self._shown else "\x1b[2J"
            self._write(TOGETHER + clear + "".join(f"\x1b[{at + 1}H{lines[at]}\x1b[K" for at in changed) + SHOWN)
        self._shown = lines

    def _render(self, texts: Sequence[Text], width: int) -> list[str]:
        self._console.width = width  # what it finds out by itself need not be this terminal
        with self._console.capture() as capture:
            for text in texts:
                self._console.print(text, width=width, no_wrap=True, overflow="crop", crop=True)
        return capture.get().split("\n")[:-1]

    def _write(self, text: str) -> None:
        data = text.encode(errors="replace")
        while data:
            data = data[os.write(self._output, data) :]


def frame(view: View, width: int, height: int) -> list[Text]:
    """The lines of the screen, each no wider than `width`."""
    lines = _lines(view, width, height)[:height]
    for line in lines:
        line.truncate(width)
    return lines


def _lines(view: View, width: int, height: int) -> list[Text]:
    foot = _foot(view, width) if height >= LOW else []
    if view.cycle is None:
        return [Text("starting", "dim"), *[Text()] * (height - 1 - len(foot)), *foot]
    top = [*_head(view.cycle, view.about, width), Text(), *_table(view, width)]
    room = max(0, height - len(top) - len(foot))
    middle = _trouble(view.cycle, width, room)
    if (left := room - len(middle)) > 2:
        middle += _serial(view, width, left - min(len(told := _barriers(view.cycle)), left // 2))
        middle += told[: room - len(middle)]
    middle += [Text()] * (room - len(middle))
    return [*top[: height - len(foot)], *middle[:room], *foot]


def _head(cycle: Cycle, about: str, width: int) -> list[Text]:
    state, where = cycle.state, cycle.failed_in
    if where == "restart":
        word, style = "restart needed", "bold yellow"
    elif where:
        word, style = f"failed: {where}", STYLES["failed"]
    elif state in STYLES:
        word, style = state, STYLES[state]
    else:
        word, style = f"{cycle.doing[0] or state}…", "bold"
    seconds = (cycle.decided or time.monotonic()) - cycle.began
    left = Text.assemble(("● " + word, style), (f"  {seconds:.2f} s" if cycle.decided else f"  {seconds:.0f} s", ""))
    changed = ", ".join(cycle.changed) or ("run again" if cycle.number > 1 else "as it was")
    return [_ends(left, Text(about, "dim"), width), Text(_cut("  " + plain(changed), width), "dim")]


def _table(view: View, width: int) -> list[Text]:
    cycle = view.cycle
    assert cycle is not None
    done = {stage.name: stage for stage in cycle.stages}
    rows = []
    for name in STEPS:
        if name in done:
            stage = done[name]
            came = "" if stage.origin == BUILT else f"; {stage.origin}"
            rows.append(_row(name, stage.reason + came, f"{stage.seconds:.2f} s", width))
        elif cycle.failure is not None and cycle.failure.where == name:
            rows.append(_row(name, "failed", "", width, "red"))
        elif cycle.doing[0] == name and not cycle.failure:
            rows.append(_row(name, "…", "", width))
        elif cycle.failure is not None or not cycle.built:
            rows.append(_row(name, "", "", width, "dim"))
        else:
            rows.append(_row(name, "up to date", "", width, "dim"))
    if cycle.outcome is not None:
        style = "" if cycle.ran_well else "red"
        rows.append(_row("run", f"{cycle.machine}: {cycle.ended()}", f"{cycle.outcome.seconds:.2f} s", width, style))
    else:
        running = f"{cycle.machine}…" if cycle.built and not cycle.failure else ""
        rows.append(_row("run", running, "", width, "" if running else "dim"))
    said, style, seconds = _claims(view)
    rows.append(_row("claims", said, seconds, width, style))
    return rows


def _claims(view: View) -> tuple[str, str, str]:
    """What is known of the claims, its style, and the time it took."""
    cycle = view.cycle
    assert cycle is not None
    if not cycle.lines:
        return ("…" if cycle.checking else "", "dim", "")
    holding, missing = len(cycle.named(Result.PASSED)), cycle.named(Result.NOT_RUN)
    parts = [f"{holding} of {len(cycle.claims)} hold"]
    parts += [f"{len(cycle.false)} false"] if cycle.false else []
    parts += [f"not run: {', '.join(missing)}"] if missing else []
    if pending := len(cycle.checking):
        parts.append(f"{pending} being checked")
    if open_ := len(set(cycle.unchecked) - {cycle.claims[number] for number in cycle.checking}):
        parts.append(f"{open_} not checked" + (" (v)" if view.keys else ""))
    seconds = sum(line.seconds for line in cycle.lines.values())
    return "; ".join(parts), "red" if cycle.false else "", f"{seconds:.2f} s"


def _trouble(cycle: Cycle, width: int, room: int) -> list[Text]:
    """What failed, or what a tool warned of, in at most `room` lines."""
    lines: list[Text] = []
    if cycle.failure is not None:
        lines += _message(cycle.failure.error.message, width)
        lines += [Text(), *_wrap("→ " + cycle.failure.error.hint, width)] if cycle.failure.error.hint else []
    if cycle.outcome is not None and (not cycle.ran_well or cycle.outcome.end not in (End.EXIT, End.SAID)):
        for detail in cycle.details():
            lines += _wrap(detail, width)
    for line in cycle.false:
        lines += [Text(), *_wrap(f"{line.claim.name} does not hold: {line.claim.title}", width, "red")]
        for detail in line.verdict.details[:DETAILS]:
            lines += _wrap("  " + detail, width)
        if len(line.verdict.details) > DETAILS:
            lines.append(Text(f"  … `doit verify --claim {line.claim.name}` shows the rest", "dim"))
        lines += _wrap(f"  → {line.verdict.advice}", width) if line.verdict.advice else []
    for stage in cycle.stages:
        lines += _message(stage.said, width)
    if not lines:
        return []
    lines = [Text(), *lines] if lines[0].plain else lines
    if len(lines) > room:
        hidden = len(lines) - room + 1
        lines = [*lines[: max(0, room - 1)], Text(f"… {hidden} more lines", "dim")]
    return lines


def _message(message: str, width: int) -> list[Text]:
    """A tool's words, with the places they name picked out."""
    lines: list[Text] = []
    for line in message.splitlines():
        for text in _wrap(line, width):
            if found := re.match(r"\s*[^\s:]+:\d+(:\d+)?(?=:)", text.plain):
                text.stylize("bold", *found.span())
            lines.append(text)
    return lines


def _barriers(cycle: Cycle) -> list[Text]:
    """What the barrier policy kept of the run."""
    return [Text(), *(Text(line) for line in cycle.barriers.lines)] if cycle.barriers is not None else []


def _serial(view: View, width: int, room: int) -> list[Text]:
    """The end of the serial output, in at most `room` lines, with a heading."""
    cycle = view.cycle
    assert cycle is not None
    text = view.debugged if view.debugging else cycle.serial
    if not text:
        return []
    raw = text.rstrip("\n").split("\n")
    rows: list[Text] = []
    for line in reversed(raw[-room:]):
        rows = [*_folded(line, width), *rows]
        if len(rows) >= room:
            break
    shown = min(len(rows), room - 2)
    above = "" if shown == len(rows) and len(raw) <= room else ", the end of it"
    title = f" {'QEMU, for gdb' if view.debugging else 'serial output'}{above} "
    return [Text(), Text("──" + title + "─" * max(0, width - 2 - cell_len(title)), "dim"), *rows[len(rows) - shown :]]


def _foot(view: View, width: int) -> list[Text]:
    lines = [Text()]
    if view.debugging:
        lines += [Text.assemble(("QEMU waits for ", ""), (view.debugging, "bold"))]
    if view.note:
        lines += _wrap(view.note, width, "yellow")[:2]
    if view.keys:
        keys = Text("  ").join(Text.assemble((key, "bold"), (" " + what, "dim")) for key, what in KEYS)
        lines.append(keys)
    else:
        lines.append(Text("Ctrl-C ends it", "dim"))
    return lines


def _row(name: str, what: str, seconds: str, width: int, style: str = "") -> Text:
    room = max(0, width - NAME - 2 - len(seconds) - 1)
    return Text.assemble(
        (f"  {name:{NAME}}", "dim" if style == "dim" else ""),
        (set_cell_size(_cut(plain(what), room), room), style),
        (f" {seconds}"[: max(0, width - NAME - 2)], "dim"),
    )


def _ends(left: Text, right: Text, width: int) -> Text:
    gap = width - left.cell_len - right.cell_len
    return Text.assemble(left, " " * gap, right) if gap >= 2 else left


def _cut(text: str, width: int) -> str:
    return text if cell_len(text) <= width else set_cell_size(text, max(0, width - 1)) + "…"


def _wrap(text: str, width: int, style: str = "") -> list[Text]:
    """`text` in lines of at most `width` columns, broken between words, the later ones indented as the first."""
    rest = plain(text)
    indent = rest[: min(len(rest) - len(rest.lstrip()), width // 4)]
    lines = []
    while cell_len(rest) > width:
        piece = _fitting(rest, width)
        space = piece.rfind(" ")
        if rest[len(piece)] != " " and space > width // 2:
            piece = piece[:space]
        lines.append(Text(piece, style))
        rest = indent + rest[len(piece) :].lstrip(" ")
        if len(piece) <= len(indent):
            break  # no width for anything
    return [*lines, Text(rest, style)]


def _folded(text: str, width: int) -> list[Text]:
    """`text` in lines of at most `width` columns, broken wherever they are full."""
    rest, lines = plain(text), []
    while cell_len(rest) > width and (piece := _fitting(rest, width)):
        lines.append(Text(piece))
        rest = rest[len(piece) :]
    return [*lines, Text(rest)]


def _fitting(text: str, width: int) -> str:
    """The beginning of `text` that has at most `width` columns."""
    piece = text[:width]
    while cell_len(piece) > width:
        piece = piece[:-1]
    return piece


def plain(text: str) -> str:
    """`text` without what a terminal would obey: escape sequences are left out, other controls shown as dots."""
    text = re.sub(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)?|.)?", "", text)
    return re.sub(r"[\x00-\x08\x0a-\x1f\x7f-\x9f]", "·", text).expandtabs(4)
