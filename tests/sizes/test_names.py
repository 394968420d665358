"""Whose a symbol is, told from its name; and that DWARF and the go command know the same packages."""

from __future__ import annotations

import os
import re
import subprocess
from typing import Any

import pytest
from elftools.elf.elffile import ELFFile

from buildsys.formats.elf import Elf
from buildsys.formats.symbols import STB_GLOBAL, STB_LOCAL, STT_FUNC, STT_NOTYPE, STT_OBJECT, Symbol
from buildsys.front.size import names
from buildsys.front.steps import Steps
from buildsys.sizes.names import (
    ASSEMBLY,
    CONSTANTS,
    EQUAL,
    FUNCTIONS,
    ITABS,
    OTHER,
    POINTERS,
    STRINGS,
    TYPES,
    WRAPPERS,
    Names,
    group_of,
)

KNOWN = {
    "main.main": "main",
    "main.main.func1.2": "main",
    "main.init.0": "main",
    "main.glob..func3": "main",
    "main..stmp_5": "main",
    "main.(*List[go.shape.int]).Push": "main",
    "main.List[go.shape.struct { a/b.X int }].Len": "main",
    "net/http.(*Server).Serve.gowrap1": "net/http",
    "net/http.(*Server).Serve-fm": "net/http",
    "slices.SortFunc[go.shape.[]main.T,go.shape.int]": "slices",
    "gopkg.in/yaml%2ev3.(*Decoder).Decode": "gopkg.in/yaml.v3",
    "a/b.c/d%2ev1.X": "a/b.c/d.v1",
    "a/b.c/d%2ev1..dict.F[int]": "a/b.c/d.v1",
    "vendor/golang.org/x/net/idna.init": "vendor/golang.org/x/net/idna",
    "runtime.memmove.abi0": "runtime",
    "type:*": TYPES,
    "type.*": TYPES,
    "runtime.typelink": TYPES,
    "runtime.typelinksinit": "runtime",
    "go:itab.*os.File,io.Reader": ITABS,
    "go.itab.*os.File,io.Reader": ITABS,
    "go:string.*": STRINGS,
    "go.string.*": STRINGS,
    "go:func.*": FUNCTIONS,
    "runtime.pclntab": FUNCTIONS,
    "runtime.findfunctab": FUNCTIONS,
    "runtime.gcbits.*": POINTERS,
    "$f64.3eb0000000000000": CONSTANTS,
    "type:.eq.main.pair": "main",
    "type:.hash.net/http.http2FrameHeader": "net/http",
    "type..eq.main.pair": "main",
    "type:.eq.[2]string": EQUAL,
    "type:.eq.M16SSM40": EQUAL,
    "go:buildinfo": OTHER,
    "struct { sync.Mutex; n int }.Lock": WRAPPERS,
    "go/ast.Inspect": "go/ast",
    "go/types.(*Checker).Files": "go/types",
    "typed.F": "typed",
    "program.net/http.Get": "net/http",
    "gogo": "",
    "_.goready.func1": "",
}


@pytest.mark.parametrize("name", KNOWN)
def test_the_name_tells(name: str) -> None:
    assert group_of(name) == KNOWN[name]


def symbol(name: str, value: int = 0x100, kind: int = STT_FUNC, binding: int = STB_LOCAL) -> Symbol:
    return Symbol(name, value, 16, kind, binding, 1)


def test_a_global_of_the_same_name_as_gos_is_ours_not_the_runtimes() -> None:
    barrier = symbol("runtime.gcWriteBarrier1", binding=STB_GLOBAL)
    known = Names({(barrier.name, STT_FUNC, STB_GLOBAL): "writebarrier.s"}, ((0x1000, 0x2000),))
    assert known.package(barrier) == "writebarrier.s"
    assert known.package(symbol("runtime.gcWriteBarrier1", 0x1000)) == "runtime"


def test_local_functions_and_labels_outside_gos_code_are_assembly() -> None:
    known = Names({("enter", STT_FUNC, STB_LOCAL): "panic.s"}, ((0x1000, 0x2000),))
    assert known.package(symbol("enter")) == "panic.s"
    assert known.package(symbol("leave")) == ASSEMBLY
    assert known.package(symbol("again", kind=STT_NOTYPE)) == ASSEMBLY
    assert known.package(symbol("gogo", 0x1100)) == OTHER
    assert known.package(symbol("main.x", kind=STT_OBJECT)) == "main"


def test_in_a_program_the_other_go_code_is_the_supervisors() -> None:
    known = Names(code=((0x0, 0x1000),), program=True)
    assert known.package(symbol("program.runtime.mallocgc")) == "runtime"
    assert known.package(symbol("runtime.mallocgc")) == "supervisor: runtime"


def compiled_in(elf: Any) -> dict[int, str]:
    """Where each function begins that DWARF describes, and the name of its compile unit, which Go names packages by."""
    found = {}
    for unit in elf.get_dwarf_info().iter_CUs():
        top = unit.get_top_DIE()
        for die in top.iter_children():
            if die.tag == "DW_TAG_subprogram" and "DW_AT_low_pc" in die.attributes:
                found[die.attributes["DW_AT_low_pc"].value] = top.attributes["DW_AT_name"].value.decode()
    return found


def linked_by_name(built: Steps, packages: set[str]) -> set[str]:
    """The functions that a package of `packages` defines under the name of another: //go:linkname in its sources."""
    sources = [file for each in packages for file in (built.go.root / "src" / each).glob("*.go")]
    text = "".join(file.read_text("utf-8") for file in sources)
    return set(re.findall(r"^//go:linkname \S+ (\S+)$", text, re.MULTILINE))


def test_dwarf_has_every_function_in_the_same_package(built: Steps) -> None:
    elf = Elf.read(built.image)
    known = names(built, elf)
    with built.image.open("rb") as file:
        units = compiled_in(ELFFile(file))
    functions = [each for each in elf.symbols.functions() if each.size and each.value in units]
    assert len(functions) > 1000
    told = {each.name: (known.package(each), units[each.value]) for each in functions}
    other = {name: pair for name, pair in told.items() if pair[0] != pair[1] and pair[0] not in (OTHER, EQUAL)}
    lent = linked_by_name(built, {unit for _, unit in other.values()})
    assert {name: pair for name, pair in other.items() if name not in lent} == {}
    # What a name does not tell: assembly of Go's own, and comparisons of types without a name.
    assert sum(group in (OTHER, EQUAL) for group, _ in told.values()) < 60


def test_the_go_command_knows_every_package_that_is_named(built: Steps) -> None:
    known = names(built, elf := Elf.read(built.image))
    named = {known.package(each) for each in elf.symbols.all() if each.name and each.kind in (STT_FUNC, STT_OBJECT)}
    done = subprocess.run(
        [built.go.root / "bin" / "go", "list", "-deps", "-f", "{{.ImportPath}}", "."],
        cwd=built.project.package,
        env={**os.environ, **built.go.environment()},
        capture_output=True,
        text=True,
        check=True,
    )
    listed = {"main" if each == "kernel" else each for each in done.stdout.split()}
    packages = {each for each in named if not each.startswith("(") and not each.endswith(".s")}
    assert {"main", "kernel/uart", "internal/runtime/maps"} <= packages
    lent = {group_of(name) for name in linked_by_name(built, {"runtime"})}
    assert packages - listed <= lent
    assert len(packages - listed) < 4
