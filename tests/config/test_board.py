"""A board file that describes no possible machine is refused, with a drawing of its memory where that helps."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from buildsys.config import board as boards
from buildsys.config.board import BOARDS, PAGE, Board
from buildsys.errors import UserError
from buildsys.stages.translation import translation

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
    assert (BOARD.code, BOARD.flash, BOARD.ram) == (FLASH, FLASH, RAM)
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


@pytest.mark.parametrize(
    ("cores", "smp", "said"),
    [
        (0, "", "`cores` is 0"),
        (17, "", "`cores` is 17"),
        (4, '"-smp", "2", ', "`qemu.arguments` has -smp 2, and `cores` is 4"),
        (4, '"-smp", "cpus=8,maxcpus=8", ', "has -smp cpus=8,maxcpus=8, and `cores` is 4"),
    ],
)
def test_a_number_of_cores_that_cannot_be_is_refused(edited: Edited, cores: int, smp: str, said: str) -> None:
    text = SHIPPED.replace("cpu = ", f"cores = {cores}\ncpu = ", 1).replace("arguments = [", f"arguments = [{smp}", 1)
    edited.path.write_text(text)
    assert said in edited.refused().message


@pytest.mark.parametrize("smp", ["", '"-smp", "4", ', '"-smp", "cpus=4,cores=4", '])
def test_a_board_says_how_many_cores_it_has(edited: Edited, smp: str) -> None:
    assert BOARD.cores == 0
    text = SHIPPED.replace("cpu = ", "cores = 4\ncpu = ", 1).replace("arguments = [", f"arguments = [{smp}", 1)
    edited.path.write_text(text)
    assert edited.load().cores == 4


def test_regions_that_overlap_are_drawn(edited: Edited) -> None:
    error = edited.set("memory.peripherals.length", DEVICES.length + PAGE).refused()
    first, drawing = error.message.split("\n", 1)
    assert first == f"{edited.line('[memory.ram]')}: `memory.ram` overlaps `memory.peripherals`"
    assert error.hint == f"peripherals ends at {DEVICES.end + PAGE:#x}, ram begins at {RAM.origin:#x}"
    assert (
        drawing
        == """\
  0x0000000000  +    flash (flash, 128 MiB)
  0x0008000000  +    flash ends, peripherals (device, 0x38001000 bytes)
  0x0040000000  | +  ram (ram, 128 MiB)
                # #  peripherals and ram share 4 KiB
  0x0040001000  + |  peripherals ends
  0x0048000000    +  ram ends"""
    )


def test_a_region_inside_another_is_drawn(edited: Edited) -> None:
    edited.path.write_text(SHIPPED + '[memory.inside]\norigin = 0x1000000\nlength = 0x1000000\nkind = "device"\n')
    _, *drawing = edited.refused().message.splitlines()
    assert drawing[:5] == [
        "  0x0000000000  +    flash (flash, 128 MiB)",
        "  0x0001000000  | +  inside (device, 16 MiB)",
        "                # #  flash and inside share 16 MiB",
        "  0x0002000000  | +  inside ends",
        "  0x0008000000  +    flash ends, peripherals (device, 896 MiB)",
    ]


def test_regions_that_touch_do_not_overlap() -> None:
    assert (FLASH.end, DEVICES.end) == (DEVICES.origin, RAM.origin)


@pytest.mark.parametrize(
    ("key", "address", "place"),
    [
        ("layout.text", BOARD.uart.base, "peripherals, which is device"),
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
    (marked,) = (line for line in drawing if f"<-- {key}" in line)
    assert int(marked.split()[0], 16) == address
    for region in BOARD.regions:
        assert any(line.startswith(f"  {region.origin:#012x}  +") and region.name in line for line in drawing)
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
        ("device.uart.size", PAGE // 2),
        ("device.uart.base", BOARD.uart.base + 0x40),
        ("memory.ram.origin", -PAGE),
        ("memory.peripherals.length", 0),
        ("memory.ram.length", PAGE // 2),
        ("memory.ram.origin", PAGE + 8),
    ],
)
def test_a_number_no_machine_can_have_is_refused_with_its_line(edited: Edited, key: str, value: int) -> None:
    error = edited.set(key, value).refused()
    name = key.rpartition(".")[2]
    assert error.message == f"{edited.line(f'{name} = {value} ')}: `{key}` is {value:#x}"
    assert error.hint


def test_memory_beyond_what_page_tables_map_is_refused(edited: Edited) -> None:
    error = edited.set("memory.ram.length", 1 << 39).refused()
    assert error.message.endswith(f"the region ends at {(1 << 39) + RAM.origin:#x}")
    assert f"{1 << 39:#x}" in error.hint


@pytest.mark.parametrize("key", ["layout.bss", "device.uart.base"])
def test_an_address_boot_code_cannot_name_is_refused(edited: Edited, key: str) -> None:
    far = 1 << 32
    region = "ram" if key == "layout.bss" else "peripherals"
    edited.set(f"memory.{region}.origin", far).set(f"memory.{region}.length", RAM.length)
    if region == "ram":
        edited.set("layout.bss", far)
    else:
        edited.set("device.uart.base", far)
    error = edited.refused()
    assert error.message == f"{edited.line(f'{key.rpartition(chr(46))[2]} = {far}')}: `{key}` is {far:#x}"
    assert "32 bits" in error.hint


def test_stacks_larger_than_ram_are_drawn(edited: Edited) -> None:
    error = edited.set("layout.stack", RAM.length).refused()
    first, *drawing = error.message.splitlines()
    together = RAM.length + BOARD.exception_stack
    assert (
        first
        == f"{edited.line('stack = ')}: `layout.stack` and `layout.exception-stack` are {together:#x} bytes together"
    )
    assert any("<-- layout.bss" in line for line in drawing)
    assert error.hint == f"ram has {RAM.length:#x} bytes from {BOARD.bss:#x} on"


def test_data_behind_code_in_flash_must_have_an_address(edited: Edited) -> None:
    edited.path.write_text(re.sub(r"(?m)^bss = .*\n", "", SHIPPED))
    error = edited.refused()
    assert "`layout.bss` is missing" in error.message
    assert "in RAM" in error.hint


@pytest.mark.parametrize("below", [0, PAGE])
def test_data_below_code_in_one_region_is_drawn(edited: Edited, below: int) -> None:
    edited.set("layout.text", RAM.origin + PAGE).set("layout.bss", RAM.origin + PAGE - below)
    error = edited.refused()
    first, *drawing = error.message.splitlines()
    assert first.endswith(f"`layout.bss` = {RAM.origin + PAGE - below:#x} is not above the code in ram")
    assert any("layout.bss" in line for line in drawing)


@pytest.mark.parametrize("level", [0, 4])
def test_an_exception_level_there_is_none_of_is_refused(edited: Edited, level: int) -> None:
    edited.path.write_text(re.sub(r"(?m)^exception-level = .*$", f"exception-level = {level}", SHIPPED))
    assert edited.refused().message == f"{edited.line('exception-level')}: `exception-level` is {level}"


def test_the_exception_level_is_1_unless_the_board_says_so(edited: Edited) -> None:
    edited.path.write_text(re.sub(r"(?m)^exception-level = .*\n", "", SHIPPED))
    assert edited.load().exception_level == 1
    assert boards.load("raspi3b", "the tests").exception_level == 3


TEMPLATE = """
description = "random"
cpu = "cortex-a72"
{regions}
[layout]
text = {text}
{bss}
stack = {stack}
exception-stack = 0x1000
[device.uart]
model = "pl011"
base = {uart}
size = 0x1000
[qemu]
arguments = []
"""
MIB = 1 << 20


@st.composite
def board_files(draw: st.DrawFn) -> str:
    """Board files of regions in a few places, so that they meet or miss each other, and now and then cannot be."""

    def odd(value: int) -> int:
        """`value`, or now and then another near it."""
        return value + draw(st.sampled_from([0] * 40 + [PAGE, -PAGE, 0x800, MIB, MIB]))

    edges = draw(st.lists(st.integers(0, 24), min_size=6, max_size=10, unique=True).map(sorted))
    if draw(st.sampled_from([True, *[False] * 5])):
        edges[1:3] = edges[2:0:-1]  # then the first two overlap
    pairs = list(zip(edges[::2], edges[1::2], strict=False))
    kinds = draw(st.permutations(["ram", "device", draw(st.sampled_from(["flash", "ram"]))]))
    kinds = [*kinds, "flash", "ram"][: len(pairs)]
    regions = "".join(
        f'[memory.r{at}]\norigin = {odd(low * MIB)}\nlength = {odd((high - low) * MIB)}\nkind = "{kind}"\n'
        for at, ((low, high), kind) in enumerate(zip(pairs, kinds, strict=True))
    )

    def within(*wanted: str) -> int:
        """An address in a region of one of these kinds."""
        low, high = draw(st.sampled_from([pair for pair, kind in zip(pairs, kinds, strict=True) if kind in wanted]))
        return odd(draw(st.integers(low * MIB // PAGE, high * MIB // PAGE - 1)) * PAGE)

    bss = f"bss = {within('ram')}" if draw(st.sampled_from([True, True, False])) else ""
    stack = draw(st.sampled_from([0x1000, 0x1000, 0x20_0000]))
    text = within("flash", "ram")
    return TEMPLATE.format(regions=regions, text=text, bss=bss, stack=stack, uart=within("device"))


def is_possible(board: Board) -> bool:
    """Told anew, without the code that is tried: nothing shares an address, and everything is where it can be."""
    claimed = [page for each in board.regions for page in range(each.origin, each.end, PAGE)]
    kind = {page: each.kind for each in board.regions for page in range(each.origin, each.end, PAGE)}
    return (
        len(claimed) == len(set(claimed))
        and all(each.origin % PAGE == each.length % PAGE == 0 < each.length for each in board.regions)
        and kind.get(board.text) in ("flash", "ram")
        and kind.get(board.bss) == "ram"
        and kind.get(board.uart.base) == "device"
        and (board.follows or board.bss > board.text
             or board.region_at(board.bss) is not board.region_at(board.text))
        and all(kind.get(page) == "ram" for page in range(board.bss, board.bss + board.stack, PAGE))
    )  # fmt: skip


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=board_files())
def test_any_regions_at_all_are_refused_or_possible(tmp_path: Path, text: str) -> None:
    path = tmp_path / "random.toml"
    path.write_text(text)
    found: Board | UserError
    try:
        found = boards.load(str(path), "the tests")
    except UserError as error:
        found = error
    if isinstance(found, UserError):
        event(re.sub(r"0x[0-9a-f]+|[0-9]+|\n.*", "", found.message.partition(": ")[2], flags=re.DOTALL))
        assert found.message.startswith(f"{path}:")
        assert found.hint
        drawing = found.message.splitlines()[1:]
        assert all(re.match(r"  (0x[0-9a-f]{10}|-0x[0-9a-f]{9}|            )  [-+|# ]", line) for line in drawing), (
            found.message
        )
        if " overlaps " in found.message:
            assert any("#" in line and " share " in line for line in drawing), found.message
        return
    board = found
    event("possible")
    assert is_possible(board)
    drawing = boards.drawing(board).splitlines()
    assert not any("#" in line for line in drawing)
    assert sum(line.count(" (") for line in drawing) == len(board.regions)
    tables = translation(board, board.text + 1, board.text + 1)
    assert tables.spare >= 0


@pytest.mark.parametrize("name", boards.names())
def test_a_shipped_board_says_what_it_is(name: str) -> None:
    text = (BOARDS / f"{name}.toml").read_text()
    assert text.startswith("# ")
    # Each table of addresses says where its numbers come from.
    for table in re.findall(r"(?m)^\[(?:memory\.\w+|device\.uart)\].*", text):
        assert "#" in table, table
