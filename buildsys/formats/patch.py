"""Redirecting functions: at every call site, or at the function's entry.

At call sites, every `B` and `BL` to the old function is made to go to the new
one; the old one stays whole and can still be called through a pointer. At the
entry, the old function's first instruction becomes a branch to the new one:
that catches every way into it. A third function may stand for the original:
whoever calls that one comes to the old function, in either case.

Works on any AArch64 ELF image with symbols. All or nothing: the new bytes are
returned only if every site could be re-encoded.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from operator import attrgetter, itemgetter
from typing import NamedTuple

from buildsys.errors import UserError
from buildsys.formats import a64
from buildsys.formats.a64 import BRANCH, BRANCH_RANGE, IMM26, OPCODE, OutOfRangeError, encode_branch, is_bl
from buildsys.formats.addresses import Left, Moved, held, moved
from buildsys.formats.callsites import Hits, conditional_sites, hits, marked, marking
from buildsys.formats.elf import ET_EXEC, PF_X, PT_LOAD, SHF_ALLOC, SHF_EXECINSTR, Elf, Section
from buildsys.formats.islands import TOO_FAR, Far, Island
from buildsys.formats.modes import Mode
from buildsys.formats.symbols import STT_FUNC, STT_NOTYPE, Symbol
from buildsys.formats.veneers import Veneer, final


@dataclass(frozen=True)
class Redirect:
    """The function `to` at `new` is to take the place of `name` at `old` .. `old_end`.

    What calls the function at `original`, if that is not 0, is to come to the old one. `pointers` says that
    pointers to the old function are to be rewritten as well; `allow` names what may be wrong and is put up with.
    `place` is where it was asked for, to begin a message with.
    """

    name: str
    old: int
    old_end: int
    new: int
    mode: Mode = Mode.CALLS
    to: str = ""
    original: int = 0
    pointers: bool = False
    allow: tuple[str, ...] = ()
    place: str = ""

    def is_loop(self, address: int, word: int) -> bool:
        """Whether the branch `word` at `address` is the old function's own, back to its first instruction.

        Go's prologue does that after growing the stack. It is no call: sent to
        the new function, an original that somebody still calls would never run.
        """
        return self.old <= address < self.old_end and not is_bl(word)


class Rewrite(NamedTuple):
    """One call site that was re-encoded: its address, the word before and after."""

    address: int
    before: int
    after: int
    redirect: Redirect


_rewrite = partial(tuple.__new__, Rewrite)  # without a call of Python code: there are tens of thousands
_REACH = BRANCH_RANGE // 4  # words


@dataclass(frozen=True)
class Patch:
    """What a pass did: the new contents of the image, each call site and each entry it changed, by address.

    The contents are in `pieces`, one after another, views of the file as it was or bytes; `contents_of` has
    the sections that may differ, which are all that hold code, by index. `turned` are the linker's veneers that
    were made to go to new functions, `islands` those that had to be added, which `contents_of` has not.
    `passing` are the words written for the functions that stand for an original, and the old function's
    own loops that had to go there. `addresses` are the places that stand for the new function now, and `left`
    those that could not be made to. `already` counts the branches that went to a new function, by its address,
    before the pass.
    """

    pieces: tuple[memoryview | bytes, ...]
    contents_of: dict[int, bytes]
    rewrites: tuple[Rewrite, ...]
    entries: tuple[Rewrite, ...]
    passing: tuple[Rewrite, ...]
    addresses: tuple[Moved, ...]
    left: tuple[Left, ...]
    already: dict[int, int]
    turned: tuple[Veneer, ...] = ()
    islands: tuple[Island, ...] = ()

    @property
    def contents(self) -> bytes:
        """The pieces as one."""
        return b"".join(self.pieces)

    @property
    def changes(self) -> list[tuple[int, bytes | memoryview]]:
        """What may be other in the file than it was: from which byte on, and what is there."""
        starts = accumulate(map(len, self.pieces), initial=0)
        return [(at, each) for at, each in zip(starts, self.pieces, strict=False) if isinstance(each, bytes)]

    def applied(self, elf: Elf) -> Elf:
        """The patched image, `elf` being the one that was patched."""
        return Elf(self.contents, elf.name) if self.islands else elf.with_code(self.contents_of)


def resolve(elf: Elf, names: Sequence[str]) -> list[Redirect]:
    """Redirects from each local function to the global one of the same name.

    Raises UserError if the file is no linked image, or naming the symbol if there is not exactly one of each.
    """
    if elf.kind != ET_EXEC:
        raise UserError(f"{elf.name}: is not a linked executable", "give the image the linker wrote")
    return [_resolve(name, symbols, elf.name) for name, symbols in elf.symbols.named(*names).items()]


def _resolve(name: str, symbols: list[Symbol], image: str) -> Redirect:
    functions = [symbol for symbol in symbols if symbol.kind in (STT_FUNC, STT_NOTYPE)]
    old = [symbol for symbol in functions if not symbol.is_global]
    new = [symbol for symbol in functions if symbol.is_global]
    if len(old) != 1 or len(new) != 1 or old[0].value == new[0].value:
        listed = ", ".join(f"{each.letter()} {each.value:#x}" for each in functions) or "none"
        raise UserError(
            f"{image}: {name}: one local function (the runtime's) and one global (ours) are needed; found: {listed}"
        )
    return Redirect(name, old[0].value, old[0].end, new[0].value)


def patch(
    elf: Elf, calls: Sequence[Redirect], entries: Sequence[Redirect] = (), pointed: Sequence[Redirect] = ()
) -> Patch:
    """Redirect the functions of `calls` at every call site, those of `entries` at their first instruction.

    One of mode `both` is in both. Of those in `pointed`, what relocations say is their address becomes the
    new function's. Calls inside the old functions themselves are re-encoded like any other,
    but not a branch back to the function's own start. Raises UserError if the file contradicts itself about
    where its code is, a branch cannot reach, an original cannot be called any more, or no relocations tell
    what is an address.
    """
    _refuse_doubtful(elf)
    addresses, left = _addresses(elf, pointed)
    by_old = {redirect.old: redirect for redirect in calls}
    by_new = {redirect.new for redirect in (*calls, *entries)}
    originals = {at for each in (*calls, *entries) if each.original for at in _room(each.original)}
    far = Far(elf, {redirect.old: redirect.new for redirect in calls}, by_new, originals)
    passing = _Passing(elf, far, calls, entries)
    to_new: Counter[int] = Counter()
    rewrites: list[Rewrite] = []
    taken: list[Rewrite] = []
    code: dict[int, bytes] = {}
    for section, words, indices, targets in sorted(hits(elf, [*by_old, *by_new, *passing.olds]), key=_in_file):
        plain = {} if passing.olds or passing.places else _plain(section, by_old)
        for at, target in zip(indices, targets, strict=True):
            if (known := plain.get(target)) is not None:
                to, low, high, new = known
                if not low <= at < high and -_REACH <= new - at < _REACH:
                    before = words[at]
                    words[at] = after = before & OPCODE | new - at & IMM26
                    rewrites.append(_rewrite((section.address + 4 * at, before, after, to)))
                    continue
            redirect = by_old.get(target)
            address, before = section.address + 4 * at, words[at]
            if address in passing.places or (target in passing.olds and passing.is_loop(address, before, target)):
                continue
            if redirect is None:
                to_new[target] += 1
            elif not redirect.old <= address < redirect.old_end or not redirect.is_loop(address, before):
                try:
                    words[at] = after = encode_branch(before, address, redirect.new)
                except ValueError:
                    words[at] = after = _encode(elf, far, address, before, redirect)
                rewrites.append(Rewrite(address, before, after, redirect))
        passing.write(section, words)
        for change in addresses:
            _write(section, words, change)
        for redirect in entries:
            if redirect.old in section and redirect.old + 4 <= section.end:
                at = redirect.old - section.address >> 2
                after = _encode(elf, far, redirect.old, BRANCH, redirect)
                if words[at] != after:
                    taken.append(Rewrite(redirect.old, words[at], after, redirect))
                    words[at] = after
        code[section.index] = words.tobytes() + elf.contents(section)[4 * len(words) :]
    _turn(elf, far, code)
    changed = {**code, **_data(elf, addresses, code)}
    rewrites.sort(key=itemgetter(0))
    already = {redirect.new: to_new[redirect.new] for redirect in (*calls, *entries)}
    pieces = tuple(_pieces(elf, changed))
    if far.islands:
        pieces = (far.placed(b"".join(pieces)),)
    return Patch(
        pieces=pieces,
        contents_of=changed,
        rewrites=tuple(rewrites),
        entries=tuple(taken),
        passing=tuple(passing.rewrites),
        addresses=addresses,
        left=left,
        already=already,
        turned=tuple(far.veneers),
        islands=tuple(far.islands),
    )


def _plain(section: Section, by_old: Mapping[int, Redirect]) -> dict[int, tuple[Redirect, int, int, int]]:
    """By old function: the redirect, and where old function, its end and the new one are, in words from the section's.

    For all call sites but in the old function itself, or out of reach, there is no more to it (a64.encode_branch).
    """
    base = section.address
    return {
        old: (each, each.old - base >> 2, -(-(each.old_end - base) // 4), each.new - base >> 2)
        for old, each in by_old.items()
        if (each.new - base) % 4 == 0
    }


def _turn(elf: Elf, far: Far, code: dict[int, bytes]) -> None:
    """Have veneers of old functions go to the new ones."""
    for address, contents in far.turned():
        section = next(each for each in elf.code if address in each)
        at, whole = address - section.address, code[section.index]
        code[section.index] = whole[:at] + contents + whole[at + len(contents) :]


def _pieces(elf: Elf, changed: Mapping[int, bytes]) -> Iterator[memoryview | bytes]:
    """The file with other contents of some sections. Raises UserError if two of them overlap."""
    data, end = memoryview(elf.data), 0
    for section in sorted((elf.sections[index] for index in changed), key=attrgetter("offset")):
        if section.offset < end:
            raise UserError(f"{elf.name}: damaged: section {section.name!r} overlaps another")
        yield from (data[end : section.offset], changed[section.index])
        end = section.offset + section.size
    yield data[end:]


def _addresses(elf: Elf, pointed: Sequence[Redirect]) -> tuple[tuple[Moved, ...], tuple[Left, ...]]:
    """What stands for the old functions of `pointed` and is to stand for the new ones, and what cannot."""
    if not pointed:
        return (), ()
    places = held(elf, {redirect.old: redirect.name for redirect in pointed})
    if places is None:
        raise UserError(
            f"{elf.name}: no pointer to {pointed[0].name} can be told from a number that looks like it",
            "link with --emit-relocs: only what a relocation says is an address may be rewritten",
        )
    changes, left = moved(elf, places, {redirect.old: redirect.new for redirect in pointed})
    known = {each.place for each in places}
    unknown = [
        Left(place, target, "it looks like one, and no relocation says so")
        for place, target in address_takers(elf, [redirect.old for redirect in pointed])
        if place not in known
    ]
    return tuple(changes), tuple(sorted([*left, *unknown]))


def _write(section: Section, words: array[int], change: Moved) -> None:
    """Put what stands for an address into the `words` of `section`, if it is there."""
    if section.address <= change.place and change.place + change.size <= section.end:
        for at in range(change.size // 4):
            words[(change.place - section.address >> 2) + at] = change.after >> 32 * at & 0xFFFF_FFFF


def _data(elf: Elf, changes: Sequence[Moved], code: Mapping[int, bytes]) -> dict[int, bytes]:
    """The new contents of the sections that hold data, by index."""
    found: dict[int, bytearray] = {}
    for change in changes:
        for section in elf.sections:
            if section.flags & SHF_ALLOC and section.in_file and change.place in section and section.index not in code:
                contents = found.setdefault(section.index, bytearray(elf.contents(section)))
                at = change.place - section.address
                contents[at : at + change.size] = change.after.to_bytes(change.size, "little")
    return {index: bytes(contents) for index, contents in found.items()}


ROOM = 8  # bytes of the function that stands for an original: two instructions


def _room(original: int) -> range:
    return range(original, original + ROOM, 4)


class _Passing:
    """The functions that stand for originals, and what is put into them.

    One is a branch to the old function. If the old one's first instruction is another now, the one it was
    comes first, and the branch goes behind it; then a branch of the old function's own back to its start
    comes here, too. `olds` are the functions of which this is so.
    """

    def __init__(self, elf: Elf, far: Far, calls: Sequence[Redirect], entries: Sequence[Redirect]) -> None:
        self._elf, self._far = elf, far
        self._wanted = {each.original: each for each in (*calls, *entries) if each.original}
        self._taken = {each.old: each.new for each in entries}
        self.olds = {each.old: each for each in self._wanted.values() if each.old in self._taken}
        self.places = {at for original in self._wanted for at in _room(original)}
        self.rewrites: list[Rewrite] = []
        self._words = {place: self._contents(redirect) for place, redirect in self._wanted.items()}
        self._loops: list[Rewrite] = []

    def is_loop(self, address: int, word: int, old: int) -> bool:
        """Whether a branch to `old` is that function's own, which goes to what stands for it from now on."""
        redirect = self.olds[old]
        if not redirect.is_loop(address, word):
            return False
        if address != redirect.old:
            after = self._branch(address, redirect.original, redirect)
            self._loops.append(Rewrite(address, word, after, redirect))
        return True

    def write(self, section: Section, words: array[int]) -> None:
        """Put into the `words` of `section` what belongs there."""
        for place, contents in self._words.items():
            for at, after in enumerate(contents, place - section.address >> 2):
                if place in section and words[at] != after:
                    address = section.address + 4 * at
                    self.rewrites.append(Rewrite(address, words[at], after, self._wanted[place]))
                    words[at] = after
        for loop in self._loops:
            words[loop.address - section.address >> 2] = loop.after
        self.rewrites += self._loops
        self._loops = []

    def _contents(self, redirect: Redirect) -> tuple[int, ...]:
        """The words of the function that stands for the original of `redirect`; none if they are there already."""
        elf, old, place = self._elf, redirect.old, redirect.original
        if any(elf.word(at) is None for at in (place, place + 4)):
            raise UserError(f"{elf.name}: {redirect.name}: there is no room for its original at {place:#x}")
        if old not in self._taken:
            return (self._branch(place, old, redirect),)
        first = elf.word(old) or 0
        goes = a64.branch_target(first, old)
        if goes is not None and final(elf, goes) == self._taken[old]:
            return ()  # the image is patched already
        if by := next((at for at, target in conditional_sites(elf, [old]) if old <= at < redirect.old_end), None):
            raise UserError(
                f"{elf.name}: {redirect.name} branches back to its first instruction at {by:#x}, on a condition: "
                "its original cannot be called once that is another",
                'redirect it with mode = "calls"',
            )
        if (target := a64.branch_target(first, old)) is not None:
            first = self._branch(place, target, redirect, first)
        elif a64.is_relative(first):
            raise UserError(
                f"{elf.name}: {redirect.name} begins with an instruction that can stand nowhere else ({first:08x}): "
                "its original cannot be called once that is another",
                'redirect it with mode = "calls"',
            )
        return first, self._branch(place + 4, old + 4, redirect)

    def _branch(self, address: int, target: int, redirect: Redirect, word: int = BRANCH) -> int:
        try:
            return self._far.branch(address, word, target)
        except ValueError as error:
            raise UserError(f"{self._elf.name}: the original of {redirect.name} cannot be called: {error}") from error


def _refuse_doubtful(elf: Elf) -> None:
    """Raise UserError unless section headers, program headers and symbols agree on where code is.

    A section that is too short or in the wrong place would hide call sites, and nobody would know.
    """
    end = 0
    for section in sorted(elf.code, key=attrgetter("offset")):
        loaded = any(
            segment.kind == PT_LOAD
            and segment.flags & PF_X
            and segment.offset <= section.offset
            and section.offset + section.size <= segment.offset + segment.file_size
            and section.address - segment.vma == section.offset - segment.offset
            for segment in elf.segments
        )
        if not loaded or section.offset < end or section.address % 4:
            raise UserError(f"{elf.name}: damaged: code section {section.name!r} is not where a segment loads code")
        end = section.offset + section.size
    if stray := elf.symbols.function_outside([(section.address, section.end) for section in elf.code]):
        raise UserError(f"{elf.name}: damaged: function {stray.name} at {stray.value:#x} is in no code section")


def _in_file(found: Hits) -> int:
    return found.section.offset


def _encode(elf: Elf, far: Far, address: int, word: int, redirect: Redirect) -> int:
    try:
        return far.branch(address, word, redirect.new)
    except ValueError as error:
        raise UserError(
            f"{elf.name}: {redirect.name} cannot be redirected at {address:#x}: {error}",
            TOO_FAR if isinstance(error, OutOfRangeError) else "",
        ) from error


def address_takers(elf: Elf, addresses: Sequence[int]) -> list[tuple[int, int]]:
    """Where data holds one of `addresses` as an aligned 64-bit pointer: (place, address), lowest place first.

    Calls through such a pointer are not call sites and reach the old function.
    """
    wanted = frozenset(addresses)
    tables = [marking(address >> 8 * at for address in wanted) for at in range(3)]
    found = []
    for section in elf.sections:
        if not section.flags & SHF_ALLOC or section.flags & SHF_EXECINSTR or not section.in_file:
            continue
        contents = elf.contents(section)[-section.address % 8 :]
        words = array("Q", contents[: len(contents) & ~7])
        for index in marked(*(contents[at::8][: len(words)].translate(tables[at]) for at in range(3))):
            if words[index] in wanted:
                found.append((section.address + -section.address % 8 + 8 * index, words[index]))
    return sorted(found)
