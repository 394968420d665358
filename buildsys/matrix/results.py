"""What came of a matrix: a line for each row, as JSON and back, and several parts as one."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from buildsys.errors import UserError
from buildsys.matrix.rows import Row, Selection, Shard

FORMAT = 1
PASSED, FAILED, NOT_RUN = "passed", "failed", "not run"


@dataclass(frozen=True)
class CellVerdict:
    """What came of one cell: `held` of `claims` claims. `said` is what failed or is missing, `advice` what to do.

    `seconds` is what the check took when it was made, which was not now if it was `kept`.
    """

    result: str
    claims: int = 0
    held: int = 0
    seconds: float = 0.0
    said: tuple[str, ...] = ()
    advice: str = ""
    kept: bool = False


@dataclass(frozen=True)
class Line:
    """One row: the image, as far as it came, and a verdict for each emulator.

    `release` is Go's, `tool` what the assembler says of its version, `sites` the calls redirected by barrier
    function. `seconds` is what the build took when something had last to be made, None if nothing ever had: all came
    from a cache. (Go compiles for the first toolchain; the others find that kept.)
    """

    go: str
    toolchain: str
    verdicts: dict[str, CellVerdict]
    release: str = ""
    tool: str = ""
    sites: dict[str, int] = field(default_factory=dict)
    size: int = 0
    sha256: str = ""
    seconds: float | None = None

    @property
    def row(self) -> Row:
        """The row it is of."""
        return Row(self.go, self.toolchain)


def nothing(row: Row, emulators: Iterable[str], result: str, said: Sequence[str], advice: str = "") -> Line:
    """The line of a row that there is no image of."""
    return Line(
        row.go, row.toolchain, {name: CellVerdict(result, said=tuple(said), advice=advice) for name in emulators}
    )


@dataclass(frozen=True)
class Results:
    """A matrix, or a part of one. `sources` is a digest of the project that was built."""

    selection: Selection
    shard: Shard
    board: str
    sources: str
    tools: dict[str, str]
    lines: tuple[Line, ...]

    @property
    def cells(self) -> list[tuple[Line, str, CellVerdict]]:
        """(line, emulator, verdict) of every cell."""
        return [(line, name, line.verdicts[name]) for line in self.lines for name in self.selection.emulators]

    def count(self, result: str) -> int:
        """How many cells have that result."""
        return sum(verdict.result == result for _, _, verdict in self.cells)

    def to_json(self) -> str:
        """All of it."""
        stored = {"format": FORMAT, **asdict(self)}
        stored["selection"] = self.selection._asdict()
        stored["shard"] = str(self.shard)
        return json.dumps(stored, indent=1) + "\n"


def line_from(stored: dict[str, Any]) -> Line:
    """A line from its JSON. Raises KeyError, TypeError, ValueError."""
    verdicts = {
        str(name): CellVerdict(**{**each, "said": tuple(each["said"])}) for name, each in stored["verdicts"].items()
    }
    if any(each.result not in (PASSED, FAILED, NOT_RUN) for each in verdicts.values()):
        raise ValueError("no such result")
    return Line(**{**stored, "verdicts": verdicts})


def read(path: Path) -> Results:
    """The results in the file `path`. Raises UserError if it holds none."""
    try:
        stored = json.loads(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError):
        stored = None
    try:
        if stored["format"] != FORMAT:
            raise UserError(f"{path}: was written by another version of buildsys", "run that part again")
        number, count = map(int, stored["shard"].split("/"))
        found = Results(
            Selection(**{name: tuple(each) for name, each in stored["selection"].items()}),
            Shard(number, count),
            str(stored["board"]),
            str(stored["sources"]),
            {str(name): str(version) for name, version in dict(stored["tools"]).items()},
            tuple(map(line_from, stored["lines"])),
        )
        if any(line.verdicts.keys() != set(found.selection.emulators) for line in found.lines):
            raise ValueError("not every emulator")
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{path}: is no result of `doit matrix`", "that writes build/matrix.json") from None
    return found


def merge(parts: Sequence[tuple[Path, Results]]) -> Results:
    """The parts, each from a file, as one. Raises UserError unless they are all the parts of one matrix."""
    path, first = parts[0]
    found: dict[Row, Line] = {}
    origin: dict[Row, Path] = {}
    tools: dict[str, str] = {}
    for other, part in parts:
        for what, here, there in (
            ("another selection", first.selection, part.selection),
            ("another board", first.board, part.board),
            ("other sources", first.sources, part.sources),
            ("another number of parts", first.shard.parts, part.shard.parts),
        ):
            if here != there:
                raise UserError(f"{path} and {other}: are not of one matrix: {what}", "run both anew from one checkout")
        for line in part.lines:
            if line.row in found:
                raise UserError(f"{origin[line.row]} and {other}: both have Go {line.go} with {line.toolchain}")
            found[line.row], origin[line.row] = line, other
        for name, version in part.tools.items():
            known = tools.setdefault(name, version)
            tools[name] = known if version in known.split(", ") else f"{known}, {version}"
    numbers = {part.shard.number for _, part in parts}
    needed = [Shard(number, first.shard.parts) for number in range(1, first.shard.parts + 1)]
    if lacking := [str(each) for each in needed if each.number not in numbers]:
        raise UserError(f"no file has part {', '.join(lacking)}", "run `doit matrix --shard I/N` for it, and merge all")
    rows = first.selection.rows
    if absent := [row for row in rows if row not in found]:
        raise UserError(f"no file has Go {absent[0].go} with {absent[0].toolchain}", "run that part again")
    return Results(first.selection, Shard(1, 1), first.board, first.sources, tools, tuple(found[row] for row in rows))
