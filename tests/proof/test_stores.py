"""What is stored through a barrier arrives: each store followed, then memory read when the run has ended."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import capstone
import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildsys.front.steps import Steps
from buildsys.machines import qemu
from buildsys.proof.case import Case
from buildsys.proof.claim import Result
from buildsys.proof.following import FOLLOWED, KEPT
from buildsys.proof.groups import access
from buildsys.proof.observation import HEAD, HEAP
from tests.machines.conftest import needs

from .mutants import patched
from .running import NOP, Record, caught, claims, group, rebuilt, site, without_qemu, word

CLAIM = "stores"
STORE_HEAD = "main.checkGlobalPointer", "runtime.gcWriteBarrier2"


def test_every_store_of_the_reference_kernel_arrives(case: Case) -> None:
    verdict = claims()[CLAIM].check(case)
    assert verdict.result is Result.PASSED, verdict.details
    followed = case.followed
    storing = {*case.barriers, *case.plan.readers}
    called = {name: count for name, count in case.embedded.by_function.items() if name in storing}
    assert dict(followed.calls) == called
    assert set(case.barriers) <= set(called)
    assert not followed.beyond
    assert max(case.embedded.executions.values()) < FOLLOWED
    assert case.places.head in followed.destinations


def test_the_line_around_every_call_records_as_much_as_the_barriers_make_room_for(case: Case) -> None:
    barriers = {pair.new.value: name for name, pair in case.barriers.items() if pair.new}
    room = {barrier.name: barrier.slots for barrier in case.plan.barriers}
    calls = [each.address for each in case.sites if each.target in barriers and each.kind == "bl"]
    assert len(calls) > 300
    for at in calls:
        line = group(case, at)
        asked = sum(room.get(name, 0) for name in line.calls.values())
        recorded = sum(len(each.registers) for each in line.slots.values())
        stored = sum(len(each.registers) for each in line.stores.values())
        assert asked == recorded, f"{at:#x} in {line.function.name}"
        assert 2 * stored >= asked, f"{at:#x} in {line.function.name}"


def test_the_head_of_the_heaps_list_is_the_heaps_address(case: Case) -> None:
    head, heap = case.places.head, case.places.heap
    assert head is not None
    for run in case.runs:
        assert run.word(head) == heap == case.elf.symbols.addresses(HEAP)[HEAP], run.machine


def test_a_store_of_the_head_left_out_is_seen(case: Case, tmp_path: Path, record_property: Record) -> None:
    at = site(case, *STORE_HEAD)
    (store,) = group(case, at).stores
    mutant = patched(case, tmp_path, {store: word(NOP)})
    # The kernel sees it, too, and exits with status 1.
    verdict = caught(record_property, f"the store to {HEAD} is a nop", mutant, CLAIM, {"outcome"})
    assert f"called at {at:#x} in main.checkGlobalPointer" in verdict.figure
    assert f"nothing was stored to {case.places.head:#x} ({HEAD})" in verdict.figure
    assert any(f"{HEAD} at {case.places.head:#x} holds 0x0 at the end" in line for line in verdict.details)


def test_a_store_nobody_misses_is_missed(case: Case, tmp_path: Path, record_property: Record) -> None:
    # A new node's next is made nil; the heap holds a nil there already, so the kernel sees nothing.
    at = site(case, "main.newNode", "runtime.gcWriteBarrier1")
    store = next(iter(group(case, at).stores))
    mutant = patched(case, tmp_path, {store: word(NOP)})
    verdict = caught(record_property, "a store of nil where nil is already is a nop", mutant, CLAIM)
    assert f"called at {at:#x} in main.newNode: nothing was stored to" in verdict.figure


def test_a_store_beside_its_place_is_seen(case: Case, tmp_path: Path, record_property: Record) -> None:
    at = site(case, "main.newNode", "runtime.gcWriteBarrier1")
    store = next(iter(group(case, at).stores))
    before = case.elf.word(store)
    assert before is not None
    mutant = patched(case, tmp_path, {store: word(before + (1 << 10))})
    verdict = caught(record_property, "a store goes 8 bytes too far", mutant, CLAIM)
    assert f"called at {at:#x} in main.newNode: nothing was stored to" in verdict.figure


def test_pointers_that_are_not_recorded_are_seen(case: Case, tmp_path: Path, record_property: Record) -> None:
    at = site(case, *STORE_HEAD)
    (slots,) = group(case, at).slots
    mutant = patched(case, tmp_path, {slots: word(NOP)})
    verdict = caught(record_property, "a caller records no pointers", mutant, CLAIM)
    assert f"called at {at:#x} in main.checkGlobalPointer: 0 of 2 pointers were recorded" in verdict.figure


def test_a_barrier_that_gives_another_variable_as_slots_is_seen(
    case: Case, tmp_path: Path, record_property: Record
) -> None:
    name = "runtime.gcWriteBarrier3"
    new = case.pairs[name].new
    assert new is not None
    add = new.value + 4
    before = case.elf.word(add)
    assert before is not None
    assert before & 0xFFC003FF == 0x91000339, "add x25, x25, #low"
    behind = case.elf.symbols.addresses("buildsys.slots")["buildsys.slots"] + 64
    while (variable := case.elf.symbols.object_at(behind)) is None:
        behind += 8
    assert variable.name in KEPT, "in the same page, no variable of Go's"
    mutant = patched(case, tmp_path, {add: word(before & 0xFFC003FF | (behind & 0xFFF) << 10)})
    verdict = caught(record_property, "a barrier gives a variable that is in use as slots", mutant, CLAIM)
    assert f"x25 has pointers recorded at {behind:#x}: {variable.name}" in verdict.figure


def is_vector_store(value: int) -> bool:
    """Whether `value` stores vector registers, as the compiler's moves do."""
    disassembler = capstone.Cs(capstone.CS_ARCH_ARM64, capstone.CS_MODE_LITTLE_ENDIAN)
    decoded = next(disassembler.disasm(word(value), 0), None)
    return decoded is not None and decoded.mnemonic in ("str", "stp", "stur") and decoded.op_str[0] == "q"


def test_a_move_that_is_not_made_is_seen(case: Case, tmp_path: Path, record_property: Record) -> None:
    at = site(case, "main.moveRecord", "runtime.wbMove")
    stores = [each for each in group(case, at).line if is_vector_store(case.elf.word(each) or 0)]
    mutant = patched(case, tmp_path, {stores[-1]: word(NOP)})
    verdict = caught(record_property, "a move of a struct leaves its end out", mutant, CLAIM, {"outcome"})
    assert f"called at {at:#x} in main.moveRecord" in verdict.figure
    assert "were not moved or cleared as announced" in verdict.figure


def test_a_copy_of_a_slice_is_followed(built: Steps, tmp_path: Path) -> None:
    edit = ("\tarrayTo = arrayFrom\n", "\tcopy(arrayTo[:], arrayFrom[:])\n")
    copying = rebuilt(built, tmp_path, {"src/copies.go": edit})
    verdict = claims()[CLAIM].check(copying)
    assert verdict.result is Result.PASSED, verdict.details
    assert copying.followed.calls["runtime.bulkBarrierPreWrite"] == 1
    assert not copying.followed.beyond


def test_words_that_differ_between_the_emulators_are_seen(case: Case, record_property: Record) -> None:
    needs(qemu.PROGRAM, qemu.INSTALL)
    assert case.qemu is not None
    qemus, mutant = case.qemu, dataclasses.replace(case)
    place = max(case.followed.destinations)
    changed = dataclasses.replace(qemus, word=lambda at: 0xBAD if at == place else qemus.word(at))
    vars(mutant).update(vars(case) | {"qemu": changed})
    verdict = caught(record_property, "a word differs between the emulators at the end", mutant, CLAIM)
    assert f"{place:#x}" in verdict.figure
    assert "0xbad on QEMU" in verdict.figure


def test_without_qemu_the_figure_says_so(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    verdict = claims()[CLAIM].check(without_qemu(case, monkeypatch))
    assert verdict.result is Result.PASSED
    assert "QEMU: not run" in verdict.figure


REGISTERS = {name: number for number in range(31) for name in (f"x{number}", f"w{number}")}
REGISTERS |= {"fp": 29, "lr": 30, "sp": 31, "xzr": 31, "wzr": 31}
MOVES_64 = ("ldr", "str", "ldur", "stur", "ldtr", "sttr", "ldp", "stp", "ldnp", "stnp")


@given(st.one_of(
    st.integers(0, 1 << 22).map(lambda low: 0xF8000000 | low),  # a register
    st.integers(0, 1 << 25).map(lambda low: 0xF8000000 | low),
    st.integers(0, 1 << 25).map(lambda low: 0xA8000000 | low),  # a pair
    st.integers(0, (1 << 32) - 1),
))  # fmt: skip
def test_loads_and_stores_are_decoded_as_capstone_does(value: int) -> None:
    disassembler = capstone.Cs(capstone.CS_ARCH_ARM64, capstone.CS_MODE_LITTLE_ENDIAN)
    disassembler.detail = True
    decoded = next(disassembler.disasm(value.to_bytes(4, "little"), 0), None)
    found = access(value)
    if decoded is None or decoded.mnemonic not in MOVES_64 or "[" not in decoded.op_str:
        assert found is None or decoded is None
        return
    moved = [each for each in decoded.operands if each.type == capstone.arm64.ARM64_OP_REG]
    names = [decoded.reg_name(each.reg) for each in moved]
    if names[0][0] != "x" and names[0] not in ("fp", "lr"):
        assert found is None
        return
    assert found is not None
    (memory,) = [each for each in decoded.operands if each.type == capstone.arm64.ARM64_OP_MEM]
    post_indexed = decoded.op_str.rstrip().endswith("]") is False and not decoded.op_str.endswith("!")
    assert found.is_load == decoded.mnemonic.startswith("ld")
    assert list(found.registers) == [REGISTERS[name] for name in names]
    assert found.base == REGISTERS[decoded.reg_name(memory.mem.base)]
    assert found.offset == (0 if post_indexed else memory.mem.disp)
    if memory.mem.index:
        assert found.index == REGISTERS[decoded.reg_name(memory.mem.index)]
        assert found.shift == memory.shift.value
    else:
        assert found.index is None


@pytest.mark.parametrize(
    ("instruction", "registers", "address"),
    [
        (0xF9402461, {3: 0x1000}, 0x1048),  # ldr x1, [x3, #72]
        (0xF81F8C61, {3: 0x1000}, 0xFF8),  # str x1, [x3, #-8]!
        (0xF8008461, {3: 0x1000}, 0x1000),  # str x1, [x3], #8
        (0xA9BF0861, {3: 0x1000}, 0xFF0),  # stp x1, x2, [x3, #-16]!
        (0xF8227861, {2: 5, 3: 0x1000}, 0x1028),  # str x1, [x3, x2, lsl #3]
        (0xF822C861, {2: 0xFFFFFFFF, 3: 0x1000}, 0xFFF),  # str x1, [x3, w2, sxtw]
        (0xF8224861, {2: 0x1_00000005, 3: 0x1000}, 0x1005),  # str x1, [x3, w2, uxtw]
    ],
)
def test_the_address_is_that_of_the_instruction(instruction: int, registers: Mapping[int, int], address: int) -> None:
    found = access(instruction)
    assert found is not None
    assert found.address(registers.__getitem__) == address
