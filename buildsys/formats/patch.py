"""Re-encoding call sites: every `B` and `BL` to one function made to go to another.

Works on any AArch64 ELF image with symbols. All or nothing: the new bytes are
returned only if every site could be re-encoded.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress

from buildsys.errors import UserError
from buildsys.formats.a64 import OutOfRangeError, encode_branch, is_bl
from buildsys.formats.callsites import CallSite, call_sites
from buildsys.formats.elf import ET_EXEC, SHF_ALLOC, SHF_EXECINSTR, Elf
from buildsys.formats.symbols import STT_FUNC, STT_NOTYPE, Symbol


@dataclass(frozen=True)
class Redirect:
    """Calls of the function at `old` .. `old_end` are to go to `new`; `name` is the old one's."""

    name: str
    old: int
    old_end: int
    new: int

    def is_loop(self, site: CallSite) -> bool:
        """Whether `site` is the old function's own branch back to its first instruction.

        Go's prologue does that after growing the stack. It is no call: sent to
        the new function, an original that somebody still calls would never run.
        """
        return site.target == self.old <= site.address < self.old_end and not is_bl(site.word)


@dataclass(frozen=True)
class Rewrite:
    """One call site that was re-encoded: the word before and after."""

    site: CallSite
    redirect: Redirect
    word: int


@dataclass(frozen=True)
class Patch:
    """What a pass did: the new contents of the image, and each site it changed, by address.

    `already` counts, by function name, the sites that went to the new function before the pass.
    """

    contents: bytes
    rewrites: tuple[Rewrite, ...]
    already: dict[str, int]


def resolve(elf: Elf, names: Sequence[str]) -> list[Redirect]:
    """Redirects from each local function to the global one of the same name.

    Raises UserError naming the symbol if there is not exactly one of each.
    """
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


def patch(elf: Elf, redirects: Sequence[Redirect]) -> Patch:
    """Re-encode every call of every redirect's old function.

    Calls inside the old functions themselves are re-encoded like any other,
    X
    """
    if elf.kind != ET_EXEC:
        raise UserError(f"{elf.name}: is not a linked executable", "give the image the linker wrote")
    by_old = {redirect.old: redirect for redirect in redirects}
    by_new = {redirect.new: redirect.name for redirect in redirects}
    already = dict.fromkeys(by_new.values(), 0)
    contents, rewrites = bytearray(elf.data), []
    for site in call_sites(elf, [*by_old, *by_new]):
        redirect = by_old.get(site.target)
        if redirect is None:
            already[by_new[site.target]] += 1
            continue
        if redirect.is_loop(site):
            continue
        try:
            word = encode_branch(site.word, site.address, redirect.new)
        except OutOfRangeError as error:
            raise UserError(
                f"{elf.name}: the call of {redirect.name} at {site.address:#x} cannot be redirected: {error}",
                "a branch reaches 128 MiB; place the new function nearer to the code",
            ) from error
        at = _file_offset(elf, site.address)
        contents[at : at + 4] = word.to_bytes(4, "little")
        rewrites.append(Rewrite(site, redirect, word))
    return Patch(bytes(contents), tuple(rewrites), already)


def _file_offset(elf: Elf, address: int) -> int:
    for section in elf.code:
        if address in section:
            return section.offset + address - section.address
    raise AssertionError("a call site lies in a code section")


def address_takers(elf: Elf, addresses: Sequence[int]) -> list[tuple[int, int]]:
    """Where data holds one of `addresses` as an aligned 64-bit pointer: (place, address), lowest place first.

    Calls through such a pointer are not call sites and reach the old function.
    """
    wanted = frozenset(addresses)
    marked = {address >> 16 & 0xFF for address in wanted}
    marks = bytes(byte in marked for byte in range(256))
    found = []
    for section in elf.sections:
        if not section.flags & SHF_ALLOC or section.flags & SHF_EXECINSTR or not section.in_file:
            continue
        contents = elf.contents(section)[-section.address % 8 :]
        words = array("Q", contents[: len(contents) & ~7])
        # The third byte of a pointer rules out most words, at C speed.
        for index in compress(range(len(words)), contents[2::8].translate(marks)):
            if words[index] in wanted:
                found.append((section.address + -section.address % 8 + 8 * index, words[index]))
    return sorted(found)
