"""A board: one machine's memory map, devices and emulator arguments, read from a file.

This is the only place addresses come from: linker script, boot code, page
tables, emulators, checks and documentation are all rendered from a `Board`.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from buildsys.config.toml import Table, read
from buildsys.errors import UserError

BOARDS = Path(__file__).parent.parent / "boards"

KINDS = ("flash", "ram", "device")
PAGE = 0x1000  # no section needs a larger alignment, so code and zeroed data begin exactly where they are said to
STACK_ALIGNMENT = 16  # Arm ARM, SP alignment checking


@dataclass(frozen=True)
class Region:
    """A range of physical addresses, `origin` to `origin + length` bytes.

    `kind` is "flash" (executable, writes are lost), "ram" or "device".
    """

    name: str
    origin: int
    length: int
    kind: str

    @property
    def end(self) -> int:
        """The first address after the region."""
        return self.origin + self.length

    def __contains__(self, address: int) -> bool:
        return self.origin <= address < self.end


@dataclass(frozen=True)
class Uart:
    """A serial port: `model` ("pl011") and the address of its registers."""

    model: str
    base: int
    size: int


@dataclass(frozen=True)
class Board:
    """One machine.

    `text` and `bss` are the addresses at which code and zeroed data begin;
    `stack` and `exception_stack` are sizes in bytes; whatever RAM is left is the heap.
    """

    name: str
    path: Path
    description: str
    regions: tuple[Region, ...]
    text: int
    bss: int
    stack: int
    exception_stack: int
    uart: Uart
    cpu: str
    qemu: tuple[str, ...]

    @property
    def flash(self) -> Region:
        """The region code and initial data are stored in."""
        return self._containing(self.text)

    @property
    def ram(self) -> Region:
        """The region writable data lives in."""
        return self._containing(self.bss)

    def region_at(self, address: int) -> Region | None:
        """The region `address` lies in, None outside the map."""
        for region in self.regions:
            if address in region:
                return region
        return None

    def _containing(self, address: int) -> Region:
        region = self.region_at(address)
        assert region is not None, "load() checked that text and bss lie in regions"
        return region


def names() -> list[str]:
    """The boards that come with buildsys."""
    return sorted(path.stem for path in BOARDS.glob("*.toml"))


def load(name: str, where: str, folder: Path = BOARDS) -> Board:
    """The board called `name`, or the one in the file `name` if it ends in .toml.

    `where` is named in the message when there is no such board. Raises UserError.
    """
    path = Path(name) if name.endswith(".toml") else folder / f"{name}.toml"
    if not path.is_file():
        from difflib import get_close_matches

        near = get_close_matches(name, names(), 1)
        raise UserError(
            f"{where}: there is no board {name!r}",
            f"did you mean {near[0]!r}?" if near else "known boards: " + ", ".join(names()),
        )
    return parse(read(path), path)


def parse(table: Table, path: Path) -> Board:
    """Turn a board file's table into a `Board`, refusing an impossible map. Raises UserError."""
    memory, layout = table.table("memory"), table.table("layout")
    devices, qemu = table.table("device"), table.table("qemu")
    uart = devices.table("uart")
    board = Board(
        name=path.stem,
        path=path,
        description=table.string("description"),
        regions=tuple(_region(memory, name) for name in memory),
        text=layout.integer("text"),
        bss=layout.integer("bss"),
        stack=layout.integer("stack"),
        exception_stack=layout.integer("exception-stack"),
        uart=Uart(uart.choice("model", ("pl011",)), uart.integer("base"), uart.integer("size")),
        cpu=table.string("cpu"),
        qemu=tuple(qemu.strings("arguments")),
    )
    for part in (table, layout, devices, uart, qemu):
        part.refuse_unknown()
    _refuse_overlap(board, memory)
    # stages/translation.py makes flash executable and nothing else.
    _refuse_misplaced(board, layout, "text", board.text, "flash")
    _refuse_misplaced(board, layout, "bss", board.bss, "ram")
    _refuse_misplaced(board, uart, "base", board.uart.base, "device")
    if not 0 < board.uart.size <= board._containing(board.uart.base).end - board.uart.base:
        raise uart.error("size", f"is {board.uart.size:#x}", "the registers must lie within one region")
    for key, address in (("text", board.text), ("bss", board.bss)):
        if address % PAGE:
            raise layout.error(key, f"is {address:#x}", f"it must be a multiple of {PAGE:#x}")
    for key, size in (("stack", board.stack), ("exception-stack", board.exception_stack)):
        if size <= 0 or size % STACK_ALIGNMENT:
            raise layout.error(key, f"is {size:#x}", f"it must be a multiple of {STACK_ALIGNMENT}, and more than 0")
    return board


def _region(memory: Table, name: str) -> Region:
    part = memory.table(name)
    region = Region(name, part.integer("origin"), part.integer("length"), part.choice("kind", KINDS))
    part.refuse_unknown()
    if region.origin < 0:
        raise part.error("origin", f"is {region.origin:#x}", "it must be 0 or more")
    if region.length <= 0:
        raise part.error("length", f"is {region.length:#x}", "it must be more than 0")
    return region


def _refuse_overlap(board: Board, memory: Table) -> None:
    ordered = sorted(board.regions, key=lambda region: region.origin)
    for low, high in pairwise(ordered):
        if high.origin < low.end:
            raise memory.error(
                high.name,
                f"overlaps `memory.{low.name}`\n{drawing(board)}",
                f"{low.name} ends at {low.end:#x}, {high.name} begins at {high.origin:#x}",
            )


def _refuse_misplaced(board: Board, table: Table, key: str, address: int, kind: str) -> None:
    region = board.region_at(address)
    if region is None or region.kind != kind:
        place = "no region" if region is None else f"{region.name}, which is {region.kind}"
        raise table.error(key, f"= {address:#x} lies in {place}\n{drawing(board)}", f"it must lie in {kind}")


def drawing(board: Board) -> str:
    """The memory map as a few lines of text, lowest address first."""
    lines = []
    for region in sorted(board.regions, key=lambda region: region.origin):
        lines.append(f"  {region.origin:#012x} ┬ {region.name} ({region.kind}, {region.length:#x} bytes)")
        lines.append(f"  {region.end:#012x} ┴")
    return "\n".join(lines)
