"""`doit reach`: what a kernel touches of the runtime, told to its author."""

from __future__ import annotations

import json
import xml.etree.ElementTree
from itertools import pairwise
from typing import Any

import pytest

from tests.front.conftest import Checkout, Copies, in_terminal

PRINTS = 'fmt.Println("hello")\nreturn 0'


@pytest.fixture(scope="module")
def printing(reference: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A kernel that calls fmt.Println; not to be changed."""
    from tests.conftest import copy_project

    folder = tmp_path_factory.mktemp("printing")
    checkout = Checkout(copy_project(folder / "project"), folder)
    checkout.set("sets = []")
    checkout.kernel(PRINTS, 'import "fmt"\n')
    checkout.doit("link").succeeded()
    return checkout


def asked(checkout: Checkout, *words: str) -> Any:
    return json.loads(checkout.doit("reach", "--json", *words).succeeded().out)


def test_the_reference_kernel_touches_no_service(reference: Checkout) -> None:
    out = reference.doit("reach", "--strict").succeeded().out
    assert "main.KernelMain reaches " in out.splitlines()[0]
    assert out.splitlines()[0].endswith("no service of the runtime that bare metal has not")
    assert "the write barrier (" in out
    assert "initialisers" not in out


def test_a_build_that_is_refused_says_who_tells_more(printing: Checkout) -> None:
    printing.doit("build").refused("`doit reach` tells")


def test_println_is_explained_on_one_screen(printing: Checkout) -> None:
    out = printing.doit("reach").succeeded().out
    lines = out.splitlines()
    assert len(lines) <= 50
    assert all(len(line) <= 100 for line in lines), max(lines, key=len)
    assert "services of the runtime that bare metal has not:" in lines[0]
    for name in ("system calls", "the allocator", "getg().m", "goroutines"):
        assert any(line.startswith(f"{name} ") for line in lines), name
        assert any(f"✗ {name}" in line for line in lines), name
    assert "os.Stdout, set by os.init" in " ".join(out.split())
    assert "redirect it to functions of your own" in " ".join(out.split())
    cause = next(line for line in lines if line.startswith("comes of"))
    assert "fmt.Fprintln" in cause
    assert "from main.KernelMain" in cause


def test_what_is_said_is_the_same_as_json(printing: Checkout) -> None:
    found = asked(printing)
    assert found["format"] == 1
    assert found["entry"] == "main.KernelMain"
    services = {each["service"]: each for each in found["services"]}
    calls = services["system calls"]
    assert calls["way"][0] == {"function": "main.KernelMain", "how": "", "line": ""}
    assert calls["way"][-1]["function"] == calls["first"][0]
    assert all(step["line"] for step in calls["way"][1:])
    assert "runtime.futex" in services["futexes"]["behind"]
    reached = {each["function"] for each in found["functions"]}
    assert set(calls["first"]) <= reached
    assert ("os.Stdout", "os.init") in {(each["variable"], each["initialiser"]) for each in found["initialisers"]}


def test_each_step_of_a_way_can_come_to_the_next(printing: Checkout) -> None:
    """By the callers that are named of each function."""
    way = asked(printing, "runtime.mallocgc")["way"]
    assert len(way) > 2
    for before, step in pairwise(way):
        callers = {each["function"] for each in asked(printing, step["function"])["callers"] if each["reached"]}
        assert before["function"] in callers


def test_one_function_is_asked_for(printing: Checkout) -> None:
    out = printing.doit("reach", "syscall.write").succeeded().out
    assert out.splitlines()[0] == "main.KernelMain reaches syscall.write:"
    assert "└─ syscall.write  " in out
    assert "called by         internal/poll.(*FD).Write" in out
    out = printing.doit("reach", "runtime.main").succeeded().out
    assert out.splitlines()[0] == "main.KernelMain does not reach runtime.main"


def test_what_ends_the_run_is_told_apart(reference: Checkout) -> None:
    panics = [each["function"] for each in asked(reference)["taken over"] if each["service"] == "panics"]
    out = reference.doit("reach", panics[0]).succeeded().out
    assert out.splitlines()[0] == f"main.KernelMain does not reach {panics[0]} but where the run ends"
    assert "taken over        " in out


def test_a_pattern_names_several(printing: Checkout) -> None:
    found = asked(printing, "runtime.mallocgcTiny*")
    assert len(found) > 1
    assert all(each["function"].startswith("runtime.mallocgcTiny") for each in found)


def test_a_misspelt_function_is_refused_with_the_nearest(printing: Checkout) -> None:
    printing.doit("reach", "runtime.malocgc").refused("there is no function runtime.malocgc", "did you mean ")
    printing.doit("reach", "--from", "main.Kernel").refused("there is no function main.Kernel")


def test_strict_makes_it_a_failure(printing: Checkout) -> None:
    message = printing.doit("reach", "--strict").refused("reaches what bare metal has not: ")
    assert "initialisers" in message


def test_without_redirects_the_runtimes_own_are_reached(reference: Checkout) -> None:
    assert not asked(reference)["services"]
    names = {each["service"] for each in asked(reference, "--unpatched")["services"] if each["first"]}
    assert {"stack growth", "panics"} <= names


def test_a_redirect_is_applied(checkout: Checkout) -> None:
    checkout.set("sets = []")
    checkout.kernel(
        "lock()\nif number == 3 {\n\tother()\n}\nreturn 0",
        "\n//go:noinline\nfunc lock() { println(number) }\n\n//go:noinline\nfunc other() { number++ }\n",
    )
    assert "printing" in {each["service"] for each in asked(checkout)["services"] if each["first"]}
    checkout.append("pyproject.toml", '\n[tool.buildsys.redirect]\n"main.lock" = "main.other"\n')
    found = asked(checkout)
    assert not [each for each in found["services"] if each["first"]]
    assert {"function": "main.lock", "service": None} in found["taken over"]


def test_a_variable_its_initialiser_would_set_is_named_with_its_line(checkout: Checkout) -> None:
    checkout.kernel(
        "return late + *pointer", "\n//go:noinline\nfunc seven() int32 { return 7 }\n\nvar late = seven()\n"
    )
    (unset,) = asked(checkout)["initialisers"]
    assert unset["variable"] == "main.late"
    assert unset["initialiser"] == "main.init"
    assert unset["line"].startswith("main.go:")


def test_the_picture_is_well_formed_and_shows_each_service(printing: Checkout) -> None:
    printing.doit("reach", "--picture", "out.svg").succeeded()
    root = xml.etree.ElementTree.parse(printing.path("out.svg")).getroot()
    texts = [each.text for each in root.iter("{http://www.w3.org/2000/svg}text")]
    for each in asked(printing)["services"]:
        assert (each["service"] in texts) == bool(each["first"])
    assert "main.KernelMain" in texts
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    for box in root.iter("{http://www.w3.org/2000/svg}rect"):
        at = {name: float(value) for name, value in box.attrib.items() if name in ("x", "y", "width", "height")}
        assert 0 <= at.get("x", 0) <= at.get("x", 0) + at["width"] <= width
        assert 0 <= at.get("y", 0) <= at.get("y", 0) + at["height"] <= height


def test_a_narrow_terminal_breaks_no_word(printing: Checkout) -> None:
    seen = in_terminal(printing, "reach", environment={"COLUMNS": "60"})
    assert seen.status == 0
    assert "system calls" in seen.shown


def test_several_kernels_are_asked_one_by_one(copies: Copies) -> None:
    checkout = copies()
    text = checkout.path("pyproject.toml").read_text()
    assert "[tool.buildsys]" in text
    checkout.append(
        "pyproject.toml", '\n[tool.buildsys.kernel.one]\n\n[tool.buildsys.kernel.two]\nentry = "main.run"\n'
    )
    checkout.path("dodo.py").write_text("from buildsys.tasks import DOIT_CONFIG, task_kernel  # noqa: F401\n")
    assert "two: main.run reaches " in checkout.doit("reach:two").succeeded().out
    assert "one: main.KernelMain reaches " in checkout.doit("reach:one").succeeded().out


def test_what_works_with_a_set_is_not_missing_with_it_and_is_without(checkout: Checkout) -> None:
    checkout.kernel(
        'found := map[string]int{"one": 1}\nqueue := make(chan int32, len(found))\n'
        "for range found {\n\tdefer func() { number++ }()\n}\nqueue <- 1\nreturn <-queue - int32(found[key])",
        'var key = "one"\n',
    )
    with_sets = {each["service"] for each in asked(checkout)["services"] if each["first"]}
    assert not with_sets & {"maps", "channels", "deferred calls", "getg().m"}
    checkout.set('sets = ["print", "panic"]')
    without = {each["service"]: each["set"] for each in asked(checkout)["services"] if each["first"]}
    assert {"maps", "channels", "deferred calls"} <= without.keys()
    assert {without[name] for name in ("maps", "channels", "deferred calls")} == {"alloc"}


def test_what_an_allocator_needs_is_seen_behind_what_works_with_it(checkout: Checkout) -> None:
    checkout.set('sets = ["print", "panic", "alloc"]\nalloc = "main.allocate"')
    checkout.kernel(
        "found := map[int32]int32{}\n"
        "for each := int32(0); each < 99; each++ {\n\tfound[each*number] = each\n}\nreturn int32(len(found))",
        'import (\n\t"time"\n\t"unsafe"\n)\n\nvar memory [1 << 16]byte\n\n'
        "//go:noinline\nfunc allocate(size uintptr, _ unsafe.Pointer, _ bool) unsafe.Pointer {\n"
        "\tnumber += int32(time.Now().Nanosecond())\n\treturn unsafe.Pointer(&memory[size])\n}\n",
    )
    checkout.replace("src/main.go", "\tKernelMain(nil)\n", "\tKernelMain(nil)\n\tallocate(0, nil, false)\n")
    [clock] = [each for each in asked(checkout)["services"] if each["service"] == "timers and clocks"]
    assert "main.allocate" in [step["function"] for step in clock["way"]]
