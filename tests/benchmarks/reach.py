"""What `doit reach` costs on a large image: the command, and the search where almost everything is reached."""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from buildsys.formats.elf import Elf
from tests.benchmarks.callsites import large
from tests.benchmarks.measure import Row, command

DOIT = str(Path(sys.executable).with_name("doit"))
RUNS = 5


def rows(folder: Path) -> Iterator[Row]:
    steps = large(folder)
    project = steps.project.root
    (project / "dodo.py").write_text("from buildsys.tasks import DOIT_CONFIG, task_kernel  # noqa: F401\n")
    size = len(Elf.mapped(steps.unpatched).data) / 1e6
    command([DOIT, "link"], project)()
    for words, what in ((["reach"], "from its entry"), (["reach", "--from", "main.main"], "from main.main, all of it")):
        spent = sorted(_processor(command([DOIT, *words], project)) for _ in range(RUNS))[RUNS // 2]
        yield Row(f"doit reach, {size:.0f} MB image, {what}", spent, "", None, "≤ 1500 ms", spent <= 1500)


def _processor(work: Callable[[], object]) -> float:
    """The milliseconds of a processor that the processes started by `work` took: what else runs does not count."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    work()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return 1000 * (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
