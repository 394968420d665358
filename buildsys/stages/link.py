"""Templates, the Go object and the board to an unpatched image: render, assemble, link, bind.

Binding: boot code holds symbol addresses of the very image it is linked into.
Guess them, link, read the real ones, and repeat until they hold still. The
templates use instructions of fixed size, so the layout does not depend on the
values and two links settle it; a guess from the last build usually needs one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from buildsys.config.board import Board
from buildsys.errors import UserError
from buildsys.files import replace
from buildsys.formats.elf import Elf
from buildsys.go.runtime import FLAG, STACK_GUARD, Plan
from buildsys.stages.render import Addresses, Templates
from buildsys.stages.translation import translation
from buildsys.toolchains.binary import BinaryToolchain

PASSES = 4
SCRIPT = "kernel.ld"
COMPILED = ".templates"


@dataclass(frozen=True)
class LinkInputs:
    """What one image is made of. `folders` are searched for templates, the user's first."""

    go_object: Path
    layout: Mapping[str, int]
    plan: Plan
    board: Board
    entry: str
    folders: tuple[Path, ...]
    templates: tuple[str, ...]
    toolchain: BinaryToolchain


def link(inputs: LinkInputs, build: Path, image: Path, binding: Path) -> int:
    """Make `image` under the folder `build`, beside it the rendered sources and objects.

    `binding` keeps the addresses bound, as JSON: the guess of the next build.
    Returns how many links it took. Raises UserError, leaving an earlier image alone.
    """
    guess, linked = _guess(binding), image.with_suffix(".linking")
    assembled: dict[str, str] = {}
    try:
        for passes in range(1, PASSES + 1):
            objects, asked = _objects(inputs, build, guess, assembled)
            inputs.toolchain.link(build / SCRIPT, [*objects, inputs.go_object], linked)
            real = _addresses(Elf.read(linked), asked, inputs)
            if {name: guess.get(name) for name in asked} == real:
                linked.replace(image)
                replace(binding, json.dumps(dict(sorted(real.items())), indent=1).encode() + b"\n")
                return passes
            guess = real
        moving = ", ".join(sorted(name for name in real if real[name] != guess.get(name))) or ", ".join(asked)
        raise UserError(
            f"symbol addresses do not hold still after {PASSES} links: {moving}",
            "a template's length must not depend on an address: use load(), which always takes two instructions",
        )
    finally:
        linked.unlink(missing_ok=True)


def _guess(binding: Path) -> dict[str, int]:
    try:
        found: dict[str, int] = json.loads(binding.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found


def _objects(
    inputs: LinkInputs, build: Path, known: Mapping[str, int], assembled: dict[str, str]
) -> tuple[list[Path], set[str]]:
    """Render all, assemble what differs from `assembled` (text by template): (objects, symbols asked for)."""
    addresses = Addresses(known)
    templates = Templates(inputs.folders, build / COMPILED)
    values = _values(inputs, addresses)
    replace(build / SCRIPT, templates.render(f"{SCRIPT}.j2", values).encode())
    changed = []
    for name in inputs.templates:
        text = templates.render(f"{name}.j2", values)
        if assembled.get(name) != text:
            replace(build / name, text.encode())
            assembled[name] = text
            changed.append(build / name)
    with ThreadPoolExecutor() as pool:
        for _ in pool.map(lambda source: _assemble(inputs.toolchain, source), changed):
            pass  # raises what the assembler raised
    return [(build / name).with_suffix(".o") for name in inputs.templates], addresses.asked


def _assemble(toolchain: BinaryToolchain, source: Path) -> None:
    partial = source.with_suffix(".assembling")
    try:
        toolchain.assemble(source, partial)
        partial.replace(source.with_suffix(".o"))
    finally:
        partial.unlink(missing_ok=True)


def _values(inputs: LinkInputs, addresses: Addresses) -> dict[str, Any]:
    def offset(field: str) -> int:
        if field not in inputs.layout:
            raise LookupError(f"no offset is known of {field!r}; known: {', '.join(inputs.layout)}")
        return inputs.layout[field]

    return {
        "address": addresses,
        "offset": offset,
        "board": inputs.board,
        "entry": inputs.entry,
        "flag": FLAG,
        "plan": inputs.plan,
        "stack_guard": STACK_GUARD,
        "toolchain": inputs.toolchain.name,
        "translation": translation(inputs.board),
    }


def _addresses(elf: Elf, asked: set[str], inputs: LinkInputs) -> dict[str, int]:
    found = {}
    for name, symbols in elf.symbols.named(*asked).items():
        if not symbols:
            raise _unknown(name, inputs, elf)
        if len({symbol.value for symbol in symbols}) > 1:
            raise UserError(
                f"{name} is ambiguous: " + ", ".join(f"{each.value:#x} ({each.letter()})" for each in symbols),
                "boot code can only be given the address of a symbol there is one of",
            )
        found[name] = symbols[0].value
    return found


def _unknown(name: str, inputs: LinkInputs, elf: Elf) -> UserError:
    from difflib import get_close_matches

    if name != inputs.entry:
        return UserError(f"the image has no symbol {name!r}, which a template asks the address of")
    package = name.rsplit(".", 1)[0] + "."
    near = get_close_matches(name, [each for each in elf.symbols.all_names() if each.startswith(package)], 3)
    meant = f"did you mean {' or '.join(near)}? " if near else ""
    return UserError(
        f"the entry function {name} is not in the Go object",
        f"{meant}Go keeps it only if main.main calls it and it is marked //go:noinline",
    )
