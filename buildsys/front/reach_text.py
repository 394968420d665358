"""What `doit reach` says, as text: a tree of the ways to each service, then a few lines on each.

The same words everywhere; on a terminal with colour, at its width.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from buildsys.formats.symbols import Symbol
from buildsys.go.graph import CALLS, JUMPS, NAMES, THROUGH, TYPE
from buildsys.go.indirect import CASE, METHOD, OTHER, VALUE
from buildsys.go.services import Service
from buildsys.go.touched import Touched

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from buildsys.front.reach import Answer

WIDTH = 100  # where the output goes to no terminal
FEW = 3  # services of which it is said at once what to do
SHOWN = 3  # variables, callers, functions named before "and n more"


@dataclass
class Branch:
    """One function of the tree: how it was come to, what it leads to, and the services that begin with it."""

    name: str
    line: str = ""
    how: str = ""
    below: dict[str, Branch] = field(default_factory=dict)
    services: list[str] = field(default_factory=list)


def plain(function: Symbol) -> str:
    """A function's name as the source has it."""
    return function.name.removesuffix(".abi0")


def tree(answer: Answer) -> list[Branch]:
    """The ways to the nearest function of each service, laid over one another: a branch for each entry."""
    from buildsys.front.reach import as_way

    roots: dict[str, Branch] = {}
    near = answer.touched.near
    for use in answer.touched.unserved:
        at: Branch | None = None
        for row in as_way(answer, near.way(use.first[0].value)):
            among = roots if at is None else at.below
            at = among.setdefault(row["function"], Branch(row["function"], row["line"], row["how"]))
        if at is not None:
            at.services.append(use.service.name)
    return list(roots.values())


def run_of(branch: Branch) -> list[Branch]:
    """`branch` and what follows as long as there is one way on: drawn in one go."""
    found = [branch]
    while len(found[-1].below) == 1 and not found[-1].services:
        found += found[-1].below.values()
    return found


def show(answer: Answer, details: bool) -> None:
    """Everything, for reading."""
    console = _console()
    found = answer.touched
    console.print(_headline(answer), soft_wrap=False)
    if found.unserved:
        console.print()
        for root in tree(answer):
            _show_branch(console, root, "", "")
        console.print()
        few = len(found.unserved) <= FEW
        for use in found.unserved:
            _show_service(console, use.service, details or few)
        _show_causes(console, answer, details)
        if hidden := [use.service.name for use in found.uses if not use.first]:
            console.print(_hanging(console, "behind these", f"{', '.join(hidden)}: not come to without them", "dim"))
    if found.unset:
        _show_unset(console, answer, details)
    if found.served:
        console.print(_hanging(console, "taken over", _served(found), "dim"))
    for line in _values(found):
        console.print(_hanging(console, "by register", line, "dim"))
    if details:
        _show_details(console, found)


def _headline(answer: Answer) -> Text:
    from rich.text import Text

    found = answer.touched
    count = len(found.reach.functions)
    text = Text.assemble((answer.title, "bold"), f" reaches {count} function{'s' if count != 1 else ''}")
    lacking = len(found.unserved)
    if lacking:
        text.append(", and so ")
        text.append(
            f"{lacking} service{'s' if lacking != 1 else ''} of the runtime that bare metal has not:", "bold red"
        )
    else:
        text.append(", and ")
        text.append("no service of the runtime that bare metal has not", "bold green")
    return text


def _show_branch(console: Console, branch: Branch, first: str, rest: str) -> None:
    """One run of functions on a line, or more if it is long, and what branches off below it."""
    from rich.text import Text

    run = run_of(branch)
    text = Text(first, "dim")
    room = console.width
    for at, each in enumerate(run):
        piece = Text(" → " if at else "", "dim")
        piece.append(each.name, "red" if each.services else "")
        if told := " ".join(part for part in (each.line, by(each.how, brief=True)) if part):
            piece.append(f" {told}", "dim")
        if each.services:
            piece.append(f"  ✗ {', '.join(each.services)}", "bold red")
        if at and len(text) + len(piece) > room:
            console.print(text, soft_wrap=True)
            text = Text(rest + ("│" if run[-1].below else " ") + " ", "dim")
        text.append_text(piece)
    console.print(text, soft_wrap=True)
    below = list(run[-1].below.values())
    for each in below:
        last = each is below[-1]
        _show_branch(console, each, rest + ("└─ " if last else "├─ "), rest + ("   " if last else "│  "))


def _show_service(console: Console, service: Service, instead: bool) -> None:
    console.print(_hanging(console, service.name, service.why, "bold"))
    if instead:
        console.print(_hanging(console, "", f"→ {service.instead}", "green"))


def _show_causes(console: Console, answer: Answer, details: bool) -> None:
    """Where the kernel's own code asks for it, and what would make it work."""
    from buildsys.go.services import available

    found = answer.touched
    told: dict[str, list[str]] = {}
    for each in found.causes:
        at = f"{plain(each.caller)} {answer.place(each.caller, each.edge.site)}".rstrip()
        told.setdefault(at, []).append(plain(each.called))
    named = [f"{', '.join(called)} from {at}" for at, called in told.items()]
    shown = named if details else named[:SHOWN]
    more = f"; and from {len(named) - len(shown)} more places" if len(named) > len(shown) else ""
    if named:
        console.print(_hanging(console, "comes of", "; ".join(shown) + more, "bold"))
    served = [use.service for use in found.unserved if available(use.service.ready_set)]
    if served:
        quoted = ", ".join(f'"{name}"' for name in dict.fromkeys(each.ready_set for each in served))
        names = ", ".join(each.name for each in served)
        console.print(_hanging(console, "", f"→ sets = [{quoted}] serves {names}", "green"))
    what = "do without that" if named else "do without what leads there"
    rest = "" if len(found.unserved) <= FEW or details else "; -v says what to do about each service"
    console.print(_hanging(console, "", f"→ {what}, or redirect it to functions of your own{rest}", "green"))


def _show_unset(console: Console, answer: Answer, details: bool) -> None:
    unset = answer.touched.unset
    named = [
        f"{each.variable.name}, set by {each.initialiser.name}, is used at {answer.place(each.reader, each.site)}"
        for each in (unset if details else unset[:SHOWN])
    ]
    more = f"; and {len(unset) - len(named)} more" if len(unset) > len(named) else ""
    console.print(_hanging(console, "initialisers", f"no package's run: {'; '.join(named)}{more}", "bold"))
    console.print(_hanging(console, "", "→ set them in the entry, or give them values known at compile time", "green"))


def _served(found: Touched) -> str:
    groups: dict[str, int] = {}
    for name, service in found.served:
        what = service or ("the write barrier" if "arrier" in name or "wb" in name else name)
        groups[what] = groups.get(what, 0) + 1
    return ", ".join(f"{what} ({count})" if count > 1 else what for what, count in groups.items())


def _values(found: Touched) -> Iterator[str]:
    """Calls whose target is in a register: by what rule what they come to counts as reached."""
    values = found.values
    calls = values.calls
    told = []
    if calls[VALUE]:
        told.append(f"{calls[VALUE]} of function values (any of {values.functions} whose address is taken)")
    if calls[METHOD]:
        told.append(f"{calls[METHOD]} of methods (any of {values.methods} in tables)")
    if calls[CASE]:
        told.append(f"{calls[CASE]} in switches")
    if told:
        yield f"calls and jumps: {', '.join(told)}; all of them count as reached"
    if calls[OTHER]:
        named = ", ".join(values.others[:SHOWN]) + (", …" if len(values.others) > SHOWN else "")
        yield (
            f"{calls[OTHER]} that cannot be told to be either, in {named}: followed if they come to one of these, "
            "and not if to an address made at run time"
        )


def _show_details(console: Console, found: Touched) -> None:
    console.print()
    for use in found.uses:
        named = [*(each.name for each in use.first), *(f"({each.name})" for each in use.behind)]
        console.print(_hanging(console, use.service.name, ", ".join(named), ""))


def show_way(entry: str, told: dict[str, Any]) -> None:
    """The way to one function, and its callers."""
    from rich.text import Text

    console = _console()
    name = told["function"]
    if told["reached"]:
        console.print(Text.assemble((entry, "bold"), " reaches ", (name, "bold"), ":"))
        for depth, row in enumerate(told["way"]):
            text = Text("   " * (depth - 1) + "└─ " if depth else "", "dim")
            text.append(row["function"], "" if depth < len(told["way"]) - 1 else "red")
            text.append(f"  {_said(row)}" if depth else "", "dim")
            console.print(text, soft_wrap=True)
    else:
        failing = told["where the run ends"]
        only = " but where the run ends" if failing else ""
        console.print(Text.assemble((entry, "bold"), " does not reach ", (name, "bold"), only))
        if failing:
            more = f", and {len(failing) - 4 * SHOWN} more" if len(failing) > 4 * SHOWN else ""
            console.print(_hanging(console, "called by", ", ".join(failing[: 4 * SHOWN]) + more, ""))
    if told["taken over"]:
        console.print(_hanging(console, "taken over", f"{told['taken over']} runs instead", ""))
    reached = [each for each in told["callers"] if each["reached"]]
    others = [each for each in told["callers"] if not each["reached"]]
    for what, callers in (("called by", reached), ("not reached", others)):
        if callers:
            named = [f"{each['function']} {each['line']}".rstrip() for each in callers[: 4 * SHOWN]]
            more = f", and {len(callers) - len(named)} more" if len(callers) > len(named) else ""
            console.print(_hanging(console, what, ", ".join(named) + more, ""))


def _said(row: dict[str, str]) -> str:
    return "  ".join(each for each in (row["line"], by(row["how"])) if each)


def by(how: str, brief: bool = False) -> str:
    """What is said of a way on that is no call."""
    if how.startswith(THROUGH):
        return "(by a pointer)" if brief else f"(by a pointer in {how.removeprefix(THROUGH).strip()})"
    if how.startswith(TYPE):
        return "(by its type)" if brief else f"(by its type: {how.removeprefix(TYPE).strip()})"
    return {NAMES: "(its address)", JUMPS: "" if brief else "(a jump)", CALLS: "", "": ""}.get(how, f"({how})")


def _hanging(console: Console, name: str, text: str, style: str) -> Text:
    """`name`, and `text` beside it in a column of its own."""
    from textwrap import wrap

    from rich.text import Text

    margin = min(18, console.width // 3)
    lines = wrap(text, max(20, console.width - margin)) or [""]
    found = Text()
    for at, line in enumerate(lines):
        found.append("\n" if at else "")
        found.append(f"{'' if at else name:{margin - 1}.{margin - 1}} ", "bold" if style == "bold" else "dim")
        found.append(line, "" if style == "bold" else style)
    return found


def _console() -> Console:
    import sys

    from rich.console import Console

    if sys.stdout.isatty():
        return Console(highlight=False)
    return Console(highlight=False, width=WIDTH)
