"""Claim: everything lies where the board says it may, and nothing lies on anything else.

Judged from section headers, program headers and symbols of the image, against
the board file.

QEMU's `virt` puts a device tree of 1 MiB into memory, too (hw/arm/boot.c,
arm_setup_direct_kernel_boot and arm_load_dtb). For an ELF image it compares
the lowest and the highest load address, zeroed bytes included, with the start
of RAM: an image wholly above or wholly below it leaves the device tree at the
start of RAM (above: only if it fits below the image). An image that straddles
the start of RAM, as one with its code in flash and .bss at the start of RAM
does, leaves the place unset, and then the device tree lies at address 0, in
flash. Seen so on QEMU 7.2 by `info roms`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from buildsys.config.board import PAGE, Board
from buildsys.formats.elf import PF_W, PF_X, PT_LOAD, SHF_ALLOC, SHF_EXECINSTR, SHF_WRITE, Elf, Section, Segment
from buildsys.formats.symbols import Symbol
from buildsys.proof.case import Case
from buildsys.proof.claim import Claim, Verdict, verdict
from buildsys.proof.events import SystemWrite, system_register
from buildsys.proof.goobject import samples
from buildsys.proof.places import SHF_TLS, areas, at_variable, load_address, place

DEVICE_TREE = 1 << 20  # FDT_MAX_SIZE, include/sysemu/device_tree.h
VIRT_RAM = 1 << 30  # VIRT_MEM, hw/arm/virt.c: where that machine's RAM begins, whatever of it a board has
TTBR0_EL1, VBAR_EL1 = system_register(3, 0, 2, 0, 0), system_register(3, 0, 12, 0, 0)
TABLE_ALIGNMENT, VECTOR_ALIGNMENT, STACK_ALIGNMENT, COPY_ALIGNMENT = 4096, 2048, 16, 16

# What lies in RAM after the image's own sections: name, lowest address, first address after it.
RESERVED = (
    ("the exception stack", "__exception_stack_low", "__exception_stack_high"),
    ("the stack", "__stack_low", "__stack_high"),
    ("the heap", "__heap_low", "__heap_high"),
)
# The page below each of the stacks, unless boot code is the user's.
GUARDS = (
    ("the guard of the exception stack", "__exception_stack_guard", "__exception_stack_low"),
    ("the guard of the stack", "__stack_guard", "__stack_low"),
)
# And where a ready set hands out memory of its own.
ALLOCATED = ("the memory of alloc", "__alloc_low", "__alloc_high")
HANDED_OUT = ("the heap", ALLOCATED[0])


@dataclass(frozen=True)
class Extent:
    """Memory something takes: `low` up to `high`; `kind` is "section", "stored", "reserved", "device" or "dtb"."""

    name: str
    low: int
    high: int
    kind: str

    def __str__(self) -> str:
        return f"{self.name} {self.low:#x}..{self.high:#x}"


def check(case: Case) -> Verdict:
    """Hold sections, segments and symbols of the image against the board and the Go object."""
    elf, board = case.elf, case.board
    taken = extents(case)
    problems = [
        *_beginnings(elf, board),
        *_placed(elf, board),
        *_segments(elf),
        *_reserved(case),
        *_outside(taken, board),
        *_overlaps(taken),
        *_aligned(case),
        *_orphans(case),
    ]
    stored = sum(size for _, _, size in loads(elf) if size)
    heap, handed_out = (sum(each.high - each.low for each in taken if each.name == name) for name in HANDED_OUT)
    ram = max((extent.high for extent in taken if extent.kind == "section" and extent.low in board.ram), default=0)
    evidence: dict[str, Any] = {
        "sections": {
            section.name: {
                "address": hex(section.address),
                "size": section.size,
                "load address": None if (load := load_address(elf, section)) is None else hex(load),
            }
            for section in allocated(elf)
        },
        "extents": [{"name": each.name, "low": hex(each.low), "high": hex(each.high)} for each in taken],
        "bytes stored": stored,
        "bytes of heap": heap,
        **({"bytes for alloc": handed_out} if handed_out else {}),
    }
    first = board.ram.origin if board.in_flash else board.bss
    used = f"RAM {max(0, ram - first) // 1024} KiB from {board.bss:#x}, heap {heap // 1024} KiB"
    used += f", for alloc {handed_out // 1024} KiB" if handed_out else ""
    figure = f"flash {stored // 1024} KiB, {used}" if board.in_flash else f"{stored // 1024} KiB loaded, {used}"
    details = [str(extent) for extent in sorted(taken, key=lambda extent: extent.low)]
    return verdict(
        problems, figure, evidence, details, "the linker script and the board disagree: look at linker/kernel.ld.j2"
    )


def allocated(elf: Elf) -> list[Section]:
    """The sections that take memory, thread-local templates aside: those are in no address space of their own."""
    return [
        section
        for section in elf.sections
        if section.flags & SHF_ALLOC and section.size and not (section.flags & SHF_TLS and not section.in_file)
    ]


def loads(elf: Elf) -> list[tuple[int, int, int]]:
    """(index, load address, bytes in the file) of each segment to load that takes memory."""
    return [
        (index, segment.lma, segment.file_size)
        for index, segment in enumerate(elf.segments)
        if segment.kind == PT_LOAD and segment.memory_size
    ]


def extents(case: Case) -> list[Extent]:
    """Everything that takes memory, on the board and, if it is emulated by QEMU, there."""
    elf, board = case.elf, case.board
    found = [Extent(section.name, section.address, section.end, "section") for section in allocated(elf)]
    for segment in elf.segments:
        if segment.kind == PT_LOAD and segment.file_size and segment.lma != segment.vma:
            inside = [s.name for s in allocated(elf) if segment.vma <= s.address < segment.vma + segment.memory_size]
            name = f"the stored bytes of {', '.join(inside) or 'a segment'}"
            found.append(Extent(name, segment.lma, segment.lma + segment.memory_size, "stored"))
    reserved = _to_reserve(case)
    names = case.elf.symbols.addresses(*(name for _, low, high in reserved for name in (low, high)))
    for name, low, high in reserved:
        if low in names and high in names and names[low] < names[high]:
            found.append(Extent(name, names[low], names[high], "reserved"))
    found += [
        Extent(region.name, region.origin, region.end, "device") for region in board.regions if region.kind == "device"
    ]
    tree = device_tree(elf, board)
    if tree is not None:
        found.append(Extent("QEMU's device tree", tree, tree + DEVICE_TREE, "dtb"))
    return found


def device_tree(elf: Elf, board: Board) -> int | None:
    """Where QEMU puts its device tree beside this image; None if nowhere, or the board is not QEMU's `virt`."""
    machines = [
        value
        for option, value in zip(board.qemu, board.qemu[1:], strict=False)
        if option in ("-machine", "-M", "--machine")
    ]
    if not any(machine.removeprefix("type=").split(",")[0] == "virt" for machine in machines):
        return None
    loaded = [segment for segment in elf.segments if segment.kind == PT_LOAD and segment.memory_size]
    if not loaded:
        return None
    low = min(segment.lma for segment in loaded)
    high = max(segment.lma + segment.memory_size for segment in loaded)
    if low <= VIRT_RAM <= high:
        return 0
    return None if VIRT_RAM < low < VIRT_RAM + DEVICE_TREE else VIRT_RAM


def _beginnings(elf: Elf, board: Board) -> Iterator[str]:
    """Code and zeroed data begin exactly where the board says."""
    code = min((section for section in elf.code), key=lambda section: section.address, default=None)
    if code is None or code.address != board.text:
        where = _shown(elf, code) if code else "there is none"
        yield f"board {board.name} says that code begins at {board.text:#x}: {where}"
    zeroed = [section for section in allocated(elf) if section.flags & SHF_WRITE and not section.in_file]
    first = min(zeroed, key=lambda section: section.address, default=None)
    if first is None:
        yield "the image has no zeroed section (.bss)"
    elif first.address != (expected := _after_constants(elf, board) if board.follows else board.bss):
        yield (
            f"{_shown(elf, first)} begins at {first.address:#x}; board {board.name} says that zeroed data begins "
            f"at {expected:#x}" + (", on the page after what is read-only" if board.follows else "")
        )


def _after_constants(elf: Elf, board: Board) -> int:
    """The first page after every section in the code's region that may not be written."""
    ends = [each.end for each in allocated(elf) if not each.flags & SHF_WRITE and each.address in board.code]
    return -(-max(ends, default=board.text) // PAGE) * PAGE


def _placed(elf: Elf, board: Board) -> Iterator[str]:
    """What may be written lies in RAM, its bytes in flash; what may not, in flash or RAM."""
    for section in allocated(elf):
        region = board.region_at(section.address)
        if section.flags & SHF_WRITE and (region is None or region.kind != "ram"):
            yield f"{_shown(elf, section)} may be written, but lies in {place(region)}: a write there is lost"
        elif region is None or region.kind not in ("flash", "ram"):
            yield f"{_shown(elf, section)} lies in {place(region)}"
        if section.in_file and (load := load_address(elf, section)) is not None:
            stored = board.region_at(load)
            if stored is None or (stored.kind != "flash" and load != section.address):
                yield f"the bytes of {_shown(elf, section)} are stored at {load:#x}, in {place(stored)}"


def _shown(elf: Elf, section: Section) -> str:
    """A section with its addresses and its first variable or function, if it has one."""
    find = elf.symbols.function_at if section.flags & SHF_EXECINSTR else elf.symbols.object_at
    symbol = find(section.address)
    first = f", with {symbol.name}" if symbol else ""
    return f"{section.name} ({section.address:#x}..{section.end:#x}{first})"


def _reserved(case: Case) -> Iterator[str]:
    """Stacks and heap are there, in RAM, and as large as the board says; what is handed out, as the kernel does."""
    sizes = {"the exception stack": case.board.exception_stack, "the stack": case.board.stack}
    sizes |= dict.fromkeys((name for name, _, _ in GUARDS), PAGE)
    sizes |= {} if case.alloc_memory is None else {ALLOCATED[0]: case.alloc_memory}
    reserved = _to_reserve(case)
    names = case.elf.symbols.addresses(*(name for _, low, high in reserved for name in (low, high)))
    for name, low, high in reserved:
        if low not in names or high not in names:
            yield f"{name} is not in the image: {low if low not in names else high} is no symbol, or several"
            continue
        size = names[high] - names[low]
        if size < 0 or size != sizes.get(name, size):
            wanted = f"{sizes[name]:#x} bytes" if name in sizes else "at least none"
            yield f"{name} ({low} {names[low]:#x}, {high} {names[high]:#x}) has {size:#x} bytes, and must have {wanted}"
        elif size and case.board.region_at(names[low]) is not case.board.ram:
            yield f"{name} ({low} {names[low]:#x}) does not lie in RAM"


def _to_reserve(case: Case) -> tuple[tuple[str, str, str], ...]:
    reserved = RESERVED if case.own_boot else (*GUARDS, *RESERVED)
    return (*reserved, ALLOCATED) if case.plan.allocates and not case.allocator else reserved


def _outside(taken: Sequence[Extent], board: Board) -> Iterator[str]:
    """What begins in a region must end in it: the whole has to fit."""
    for extent in taken:
        region = board.region_at(extent.low)
        if extent.kind in ("section", "stored", "reserved") and region and extent.high > region.end:
            over = f"{extent.high - region.end:#x} bytes"
            yield f"{extent} ends {over} beyond {region.name}, which ends at {region.end:#x}"


def _overlaps(taken: Sequence[Extent]) -> Iterator[str]:
    """No two things in one place."""
    furthest: Extent | None = None
    for extent in sorted(taken, key=lambda extent: (extent.low, extent.high)):
        if furthest is not None and extent.low < furthest.high:
            yield f"{extent} lies on {furthest}"
        if furthest is None or extent.high > furthest.high:
            furthest = extent


def _aligned(case: Case) -> Iterator[str]:
    """Sections as their headers ask; tables, vectors, stacks, and what is copied by pairs of registers."""
    elf = case.elf
    for section in allocated(elf):
        if section.alignment > 1 and section.address % section.alignment:
            yield f"{_shown(elf, section)} is not aligned to {section.alignment} bytes"
    for index, segment in enumerate(elf.segments):
        if segment.kind == PT_LOAD and segment.alignment > 1 and (segment.vma - segment.offset) % segment.alignment:
            yield f"segment {index} at {segment.vma:#x} is not aligned to {segment.alignment} bytes"
    for area in areas(elf):
        for what, edge in (("begins", area.low), ("ends", area.high), ("is stored", area.source or 0)):
            if edge % COPY_ALIGNMENT:
                yield f"{area.name} {what} at {edge:#x}, no multiple of {COPY_ALIGNMENT}: boot code moves that many"
    symbols = elf.symbols.addresses(*(name for _, low, high in RESERVED[:2] for name in (low, high)))
    for name, bound in symbols.items():
        if bound % STACK_ALIGNMENT:
            yield f"{name} {bound:#x} is not aligned to {STACK_ALIGNMENT} bytes"
    for event in case.boot.before:
        if isinstance(event, SystemWrite) and (address := event.value.number):
            for register, what, alignment in (
                (TTBR0_EL1, "the page tables", TABLE_ALIGNMENT),
                (VBAR_EL1, "the exception vectors", VECTOR_ALIGNMENT),
            ):
                if event.register == register and address % alignment:
                    yield f"{what} at {at_variable(elf, address)} are not aligned to {alignment} bytes"


def _segments(elf: Elf) -> Iterator[str]:
    """No segment may be written and run; each section lies in just one, at its offset, with its rights."""
    loaded = [(index, segment) for index, segment in enumerate(elf.segments) if segment.kind == PT_LOAD]
    for index, segment in loaded:
        if segment.flags & PF_W and segment.flags & PF_X:
            yield f"segment {index} at {segment.vma:#x}..{_end(segment):#x} may be both written and executed"
        if segment.file_size > segment.memory_size:
            yield f"segment {index} at {segment.vma:#x} has more bytes in the file than in memory"
    for section in allocated(elf):
        inside = [(i, each) for i, each in loaded if each.vma < section.end and section.address < _end(each)]
        if len(inside) != 1:
            listed = ", ".join(str(index) for index, _ in inside) or "none"
            yield f"{_shown(elf, section)} must lie in one segment to load, and lies in {listed}"
            continue
        index, segment = inside[0]
        name = f"{_shown(elf, section)} and segment {index} ({segment.vma:#x}..{_end(segment):#x})"
        if section.address < segment.vma or section.end > _end(segment):
            yield f"{name} do not contain one another"
        elif section.in_file and not (
            section.offset - segment.offset == section.address - segment.vma
            and section.end <= segment.vma + segment.file_size
        ):
            yield f"{name} do not name the same bytes of the file"
        elif not section.in_file and section.address < segment.vma + segment.file_size:
            yield f"{name} disagree: the section has no bytes in the file, the segment has"
        for flag, right, what in ((SHF_WRITE, PF_W, "written"), (SHF_EXECINSTR, PF_X, "executed")):
            if bool(section.flags & flag) != bool(segment.flags & right):
                yield f"{name} disagree on whether they may be {what}"


def _end(segment: Segment) -> int:
    return segment.vma + segment.memory_size


def _orphans(case: Case) -> Iterator[str]:
    """Every section of the Go object that takes memory is, whole, in one section of the image that suits it."""
    sections = {section.index: section for section in allocated(case.object)}
    # Those that the configuration placed elsewhere say nothing of where the section is.
    elsewhere = {name for name, _ in case.expected.symbols}
    found = samples(case.object, elsewhere) if elsewhere else case.of_go.samples
    names = {symbol.name for symbols in found.values() for symbol in symbols}
    linked = case.elf.symbols.named(*names)
    for index, section in sections.items():
        begins = _begins(case, section, found.get(index, []), linked)
        if begins is None:
            listed = ", ".join(symbol.name for symbol in found.get(index, [])) or "it has no symbols"
            yield f"{section.name} of the Go object is not in the image as one piece ({listed})"
            continue
        target = next((s for s in allocated(case.elf) if begins in s and begins + section.size <= s.end), None)
        if target is None:
            yield f"{section.name} of the Go object lies at {begins:#x}, in no section of the image"
        elif section.in_file and not target.in_file:
            yield f"{section.name} of the Go object lies in {_shown(case.elf, target)}, where its bytes are lost"
        elif section.flags & ~target.flags & (SHF_WRITE | SHF_EXECINSTR):
            yield f"{section.name} of the Go object lies in {_shown(case.elf, target)}, which has not its rights"


def _begins(case: Case, section: Section, symbols: Sequence[Symbol], linked: dict[str, list[Symbol]]) -> int | None:
    """Where `section` of the Go object begins in the image; None if it is not there as one piece.

    All of its symbols must have been moved by the same distance; one without symbols is looked for by its bytes.
    """
    moved = [{each.value - symbol.value for each in linked[symbol.name] if not each.is_global} for symbol in symbols]
    if moved:
        places = set.intersection(*moved)
        return min(places) if places else None
    contents = case.object.contents(section)
    for target in allocated(case.elf):
        at = case.elf.contents(target).find(contents) if contents else -1
        if at >= 0:
            return target.address + at
    return None


CLAIM = Claim("memory-map", "everything lies where the board allows, and nothing on anything else", check)
