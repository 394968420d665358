"""A board file that describes no possible machine is refused, with a drawing of its memory where that helps."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from buildsys.config import board as boards
from buildsys.config.board import BOARDS, PAGE, Board
from buildsys.errors import UserError

NAME = "qemu-virt"
SHIPPED = (BOARDS / f"{NAME}.toml").read_text()
BOARD = boards.load(NAME, "the tests")
FLASH, DEVICES, RAM = BOARD.regions
OUTSIDE = RAM.end


class Edited:
    """The shipped board's file with some of its lines changed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def set(self, key: str, value: object) -> Edited:
        """Give `key`, written with its tables, another value."""
        table, _, name = key.rpartition(".")
        before, header, after = self.text.partition(f"[{table}]" if table else "")
        assert header or not table
        after, count = re.subn(rf"^{name} = [^#\n]*", f"{name} = {value} ", after, count=1, flags=re.MULTILINE)
        assert count == 1, key
        self.path.write_text(before + header + after)
        return self

    @property
    def text(self) -> str:
        return self.path.read_text()

    def load(self) -> Board:
        return boards.load(str(self.path), "the tests")

    def refused(self) -> UserError:
        with pytest.raises(UserError) as caught:
            self.load()
        return caught.value

    def line(self, beginning: str) -> str:
        """`file:line` of the only line that begins so."""
        numbers = [at for at, line in enumerate(self.text.split("\n"), 1) if line.startswith(beginning)]
        assert len(numbers) == 1, numbers
        return f"{self.path}:{numbers[0]}"


@pytest.fixture
def edited(tmp_path: Path) -> Edited:
    path = tmp_path / "mine.toml"
    path.write_text(SHIPPED)
    return Edited(path)


def test_the_shipped_board_reads_as_its_file_says() -> None:
    assert [region.kind for region in BOARD.regions] == ["flash", "device", "ram"]
    assert [region.origin for region in BOARD.regions] == [int(x, 16) for x in re.findall(r"origin = (\w+)", SHIPPED)]
    assert [region.length for region in BOARD.regions] == [int(x, 16) for x in re.findall(r"length = (\w+)", SHIPPED)]
    assert (BOARD.flash, BOARD.ram) == (FLASH, RAM)
    assert BOARD.region_at(BOARD.uart.base) is DEVICES
    assert BOARD.region_at(RAM.end) is None
    assert BOARD.region_at(RAM.end - 1) is RAM


def test_every_shipped_board_can_be_loaded() -> None:
    assert NAME in boards.names()
    for name in boards.names():
        assert boards.load(name, "the tests").name == name


def test_a_board_may_be_a_file_of_ones_own(edited: Edited) -> None:
    board = edited.set("layout.stack", PAGE).load()
    assert (board.name, board.path, board.stack) == ("mine", edited.path, PAGE)


def test_an_unknown_board_is_named_with_the_nearest() -> None:
    with pytest.raises(UserError) as caught:
        boards.load("qemu-vrit", "pyproject.toml:7: `tool.buildsys.board`")
    assert caught.value.message == "pyproject.toml:7: `tool.buildsys.board`: there is no board 'qemu-vrit'"
    assert caught.value.hint == "did you mean 'qemu-virt'?"


def test_a_board_like_no_other_gets_the_list(tmp_path: Path) -> None:
    for name in ("zzz", str(tmp_path / "no.toml"), ""):
        with pytest.raises(UserError) as caught:
            boards.load(name, "the tests")
        assert "known boards: qemu-virt" in caught.value.hint


@pytest.mark.parametrize("key", ["description", "cpu", "length", "text", "stack", "model"])
def test_a_key_left_out_is_named_with_its_file(edited: Edited, key: str) -> None:
    edited.path.write_text(re.sub(rf"^{key} = .*\n", "", SHIPPED, count=1, flags=re.MULTILINE))
    message = edited.refused().message
    assert re.match(rf"{re.escape(str(edited.path))}(:\d+)?: `[a-z.]*{key}` is missing$", message)


def test_a_misspelt_key_is_named_with_its_line_and_the_nearest(edited: Edited) -> None:
    edited.path.write_text(SHIPPED.replace('kind = "ram"', 'kind = "ram"\nknid = "ram"'))
    error = edited.refused()
    assert error.message == f"{edited.line('knid')}: unknown key `memory.ram.knid`"
    assert error.hint == "did you mean `kind`?"


def test_a_misspelt_table_is_recognised(edited: Edited) -> None:
    edited.path.write_text(SHIPPED.replace("[layout]", "[layuot]"))
    error = edited.refused()
    assert "`layout` is missing" in error.message
    assert error.hint == "is `layuot` meant to be it?"


def test_a_kind_of_memory_there_is_none_of_is_refused(edited: Edited) -> None:
    error = edited.set("memory.ram.kind", '"rma"').refused()
    assert error.message == f"""{edited.line('kind = "rma"')}: `memory.ram.kind` is 'rma'"""
    assert error.hint == "did you mean `ram`?"


def test_regions_that_overlap_are_drawn(edited: Edited) -> None:
    error = edited.set("memory.peripherals.length", DEVICES.length + PAGE).refused()
    first, *drawing = error.message.splitlines()
    assert first == f"{edited.line('[memory.ram]')}: `memory.ram` overlaps `memory.peripherals`"
    assert [line.split()[2] for line in drawing[::2]] == ["flash", "peripherals", "ram"]
    assert [int(line.split()[0], 16) for line in drawing[1::2]] == [FLASH.end, DEVICES.end + PAGE, RAM.end]
    assert error.hint == f"peripherals ends at {DEVICES.end + PAGE:#x}, ram begins at {RAM.origin:#x}"


def test_regions_that_touch_do_not_overlap() -> None:
    assert (FLASH.end, DEVICES.end) == (DEVICES.origin, RAM.origin)


@pytest.mark.parametrize(
    ("key", "address", "place"),
    [
        ("layout.text", BOARD.uart.base, "peripherals, which is device"),
        ("layout.text", RAM.origin, "ram, which is ram"),
        ("layout.text", OUTSIDE, "no region"),
        ("layout.bss", BOARD.text, "flash, which is flash"),
        ("layout.bss", OUTSIDE, "no region"),
        ("device.uart.base", RAM.origin, "ram, which is ram"),
    ],
)
def test_what_lies_in_the_wrong_region_is_drawn(edited: Edited, key: str, address: int, place: str) -> None:
    error = edited.set(key, hex(address)).refused()
    first, *drawing = error.message.splitlines()
    at = edited.line(f"{key.rpartition('.')[2]} = {address:#x}")
    assert first == f"{at}: `{key}` = {address:#x} lies in {place}"
    assert len(drawing) == 2 * len(BOARD.regions)
    assert error.hint.startswith("it must lie in ")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("layout.text", BOARD.text + 4),
        ("layout.bss", BOARD.bss + 8),
        ("layout.stack", BOARD.stack + 8),
        ("layout.stack", -16),
        ("layout.exception-stack", 0),
        ("device.uart.size", DEVICES.end - BOARD.uart.base + 1),
        ("device.uart.size", 0),
        ("memory.ram.origin", -PAGE),
        ("memory.peripherals.length", 0),
    ],
)
def test_a_number_no_machine_can_have_is_refused_with_its_line(edited: Edited, key: str, value: int) -> None:
    error = edited.set(key, value).refused()
    name = key.rpartition(".")[2]
    assert error.message == f"{edited.line(f'{name} = {value} ')}: `{key}` is {value:#x}"
    assert error.hint
