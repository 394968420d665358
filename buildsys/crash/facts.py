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
NO_SERVICE = ("panics", "stack growth")  # they end a kernel, and are told as what they are
CALLED_BACK = 16  # instructions that may lie between a barrier's call and the last store it made room for
# What can be done for a stack that is too small, by its name.
LARGER = {
    "boot": "make `stack` in the board's [layout] larger",
    "exception": "make `exception-stack` in the board's [layout] larger",
}
SMALLER = "let the function that batches are given to need less of it"
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
    stack, over = places.stack_of(sp), places.guarded(context.address)
    values = {
        "pc": hex(pc),
        "sp": places.stack(sp),
        "sp_value": hex(sp),
        "address": hex(context.address),
        "place": places.of(context.address),
        "called": called.removesuffix(".abi0"),
        "function": stopped.frames[0].name if stopped.frames else hex(pc),
        "stack": stack.name if stack else "current",
        "guarded": over.name if over else "",
        "larger": LARGER.get(over.name, SMALLER) if over else "",
        "word": "which cannot be read" if word is None else f"{word:#010x}",
        "vectors": hex(registers.get("vbar_el1", 0)),
        "boots": str(stopped.boots),
        "way": " → ".join(filter(None, [*(each.name for each in stopped.frames[::-1]), called.removesuffix(".abi0")])),
    }
    elsewhere = any(each.start <= sp < each.end and each.writable for each in _elsewhere(stopped))
    if places.below(sp) and not elsewhere:
        words.add("sp off its stack")
    if context.syndrome is not None:
        words |= _of_exception(stopped, context.syndrome)
    elif called:
        words |= {"called morestack"} if MORESTACK in called else {"panicked"}
    else:
        words |= {"asleep"} if stopped.view.word(pc - 4, 4) == WFI else set()
    if found := _service(stopped):
        words.add("service")
        name, service = found
        values |= {"called": name, "service": service.name, "why": service.why, "instead": service.instead}
    words |= {"mmu off"} if not stopped.view.translates else set()
    words |= {"stuck"} if context.stuck or _no_vectors(stopped) else set()
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
    words |= {"in guard"} if not told.is_fetch and stopped.places.guarded(address) else set()
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


def _no_vectors(stopped: Stopped) -> bool:
    """Whether the emulator delivered an exception to nobody, for there is no code where the vectors should be."""
    snapshot = stopped.snapshot
    return snapshot.fault is not None and stopped.elf.word(snapshot.registers.get("vbar_el1", 0)) is None


def _service(stopped: Stopped) -> tuple[str, Service] | None:
    """The function of the runtime that the kernel asked for something bare metal cannot serve, and the service."""
    classes, called = Classes(services(), 0, ()), stopped.context.called
    asked = [called] if called and MORESTACK not in called else []
    for frame in stopped.frames:
        if not frame.function.startswith("runtime."):  # a program's own runtime has all it needs
            break
        asked.append(frame.name)
    for name in reversed(asked):  # the kernel called the last of them
        service = classes.by_name(name)
        if service is not None and service.name not in NO_SERVICE:
            return name.removesuffix(".abi0"), service
    return None
