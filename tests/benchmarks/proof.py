"""What `doit verify` costs: the static claims on a large image, and the whole of it on the reference kernel."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from buildsys.front.verify import case_of
from buildsys.proof.claims import CLAIMS
from tests.benchmarks.callsites import large
from tests.benchmarks.measure import Row, command, seconds, side_by_side
from tests.conftest import copy_project

DOIT = str(Path(sys.executable).with_name("doit"))
# Claims that build again or run the image are not static.
RUNNING = {"reproducible", "flag-at-run-time", "executions", "stores", "outcome"}


def rows(folder: Path) -> Iterator[Row]:
    steps = large(folder)
    static = [claim for claim in CLAIMS if claim.name not in RUNNING]

    def check() -> None:
        case = case_of(steps)
        for claim in static:
            claim.check(case)

    [median] = side_by_side(3, check)
    size = steps.image.stat().st_size / 1e6
    yield Row(f"the {len(static)} static claims, {size:.0f} MB image", median, "", None, "≤ 2000 ms", median <= 2000)

    case = case_of(steps)
    for claim in static:
        spent = 1000 * seconds(partial(claim.check, case))
        yield Row(f"  of these {claim.name}", spent, "", None, "", True)

    project = copy_project(folder / "project")
    build, verify = command([DOIT, "build"], project), command([DOIT, "verify"], project)
    build()
    whole, nothing = side_by_side(5, verify, build)
    beyond = whole - nothing
    yield Row("doit verify, both emulators, beyond the build", beyond, "", None, "≤ 3000 ms", beyond <= 3000)
