"""The call-site pass on an image with half the standard library in it."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from buildsys.config.project import load
from buildsys.config.redirects import ALLOWED, Redirection
from buildsys.files import replace
from buildsys.formats.callsites import call_sites
from buildsys.formats.elf import Elf
from buildsys.front.steps import Steps
from buildsys.patching import redirect
from buildsys.stages.objects import read_runtime
from buildsys.stages.patch import patch_image
from tests.benchmarks.measure import Row, command, ratio, side_by_side

KERNELS = Path(__file__).parent.parent / "kernels"
MANY, NEW = 200, "main.KernelMain"
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
    many = called(elf, MANY)
    yield from of_many(steps.unpatched, output, many)

    def build(names: list[str]) -> Callable[[], object]:
        wanted = [Redirection(old, NEW, allow=ALLOWED) for old in names]  # whatever their arguments are
        return lambda: patch_image(steps.unpatched, plan, steps.project.entry, output, report, wanted)

    yield ratio(f"call-site pass with {MANY} redirects", side_by_side(11, build(many), build(many[:1])), "one", 1.5)


def called(elf: Elf, count: int) -> list[str]:
    """The names of functions that are called, and spread over the whole image."""
    functions = {each.value: each for each in elf.symbols.functions()}
    names = Counter(each.name for each in functions.values())
    targets = sorted({site.target for site in call_sites(elf, functions)})
    fit = [name for name in (functions[target].name for target in targets) if names[name] == 1 and ":" not in name]
    # What the runtime needs at every step is no business of a kernel's redirects.
    fit = [name for name in fit if not name.startswith(("runtime.", "main.", "buildsys."))]
    # Types in brackets may have a *, which means a family; what has no dot is of boot code.
    fit = [name for name in fit if "[" not in name and "." in name]
    return fit[:: len(fit) // count][:count]


def of_many(image: Path, output: Path, names: list[str]) -> Iterator[Row]:
    """`buildsys patch`: many redirects against one, from reading the image to the patched one written."""

    def patched(names: list[str]) -> Callable[[], object]:
        return lambda: replace(output, redirect(image, [(name, NEW) for name in names]).contents)

    times = side_by_side(11, patched(names), patched(names[:1]))
    yield ratio(f"buildsys patch with {len(names)} redirects", times, "one", 1.5)
