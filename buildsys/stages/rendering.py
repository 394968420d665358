"""What the templates are filled with, and what comes of it: boot code, barriers, the linker script.

In a process that renders again and again, a template is not rendered again if all that it was made of is the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from buildsys.config.barrier import DISCARDING, BarrierPolicy
from buildsys.config.board import CONTROLLERS, ENTROPY, Board
from buildsys.errors import UserError
from buildsys.files import renew
from buildsys.go.runtime import FLAG, STACK_GUARD, Plan
from buildsys.go.sites import NO_SITES, SiteTable
from buildsys.stages.programs import Placed
from buildsys.stages.templates import ORIGINAL, Addresses, Templates
from buildsys.stages.variant import SHIPPED, Variant

COMPILED = ".templates"


@dataclass(frozen=True)
class Sources:
    """What the templates are filled with. `folders` are searched for `templates`, the user's first.

    `own` are further templates of the user's, with what each makes; `own_boot` that one of them, or another
    file, has `_start`. `arguments` are those of the entry, `allocator` and `alloc_memory` are for the set
    `alloc`, all as `config.project.Project` has them. `sites` is the table of a policy that counts. `symbols`
    are defined by the linker script: names and expressions. `ready` are functions of ours that redirects name.
    `program` is what the supervisor of one is told.
    """

    layout: Mapping[str, int]
    plan: Plan
    board: Board
    entry: str
    folders: tuple[Path, ...]
    templates: tuple[str, ...]
    toolchain: str
    variant: Variant = SHIPPED
    arguments: tuple[int | str, ...] = ("board",)
    own: tuple[tuple[str, Path], ...] = ()
    own_boot: bool = False
    allocator: str = ""
    alloc_memory: int | None = None
    barrier: BarrierPolicy = DISCARDING
    sites: SiteTable = NO_SITES
    symbols: tuple[tuple[str, str], ...] = ()
    ready: tuple[str, ...] = ()
    program: Placed | None = None


class Rendered(NamedTuple):
    """What a template came to: its `text`, and the symbols it `asked` the addresses of.

    `read` are the templates that this is made of, by name: their texts, None of one there was not. If one was edited
    meanwhile, nothing is known of that: None.
    """

    text: str
    asked: frozenset[str]
    read: Mapping[str, str | None] | None


class _Last(NamedTuple):
    """The last rendering to a folder: what it was of, and what each template came to."""

    sources: Sources
    known: Mapping[str, int]
    made: dict[str, Rendered]


_last: dict[Path, _Last] = {}  # by folder, in this process


def render(sources: Sources, build: Path, known: Mapping[str, int]) -> list[str]:
    """Write what every template makes, without its `.j2`, to `build`, with the addresses in `known`.

    What is there as it would be written is left alone. Returns the symbols whose address was asked for.
    Raises UserError.
    """
    addresses = Addresses(known)
    templates = Templates(sources.folders, build / COMPILED)
    values = _values(sources, addresses)
    last = _last.get(build.absolute())
    same = last.made if last and (last.sources, last.known) == (sources, known) else {}
    made: dict[str, Rendered] = {}
    goals = {f"{name}.j2": build / name for name in sources.templates} | dict(sources.own)
    for name, goal in goals.items():
        done = same.get(name)
        if done is None or done.read is None or any(templates.text(each) != text for each, text in done.read.items()):
            addresses.asked.clear()
            text = templates.render(name, values)
            _refuse_twice(sources, goal.name, text)
            done = Rendered(text, frozenset(addresses.asked), templates.read())
        made[name] = done
        goal.parent.mkdir(parents=True, exist_ok=True)
        renew(goal, done.text.encode())
    _last[build.absolute()] = _Last(sources, dict(known), made)
    return sorted(frozenset().union(*(each.asked for each in made.values())))


def _refuse_twice(sources: Sources, name: str, text: str) -> None:
    """Raise UserError if what a template made, called `name`, defines what the project has the linker script define."""
    for symbol, _ in sources.symbols:
        if len(re.findall(rf'(?m)^\s*"?{re.escape(symbol)}"?\s*=', text)) > 1:
            raise UserError(f"`symbols` names {symbol}, which {name} defines already", "leave it out of `symbols`")


def _values(sources: Sources, addresses: Callable[[str], int]) -> dict[str, Any]:
    def offset(field: str) -> int:
        if field not in sources.layout:
            raise LookupError(f"no offset is known of {field!r}; known: {', '.join(sources.layout)}")
        return sources.layout[field]

    from buildsys.stages.translation import MAIR, SCTLR, TCR, Translation, translation

    def translate(code_end: int, constants_end: int, guards: Sequence[int] = ()) -> Translation:
        return translation(sources.board, code_end, constants_end, guards, sources.variant.flash_writable)

    return {
        "address": addresses,
        "alloc_memory": sources.alloc_memory,
        "allocator": sources.allocator,
        "offset": offset,
        "controllers": CONTROLLERS,
        "entropy": ENTROPY,
        "program": sources.program,
        "mmu": {"mair": MAIR, "tcr": TCR, "sctlr": SCTLR},
        "original": lambda function: addresses(ORIGINAL + function),
        "barrier": sources.barrier,
        "board": sources.board,
        "arguments": sources.arguments,
        "entry": sources.entry,
        "flag": FLAG,
        "own_boot": sources.own_boot,
        "plan": sources.plan,
        "sites": sources.sites,
        "ready": sources.ready,
        "stack_guard": STACK_GUARD,
        "symbols": sources.symbols,
        "toolchain": sources.toolchain,
        "translate": translate,
        "variant": sources.variant,
    }
