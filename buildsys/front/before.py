"""`doit verify --before`: the image as it was before the fix, with .bss in flash, must be found broken.

Only the embedded emulator runs it. To QEMU's flash, a CFI chip, a store is a command, some of
which make the chip unreadable, so that a kernel which runs from it hangs.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from buildsys.errors import UserError
from buildsys.front.reporter import Failed
from buildsys.front.steps import Steps
from buildsys.front.verify import Line, case_of, check
from buildsys.proof.case import Case
from buildsys.proof.claim import Result
from buildsys.stages.variant import Variant

# As the seed had it: nothing told a write to flash from one to RAM. And with the page tables of today.
SILENT, TRAPPED = Variant(zeroed="FLASH", flash_writable=True), Variant(zeroed="FLASH")

Row = tuple[str, str, str]


def verify_before(steps: Steps) -> Failed | None:
    """Build the broken image in a scratch folder, show it beside the one `steps` built, and judge both.

    Fails unless the broken one fails as it must and the same claims hold for the other.
    """
    if not steps.project.board.in_flash:
        return Failed(
            UserError(
                f"board {steps.project.board.name} has no code in flash: there is no before",
                "`--before` shows .bss in flash, where writes are lost; it needs a board such as qemu-virt",
            )
        )
    try:
        with tempfile.TemporaryDirectory(prefix="buildsys-before-") as folder:
            return compare(
                broken(steps, SILENT, Path(folder, "silent")),
                broken(steps, TRAPPED, Path(folder, "trapped")),
                case_of(steps),
            )
    except UserError as error:
        return Failed(error)


def broken(steps: Steps, variant: Variant, folder: Path) -> Case:
    """The case of what `steps` builds, linked and patched again in `folder` as `variant`. Raises UserError."""
    variation = Steps(replace(steps.project, root=folder), variant)
    variation.project.build.mkdir(parents=True)
    for made in steps.of_go:
        shutil.copy2(made, variation.project.build)
    for action in (variation.link, variation.patch):
        variation.records.perform(action())
    case = case_of(variation)
    vars(case)["qemu"] = None  # as if it were not installed: this image would hang it
    return case


def compare(silent: Case, trapped: Case, after: Case) -> Failed | None:
    """Print the table and the diagnoses; fail if `silent`, `trapped` or `after` is not as it must be."""
    from buildsys.proof.before import FALSIFIED, diagnoses, figures, said, silent_faults, trapped_faults
    from buildsys.proof.claims import CLAIMS

    chosen = [(number, claim) for number, claim in enumerate(CLAIMS, 1) if claim.name in FALSIFIED]
    red, green = check(silent, chosen), check(after, chosen)
    before, now = figures(silent), figures(after)
    rows = [(name, before.get(name, ""), figure) for name, figure in now.items()]
    rows += [_claim_row(*pair) for pair in zip(red, green, strict=True)]
    _show(rows)
    print("\nwhat the claims say of the image before:")
    for line in red:
        print(f"  {line.number:2} {said(line.verdict, diagnoses(silent)[line.claim.name]) or line.verdict.figure}")
    print("\n" + _trapped(trapped))
    print("The image before was not run on QEMU: to its flash a store is a command, some of which hang it.")
    verdicts = {line.claim.name: line.verdict for line in red}
    faults = [f"before: {fault}" for fault in silent_faults(silent, verdicts)]
    faults += [f"before, with flash read-only: {fault}" for fault in trapped_faults(trapped)]
    faults += [
        f"after: claim {line.number}, {line.claim.name}, {line.verdict.result.value}: {line.verdict.figure}"
        for line in green
        if not line.verdict.passed
    ]
    if faults:
        return Failed("\n".join(["before and after are not what they must be:", *faults]))
    *numbers, last = (str(line.number) for line in red)
    print(f"before, claims {', '.join(numbers)} and {last} fail, each for the right reason; after, they hold")
    return None


def _claim_row(before: Line, after: Line) -> Row:
    return f"claim {before.number}, {before.claim.name}", before.verdict.result.value, after.verdict.result.value


def _trapped(case: Case) -> str:
    from buildsys.proof.before import ended, last_line

    outcome = case.embedded.outcome
    return (
        "With the page tables of today, in which flash is read-only, the first write does not vanish but faults:\n"
        f"  {last_line(outcome)}\n  {ended(outcome)}"
    )


def _show(rows: Sequence[Row]) -> None:
    titles = ("", "before: .bss in flash", "after: .bss in RAM")
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        colours = {Result.PASSED.value: "green", Result.FAILED.value: "bold red"}
        table = Table(box=None, pad_edge=False, header_style="dim")
        for title in titles:
            table.add_column(title)
        for row in rows:
            table.add_row(*(Text(cell, style=colours.get(cell, "")) for cell in row))
        Console(highlight=False).print(table)
        return
    widths = [max(len(row[column]) for row in [titles, *rows]) for column in range(2)]
    for row in [titles, *rows]:
        print(f"{row[0]:{widths[0]}}  {row[1]:{widths[1]}}  {row[2]}")
