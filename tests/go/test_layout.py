"""Field offsets are those a full reading of the DWARF gives, and what cannot be read is said."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from elftools.elf.elffile import ELFFile
from hypothesis import given, settings
from hypothesis import strategies as st

from buildsys.errors import UserError
from buildsys.formats.dwarf import layout
from buildsys.formats.elf import Elf
from buildsys.front.steps import Steps
from buildsys.go import layout as go_layout
from buildsys.go.layout import WANTED, layouts
from buildsys.go.options import GoOptions
from buildsys.go.toolchain import GoToolchain
from buildsys.stages.compilation import make_object
from buildsys.stages.objects import describe_runtime


def structures(path: Path) -> Iterator[tuple[str, dict[str, int]]]:
    """Every structure type pyelftools finds: its name, and offsets by field, its size under ""."""
    with path.open("rb") as file:
        dwarf: Any = ELFFile(file).get_dwarf_info(relocate_dwarf_sections=False)
        for unit in dwarf.iter_CUs():
            for die in unit.iter_DIEs():
                if die.tag == "DW_TAG_structure_type" and "DW_AT_name" in die.attributes:
                    fields = {
                        child.attributes["DW_AT_name"].value.decode(): child.attributes[
                            "DW_AT_data_member_location"
                        ].value
                        for child in die.iter_children()
                        if child.tag == "DW_TAG_member"
                    }
                    size = die.attributes["DW_AT_byte_size"].value
                    yield die.attributes["DW_AT_name"].value.decode(), {"": size} | fields


@pytest.fixture(scope="session")
def described(built: Steps) -> dict[str, dict[str, int]]:
    return dict(structures(built.go_object))


@pytest.fixture(scope="session")
def go_object(built: Steps) -> Elf:
    return Elf.read(built.go_object)


def dwarf_of(elf: Elf) -> tuple[bytes, bytes]:
    info, abbrev = elf.section(".debug_info"), elf.section(".debug_abbrev")
    assert info
    assert abbrev
    return elf.contents(info), elf.contents(abbrev)


@pytest.mark.slow
def test_every_structure_is_laid_out_as_pyelftools_reads_it(
    go_object: Elf, described: dict[str, dict[str, int]]
) -> None:
    info, abbrev = dwarf_of(go_object)
    assert len(described) > 200
    assert "runtime.g" in described
    for name, fields in described.items():
        assert layout(info, abbrev, name) == fields, name


def test_the_offsets_boot_code_needs_are_those_pyelftools_reads(
    go_object: Elf, described: dict[str, dict[str, int]]
) -> None:
    found = layouts(go_object)
    assert found == {
        key: described[structure][field]
        for structure, fields in WANTED.items()
        for key, field in ((structure, ""), *((f"{structure}.{field}", field) for field in fields))
    }
    # src/runtime/runtime2.go: compiled code and cgo know these two.
    assert (found["runtime.g.stack"], found["runtime.g.stackguard0"]) == (0, 16)


def test_a_structure_there_is_none_of_is_not_found(go_object: Elf) -> None:
    info, abbrev = dwarf_of(go_object)
    for name in ("runtime.nothing", "runtime", "time.g", "runtime.writeBarrier"):
        assert layout(info, abbrev, name) is None


def test_a_field_there_is_none_of_is_an_error(go_object: Elf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(go_layout, "WANTED", {"runtime.g": ("stack", "nothing")})
    with pytest.raises(UserError, match=r"go\.o: runtime\.g has no field 'nothing' in this Go release"):
        layouts(go_object)
    monkeypatch.setattr(go_layout, "WANTED", {"runtime.nothing": ()})
    with pytest.raises(UserError, match=r"go\.o: its DWARF does not describe runtime\.nothing"):
        layouts(go_object)


@pytest.mark.parametrize(
    ("ldflags", "message", "hint"),
    [("-w", "has no DWARF", "-w"), ("-s", "has no DWARF", "-s"), ("-compressdwarf=true", "", "")],
)
def test_an_object_that_lacks_what_is_needed_is_an_error_with_the_flag(
    go: GoToolchain, kernel: Path, tmp_path: Path, ldflags: str, message: str, hint: str
) -> None:
    made, output = tmp_path / "go.o", tmp_path / "runtime.json"
    make_object(go, kernel, GoOptions(ldflags=ldflags), made, tmp_path / "tools")
    if not message:
        describe_runtime(made, output)
        assert output.exists()
        return
    with pytest.raises(UserError) as caught:
        describe_runtime(made, output)
    assert caught.value.message.startswith(f"{made}: {message}")
    assert hint in caught.value.hint
    assert not output.exists()


@settings(max_examples=150)
@given(data=st.data())
def test_damaged_dwarf_is_never_more_than_not_found(go_object: Elf, data: st.DataObject) -> None:
    info, abbrev = dwarf_of(go_object)
    at = info.index(b"runtime.g\0")
    low = max(0, at - 40)
    part, table = bytearray(info[low : at + 400]), bytearray(abbrev)
    places = st.tuples(st.booleans(), st.integers(0, 10_000), st.integers(1, 255))
    for in_table, place, mask in data.draw(st.lists(places, max_size=6)):
        target = table if in_table else part
        target[place % len(target)] ^= mask
    cut = data.draw(st.integers(0, len(part)))
    found = layout(bytes(part[: len(part) - cut]), bytes(table), "runtime.g")
    assert found is None or "" in found


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_noise_is_no_dwarf(info: bytes, abbrev: bytes) -> None:
    assert layout(info, abbrev, "runtime.g") is None


def test_an_endless_number_is_no_number() -> None:
    assert (
        layout(b"\x01runtime.g\0" + b"\x80" * 100_000, b"\x01\x13\x00\x03\x08\x0b\x0f\x00\x00\x00", "runtime.g") is None
    )
    assert layout(b"\x01runtime.g\0\x08", b"\x80" * 100_000, "runtime.g") is None
