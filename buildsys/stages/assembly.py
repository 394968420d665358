"""A user's own assembly: what it includes, what it names, and what the rest of the build must know of its labels."""

from __future__ import annotations

import re
import struct
from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from buildsys.errors import UserError
from buildsys.formats import a64
from buildsys.formats.elf import SHF_ALLOC, SHF_EXECINSTR, SHF_WRITE, SHT_SYMTAB, Elf, Section
from buildsys.formats.symbols import SHN_UNDEF, STB_GLOBAL, STT_FUNC, STT_NOTYPE

# A directive that begins a statement. What follows is a quoted name; anything else only the assembler could tell.
_INCLUDE = re.compile(r'(?:^|[;:])[ \t]*\.(include|incbin)[ \t]+(?:"([^"\n]*)"|([^\n;]*))', re.MULTILINE)
# What linker/kernel.ld.j2 has a place for.
_PLACED = re.compile(r"\.(text|rodata|bss)(\..*)?|\.data")
# Places in an Elf64_Ehdr, e_shoff and e_shstrndx, and in an Elf64_Shdr, sh_offset; an Elf64_Shdr's bytes.
_SECTION_HEADERS, _NAMES_INDEX, _OFFSET_AND_SIZE, _SECTION_SIZE = 0x28, 0x3E, 24, 64
_FLAGS_FIELD = 8  # sh_flags in an Elf64_Shdr
_FLAGS = {"a": SHF_ALLOC, "x": SHF_EXECINSTR, "w": SHF_WRITE}
NONE: Mapping[str, str] = MappingProxyType({})
_COMPUTED = ("\\", "{{", "{%")  # a macro's argument, a template's expression
_SYMBOL = struct.Struct("<IBBHQQ")  # System V ABI, figure 4-16


def moved(text: str, paths: Mapping[str, str]) -> str:
    """Assembly with other names of files in it: those that begin with a path in `paths`."""

    def name(found: re.Match[str]) -> str:
        if found[2] is None:
            return found[0]
        start, end = (at - found.start() for at in found.span(2))
        return found[0][:start] + elsewhere(found[2], paths) + found[0][end:]

    return _INCLUDE.sub(name, text)


def elsewhere(name: str, paths: Mapping[str, str]) -> str:
    """The name of a file, with its beginning exchanged if `paths` has it, the longest first."""
    for old in sorted(paths, key=len, reverse=True):
        if name.startswith(old.rstrip("/") + "/"):
            return paths[old].rstrip("/") + name[len(old.rstrip("/")) :]
    return name


def included(source: Path, root: Path, paths: Mapping[str, str] = NONE) -> Iterator[Path]:
    """Every file that `source` includes by `.include` and `.incbin`, also by way of others.

    A name is looked for from `root`, where the assembler runs, and from the folder of `source`. Names in
    no such place are left to the assembler to complain of. Raises UserError for a name that is computed,
    or is in both places. Names in `source` that begin with a path in `paths` stand for others.
    """
    seen: set[Path] = set()
    pending = [source]
    while pending:
        file = pending.pop()
        try:
            text = file.read_text("utf-8", "surrogateescape")
        except OSError:
            continue
        for found in _INCLUDE.finditer(text):
            directive, name, other = found.groups()
            where = f"{file}:{text.count(chr(10), 0, found.end(1)) + 1}"
            if name is None or any(mark in name for mark in _COMPUTED):
                raise UserError(
                    f"{where}: what .{directive} reads cannot be told: {(name or other).strip()}",
                    "write the file's name in quotes: the image is made again when that file changes",
                )
            if file == source:
                name = elsewhere(name, paths)
            places = [at for at in dict.fromkeys((root / name, source.parent / name)) if at.is_file()]
            if len(places) > 1 and not places[0].samefile(places[1]):
                raise UserError(f"{where}: {name} may be {places[0]} or {places[1]}", "rename one of the two")
            if places and places[0] not in seen:
                seen.add(places[0])
                yield places[0]
                if directive == "include":
                    pending.append(places[0])


def typed(contents: bytes, name: str) -> bytes:
    """The object `contents`, with every global label in its code marked as what it is: a function of some size.

    Assembly seldom says `.type` and `.size`. Without them nobody could tell what a routine can reach. Its size
    goes up to the next global label; on to one further if it runs into that. Raises UserError for no object.
    """
    elf = Elf(contents, name)
    code = {section.index: section for section in elf.code}
    table = next((section for section in elf.sections if section.kind == SHT_SYMTAB), None)
    if table is None:
        return contents
    every = list(enumerate(elf.symbols.by_index(at) for at in range(table.size // _SYMBOL.size)))
    changed = bytearray(contents)
    for index, section in code.items():
        here = [(at, symbol) for at, symbol in every if symbol and symbol.section == index]
        marks = sorted((symbol.value, symbol.name[:2] == "$x") for _, symbol in here if symbol.name[:2] in ("$x", "$d"))
        labels = [
            (at, symbol)
            for at, symbol in here
            if symbol.kind in (STT_NOTYPE, STT_FUNC)
            and symbol.name[:1] not in ("$", "")
            and _is_code(marks, symbol.value)
        ]
        heads = sorted({symbol.value for _, symbol in labels if symbol.binding == STB_GLOBAL})
        first = min((symbol.value for _, symbol in labels), default=0)
        heads = sorted({first, *heads})
        words = elf.contents(section)
        for at, symbol in labels:
            if symbol.value not in heads or symbol.size or (symbol.binding != STB_GLOBAL and symbol.value != first):
                continue
            end = _end(words, symbol.value, heads, marks)
            place = table.offset + _SYMBOL.size * at
            fields = list(_SYMBOL.unpack_from(contents, place))
            fields[1], fields[5] = symbol.binding << 4 | STT_FUNC, end - symbol.value
            _SYMBOL.pack_into(changed, place, *fields)
    return bytes(changed)


def placed(contents: bytes, name: str, flags: Mapping[str, str] = NONE) -> bytes:
    """The object `contents`, with sections of names of its own renamed so that the linker script places them.

    `.vectors` becomes `.text.vectors` if it has code, and so on. `flags` are those of sections that have
    none, by name. Raises UserError for code that is in no section to be loaded: `.section .vectors`
    without flags makes one.
    """
    contents = _flagged(contents, name, flags)
    elf = Elf(contents, name)
    marks = {symbol.section for symbol in elf.symbols.all() if symbol.name[:2] == "$x"}
    renamed: dict[int, str] = {}
    for section in elf.sections:
        if section.flags & SHF_ALLOC and not _PLACED.fullmatch(section.name):
            renamed[section.index] = _place_for(section)
        elif section.index in marks and not section.flags & SHF_ALLOC:
            raise UserError(
                f"{name}: section {section.name} has instructions in it, but is not to be loaded",
                f'give it flags: .section {section.name}, "ax"; or in the configuration, in the table `sections`: '
                f'"{section.name}" = "ax"',
            )
    if not renamed:
        return contents
    headers, entry = struct.unpack_from("<Q", contents, _SECTION_HEADERS)[0], _SECTION_SIZE
    index = struct.unpack_from("<H", contents, _NAMES_INDEX)[0]
    names, changed = bytearray(elf.contents(elf.sections[index])), bytearray(contents)
    for at, other in renamed.items():
        struct.pack_into("<I", changed, headers + entry * at, len(names))
        names += other.encode() + b"\0"
    # The longer table goes to the end: what was there stays where it is, also for symbols that share it.
    struct.pack_into("<QQ", changed, headers + entry * index + _OFFSET_AND_SIZE, len(changed), len(names))
    return bytes(changed + names)


def _flagged(contents: bytes, name: str, flags: Mapping[str, str]) -> bytes:
    """The object with the flags of `flags` for the sections that have none: those are in no memory."""
    elf = Elf(contents, name)
    headers = struct.unpack_from("<Q", contents, _SECTION_HEADERS)[0]
    changed = bytearray(contents)
    for section in elf.sections:
        if section.name in flags:
            given = sum(_FLAGS[letter] for letter in flags[section.name])
            if section.flags & (SHF_ALLOC | SHF_EXECINSTR | SHF_WRITE) not in (0, given):
                raise UserError(
                    f"{name}: section {section.name} has flags of its own, and others in the configuration",
                    "leave it out of `sections`",
                )
            header = headers + _SECTION_SIZE * section.index
            struct.pack_into("<Q", changed, header + _FLAGS_FIELD, section.flags | given)
    return bytes(changed)


def _place_for(section: Section) -> str:
    if section.flags & SHF_EXECINSTR:
        return f".text{section.name}"
    if not section.flags & SHF_WRITE:
        return f".rodata{section.name}"
    return ".data" if section.in_file else f".bss{section.name}"


def _is_code(marks: Sequence[tuple[int, bool]], offset: int) -> bool:
    """Whether the mapping symbols $x and $d (ELF for the Arm 64-bit Architecture, 5.5.4) say that code is there."""
    at = bisect_right(marks, (offset, True)) - 1
    return at < 0 or marks[at][1]


def _end(words: bytes, start: int, heads: Sequence[int], marks: Sequence[tuple[int, bool]]) -> int:
    """The offset after the last instruction of the routine at `start`."""
    for end in [*(head for head in heads if head > start), len(words) & ~3]:
        last = next((at for at in range(end - 4, start - 4, -4) if _is_code(marks, at)), None)
        if last is None:
            return end
        if end == len(words) & ~3 or _leaves(int.from_bytes(words[last : last + 4], "little")):
            return last + 4
    return len(words) & ~3


def _leaves(word: int) -> bool:
    """Whether control never goes on behind `word`: C6.2 B, BR, RET, ERET; BLR comes back."""
    return a64.is_b(word) or (word & 0xFE00_0000 == 0xD600_0000 and word & 0xFFFF_FC1F != 0xD63F_0000)


def undefined(elf: Elf) -> set[str]:
    """The symbols an object names and does not define."""
    return {symbol.name for symbol in elf.symbols.all() if symbol.section == SHN_UNDEF and symbol.name}


def defined(elf: Elf) -> set[str]:
    """The global symbols an object defines."""
    return {symbol.name for symbol in elf.symbols.all() if symbol.section != SHN_UNDEF and symbol.is_global}


def to_bind(own: Sequence[Path], others: Iterable[Path], go_object: Path, given: Collection[str] = ()) -> list[str]:
    """The symbols of the Go object that the objects `own` name and nobody defines globally: Go's are all local.

    `given` are names that the linker script defines.
    """
    objects = [Elf.read(path) for path in own]
    wanted = set().union(*map(undefined, objects))
    if not wanted:
        return []
    wanted -= set(given).union(*map(defined, objects), *(defined(Elf.read(path)) for path in others))
    named = Elf.mapped(go_object).symbols.named(*wanted)
    return sorted(name for name, symbols in named.items() if any(not symbol.is_global for symbol in symbols))


def bindings(addresses: Sequence[tuple[str, int]]) -> str:
    """Assembly that defines each of `addresses`, (name, value), as a global symbol."""
    lines = [f'    .global "{name}"\n    .set "{name}", {address:#x}\n' for name, address in addresses]
    return "// Addresses of Go's symbols, which are local, for the assembly that names them.\n" + "".join(lines)


def explained(error: UserError, own: Sequence[Path], go_object: Path) -> UserError:
    """The linker's `error`, with a word on each undefined symbol in it: the nearest name there is."""
    from difflib import get_close_matches

    elf = Elf.mapped(go_object)
    objects = [Elf.read(path) for path in own]
    known = elf.symbols.all_names().union(*map(defined, objects))
    by_go = undefined(elf)
    wanted = by_go.union(*map(undefined, objects)) - set().union(*map(defined, objects))
    for name in sorted(wanted, key=len, reverse=True):
        if re.search(rf"(?<![\w.]){re.escape(name)}(?![\w.])", error.message):
            near = get_close_matches(name, known - wanted, 1)
            hint = f"{name}: did you mean {near[0]}?" if near else f"nothing is called {name}"
            if name in by_go:
                hint += " Go declares it without a body: `assembly` and `objects` say which files have one"
            elif "." in name:
                hint += " Go keeps only what main.main can reach"
            return UserError(error.message, hint)
    return error
