"""build/proof.html: what `doit verify` found, as one page to read on a screen or on paper.

Only what the claims have found out is shown: nothing is run for the page's sake. There are no times
in it, so that one build gives one page.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from buildsys.errors import UserError
from buildsys.formats.elf import PF_R, PF_W, PF_X, PT_LOAD, SHF_WRITE
from buildsys.formats.symbols import SHN_ABS, Symbol
from buildsys.front.drawings import Map, Mark, Piece, Way, memory, way
from buildsys.front.flow import Flow, flow
from buildsys.front.quantity import amount
from buildsys.go.runtime import FLAG, G0
from buildsys.proof.case import Case, Pair
from buildsys.proof.claim import Result
from buildsys.proof.claims.boot_code import load_address
from buildsys.proof.claims.memory_map import Extent, extents
from buildsys.proof.observation import EMBEDDED, HEAD, QEMU, Observation

if TYPE_CHECKING:
    from buildsys.front.steps import Steps
    from buildsys.front.verify import Line

TEMPLATE = "proof.html.j2"
SLOTS, BOARD_TABLE, TRANSLATION = "buildsys.slots", "buildsys.board", "buildsys.translation"
SIGNS = {Result.PASSED: "✓", Result.FAILED: "✗", Result.NOT_RUN: "–"}
KINDS = {"ram": "RAM", "device": "device registers"}
STYLES = {Result.PASSED: "good", Result.FAILED: "bad", Result.NOT_RUN: "open"}

LONGEST = 60  # lines of evidence; a claim that fails may have thousands

Fact = TypeVar("Fact")


@dataclass(frozen=True)
class Judged:
    """A claim as the page shows it; `lines` are its evidence, `more` the number of lines left out."""

    number: int
    name: str
    title: str
    figure: str
    verdict: str
    sign: str
    style: str
    lines: tuple[str, ...]
    more: int
    advice: str


@dataclass(frozen=True)
class Part(Generic[Fact]):
    """A part of the page: what it shows, or why it cannot, and the claims that vouch for it."""

    fact: Fact | None
    missing: str
    vouched: tuple[Judged, ...]


@dataclass(frozen=True)
class Store:
    """The way of one store, and its drawing."""

    flow: Flow
    way: Way


@dataclass(frozen=True)
class Row:
    """A symbol as nm prints it, and what there is to say of it."""

    address: int
    letter: str
    name: str
    note: str


@dataclass(frozen=True)
class Calls:
    """One function taken over: how many calls go to ours and to the original, how often ours ran on each machine."""

    name: str
    redirected: int
    left: int
    ran: tuple[int, ...]


@dataclass(frozen=True)
class Functions:
    """The functions taken over: barriers and others at their calls, `entered` of `fatal` at their entry.

    `machines` are those that `ran` counts for: only the first if the others saw the same.
    """

    barriers: tuple[Calls, ...]
    readers: tuple[Calls, ...]
    entered: int
    fatal: int
    machines: tuple[str, ...]

    @property
    def total(self) -> Calls:
        """All barriers together."""
        columns = zip(*(row.ran for row in self.barriers), strict=True)
        redirected, left = (sum(getattr(row, field) for row in self.barriers) for field in ("redirected", "left"))
        return Calls("all barriers", redirected, left, tuple(map(sum, columns)))


@dataclass(frozen=True)
class Run:
    """What was seen on one emulator; without `seen`, `missing` says why not.

    `calls` are those of barriers, `originals` of functions that should not run; `head` is the
    value of `main.heapSegmentListHead` at the end.
    """

    machine: str
    seen: Observation | None
    missing: str = ""
    serial: str = ""
    calls: int = 0
    originals: int = 0
    head: int | None = None


@dataclass(frozen=True)
class Ground:
    """The memory map: the drawing, and what is in it with its exact ends, lowest first."""

    drawing: Map
    pieces: tuple[Piece, ...]


def page(steps: Steps, case: Case, lines: Sequence[Line]) -> str:
    """The page for the image `steps` built: the facts of `case`, the verdicts in `lines`."""
    import jinja2

    claims = {line.claim.name: _judged(line) for line in lines}
    evidence = {line.claim.name: line.verdict.evidence for line in lines}

    def part(make: Callable[[], Fact], *names: str) -> Part[Fact]:
        vouched = tuple(claims[name] for name in names if name in claims)
        try:
            return Part(make(), "", vouched)
        except UserError as error:
            return Part(None, error.message, vouched)
        except (LookupError, ValueError) as error:
            # An image that lacks a symbol, or is damaged; the claims say which.
            return Part(None, f"the image lacks what this would show: {error}", vouched)

    seen = [run.seen for run in _runs(case) if run.seen]
    shown = evidence.get("barriers", {}).get("shown")
    store = part(lambda: _store(case, shown, seen), "barriers", "call-sites", "handlers", "stores")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(str(Path(__file__).parent)),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"hex": _hex, "size": amount, "sentence": _sentence}
    image = case.image.read_bytes() if case.image.is_file() else b""
    rendered = environment.get_template(TEMPLATE).render(
        image=_within(case.image, steps.project.root),
        bytes=len(image),
        sha256=hashlib.sha256(image).hexdigest(),
        go=steps.go.release,
        toolchain=", ".join([steps.project.toolchain, *(part(lambda: _linker(case)).fact or ())]),
        board=case.board,
        entry=case.entry,
        abi=part(lambda: case.plan.abi).fact,
        flag=part(lambda: case.flag).fact,
        claims=list(claims.values()),
        store=store,
        symbols=part(lambda: tuple(_symbols(case)), "symbols"),
        functions=part(lambda: _functions(case, seen), "call-sites", "handlers", "executions"),
        ground=part(lambda: _ground(case), "memory-map", "boot-code"),
        runs=part(lambda: _runs(case), "flag-at-run-time", "executions", "stores", "outcome"),
    )
    return rendered.translate(_VISIBLE)


# Control characters become their pictures (U+2400 and on); others that are not to be seen, or that change the order
# of what is, and halves of characters, become the sign for an unknown one.
_VISIBLE = (
    {code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"}
    | {0x7F: 0x2421}
    | dict.fromkeys([*range(0x80, 0xA0), 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)], 0xFFFD)
    | dict.fromkeys(range(0xD800, 0xE000), 0xFFFD)
)


def _judged(line: Line) -> Judged:
    found, claim = line.verdict, line.claim
    evidence = found.details or tuple(f"{key}: {_plain(value)}" for key, value in found.evidence.items())
    return Judged(
        number=line.number,
        name=claim.name,
        title=claim.title,
        figure=found.figure,
        verdict=found.result.value,
        sign=SIGNS[found.result],
        style=STYLES[found.result],
        lines=evidence[:LONGEST],
        more=max(0, len(evidence) - LONGEST),
        advice="" if found.passed else found.advice,
    )


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _hex(value: int | None) -> str:
    return "–" if value is None else f"{value:#x}"


def _sentence(text: str) -> str:
    """`text` with a capital, unless it begins with a name."""
    first = text.split(" ", 1)[0]
    return text[:1].upper() + text[1:] if first.isalpha() and first.islower() else text


def _within(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name


def _linker(case: Case) -> tuple[str, ...]:
    """What linked the image, in its own words, if it left any."""
    section = case.elf.section(".comment")
    said = case.elf.contents(section).decode("utf-8", "replace").split("\0") if section else []
    return tuple(each.removeprefix("Linker: ") for each in said if each.startswith("Linker: "))


def _store(case: Case, shown: object, seen: Sequence[Observation]) -> Store:
    found = flow(case, shown, seen)
    return Store(found, way(found))


def _symbols(case: Case) -> Iterator[Row]:
    """The two of each barrier, the runtime's first, and the variables the proof turns on."""
    pairs = case.barriers.values()
    for pair, symbol in [(pair, pair.old) for pair in pairs] + [(pair, pair.new) for pair in pairs]:
        if symbol is not None:
            note = "ours" if symbol is pair.new else "Go’s"
            yield Row(symbol.value, symbol.letter(), pair.name, note)
    for name, symbols in case.elf.symbols.named(FLAG, HEAD, SLOTS).items():
        for symbol in symbols:
            region = case.board.region_at(symbol.value)
            place = f"in {KINDS.get(region.kind, region.kind)}" if region else "nowhere"
            yield Row(symbol.value, _letter(case, symbol), name, place)


def _letter(case: Case, symbol: Symbol) -> str:
    """What nm prints for a variable: b without bytes in the file, d with, r if it cannot be written, a if nowhere."""
    sections = case.elf.sections
    if symbol.section >= min(len(sections), SHN_ABS):
        letter = "a"
    else:
        section = sections[symbol.section]
        letter = "b" if not section.in_file else "d" if section.flags & SHF_WRITE else "r"
    return letter.upper() if symbol.is_global else letter


def _functions(case: Case, seen: Sequence[Observation]) -> Functions:
    targets = Counter(site.target for site in case.sites)
    for site in case.sites:
        inside = case.elf.symbols.function_at(site.address) if site.kind == "b" else None
        if inside and inside.value == site.target:
            targets[site.target] -= 1  # a function's loop back to its own start is no call
    ran = [run.by_function for run in seen]
    machines = [run.machine for run in seen]
    if ran and all(each == ran[0] for each in ran):
        ran, machines = ran[:1], machines[:1]

    def calls(pair: Pair) -> Calls:
        redirected, left = (targets[symbol.value] if symbol else 0 for symbol in (pair.new, pair.old))
        return Calls(pair.name, redirected, left, tuple(each[pair.name] for each in ran))

    rows = {name: calls(pair) for name, pair in case.called.items()}
    entered = sum(ours is not None and _enters(case, old, ours) for old, ours in case.entered_olds.items())
    return Functions(
        barriers=tuple(row for name, row in rows.items() if name in case.barriers),
        readers=tuple(row for name, row in rows.items() if name not in case.barriers),
        entered=entered,
        fatal=len(case.entered),
        machines=tuple(machines),
    )


def _enters(case: Case, old: int, ours: int) -> bool:
    from buildsys.formats import a64

    word = case.elf.word(old)
    return word is not None and a64.is_b(word) and a64.branch_target(word, old) == ours


def _ground(case: Case) -> Ground:
    pieces = sorted(_pieces(case), key=lambda piece: (piece.extent.low, piece.extent.high))
    return Ground(memory(case.board, pieces, list(_marks(case))), tuple(pieces))


def _pieces(case: Case) -> Iterator[Piece]:
    """Everything that takes memory, and the UART; the board's regions are the drawing's own."""
    sections = {(section.address, section.name): section for section in case.elf.sections}
    for extent in extents(case):
        if extent.kind == "section":
            section = sections[extent.low, extent.name]
            stored = load_address(case.elf, section) if section.in_file else None
            rights = _rights(case, extent)
            style = "code" if "execute" in rights else "data" if "write" in rights else "const"
            note = rights + ("" if section.in_file else "; zeroed, not in the file")
            yield Piece(extent, style, note, stored if stored != section.address else None)
        elif extent.kind == "stored":
            yield Piece(extent, "stored", "copied by boot code to where it lives")
        elif extent.kind == "dtb":
            yield Piece(extent, "stored", "nothing of the image may lie here")
        elif extent.kind == "reserved":
            heap = "heap" in extent.name
            yield Piece(extent, "heap" if heap else "stack", "the kernel’s own" if heap else "grows to lower addresses")
    uart = case.board.uart
    yield Piece(Extent("UART", uart.base, uart.base + uart.size, "device"), "registers", f"{uart.model}: serial output")


def _rights(case: Case, extent: Extent) -> str:
    """What the segment that an extent lies in allows."""
    for segment in case.elf.segments:
        if segment.kind == PT_LOAD and segment.vma <= extent.low < segment.vma + max(1, segment.memory_size):
            rights = ((PF_R, "read"), (PF_W, "write"), (PF_X, "execute"))
            return ", ".join(word for bit, word in rights if segment.flags & bit)
    return "in no segment"


def _marks(case: Case) -> Iterator[Mark]:
    """The addresses the proof turns on."""
    elf, pairs = case.elf, [pair for pair in case.barriers.values() if pair.old and pair.new]
    yield Mark(elf.entry, "the first instruction")
    names = {
        case.entry: ", the entry",
        FLAG: ", the flag",
        HEAD: "",
        G0: ", in x28",
        SLOTS: ", in x25 after a barrier",
        BOARD_TABLE: ", the board table",
        TRANSLATION: ", page tables",
    }
    for name, address in elf.symbols.addresses(*names).items():
        yield Mark(address, name + names[name])
    for old, whose in ((False, "ours"), (True, "Go’s own")):
        symbols = [symbol.value for pair in pairs for symbol in (pair.old if old else pair.new,) if symbol]
        if symbols:
            name = pairs[0].name.removesuffix("1") if len(pairs) > 1 else pairs[0].name
            yield Mark(min(symbols), f"{name}{'…' if len(pairs) > 1 else ''}, {whose}")


def _runs(case: Case) -> tuple[Run, ...]:
    """What the claims have seen of runs so far."""
    found = []
    for machine, name in ((EMBEDDED, "embedded"), (QEMU, "qemu")):
        if name not in vars(case):
            found.append(Run(machine, None, "no claim saw a run on it"))
        elif (seen := vars(case)[name]) is None:
            found.append(Run(machine, None, "it is not installed: not run"))
        else:
            found.append(
                Run(
                    machine=machine,
                    seen=seen,
                    serial=seen.outcome.serial.decode("utf-8", "replace").replace("\r\n", "\n"),
                    calls=sum(seen.by_function[name] for name in case.barriers),
                    originals=seen.originals.total(),
                    head=None if case.places.head is None else seen.word(case.places.head),
                )
            )
    return tuple(found)
