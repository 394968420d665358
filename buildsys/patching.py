"""Redirecting functions in a linked AArch64 image, whoever built it: what `buildsys patch` does, as a library.

    from pathlib import Path
    from buildsys.patching import redirect

    report = redirect(Path("firmware.elf"), {"malloc": "pool_alloc"})
    Path("patched.elf").write_bytes(report.contents)

An image is an executable or shared object, ET_EXEC or ET_DYN, 64-bit and little-endian, with its symbol table.
Nothing is written and nothing is run; nothing else is needed to be installed. Either everything asked for is
done, or `buildsys.errors.UserError` says in its `message` what cannot be, and where, and in its `hint` what to do.

What is in `__all__` is stable: names, fields and their meaning. All addresses are those the image is linked for,
as `nm` shows them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from buildsys.errors import UserError
from buildsys.formats import a64
from buildsys.formats.elf import ET_DYN, ET_EXEC, ET_REL, Elf
from buildsys.formats.islands import PADS, is_guarded
from buildsys.formats.modes import Mode
from buildsys.formats.patch import ROOM, Patch, Redirect, Rewrite, patch
from buildsys.formats.references import Code
from buildsys.formats.symbols import SHN_UNDEF, STT_FUNC, STT_GNU_IFUNC, STT_NOTYPE, Symbol
from buildsys.formats.veneers import veneers_to
from buildsys.formats.ways import Way, other_ways

__all__ = ["Mode", "Redirected", "Report", "Site", "UserError", "Way", "redirect"]

# A function of this name and of two instructions or more stands for the original: it is filled in.
ORIGINAL = "original."
LISTED = 12  # functions of one name that are listed
FORM = "write it OLD=NEW, each the name of a function or its address: 0x1234"


@dataclass(frozen=True)
class Site:
    """One instruction that leads to the new function now.

    `before` and `after` are the words at `address`, in the function `function` (empty if in none). They are the
    same where the linker's veneer at `veneer`, which the branch goes by, was made to go to the new function; if
    `ours`, the veneer was added. `veneer` is 0 for a branch that goes there itself.
    """

    address: int
    function: str
    before: int
    after: int
    veneer: int = 0
    ours: bool = False


@dataclass(frozen=True)
class Redirected:
    """What was done about one redirect.

    `sites` are the calls re-encoded; `entry` is the first instruction of the old function if that became a branch;
    `already` counts branches that went to the new function before. `aliases` are other names of the old function,
    redirected with it. `not_reached` are other ways to it that were found and are as they were: none in the modes
    that take over the entry. What became of a copy in a caller (inlining) is not known.
    """

    old: str
    new: str
    mode: Mode
    old_address: int
    new_address: int
    sites: tuple[Site, ...]
    entry: Site | None
    original: int
    already: int
    aliases: tuple[str, ...]
    not_reached: tuple[Way, ...]


@dataclass(frozen=True)
class Report:
    """The patched image in `contents`, and what was done to the one called `name`.

    `changed` is false if everything asked for had been done to it before. `veneers` are the linker's that were made
    to go elsewhere, `islands` those that were added, by address.
    """

    name: str
    contents: bytes
    redirects: tuple[Redirected, ...]
    changed: bool
    veneers: tuple[int, ...]
    islands: tuple[int, ...]
    places: Mapping[int, str]

    def as_json(self) -> dict[str, Any]:
        """All of it but the contents, in JSON's types; addresses and words as text, hexadecimal."""
        return {
            "format": 1,
            "image": self.name,
            "changed": self.changed,
            "veneers": [hex(at) for at in self.veneers],
            "islands": [hex(at) for at in self.islands],
            "redirects": [self._redirected(each) for each in self.redirects],
        }

    def _redirected(self, each: Redirected) -> dict[str, Any]:
        return {
            "old": each.old,
            "new": each.new,
            "mode": str(each.mode),
            "old_address": hex(each.old_address),
            "new_address": hex(each.new_address),
            "original": hex(each.original) if each.original else None,
            "already": each.already,
            "aliases": list(each.aliases),
            "sites": [_site(site) for site in each.sites],
            "entry": _site(each.entry) if each.entry else None,
            "not_reached": [
                {"kind": way.kind, "address": hex(way.address), "in": self.places.get(way.address, "")}
                for way in each.not_reached
            ],
        }


def _site(site: Site) -> dict[str, Any]:
    return {
        "address": hex(site.address),
        "function": site.function,
        "before": f"{site.before:08x}",
        "after": f"{site.after:08x}",
        "veneer": hex(site.veneer) if site.veneer else None,
        "ours": site.ours,
    }


def redirect(
    image: bytes | Path, redirects: Mapping[str, str] | Iterable[tuple[str, str]], mode: Mode | str = Mode.CALLS
) -> Report:
    """Have calls of each old function in `redirects` go to the new one, by names or addresses ("0x1234").

    `mode` is "calls": every B and BL to the old function is re-encoded, and the old one stays as it is; "entry": its
    first instruction becomes a branch; or "both". The same name for both means the local function of that name and
    the global one. Raises UserError, of an unreadable file as well, and ValueError for a mode there is not.
    """
    chosen = Mode(mode)
    elf = Elf.read(image) if isinstance(image, Path) else Elf(image)
    _refuse_kind(elf)
    pairs = list(redirects.items() if isinstance(redirects, Mapping) else redirects)
    wanted = _resolved(elf, pairs, chosen)
    _refuse_recursion(elf, wanted)
    if chosen.at_entry:
        _refuse_entries(elf, wanted)
    done = patch(elf, wanted if chosen.at_calls else (), wanted if chosen.at_entry else ())
    return _report(elf, done, wanted, [old for old, _ in pairs])


def parse(text: str) -> tuple[str, str]:
    """The redirect that `OLD=NEW` says. Raises UserError."""
    old, equals, new = text.partition("=")
    if not (old and equals and new):
        raise UserError(f"--redirect {text}: names no two functions", FORM)
    return old, new


def _refuse_kind(elf: Elf) -> None:
    if elf.kind == ET_REL:
        raise UserError(f"{elf.name}: is a relocatable object: its calls go nowhere yet", "link it first")
    if elf.kind not in (ET_EXEC, ET_DYN):
        raise UserError(f"{elf.name}: is no executable", "give what a linker wrote")


def _resolved(elf: Elf, pairs: Sequence[tuple[str, str]], mode: Mode) -> list[Redirect]:
    if not pairs:
        raise UserError(f"{elf.name}: nothing to redirect", FORM)
    texts = {text for pair in pairs for text in pair}
    named = elf.symbols.named(*texts, *(ORIGINAL + old for old, _ in pairs))
    found: dict[int, Redirect] = {}
    for old_text, new_text in pairs:
        if old_text == new_text:
            old, new = _namesakes(elf, old_text, named[old_text])
        else:
            old, new = _function(elf, old_text, named[old_text]), _function(elf, new_text, named[new_text])
        if old.value == new.value:
            raise UserError(f"{elf.name}: {old_text} and {new_text} are the same function, at {old.value:#x}")
        if old.value in found:
            raise UserError(f"{elf.name}: {old_text} cannot be redirected twice", "leave one out")
        original = _original(elf, old.name, named.get(ORIGINAL + old_text, []))
        found[old.value] = Redirect(old.name, old.value, old.end, new.value, mode, new.name, original)
    for each in found.values():
        if each.new in found:
            raise UserError(f"{elf.name}: {each.name} is redirected to {each.to}, which is redirected itself")
        if each.original in found or each.original == each.new:
            raise UserError(f"{elf.name}: {ORIGINAL}{each.name} stands for an original and cannot be redirected, or to")
    return list(found.values())


def _functions(elf: Elf, name: str, symbols: Iterable[Symbol]) -> list[Symbol]:
    """Those of `symbols` that are functions or labels among code. Raises UserError for what is none yet."""
    found = []
    for symbol in symbols:
        if symbol.kind == STT_GNU_IFUNC:
            raise UserError(
                f"{elf.name}: {name} at {symbol.value:#x} is an indirect function (IFUNC): "
                "which code it is, is decided when the program is loaded",
                "name the function that is chosen",
            )
        is_code = any(symbol.value in section for section in elf.code)
        if symbol.kind == STT_FUNC or (symbol.kind == STT_NOTYPE and is_code):
            if not is_code or symbol.value % 4:
                raise UserError(f"{elf.name}: {name} at {symbol.value:#x} is in no code of this file")
            found.append(symbol)
    return found


def _function(elf: Elf, text: str, symbols: Sequence[Symbol]) -> Symbol:
    """The one function that `text` names, or that is at the address it says."""
    if text[:2].lower() == "0x":
        return _at(elf, text)
    functions = _functions(elf, text, symbols)
    places = {each.value: each for each in functions}
    if len(places) == 1:
        return max(functions, key=lambda each: each.size)
    if places:
        listed = ", ".join(f"{each.value:#x}" for each in list(places.values())[:LISTED])
        more = f" and {len(places) - LISTED} more" if len(places) > LISTED else ""
        raise UserError(f"{elf.name}: {text} is {len(places)} functions: {listed}{more}", "name one by its address")
    raise _unknown(elf, text)


def _at(elf: Elf, text: str) -> Symbol:
    try:
        address = int(text, 16)
    except ValueError:
        raise UserError(f"{text} is no address", FORM) from None
    function = elf.symbols.function_at(address)
    if address % 4 or not any(section.address <= address <= section.end - 4 for section in elf.code):
        raise UserError(f"{elf.name}: no code is at {text}")
    if function and function.value == address:
        return function
    if function and function.size:
        raise UserError(f"{elf.name}: {text} is in the middle of {function.name}, which begins at {function.value:#x}")
    return Symbol(hex(address), address, 4, STT_FUNC, 0, 0)


def _namesakes(elf: Elf, name: str, symbols: Sequence[Symbol]) -> tuple[Symbol, Symbol]:
    """The local function called `name`, and the global one."""
    functions = _functions(elf, name, symbols)
    old = {each.value: each for each in functions if not each.is_global}
    new = {each.value: each for each in functions if each.is_global}
    if len(old) != 1 or len(new) != 1:
        raise UserError(
            f"{elf.name}: {name}={name} means the local function of that name and the global one: "
            f"there are {len(old)} and {len(new)}",
            "name them by their addresses" if old or new else "",
        )
    return next(iter(old.values())), next(iter(new.values()))


def _unknown(elf: Elf, name: str) -> UserError:
    undefined = any(each.section == SHN_UNDEF and each.name.split("@")[0] == name for each in elf.symbols.all())
    if undefined:
        return UserError(
            f"{elf.name}: {name} is imported: its code is not in this file, and calls of it go through "
            "the procedure linkage table (PLT)",
            "link statically, or patch the library that has it",
        )
    from difflib import get_close_matches

    near = get_close_matches(name, set(elf.symbols.names_of_functions()), 1)
    return UserError(f"{elf.name}: there is no function {name}", f"did you mean {near[0]}?" if near else "")


def _original(elf: Elf, name: str, symbols: Iterable[Symbol]) -> int:
    """Where the function that stands for the original is; 0 if there is none. Raises UserError if it is too short."""
    found = {each.value: each for each in symbols if each.kind == STT_FUNC and each.section != SHN_UNDEF}
    if len(found) > 1:
        raise UserError(f"{elf.name}: {ORIGINAL}{name} is {len(found)} functions")
    for each in found.values():
        if each.size < ROOM or each.value % 4:
            raise UserError(
                f"{elf.name}: {ORIGINAL}{name} at {each.value:#x} has no room for the original: "
                f"it must be {ROOM} bytes or longer",
            )
        return each.value
    return 0


def _refuse_recursion(elf: Elf, wanted: Sequence[Redirect]) -> None:
    """Raise UserError if a new function calls what it replaces: that call would come back to it."""
    code, by_new = Code(elf), defaultdict[int, dict[int, Redirect]](dict)
    for each in wanted:
        by_new[each.new][each.old] = each
    veneers = veneers_to(elf, {each.old for each in wanted})
    for new, olds in by_new.items():
        body = code.body(new)
        if not body.function or not body.function.size:
            continue  # where it ends is not known
        for address, word in enumerate(body.words, body.base >> 2):
            goes = a64.branch_target(word, 4 * address)
            target = veneers[goes].target if goes in veneers else goes
            if target in olds:
                raise UserError(
                    f"{elf.name}: {olds[target].to} calls {olds[target].name} at {4 * address:#x}, "
                    "and is put in its place: it would call itself for ever",
                    f"what is meant to be the original is called {ORIGINAL}{olds[target].name}: see docs/patching.md",
                )


def _refuse_entries(elf: Elf, wanted: Sequence[Redirect]) -> None:
    """Raise UserError if a first instruction is needed for more than to be run."""
    if not is_guarded(elf):
        return
    for each in wanted:
        if elf.word(each.old) in PADS:
            raise UserError(
                f"{elf.name}: {each.name} begins with a landing pad (BTI), which a call by a pointer needs: "
                "no branch can take its place",
                'redirect it with mode "calls"',
            )


def _report(elf: Elf, done: Patch, wanted: Sequence[Redirect], texts: Sequence[str]) -> Report:
    patched = done.applied(elf)
    olds = [each.old for each in wanted if not each.mode.at_entry]
    ways: dict[int, list[Way]] = defaultdict(list)
    for way in other_ways(patched, frozenset(olds)) if olds else ():
        ways[way.target].append(way)
    names = dict(
        zip(
            (each.address for each in done.rewrites),
            elf.symbols.function_names(each.address for each in done.rewrites),
            strict=True,
        )
    )
    sites: dict[int, list[Site]] = defaultdict(list)
    ours = {each.address for each in done.islands}
    for rewrite in done.rewrites:
        sites[rewrite.redirect.old].append(_as_site(rewrite, names[rewrite.address], ours))
    entries = {each.redirect.old: _as_site(each, each.redirect.name, ours) for each in done.entries}
    aliases: dict[int, set[str]] = defaultdict(set)
    for symbol in elf.symbols.valued(*(each.old for each in wanted)):
        if symbol.kind in (STT_FUNC, STT_GNU_IFUNC):
            aliases[symbol.value].add(symbol.name)
    redirects = tuple(
        Redirected(
            old=each.name,
            new=each.to,
            mode=each.mode,
            old_address=each.old,
            new_address=each.new,
            sites=tuple(sites[each.old]),
            entry=entries.get(each.old),
            original=each.original,
            already=done.already[each.new],
            aliases=tuple(sorted(aliases[each.old] - {each.name})),
            not_reached=tuple(ways[each.old]),
        )
        for each in wanted
    )
    _refuse_nothing(elf, redirects, texts)
    places = {way.address: _place(elf, way.address) for each in redirects for way in each.not_reached}
    veneers = tuple(sorted({each.address for each in done.turned}))
    changed = bool(done.rewrites or done.entries or done.passing)
    return Report(elf.name, done.contents, redirects, changed, veneers, tuple(sorted(ours)), places)


def _as_site(rewrite: Rewrite, function: str, ours: set[int]) -> Site:
    goes = a64.branch_target(rewrite.after, rewrite.address) or 0
    veneer = goes if goes != rewrite.redirect.new else 0
    return Site(rewrite.address, function, rewrite.before, rewrite.after, veneer, veneer in ours)


def _refuse_nothing(elf: Elf, redirects: Sequence[Redirected], texts: Sequence[str]) -> None:
    """Raise UserError if calls were to be redirected that go another way, or that there are none of."""
    for each, text in zip(redirects, texts, strict=True):
        if each.mode.at_entry:
            continue
        if slot := next((way for way in each.not_reached if way.kind == "import"), None):
            raise UserError(
                f"{elf.name}: calls of {text} go through the procedure linkage table (PLT), by the slot at "
                f"{slot.address:#x}: where they lead is decided when the program is loaded",
                "redirect it at its entry (--mode entry), or link with -Bsymbolic",
            )
        if not each.sites and not each.already:
            ways = len(each.not_reached)
            found = f" ({ways} other way{'' if ways == 1 else 's'} to it)" if ways else ""
            raise UserError(
                f"{elf.name}: no call of {text} was found{found}",
                'is it only called by a pointer (mode "entry" catches that), or put into its callers by the compiler?',
            )


def _place(elf: Elf, address: int) -> str:
    symbol = elf.symbols.object_at(address) or elf.symbols.function_at(address)
    return symbol.name if symbol and (not symbol.size or address < symbol.end) else ""
