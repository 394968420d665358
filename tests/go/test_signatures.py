"""What functions take and give, as DWARF tells it: against their sources, pyelftools, and the runtime's own table."""

from __future__ import annotations

import re
from io import BytesIO
from typing import Any

import pytest
from elftools.elf.elffile import ELFFile

from buildsys.formats.elf import Elf
from buildsys.go.agreement import Agreement, compare
from buildsys.go.described import described
from buildsys.go.frames import argument_bytes, in_registers, on_stack
from buildsys.go.signatures import Signature, Told
from tests.agreeing import address, linked, releases

# As tests/kernels/agreeing has them, types with their packages.
SHAPES = {
    "main.many": "(a int, b uintptr, c float64, d string, e []uint8, f main.shape, g interface {}, h map[string]int) "
    "(int, *main.pair, error)",
    "main.more": "(i chan int, j func(int) error, k [3]int, l *main.pair, m main.pair, n unsafe.Pointer, o []string) "
    "(x complex128)",
    "main.small": "(a bool, b int8, c main.named, d [1]uint32, e struct {}) (f float32)",
    "main.unnamed": "(a int, _ string, b int32) int32",
    "main.nothing": "()",
    "main.pair.value": "(p main.pair, by int) string",
    "main.(*pair).pointer": "(p *main.pair, by int) (sum int)",
    "main.large": "(a [100]int, b [100]int, c [100]int) [100]int",
    "main.KernelMain": "() int32",
}
NAMES_ALL = (1, 22)
INTERNAL, STACK = "ABIInternal (arguments in registers)", "ABI0 (arguments on the stack)"


@pytest.fixture(scope="module", params=releases(), ids=lambda go: go.release)
def image(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[tuple[int, ...], Elf]:
    """The kernel of tests/kernels/agreeing, linked, by each Go there is; and the version of that Go."""
    go = request.param
    steps = linked(tmp_path_factory.mktemp("agreeing") / "kernel", str(go.root))
    return go.version, Elf.read(steps.unpatched)


Image = tuple[tuple[int, ...], Elf]


def told(elf: Elf, *names: str) -> dict[str, Signature]:
    places = {name: address(elf, name) for name in names}
    found = described(elf, places.values())
    assert not found.unreadable
    return {name: found.signatures[place] for name, place in places.items()}


def test_functions_are_told_as_they_are_written(image: Image) -> None:
    version, elf = image
    found = told(elf, *SHAPES)
    expected = SHAPES if version >= NAMES_ALL else SHAPES | {"main.unnamed": "(a int, b int32) int32"}
    assert {name: str(each) for name, each in found.items()} == expected
    assert all(each.told is Told.GO and not each.abi0 for each in found.values())
    assert {name for name, each in found.items() if not each.complete} == (
        set() if version >= NAMES_ALL else {"main.unnamed"}
    )
    assert found["main.many"].place.startswith("kernel/shapes.go")
    assert not any(each.generic or each.captures for each in found.values())


def test_instances_of_generic_functions_are_passed_a_dictionary(image: Image) -> None:
    _, elf = image
    names = [each.name for each in elf.symbols.functions() if each.name.startswith(("main.generic[", "main.(*list["))]
    assert len(names) == 3
    for name, each in told(elf, *names).items():
        assert each.generic, name
        assert each.complete, name
        assert len(each.parameters) == 2, name
        assert ".dict" not in str(each)


def test_assembly_is_known_to_be_unknown(image: Image) -> None:
    _, elf = image
    found = told(elf, "runtime.memmove", "main.inAssembly.abi0", "replaceWord")
    assert [each.told for each in found.values()] == [Told.ASSEMBLY, Told.ASSEMBLY, Told.NOTHING]
    assert [each.argument_bytes for each in found.values()] == [24, 24, None]
    assert [each.abi0 for each in found.values()] == [False, True, False]
    assert all(not each.parameters for each in found.values())


def test_the_runtimes_table_agrees_on_every_function_in_go(image: Image) -> None:
    version, elf = image
    functions = {each.value: each.name for each in elf.symbols.functions() if each.size}
    found = described(elf, functions)
    sizes = argument_bytes(elf, functions)
    known = {
        at: each for at, each in found.signatures.items() if each.told is Told.GO and not each.abi0 and at in sizes
    }
    assert len(known) > 800
    differing = {each.name: (str(each), in_registers(each), sizes[at])
                 for at, each in known.items() if in_registers(each) != sizes[at]}  # fmt: skip
    assert differing.keys() == {each.name for each in known.values() if not each.complete}
    if version >= NAMES_ALL:
        assert not differing
    else:
        assert len(differing) < 20
        assert "main.unnamed" in differing


def test_pyelftools_reads_the_same_of_every_function(image: Image) -> None:
    version, elf = image
    if version[:2] not in ((1, 19), (1, 27)):
        return  # one of DWARF 4 and one of DWARF 5 are enough: it takes seconds
    functions = {
        each.value: each.name for each in elf.symbols.functions() if each.name.startswith(("main.", "kernel/"))
    }
    ours = described(elf, functions)
    theirs = read_by_pyelftools(elf)
    compared = 0
    for at, signature in ours.signatures.items():
        if signature.told is Told.GO:
            taken, given = theirs[at]
            assert [each.type.name for each in signature.parameters] == taken, signature.name
            assert [each.type.name for each in signature.results] == given, signature.name
            compared += 1
    assert compared > 25


def read_by_pyelftools(elf: Elf) -> dict[int, tuple[list[str], list[str]]]:
    """The types of parameters and results of the functions of package main, by address."""
    dwarf: Any = ELFFile(BytesIO(elf.data)).get_dwarf_info(relocate_dwarf_sections=False)
    found = {}
    for unit in dwarf.iter_CUs():
        if unit.get_top_DIE().attributes["DW_AT_name"].value != b"main":
            continue
        for die in unit.iter_DIEs():
            if die.tag == "DW_TAG_subprogram" and "DW_AT_low_pc" in die.attributes:
                taken: list[str] = []
                given: list[str] = []
                for child in die.iter_children():
                    if child.tag == "DW_TAG_formal_parameter":
                        about = (child.get_DIE_from_attribute("DW_AT_abstract_origin")
                                 if "DW_AT_abstract_origin" in child.attributes else child)  # fmt: skip
                        name = about.get_DIE_from_attribute("DW_AT_type").attributes["DW_AT_name"].value.decode()
                        if about.attributes["DW_AT_name"].value != b".dict":
                            (given if about.attributes["DW_AT_variable_parameter"].value else taken).append(name)
                found[die.attributes["DW_AT_low_pc"].value] = (taken, given)
    return found


def agreement(elf: Elf, old: str, new: str) -> Agreement:
    found = told(elf, old, new)
    return compare(found[old], found[new])


@pytest.mark.parametrize(
    ("new", "mismatch"),
    [
        ("main.narrow", "x is int, not int32 (8 and 4 bytes)"),
        ("main.float", "x is int, not float64"),
        ("main.pointer", "x is int, not unsafe.Pointer"),
        ("main.boolean", "x is int, not bool (8 and 1 bytes)"),
        ("main.two", "main.increment has 1 parameter, main.two 2"),
        ("main.silent", "main.increment has 1 result, main.silent 0"),
        ("main.inAssembly.abi0", f"main.increment is called by {INTERNAL}, main.inAssembly.abi0 by {STACK}"),
        ("runtime.memmove", "main.increment takes and gives 16 bytes, runtime.memmove 24"),
    ],
)  # fmt: skip
def test_what_is_passed_otherwise_is_a_mismatch(image: Image, new: str, mismatch: str) -> None:
    found = agreement(image[1], "main.increment", new)
    assert found.mismatches == (mismatch,)


def test_a_parameter_without_a_name_is_missed_by_no_release(image: Image) -> None:
    version, elf = image
    (mismatch,) = agreement(elf, "main.increment", "main.extra").mismatches
    if version >= NAMES_ALL:
        assert mismatch == "main.increment has 1 parameter, main.extra 2"
    else:
        assert mismatch == (
            "main.increment is passed 8 bytes, main.extra 16, some of it in parameters without a name, "
            "which this Go does not tell"
        )


def test_what_only_has_another_name_is_passed_alike(image: Image) -> None:
    _, elf = image
    assert agreement(elf, "main.increment", "main.same") == compare(*told(elf, "main.increment", "main.same").values())
    assert not agreement(elf, "main.increment", "main.same").mismatches
    unsigned = agreement(elf, "main.increment", "main.unsigned")
    assert not unsigned.mismatches
    assert len(unsigned.remarks) == 2
    assert unsigned.remarks[0] == "x is int, not uint: passed alike"


def test_a_pointer_of_no_type_stands_for_any(image: Image) -> None:
    _, elf = image
    found = agreement(elf, "runtime.mallocgc", "main.alloc")
    assert (found.mismatches, found.remarks, found.unknown) == ((), (), ())


def test_assembly_is_held_to_what_it_says_of_itself(image: Image) -> None:
    _, elf = image
    good, bad = agreement(elf, "runtime.memmove", "main.move"), agreement(elf, "runtime.memmove", "main.moveNot")
    assert not good.mismatches
    assert [each.name for each in good.unknown] == ["runtime.memmove"]  # it says how many bytes, not what they are
    assert bad.mismatches == ("runtime.memmove takes and gives 24 bytes, main.moveNot 16",)


def test_a_closure_stands_for_nothing(image: Image) -> None:
    version, elf = image
    (name,) = [
        each.name for each in elf.symbols.functions() if re.fullmatch(r"main\.(closure|keep).*\.func1", each.name)
    ]
    found = agreement(elf, "main.increment", name)
    if version >= (1, 23):  # cmd/internal/dwarf: the first that tells what a closure captured
        assert found.mismatches == (
            f"{name} uses outside of the function around it, which are given by whoever makes a closure, not by a call",
        )


def test_how_many_bytes_are_passed_is_counted_as_the_compiler_does(image: Image) -> None:
    _, elf = image
    found = told(elf, "main.spread", "main.large", "main.more", "main.many", "main.nothing")
    for name, each in found.items():
        assert each.complete, name
        assert each.argument_bytes == in_registers(each), name
    # By hand: 17 words, two floats and a string; two arrays of two words.
    assert on_stack(found["main.spread"]) == 17 * 8 + 2 * 8 + 16 + 2 * 16
    assert on_stack(found["main.large"]) == 4 * 800
