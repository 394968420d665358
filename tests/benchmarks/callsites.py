"""The call-site pass on an image with half the standard library in it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from buildsys.config.project import load
from buildsys.formats.elf import Elf
from buildsys.front.steps import Steps
from buildsys.stages.objects import read_runtime
from buildsys.stages.patch import patch_image
from tests.benchmarks.measure import Row, command, side_by_side

KERNELS = Path(__file__).parent.parent / "kernels"
OBJDUMP = "aarch64-linux-gnu-objdump"


def large(folder: Path) -> Steps:
    """The large kernel, built."""
    shutil.copytree(KERNELS / "large", folder / "large")
    (folder / "large" / "pyproject.toml").write_text('[tool.buildsys]\npackage = "."\n')
    steps = Steps(load(folder / "large"))
    for action in (steps.compile, steps.runtime, steps.link, steps.patch):
        steps.records.perform(action())
    return steps


def rows(folder: Path) -> Iterator[Row]:
    steps = large(folder)
    _, plan = read_runtime(steps.runtime_json)
    output, report = folder / "patched.elf", folder / "patch.json"
    elf = Elf.read(steps.unpatched)
    text = sum(section.size for section in elf.code) / 1e6
    sites = steps.records.facts("patch")["sites"]

    def ours() -> None:
        patch_image(steps.unpatched, plan, steps.project.entry, output, report)

    times = side_by_side(11, ours)
    if shutil.which(OBJDUMP):
        times += side_by_side(3, command([OBJDUMP, "-d", str(steps.image)], folder))
    about = f"call-site pass: {len(elf.data) / 1e6:.0f} MB, {text:.1f} MB of text, {sites} sites"
    yield Row(about, times[0], "", None, "≤ 150 ms", times[0] <= 150)
    if len(times) > 1:
        yield Row("the same against objdump -d", times[0], "objdump -d", times[1], "≤ 0.1×", times[0] <= times[1] / 10)
