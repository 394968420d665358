"""An image this project did not build, held against the redirects somebody says were made in it.

All there is, is one file. So the claims are those that need no unpatched image,
no Go object and no board: that the functions are there, that nothing leads to
the old ones any more, that segments are what they should be, and that what
tests the flag of Go's write barrier calls what it was redirected to.

A redirect is of a function's calls, or of the function's entry: if its first
instruction is a branch to the new one, every way into it is caught.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

from buildsys.errors import UserError
from buildsys.formats import a64
from buildsys.formats.addresses import conditional, formed
from buildsys.formats.callsites import CallSite, call_sites
from buildsys.formats.elf import ET_EXEC, PF_W, PF_X, PT_LOAD, SHF_ALLOC, SHF_EXECINSTR, SHF_WRITE, Elf, Segment
from buildsys.formats.patch import address_takers
from buildsys.formats.references import Code, references
from buildsys.formats.symbols import STT_FUNC, STT_NOTYPE, Symbol
from buildsys.go.flag import COPIES, FLAG_BYTES, Judgement, code_of, judge
from buildsys.go.runtime import FLAG, READERS, SLOTTED, STORING
from buildsys.proof.claim import Result, Verdict, verdict
from buildsys.proof.claims.call_sites import among_code, relocated_calls, still_called, where
from buildsys.proof.places import SHF_TLS

FORM = "write it --redirect=OLD=NEW, each the name of a function or its address: 0x1234"


@dataclass(frozen=True)
class Redirect:
    """What is said to go from `old` to `new`: names, or addresses as text. The same name: the local to the global."""

    old: str
    new: str

    def __str__(self) -> str:
        return f"{self.old} → {self.new}"


@dataclass(frozen=True)
class Found:
    """A redirect whose two functions are known, by address."""

    redirect: Redirect
    old: int
    new: int


@dataclass(frozen=True)
class Audit:
    """One image, and the redirects it is held against."""

    elf: Elf
    redirects: tuple[Redirect, ...]

    @cached_property
    def found(self) -> tuple[tuple[Found, ...], tuple[str, ...]]:
        """The redirects whose functions are in the image, and what is wrong with the others."""
        found, problems = [], []
        for redirect in self.redirects:
            try:
                found.append(_found(self.elf, redirect))
            except LookupError as error:
                problems.append(str(error.args[0]))
        return tuple(found), tuple(problems)

    @cached_property
    def at_entry(self) -> tuple[Found, ...]:
        """The redirects made at the old function's first instruction."""
        return tuple(each for each in self.found[0] if self._begins_with_branch(each))

    @cached_property
    def olds(self) -> dict[int, str]:
        """The names of the functions calls are redirected away from, by address."""
        return {each.old: each.redirect.old for each in self.found[0] if each not in self.at_entry}

    @cached_property
    def news(self) -> dict[int, str]:
        """The names of the functions that calls go to instead, by address."""
        return {each.new: each.redirect.new for each in self.found[0]}

    @cached_property
    def sites(self) -> list[CallSite]:
        """Every branch to an old or new function."""
        return call_sites(self.elf, {*self.olds, *self.news})

    @cached_property
    def code(self) -> Code:
        """The image's instructions."""
        return code_of(self.elf)

    @cached_property
    def flag_loads(self) -> list[Judgement]:
        """Every load of Go's flag, with the calls it leads to."""
        flag = self.elf.symbols.addresses(FLAG)[FLAG]
        uses = references(self.elf, self.code, flag, FLAG_BYTES)
        loads = {use.address: use for use in uses if use.kind == "load"}
        served = {*self.news, *self.elf.symbols.addresses(*COPIES).values(), *(each.old for each in self.at_entry)}
        return [judge(self.code, use, served, loads) for use in loads.values()]

    def _begins_with_branch(self, found: Found) -> bool:
        word = self.elf.word(found.old)
        return word is not None and a64.is_b(word) and a64.branch_target(word, found.old) == found.new


@dataclass(frozen=True)
class AuditClaim:
    """As `Claim`, of an audit."""

    name: str
    title: str
    check: Callable[[Audit], Verdict]


def parse(text: str) -> Redirect:
    """The redirect that `OLD=NEW` says. Raises UserError."""
    old, equals, new = text.partition("=")
    if not (old and equals and new):
        raise UserError(f"--redirect={text} names no two functions", FORM)
    for name in (old, new):
        if _is_address(name) and _address(name) is None:
            raise UserError(f"--redirect={text}: {name} is no address", FORM)
    return Redirect(old, new)


def audit(elf: Elf, redirects: Iterable[Redirect]) -> Audit:
    """The audit of `elf`; without `redirects`, of those it would have had here: each barrier of Go's to its namesake.

    Functions that read the flag count as redirected if they have a namesake. Raises UserError if the
    file is no linked image, or if nobody said what was redirected and it has no barriers.
    """
    if elf.kind != ET_EXEC:
        raise UserError(f"{elf.name}: is not a linked executable", "give the image the linker wrote")
    chosen = tuple(redirects)
    if not chosen:
        named = elf.symbols.named(*SLOTTED, STORING, *READERS)
        barriers = [name for name in (*SLOTTED, STORING) if named[name]]
        if not barriers:
            raise UserError(
                f"{elf.name}: has no write barriers of Go's: say what was redirected", "--redirect=OLD=NEW, repeatable"
            )
        readers = [name for name in READERS if len(named[name]) > 1]
        chosen = tuple(Redirect(name, name) for name in (*barriers, *readers))
    return Audit(elf, chosen)


def claims(audit: Audit) -> tuple[AuditClaim, ...]:
    """The claims that can be checked: the one about Go's flag only where there is one."""
    has_flag = FLAG in audit.elf.symbols.addresses(FLAG)
    return (FUNCTIONS, CALLS, OTHER_WAYS, SEGMENTS, *((CHECKS,) if has_flag else ()))


def _is_address(name: str) -> bool:
    return name[:2].lower() == "0x"


def _address(name: str) -> int | None:
    try:
        return int(name, 16)
    except ValueError:
        return None


def _found(elf: Elf, redirect: Redirect) -> Found:
    """Raises LookupError saying what is not there, or there twice."""
    if redirect.old != redirect.new:
        return Found(redirect, _function(elf, redirect.old), _function(elf, redirect.new))
    if _is_address(redirect.old):
        raise LookupError(f"{redirect.old} cannot be redirected to itself")
    functions = _functions(elf, redirect.old)
    old = [each for each in functions if not each.is_global]
    new = [each for each in functions if each.is_global]
    if len(old) != 1 or len(new) != 1 or old[0].value == new[0].value:
        listed = ", ".join(f"{each.value:#x} {each.letter()}" for each in functions) or "nothing"
        raise LookupError(f"{redirect.old}: one local and one global function expected, found {listed}")
    return Found(redirect, old[0].value, new[0].value)


def _function(elf: Elf, name: str) -> int:
    if _is_address(name):
        address = int(name, 16)
        if address % 4 or elf.word(address) is None or not any(address in section for section in elf.code):
            raise LookupError(f"{name}: no code is there")
        return address
    places = sorted({each.value for each in _functions(elf, name)})
    if len(places) != 1:
        listed = ", ".join(f"{place:#x}" for place in places) or "none"
        raise LookupError(f"{name}: one function of that name expected, found {listed}")
    return places[0]


def _functions(elf: Elf, name: str) -> list[Symbol]:
    return [each for each in elf.symbols.named(name)[name] if each.kind in (STT_FUNC, STT_NOTYPE)]


def check_functions(audit: Audit) -> Verdict:
    """Whether the functions named are in the image."""
    found, problems = audit.found
    return verdict(
        list(problems),
        f"{len(found)} redirects, {len(audit.at_entry)} of them at the function's entry",
        {str(each.redirect): [hex(each.old), hex(each.new)] for each in found},
        [f"{each.redirect}: {each.old:#x} → {each.new:#x}" for each in found],
        "name each function as `nm` does, or give its address",
    )


def check_calls(audit: Audit) -> Verdict:
    """Whether every call goes to the new function; by the relocations too, where the linker kept them."""
    elf = audit.elf
    if not audit.found[0]:
        return _nothing()
    kept = relocated_calls(elf, _goals(audit))
    # A branch that no relocation made is the function's own, if it goes back to its start.
    calls, loops = still_called(elf, audit.sites, audit.olds, kept)
    by_old = {each.redirect.old: each for each in audit.found[0]}
    problems = [f"{audit.olds[site.target]} is still called at {where(elf, site.address)}" for site in calls]
    for address, name in sorted(kept.items()):
        word = elf.word(address)
        goal = None if word is None else a64.branch_target(word, address)
        expected = by_old[name].new
        if goal not in (expected, by_old[name].old):
            goes = "is no branch" if goal is None else f"goes to {where(elf, goal)}"
            problems.append(f"the call of {name} at {where(elf, address)} {goes}")
    decoded = Counter(audit.news[site.target] for site in audit.sites if site.target in audit.news)
    if not decoded and not audit.at_entry:
        listed = ", ".join(f"{name} at {new:#x}" for new, name in audit.news.items())
        problems.append(f"nothing calls a new function ({listed}): no redirect is to be seen")
    told = f"; {len(kept)} of them by the relocations kept" if kept else "; no relocations of them were kept"
    return verdict(
        problems,
        f"{decoded.total()} calls of the new functions{told}",
        {"calls": dict(decoded), "relocations": len(kept), "loops": [hex(loop) for loop in sorted(loops)]},
        [f"{count:5} calls of {name}" for name, count in sorted(decoded.items())],
        "a call that was left runs the old function",
    )


def _nothing() -> Verdict:
    return Verdict(Result.NOT_RUN, "no redirect whose functions are known")


def _goals(audit: Audit) -> dict[tuple[int, int], str]:
    """The functions whose calls were to be redirected, as relocations name them."""
    return {
        (section.index, old): name for old, name in audit.olds.items() for section in audit.elf.code if old in section
    }


def check_other_ways(audit: Audit) -> Verdict:
    """Whether anything else leads to an old function. What can run is not known here: all of it counts."""
    elf, olds = audit.elf, audit.olds
    if not audit.found[0]:
        return _nothing()
    problems = [
        *(
            f"{olds[goal]} is reached by a conditional branch at {where(elf, at)}"
            for at, goal in conditional(elf, olds)
        ),
        *(
            f"the address of {olds[goal]} is formed at {where(elf, use.address)}"
            for goal, use in formed(elf, audit.code, olds)
        ),
        *(f"a pointer to {olds[goal]} is at {_variable(elf, at)}" for at, goal in address_takers(elf, list(olds))),
        *(f"a pointer to {olds[goal]} is among code at {where(elf, at)}" for at, goal in among_code(elf, olds)),
    ]
    return verdict(
        problems,
        f"no conditional branch, no address formed, no pointer to {len(olds)} functions",
        {"functions": {name: hex(old) for old, name in olds.items()}},
        [],
        "a call through an address reaches the old function: redirect it at its entry",
    )


def _variable(elf: Elf, address: int) -> str:
    variable = elf.symbols.object_at(address)
    return f"{address:#x} in {variable.name if variable else 'no variable'}"


def check_segments(audit: Audit) -> Verdict:
    """Whether segments are writable or executable but not both, apart, and hold the sections."""
    loaded = [each for each in audit.elf.segments if each.kind == PT_LOAD and each.memory_size]
    problems = [*_rights(loaded), *_apart(loaded), *_holding(audit.elf, loaded)]
    rights = Counter("".join(letter for bit, letter in ((4, "r"), (PF_W, "w"), (PF_X, "x")) if each.flags & bit)
                     for each in loaded)  # fmt: skip
    evidence: dict[str, Any] = {
        "segments": [{"address": hex(each.vma), "load address": hex(each.lma), "bytes": each.memory_size,
                      "flags": each.flags} for each in loaded]
    }  # fmt: skip
    figure = f"{len(loaded)} segments: " + ", ".join(f"{count} {which}" for which, count in sorted(rights.items()))
    if not loaded:
        problems.append("the image has no segment to load")
    return verdict(problems, figure, evidence, [], "look at the linker script: its program headers and sections")


def _rights(loaded: list[Segment]) -> Iterator[str]:
    for each in loaded:
        if each.flags & PF_W and each.flags & PF_X:
            yield f"the segment at {each.vma:#x}..{_end(each):#x} may be both written and executed"
        if each.file_size > each.memory_size:
            yield f"the segment at {each.vma:#x} has more bytes in the file than in memory"


def _apart(loaded: list[Segment]) -> Iterator[str]:
    ordered = sorted(loaded, key=lambda each: each.vma)
    for before, after in pairwise(ordered):
        if after.vma < _end(before):
            yield f"the segment at {after.vma:#x} lies on that at {before.vma:#x}..{_end(before):#x}"


def _holding(elf: Elf, loaded: list[Segment]) -> Iterator[str]:
    for section in elf.sections:
        if not section.flags & SHF_ALLOC or not section.size or (section.flags & SHF_TLS and not section.in_file):
            continue
        shown = f"{section.name} ({section.address:#x}..{section.end:#x})"
        inside = [each for each in loaded if each.vma <= section.address and section.end <= _end(each)]
        if not inside:
            yield f"{shown} lies in no segment to load"
            continue
        segment = inside[0]
        same = section.offset - segment.offset == section.address - segment.vma
        if section.in_file and not (same and section.end <= segment.vma + segment.file_size):
            yield f"{shown} and the segment at {segment.vma:#x} do not name the same bytes of the file"
        for flag, right, what in ((SHF_WRITE, PF_W, "written"), (SHF_EXECINSTR, PF_X, "executed")):
            if section.flags & flag and not segment.flags & right:
                yield f"{shown} is to be {what}, and the segment at {segment.vma:#x} may not be"


def _end(segment: Segment) -> int:
    return segment.vma + segment.memory_size


def check_flag(audit: Audit) -> Verdict:
    """Whether each check of Go's flag calls a function that was redirected; other loads are told."""
    runtimes = {
        symbol.value: name
        for name, symbols in audit.elf.symbols.named(*SLOTTED, STORING, *READERS).items()
        for symbol in symbols
    }
    checks = [load for load in audit.flag_loads if load.accounted]
    strays = [load for load in audit.flag_loads if load.stray is not None and load.stray[1] in runtimes]
    others = [load for load in audit.flag_loads if not load.accounted and load not in strays]
    problems = [
        f"the check at {where(audit.elf, load.read.address)} calls, at {at:#x}, {runtimes[goal]} at {goal:#x}, "
        "to which no redirect leads"
        for load in strays
        for at, goal in ([load.stray] if load.stray else [])
    ]
    return verdict(
        problems,
        f"{len(audit.flag_loads)} loads of {FLAG}: {len(checks)} checks that call a redirected function, "
        f"{len(others)} others",
        {"checks": len(checks), "others": [hex(load.read.address) for load in others]},
        [f"{FLAG} is read at {where(audit.elf, load.read.address)}, for something else" for load in others],
        "name the redirect of that function, too",
    )


FUNCTIONS = AuditClaim("functions", "the functions named are in the image", check_functions)
CALLS = AuditClaim("calls", "every call of an old function goes to the new one", check_calls)
OTHER_WAYS = AuditClaim("other-ways", "nothing else leads to an old function", check_other_ways)
SEGMENTS = AuditClaim("segments", "no segment is both writable and executable, and all are consistent", check_segments)
CHECKS = AuditClaim("checks", "each check of the flag calls a redirected function", check_flag)
