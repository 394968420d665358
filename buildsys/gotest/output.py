"""What a test program says: which tests began, went on and ended, and how.

Go's testing package puts a byte that no test is likely to write before each line of its own when asked to
(`-test.v=test2json`): src/testing/testing.go, marker. Where a test's line ends plays no part then.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from buildsys.gotest.signature import SIGNATURE

MARKER = "\x16"
PASS, FAIL, SKIP = "PASS", "FAIL", "SKIP"
_EVENT = re.compile(
    MARKER
    + r" *(?:=== (?P<step>RUN|PAUSE|CONT|NAME) *(?P<of>\S*)\n?"
    + r"|--- (?P<how>PASS|FAIL|SKIP|BENCH): (?P<ended>\S+)(?: \((?P<seconds>[\d.]+)s\))?\n?"
    + r"|(?P<final>PASS|FAIL)\n)"
)
_MEASURED = re.compile(r"^(?P<name>Benchmark\S*?)(?:-\d+)?\s+\d+\t", re.MULTILINE)


@dataclass
class Test:
    """A test, or a part of one, that ended."""

    name: str
    result: str
    seconds: float
    output: str = ""


@dataclass
class Said:
    """What arrived of one boot. `final` is the last word of the testing package, "" if it did not come to that.

    `running` are tests, not parts of such, that had begun and not ended, nor been put off. `last` is the one that
    ended last.
    """

    ended: list[Test] = field(default_factory=list)
    running: list[str] = field(default_factory=list)
    final: str = ""
    last: str = ""
    measured: set[str] = field(default_factory=set)


def top(name: str) -> str:
    """The test that `name`, a test or a part of one, is a part of."""
    return name.partition("/")[0]


def said(text: str) -> Said:
    """What `text`, all that a test program wrote, tells."""
    found = Said()
    outputs: dict[str, list[str]] = {}
    current, at = "", 0
    for event in _EVENT.finditer(text):
        outputs.setdefault(current, []).append(text[at : event.start()])
        at = event.end()
        step, name, ended = event["step"], event["of"] or "", event["ended"]
        if step:
            current = name
            if step == "PAUSE":
                _drop(found.running, name)
            elif step in ("RUN", "CONT") and top(name) == name:
                found.running.append(name)
        elif ended:
            current = ended
            _drop(found.running, ended)
            if event["how"] in (PASS, FAIL, SKIP):
                found.ended.append(Test(ended, event["how"], float(event["seconds"] or 0)))
                found.last = top(ended)
        else:
            found.final, current = event["final"], ""
    outputs.setdefault(current, []).append(text[at:])
    for test in found.ended:
        test.output = "".join(outputs.get(test.name, ()))
    found.measured = {top(each["name"]) for each in _MEASURED.finditer(text.replace(MARKER, ""))}
    found.running = [name for name in found.running if name not in found.measured]
    return found


class Shown:
    """What a person is shown of serial output: whole lines, without marks that are for programs."""

    def __init__(self) -> None:
        self._line = b""
        self._held = ""  # an empty line, which the supervisor sends before its last

    def add(self, data: bytes) -> str:
        """The lines that `data` completes."""
        *lines, self._line = (self._line + data).split(b"\n")
        return "".join(map(self._shown, lines))

    def end(self) -> str:
        """What is left when nothing more comes."""
        rest, self._line = self._line, b""
        return (self._shown(rest) if rest else "") + self._held

    def _shown(self, line: bytes) -> str:
        text = line.decode("utf-8", "replace").removesuffix("\r")
        if text.startswith(SIGNATURE) or text.removeprefix(MARKER).startswith("=== NAME "):
            self._held = "" if text.startswith(SIGNATURE) else self._held
            return ""
        shown, self._held = f"{self._held}{text.replace(MARKER, '')}\n", ""
        if line == b"\r":
            self._held, shown = shown, ""
        return shown


def _drop(names: list[str], name: str) -> None:
    while name in names:
        names.remove(name)
