"""The report of a crash, as lines to read: what it was, what to do, where; the user's own frames first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

SHOWN = 12  # frames in the short form
START = "runtime.goexit"  # where each goroutine's stack begins
OF_RUNTIME = ("runtime.", "runtime/", "internal/runtime/", "internal/abi", "internal/bytealg")


def short(report: Mapping[str, Any]) -> list[str]:
    """What is shown right after the run."""
    return [*_head(report), *stack(report["frames"], report["frames_left_out"], SHOWN)]


def whole(report: Mapping[str, Any]) -> list[str]:
    """All of it."""
    lines = [
        f"{report['board']}, {report['machine']}; {report['ended']}",
        *_head(report),
        f"  on {report['goroutine']}",
        *stack(report["frames"], report["frames_left_out"], len(report["frames"])),
    ]
    for each in report["goroutines"]:
        failed = ", the one that failed" if each["failed"] else ""
        lines += ["", f"goroutine {each['goroutine']} [{each['state']}{failed}]"]
        lines += stack(each["frames"], 0, len(each["frames"]))
    several = len({each["process"] for each in report["threads"]}) > 1
    for each in report["threads"]:
        of = f" of process {each['process']}" if several else ""
        lines += ["", f"thread {each['thread']}{of} [{each['state']}], on {each['runs']}"]
        lines += stack(each["frames"], 0, len(each["frames"]))
    lines += ["", "registers", *_registers(report["registers"])]
    if sent := report["serial"].splitlines():
        lines += ["", "sent last", *(f"  {line}" for line in sent[-SHOWN:])]
    return lines


def _head(report: Mapping[str, Any]) -> Iterator[str]:
    cause, places = report["cause"], report["places"]
    yield f"crash: {cause['says']}" if cause["kind"] != "stopped" else f"it {_stood(cause['says'])}"
    registers = report["registers"]
    if "address" in places:
        yield f"  address  {cause['address']}  {places['address']}"
    yield f"  pc       {registers['pc']}  {places['pc']}"
    yield f"  sp       {registers['sp']}  {places['sp']}"
    if hint := report["hint"]:
        yield f"  {hint['name']}: {hint['says']}"
        yield f"  hint: {hint['do']}"


def _stood(says: str) -> str:
    return f"was {says}"


def stack(frames: Sequence[Mapping[str, Any]], left_out: int, shown: int) -> Iterator[str]:
    """Each frame, in as many lines as functions were put into it; those of the runtime together in one."""
    told, at = 0, 0
    for of_runtime, group in groupby(frames, key=_is_runtime):
        members = list(group)
        if of_runtime and (len(members) > 1 or members[0]["function"] == START):
            inner, outer = members[0]["function"], members[-1]["function"]
            if len(members) > 1:
                yield f"  ({len(members)} frames of the runtime, from {inner} to {outer})"
            at += len(members)
            continue
        for _, alike in groupby(members, key=lambda each: (each["function"], each["offset"], each["guess"])):
            same = list(alike)
            if told == shown:
                yield f"  … {len(frames) - at + left_out:,} more"
                return
            told += 1
            yield from _frame(same[0])
            # What was left out stands in the middle.
            more = len(same) - 1 + (left_out if at < len(frames) // 2 < at + len(same) else 0)
            if more:
                yield f"      … and {more:,} more of these"
            elif left_out and at == len(frames) // 2:
                yield f"  … {left_out:,} that are not kept"
            at += len(same)


def _is_runtime(frame: Mapping[str, Any]) -> bool:
    return str(frame["function"]).startswith(OF_RUNTIME)


def _frame(frame: Mapping[str, Any]) -> Iterator[str]:
    if frame["served"]:
        yield "  so far the supervisor; it serves, or interrupted:"
    guess = f"  ({frame['guess']})" if frame["guess"] else ""
    if not frame["lines"]:
        yield f"  at {frame['pc']}{guess}"
    for line in frame["lines"]:
        place = f"  {line['file']}:{line['line']}" if line["file"] else ""
        inlined = "  (inlined)" if line["inlined"] else ""
        offset = "" if line["inlined"] else f"+{frame['offset']:#x}"
        yield f"  {line['function']}{offset}{place}{inlined}{guess}"
        if line["source"]:
            yield f"      {line['source']}"


def _registers(registers: Mapping[str, str]) -> Iterator[str]:
    each = [f"{name:>9} {int(value, 16):#018x}" for name, value in registers.items()]
    for at in range(0, len(each), 4):
        yield " ".join(each[at : at + 4])
