"""`doit stack [FUNCTION ...]`: how deep each stack can get, by which chain of calls, and what that is not told of."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from buildsys.errors import UserError
from buildsys.formats.elf import Elf
from buildsys.formats.lines import Lines
from buildsys.formats.references import Body, Code
from buildsys.front.reach import Answer, plain
from buildsys.front.reach import Asked as Reaching
from buildsys.front.reporter import Failed
from buildsys.front.steps import Steps
from buildsys.go.flag import code_of
from buildsys.stacks.account import Account, Use
from buildsys.stacks.chains import BACK, RECURSION, Link
from buildsys.stacks.image import GUARDS, ends_of, extents, handled_on
from buildsys.stages.objects import read_runtime

FEW = 5  # things not told of that are named without being asked for all


@dataclass(frozen=True)
class Asked:
    """The options of the command."""

    functions: Sequence[str] = ()
    as_json: bool = False
    details: bool = False


class Told:
    """The stacks of the image that `steps` built, in words."""

    def __init__(self, steps: Steps) -> None:
        answer = Answer(steps, Reaching())
        offsets, plan = read_runtime(steps.runtime_json)
        self.elf = Elf.mapped(steps.image)
        self.image, self.board = steps.image, steps.project.board.name
        self.code: Code = code_of(self.elf)
        self._lines = Lines(self.elf)
        replaced = answer.subject.replaced
        self.account = Account(
            self.elf,
            self.code,
            answer.subject.graph,
            answer.reach,
            answer.entries,
            [offsets[each] for each in GUARDS],
            ends_of(self.elf, {name: new for name, _, new in replaced if name in plan.ends}),
            handled_on(steps.project.program is not None),
        )
        self.answer = answer

    def uses(self) -> list[Use]:
        """What each stack is needed for."""
        return self.account.uses(extents(self.elf))

    def body(self, address: int) -> Body:
        """The function that `address` is in."""
        return self.code.body(address)

    def name(self, address: int) -> str:
        """The function that `address` is in, in words."""
        function = self.body(address).function
        return plain(function) if function else f"{address:#x}"

    def line(self, site: int) -> str:
        """`file:line` of an instruction, empty if that is not told."""
        return self._lines.of(self.body(site).base, [site]).get(site, "") if site else ""

    def why(self, opened: tuple[str, int]) -> str:
        """In words, why there is no bound."""
        kind, address = opened
        where = f"{self.name(address)}{f' at {line}' if (line := self.line(address)) else ''}"
        if kind == RECURSION:
            circle = self.account.chains.circles.get(address, (address,))
            names = list(dict.fromkeys(map(self.name, circle)))
            return f"recursion: {' ↔ '.join(names[:FEW])}{f' and {len(names) - FEW} more' if len(names) > FEW else ''}"
        if kind == BACK:
            return f"{where} calls by a pointer what could call it again"
        return f"{where}: {self.account.unknown.get(address, '')}"


def stack(steps: Steps, asked: Asked) -> Failed | None:
    """Answer what was asked."""
    try:
        told = Told(steps)
        functions = [each for pattern in asked.functions for each in told.answer.functions(pattern)]
    except UserError as error:
        return Failed(error)
    if functions:
        found = [_of_function(told, each.value) for each in functions]
        uses, unchecked = found, None
    else:
        uses, unchecked = told.uses(), told.account.unchecked()
    if asked.as_json:
        print(json.dumps(as_json(told, uses, unchecked), indent=1))
        return None
    print("\n".join(_lines(told, uses, unchecked, asked.details)), flush=True)
    return None


def _of_function(told: Told, address: int) -> Use:
    """A function by itself: what it and all it calls take of the stack it is called on."""
    chains = told.account.chains
    height = chains.height(address)
    return Use(told.name(address), 0, height.bytes, tuple(chains.chain(address)), tuple(sorted(height.open)))


def as_json(told: Told, uses: Sequence[Use], unchecked: Use | None) -> dict[str, Any]:
    """Everything, for programs."""

    def one(use: Use) -> dict[str, Any]:
        return {
            "name": use.name,
            "size": use.size or None,
            "bytes": use.bytes,
            "bound": not use.open,
            "chain": [
                {"function": told.name(link.function), "bytes": link.bytes, "line": told.line(link.site)}
                for link in use.chain
            ],
            "open": [told.why(each) for each in use.open],
        }

    found: dict[str, Any] = {"format": 1, "image": str(told.image), "board": told.board, "stacks": list(map(one, uses))}
    if unchecked:
        found["unchecked"] = one(unchecked)
    return found


def _lines(told: Told, uses: Sequence[Use], unchecked: Use | None, details: bool) -> Iterator[str]:
    for at, use in enumerate(uses):
        yield from [""] if at else []
        of = f" of {use.size:,}" if use.size else ""
        name = f"{use.name} stack" if use.size else use.name
        yield f"{name}: {'at least' if use.open else 'at most'} {use.bytes:,}{of} bytes"
        yield from _chain(told, use.chain)
        yield from _open(told, use, details)
    if unchecked:
        most = "at least" if unchecked.open else "at most"
        yield ""
        sure = f"{unchecked.size:,} are sure behind one"
        yield f"without a look at the stack's end: {most} {unchecked.bytes:,} bytes; {sure}"
        yield from _chain(told, unchecked.chain)
        yield from _open(told, unchecked, details)


def _chain(told: Told, chain: Sequence[Link]) -> Iterator[str]:
    sums = accumulate(link.bytes for link in chain)
    for link, used in zip(chain, sums, strict=True):
        yield f"  {link.bytes:>7,} {used:>7,}  {told.name(link.function)}  {told.line(link.site)}".rstrip()


def _open(told: Told, use: Use, details: bool) -> Iterator[str]:
    if not use.open:
        return
    yield "  no bound is known:"
    reasons = list(dict.fromkeys(map(told.why, use.open)))
    shown = reasons if details else reasons[:FEW]
    yield from (f"    {each}" for each in shown)
    if len(reasons) > len(shown):
        yield f"    and {len(reasons) - len(shown)} more (-v tells them)"
