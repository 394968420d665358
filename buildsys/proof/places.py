"""Where the parts of an image lie and are stored, and how messages name a place."""

from __future__ import annotations

from dataclasses import dataclass

from buildsys.config.board import Region
from buildsys.formats.elf import PT_LOAD, SHF_ALLOC, SHF_WRITE, Elf, Section

SHF_TLS = 0x400
STACKS = ".stacks"  # of linker/kernel.ld.j2: nothing there is read before it is written


@dataclass(frozen=True)
class Area:
    """Writable memory that boot code must fill: from zeros, or from `source` on."""

    name: str
    low: int
    high: int
    source: int | None

    @property
    def verb(self) -> str:
        """What has to happen to it."""
        return "cleared" if self.source is None else "copied"


def areas(elf: Elf) -> list[Area]:
    """What boot code has to fill: allocated writable sections, neighbours of one kind joined."""
    found: list[Area] = []
    for section in sorted(elf.sections, key=lambda section: section.address):
        wanted = SHF_WRITE | SHF_ALLOC
        if section.flags & wanted != wanted or section.flags & SHF_TLS or not section.size or section.name == STACKS:
            continue
        source = load_address(elf, section) if section.in_file else None
        if section.in_file and source in (None, section.address):
            continue  # the loader put it where it lives
        last = found[-1] if found else None
        if (
            last
            and last.high == section.address
            and (last.source is None) == (source is None)
            and (source is None or source - section.address == (last.source or 0) - last.low)
        ):
            found[-1] = Area(f"{last.name}+{section.name}", last.low, section.end, last.source)
        else:
            found.append(Area(section.name, section.address, section.end, source))
    return found


def load_address(elf: Elf, section: Section) -> int | None:
    """Where the bytes of `section` are stored (LMA), told from the segment it lies in; None if in none."""
    for segment in elf.segments:
        if segment.kind == PT_LOAD and segment.vma <= section.address < segment.vma + segment.memory_size:
            return segment.lma + section.address - segment.vma
    return None


def place(region: Region | None) -> str:
    """A region as messages name it: its name, and its kind if that is something else."""
    if region is None:
        return "no region of the board"
    return region.name if region.name == region.kind else f"{region.name} ({region.kind})"


def at_variable(elf: Elf, address: int) -> str:
    """An address and the variable it lies in."""
    variable = elf.symbols.object_at(address)
    return f"{address:#x} ({variable.name})" if variable else f"{address:#x}"
