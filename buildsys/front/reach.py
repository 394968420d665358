"""`doit reach [FUNCTION]`: what the kernel can reach, and what of that bare metal has not; to read, and as JSON."""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

from buildsys.errors import UserError
from buildsys.files import replace
from buildsys.formats.lines import Lines
from buildsys.formats.symbols import Symbol
from buildsys.front.reporter import Failed
from buildsys.front.steps import Steps
from buildsys.go.reach import Reach, Step, search
from buildsys.go.touched import Touched, touched
from buildsys.stages.objects import read_runtime
from buildsys.stages.reaching import Subject, subject

INITIALISERS = "initialisers"


@dataclass(frozen=True)
class Asked:
    """The options of the command: `origin` is the function to begin at, the entry if it is empty."""

    functions: Sequence[str] = ()
    origin: str = ""
    as_json: bool = False
    picture: str = ""
    unpatched: bool = False
    strict: bool = False
    details: bool = False


class Answer:
    """What one image reaches, from one function or from where boot code and kernel begin."""

    def __init__(self, steps: Steps, asked: Asked) -> None:
        offsets, plan = read_runtime(steps.runtime_json)
        project = steps.project
        called = [project.entry, *filter(None, [project.barrier.function])]
        redirected = not asked.unpatched
        self.subject: Subject = subject(
            steps.unpatched, plan, called, steps.redirects, redirected, str(project.package)
        )
        self.entry = asked.origin or project.entry
        self.kernel = project.kernel
        self.entries = self.subject.entries
        if asked.origin:
            self.entries = tuple(each.value for each in self.functions(asked.origin))
        self._thread = offsets["runtime.g.m"]
        self._lines = Lines(self.subject.elf)

    @property
    def title(self) -> str:
        """Whose answer it is, in words: the function it begins at, and the kernel, if there are several."""
        return f"{self.kernel}: {self.entry}" if self.kernel else self.entry

    @cached_property
    def touched(self) -> Touched:
        """The services, and the ways to them."""
        asked = self.subject
        return touched(asked.elf, asked.graph, self.entries, self._thread, asked.replaced, asked.stops, asked.sets)

    @cached_property
    def reach(self) -> Reach:
        """All that can run."""
        return search(self.subject.graph, self.entries, self.subject.stops)

    def functions(self, pattern: str) -> list[Symbol]:
        """The functions of a name, or of a pattern with *. Raises UserError, naming the nearest, if there are none."""
        from fnmatch import fnmatchcase

        elf = self.subject.elf
        everything = elf.symbols.functions()
        if any(sign in pattern for sign in "*?") and "(*" not in pattern:
            found = [each for each in everything if fnmatchcase(plain(each), pattern)]
        else:
            found = [each for each in everything if pattern in (each.name, plain(each))]
        if not found:
            from difflib import get_close_matches

            near = get_close_matches(pattern, {plain(each) for each in everything}, 3)
            raise UserError(
                f"{elf.name}: there is no function {pattern}",
                (f"did you mean {' or '.join(near)}? " if near else "")
                + "Go keeps only what main.main can reach, and puts small functions into their callers",
            )
        return list({each.value: each for each in found}.values())

    def place(self, function: Symbol, site: int) -> str:
        """`file:line` of an instruction of `function`; empty if that is not told."""
        return self._lines.of(function.value, [site]).get(site, "")

    def places(self, way: Sequence[Step]) -> list[str]:
        """For each step of a way but the first, `file:line` of what leads to it."""
        return [
            self.place(before.function, step.edge.site) if step.edge and step.edge.site else ""
            for before, step in pairwise(way)
        ]


def reach(steps: Steps, asked: Asked) -> Failed | None:
    """Answer what was asked; with `strict`, fail if something is reached that bare metal has not."""
    gc.disable()  # hundreds of thousands of tuples are made, none of them in circles
    try:
        answer = Answer(steps, asked)
        if asked.functions:
            found = [each for pattern in asked.functions for each in answer.functions(pattern)]
            _tell_of(answer, found, asked.as_json)
            return None
        if asked.picture:
            from buildsys.front.reach_picture import picture

            replace(Path(asked.picture), picture(answer).encode())
        if asked.as_json:
            print(json.dumps(as_json(answer), indent=1))
        else:
            from buildsys.front.reach_text import show

            show(answer, asked.details)
            if asked.picture:
                print(f"{asked.picture}: the same, drawn")
    except UserError as error:
        return Failed(error)
    finally:
        gc.enable()
    lacking = [use.service.name for use in answer.touched.unserved]
    lacking += [INITIALISERS] if answer.touched.unset else []
    if asked.strict and lacking:
        return Failed(f"{answer.entry} reaches what bare metal has not: {', '.join(lacking)}")
    return None


def plain(function: Symbol) -> str:
    """A function's name as the source has it."""
    return function.name.removesuffix(".abi0")


def _tell_of(answer: Answer, functions: Sequence[Symbol], as_json: bool) -> None:
    """The shortest way to each of `functions`, and who calls it."""
    told = [_one(answer, each) for each in functions]
    if as_json:
        print(json.dumps(told if len(told) > 1 else told[0], indent=1))
        return
    from buildsys.front.reach_text import show_way

    reached = [each for each in told if each["reached"] or each["where the run ends"]]
    for each in reached or told[:1]:
        show_way(answer.title, each)
    if left := len(told) - len(reached or told[:1]):
        print(f"{left} more of that name {'is' if left == 1 else 'are'} not reached")
    sys.stdout.flush()


def _one(answer: Answer, function: Symbol) -> dict[str, Any]:
    """What there is to say of one function."""
    reach, graph = answer.reach, answer.subject.graph
    reached = function.value in reach.functions
    failing = [each for each in reach.functions.values() if function.value in graph.node(each).ended]
    return {
        "function": plain(function),
        "address": hex(function.value),
        "reached": reached,
        "taken over": _instead(answer, function),
        "way": as_way(answer, reach.way(function.value)) if reached else [],
        "callers": list(_callers(answer, function)),
        "where the run ends": [plain(each) for each in failing],
    }


def _instead(answer: Answer, function: Symbol) -> str | None:
    new = next((new for _, old, new in answer.subject.replaced if old == function.value), None)
    symbol = answer.subject.graph.function_at(new) if new is not None else None
    return f"{plain(symbol)} at {symbol.value:#x}" if symbol else None


def _callers(answer: Answer, function: Symbol) -> Iterator[dict[str, Any]]:
    """The reached functions that can come to `function`, and those that branch to it and are not reached."""
    reach, graph = answer.reach, answer.subject.graph
    for each in reach.functions.values():
        for edge in graph.node(each).edges:
            if edge.to == function.value:
                line = answer.place(each, edge.site)
                yield {"function": plain(each), "how": _how(edge.how, edge.through), "line": line, "reached": True}
    from buildsys.formats.callsites import call_sites

    others: dict[int, tuple[Symbol, int]] = {}
    for site in call_sites(answer.subject.elf, [function.value]):
        caller = answer.subject.elf.symbols.function_at(site.address)
        if caller and caller.value not in reach.functions and caller.value != function.value:
            others.setdefault(caller.value, (caller, site.address))
    for caller, address in others.values():
        line = answer.place(caller, address)
        yield {"function": plain(caller), "how": "calls", "line": line, "reached": False}


def _how(how: str, through: str) -> str:
    return f"{how} {through}".rstrip()


def as_way(answer: Answer, way: Sequence[Step]) -> list[dict[str, str]]:
    """A way as JSON: each function, and how the one before comes to it."""
    rows: list[dict[str, str]] = []
    for step, line in zip(way, ["", *answer.places(way)], strict=True):
        how = _how(step.edge.how, step.edge.through) if step.edge else ""
        rows.append({"function": plain(step.function), "how": how, "line": line})
    return rows


def as_json(answer: Answer) -> dict[str, Any]:
    """Everything that was found."""
    found = answer.touched
    return {
        "format": 1,
        "kernel": answer.kernel or None,
        "entry": answer.entry,
        "image": answer.subject.elf.name,
        "functions": [
            {
                "function": plain(function),
                "address": hex(address),
                "from": plain(found.reach.functions[origin]) if origin is not None else None,
            }
            for address, function in found.reach.functions.items()
            for origin in [found.reach.came_from[address]]
        ],
        "services": [
            {
                "service": use.service.name,
                "why": use.service.why,
                "instead": use.service.instead,
                "set": use.service.ready_set or None,
                "first": [plain(each) for each in use.first],
                "way": as_way(answer, found.near.way(use.first[0].value)) if use.first else [],
                "behind": [plain(each) for each in use.behind],
            }
            for use in found.uses
        ],
        "causes": [
            {
                "function": plain(each.caller),
                "how": _how(each.edge.how, each.edge.through),
                "called": plain(each.called),
                "line": answer.place(each.caller, each.edge.site),
            }
            for each in found.causes
        ],
        "initialisers": [
            {
                "variable": each.variable.name,
                "initialiser": each.initialiser.name,
                "reader": plain(each.reader),
                "line": answer.place(each.reader, each.site),
            }
            for each in found.unset
        ],
        "taken over": [{"function": name, "service": service or None} for name, service in found.served],
        "calls through registers": {
            **dict(sorted(found.values.calls.items())),
            "functions": found.values.functions,
            "methods": found.values.methods,
            "not told apart": list(found.values.others),
        },
    }
