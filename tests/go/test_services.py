"""Services: told by name, and by what instructions do, which is held against GNU's disassembler."""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator
from pathlib import Path

import pytest

from buildsys.formats.elf import Elf
from buildsys.formats.symbols import Symbol
from buildsys.go.flag import code_of
from buildsys.go.services import THREAD, Classes, loads_thread, makes_system_calls, services
from buildsys.proof.case import Case
from tests.binutils import binutils
from tests.snippets import function, linked


def words(elf: Elf, name: str) -> array[int]:
    return code_of(elf).body(elf.symbols.addresses(name)[name]).words


def symbol(name: str) -> Symbol:
    return Symbol(name, 0, 4, 2, 0, 1)


@pytest.fixture(scope="module")
def disassembly(case: Case) -> dict[int, list[str]]:
    """Every function's instructions as objdump prints them, by address."""
    found: dict[int, list[str]] = {}
    lines: list[str] = []
    for line in binutils("objdump", "-d", "--no-show-raw-insn", str(case.image)).splitlines():
        if head := re.match(r"([0-9a-f]+) <", line):
            lines = found.setdefault(int(head[1], 16), [])
        elif "\t" in line:
            lines.append(line.split("\t", 1)[1].split("//")[0].strip())
    return found


def functions(case: Case) -> Iterator[tuple[Symbol, array[int]]]:
    for each in case.elf.symbols.functions():
        if each.size:
            yield each, case.code.body(each.value).words


def test_objdump_finds_the_same_functions_that_make_system_calls(case: Case, disassembly: dict[int, list[str]]) -> None:
    ours = {each.value for each, code in functions(case) if makes_system_calls(code)}
    theirs = {at for at, lines in disassembly.items() if any(line.startswith("svc") for line in lines)}
    assert ours == theirs
    assert len(ours) > 20


def test_objdump_finds_the_same_functions_that_load_the_thread(case: Case, disassembly: dict[int, list[str]]) -> None:
    """Directly; those that copy x28 first come in addition."""
    offset = case.offsets[THREAD]
    direct = re.compile(rf"ldr\tx\d+, \[x28, #{offset}\]")
    copy = re.compile(r"mov\t(x\d+), x28")
    ours = {each.value for each, code in functions(case) if loads_thread(code, offset)}
    theirs = {at for at, lines in disassembly.items() if any(direct.match(line) for line in lines)}
    assert theirs <= ours
    assert len(theirs) > 100
    for at in ours - theirs:
        copies = {found[1] for line in disassembly[at] if (found := copy.match(line))}
        assert any(f"[{register}, #{offset}]" in line for line in disassembly[at] for register in copies)


def test_a_copy_of_g_that_is_overwritten_loads_no_thread(tmp_path: Path) -> None:
    elf = linked(
        tmp_path,
        function("copied", "mov x3, x28", "add x5, x6, x7", "ldr x4, [x3, #48]", "ret")
        + function("overwritten", "mov x3, x28", "ldr x3, [x2]", "ldr x4, [x3, #48]", "ret")
        + function("other", "ldr x4, [x28, #40]", "str x4, [x28, #48]", "hlt #0xf000", "ret")
        + function("calls", "svc #7", "ret"),
    )
    assert loads_thread(words(elf, "copied"), 48)
    assert not loads_thread(words(elf, "overwritten"), 48)
    assert not loads_thread(words(elf, "other"), 48)
    assert makes_system_calls(words(elf, "calls"))
    assert not makes_system_calls(words(elf, "other"))


def test_what_a_function_does_counts_whatever_it_is_called() -> None:
    classes = Classes(services(), 48, ["kernel"])
    svc, ret = array("I", [0xD400_0001]), array("I", [0xD65F_03C0])
    found = classes.of(symbol("some/package.f"), svc)
    assert found
    assert found.name == "system calls"
    assert classes.of(symbol("some/package.f"), ret) is None
    assert classes.of(symbol("kernel/uart.f"), svc) is None  # the kernel's own: it knows what it does
    assert classes.of(symbol("main.f"), svc) is None


def test_a_pattern_matches_no_closure_and_either_abi() -> None:
    classes = Classes(services(), 48, [])
    names = {
        "runtime.futex.abi0": "futexes",
        "runtime.mallocgc": "the allocator",
        "runtime.(*mheap).alloc": "the allocator",
    }
    for name, service in names.items():
        found = classes.by_name(name)
        assert found
        assert found.name == service
    assert classes.by_name("runtime.mallocgc.func1") is None
    assert classes.by_name("main.runtime.mallocgc") is None


def test_every_service_has_functions_in_a_real_image(case: Case) -> None:
    """Names that no release has any more would be silent."""
    classes = Classes(services(), case.offsets[THREAD], [])
    found = {service.name for each, code in functions(case) if (service := classes.of(each, code))}
    assert found == {service.name for service in services()}
