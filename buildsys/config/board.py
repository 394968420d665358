"""A board: one machine's memory map, devices and emulator arguments, read from a file.

This is the only place addresses come from: linker script, boot code, page
tables, emulators, checks and documentation are all rendered from a `Board`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from buildsys.config.drawing import drawing as drawn
from buildsys.config.toml import Table, read
from buildsys.errors import UserError

BOARDS = Path(__file__).parent.parent / "boards"

KINDS = ("flash", "ram", "device")
MEMORY = ("flash", "ram")
# Page tables map nothing smaller (buildsys.stages.translation), and no section needs a larger
# alignment, so code and zeroed data begin exactly where they are said to.
PAGE = 0x1000
MAPPED = 1 << 39  # bytes page tables can map
REACHED = 1 << 32  # bytes boot code can name: movz and movk make 32 bits, adrp reaches as far
STACK_ALIGNMENT = 16  # Arm ARM, SP alignment checking
LEVELS = (1, 2, 3)
# Of cores in a cluster: GICv3 tells no more of them apart (GIC architecture specification, ICC_SGI1R_EL1).
AFFINITIES = 16
# Controllers of interrupts and sources of random numbers, as the supervisor of a program numbers them, from 1.
CONTROLLERS = ("gicv2", "bcm2836")
ENTROPY = ("virtio-mmio", "bcm2835-rng")
MODELS = ("fw-cfg", "pcie", "registers", *CONTROLLERS, "pl031", *ENTROPY)


@dataclass(frozen=True)
class Region:
    """A range of physical addresses, `origin` to `origin + length` bytes.

    `kind` is "flash" (what is written is lost), "ram" or "device".
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
class Device:
    """What else a machine has: a `model`, one of `MODELS`, and its registers.

    `files` are those of a "fw-cfg", in the order of its directory. A "gicv2" has its distributor at `base`, the
    interface of a core at `interface`; `timer` is the number of the interrupt of a core's virtual timer.
    """

    name: str
    model: str
    base: int
    size: int
    files: tuple[str, ...] = ()
    interface: int = 0
    timer: int = 0


@dataclass(frozen=True)
class Board:
    """One machine.

    `text` and `bss` are the addresses at which code and zeroed data begin. If the board does
    not name the second (`follows`), zeroed data begins on the first page after what is
    read-only, and `bss` is `text`. `stack` and `exception_stack` are sizes in bytes; whatever
    RAM is left is the heap. `exception_level` is the one at which a core leaves reset. `cores` is how
    many do, numbered from 0 in Aff0 of MPIDR_EL1; 0 if that is not said. `until` is no part of the
    machine: a run on it ends when the guest has sent that, unless it is empty.
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
    exception_level: int = 1
    cores: int = 0
    follows: bool = False
    until: bytes = b""
    devices: tuple[Device, ...] = ()

    @property
    def code(self) -> Region:
        """The region code and read-only data lie in, and the initial bytes of data are stored in."""
        return self._containing(self.text)

    @property
    def flash(self) -> Region:
        """The flash code lies in, on a board that has it there: see `in_flash`."""
        assert self.in_flash, "a board whose code is in RAM has no flash to ask for"
        return self.code

    @property
    def in_flash(self) -> bool:
        """Whether code is in flash, from where data must be copied; else a loader puts all of it into RAM."""
        return self.code.kind == "flash"

    @property
    def ram(self) -> Region:
        """The region writable data lives in."""
        return self._containing(self.bss)

    def device(self, *models: str) -> Device | None:
        """The first device that is one of `models`."""
        return next((each for each in self.devices if each.model in models), None)

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


def with_memory(board: Board, length: int) -> Board:
    """`board` with `length` bytes of RAM, as QEMU's machines have that much which `-m` names. Raises UserError."""
    ram = board.ram
    if "-m" not in board.qemu:
        raise UserError(f"board {board.name} has {ram.length:#x} bytes of RAM, no more and no less")
    after = min((each.origin for each in board.regions if each.origin > ram.origin), default=REACHED)
    most = min(after, REACHED) - ram.origin
    if length % (1 << 20) or not ram.length <= length <= most:
        raise UserError(
            f"board {board.name} cannot have {length:#x} bytes of RAM",
            f"from {ram.length >> 20} to {most >> 20} MiB can be had",
        )
    at = board.qemu.index("-m") + 1
    return replace(
        board,
        regions=tuple(replace(each, length=length) if each is ram else each for each in board.regions),
        qemu=(*board.qemu[:at], f"{length >> 20}M", *board.qemu[at + 1 :]),
    )


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
    text, follows = layout.integer("text"), not layout.has("bss")
    board = Board(
        name=path.stem,
        path=path,
        description=table.string("description"),
        regions=tuple(_region(memory, name) for name in memory),
        text=text,
        bss=text if follows else layout.integer("bss"),
        stack=layout.integer("stack"),
        exception_stack=layout.integer("exception-stack"),
        uart=Uart(uart.choice("model", ("pl011",)), uart.integer("base"), uart.integer("size")),
        cpu=table.string("cpu"),
        qemu=tuple(qemu.strings("arguments")),
        exception_level=table.integer("exception-level", 1),
        cores=table.integer("cores", 0),
        follows=follows,
        devices=tuple(_device(devices, name) for name in devices if name != "uart"),
    )
    for part in (table, layout, devices, uart, qemu):
        part.refuse_unknown()
    if board.exception_level not in LEVELS:
        raise table.error("exception-level", f"is {board.exception_level}", "a core leaves reset at 1, 2 or 3")
    _refuse_cores(board, table, qemu)
    _refuse_overlap(board, memory)
    _refuse_misplaced(board, layout, "text", board.text, MEMORY)
    if follows and board.in_flash:
        raise layout.error(
            "bss",
            f"is missing\n{drawing(board)}",
            "code lies in flash, which cannot be written: name an address in RAM",
        )
    _refuse_misplaced(board, layout, "bss", board.bss, ("ram",))
    _refuse_misplaced(board, uart, "base", board.uart.base, ("device",))
    _refuse_layout(board, layout, uart)
    _refuse_devices(board, devices)
    return board


def _refuse_cores(board: Board, table: Table, qemu: Table) -> None:
    """A number of cores that cannot be, or that QEMU is told another of."""
    if not table.has("cores"):
        return
    if not 0 < board.cores <= AFFINITIES:
        raise table.error("cores", f"is {board.cores}", f"Aff0 of MPIDR_EL1 numbers 1 to {AFFINITIES} of them")
    if "-smp" in board.qemu[:-1]:
        said = board.qemu[board.qemu.index("-smp") + 1]
        found = re.fullmatch(r"(?:cpus=)?(\d+)(?:,.*)?", said)
        if not found or int(found[1]) != board.cores:
            raise qemu.error("arguments", f"has -smp {said}, and `cores` is {board.cores}", "they must agree")


def _device(devices: Table, name: str) -> Device:
    part = devices.table(name)
    files = tuple(part.strings("files"))
    device = Device(name, part.choice("model", MODELS), part.integer("base"), part.integer("size"), files)
    if device.model == "gicv2":
        device = replace(device, interface=part.integer("interface"), timer=part.integer("timer"))
    part.refuse_unknown()
    for key, value in (("base", device.base), ("size", device.size)):
        if value % PAGE or value < 0 or (key == "size" and not value):
            raise part.error(key, f"is {value:#x}", f"memory is mapped in pages: it must be a multiple of {PAGE:#x}")
    if device.model == "gicv2" and not device.base < device.interface < device.base + device.size:
        raise part.error("interface", f"is {device.interface:#x}", "it must be in `size` bytes from `base`")
    if device.files and device.model != "fw-cfg":
        raise part.error("files", f"is for a fw-cfg, not for a {device.model}")
    return device


def _refuse_devices(board: Board, devices: Table) -> None:
    """Any device that is not in one region of devices, or that another has the place of."""
    taken = [("uart", board.uart.base, board.uart.base + board.uart.size)]
    for device in board.devices:
        part = devices.table(device.name)
        region = board.region_at(device.base)
        if region is None or region.kind != "device" or device.base + device.size > region.end:
            raise part.error(
                "base",
                f"is {device.base:#x}: {device.size:#x} bytes there are in no region\n{drawing(board)}",
                "it must be in a region of kind device",
            )
        for name, low, high in taken:
            if device.base < high and low < device.base + device.size:
                raise part.error("base", f"is {device.base:#x}, where `device.{name}` is")
        taken.append((device.name, device.base, device.base + device.size))


def _region(memory: Table, name: str) -> Region:
    part = memory.table(name)
    region = Region(name, part.integer("origin"), part.integer("length"), part.choice("kind", KINDS))
    part.refuse_unknown()
    if region.origin < 0:
        raise part.error("origin", f"is {region.origin:#x}", "it must be 0 or more")
    if region.length <= 0:
        raise part.error("length", f"is {region.length:#x}", "it must be more than 0")
    for key, value in (("origin", region.origin), ("length", region.length)):
        if value % PAGE:
            raise part.error(key, f"is {value:#x}", f"memory is mapped in pages: it must be a multiple of {PAGE:#x}")
    if region.end > MAPPED:
        raise part.error("length", f"is {region.length:#x}: the region ends at {region.end:#x}",
                         f"page tables map what lies below {MAPPED:#x}")  # fmt: skip
    return region


def _refuse_overlap(board: Board, memory: Table) -> None:
    """Any region that begins before one that lies lower has ended."""
    below: Region | None = None
    for region in sorted(board.regions, key=lambda region: (region.origin, region.end)):
        if below is not None and region.origin < below.end:
            raise memory.error(
                region.name,
                f"overlaps `memory.{below.name}`\n{drawing(board)}",
                f"{below.name} ends at {below.end:#x}, {region.name} begins at {region.origin:#x}",
            )
        below = region


def _refuse_misplaced(board: Board, table: Table, key: str, address: int, kinds: tuple[str, ...]) -> None:
    if address < 0:
        raise table.error(key, f"is {address:#x}", "it must be 0 or more")
    region = board.region_at(address)
    if region is None or region.kind not in kinds:
        place = "no region" if region is None else f"{region.name}, which is {region.kind}"
        shown = drawing(board, {address: table.name(key)})
        raise table.error(key, f"= {address:#x} lies in {place}\n{shown}", f"it must lie in {' or '.join(kinds)}")
    if address >= REACHED:
        raise table.error(key, f"is {address:#x}", f"boot code names it in 32 bits: it must lie below {REACHED:#x}")


def _refuse_layout(board: Board, layout: Table, uart: Table) -> None:
    """What lies in the right region but cannot be there: registers, alignment, order, sizes."""
    if not 0 < board.uart.size <= board._containing(board.uart.base).end - board.uart.base:
        raise uart.error("size", f"is {board.uart.size:#x}", "the registers must lie within one region")
    for key, value in (("base", board.uart.base), ("size", board.uart.size)):
        if value % PAGE:  # a PL011 has 4 KiB to itself: DDI 0183, 3.2, its last register is at 0xffc
            raise uart.error(key, f"is {value:#x}", f"it must be a multiple of {PAGE:#x}")
    for key, address in (("text", board.text), ("bss", board.bss)):
        if address % PAGE:
            raise layout.error(key, f"is {address:#x}", f"it must be a multiple of {PAGE:#x}")
    for key, size in (("stack", board.stack), ("exception-stack", board.exception_stack)):
        if size <= 0 or size % STACK_ALIGNMENT:
            raise layout.error(key, f"is {size:#x}", f"it must be a multiple of {STACK_ALIGNMENT}, and more than 0")
    marks = {board.text: layout.name("text"), board.bss: layout.name("bss")}
    if not board.follows and board.ram is board.code and board.bss <= board.text:
        raise layout.error(
            "bss",
            f"= {board.bss:#x} is not above the code in {board.ram.name}\n{drawing(board, marks)}",
            f"below the code nothing is mapped: name an address above {board.text:#x}, "
            "or none, and zeroed data follows what is read-only",
        )
    room, needed = board.ram.end - board.bss, board.stack + board.exception_stack
    if needed > room:
        raise layout.error(
            "stack",
            f"and `layout.exception-stack` are {needed:#x} bytes together\n{drawing(board, marks)}",
            f"{board.ram.name} has {room:#x} bytes from {board.bss:#x} on",
        )


def drawing(board: Board, marks: Mapping[int, str] | None = None) -> str:
    """The memory map as a few lines of text, lowest address first; `marks` are names of addresses in it."""
    return drawn([(each.name, each.kind, each.origin, each.end) for each in board.regions], marks or {})
