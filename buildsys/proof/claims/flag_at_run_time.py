"""Claim: the flag is 0 in memory before boot code's store, and 1 when the entry begins."""

from __future__ import annotations

from buildsys.go.runtime import FLAG
from buildsys.proof.case import Case
from buildsys.proof.claim import Claim, Verdict, verdict
from buildsys.proof.observation import Observation, Places, also


def check(case: Case) -> Verdict:
    """Read the 32-bit word at the flag twice in each run."""
    seen, runs = case.places, case.runs
    problems = [problem for run in runs for problem in _problems(case, seen, run)]
    where = f"{FLAG} at {seen.flag:#x}" if seen.flag is not None else FLAG
    details = [
        f"{where} on {run.machine}: {_text(run.flag_at_store)} before the store"
        + (f" at {seen.store.address:#x}" if seen.store else "")
        + f", {_text(run.flag_at_entry)} when {case.entry} begins"
        for run in runs
    ]
    return verdict(
        problems,
        ("" if seen.store else "how it is set cannot be told, ")
        + ("0 before boot code's store, " if seen.store else "")
        + f"1 when {case.entry} begins{also(runs)}",
        {
            "flag": seen.flag and hex(seen.flag),
            "store": seen.store and hex(seen.store.address),
            "entry": seen.entry and hex(seen.entry),
            **{run.machine: {"at the store": run.flag_at_store, "at the entry": run.flag_at_entry} for run in runs},
        },
        details,
        "compiled code tests this word before each pointer store: boot code must set it after .bss is cleared, "
        "in RAM, before it calls the entry",
    )


def _problems(case: Case, seen: Places, run: Observation) -> list[str]:
    if seen.flag is None:
        return [f"the image has no variable {FLAG}"]
    flag, entry = f"{FLAG} at {seen.flag:#x}", f"{case.entry} at {seen.entry:#x}" if seen.entry else case.entry
    problems = []
    if seen.store is None:
        # Boot code of the user's may not be followed so far: that the flag is set is seen at the entry.
        problems += [] if case.own_boot else [f"boot code stores nothing to {flag}"]
    elif run.flag_at_store is None:
        problems.append(f"on {run.machine} the store at {seen.store.address:#x} to {flag} was never made")
    elif run.flag_at_store != 0:
        problems.append(f"on {run.machine} {flag} is {run.flag_at_store:#x} before boot code sets it")
    if run.flag_at_entry is None:
        problems.append(f"on {run.machine} {entry} was never reached")
    elif run.flag_at_entry != 1:
        problems.append(f"on {run.machine} {flag} is {run.flag_at_entry:#x} when {entry} begins")
    return problems


def _text(value: int | None) -> str:
    return "not seen" if value is None else f"{value:#x}"


CLAIM = Claim(
    "flag-at-run-time", "the flag is 0 until boot code sets it and 1 when the entry begins", check, observed=True
)
