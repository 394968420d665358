"""Claim: boot code leaves the machine as the kernel needs it, with the addresses of this very image.

The instructions are followed from the image's entry point (buildsys.proof.interpreter),
so what counts is what they do, not what they were rendered from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from buildsys.config.board import Board
from buildsys.config.project import ADDRESS_OF, BOARD_TABLE
from buildsys.crash.places import stacks
from buildsys.formats.elf import SHF_ALLOC, SHF_WRITE
from buildsys.formats.symbols import SHN_ABS
from buildsys.go.runtime import FLAG, G0, M0, STACK_GUARD
from buildsys.proof.bootcode import Boot, at, last_store, reset_memory
from buildsys.proof.case import Case
from buildsys.proof.claim import Claim, Result, Verdict, verdict
from buildsys.proof.events import Call, Dsb, Store, SystemWrite, system_register
from buildsys.proof.interpreter import UNDECIDED
from buildsys.proof.levels import descents
from buildsys.proof.paging import PAGE, Guard, NoTableError, by_pages, mappings, wrong
from buildsys.proof.places import Area, areas, at_variable, place
from buildsys.proof.places import load_address as load_address  # for those who look for it here
from buildsys.proof.values import UNKNOWN, Value

# What the set alloc gives the m: its p, where the records of defers go that were run, how many ps there are.
P, DEFERS, PROCESSORS = "buildsys.p", "buildsys.deferpool", "runtime.gomaxprocs"
BOUNDS = ("__stack_low", "__stack_high", "__heap_low", "__heap_high")
SYMBOLS = (*BOUNDS, "__rodata_end")

# D19.2: the registers that decide about translation, and SCTLR_EL1's M, C and I.
SCTLR_EL1 = system_register(3, 0, 1, 0, 0)
TABLES = {
    "TTBR0_EL1": system_register(3, 0, 2, 0, 0),
    "TCR_EL1": system_register(3, 0, 2, 0, 2),
    "MAIR_EL1": system_register(3, 0, 10, 2, 0),
}
M, C, I = 1 << 0, 1 << 2, 1 << 12  # noqa: E741 (the manual's names)


@dataclass
class _Findings:
    """What was found on the way: problems, evidence, lines for a reader."""

    problems: list[str] = field(default_factory=list)
    evidence: dict[str, Any] = field(default_factory=dict)
    details: list[str] = field(default_factory=list)


def check(case: Case) -> Verdict:
    """Follow boot code and hold what it does against symbols, sections, DWARF and the board."""
    found = _Findings()
    names = (FLAG, G0, case.entry, *SYMBOLS)
    symbols = case.elf.symbols.addresses(*names)
    missing = [name for name in names if name not in symbols]
    if missing:
        found.problems = [f"the image has no symbol {name}, or several that differ" for name in missing]
        return _verdict(case, found, "boot code cannot be judged")
    _cores(case, found)
    call = _call(case, symbols, found)
    flag = _flag(case, symbols, found)
    _memory(case, flag, found)
    _strays(case, found)
    if call is not None:
        _g(case, symbols, call, found)
        _arguments(case, symbols, call, found)
    _translation(case, found)
    if case.own_boot and call is None and case.boot.first.end in UNDECIDED:
        return _not_followed(case, found)
    _levels(case, found)
    figure = "no flag is set"
    if flag is not None and call is not None:
        figure = f"{FLAG} {flag.address:#x} set at {flag.pc:#x}, {case.entry} called at {call.pc:#x}"
    return _verdict(case, found, figure)


def _not_followed(case: Case, found: _Findings) -> Verdict:
    """Boot code of the user's that depends on what cannot be known here: only what is wrong before that is sure."""
    trace = case.boot.first
    reason = f"your boot code can be followed up to {at(case.elf, trace.pc)} and no further: {trace.end}"
    sure = _Findings()
    _strays(case, sure)
    if sure.problems:
        return _verdict(case, sure, reason)
    return Verdict(
        Result.NOT_RUN, reason, found.evidence, tuple(found.problems),
        "what it reads there decides: branch on a register of the processor, or leave the choice to the kernel",
    )  # fmt: skip


def _verdict(case: Case, found: _Findings, figure: str) -> Verdict:
    return verdict(
        found.problems,
        figure,
        found.evidence,
        found.details,
        "boot code does not fit this image: look at templates/boot.s.j2, then `doit forget link` and build again",
    )


def _cores(case: Case, found: _Findings) -> None:
    """Every core but the first must stop, and do nothing before it does."""
    own = [("", core, trace) for core, trace in case.boot.others.items()]
    others = [
        (f" that begins at {start}", core, trace)
        for start, traces in case.boot.parked.items()
        for core, trace in traces.items()
        if trace != case.boot.others[core]  # else it is said already
    ]
    for begins, core, trace in own + others:
        name = f"the core with MPIDR_EL1 {core:#x}{begins}"
        if trace.events:
            found.problems.append(f"{name} is not parked first: it acts at {at(case.elf, trace.events[0].pc)}")
        elif not trace.parked:
            found.problems.append(f"{name} is not parked: {at(case.elf, trace.pc)}: {trace.end}")
        else:
            found.evidence["parked"] = hex(trace.pc)
    if "parked" in found.evidence:
        found.details.append(f"other cores stop at {at(case.elf, int(found.evidence['parked'], 16))}")


def _levels(case: Case, found: _Findings) -> None:
    """From every level a core may begin at, boot code must come to EL1 and do the same there."""
    for start, trace in case.boot.starts.items():
        problems, way = descents(case, start, trace)
        found.problems += problems
        if way is not None:
            found.evidence.setdefault("levels", {})[str(start)] = way
            found.details.append(f"a core that begins at {start} comes to {case.entry} at EL1{way and f': {way}'}")


def _call(case: Case, symbols: dict[str, int], found: _Findings) -> Call | None:
    """The first core must call the entry."""
    call, entry = case.boot.call, symbols[case.entry]
    trace = case.boot.first
    if call is None:
        found.problems.append(
            f"{case.entry} at {entry:#x} is never called: following boot code ends at {at(case.elf, trace.pc)}: "
            f"{trace.end}"
        )
    elif call.target != entry:
        goes = "an address that is not known" if call.target is None else at(case.elf, call.target)
        found.problems.append(f"{at(case.elf, call.pc)} calls {goes}; {case.entry} is at {entry:#x}")
    else:
        found.evidence["entry"] = {"called at": hex(call.pc), "address": hex(entry)}
        found.details.append(f"{at(case.elf, call.pc)} calls {case.entry} at {entry:#x}")
    return call


def _flag(case: Case, symbols: dict[str, int], found: _Findings) -> Store | None:
    """The last store to the flag before the call must be a 1, of a word or a byte, with a DSB after it."""
    flag, before = symbols[FLAG], case.boot.before
    store = last_store(case.boot.stores(), flag, flag + 4)
    ones = [
        event
        for event in case.boot.first.events
        if isinstance(event, Store) and event.value == 1 and event.address is not None
    ]
    if store is None or store.value != 1:
        nearest = min(ones, key=lambda each: abs((each.address or 0) - flag), default=None)
        if nearest is None:
            why = "no 1 is stored anywhere"
        elif nearest.overlaps(flag, flag + 4):
            when = "cleared again after" if nearest in before else f"done only after the call of {case.entry},"
            why = f"the store is {when} {at(case.elf, nearest.pc)}"
        else:
            why = f"{at(case.elf, nearest.pc)} stores its 1 at {nearest.address:#x}"
        found.problems.append(f"{FLAG} at {flag:#x} is not set when {case.entry} is called: {why}")
        return None
    if store.address != flag or store.size not in (1, 4):
        found.problems.append(
            f"{at(case.elf, store.pc)} stores {store.size} bytes at {store.address or 0:#x}; "
            f"{FLAG} is one word at {flag:#x}"
        )
        return None
    region = case.board.region_at(flag)
    if region is None or region.kind != "ram":
        found.problems.append(
            f"{FLAG} at {flag:#x} lies in {place(region)}: what {at(case.elf, store.pc)} stores there is lost"
        )
    barriers = [event for event in before[before.index(store) :] if isinstance(event, Dsb)]
    if not barriers:
        found.problems.append(
            f"there is no dsb between the store to {FLAG} at {at(case.elf, store.pc)} and the call of {case.entry}"
        )
    else:
        found.evidence["flag"] = {"address": hex(flag), "stored at": hex(store.pc), "dsb at": hex(barriers[0].pc)}
        found.details.append(
            f"{at(case.elf, store.pc)} stores {store.size} bytes, 1, at {FLAG} {flag:#x}; dsb at {barriers[0].pc:#x}"
        )
    return store


def _memory(case: Case, flag: Store | None, found: _Findings) -> None:
    """Zeroed sections cleared, initialised ones copied from where they are stored, before the flag is set."""
    boot = case.boot
    stores = boot.stores()
    earlier = stores[: stores.index(flag)] if flag in stores else stores
    for area in areas(case.elf):
        low, high, work = _filled(area, stores)
        if not work:
            found.problems.append(f"{area.name} at {area.low:#x}..{area.high:#x} is never {area.verb}")
            continue
        by = at(case.elf, work[0].pc)
        if (low, high) != (area.low, area.high) and not (case.own_boot and _spills(case, area, low, high)):
            found.problems.append(
                f"{area.name} lies at {area.low:#x}..{area.high:#x}, but {by} has {area.verb} {low:#x}..{high:#x}"
            )
        elif sources := [each for each in work if area.source is not None and _source(area, each) != each.source]:
            wrong = sources[0]
            found.problems.append(
                f"{by} copies {area.name} from {wrong.source or 0:#x}; its bytes are stored at {area.source:#x}"
            )
        elif _filled(area, earlier)[:2] != (low, high):
            found.problems.append(f"{area.name} is {area.verb} at {by}, after the flag was set")
        else:
            source = "" if area.source is None else f" from {area.source:#x}"
            found.evidence[area.name] = {"low": hex(low), "high": hex(high), area.verb: hex(work[0].pc)}
            found.details.append(f"{area.name} {low:#x}..{high:#x} is {area.verb}{source} by {by}")


def _filled(area: Area, stores: Sequence[Store]) -> tuple[int, int, list[Store]]:
    """From where to where `stores` fill `area` without a gap, beginning nearest its start, and which do."""
    work = [
        store
        for store in stores
        if store.address is not None
        and store.overlaps(area.low, area.high)
        and (store.value == 0 and store.source is None if area.source is None else store.source is not None)
    ]
    ordered = sorted(work, key=lambda store: (store.address or 0, -store.size))
    low = high = ordered[0].address or 0 if ordered else 0
    used = []
    for store in ordered:
        if store.address is not None and store.address <= high < store.end:
            high = store.end
            used.append(store)
    return low, high, used


def _spills(case: Case, area: Area, low: int, high: int) -> bool:
    """Whether all of `area` was cleared, and with it only what holds nothing: some clear in steps of many bytes."""
    if area.source is not None or low > area.low or high < area.high:
        return False
    others = [each for each in case.elf.sections if each.flags & SHF_ALLOC and each.size]
    return not any(
        each.address < end and start < each.end
        for each in others
        for start, end in ((low, area.low), (area.high, high))
        if start < end
    )


def _source(area: Area, store: Store) -> int:
    return (area.source or 0) + (store.address or 0) - area.low


def _strays(case: Case, found: _Findings) -> None:
    """No store of boot code may go where nobody can tell, where it is lost, or onto what may not be written."""
    fixed = [s for s in case.elf.sections if s.flags & SHF_ALLOC and not s.flags & SHF_WRITE and s.size]
    for store in case.boot.stores():
        region = case.board.region_at(store.address) if store.address is not None else None
        if store.address is None:
            found.problems.append(f"where {at(case.elf, store.pc)} stores {store.size} bytes cannot be told")
        elif region is None or region.kind == "flash":
            target = at_variable(case.elf, store.address)
            found.problems.append(f"{at(case.elf, store.pc)} stores to {target}, in {place(region)}: it is lost")
        elif hit := next((each for each in fixed if store.overlaps(each.address, each.end)), None):
            target = at_variable(case.elf, store.address)
            found.problems.append(f"{at(case.elf, store.pc)} stores to {target}, in {hit.name}, which is read-only")


def _g(case: Case, symbols: dict[str, int], call: Call, found: _Findings) -> None:
    """x28 must be runtime.g0, its fields the bounds of the stack, sp inside them; with an allocator, it has an m."""
    g, low, high = symbols[G0], symbols["__stack_low"], symbols["__stack_high"]
    low, high = _own_stack(case, g, call) or (low, high)
    _expect(found, call, f"x28 is the g of the kernel: {G0}", call.registers[28], g)
    offsets = case.offsets
    stack = offsets["runtime.g.stack"]
    for name, offset, expected in (
        ("stack.lo", stack + offsets["runtime.stack.lo"], low),
        ("stack.hi", stack + offsets["runtime.stack.hi"], high),
        ("stackguard0", offsets["runtime.g.stackguard0"], low + STACK_GUARD),
        ("stackguard1", offsets["runtime.g.stackguard1"], low + STACK_GUARD),
    ):
        _field(case, found, f"{G0}.{name}", g + offset, expected, f"for the stack {low:#x}..{high:#x} it")
    if case.plan.allocates:
        _m(case, g, found)
    sp = call.sp.number
    if sp is None or not low + STACK_GUARD < sp <= high or sp % 16:
        found.problems.append(
            f"sp is {_shown(call.sp)} at the call at {call.pc:#x}; the stack is {low:#x}..{high:#x}, "
            f"its guard {STACK_GUARD} bytes"
        )
    else:
        found.details.append(f"x28 is {G0} {g:#x}; stack {low:#x}..{high:#x}, sp {sp:#x}")


def _own_stack(case: Case, g: int, call: Call) -> tuple[int, int] | None:
    """The stack that boot code of the user's chose itself, lowest address and end: what its g says, if it can be so."""
    if not case.own_boot or call.sp.number is None:
        return None
    stores, stack = case.boot.stores(), g + case.offsets["runtime.g.stack"]
    bounds = []
    for member in ("lo", "hi"):
        place = stack + case.offsets[f"runtime.stack.{member}"]
        store = last_store(stores, place, place + 8)
        bounds.append(store.value if store is not None and store.address == place and store.size == 8 else None)
    low, high = bounds
    ram = case.board.ram
    if low is None or high is None or not ram.origin <= low < call.sp.number <= high <= ram.end:
        return None
    taken = [each for each in case.elf.sections if each.flags & SHF_ALLOC and each.size]
    return None if any(each.address < high and low < each.end for each in taken) else (low, high)


def _m(case: Case, g: int, found: _Findings) -> None:
    """What allocates goes on to functions that use getg().m and its p, some of them on the stack of its g0."""
    names = (M0, P, DEFERS, PROCESSORS)
    symbols = case.elf.symbols.addresses(*names)
    if missing := [name for name in names if name not in symbols]:
        found.problems += [f"the image has no symbol {name}, or several that differ" for name in missing]
        return
    m, p, why = symbols[M0], symbols[P], "with the set alloc it"
    _field(case, found, f"{G0}.m", g + case.offsets["runtime.g.m"], m, why)
    _field(case, found, f"{M0}.g0", m + case.offsets["runtime.m.g0"], g, why)
    _field(case, found, f"{M0}.curg", m + case.offsets["runtime.m.curg"], g, why)
    _field(case, found, f"{M0}.p", m + case.offsets["runtime.m.p"], p, why)
    pool = p + case.offsets["runtime.p.deferpool"]
    _field(case, found, f"{P}.deferpool", pool, symbols[DEFERS], why)
    (room, *_) = case.elf.symbols.named(DEFERS)[DEFERS]
    _field(case, found, f"the capacity of {P}.deferpool", pool + 16, room.size // 8, why)
    _field(case, found, PROCESSORS, symbols[PROCESSORS], 1, why, 4)
    found.details.append(f"its m is {M0} {m:#x}, whose g0 and curg it is, and whose p is {P} {p:#x}")


def _field(case: Case, found: _Findings, name: str, place: int, expected: int, why: str, size: int = 8) -> None:
    """Boot code must leave `expected` in a field of `size` bytes."""
    store = last_store(case.boot.stores(), place, place + size)
    exact = store is not None and store.address == place and store.size == size
    # Cleared with much else, it is 0.
    cleared = store is not None and store.address is not None and store.value == 0 and store.source is None
    covered = cleared and store is not None and (store.address or 0) <= place and place + size <= store.end
    value = store.value if store is not None and (exact or covered) else None
    if store is None or value != expected:
        held = "is never set" if store is None else "cannot be told" if value is None else f"is {value:#x}"
        by = f", by {at(case.elf, store.pc)}" if store else ""
        found.problems.append(f"{name} at {place:#x} {held}{by}; {why} must be {expected:#x}")
    else:
        found.evidence[name] = {"address": hex(place), "value": hex(expected)}


def _expect(found: _Findings, call: Call, what: str, value: Value, expected: int) -> None:
    if value.number != expected:
        found.problems.append(f"at the call at {call.pc:#x}, {what} must be {expected:#x}, but is {_shown(value)}")


def _shown(value: Value) -> str:
    return "not known" if value.number is None else f"{value.number:#x}"


def board_words(board: Board, symbols: dict[str, int]) -> list[tuple[str, int]]:
    """What the words of the board table must be: a name for each, and its value."""
    words = [
        ("flash origin", board.code.origin if board.in_flash else 0),
        ("flash end", board.code.end if board.in_flash else 0),
        # Where the code shares it, what may be written begins after what may not.
        ("RAM origin", symbols["__rodata_end"] if board.ram is board.code else board.ram.origin),
        ("RAM end", board.ram.end),
        *((name, symbols[name]) for name in BOUNDS),
        ("UART base", board.uart.base),
        (FLAG, symbols[FLAG]),
    ]
    return [("its size in bytes", 8 * (len(words) + 1)), *words]


def _arguments(case: Case, symbols: dict[str, int], call: Call, found: _Findings) -> None:
    """x0 and those after it must be what the configuration says the entry is called with."""
    for number, argument in enumerate(case.arguments):
        value, register = call.registers[number], f"x{number}"
        if argument == BOARD_TABLE:
            _board_table(case, symbols, call, register, value.number, found)
        elif isinstance(argument, int):
            _expect(found, call, f"{register}, an argument of {case.entry}", value, argument & (1 << 64) - 1)
            found.details.append(f"{register} is {argument}, an argument of {case.entry}")
        else:
            name = argument.removeprefix(ADDRESS_OF)
            address = _local(case, name)
            if address is None:
                found.problems.append(f"the image has no symbol {name}, whose address {register} must be, or several")
            else:
                _expect(found, call, f"{register}, the address of {name}", value, address)
                found.details.append(f"{register} is the address of {name}, {address:#x}")


def _local(case: Case, name: str) -> int | None:
    """The one address of `name` that is not itself bound to another symbol of that name."""
    every = case.elf.symbols.named(name)[name]
    values = {symbol.value for symbol in every if symbol.section != SHN_ABS} or {symbol.value for symbol in every}
    return values.pop() if len(values) == 1 else None


def _board_table(
    case: Case, symbols: dict[str, int], call: Call, register: str, table: int | None, found: _Findings
) -> None:
    """A register must be the address of a table that says what the board and this image's symbols say."""
    if table is None:
        found.problems.append(f"{register}, the address of the board table, is not known at the call at {call.pc:#x}")
        return
    for index, (name, expected) in enumerate(board_words(case.board, symbols)):
        word = case.elf.word(table + 8 * index, 8)
        if word != expected:
            held = "is not in the image" if word is None else f"is {word:#x}"
            found.problems.append(
                f"the board table's word {index} at {table + 8 * index:#x}, {name}, {held}; it must be {expected:#x}"
            )
    found.evidence["board table"] = hex(table)
    found.details.append(f"the board table at {table:#x} agrees with board {case.board.name} and the symbols")


def _translation(case: Case, found: _Findings) -> None:
    """The MMU must be on, and the tables in the image must map the board and no more."""
    written = _system_registers(case.boot)
    sctlr = written.get(SCTLR_EL1, UNKNOWN)
    if sctlr.bits & (M | C | I) != M | C | I:
        found.problems.append("the MMU and both caches (SCTLR_EL1: M, C, I) are not all on when the entry is called")
    values = {name: written.get(register, UNKNOWN).number for name, register in TABLES.items()}
    unknown = [name for name, value in values.items() if value is None]
    if unknown:
        found.problems.append(f"what boot code writes to {', '.join(unknown)} cannot be told")
        return
    read = reset_memory(case.elf)
    table, tcr, mair = (value or 0 for value in values.values())
    try:
        mapped = mappings(by_pages(read), table, tcr, mair)
    except NoTableError as error:
        found.problems.append(f"the page tables at {at_variable(case.elf, table)}: {error}")
        return
    guards = _guards(case)
    found.problems += [
        f"the page tables at {at_variable(case.elf, table)} {each}"
        for each in wrong(case.board, case.elf, mapped, guards)
    ]
    found.evidence["guards"] = {each.stack: {"low": hex(each.low), "high": hex(each.high)} for each in guards}
    found.details += [f"not mapped {each.low:#x}..{each.high:#x}: it guards the {each.stack} stack" for each in guards]
    found.evidence["translation"] = [
        {"start": hex(each.start), "end": hex(each.end), "rights": each.rights} for each in mapped
    ]
    found.details += [f"mapped {each.start:#x}..{each.end:#x} {each.rights}" for each in mapped]


def _guards(case: Case) -> list[Guard]:
    """The page below each stack. Boot code of the user's has stacks where it likes, and none of them is guarded."""
    if case.own_boot:
        return []
    return [Guard(each.low // PAGE * PAGE - PAGE, each.low // PAGE * PAGE, each.name) for each in stacks(case.elf)]


def _system_registers(boot: Boot) -> dict[int, Value]:
    return {event.register: event.value for event in boot.before if isinstance(event, SystemWrite)}


CLAIM = Claim("boot-code", "boot code sets the flag, memory and stack of this very image, then calls the entry", check)
