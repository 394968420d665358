"""Whether what the user replaces agrees with what replaces it, found out by other roads than the build's.

* what the two take and give: pyelftools decodes their entries and names the types;
* how many bytes that is: the runtime's own table, which owes nothing to DWARF;
* inlined copies: the linker kept a relocation for every reference to a function's
  abstract entry, so none can have been passed over;
* ways back: the calls are those of the unpatched image, the graph the patched one's.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from buildsys.formats import a64
from buildsys.formats.elf import R_AARCH64_ABS32, Elf
from buildsys.formats.patch import Redirect, Rewrite
from buildsys.go.agreement import compare
from buildsys.go.described import Copy, Described, described
from buildsys.go.packages import sources
from buildsys.go.recursion import recursions
from buildsys.go.running import Running
from buildsys.go.signatures import DICTIONARY, Signature, Told
from buildsys.proof.redirects import Redirected

if TYPE_CHECKING:
    from buildsys.proof.case import Case

Pair = tuple[Redirected, int, int]  # one redirect, and the addresses of its old and its new function


@dataclass(frozen=True)
class Examined:
    """What was found: `problems`, `evidence` by the old function's name, `details` to read."""

    problems: list[str] = field(default_factory=list)
    evidence: dict[str, Any] = field(default_factory=dict)
    details: list[str] = field(default_factory=list)


def examine(case: Case, calls: Mapping[int, str]) -> Examined:
    """Hold the user's redirects against the image. `calls` are the calls of the old functions in the unpatched one."""
    pairs = [(one, one.old.value, one.new.value) for one in case.redirected.values() if one.old and one.new]
    if not pairs:
        return Examined()
    found = described(case.before, {at for _, *both in pairs for at in both})
    running = Running(case.elf, case.reach, case.ends)
    names = sources(case.before, str(case.package))
    copies = {one.name: found.copies.get(found.signatures[old].plain_name, ()) for one, old, _ in pairs}
    able = {name: [copy for copy in each if running.any(copy.pieces)] for name, each in copies.items()}
    ways = {way.redirect.name: way.path for way in _ways(case, pairs, calls)}
    problems = [
        *_read_otherwise(case.before, found),
        *_passed_over(case.before, found),
        *(problem for pair in pairs for problem in _disagreeing(found, pair)),
        *(
            f"{one.asked.to} takes the place of {one.name}, and leads back to it: {' → '.join(ways[one.name])}"
            for one, _, _ in pairs
            if one.name in ways and "recursion" not in one.asked.allow
        ),
        *(
            f"a copy of {one.name} was inlined at {_place(copy, names)}, and the kernel can run it"
            for one, _, _ in pairs
            if "inlined" not in one.asked.allow
            for copy in able[one.name]
        ),
    ]
    return Examined(
        problems,
        {
            one.name: {
                "takes": _shown(found.signatures[old]),
                "new takes": _shown(found.signatures[new]),
                "inlined": [_place(copy, names) for copy in copies[one.name]],
                "of these run": len(able[one.name]),
                "allowed": list(one.asked.allow),
            }
            for one, old, new in pairs
        },
        [f"{one.name} and {one.asked.to} take {_shown(found.signatures[old]) or 'what is not known'}, "
         f"{len(copies[one.name])} inlined copies" for one, old, _ in pairs],
    )  # fmt: skip


def _shown(signature: Signature) -> str | None:
    return str(signature) if signature.told is Told.GO else None


def _place(copy: Copy, names: Any) -> str:
    return f"{names(copy.place)} in {copy.inside}"


def _disagreeing(found: Described, pair: Pair) -> Iterator[str]:
    one, old, new = pair
    if "signature" not in one.asked.allow:
        for mismatch in compare(found.signatures[old], found.signatures[new]).mismatches:
            yield f"{one.asked.to} cannot take the place of {one.name}: {mismatch}"


def _ways(case: Case, pairs: Collection[Pair], calls: Mapping[int, str]) -> Iterator[Any]:
    redirects = {
        one.name: Redirect(one.name, old, one.old.end if one.old else old, new, one.asked.mode, one.asked.to,
                           one.original.value if one.original else 0)
        for one, old, new in pairs
    }  # fmt: skip
    rewrites = [
        Rewrite(place, case.before.word(place) or 0, word, redirects[name])
        for place, name in calls.items()
        if name in redirects and (word := case.elf.word(place)) is not None
        and a64.branch_target(word, place) == redirects[name].new
    ]  # fmt: skip
    yield from recursions(case.elf, list(redirects.values()), rewrites, case.flag, case.ends, case.reach)


def _read_otherwise(elf: Elf, found: Described) -> Iterator[str]:
    """Functions that pyelftools reads otherwise than this program."""
    from io import BytesIO

    from elftools.elf.elffile import ELFFile

    # The linker has applied the relocations it kept.
    dwarf: Any = ELFFile(BytesIO(elf.data)).get_dwarf_info(relocate_dwarf_sections=False) if found.entries else None
    for address, offset in found.entries.items():
        signature = found.signatures[address]
        ours = (address, _types(signature.parameters), _types(signature.results))
        try:
            theirs = _read(dwarf.get_DIE_from_refaddr(offset))
        except Exception as error:  # pyelftools raises all kinds for a damaged entry
            yield f"the entry of {signature.name} cannot be read by pyelftools: {error}"
            continue
        if ours != theirs:
            yield f"the entry of {signature.name} is read in two ways: {ours} and {theirs}"


def _read(entry: Any) -> tuple[int, list[str], list[str]]:
    """The address of a function's code, and the names of the types of its parameters and of its results."""
    taken: list[str] = []
    given: list[str] = []
    for child in entry.iter_children():
        about = _origin(child)
        if child.tag == "DW_TAG_formal_parameter" and _name(about) != DICTIONARY:
            result = about.attributes["DW_AT_variable_parameter"].value
            (given if result else taken).append(_name(about.get_DIE_from_attribute("DW_AT_type")))
    return entry.attributes["DW_AT_low_pc"].value, taken, given


def _types(values: Any) -> list[str]:
    return [each.type.name for each in values]


def _origin(entry: Any) -> Any:
    indirect = "DW_AT_abstract_origin" in entry.attributes
    return entry.get_DIE_from_attribute("DW_AT_abstract_origin") if indirect else entry


def _name(entry: Any) -> str:
    attribute = entry.attributes.get("DW_AT_name")
    return attribute.value.decode("utf-8", "replace") if attribute else ""


def _passed_over(elf: Elf, found: Described) -> Iterator[str]:
    """References to an abstract function, by the linker's relocations, that are no instance found; and the reverse."""
    section = elf.section(".debug_info")
    kept: dict[int, set[int]] = {}
    for table in elf.relocations():
        if section is None or table.target != section.index:
            continue
        for place, info, addend in zip(table.offsets, table.infos, table.addends, strict=True):
            if info & 0xFFFF_FFFF == R_AARCH64_ABS32 and addend in found.instances:
                symbol = elf.symbols.by_index(info >> 32)
                if symbol and symbol.value == 0 and symbol.section == section.index:
                    kept.setdefault(addend, set()).add(place - 1)  # behind the code of the abbreviation
        for origin, instances in found.instances.items():
            if differing := kept.get(origin, set()) ^ instances:
                yield (
                    f"{len(kept.get(origin, ()))} references to the function described at {origin:#x} were relocated, "
                    f"{len(instances)} are found; they differ at {min(differing):#x}"
                )
