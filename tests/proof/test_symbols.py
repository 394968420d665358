"""The claim about symbols, and images whose symbol tables say something else."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

from buildsys.formats.elf import SHT_SYMTAB, Elf
from buildsys.formats.symbols import STB_GLOBAL, STB_LOCAL, STT_FUNC, STT_NOTYPE, Symbol
from buildsys.proof.case import Case
from buildsys.proof.claims import symbols
from tests.binutils import binutils

from .conftest import OnlyRed
from .mutants import edited, of_files

BARRIER, FATAL = "runtime.gcWriteBarrier3", "runtime.panicwrap"
ENTRY = struct.Struct("<IBBHQQ")  # Elf64_Sym: name, info, other, section, value, size
# What is found by a name cannot be found without it: calls of ours cannot be counted, a check has no call of
# ours, there is nothing to try; and calls that went to the runtime's cannot be told from others.
WITHOUT_OURS = {"call-sites", "flag-readers", "handlers"}
WITHOUT_THEIRS = {"call-sites"}


def of(case: Case, name: str, binding: int) -> Symbol:
    return next(each for each in case.elf.symbols.named(name)[name] if each.binding == binding)


def place(elf: Elf, symbol: Symbol) -> int:
    """The offset in the file of a symbol's entry."""
    table = next(section for section in elf.sections if section.kind == SHT_SYMTAB)
    number = list(elf.symbols.all()).index(symbol) + 1  # all but the null symbol
    return table.offset + ENTRY.size * number


def with_symbol(case: Case, folder: Path, symbol: Symbol, **changes: int) -> Case:
    """`case` with another entry for `symbol` in both images, which have one symbol table."""
    at = place(case.elf, symbol)
    assert at == place(case.before, symbol)
    fields = dict(
        zip(("name", "info", "other", "section", "value", "size"), ENTRY.unpack_from(case.elf.data, at), strict=True)
    )
    assert changes.keys() <= fields.keys()
    return edited(case, folder, {at: ENTRY.pack(*(fields | changes).values())})


def with_another(case: Case, folder: Path, like: Symbol, binding: int, value: int) -> Case:
    """`case` with one more symbol of the name of `like`: the table is moved to the end of the file to have room."""
    paths = []
    for elf, name in ((case.elf, "mutant.elf"), (case.before, "mutant.unpatched.elf")):
        table = next(section for section in elf.sections if section.kind == SHT_SYMTAB)
        entry = ENTRY.unpack_from(elf.data, place(elf, like))
        more = ENTRY.pack(entry[0], binding << 4 | STT_FUNC, 0, entry[3], value, entry[5])
        (headers,) = struct.unpack_from("<Q", elf.data, 40)
        at = headers + 64 * table.index
        data = bytearray(elf.data) + elf.contents(table) + more
        struct.pack_into("<QQ", data, at + 24, len(elf.data), table.size + len(more))  # sh_offset, sh_size
        paths.append(folder / name)
        paths[-1].write_bytes(data)
    return of_files(case, *paths)


def info(symbol: Symbol, binding: int) -> Mapping[str, int]:
    return {"info": binding << 4 | symbol.kind}


def test_the_reference_kernel_passes(case: Case) -> None:
    verdict = symbols.check(case)
    assert verdict.passed, verdict.details
    assert len(verdict.details) == 2 * len(case.plan.barriers) == 16


def test_nm_prints_the_same_table(case: Case) -> None:
    """The seed's table, from a tool that is not this project's."""
    said = {line for line in binutils("nm", str(case.image)).splitlines() if "gcWriteBarrier" in line}
    ours = {line.split("   ")[0] for line in symbols.check(case).details}
    assert ours == {line for line in said if line.split()[2] in case.barriers}


def test_ours_made_local_is_seen(case: Case, tmp_path: Path, only_red: OnlyRed) -> None:
    ours, theirs = of(case, BARRIER, STB_GLOBAL), of(case, BARRIER, STB_LOCAL)
    mutant = with_symbol(case, tmp_path, ours, **info(ours, STB_LOCAL))
    said = only_red("our barrier local", mutant, "symbols", WITHOUT_OURS)
    assert said.figure.startswith(f"{BARRIER}: one local and one global function expected, found ")
    assert f"{ours.value:#x} t" in said.figure
    assert f"{theirs.value:#x} t" in said.figure


def test_theirs_made_global_is_seen(case: Case, tmp_path: Path, only_red: OnlyRed) -> None:
    ours, theirs = of(case, BARRIER, STB_GLOBAL), of(case, BARRIER, STB_LOCAL)
    mutant = with_symbol(case, tmp_path, theirs, **info(theirs, STB_GLOBAL))
    said = only_red("the runtime's barrier global", mutant, "symbols", WITHOUT_OURS)
    assert f"{theirs.value:#x} T" in said.figure
    assert f"{ours.value:#x} T" in said.figure


def test_a_missing_symbol_is_seen(case: Case, tmp_path: Path, only_red: OnlyRed) -> None:
    ours, theirs = of(case, BARRIER, STB_GLOBAL), of(case, BARRIER, STB_LOCAL)
    mutant = with_symbol(case, tmp_path, theirs, name=0)
    said = only_red("the runtime's barrier without a name", mutant, "symbols", WITHOUT_THEIRS)
    assert said.figure == f"{BARRIER}: one local and one global function expected, found {ours.value:#x} T"


def test_a_renamed_symbol_is_seen(case: Case, tmp_path: Path, only_red: OnlyRed) -> None:
    """The name of another function, which has three then."""
    ours, theirs = of(case, FATAL, STB_GLOBAL), of(case, FATAL, STB_LOCAL)
    another = of(case, "runtime.gopanic", STB_GLOBAL)
    (name,) = struct.unpack_from("<I", case.elf.data, place(case.elf, another))
    said = only_red("our panic renamed", with_symbol(case, tmp_path, ours, name=name), "symbols", WITHOUT_THEIRS)
    assert f"{FATAL}: one local and one global function expected, found {theirs.value:#x} t" in said.details
    assert any(line.startswith("runtime.gopanic: ") and f"{ours.value:#x} T" in line for line in said.details)


def test_a_second_symbol_of_the_same_name_is_seen(case: Case, tmp_path: Path, only_red: OnlyRed) -> None:
    theirs = of(case, BARRIER, STB_LOCAL)
    mutant = with_another(case, tmp_path, theirs, STB_LOCAL, theirs.value + 8)
    said = only_red("a second local barrier of one name", mutant, "symbols")
    assert f"{theirs.value:#x} t" in said.figure
    assert f"{theirs.value + 8:#x} t" in said.figure


def test_a_second_global_symbol_is_seen(case: Case, tmp_path: Path, only_red: OnlyRed) -> None:
    ours = of(case, FATAL, STB_GLOBAL)
    mutant = with_another(case, tmp_path, ours, STB_GLOBAL, ours.value + 8)
    said = only_red("a second global panic of one name", mutant, "symbols", WITHOUT_THEIRS)
    assert said.figure.startswith(f"{FATAL}: ")
    assert f"{ours.value + 8:#x} T" in said.figure


def test_one_address_for_both_is_seen(case: Case, tmp_path: Path, only_red: OnlyRed) -> None:
    """Where our function is then, the image has nothing that branches to itself."""
    ours, theirs = of(case, FATAL, STB_GLOBAL), of(case, FATAL, STB_LOCAL)
    mutant = with_symbol(case, tmp_path, ours, value=theirs.value)
    said = only_red("one address for both panics", mutant, "symbols", WITHOUT_THEIRS)
    assert said.figure == f"{FATAL}: the local and the global function are the same, at {theirs.value:#x}"


def test_something_else_than_a_function_is_seen(case: Case, tmp_path: Path, only_red: OnlyRed) -> None:
    ours = of(case, FATAL, STB_GLOBAL)
    mutant = with_symbol(case, tmp_path, ours, info=STB_GLOBAL << 4 | STT_NOTYPE)
    said = only_red("our panic a label, no function", mutant, "symbols", WITHOUT_THEIRS)
    assert said.figure.startswith(f"{FATAL}: one local and one global function expected, found ")
    assert f"{ours.value:#x}" not in said.figure
