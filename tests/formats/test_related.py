"""What relocations say, held against GNU's readelf."""

from __future__ import annotations

import re

from buildsys.formats.related import ABS64, Relations
from buildsys.proof.case import Case
from tests.binutils import binutils


def test_readelf_names_the_same_places_and_targets(case: Case) -> None:
    text = binutils("readelf", "-r", "-W", str(case.unpatched))
    theirs: dict[int, int] = {}
    section = ""
    for line in text.splitlines():
        if head := re.match(r"Relocation section '(.+?)'", line):
            section = head[1]
        row = re.match(r"([0-9a-f]{16})\s+[0-9a-f]{16} R_AARCH64_(\w+)\s+([0-9a-f]{16}) .* ([+-]) ([0-9a-f]+)$", line)
        if row and section in (".rela.text", ".rela.data", ".rela.rodata") and not row[2].startswith("TLS"):
            theirs[int(row[1], 16)] = int(row[3], 16) + int(row[4] + row[5], 16)
    ours = {each.place: each.target for each in Relations(case.before).between(0, 1 << 64)}
    assert ours == theirs
    assert len(ours) > 20000


def test_pointers_in_data_hold_what_their_relocation_names(case: Case) -> None:
    relations = Relations(case.before)
    pointers = [each for each in relations.between(0, 1 << 64) if each.kind == ABS64]
    assert len(pointers) > 1000
    assert all(case.before.word(each.place, 8) == each.target for each in pointers)


def test_a_range_has_what_lies_in_it_and_no_more(case: Case) -> None:
    relations = Relations(case.before)
    every = [each.place for each in relations.between(0, 1 << 64)]
    assert every == sorted(every)
    low, high = every[100], every[200]
    assert [each.place for each in relations.between(low, high)] == every[100:200]
    assert low in relations
    assert 0x10 not in relations
