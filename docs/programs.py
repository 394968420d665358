"""What docs/programs.md shows of programs: the picture of an image, the table of system calls, runs."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import escape

import buildsys
from buildsys.config.project import load
from buildsys.formats.elf import Elf
from buildsys.front.new import new
from buildsys.front.steps import Steps
from buildsys.proof.programs import is_program

ROOT = Path(__file__).parent.parent
SERVED = re.compile(r"^\tcall\w+\s+= (\d+)\s*// (.*)$", re.MULTILINE)
NAMES = re.compile(r'^\t(\d+):\s+"(\w+)",$', re.MULTILINE)

WIDE, HIGH, EDGE = 760, 452, 20  # of the picture, in pixels; y grows downwards
STYLE = """
 text { font: 12px system-ui, sans-serif; fill: #1c2530; }
 .paper { fill: #ffffff; } .title { font: 600 14px system-ui, sans-serif; }
 .quiet { fill: #5b6675; font-size: 11px; } .code { font: 11px ui-monospace, "DejaVu Sans Mono", monospace; }
 .program { fill: #e3edfa; stroke: #4a7ab8; } .ours { fill: #e6f4ea; stroke: #2e7d4f; }
 .machine { fill: #f4f6f9; stroke: #b8c2cf; } .way { fill: none; stroke: #8a97a6; stroke-width: 1.5; }
"""


def system_calls() -> str:
    """Every system call that is served, by number, from the supervisor's source."""
    folder = ROOT / "src" / "supervisor"
    names = dict(NAMES.findall((folder / "names.go").read_text("utf-8")))
    rows = ["| number | system call | what a program gets |", "|---|---|---|"]
    served = SERVED.findall((folder / "calls.go").read_text("utf-8"))
    rows += [f"| {number} | `{names[number]}` | {said} |" for number, said in served]
    return "\n".join(rows)


def hello(command: str, shown: str = "") -> str:
    """What a doit command prints in a project that `buildsys new --program` wrote; only lines that match `shown`."""
    with tempfile.TemporaryDirectory(prefix="buildsys-docs-") as folder:
        project = Path(folder, "hello")
        new(project, program=True)
        doit = [str(Path(sys.executable).with_name("doit"))]
        subprocess.run([*doit, "build"], cwd=project, check=True, capture_output=True)
        done = subprocess.run(
            [*doit, *command.split()], cwd=project, check=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
    lines = [line.rstrip() for line in done.stdout.splitlines() if re.match(shown, line)]
    return "\n".join(["```", f"$ doit {command}", *(["…"] if shown else []), *lines, "```"])


def source() -> str:
    """The program of `buildsys new --program`."""
    text = (Path(buildsys.__file__).parent / "starter" / "program" / "main.go").read_text("utf-8")
    return f"```go\n{text.rstrip()}\n```"


class _Parts(NamedTuple):
    """Bytes of code in an image: of Go's in the program, of the supervisor's own, of our assembly."""

    program: int
    supervisor: int


def _parts(elf: Elf) -> _Parts:
    """Only what of the supervisor's object is its own: the runtime beside it never runs."""
    functions = elf.symbols.functions()
    own = ("main.", "kernel/", "supervisor.")
    return _Parts(
        sum(each.size for each in functions if is_program(each.name)),
        sum(each.size for each in functions if each.name.startswith(own)),
    )


def picture() -> str:
    """An image with a program: who asks whom for what, with the sizes of the starter's image; SVG."""
    with tempfile.TemporaryDirectory(prefix="buildsys-docs-") as folder:
        root = Path(folder, "hello")
        new(root, program=True)
        steps = Steps(load(root))
        for make in (steps.compile, steps.runtime, steps.link, steps.patch):
            steps.records.perform(make())
        parts = _parts(Elf.read(steps.image))
        board = steps.project.board
    inner = WIDE - 2 * EDGE
    half = (inner - EDGE) // 2
    devices = ", ".join(["pl011", *(each.model for each in board.devices)])
    rows = [
        _box("program", EDGE, 44, inner, 84, "the program: main.main, its packages, Go's runtime, unchanged",
             f"{parts.program // 1024} KiB of code, EL1 on SP_EL0, interrupts on; threads, stacks and heap "
             "at 1<<38 and above, a page when it is first touched"),
        _text(EDGE + 14, 112, "svc #0 · data and instruction aborts · loads and stores of device registers", "code"),
        _box("ours", EDGE, 176, inner, 62, "exception vectors: supervisor.s",
             "save x0-x30, sp, pc, v0-v31 of the thread; SP_EL1; interrupts masked; main.trap"),
        _box("ours", EDGE, 266, half, 92, "src/supervisor: a bare Go kernel",
             f"{parts.supervisor // 1024} KiB of code of its own, no heap, no goroutine",
             "calls, memory, threads and futexes, signals, files, clocks"),
        _box("ours", EDGE * 2 + half, 266, half, 92, "the barriers of both",
             "the supervisor's: discard", 'the program\'s: Go\'s own, or counted and passed on'),
        _box("machine", EDGE, 390, inner, 44, f"the board {board.name}: {devices}", ""),
        _way(EDGE + 40, 128, 176, "system calls, faults"), _way(EDGE + 300, 128, 176, "timer: preemption"),
        _way(EDGE + 100, 238, 266, ""), _way(EDGE + 100, 358, 390, "serial port, clock, random numbers"),
        _way(WIDE - EDGE - 60, 176, 128, ""),
        _text(WIDE - EDGE - 236, 156, "back: eret, signal frames", "quiet"),
    ]  # fmt: skip
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDE} {HIGH}" width="{WIDE}" height="{HIGH}">'
    return "\n".join(
        [
            head,
            f"<style>{STYLE}</style>",
            f'<rect class="paper" width="{WIDE}" height="{HIGH}"/>',
            _text(EDGE, 28, "An ordinary Go program on the bare machine", "title"),
            *rows,
            "</svg>\n",
        ]
    )


def _box(style: str, x: int, y: int, wide: int, high: int, title: str, *said: str) -> str:
    lines = [
        f'<rect class="{style}" x="{x}" y="{y}" width="{wide}" height="{high}" rx="6"/>',
        _text(x + 14, y + 24, title),
    ]
    lines += [_text(x + 14, y + 44 + 17 * at, line, "quiet") for at, line in enumerate(said) if line]
    return "\n".join(lines)


def _text(x: int, y: int, text: str, style: str = "") -> str:
    return f'<text x="{x}" y="{y}"{f" class={chr(34)}{style}{chr(34)}" if style else ""}>{escape(text)}</text>'


def _way(x: int, top: int, bottom: int, said: str) -> str:
    tip = -7 if top < bottom else 7
    arrow = f'<path class="way" d="M{x} {top}V{bottom}m-4 {tip}l4 {-tip}l4 {tip}"/>'
    return f"{arrow}\n{_text(x + 8, (top + bottom) // 2 + 4, said, 'quiet')}" if said else arrow
