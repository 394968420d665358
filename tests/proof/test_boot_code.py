"""The claim about boot code, and images whose boot code does something else."""

from __future__ import annotations

from pathlib import Path

import pytest

from buildsys.front.steps import Steps
from buildsys.go.runtime import FLAG, G0
from buildsys.machines.embedded import Machine
from buildsys.proof.bootcode import FlagStore, flag_store
from buildsys.proof.case import Case
from buildsys.proof.claims import boot_code
from buildsys.proof.events import Call, Dsb, Store, SystemWrite

from .conftest import OnlyRed
from .mutants import of_files, patched, relinked

NOP = (0xD503201F).to_bytes(4, "little")


def word(case: Case, address: int) -> int:
    found = case.elf.word(address)
    assert found is not None
    return found


def with_word(case: Case, folder: Path, address: int, new: int) -> Case:
    return patched(case, folder, {address: new.to_bytes(4, "little")}, linked=True)


def flag_set_by(case: Case) -> FlagStore:
    store = flag_store(case)
    assert store is not None
    return store


def call_of_entry(case: Case) -> Call:
    assert case.boot.call is not None
    return case.boot.call


def store_to(case: Case, symbol: str, offset: int = 0) -> Store:
    place = case.elf.symbols.addresses(symbol)[symbol] + offset
    return next(store for store in case.boot.stores() if store.address == place)


def dsb_after_the_store(case: Case) -> int:
    before = case.boot.before
    store = next(index for index, event in enumerate(before) if event.pc == flag_set_by(case).address)
    return next(event.pc for event in before[store:] if isinstance(event, Dsb))


def test_the_reference_kernel_passes(case: Case) -> None:
    verdict = boot_code.check(case)
    assert verdict.passed, verdict.details
    assert f"{case.flag:#x}" in verdict.figure


def test_what_is_followed_is_what_runs(case: Case) -> None:
    """The embedded emulator, stopped at the entry, has the registers and memory that following foretold."""
    call = call_of_entry(case)
    entry = case.elf.symbols.addresses(case.entry)[case.entry]
    machine = Machine(case.board)
    machine.load(case.image)
    arrived: list[dict[str, int]] = []
    memory: dict[int, bytes] = {}

    def look(machine: Machine) -> None:
        if not arrived:
            arrived.append(machine.registers())
            for store in case.boot.stores():
                if store.address is not None:
                    memory[store.address] = machine.read(store.address, store.size)

    machine.watch(entry, look)
    machine.run(case.time_limit)
    (registers,) = arrived
    known = {f"x{number}": value.number for number, value in enumerate(call.registers) if value.number is not None}
    assert {"x0", "x28"} <= known.keys()
    known.pop("x30")  # the call sets it
    assert {name: registers[name] for name in known} == known
    assert registers["sp"] == call.sp.number
    g = case.elf.symbols.addresses(G0)[G0]
    for store in case.boot.stores():
        assert store.address is not None
        if store.source is not None:
            at = case.elf.file_offset(store.address)
            assert at is not None
            assert without_itabs(case, store.address, memory[store.address]) == without_itabs(
                case, store.address, case.elf.data[at : at + store.size]
            )
        elif store.value and not g <= store.address < g + 8:
            assert int.from_bytes(memory[store.address], "little") == store.value


def without_itabs(case: Case, start: int, contents: bytes) -> bytes:
    """`contents`, which lie at `start`, without what buildsys.add_itabs has the runtime fill."""
    cleared = bytearray(contents)
    for name in ("runtime.itabTable", "runtime.itabTableInit"):
        (table,) = case.elf.symbols.named(name)[name]
        low, high = max(table.value - start, 0), min(table.value + table.size - start, len(contents))
        if low < high:
            cleared[low:high] = bytes(high - low)
    return bytes(cleared)


def test_a_flag_address_off_by_four_is_seen(case: Case, tmp_path: Path, only_red: OnlyRed) -> None:
    store = flag_set_by(case)
    # imm16 of the movk before the store, one word further.
    movk = store.address - 8
    mutant = with_word(case, tmp_path, movk, word(case, movk) + (4 << 5))
    said = only_red("the flag's address built 4 too high", mutant, "boot-code").figure
    assert FLAG in said
    assert f"{case.flag:#x}" in said
    assert f"{case.flag + 4:#x}" in said


def test_a_dropped_store_is_seen(case: Case, tmp_path: Path, only_red: OnlyRed) -> None:
    mutant = patched(case, tmp_path, {flag_set_by(case).address: NOP}, linked=True)
    said = only_red("the store to the flag dropped", mutant, "boot-code").figure
    assert f"{FLAG} at {case.flag:#x} is not set" in said


def test_a_store_of_eight_bytes_is_seen(case: Case, tmp_path: Path, only_red: OnlyRed) -> None:
    store = flag_set_by(case)
    mutant = with_word(case, tmp_path, store.address, word(case, store.address) | 1 << 30)
    said = only_red("eight bytes stored to the flag, a word", mutant, "boot-code").figure
    assert f"stores 8 bytes at {case.flag:#x}" in said


def test_another_value_than_one_is_seen(case: Case, tmp_path: Path, only_red: OnlyRed) -> None:
    movz = flag_set_by(case).address - 4
    mutant = with_word(case, tmp_path, movz, word(case, movz) + (1 << 5))
    assert FLAG in only_red("2 stored to the flag", mutant, "boot-code").figure


def test_a_dropped_dsb_is_seen(case: Case, tmp_path: Path, only_red: OnlyRed) -> None:
    store, dsb = flag_set_by(case).address, dsb_after_the_store(case)
    mutant = patched(case, tmp_path, {dsb: NOP}, linked=True)
    said = only_red("the dsb after the store dropped", mutant, "boot-code").figure
    assert "no dsb" in said
    assert f"{store:#x} in _start" in said


def test_a_dsb_that_waits_for_loads_only_is_seen(case: Case, tmp_path: Path, only_red: OnlyRed) -> None:
    dsb = dsb_after_the_store(case)
    mutant = with_word(case, tmp_path, dsb, word(case, dsb) & ~0xF00 | 0xD00)  # dsb ld
    assert "no dsb" in only_red("dsb ld in place of dsb sy", mutant, "boot-code").figure


SET_THE_FLAG = "    str     w11, [x10]\n    dsb     sy\n"


def test_a_flag_set_after_the_call_is_seen(built: Steps, case: Case, tmp_path: Path, only_red: OnlyRed) -> None:
    late = {
        SET_THE_FLAG: "",
        "    blr     x9\n": '    blr     x9\n    {{ load("x10", address(flag)) }}\n    mov w11, #1\n' + SET_THE_FLAG,
    }
    mutant = relinked(built, case, tmp_path, {"boot.s.j2": late})
    said = only_red("the flag set after the entry returned", mutant, "boot-code").figure
    assert f"only after the call of {case.entry}" in said


def test_a_flag_set_before_bss_is_cleared_is_seen(built: Steps, case: Case, tmp_path: Path, only_red: OnlyRed) -> None:
    early = {"    bl      clear_bss\n": "", SET_THE_FLAG: SET_THE_FLAG + "    bl      clear_bss\n"}
    mutant = relinked(built, case, tmp_path, {"boot.s.j2": early})
    verdict = only_red("the flag set before .bss is cleared", mutant, "boot-code")
    assert f"{FLAG} at {mutant.flag:#x} is not set" in verdict.figure


def test_data_copied_after_the_flag_is_set_is_seen(built: Steps, case: Case, tmp_path: Path, only_red: OnlyRed) -> None:
    late = {"    bl      copy_data\n": "", SET_THE_FLAG: SET_THE_FLAG + "    bl      copy_data\n"}
    mutant = relinked(built, case, tmp_path, {"boot.s.j2": late})
    assert "after the flag was set" in only_red(".data copied after the flag is set", mutant, "boot-code").figure


@pytest.mark.parametrize("bound", ["__bss_start", "__bss_end"])
def test_a_wrong_bound_of_bss_is_seen(built: Steps, case: Case, tmp_path: Path, only_red: OnlyRed, bound: str) -> None:
    sign = "+" if bound == "__bss_start" else "-"
    mutant = relinked(built, case, tmp_path, {"memory.s.j2": {f":lo12:{bound}": f":lo12:({bound} {sign} 16)"}})
    said = only_red(f".bss cleared from or to {bound} {sign} 16", mutant, "boot-code").figure
    section = mutant.elf.section(".bss")
    assert section is not None
    assert f"{section.address:#x}..{section.end:#x}" in said


def test_data_copied_from_elsewhere_is_seen(built: Steps, case: Case, tmp_path: Path, only_red: OnlyRed) -> None:
    mutant = relinked(built, case, tmp_path, {"kernel.ld.j2": {"LOADADDR(.data);": "LOADADDR(.data) + 16;"}})
    said = only_red(".data copied from 16 bytes too far", mutant, "boot-code").figure
    assert "copies .data from" in said


def test_a_stale_address_after_a_relayout_is_seen(built: Steps, case: Case, tmp_path: Path, only_red: OnlyRed) -> None:
    """Objects bound to one layout, linked to another: what binding is there to prevent."""
    script = tmp_path / "kernel.ld"
    text = (built.project.build / "kernel.ld").read_text()
    old = "__bss_start = .;"
    assert old in text
    script.write_text(text.replace(old, f"{old} . += 64;"))
    objects = [(built.project.build / name).with_suffix(".o") for name in built.templates]
    unpatched = tmp_path / "kernel.unpatched.elf"
    built.binutils.link(script, [*objects, built.go_object], unpatched)
    stale = of_files(case, unpatched, unpatched)
    from buildsys.stages.patch import patch_image

    image = tmp_path / "kernel.elf"
    patch_image(unpatched, stale.plan, case.entry, image, tmp_path / "patch.json")
    mutant = of_files(case, image, unpatched)
    assert mutant.flag == case.flag + 64
    # A report clears the flag at its old address, too.
    verdict = only_red("addresses of an earlier layout", mutant, "boot-code", {"handlers"})
    about_flag = next(detail for detail in verdict.details if detail.startswith(FLAG))
    assert f"{mutant.flag:#x} is not set" in about_flag
    assert f"{case.flag:#x}" in about_flag
    assert any(detail.startswith(f"at the call at {call_of_entry(mutant).pc:#x}, x28") for detail in verdict.details)


def test_a_stale_entry_is_seen(case: Case, tmp_path: Path, only_red: OnlyRed) -> None:
    movk = call_of_entry(case).pc - 4
    mutant = with_word(case, tmp_path, movk, word(case, movk) + (16 << 5))
    said = only_red("the entry called 16 bytes too far", mutant, "boot-code").figure
    entry = case.elf.symbols.addresses(case.entry)[case.entry]
    assert f"{entry + 16:#x}" in said
    assert f"{case.entry} is at {entry:#x}" in said


def test_an_entry_never_called_is_seen(case: Case, tmp_path: Path, only_red: OnlyRed) -> None:
    mutant = with_word(case, tmp_path, call_of_entry(case).pc, 0x14000000)  # b .
    assert f"{case.entry} at" in only_red("the call of the entry a loop", mutant, "boot-code").figure


@pytest.mark.parametrize(
    ("field", "offset"), [("stack.lo", 0), ("stack.hi", 8), ("stackguard0", 16), ("stackguard1", 24)]
)
def test_a_bound_of_the_stack_left_out_is_seen(
    case: Case, tmp_path: Path, only_red: OnlyRed, field: str, offset: int
) -> None:
    # Go 1.27's offsets: this test builds with the pinned release.
    mutant = patched(case, tmp_path, {store_to(case, G0, offset).pc: NOP}, linked=True)
    said = only_red(f"{G0}.{field} not set", mutant, "boot-code").figure
    assert f"{G0}.{field} at {case.elf.symbols.addresses(G0)[G0] + offset:#x}" in said


def test_a_false_bound_of_the_stack_is_seen(built: Steps, case: Case, tmp_path: Path, only_red: OnlyRed) -> None:
    mutant = relinked(built, case, tmp_path, {"boot.s.j2": {"    mov     x0, sp\n": "    sub     x0, sp, #256\n"}})
    said = only_red("the stack's upper bound 256 too low", mutant, "boot-code").figure
    high = mutant.elf.symbols.addresses("__stack_high")["__stack_high"]
    assert f"{G0}.stack.hi" in said
    assert f"is {high - 256:#x}" in said
    assert f"{high:#x}" in said


def test_another_g_than_g0_is_seen(case: Case, tmp_path: Path, only_red: OnlyRed) -> None:
    movk = store_to(case, G0).pc - 12
    mutant = with_word(case, tmp_path, movk, word(case, movk) + (64 << 5))
    assert G0 in only_red("x28 64 bytes beyond runtime.g0", mutant, "boot-code").figure


def test_cores_not_parked_are_seen(case: Case, tmp_path: Path, only_red: OnlyRed) -> None:
    branch = case.elf.entry + 8
    mutant = patched(case, tmp_path, {branch: NOP}, linked=True)
    assert "is not parked" in only_red("the branch to park dropped", mutant, "boot-code").figure


def test_cores_of_another_cluster_are_parked_too(case: Case, tmp_path: Path, only_red: OnlyRed) -> None:
    test = case.elf.entry + 4
    mutant = with_word(case, tmp_path, test, 0xF2401C1F)  # tst x0, #0xff
    assert "0x80000100 is not parked" in only_red("only Aff0 asked before parking", mutant, "boot-code").figure


@pytest.mark.parametrize("index", range(11))
def test_each_word_of_the_board_table_counts(case: Case, tmp_path: Path, only_red: OnlyRed, index: int) -> None:
    place = (call_of_entry(case).registers[0].number or 0) + 8 * index
    held = case.elf.word(place, 8)
    assert held is not None
    mutant = patched(case, tmp_path, {place: (held ^ 0x1000).to_bytes(8, "little")}, linked=True)
    said = only_red(f"word {index} of the board table", mutant, "boot-code").figure
    assert f"word {index} at {place:#x}" in said


def entry_of(case: Case, address: int) -> int:
    """Where the image has the entry that maps `address`, a block of level 2 or a page of level 3."""
    table = case.elf.symbols.addresses("buildsys.translation")["buildsys.translation"]
    below = case.elf.word(table + 8 * (address >> 30), 8)
    assert below is not None
    place = (below & ~0xFFF) + 8 * (address >> 21 & 511)
    entry = case.elf.word(place, 8)
    assert entry is not None
    return (entry & ~0xFFF) + 8 * (address >> 12 & 511) if entry & 3 == 3 else place


@pytest.mark.parametrize(
    ("what", "place", "cleared", "put", "said"),
    [
        ("RAM executable", "ram", 3 << 53, 0, "make RAM executable"),
        ("a device executable", "uart", 3 << 53, 0, "make devices executable"),
        ("code writable", "text", 1 << 7, 0, "make code writable"),
        ("code not executable", "text", 0, 1 << 53, "do not let the code run"),
        ("read-only data writable", "rodata", 1 << 7, 0, "make read-only memory writable"),
        ("read-only data executable", "rodata", 3 << 53, 0, "make read-only memory executable"),
        ("read-only data executable at EL0", "rodata", 1 << 54, 0, "make read-only memory executable"),
        ("the end of flash writable", "flash", 1 << 7, 0, "make read-only memory writable"),
        ("the end of flash executable", "flash", 3 << 53, 0, "make read-only memory executable"),
        ("a page of code not mapped", "text", 1, 0, "do not map"),
        ("a device as normal memory", "uart", 7 << 2, 0, "as normal memory"),
        ("a block of RAM not mapped", "ram", 1, 0, "do not map"),
        ("a block of RAM mapped elsewhere", "ram", 0, 1 << 31, "not to itself"),
    ],
)
def test_page_tables_are_read_back(
    case: Case, tmp_path: Path, only_red: OnlyRed, what: str, place: str, cleared: int, put: int, said: str
) -> None:
    board = case.board
    rodata = case.elf.section(".rodata")
    assert rodata is not None
    address = {
        "ram": board.ram.end - 1,
        "uart": board.uart.base,
        "text": board.text,
        "rodata": rodata.end - 1,
        "flash": board.flash.end - 1,
    }[place]
    entry = entry_of(case, address)
    held = case.elf.word(entry, 8)
    assert held is not None
    mutant = patched(case, tmp_path, {entry: (held & ~cleared | put).to_bytes(8, "little")}, linked=True)
    verdict = only_red(f"page tables: {what}", mutant, "boot-code")
    assert said in verdict.figure
    assert "buildsys.translation" in verdict.figure


GUARDED = {"__exception_stack": "exception", "__stack": "boot"}


def with_entries(case: Case, folder: Path, entries: dict[int, int]) -> Case:
    """`case` whose tables have `entries` for some pages: what the page above the guard has, if mapped."""
    return patched(
        case,
        folder,
        {entry_of(case, page): entry.to_bytes(8, "little") for page, entry in entries.items()},
        linked=True,
    )


def page_entry(case: Case, page: int) -> int:
    """The entry of the table that maps `page`, which is one of level 3."""
    entry = case.elf.word(entry_of(case, page), 8)
    assert entry is not None
    return entry


def test_the_guards_are_told(case: Case) -> None:
    """By the way of the linker script: a page below each stack, of which the tables have an empty entry."""
    evidence = boot_code.check(case).evidence["guards"]
    for stack, name in GUARDED.items():
        found = case.elf.symbols.addresses(f"{stack}_guard", f"{stack}_low")
        low, high = found[f"{stack}_guard"], found[f"{stack}_low"]
        assert evidence[name] == {"low": hex(low), "high": hex(high)}
        assert high - low == 0x1000
        assert page_entry(case, low) == 0
        assert page_entry(case, low - 0x1000) & 3 == page_entry(case, high) & 3 == 3


@pytest.mark.parametrize("stack", GUARDED)
def test_a_guard_that_is_mapped_is_seen(case: Case, tmp_path: Path, only_red: OnlyRed, stack: str) -> None:
    low = case.elf.symbols.addresses(f"{stack}_low")[f"{stack}_low"]
    guard = low - 0x1000
    mutant = with_entries(case, tmp_path, {guard: page_entry(case, low) - 0x1000})
    said = only_red(f"the guard of the {GUARDED[stack]} stack mapped", mutant, "boot-code").figure
    assert f"map {guard:#x}..{low:#x}, where nothing may be mapped: it guards the {GUARDED[stack]} stack" in said


@pytest.mark.parametrize("stack", GUARDED)
@pytest.mark.parametrize("aside", [-0x1000, 0x1000])
def test_a_guard_elsewhere_is_seen(case: Case, tmp_path: Path, only_red: OnlyRed, stack: str, aside: int) -> None:
    low = case.elf.symbols.addresses(f"{stack}_low")[f"{stack}_low"]
    guard = low - 0x1000
    mutant = with_entries(case, tmp_path, {guard: page_entry(case, low) - 0x1000, guard + aside: 0})
    verdict = only_red(f"the guard of the {GUARDED[stack]} stack {aside:+} bytes away", mutant, "boot-code")
    told = "\n".join(verdict.details)
    assert f"where nothing may be mapped: it guards the {GUARDED[stack]} stack" in told
    assert f"do not map {guard + aside:#x}..{guard + aside + 0x1000:#x} of ram" in told


@pytest.mark.parametrize("stack", GUARDED)
def test_a_stack_that_is_not_all_mapped_is_seen(case: Case, tmp_path: Path, only_red: OnlyRed, stack: str) -> None:
    high = case.elf.symbols.addresses(f"{stack}_high")[f"{stack}_high"]
    mutant = with_entries(case, tmp_path, {high - 0x2000: 0})
    said = only_red(f"a page of the {GUARDED[stack]} stack not mapped", mutant, "boot-code").figure
    assert f"do not map {high - 0x2000:#x}..{high - 0x1000:#x} of ram" in said


def test_tables_without_any_guard_are_seen(built: Steps, case: Case, tmp_path: Path, only_red: OnlyRed) -> None:
    mutant = relinked(built, case, tmp_path, {"constants.s.j2": {", guards + of_batches)": ")"}})
    told = "\n".join(only_red("tables without guards", mutant, "boot-code").details)
    assert all(f"it guards the {name} stack" in told for name in GUARDED.values())


def test_a_page_mapped_below_the_code_is_seen(case: Case, tmp_path: Path, only_red: OnlyRed) -> None:
    code = case.elf.word(entry_of(case, case.board.text), 8)
    assert code is not None
    lower = code & ~(case.board.text | 2)  # a block of level 2
    mutant = patched(case, tmp_path, {entry_of(case, 0): lower.to_bytes(8, "little")}, linked=True)
    assert "0x0..0x200000, where nothing may be mapped" in only_red("page 0 mapped", mutant, "boot-code").figure


def test_an_mmu_left_off_is_seen(case: Case, tmp_path: Path, only_red: OnlyRed) -> None:
    last = [event.pc for event in case.boot.before if isinstance(event, SystemWrite)][-1]
    mutant = patched(case, tmp_path, {last: NOP}, linked=True)
    assert "the MMU" in only_red("the MMU never turned on", mutant, "boot-code").figure


def test_an_image_without_the_symbols_is_told_so(case: Case, tmp_path: Path) -> None:
    """All that can be said of an image made otherwise, not a traceback."""
    strings = case.elf.section(".strtab")
    assert strings is not None
    at = case.elf.data.index(G0.encode() + b"\0", strings.offset)
    contents = bytearray(case.elf.data)
    contents[at + len(G0) - 1] = ord("X")
    path = tmp_path / "renamed.elf"
    path.write_bytes(contents)
    verdict = boot_code.check(of_files(case, path, case.unpatched))
    assert not verdict.passed
    assert verdict.figure == f"the image has no symbol {G0}, or several that differ"
