"""`doit why [STEP ...]`: what would be done again and because of what; for the rest, why it was done last.

Everything is looked at and nothing is written: no record, no lock, and go is not asked.
What is said holds for the build that would come next, and no more than is known of it:
whether a step is done whose inputs another makes anew, only that build can find out.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any

from buildsys.cache.action import BUILT, Action
from buildsys.cache.caches import REMOTE, RESTORED
from buildsys.cache.difference import Difference, differences, read
from buildsys.cache.fingerprint import Print
from buildsys.errors import UserError
from buildsys.front.command import hang_up
from buildsys.front.reasons import Reason, reasons
from buildsys.front.reporter import Failed
from buildsys.front.steps import Steps

CHAIN = ("compile", "runtime", "link", "patch")
WIDTH, INDENT = 80, 10


class State(Enum):
    """What the next build would do with a step."""

    UP_TO_DATE = "up to date"
    TO_DO = "to do"
    DEPENDS = "depends"  # on what the steps before it make
    IMPOSSIBLE = "impossible"
    NOT_REACHED = "not reached"
    IGNORED = "ignored"


@dataclass(frozen=True)
class Look:
    """What was seen of one step. `last` is what its record says of when, whence and because of what it was done.

    `after` are the steps that come first, and may make those of its inputs that are `anew`; `error`
    says why it is impossible.
    """

    name: str
    state: State
    differences: tuple[Difference, ...] = ()
    last: Mapping[str, Any] = field(default_factory=dict)
    after: tuple[str, ...] = ()
    anew: tuple[str, ...] = ()
    error: UserError | None = None


def why(steps: Steps, names: Sequence[str], as_json: bool = False) -> Failed | None:
    """Print why the steps `names`, all if there are none, would be done, or were. Fails if there is no such step."""
    try:
        chosen = _chosen(steps, names)
    except UserError as error:
        return Failed(error)
    looks = [look for look in looked_at(steps, bool(chosen.intersection(_nested(steps)))) if look.name in chosen]
    try:
        print(_as_json(looks) if as_json else _as_text(looks, _tools(steps)), flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        hang_up()
        return Failed(f"standard output: {error.strerror}")
    return None


def _nested(steps: Steps) -> tuple[str, ...]:
    """What `link` consists of, each with a record of its own."""
    return ("render", *_assembles(steps), "join", "pack")


def _assembles(steps: Steps) -> tuple[str, ...]:
    return tuple(steps.assembles(steps.project.build / name) for name in steps.templates)


def _chosen(steps: Steps, words: Sequence[str]) -> set[str]:
    """The steps that `words` name; "assemble" may have its file in a word of its own. Raises UserError."""
    known = {name: {name} for name in (*CHAIN, *_nested(steps))}
    known |= {"build": set(CHAIN), "assemble": set(_assembles(steps))}
    chosen: set[str] = set()
    rest = list(words or ["build"])
    while rest:
        name = rest.pop(0)
        if name == "assemble" and rest and rest[0] not in known:
            name = f"{name} {rest.pop(0)}"
        if name not in known:
            from buildsys.config.toml import nearest

            raise UserError(f"there is no step {name!r}", nearest(name, known))
        chosen |= known[name]
    return chosen


def looked_at(steps: Steps, parts: bool = False) -> list[Look]:
    """Every step in the order of the chain, held against its record; those within `link` too if `parts`."""
    looks: list[Look] = []
    seen: dict[str, Print] = {}
    pending: dict[str, str] = {}  # what may come out different → the step that makes it
    for name, make in zip(CHAIN, (steps.compile, steps.runtime, steps.link, steps.patch), strict=True):
        before = dict(pending)
        if stopped := [look.name for look in looks if look.state in (State.IMPOSSIBLE, State.IGNORED)]:
            looks.append(Look(name, State.NOT_REACHED, after=(stopped[0],)))
        elif steps.records.path(name).with_suffix(".ignored").exists():  # by `doit ignore`
            looks.append(Look(name, State.IGNORED))
        else:
            looks.append(_look(steps.records.path(name), name, make, pending, seen))
        if parts and name == "link":
            looks += _parts(steps, looks[-1], before, seen)
    return looks


def _look(
    path: Path,
    name: str,
    make: Callable[[], Action],
    pending: dict[str, str],
    seen: dict[str, Print],
    depends: bool = False,
) -> Look:
    """One step held against its record, which is at `path`. What it may make anew is put into `pending`.

    It `depends` if it may have to be done though nothing that can be seen now has changed.
    """
    try:
        action = make()
        record, wrong = read(path)
        now = differences(record, action, seen, wrong)
    except UserError as error:
        return Look(name, State.IMPOSSIBLE, error=error)
    except OSError as error:
        return Look(name, State.IMPOSSIBLE, error=UserError(f"{error.filename or path}: {error.strerror}"))
    # An input that is made anew first counts as it is then, not as it is now.
    own = tuple(each for each in now if each.kind != "input" or each.name not in pending)
    anew = tuple(str(each) for each in action.inputs if str(each) in pending)
    makers = {pending[each] for each in anew}
    after = tuple(step for step in dict.fromkeys(pending.values()) if step in makers)
    state = State.TO_DO if own else State.DEPENDS if anew or depends else State.UP_TO_DATE
    last: dict[str, Any] = {key: record[key] for key in ("when", "origin", "because") if key in record}
    if state is not State.UP_TO_DATE:
        pending |= {str(each): name for each in action.outputs}
    return Look(name, state, own, last, after, anew)


def _parts(steps: Steps, link: Look, pending: dict[str, str], seen: dict[str, Print]) -> list[Look]:
    """The steps within `link`, which does them when it is done itself, and not otherwise."""
    if link.state not in (State.UP_TO_DATE, State.TO_DO, State.DEPENDS):
        return [Look(name, State.NOT_REACHED, after=("link",)) for name in _nested(steps)]
    guess: Any = {}
    with suppress(OSError, ValueError):
        guess = json.loads(steps.binding.read_bytes())  # what link begins with, too
    sources = [steps.project.build / name for name in steps.templates]
    makes: list[Callable[[], Action]] = [
        partial(steps.render, guess if isinstance(guess, dict) else {}),
        *(partial(steps.assemble, source) for source in sources),
        partial(steps.join, [source.with_suffix(".o") for source in sources]),
        steps.pack,
    ]
    looks = []
    for name, make in zip(_nested(steps), makes, strict=True):
        # Addresses may move whenever link is done, and they are known only then.
        moving = name == "render" and link.state is not State.UP_TO_DATE
        look = _look(steps.records.path(name), name, make, pending, seen, moving)
        if link.state is State.UP_TO_DATE and look.state is not State.UP_TO_DATE:
            look = replace(look, state=State.NOT_REACHED, after=("link",), anew=())
        elif look.state is State.TO_DO and (link.state is State.DEPENDS or steps.records.caches):
            # What the caches have is put in place whole.
            look = replace(look, state=State.DEPENDS, after=("link",), anew=())
        elif look.state is State.DEPENDS and not look.anew:
            look = replace(look, after=("link",))
        looks.append(look)
    return looks


def _tools(steps: Steps) -> frozenset[str]:
    """The programs that are run: Go's, the assembler, the linker."""
    tools: list[Path] = []
    with suppress(UserError, OSError):
        tools += steps.go.files
    with suppress(UserError, OSError):
        tools += steps.binutils.files
    return frozenset(map(str, tools))


def _as_text(looks: Sequence[Look], tools: Container[str]) -> str:
    """What is said of each step, behind its name."""
    indent = max(INDENT, *(len(look.name) + 2 for look in looks))
    said = {look.name: list(_lines(look, tools, WIDTH - indent)) for look in looks}
    return "\n".join(
        f"{'' if number else name:{indent}}{line}" for name, lines in said.items() for number, line in enumerate(lines)
    )


def _lines(look: Look, tools: Container[str], width: int) -> Iterator[str]:
    """What is said of a step, in lines of `width` characters."""
    because = reasons(look.differences, tools)
    if look.state is State.UP_TO_DATE:
        last, because = _told(look.last, tools)
        yield from _wrapped(f"up to date{'; ' if last else ''}{last}{' because' if because else ''}", width)
    else:
        yield from _wrapped(_headline(look), width)
    for what, values in because:
        if not values or len(f"{what}: {values}") <= width:
            yield from _wrapped(f"{what}: {values}" if values else what, width)
        else:
            yield from _wrapped(f"{what}:", width)
            yield from (f"  {line}" for line in _wrapped(values, width - 2))


def _headline(look: Look) -> str:
    """What would become of a step that is not up to date, and on what that depends."""
    before = look.after[-1] if look.after else ""
    match look.state:
        case State.IMPOSSIBLE:
            return f"cannot be done: {look.error}"
        case State.IGNORED:
            return f"ignored, and what needs it; `doit forget {look.name}` ends that"
        case State.NOT_REACHED if look.differences:
            return f"not looked at, as {before} is up to date; it would be done because"
        case State.NOT_REACHED:
            return f"not reached: {before} comes first"
        case State.DEPENDS if look.differences:
            return f"to be done if {before} is done, and not restored, because"
        case State.DEPENDS if look.anew:
            return f"looked at after {before}; done only if {' or '.join(look.anew)} comes out different"
        case State.DEPENDS:
            return f"looked at within {before}; done only if an address it binds moves"
    return "to be done because"


def _wrapped(text: str, width: int) -> list[str]:
    """`text` in lines. A path is not broken: it could not be copied."""
    from textwrap import wrap

    lines = [line for line in text.splitlines() if line]
    return [part for line in lines for part in wrap(line, width, break_long_words=False, break_on_hyphens=False)]


def _told(last: Mapping[str, Any], tools: Container[str]) -> tuple[str, list[Reason]]:
    """When and whence a record says the step was done last, and because of what: a sentence, or differences."""
    if not last:
        return "", []
    done = {RESTORED: "restored from the local cache", REMOTE: "fetched from the shared cache"}
    told = f"{done.get(last['origin'], BUILT)} {ago(time.time() - last['when'], last['when'])}"
    if isinstance(last["because"], str):
        return f"{told} because {last['because']}" if last["because"] else told, []
    try:
        return told, reasons([Difference(*each) for each in last["because"]], tools, past=True)
    except (TypeError, ValueError, AttributeError, KeyError):
        return told, []  # of another version


def ago(seconds: float, when: float) -> str:
    """How long ago something was that was done at `when`, in Unix seconds."""
    if seconds < 0 or seconds > 30 * 86_400:  # the clock was set back; or nobody counts the days
        return time.strftime("on %Y-%m-%d at %H:%M", time.localtime(when))
    for unit, name in ((86_400, "days"), (3_600, "h"), (60, "min"), (1, "s")):
        if seconds >= (2 * unit if name == "days" else unit):
            return f"{seconds // unit:.0f} {name} ago"
    return "just now"


def _as_json(looks: Sequence[Look]) -> str:
    steps = [
        {
            "name": look.name,
            "state": look.state.value,
            "after": look.after,
            "differences": [each._asdict() for each in look.differences],
            "error": str(look.error) if look.error else None,
            "last": dict(look.last) or None,
        }
        for look in looks
    ]
    return json.dumps({"format": 1, "steps": steps}, indent=1)
