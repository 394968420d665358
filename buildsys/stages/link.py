"""What the templates made, the Go object and the board to an unpatched image: assemble, link, bind.

Binding: boot code holds symbol addresses of the very image it is linked into.
Guess them, link, read the real ones, and repeat until they hold still. The
templates use instructions of fixed size, so the layout does not depend on the
values and two links settle it; a guess from the last build usually needs one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from buildsys.config.barrier import DISCARDING, BarrierPolicy
from buildsys.config.board import Board
from buildsys.config.expected import Literal
from buildsys.errors import UserError
from buildsys.files import partial, put, replace, share
from buildsys.formats.elf import Elf
from buildsys.formats.symbols import SHN_ABS, STT_OBJECT
from buildsys.stages.templates import ABSENT, ORIGINAL
from buildsys.toolchains.binary import BinaryToolchain

PASSES = 4


class Linked(NamedTuple):
    """One link: the file, what is in it, and the symbols whose addresses were asked for."""

    path: Path
    elf: Elf
    asked: Sequence[str]


def assemble(toolchain: BinaryToolchain, source: Path) -> None:
    """Assemble `source` to the object beside it. Raises UserError, leaving an earlier object alone."""
    made = source.with_suffix(".o")
    with partial(made) as beside:
        toolchain.assemble(source, beside)
        put(beside, made)


def assemble_own(toolchain: BinaryToolchain, source: Path, folder: Path, root: Path, made: Path,
                 flags: Mapping[str, str], paths: Mapping[str, str], literals: Sequence[Literal]) -> None:  # fmt: skip
    """Assemble a file of the user's to `made`, fit to be linked here; what it includes is in `root` or `folder`.

    `flags` are those of sections that are given none; `paths` says what names of files begin with instead;
    `literals` which numbers of its routines stand for addresses.
    """
    from buildsys.stages.assembly import moved

    made.parent.mkdir(parents=True, exist_ok=True)
    with partial(made) as beside:
        text = source.read_text("utf-8", "surrogateescape") if paths else ""
        if (other := moved(text, paths)) != text:
            copy = made.with_name(f"{source.name}.moved.s")
            replace(copy, other.encode("utf-8", "surrogateescape"))
            try:
                toolchain.assemble(copy, beside, folder, root)
            except UserError as error:
                raise UserError(error.message.replace(str(copy), str(source)), error.hint) from error
        else:
            toolchain.assemble(source, beside, folder, root)
        replace(made, _fit(beside.read_bytes(), str(source), flags, literals))


def adopt(given: Path, made: Path, flags: Mapping[str, str], literals: Sequence[Literal]) -> None:
    """Copy an object of the user's to `made`, fit to be linked here. Raises UserError if it is no object."""
    from buildsys.formats.elf import ET_REL

    elf = Elf.read(given)
    if elf.kind != ET_REL:
        raise UserError(f"{given}: is not an object to be linked", "give what an assembler or compiler wrote with -c")
    made.parent.mkdir(parents=True, exist_ok=True)
    replace(made, _fit(elf.data, str(given), flags, literals))


def _fit(contents: bytes, name: str, flags: Mapping[str, str], literals: Sequence[Literal]) -> bytes:
    from buildsys.stages.assembly import placed, typed
    from buildsys.stages.expected import with_literals

    # First the sections: code that has no flags is seen as code only with them. Then what is a routine.
    return with_literals(typed(placed(contents, name, flags), name), name, literals)


def bind(own: Sequence[Path], others: Sequence[Path], go_object: Path, board: Board, known: Mapping[str, int],
         given: Collection[str], made: Path) -> list[str]:  # fmt: skip
    """Write assembly that binds the Go symbols which the objects `own` name; returns their names.

    Not those `given`, which the linker script defines. One whose address is not in `known` is taken to
    lie where code begins, which a branch can reach.
    """
    from buildsys.stages.assembly import bindings, to_bind

    names = to_bind(own, others, go_object, given)
    replace(made, bindings([(name, known.get(name, board.text)) for name in names]).encode())
    return names


def join(toolchain: BinaryToolchain, script: Path, objects: Sequence[Path], output: Path) -> None:
    """One link of `objects` by `script`. Raises UserError, leaving an earlier file alone."""
    with partial(output) as beside:
        toolchain.link(script, objects, beside)
        put(beside, output)


def link(
    linked_with: Callable[[Mapping[str, int]], Linked],
    entry: str,
    image: Path,
    binding: Path,
    barrier: BarrierPolicy = DISCARDING,
) -> int:
    """Make `image`, which is what `linked_with` links for given addresses (it tells which it asked for).

    `binding` keeps the addresses bound, as JSON: the guess of the next build.
    Returns how many links it took. Raises UserError, leaving an earlier image alone.
    """
    guess = _guess(binding)
    for passes in range(1, PASSES + 1):
        linked, elf, asked = linked_with(guess)
        real = _addresses(elf, asked, entry)
        if absent := sorted(set(asked) - real.keys()):
            if entry in absent:
                raise _no_function(f"the entry function {entry}", entry, elf)
            if barrier.function in absent:
                raise _no_function(f"{barrier.function}, which `barrier-function` names,", barrier.function, elf)
            linked_with(real | dict.fromkeys(absent, ABSENT))  # raises, with the line of the template
            raise UserError(f"the image has no symbol {absent[0]!r}, which a template asks the address of")
        if {name: guess.get(name) for name in asked} == real:
            share(linked, image)
            replace(binding, json.dumps(dict(sorted(real.items())), indent=1).encode() + b"\n")
            return passes
        before, guess = guess, real
    moving = ", ".join(sorted(name for name in real if real[name] != before.get(name)))
    raise UserError(
        f"symbol addresses do not hold still after {PASSES} links: {moving}",
        "a template's length must not depend on an address: use load(), which always takes two instructions",
    )


def _guess(binding: Path) -> dict[str, int]:
    try:
        found = json.loads(binding.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    sound = isinstance(found, dict) and all(type(each) is int and 0 <= each < 1 << 32 for each in found.values())
    return found if sound else {}


def _addresses(elf: Elf, asked: Sequence[str], entry: str) -> dict[str, int]:
    """The address of each symbol in `asked` that the image has."""
    plain = {name: name.removeprefix(ORIGINAL) for name in asked}
    named = elf.symbols.named(*plain.values())
    found = {}
    for name, symbol_name in plain.items():
        bearers = [each for each in named[symbol_name] if name == symbol_name or not each.is_global]
        # The absolute ones are bound to the others: what is looked for here is what they must be.
        symbols = [symbol for symbol in bearers if symbol.section != SHN_ABS] or bearers
        if len({symbol.value for symbol in symbols}) > 1:
            raise UserError(
                f"{name} is ambiguous: " + ", ".join(f"{each.value:#x} ({each.letter()})" for each in symbols),
                "boot code can only be given the address of a symbol there is one of",
            )
        if name == entry and any(symbol.kind == STT_OBJECT for symbol in symbols):
            raise UserError(f"the entry {entry} is a variable, not a function")
        if symbols:
            found[name] = symbols[0].value
    return found


def _no_function(what: str, name: str, elf: Elf) -> UserError:
    from difflib import get_close_matches

    package = name.rsplit(".", 1)[0] + "." if "." in name else ""
    functions = [function.name for function in elf.symbols.functions() if function.name.startswith(package)]
    near = get_close_matches(name, functions, 3)
    meant = f"did you mean {' or '.join(near)}? " if near else ""
    return UserError(
        f"{what} is not in the Go object",
        f"{meant}Go keeps it only if main.main calls it and it is marked //go:noinline",
    )
