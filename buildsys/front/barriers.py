"""After a run: what the barrier policy kept, as a table on the terminal, and all of it in build/barriers.json."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from buildsys import files
from buildsys.barriers.kept import VARIABLES, Kept
from buildsys.config.barrier import COUNT, RECORD, USER
from buildsys.config.project import Project
from buildsys.formats.elf import Elf
from buildsys.machines.outcome import Outcome

if TYPE_CHECKING:
    from buildsys.go.runtime import Plan

FORMAT = 1
SHOWN = 20
REPORT = "barriers.json"


@dataclass(frozen=True)
class Barriers:
    """What is told of a run: in a few `lines`, and all of it, to be written to `report`; None if nothing is known."""

    report: Path
    lines: tuple[str, ...]
    contents: bytes | None

    def written(self) -> list[str]:
        """The lines, and where all of it now is."""
        if self.contents is None:
            self.report.unlink(missing_ok=True)
            return list(self.lines)
        files.replace(self.report, self.contents)
        return [*self.lines, f"{self.report}: all of it"]


class Reporting:
    """What is to be read of a run of `image`, and what is made of it."""

    def __init__(self, project: Project, image: Path, runtime: Path, machine: str) -> None:
        self._policy, self._image, self._machine = project.barrier, image, machine
        self._runtime, self._report = runtime, project.build / REPORT

    @cached_property
    def _elf(self) -> Elf:
        return Elf.mapped(self._image)

    @cached_property
    def _kept(self) -> Kept:
        return Kept(self._elf, self._policy.name)

    @cached_property
    def _plan(self) -> Plan:
        from buildsys.stages.objects import read_runtime

        return read_runtime(self._runtime)[1]

    @property
    def ranges(self) -> Sequence[range]:
        """The memory to read when the run has ended. Raises UserError."""
        return self._kept.ranges if self._policy.name in VARIABLES else ()

    def tell(self, outcome: Outcome) -> None:
        """Write the report of a run, and show what matters most of it."""
        told = self.of(outcome)
        if told is not None:
            print("\n".join(told.written()), file=sys.stderr)

    def of(self, outcome: Outcome) -> Barriers | None:
        """What was kept of a run; None if the policy keeps nothing."""
        if self._policy.name not in VARIABLES:
            return None
        told = TELLING[self._policy.name](self, outcome.memory)
        if told is None:
            words = f"barriers: memory could not be read when the run ended: {outcome.end.value}"
            return Barriers(self._report, (words,), None)
        found, lines = told
        about = {
            "format": FORMAT,
            "policy": self._policy.name,
            "image": str(self._image),
            "machine": self._machine,
            "end": outcome.end.value,
            "exit_code": outcome.exit_code,
        }
        return Barriers(self._report, tuple(lines), json.dumps(about | found, indent=1).encode() + b"\n")

    def counted(self, memory: Mapping[int, bytes]) -> tuple[dict[str, Any], list[str]] | None:
        """Of the policy `count`."""
        from buildsys.barriers.counts import read_counts
        from buildsys.barriers.places import places

        counts = read_counts(self._kept, memory)
        if counts is None:
            return None
        known = places(self._elf, counts.sites)
        rows = [
            {
                "address": hex(site),
                "barrier": known[site].called,
                "function": known[site].function,
                "line": known[site].line,
                "executions": count,
            }
            for site, count in counts.sites.most_common()
        ]
        by_line: Counter[tuple[str, str]] = Counter()
        for site, count in counts.sites.items():
            by_line[known[site].line or hex(site), known[site].function] += count
        found = {"executions": counts.total, "uncounted": counts.uncounted, "sites": rows}
        total, sites, lines = counts.total, len(counts.sites), len(by_line)
        head = f"barriers: {_many(total, 'call')} from {_many(sites, 'place')}, on {_many(lines, 'line')}"
        return found, [head, *_table(by_line, counts.total)]

    def recorded(self, memory: Mapping[int, bytes]) -> tuple[dict[str, Any], list[str]] | None:
        """Of the policy `record`."""
        from buildsys.barriers.records import read_records
        from buildsys.front.records import described, lines

        records = read_records(self._kept, memory)
        if records is None:
            return None
        rows = described(self._elf, self._plan, records)
        found = {"calls": records.calls, "kept": len(records.kept), "records": rows}
        return found, lines(records, rows, SHOWN)

    def given(self, memory: Mapping[int, bytes]) -> tuple[dict[str, Any], list[str]] | None:
        """Of the policy `user`."""
        from buildsys.barriers.records import read_batches

        found = read_batches(self._kept, memory)
        if found is None:
            return None
        function = self._policy.function
        batches = f"{found.batches} batch{'' if found.batches == 1 else 'es'}"
        said = [f"barriers: {_many(found.given, 'call')} given to {function}, in {batches}"]
        if found.left:
            said.append(f"{found.left} were left when the run ended: call buildsys.drain before ending it yourself")
        if found.dropped:
            said.append(f"{found.dropped} came while {function} was at work, and were given to nobody")
        return {"function": function, **asdict(found)}, said


TELLING = {COUNT: Reporting.counted, RECORD: Reporting.recorded, USER: Reporting.given}


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _table(by_line: Counter[tuple[str, str]], total: int) -> list[str]:
    """The lines called most, in columns: executions, share, line, function."""
    most = sorted(by_line.items(), key=lambda each: (-each[1], each[0]))[:SHOWN]
    if not most:
        return []
    wide = max(len("executions"), *(len(str(count)) for _, count in most))
    longest = max(len(line) for (line, _), _ in most)
    return [
        f"{'executions':>{wide}}   share  {'line':{longest}}  function",
        *(
            f"{count:{wide}}  {100 * count / total:5.1f}%  {line:{longest}}  {function}"
            for (line, function), count in most
        ),
    ]
