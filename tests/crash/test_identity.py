"""The identity of an image: of its contents and configuration, the same wherever it is built, and in the exit."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from buildsys.formats.elf import Elf
from buildsys.formats.identity import SIZE, identified, identity, place
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
    configuration = json.dumps(built._configuration, sort_keys=True).encode()
    assert hashlib.sha256(bytes(data) + configuration).digest() == carried
    # System V ABI, chapter 5, Note Section: sizes of name and description, kind, name.
    assert bytes(data[at - 24 : at]) == (9).to_bytes(4, "little") + (32).to_bytes(4, "little") + (1).to_bytes(
        4, "little"
    ) + b"buildsys\0".ljust(12, b"\0")


def test_what_is_identified_again_keeps_its_identity_and_another_configuration_changes_it(built: Steps) -> None:
    data = built.image.read_bytes()
    elf, configuration = Elf(data), json.dumps(built._configuration, sort_keys=True).encode()
    at = elf.file_offset(place(elf) or 0) or 0
    for middle in (1 + len(data) // 3, at - 8, at, at + 5, at + SIZE):  # wherever the pieces meet
        pieces: list[bytes | memoryview] = [data[:middle], memoryview(data)[middle:]]
        assert list(identified(elf, pieces, configuration)) == [(at, identity(elf))]
    [(_, other)] = identified(elf, [data], configuration + b" ")
    assert other != identity(elf)


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
