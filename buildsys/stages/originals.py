"""The functions that stand for originals: whoever calls `original.NAME` comes to NAME, wherever other calls go.

Go code declares such a function without a body and binds it by `//go:linkname`, assembly just calls it. Each is
given room in the image here; the call-site pass fills it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from buildsys.errors import UserError
from buildsys.files import replace
from buildsys.formats.elf import Elf
from buildsys.formats.symbols import SHN_UNDEF

ORIGINAL = "original."

ROUTINE = """
// {name}: the original of {of}.
// In: what {of} expects.   Out: what it returns.   Clobbers: what it may.
    .balign 8
    .global "{name}"
    .type   "{name}", %function
"{name}":
    brk     #0                          // both are written by the call-site pass
    brk     #0
    .size   "{name}", . - "{name}"
"""


def called(elf: Elf) -> list[str]:
    """The names of originals an object calls, in order."""
    return sorted({each.name for each in elf.symbols.beginning(ORIGINAL) if each.section == SHN_UNDEF})


def stand_ins(own: Sequence[Path], by_go: Iterable[str], go_object: Path, made: Path) -> list[str]:
    """Write assembly with a routine for each original that Go, or an object in `own`, calls; returns their names.

    Raises UserError for a name that cannot be written so.
    """
    objects = [Elf.read(path) for path in own]
    names = {name for elf in objects for name in called(elf)} | set(by_go)
    # A package of the user's may be called so.
    known = Elf.mapped(go_object).symbols.named(*names) if names else {}
    defined = {each.name for elf in objects for each in elf.symbols.beginning(ORIGINAL) if each.section != SHN_UNDEF}
    wanted = sorted(name for name in names if not known.get(name) and name not in defined)
    for name in wanted:
        if any(letter in name for letter in '"\\\n'):
            raise UserError(f"{name!r} can be no symbol: no original can be called by it")
    text = "// What stands for functions that are redirected.\n    .text\n"
    text += "".join(ROUTINE.format(name=name, of=name.removeprefix(ORIGINAL)) for name in wanted)
    replace(made, text.encode())
    return wanted
