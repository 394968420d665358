"""Claim: the same inputs give the same bytes, in another folder, from nothing."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

from buildsys.formats import identity
from buildsys.formats.elf import Elf
from buildsys.proof.bootcode import at
from buildsys.proof.case import Case
from buildsys.proof.claim import Claim, Verdict, verdict


def check(case: Case) -> Verdict:
    """Build the image again in a folder with another name, and compare."""
    with tempfile.TemporaryDirectory(prefix="another-folder-") as folder:
        again = case.rebuild(Path(folder)).read_bytes()
    ours = case.elf.data
    digest = hashlib.sha256(ours).hexdigest()
    problems = [] if again == ours else [difference(case.elf, again)]
    return verdict(
        problems,
        f"{len(ours)} bytes the same in another folder, SHA-256 {digest[:16]}",
        {"sha256": digest, "bytes": len(ours), "sha256 of the other": hashlib.sha256(again).hexdigest()},
        [f"SHA-256 {digest}"],
        "something of the folder or the moment got into the image, or the sources changed since the build: "
        "`doit build` and look again; then at what your sources, flags and templates use",
    )


def difference(elf: Elf, again: bytes) -> str:
    """Where `again` first differs from the bytes of `elf`: offset, section, address and symbol.

    The identity differs whenever anything does: it is named only if nothing else is different.
    """
    ours = elf.data
    offset = first_difference(ours, again)
    place = identity.place(elf)
    start = None if place is None else elf.file_offset(place)
    if start is not None and start <= offset < start + identity.SIZE:
        end = start + identity.SIZE
        beyond = end + first_difference(ours[end:], again[end:])
        offset = beyond if beyond < min(len(ours), len(again)) else offset
    if offset == min(len(ours), len(again)):
        return f"built again, the image has {len(again)} bytes, not {len(ours)}; they differ from offset {offset:#x} on"
    said = f"built again, byte {offset:#x} is {again[offset]:#04x}, not {ours[offset]:#04x}"
    for section in elf.sections:
        if section.in_file and section.offset <= offset < section.offset + section.size:
            where = f"{section.name}+{offset - section.offset:#x}"
            if section.address:
                address = section.address + offset - section.offset
                variable = elf.symbols.object_at(address)
                named = f"{address:#x} in {variable.name}" if variable else at(elf, address)
                return f"{said}: {named} ({where})"
            return f"{said}: in {where}"
    return f"{said}: in the ELF file's headers"


def first_difference(ours: bytes, theirs: bytes) -> int:
    """The first offset at which they differ, the shorter one's length if one begins with the other."""
    low, high = 0, min(len(ours), len(theirs))
    if ours[:high] == theirs[:high]:
        return high
    # Invariant: the bytes before `low` are the same, those before `high` are not.
    while high - low > 1:
        middle = (low + high) // 2
        if ours[low:middle] == theirs[low:middle]:
            low = middle
        else:
            high = middle
    return low


CLAIM = Claim("reproducible", "building again in another folder gives the same bytes", check, builds=True)
