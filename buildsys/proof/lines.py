"""Source lines of a few addresses, from the DWARF line tables of the packages they are in."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import unquote


def source_lines(image: Path, functions: Iterable[tuple[int, str]]) -> dict[int, str]:
    """`file:line` of each (address, name of its Go function) for which the image has a line table.

    Go writes a compile unit for each package, called as the package is: only those needed are decoded.
    """
    from elftools.elf.elffile import ELFFile

    wanted: dict[str, list[int]] = {}
    for address, name in functions:
        wanted.setdefault(package_of(name), []).append(address)
    found: dict[int, str] = {}
    try:
        with image.open("rb") as stream:
            # The linker has applied the relocations it kept.
            dwarf = ELFFile(stream).get_dwarf_info(relocate_dwarf_sections=False)
            for unit in dwarf.iter_CUs():
                package = unit.get_top_DIE().attributes.get("DW_AT_name")
                addresses = wanted.get(package.value.decode("utf-8", "replace"), []) if package else []
                program = dwarf.line_program_for_CU(unit) if addresses else None
                if program is not None:
                    found |= _lines(program, addresses)
    except Exception:
        # pyelftools raises all kinds for a damaged table. A line is a convenience: an image
        # without any can be proved as well.
        return found
    return found


def package_of(function: str) -> str:
    """The package path of a Go function: `kernel/heap.(*Segment).Free` is in `kernel/heap`.

    In symbols, dots of the path's last part are escaped (cmd/internal/objabi, PathToPrefix).
    """
    folder, slash, name = re.split(r"[(\[]", function, maxsplit=1)[0].rpartition("/")
    return unquote(folder + slash + name.partition(".")[0])


def _lines(program: Any, addresses: list[int]) -> dict[int, str]:
    states = [entry.state for entry in program.get_entries() if entry.state is not None]
    states.sort(key=lambda state: (state.address, not state.end_sequence))
    starts = [state.address for state in states]
    files = program["file_entry"]
    first = 0 if program["version"] >= 5 else 1  # DWARF 5 counts files from 0, older ones from 1
    found = {}
    for address in addresses:
        place = bisect_right(starts, address) - 1
        if place >= 0 and not states[place].end_sequence and 0 <= states[place].file - first < len(files):
            name = files[states[place].file - first].name.decode("utf-8", "replace")
            found[address] = f"{name.rpartition('/')[2]}:{states[place].line}"
    return found
