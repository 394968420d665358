"""The symbol table read is the one pyelftools reads, whichever linker wrote it."""

from __future__ import annotations

import random
from collections import defaultdict
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
from elftools.elf.elffile import ELFFile
from hypothesis import given
from hypothesis import strategies as st

from buildsys.formats.elf import Elf
from buildsys.formats.symbols import STT_FUNC, STT_OBJECT, Symbol, Symbols
from buildsys.front.steps import Steps

from .images import FUNC, GLOBAL, LOCAL, NOTYPE, OBJECT, Name, Part, elf, words

KINDS = {"STT_NOTYPE": 0, "STT_OBJECT": 1, "STT_FUNC": 2, "STT_SECTION": 3, "STT_FILE": 4, "STT_TLS": 6}
BINDINGS = {"STB_LOCAL": 0, "STB_GLOBAL": 1, "STB_WEAK": 2}
SECTIONS = {"SHN_UNDEF": 0, "SHN_ABS": 0xFFF1, "SHN_COMMON": 0xFFF2}


class Table:
    """One image's symbols, as we and as pyelftools read them."""

    def __init__(self, path: Path) -> None:
        self.ours = Elf.read(path).symbols
        with path.open("rb") as file:
            table: Any = ELFFile(file).get_section_by_name(".symtab")
            self.theirs = [_symbol(each) for each in table.iter_symbols()]
            self.offsets = [each["st_name"] for each in (each.entry for each in table.iter_symbols())]
            strings: Any = table.stringtable
            self.strings: bytes = strings.data()

    @cached_property
    def by_name(self) -> dict[str, list[Symbol]]:
        found = defaultdict(list)
        for symbol in self.theirs:
            if symbol.section:
                found[symbol.name].append(symbol)
        return found


def _symbol(each: Any) -> Symbol:
    info, section = each["st_info"], each["st_shndx"]
    return Symbol(
        each.name,
        each["st_value"],
        each["st_size"],
        KINDS[info["type"]],
        BINDINGS[info["bind"]],
        SECTIONS.get(section, section),
    )


@pytest.fixture(scope="session", params=["lld", "GNU ld", "Go"])
def table(request: pytest.FixtureRequest, images: dict[str, Path], built: Steps) -> Table:
    return Table({**images, "Go": built.go_object}[request.param])


def test_every_symbol_is_the_one_pyelftools_reads(table: Table) -> None:
    assert len(table.ours) == len(table.theirs) > 1_000
    assert list(table.ours.all()) == table.theirs[1:]
    assert [table.ours.by_index(at) for at in range(0, len(table.theirs), 97)] == table.theirs[::97]
    assert table.ours.by_index(len(table.theirs)) is None
    assert table.ours.by_index(-1) is None
    assert table.ours.all_names() == {symbol.name for symbol in table.theirs}


def test_a_name_is_found_wherever_its_letters_are_kept(table: Table) -> None:
    known = sorted(name for name in table.by_name if name)
    asked = random.Random(1).sample(known, 300)
    # Tails of names, which may be names of other symbols or of none.
    asked += [name[at:] for name in asked[:100] for at in (1, len(name) // 2, len(name) - 1) if name[at:]]
    found = table.ours.named(*asked)
    assert found == {name: table.by_name.get(name, []) for name in asked}
    assert any(found.values())
    assert not all(found.values())


def test_a_name_inside_another_is_found(images: dict[str, Path]) -> None:
    table = Table(images["GNU ld"])
    shared = {
        symbol.name
        for symbol, offset in zip(table.theirs, table.offsets, strict=True)
        if symbol.name and symbol.section and table.strings[offset - 1] != 0
    }
    assert shared, "this linker shared no tails: nothing was tried"
    assert table.ours.named(*shared) == {name: table.by_name[name] for name in shared}


@pytest.mark.parametrize("linker", ["lld", "GNU ld"])
def test_every_address_in_a_function_or_variable_leads_to_it(images: dict[str, Path], linker: str) -> None:
    table = Table(images[linker])
    for kind, look in ((STT_FUNC, table.ours.function_at), (STT_OBJECT, table.ours.object_at)):
        sized = [symbol for symbol in table.theirs if symbol.kind == kind and symbol.size and symbol.section]
        places = defaultdict(set)
        for symbol in sized:
            for address in (symbol.value, symbol.value + symbol.size // 2, symbol.end - 1):
                places[address].add(symbol)
        assert len(places) > 500
        for address, holding in places.items():
            found = look(address)
            assert found is not None, f"nothing at {address:#x}, where {holding} is"
            assert found.value <= address < found.end, f"{found} at {address:#x}, where {holding} is"


def test_functions_are_listed_by_address(table: Table) -> None:
    functions = table.ours.functions()
    assert [each.value for each in functions] == sorted(each.value for each in functions)
    assert sorted(functions, key=repr) == sorted(
        (each for each in table.theirs if each.kind == STT_FUNC and each.section), key=repr
    )


def test_letters_are_those_of_nm() -> None:
    assert Symbol("f", 0, 0, FUNC, LOCAL, 1).letter() == "t"
    assert Symbol("f", 0, 0, FUNC, GLOBAL, 1).letter() == "T"


def made(names: list[Name]) -> Symbols:
    return elf([Part(".text", 64, words(0))], names).symbols


@st.composite
def tables(draw: st.DrawFn) -> list[Name]:
    """Functions and variables that do not overlap, some without a size, several at one address."""
    names, address = [], 64
    for number in range(draw(st.integers(0, 10))):
        address += draw(st.integers(0, 8))
        sizes = draw(st.lists(st.integers(0, 8), min_size=1, max_size=3))
        kind = draw(st.sampled_from([FUNC, OBJECT, NOTYPE]))
        names += [Name(f"{number}.{at}", address, size, kind) for at, size in enumerate(sizes)]
        address += max(sizes)
        if draw(st.booleans()):
            names.append(Name(f"undefined{number}", draw(st.integers(0, 100)), 8, kind, section=0))
    return draw(st.permutations(names))


def naive(names: list[Name], kind: int, address: int) -> str:
    """The largest at the highest address not above `address`, if that reaches so far or has no size."""
    before = [name for name in names if name.kind == kind and name.section and name.value <= address]
    if not before:
        return ""
    nearest = max(before, key=lambda name: (name.value, name.size))
    return nearest.name if not nearest.size or address < nearest.value + nearest.size else ""


@given(tables(), st.lists(st.integers(0, 200), max_size=20))
def test_what_an_address_lies_in_is_what_a_plain_search_finds(names: list[Name], addresses: list[int]) -> None:
    symbols = made(names)
    sizes = {name.name: (name.value, name.size) for name in names}
    for address in addresses:
        for kind, look in ((FUNC, symbols.function_at), (OBJECT, symbols.object_at)):
            found = look(address)
            expected = naive(names, kind, address)
            assert sizes.get(found.name if found else "") == sizes.get(expected)
    for each in (addresses, sorted(addresses)):
        told = [sizes.get(name) for name in symbols.function_names(each)]
        assert told == [sizes.get(naive(names, FUNC, address)) for address in each]


@given(st.lists(st.sampled_from(["a", "b", "ab", "bab", "abab", "ba", "ä", "b.a"]), max_size=8))
def test_names_made_of_one_another_are_told_apart(bearers: list[str]) -> None:
    symbols = made([Name(name, 64 + at) for at, name in enumerate(bearers)])
    asked = ["a", "b", "ab", "bab", "abab", "ba", "ä", "b.a", "c", "abababab"]
    found = symbols.named(*asked)
    assert {name: [symbol.value - 64 for symbol in found[name]] for name in asked} == {
        name: [at for at, bearer in enumerate(bearers) if bearer == name] for name in asked
    }


@given(st.lists(st.sampled_from(["a", "b", "ab", "bab", "abab", "ba", "ä", "b.a"]), max_size=8))
def test_many_names_are_found_as_few_are(bearers: list[str]) -> None:
    table = made([Name(name, 16 * at) for at, name in enumerate(bearers)])
    asked = ["a", "b", "ab", "bab", "abab", "ba", "ä", "b.a", ""]
    others = [f"other{number}" for number in range(100)]
    assert table.named(*asked, *others) == table.named(*asked) | {name: [] for name in others}


def test_all_names_of_an_image_at_once_are_those_found_one_by_one(table: Table) -> None:
    """GNU ld keeps a name that ends another inside of it."""
    names = sorted(name for name in table.by_name if name)[::17]
    assert len(names) > 100
    together = table.ours.named(*names)
    assert {name: together[name] for name in names} == {name: table.ours.named(name)[name] for name in names}


def test_a_name_of_several_values_has_no_address() -> None:
    symbols = made([Name("one", 64), Name("two", 64), Name("two", 72), Name("same", 80), Name("same", 80, kind=OBJECT)])
    assert symbols.addresses("one", "two", "same", "none") == {"one": 64, "same": 80}


def test_an_undefined_symbol_is_not_found() -> None:
    assert made([Name("far", 0, section=0)]).named("far") == {"far": []}
