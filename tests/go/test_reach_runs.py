"""What runs was said to be reachable: every shape of Go code is run, bare as far as it gets, and whole, and followed.

The emulator tells each function that was entered. It knows nothing of graphs.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from buildsys.config.project import Project, load
from buildsys.formats.elf import Elf
from buildsys.formats.patch import patch, resolve
from buildsys.front.steps import Steps
from buildsys.go.flag import code_of
from buildsys.go.graph import Graph
from buildsys.go.reach import Reach, search
from buildsys.machines.embedded import Machine
from buildsys.stages.objects import read_runtime
from buildsys.stages.reaching import Subject, subject
from tests.conftest import ROOT

from .whole import Whole

SHAPES = re.findall(
    r"^func ([A-Z]\w+)\(\) int32", (ROOT / "tests" / "kernels" / "shapes" / "main.go").read_text(), re.MULTILINE
)
SECONDS = 1.0  # some wait for ever
# What begins a run and ends it: boot code, and what ours put out of action.
FEW = 4


@dataclass(frozen=True)
class Run:
    """One shape: what it can reach, the functions that ran, and those that do not return."""

    subject: Subject
    reach: Reach
    ran: dict[int, str]
    ends: frozenset[int]


def compiled(root: Path, settings: str = "") -> Project:
    """The shapes, compiled in `root`."""
    shutil.copytree(ROOT / "tests" / "kernels" / "shapes", root / "src")
    (root / "buildsys.toml").write_text(f'package = "src"\nentry = "main.Closures"\nentry-arguments = []\n{settings}')
    steps = Steps(load(root))
    steps.make_ready()
    for action in (steps.compile, steps.runtime):
        steps.records.perform(action())
    return steps.project


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The shapes, compiled."""
    return compiled(tmp_path_factory.mktemp("shapes"))


def run(project: Project, shape: str, image: Path) -> Run:
    """Link for `shape`, redirect, whatever it reaches, run, and follow."""
    steps = Steps(replace(project, entry=f"main.{shape}"))
    steps.records.perform(steps.link())
    _, plan = read_runtime(steps.runtime_json)
    elf = Elf.read(steps.unpatched)
    redirects = resolve(elf, plan.functions)
    calls = len(plan.called)
    image.write_bytes(patch(elf, redirects[:calls], redirects[calls:]).contents)
    blocks: set[int] = set()
    machine = Machine(steps.project.board)
    machine.load(image)
    machine.trace(blocks.add)
    machine.run(SECONDS)
    found = subject(steps.unpatched, plan, [steps.project.entry], (), redirected=True, package="")
    functions = (elf.symbols.function_at(block) for block in blocks)
    ran = {function.value: function.name for function in functions if function}
    ends = frozenset(redirect.old for redirect in redirects[calls:])
    return Run(found, search(found.graph, found.entries), ran, ends)


@pytest.fixture(scope="module")
def shaped(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Run]:
    """Each shape, run once."""
    folder, runs = tmp_path_factory.mktemp("images"), dict[str, Run]()

    def of(shape: str) -> Run:
        if shape not in runs:
            runs[shape] = run(project, shape, folder / f"{shape}.elf")
        return runs[shape]

    return of


@pytest.mark.parametrize("shape", SHAPES)
def test_what_ran_was_reachable(shape: str, shaped: Callable[[str], Run]) -> None:
    """But for what only leads to a failure: that is not counted as reached, and then the run fails."""
    found = shaped(shape)
    names = set(found.ran.values())
    assert f"main.{shape}" in names
    assert len(names) >= FEW
    unforeseen = found.ran.keys() - found.reach.functions.keys()
    if unforeseen and "buildsys.fatal" in names:
        elf = found.subject.elf
        unforeseen -= search(Graph(elf, code_of(elf)), found.subject.entries).functions.keys()
    assert not unforeseen, f"ran, and was not said to be reachable: {sorted(map(found.ran.__getitem__, unforeseen))}"


@pytest.mark.parametrize("shape", ["Closures", "Formats", "Comparisons"])
def test_instructions_alone_say_the_same(shape: str, shaped: Callable[[str], Run]) -> None:
    """Without relocations nothing is missed; a number may be taken for an address."""
    found = shaped(shape)
    elf = found.subject.elf
    ends = {address for _, old, new in found.subject.replaced for address in (old, new) if old in found.ends}
    decoded = search(Graph(elf, code_of(elf), ends, related=False), found.subject.entries)
    assert found.reach.functions.keys() <= decoded.functions.keys()
    more = decoded.functions.keys() - found.reach.functions.keys()
    assert len(more) <= len(decoded.functions) / 50


def test_the_runs_get_far_enough_to_mean_something(shaped: Callable[[str], Run]) -> None:
    """A hash and a comparison called by type, a method looked up by name, closures, the allocator."""
    ran = {shape: set(shaped(shape).ran.values()) for shape in SHAPES}
    everything = set().union(*ran.values())
    assert "main.Closures.func1" in ran["Closures"]
    assert "main.Methods.(*counter).add-fm" in {name.replace("main.(*", "main.Methods.(*") for name in ran["Methods"]}
    assert "main.(*box).area" in ran["Interfaces"] or "main.(*square).area" in ran["Interfaces"]
    assert any(name.startswith(("type:.eq.", "type..eq.")) for name in ran["Comparisons"])
    assert any(name.startswith("runtime.mallocgc") for name in ran["Allocates"])
    assert len(everything) > 100


# The same program, whole: its runtime is started, and every system call it makes is answered.


class Others:
    """The addresses that are not among some."""

    def __init__(self, among: Container[int]) -> None:
        self._among = among

    def __contains__(self, address: object) -> bool:
        return address not in self._among


def functions_of(elf: Elf, blocks: Iterable[int]) -> dict[int, str]:
    return {function.value: function.name for block in blocks if (function := elf.symbols.function_at(block))}


def whole_run(project: Project) -> tuple[Elf, Whole]:
    """The program, run to its end, with what each shape ran noted."""
    steps = Steps(project)
    steps.records.perform(steps.link())
    elf = Elf.read(steps.unpatched)
    shapes = elf.symbols.addresses(*(f"main.{shape}" for shape in SHAPES))
    whole = Whole(elf, shapes.values())
    whole.run()
    assert whole.status == 0, whole.output
    assert whole.output.startswith(b"hello 3 {l r}\na ")
    return elf, whole


def hold_to_graph(elf: Elf, whole: Whole) -> None:
    """Each function that ran can be come to, by ways through functions that ran, and no others."""
    initialisers = [each.value for each in elf.symbols.functions() if re.search(r"\.init(\.\d+)?$", each.name)]
    ran = functions_of(elf, whole.blocks)
    assert len(ran) > 500
    for related in (True, False):
        graph = Graph(elf, code_of(elf), related=related)
        reached = search(graph, [whole.entry], Others(ran)).functions
        assert not [name for address, name in ran.items() if address not in reached]
        for address, blocks in whole.during.items() if related else ():
            inside = functions_of(elf, blocks)
            # What initialisers made before, variables hold.
            foreseen = search(graph, [address, *initialisers]).functions
            assert not [name for each, name in inside.items() if each not in foreseen]


def test_what_a_whole_program_runs_was_reachable_through_what_it_ran(project: Project) -> None:
    hold_to_graph(*whole_run(project))


@pytest.mark.campaign
@pytest.mark.parametrize("line", ["1.21", "1.22", "1.23", "1.24", "1.25", "1.26"])
def test_the_same_by_each_release_of_go(line: str, tmp_path: Path) -> None:
    hold_to_graph(*whole_run(compiled(tmp_path, f'go = "{line}"\n')))
