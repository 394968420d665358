"""Source lines, held against pyelftools, which decodes whole tables."""

from __future__ import annotations

from buildsys.formats.lines import Lines
from buildsys.proof.case import Case
from buildsys.proof.lines import source_lines


def test_every_instruction_has_the_line_pyelftools_gives_it(case: Case) -> None:
    lines = Lines(case.elf)
    chosen = [each for each in case.elf.symbols.functions() if each.size and not each.is_global][::40]
    ours: dict[int, str] = {}
    for function in chosen:
        ours |= lines.of(function.value, range(function.value, function.end, 4))
    theirs = source_lines(case.image, [(at, each.name) for each in chosen for at in range(each.value, each.end, 4)])
    assert len(theirs) > 500
    assert {at: ours.get(at) for at in theirs} == theirs


def test_what_is_no_function_has_no_lines(case: Case) -> None:
    assert Lines(case.elf).of(case.elf.entry, [case.elf.entry]) == {}
    assert Lines(case.elf).of(0x1234, [0x1234]) == {}
