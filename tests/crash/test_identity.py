"""The identity of an image: of its contents and configuration, the same wherever it is built, and in the exit."""

from __future__ import annotations

import hashlib
import itertools
import json
from pathlib import Path

import pytest

from buildsys.formats.elf import Elf
from buildsys.formats.identity import SIZE, Identity, identity, place
from buildsys.front.steps import Steps
from buildsys.machines import embedded

pytestmark = pytest.mark.slow


def test_it_is_the_hash_of_the_image_with_the_hash_blank_and_of_the_configuration(built: Steps) -> None:
    data = bytearray(built.image.read_bytes())
    elf = Elf(bytes(data))
    carried, address = identity(elf), place(elf)
    assert address is not None
    at = data.find(carried)
    assert elf.file_offset(address) == at
    data[at : at + SIZE] = bytes(SIZE)
    configuration = json.dumps(built.configuration, sort_keys=True).encode()
    code = [(each.offset, each.offset + each.size) for each in elf.code]
    around = [data[end:start] for (_, end), (start, _) in itertools.pairwise([(0, 0), *code, (len(data), 0)])]
    hashed = b"".join([*around, *(data[low:high] for low, high in code), configuration])
    assert len(hashed) == len(data) + len(configuration)
    assert hashlib.sha256(hashed).digest() == carried
    # System V ABI, chapter 5, Note Section: sizes of name and description, kind, name.
    assert bytes(data[at - 24 : at]) == (9).to_bytes(4, "little") + (32).to_bytes(4, "little") + (1).to_bytes(
        4, "little"
    ) + b"buildsys\0".ljust(12, b"\0")


def test_what_is_identified_again_keeps_its_identity_and_another_configuration_changes_it(built: Steps) -> None:
    data = built.image.read_bytes()
    elf, configuration = Elf(data), json.dumps(built.configuration, sort_keys=True).encode()
    at = elf.file_offset(place(elf) or 0) or 0
    for middle in (1 + len(data) // 3, at - 8, at, at + 5, at + SIZE):  # wherever the pieces meet
        pieces: list[bytes | memoryview] = [data[:middle], memoryview(data)[middle:]]
        assert list(Identity(elf).of(pieces, configuration)) == [(at, identity(elf))]
    [(_, other)] = Identity(elf).of([data], configuration + b" ")
    assert other != identity(elf)


def test_what_was_hashed_before_the_changes_were_known_counts_only_where_nothing_changed(built: Steps) -> None:
    data = built.image.read_bytes()
    elf, view = Elf(data), memoryview(data)
    section = elf.code[0]
    low, high = section.offset, section.offset + section.size
    outside = elf.section(".data")
    assert outside is not None
    for start, end in ((low, high), (low + 8, high - 8), (outside.offset, outside.offset + 8), (high - 4, high + 4)):
        pieces: list[bytes | memoryview] = [view[:start], bytes(end - start), view[end:]]
        ahead = Identity(elf)
        ahead.begin()
        found = list(ahead.of(pieces, b""))
        assert found == list(Identity(Elf(b"".join(pieces))).of([b"".join(pieces)], b"")) != []
    assert list(ahead.of([view, bytes(8)], b"")) == list(Identity(elf).of([data + bytes(8)], b""))  # made longer


def test_a_run_proves_its_end_by_it(built: Steps, tmp_path: Path) -> None:
    good = embedded.run(built.image, built.project.board, 20)
    assert (good.exit_code, good.doubt, good.well) == (0, "", True)
    assert good.identity == identity(Elf.read(built.image)).hex()
    # An image whose file claims to be another: as if the machine had been given a file that is not the one at hand.
    elf = Elf.read(built.image)
    code = elf.symbols.named("buildsys.exit")["buildsys.exit"][0]
    at = elf.file_offset(code.value) or 0
    data = bytearray(elf.data)
    echo = data.find((0xA9BF13E3).to_bytes(4, "little"), at, at + code.size)  # stp x3, x4, [sp, #-16]!
    assert echo > 0
    data[echo : echo + 4] = (0xA9BF7FFF).to_bytes(4, "little")  # stp xzr, xzr, [sp, #-16]!
    (tmp_path / "silent.elf").write_bytes(data)
    silent = embedded.run(tmp_path / "silent.elf", built.project.board, 20)
    assert (silent.exit_code, silent.well) == (0, False)
    assert "did not name this image" in silent.doubt
