"""One pointer store of an image from its Go line to memory, told from the image's instructions and the runs.

It is the store that claim `barriers` shows, or if that shows none the first one behind a check
in the kernel's own packages.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePath

from buildsys.errors import UserError
from buildsys.formats import a64
from buildsys.formats.references import overwrites
from buildsys.go.flag import Judgement
from buildsys.go.packages import is_own, package_of
from buildsys.go.runtime import FLAG
from buildsys.proof.case import Case, Pair
from buildsys.proof.observation import HEAD, HEAP, Observation

SHOWN = 12  # instructions of our function
SLOTS = 25  # a barrier returns in x25 where to write
POINTER = 8  # bytes


@dataclass(frozen=True)
class Row:
    """One instruction: its address, its words as an assembler writes them, and what it is for."""

    address: int
    mnemonic: str
    operands: str
    note: str


@dataclass(frozen=True)
class Call:
    """The redirected call: its address, the function's name, and target and word before and after."""

    site: int
    name: str
    old: int
    new: int
    word_before: int
    word_after: int


@dataclass(frozen=True)
class Flow:
    """The way of one store.

    `line` ("flag.go:36") and `source`, its text, are empty if not known. `check` are the instructions
    up to the call, `back` those behind it that only run if the flag is set, `clear` those from where
    the check goes if it is clear up to `store`. `stores` tells that our function makes the store
    (Go 1.20 and older); else `clear` follows `back`. If the store goes to `main.heapSegmentListHead`,
    `head` is its address and `held` what was seen there at the end, by machine.
    """

    function: str
    line: str
    source: str
    check: tuple[Row, ...]
    call: Call
    ours: tuple[Row, ...]
    back: tuple[Row, ...]
    clear: tuple[Row, ...]
    branch: int
    store: int
    stores: bool
    head: int | None
    heap: int | None
    held: tuple[tuple[str, int | None], ...]

    @property
    def span(self) -> tuple[int, int]:
        """The first address of the compiler's code shown, and the first after it."""
        addresses = [row.address for row in (*self.check, *self.back, *self.clear)]
        return min(addresses), max(addresses) + 4


def flow(case: Case, shown: object, runs: Iterable[Observation]) -> Flow:
    """The way of the store that `shown`, the evidence of claim `barriers`, names.

    Raises UserError if the image has no store behind a check that calls a barrier of ours.
    """
    news = {pair.new.value: pair for pair in case.barriers.values() if pair.new and pair.old}
    sites = {site.address: site for site in case.sites if site.target in news}
    load, site, store = _chosen(case, shown, set(sites))
    pair, call = news[sites[site].target], load.when_set.index(site)
    function = load.read.function.name if load.read.function else "no function"
    line = _line(case, shown, store, function)
    clear = load.when_clear[: load.when_clear.index(store) + 1]
    branch = load.branch or load.read.address
    explain = _Explanation(case, load, store)
    check = explain.rows([*range(load.read.formed, branch + 4, 4), *load.when_set[: call + 1]])
    rest = explain.rows(clear)
    places = case.elf.symbols.addresses(HEAD, HEAP)
    head = places.get(HEAD) if explain.destination == places.get(HEAD) else None
    return Flow(
        function=function,
        line=line,
        source=_source(case, function, line),
        check=check,
        call=_call(case, pair, site, sites[site].word),
        ours=explain.rows(_body(pair)),
        back=explain.rows(load.when_set[call + 1 :]),
        clear=rest,
        branch=branch,
        store=store,
        stores=case.plan.abi == "store",
        head=head,
        heap=places.get(HEAP),
        held=tuple((run.machine, run.word(head)) for run in runs) if head is not None else (),
    )


def _chosen(case: Case, shown: object, sites: set[int]) -> tuple[Judgement, int, int]:
    """The check to show: its load of the flag, the call of a barrier it leads to, and the store behind."""
    named = shown.get("store") if isinstance(shown, dict) else None
    own = []
    for load in case.flag_loads:
        call = next((call for call in load.calls if call in sites and call in load.when_set), None)
        if not load.accounted or call is None:
            continue
        for address in load.when_clear:
            if hex(address) == named:
                return load, call, address
        store = next((address for address in load.when_clear if _is_store(case.code.word(address) or 0)), None)
        if store is not None and load.read.function and is_own(package_of(load.read.function.name), case.modules):
            own.append((load, call, store))
    if not own:
        raise UserError("no store of the kernel's own packages stands behind a check that calls a barrier of ours")
    return own[0]


def _is_store(word: int) -> bool:
    access = a64.load_store_unsigned(word)
    return access is not None and access[3] == POINTER and not access[4] and access[1] != 31  # 31: the stack


def _call(case: Case, pair: Pair, site: int, word: int) -> Call:
    assert pair.old is not None
    assert pair.new is not None
    return Call(site, pair.name, pair.old.value, pair.new.value, case.before.word(site) or 0, word)


def _body(pair: Pair) -> list[int]:
    assert pair.new is not None
    return list(range(pair.new.value, pair.new.end, 4))[:SHOWN]


def _line(case: Case, shown: object, store: int, function: str) -> str:
    if isinstance(shown, dict) and shown.get("store") == hex(store):
        return str(shown.get("line", ""))
    from buildsys.proof.lines import source_lines

    return source_lines(case.image, [(store, function)]).get(store, "")


def _source(case: Case, function: str, line: str) -> str:
    """The text of a line of the kernel package; the line tables name the file, not its folder."""
    name, _, number = line.rpartition(":")
    if package_of(function) != "main" or not number.isdecimal():
        return ""
    try:
        text = (case.package / PurePath(name).name).read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return ""
    return text[int(number) - 1].strip() if 0 < int(number) <= len(text) else ""


class _Explanation:
    """Says of instructions what they are for. `destination` is where the store goes, once it was explained."""

    def __init__(self, case: Case, load: Judgement, store: int) -> None:
        from capstone import CS_ARCH_ARM64, CS_MODE_ARM, Cs

        self._case, self._decoder = case, Cs(CS_ARCH_ARM64, CS_MODE_ARM)
        self._known = {
            load.read.formed: "the page of the flag",
            load.read.address: f"the flag, {FLAG}",
            load.branch: f"clear? then on at {load.when_clear[0]:#x}",
            store: "the store itself",
        }
        self._slots, self._store = set(load.when_set), store
        self.destination: int | None = None

    def rows(self, addresses: Iterable[int]) -> tuple[Row, ...]:
        """The instructions at `addresses`, in the order they run."""
        return tuple(self._rows(addresses))

    def _rows(self, addresses: Iterable[int]) -> Iterator[Row]:
        values: dict[int, int] = {}
        for address in addresses:
            word = self._case.code.word(address) or 0
            decoded = next(self._decoder.disasm_lite(word.to_bytes(4, "little"), address), None)
            mnemonic, operands = (decoded[2], decoded[3]) if decoded else (".word", f"{word:#010x}")
            yield Row(address, mnemonic, operands, self._note(address, word, values))

    def _note(self, address: int, word: int, values: dict[int, int]) -> str:
        """What the instruction does; `values` are the addresses that registers are known to hold."""
        place, held = None, dict(values)
        for register in held:
            if overwrites(word, register):
                del values[register]
        if formed := a64.adrp(word, address):
            values[formed[0]] = formed[1]
        elif (added := a64.add_immediate(word)) and added[1] in held:
            place = values[added[0]] = held[added[1]] + added[2]
        elif (access := a64.load_store_unsigned(word)) and access[1] in held:
            place = held[access[1]] + access[2]
        if address == self._store:
            self.destination = place
        pointed = "" if place is None else self._symbol(place)
        if known := self._known.get(address):
            return f"{known}, to {pointed}" if pointed and address == self._store else known
        # C6.2 STR and STP with base x25.
        if address in self._slots and word & 0xBFC0_0000 in (0xB900_0000, 0xA900_0000) and word >> 5 & 31 == SLOTS:
            return "recorded in the slots at x25"
        if a64.is_bl(word):
            return "the call, redirected"
        if word == a64.RET:
            return "back to the caller"
        return pointed

    def _symbol(self, address: int) -> str:
        symbol = self._case.elf.symbols.object_at(address)
        if symbol is None or not symbol.size:
            return f"{address:#x}"
        return symbol.name + (f"+{address - symbol.value}" if address != symbol.value else "")
