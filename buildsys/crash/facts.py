"""What is known of a crash, in words that hints are chosen by, and the values that hints are filled with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from buildsys.config.board import Board
from buildsys.crash.context import MORESTACK, Context
from buildsys.crash.places import NIL, Places
from buildsys.crash.unwind import Frame
from buildsys.crash.view import View
from buildsys.formats import a64, syndrome
from buildsys.formats.elf import SHF_ALLOC, SHF_EXECINSTR, SHF_WRITE, Elf
from buildsys.go.runtime import SLOTTED
from buildsys.go.services import Classes, Service, services
from buildsys.machines.ends import AGAIN
from buildsys.machines.snapshot import Snapshot
from buildsys.proof.paging import Mapping

WFI = 0xD503207F
BUFFER = 25  # x25: src/runtime/asm_arm64.s, gcWriteBarrier
CALLED_BACK = 16  # instructions that may lie between a barrier's call and the last store it made room for
# A64 loads and stores: Arm ARM C4.1.66, op0 = x1x0; their base register is in bits 9:5.
_LOAD_STORE, _LOAD_STORE_BITS = 0x0800_0000, 0x0A00_0000


@dataclass(frozen=True)
class Facts:
    """Words that hold of a crash, and values by name."""

    words: frozenset[str]
    values: dict[str, str]


@dataclass(frozen=True)
class Stopped:
    """A machine that came to an end: what it is, what it was doing, and the innermost frames of its stack."""

    snapshot: Snapshot
    elf: Elf
    board: Board
    view: View
    places: Places
    context: Context
    frames: Sequence[Frame]
    boots: int = 0


def facts(stopped: Stopped) -> Facts:
    """What holds."""
    context, places = stopped.context, stopped.places
    registers = context.registers
    pc, sp = registers["pc"], registers["sp"]
    called = context.called
    words: set[str] = set()
    word = stopped.view.word(pc, 4)
    stack = places.stack_of(sp)
    values = {
        "pc": hex(pc),
        "sp": places.stack(sp),
        "sp_value": hex(sp),
        "address": hex(context.address),
        "place": places.of(context.address),
        "called": called.removesuffix(".abi0"),
        "function": stopped.frames[0].name if stopped.frames else hex(pc),
        "stack": stack.name if stack else "current",
        "word": "which cannot be read" if word is None else f"{word:#010x}",
        "vectors": hex(registers.get("vbar_el1", 0)),
        "boots": str(stopped.boots),
        "way": " → ".join([*(frame.name for frame in reversed(stopped.frames)), called.removesuffix(".abi0")]),
    }
    if not stack and not any(each.start <= sp < each.end and each.writable for each in _elsewhere(stopped)):
        words.add("sp off its stack")
    if context.syndrome is not None:
        words |= _of_exception(stopped, context.syndrome)
    elif called:
        words |= {"called morestack"} if MORESTACK in called else {"panicked"}
        service = _service(called)
        if service is not None and service.name != "panics" and MORESTACK not in called:
            words.add("service")
            values |= {"service": service.name, "why": service.why, "instead": service.instead}
    else:
        words |= {"asleep"} if stopped.view.word(pc - 4, 4) == WFI else set()
    words |= {"mmu off"} if not stopped.view.translates else set()
    words |= {"stuck"} if context.stuck else set()
    words |= {"reboots"} if stopped.boots > 1 else set()
    words |= {"nested"} if stopped.snapshot.at and stopped.snapshot.at.name == AGAIN else set()
    return Facts(frozenset(words), values)


def _of_exception(stopped: Stopped, told: syndrome.Syndrome) -> set[str]:
    context, pc = stopped.context, stopped.context.registers["pc"]
    names = {
        syndrome.MISALIGNED_PC: "misaligned pc", syndrome.MISALIGNED_SP: "misaligned sp",
        syndrome.FLOATING_POINT: "floating point off", syndrome.SVC: "svc",
        syndrome.UNDEFINED: "undefined instruction", syndrome.BRK: "brk",
    }  # fmt: skip
    words = {names[told.kind]} if told.kind in names else set()
    if not told.is_abort:
        return words
    words.add("instruction abort" if told.is_fetch else "data abort")
    words |= {"write"} if told.is_write else set()
    words |= {
        word
        for word, statuses in {
            "permission": range(0x0C, 0x10),
            "unmapped": range(0x0C),
            "external": range(0x10, 0x11),
            "alignment": range(syndrome.ALIGNMENT, syndrome.ALIGNMENT + 1),
        }.items()
        if told.status in statuses
    }
    address = pc if told.is_fetch else context.address
    if address < NIL and stopped.view.mapping(address) is None:
        words.add("pc nil" if told.is_fetch else "address nil")
    region = stopped.board.region_at(address)
    section = next((each for each in stopped.elf.sections if each.flags & SHF_ALLOC and address in each), None)
    words |= {"in flash"} if region is not None and region.kind == "flash" else set()
    words |= {"read-only"} if section is not None and not section.flags & SHF_WRITE else set()
    if told.is_fetch and not (section is not None and section.flags & SHF_EXECINSTR):
        words.add("pc outside the image")
    if not told.is_fetch:
        words |= _of_store(stopped, pc)
    return words


def _of_store(stopped: Stopped, pc: int) -> set[str]:
    """Whether the instruction at `pc` accesses memory through x25, right behind a call of a barrier."""
    word = stopped.elf.word(pc)
    if word is None or word & _LOAD_STORE_BITS != _LOAD_STORE or word >> 5 & 31 != BUFFER:
        return set()
    found = {"through x25"}
    for at in range(pc - 4, pc - 4 * CALLED_BACK, -4):
        word = stopped.elf.word(at)
        goal = a64.branch_target(word, at) if word is not None and a64.is_bl(word) else None
        if goal is None:
            continue
        function = stopped.elf.symbols.function_at(goal)
        # Ours, or the user's that one was redirected to: the relocation still tells who was called.
        if (function and function.name in SLOTTED) or _meant(stopped.elf, at) in SLOTTED:
            found.add("behind a barrier")
        break
    return found


def _meant(elf: Elf, site: int) -> str:
    """The function that the call at `site` was compiled to go to, by the relocation the linker kept."""
    for table in elf.relocations():
        if site in table.offsets:
            at = table.offsets.index(site)
            symbol = elf.symbols.by_index(table.infos[at] >> 32)
            if symbol is None:
                return ""
            function = elf.symbols.function_at(symbol.value + table.addends[at])
            return function.name if function else ""
    return ""


def _elsewhere(stopped: Stopped) -> list[Mapping]:
    """Memory of a program, which has stacks of its own."""
    return [each for each in stopped.view.mapped if not stopped.board.region_at(each.start)]


def _service(name: str) -> Service | None:
    return Classes(services(), 0, ()).by_name(name)
