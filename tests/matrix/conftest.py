"""Results made up: what is told of them does not depend on how they came about."""

from __future__ import annotations

from buildsys.matrix.results import FAILED, NOT_RUN, PASSED, CellVerdict, Line, Results
from buildsys.matrix.rows import WHOLE, Selection, Shard

EMULATORS = ("embedded", "qemu")
GOOD = CellVerdict(PASSED, 12, 12, 1.5)
BAD = CellVerdict(FAILED, 12, 11, 1.25, ("claim 3, call-sites: 1 call goes to the old function",), "build again")
ABSENT = CellVerdict(NOT_RUN, said=("there is no clang",), advice="apt-get install clang")


def line(go: str, toolchain: str, embedded: CellVerdict = GOOD, qemu: CellVerdict = GOOD) -> Line:
    """A line of a Go with slots."""
    if embedded is ABSENT:
        return Line(go, toolchain, {"embedded": embedded, "qemu": qemu})
    sites = {f"runtime.gcWriteBarrier{slots}": 10 * slots for slots in (1, 2, 8)}
    verdicts = {"embedded": embedded, "qemu": qemu}
    return Line(go, toolchain, verdicts, f"{go}.7", "a 1.0", sites, 4_400_000, "ab" * 32, 0.5)


def results(*lines: Line, shard: Shard = WHOLE, gos: tuple[str, ...] = (), sources: str = "s") -> Results:
    """A matrix of `lines`, or of more where `gos` says so."""
    selection = Selection(
        gos or tuple(dict.fromkeys(each.go for each in lines)),
        tuple(dict.fromkeys(each.toolchain for each in lines)),
        EMULATORS,
    )
    return Results(selection, shard, "qemu-virt", sources, {"qemu": "7.2"}, lines)
