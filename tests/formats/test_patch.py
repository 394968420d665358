"""The call-site pass: every call redirected and nothing else changed, or no image at all."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildsys.errors import UserError
from buildsys.formats.a64 import BRANCH_RANGE, RET, branch_target, encode_branch, is_b, is_bl
from buildsys.formats.elf import Elf
from buildsys.formats.identity import SIZE, place
from buildsys.formats.patch import Redirect, address_takers, patch, resolve
from buildsys.front.steps import Steps
from buildsys.go.runtime import Barrier, Plan
from buildsys.stages.objects import read_runtime
from buildsys.stages.patch import patch_image
from tests.binutils import binutils

from .conftest import Program
from .disassembly import Instruction, by_capstone, listing
from .images import ALLOC, CODE, GLOBAL, NOTYPE, OBJECT, WRITE, Name, Part, elf, image, words
from .kernel import BARRIER, BASE, DATA, ENTRY, NEW, OLD, PLAN, SITES, kernel, redirected

B, BL, NOP = 0x1400_0000, 0x9400_0000, 0xD503_201F


@pytest.fixture(scope="session")
def plan(built: Steps) -> Plan:
    return read_runtime(built.runtime_json)[1]


@pytest.fixture(scope="session")
def report(built: Steps) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(built.patch_json.read_text())
    return found


Letters = dict[str, dict[str, int]]


@pytest.fixture(scope="session")
def letters(built: Steps, plan: Plan) -> Letters:
    """Of each function taken over, the address nm gives by letter."""
    found: Letters = {name: {} for name in plan.functions}
    for line in binutils("nm", built.image).splitlines():
        value, letter, *name = line.split(" ", 2)
        if name and name[0] in found and letter in "tT":
            assert letter not in found[name[0]]
            found[name[0]][letter] = int(value, 16)
    return found


Listing = dict[int, tuple[int, Instruction]]


@pytest.fixture(scope="session")
def before(built: Steps) -> Listing:
    return listing(built.unpatched)


@pytest.fixture(scope="session")
def after(built: Steps) -> Listing:
    return listing(built.image)


# ---- the reference kernel, asked of GNU binutils ----


def test_nm_shows_each_function_twice_the_runtimes_local_and_ours_global(
    letters: Letters, report: dict[str, Any]
) -> None:
    assert len(letters) > 8
    for name, found in letters.items():
        assert set(found) == {"t", "T"}, name
        assert found["t"] != found["T"]
    told = {each["name"]: {"t": int(each["old"], 16), "T": int(each["new"], 16)} for each in report["functions"]}
    assert told == letters


def test_objdump_shows_no_call_left_to_the_runtimes_own(
    plan: Plan, letters: Letters, before: Listing, after: Listing
) -> None:
    was_called, is_called = (
        {address: found.target for address, (_, found) in each.items() if found.mnemonic in ("b", "bl")}
        for each in (before, after)
    )
    for name in plan.called:
        old, new = letters[name]["t"], letters[name]["T"]
        was = {address for address, target in was_called.items() if target == old}
        is_now = {address for address, target in is_called.items() if target == new}
        assert was, name
        # A function's loop back to its own first instruction is no call: see the next test.
        left = {address for address, target in is_called.items() if target == old}
        assert all(old < address and after[address][1].mnemonic == "b" for address in left)
        assert is_now == was - left


def test_what_is_left_of_an_original_is_its_own_loop(built: Steps, plan: Plan, after: Listing) -> None:
    relocated = {
        int(match[1], 16)
        for line in binutils("readelf", "-rW", built.unpatched).splitlines()
        if (match := re.match(r"([0-9a-f]{16}) +\S+ R_AARCH64_(?:CALL|JUMP)26 ", line))
    }
    assert len(relocated) > 5_000
    image = Elf.read(built.image)
    for redirect in resolve(image, plan.called):
        for address, (_, instruction) in after.items():
            if instruction.mnemonic in ("b", "bl") and instruction.target == redirect.old:
                assert address not in relocated
                assert redirect.old <= address < redirect.old_end


def test_each_barriers_sites_are_as_many_as_the_linker_relocated(
    built: Steps, plan: Plan, report: dict[str, Any]
) -> None:
    counted: Counter[str] = Counter()
    for line in binutils("readelf", "-rW", built.unpatched).splitlines():
        if match := re.match(r"[0-9a-f]{16} +\S+ R_AARCH64_(?:CALL|JUMP)26 +[0-9a-f]{16} (\S+) \+ 0$", line):
            counted[match[1]] += 1
    told = {each["name"]: each["count"] for each in report["functions"]}
    assert {barrier.name: told[barrier.name] for barrier in plan.barriers} == {
        barrier.name: counted[barrier.name] for barrier in plan.barriers
    }
    assert report["sites_patched"] == sum(told[name] for name in plan.called)
    assert report["barrier_sites"] == sum(told[barrier.name] for barrier in plan.barriers) > 100


def test_the_images_differ_in_the_words_of_the_sites_and_nowhere_else(
    built: Steps, report: dict[str, Any], before: Listing, after: Listing
) -> None:
    told = {
        int(site["address"], 16): (int(site["before"], 16), int(site["after"], 16))
        for function in report["functions"]
        for site in function["sites"]
    }
    changed = {
        address: (before[address][0], after[address][0]) for address in before if before[address] != after[address]
    }
    assert changed == told
    one, other = built.unpatched.read_bytes(), built.image.read_bytes()
    assert len(one) == len(other)
    differing = {at & ~3 for at, (a, b) in enumerate(zip(one, other, strict=True)) if a != b}
    image = Elf.read(built.unpatched)
    start = image.file_offset(place(image) or 0) or 0
    said = {at for at in differing if start <= at < start + SIZE}  # the identity, which is filled in as well
    assert said
    assert differing - said == {image.file_offset(address) for address in told}


def test_every_site_is_reported_with_the_function_it_is_in(built: Steps, report: dict[str, Any]) -> None:
    bounds: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for line in binutils("readelf", "-sW", built.image).splitlines():
        fields = line.split()
        if len(fields) == 8 and fields[3] == "FUNC":
            bounds[fields[7]].append((int(fields[1], 16), int(fields[1], 16) + int(fields[2], 0)))
    checked = 0
    for function in report["functions"]:
        for site in function["sites"]:
            address = int(site["address"], 16)
            assert any(low <= address < high for low, high in bounds[site["function"]]), site
            checked += 1
    assert checked == report["sites_patched"] + report["entries_patched"]


def test_a_function_that_never_returns_is_taken_over_at_its_entry(plan: Plan, letters: Letters, after: Listing) -> None:
    assert {"runtime.gopanic", "runtime.throw"} <= {*plan.ends} & {*plan.entered}
    for name in plan.entered:
        _, instruction = after[letters[name]["t"]]
        assert (instruction.mnemonic, instruction.target) == ("b", letters[name]["T"]), name


def test_the_sections_and_symbols_are_untouched(built: Steps) -> None:
    for option in ("-SW", "-sW", "-lW", "-rW"):
        assert binutils("readelf", option, built.image) == binutils("readelf", option, built.unpatched)


def configuration(built: Steps) -> dict[str, Any]:
    """What the identity tells of beside contents."""
    found: dict[str, Any] = built.patch().parameters["configuration"]
    return found


def test_on_its_own_output_the_pass_changes_nothing_and_says_so(
    built: Steps, plan: Plan, report: dict[str, Any], tmp_path: Path
) -> None:
    again, told = tmp_path / "again.elf", tmp_path / "again.json"
    facts = patch_image(built.image, plan, built.project.entry, again, told, configuration=configuration(built))
    assert (facts["sites"], facts["remark"]) == (0, f"{built.image} is patched already: nothing was changed")
    assert again.read_bytes() == built.image.read_bytes()
    described = json.loads(told.read_text())
    assert (described["sites_patched"], described["entries_patched"]) == (0, 0)
    assert sum(each["already"] for each in described["functions"]) >= report["sites_patched"]


def test_a_half_patched_image_is_finished_without_a_remark(
    built: Steps, plan: Plan, report: dict[str, Any], tmp_path: Path
) -> None:
    data, image = bytearray(built.image.read_bytes()), Elf.read(built.unpatched)
    reader = next(each for each in report["functions"] if each["kind"] == "reader" and each["sites"])
    for site in reader["sites"]:
        at = image.file_offset(int(site["address"], 16))
        assert at
        data[at : at + 4] = image.data[at : at + 4]
    half, whole = tmp_path / "half.elf", tmp_path / "whole.elf"
    half.write_bytes(data)
    made = tmp_path / "whole.json"
    facts = patch_image(half, plan, built.project.entry, whole, made, configuration=configuration(built))
    assert (facts["sites"], facts["remark"]) == (len(reader["sites"]), "")
    assert whole.read_bytes() == built.image.read_bytes()


# ---- images made for the purpose ----


def run(folder: Path, data: bytes, plan: Plan = PLAN) -> tuple[dict[str, Any], bytes, dict[str, Any]]:
    """Facts, image and report of the pass on `data`."""
    (folder / "in.elf").write_bytes(data)
    facts = patch_image(folder / "in.elf", plan, ENTRY, folder / "out.elf", folder / "out.json")
    return facts, (folder / "out.elf").read_bytes(), json.loads((folder / "out.json").read_text())


def refused(folder: Path, data: bytes, plan: Plan = PLAN) -> UserError:
    """The error of the pass on `data`; no file appears, and an earlier one is left alone."""
    path = folder / "in.elf"
    path.write_bytes(data)
    for earlier in (None, b"earlier"):
        for made in (folder / "out.elf", folder / "out.json"):
            made.unlink(missing_ok=True)
            if earlier:
                made.write_bytes(earlier)
        with pytest.raises(UserError) as caught:
            patch_image(path, plan, ENTRY, folder / "out.elf", folder / "out.json")
        left = {made.name: made.read_bytes() for made in folder.iterdir() if made != path}
        assert left == ({"out.elf": earlier, "out.json": earlier} if earlier else {})
        assert path.read_bytes() == data
    return caught.value


def test_the_smallest_image_is_patched(tmp_path: Path) -> None:
    facts, made, told = run(tmp_path, kernel())
    assert (facts["sites"], facts["remark"]) == (2, "")
    assert made == redirected(kernel())
    assert [site["address"] for site in told["functions"][0]["sites"]] == [hex(site) for site in SITES]
    assert (tmp_path / "out.elf").stat().st_mode & 0o111


callers = st.lists(st.sampled_from([B, BL, NOP]), max_size=20)


@given(callers, callers, st.booleans())
def test_calls_in_both_directions_keep_their_sign(ahead: list[int], behind: list[int], new_first: bool) -> None:
    """The old function lies between its callers, the new one before or after all: some sites change direction."""
    old = BASE + 4 * len(ahead)
    new = BASE - 64 if new_first else BASE + 4096
    code = [
        word if word in (NOP, RET) else encode_branch(word, BASE + 4 * at, old)
        for at, word in enumerate([*ahead, RET, *behind])
    ]
    parts = [Part(".text", BASE, words(*code)), Part(".new", new, words(RET))]
    made = elf(parts, [Name("f", old, 4), Name("f", new, 4, binding=GLOBAL, section=2)])
    done = patch(made, resolve(made, ["f"]))
    calls = {BASE + 4 * at: word for at, word in enumerate(code) if word not in (NOP, RET)}
    assert {rewrite.address: rewrite.before for rewrite in done.rewrites} == calls
    for address, word in calls.items():
        there = Elf(done.contents).word(address)
        assert there is not None
        found = by_capstone(there, address)
        assert (found.mnemonic, found.target) == ("bl" if is_bl(word) else "b", new)


@pytest.mark.parametrize("by", [BRANCH_RANGE, -BRANCH_RANGE - 4, 4 * BRANCH_RANGE])
@pytest.mark.parametrize("at_entry", [False, True])
def test_a_function_out_of_reach_is_one_error_that_names_the_site(by: int, at_entry: bool) -> None:
    """Where there is no room for a veneer: symbols stand right behind the code."""
    site = BASE + 8 * BRANCH_RANGE
    old = site + 8
    whole = [
        Part(".text", site, words(encode_branch(BL, site, old), RET, RET)),
        Part(".far", (old if at_entry else site) + by, words(RET)),
    ]
    names = [Name("f", old, 4), Name("f", whole[1].address, 4, binding=GLOBAL, section=2)]
    names += [Name("used", site + 16, 0, NOTYPE), Name("used", whole[1].address + 8, 0, NOTYPE)]
    made = elf(whole, names)
    redirects = resolve(made, ["f"])
    with pytest.raises(UserError) as caught:
        patch(made, [], redirects) if at_entry else patch(made, redirects)
    at = old if at_entry else site
    assert caught.value.message.startswith(f"made.elf: f cannot be redirected at {at:#x}: a branch from {at:#x} to ")
    assert "\n" not in caught.value.message
    assert "128 MiB" in caught.value.hint


@pytest.mark.parametrize("by", [BRANCH_RANGE - 4, -BRANCH_RANGE])
def test_a_function_just_in_reach_is_reached(by: int) -> None:
    site = BASE + 8 * BRANCH_RANGE
    old = site + 8
    whole = [Part(".text", site, words(encode_branch(BL, site, old), RET, RET)), Part(".far", site + by, words(RET))]
    made = elf(whole, [Name("f", old, 4), Name("f", site + by, 4, binding=GLOBAL, section=2)])
    done = patch(made, resolve(made, ["f"]))
    assert branch_target(done.rewrites[0].after, site) == site + by


def test_nothing_is_changed_when_one_site_of_many_is_out_of_reach(tmp_path: Path) -> None:
    far = BASE + 4 + BRANCH_RANGE
    code = words(encode_branch(BL, BASE, OLD), encode_branch(BL, BASE + 4, OLD), RET, NOP, RET, NOP, NOP, NOP)
    names = [Name(ENTRY, BASE, 16), Name(BARRIER, OLD, 16), Name(BARRIER, far, 4, binding=GLOBAL, section=2)]
    names += [Name("used", BASE + 36, 0, NOTYPE)]
    error = refused(tmp_path, image([Part(".text", BASE, code), Part(".far", far, words(RET))], names))
    # The second call would reach, the first would not.
    assert f"cannot be redirected at {BASE:#x}" in error.message


def test_a_loop_back_to_the_functions_own_start_is_left_alone() -> None:
    code = words(
        NOP, encode_branch(B, BASE + 4, BASE), encode_branch(BL, BASE + 8, BASE), RET, encode_branch(B, BASE + 16, BASE)
    )
    names = [Name("f", BASE, 16), Name("g", BASE + 16, 4), Name("f", BASE + 64, 4, binding=GLOBAL, section=2)]
    made = elf([Part(".text", BASE, code), Part(".new", BASE + 64, words(RET))], names)
    done = patch(made, resolve(made, ["f"]))
    # The recursive call and the tail call of another function are calls; the loop is not.
    assert [rewrite.address for rewrite in done.rewrites] == [BASE + 8, BASE + 16]


def test_at_the_entry_one_word_is_enough() -> None:
    code = words(NOP, RET, encode_branch(BL, BASE + 8, BASE), RET)
    names = [Name("f", BASE, 8), Name("g", BASE + 8, 8), Name("f", BASE + 64, 4, binding=GLOBAL, section=2)]
    made = elf([Part(".text", BASE, code), Part(".new", BASE + 64, words(RET))], names)
    redirects = resolve(made, ["f"])
    done = patch(made, [], redirects)
    assert done.rewrites == ()
    assert [(rewrite.address, rewrite.before) for rewrite in done.entries] == [(BASE, NOP)]
    assert is_b(done.entries[0].after)
    again = patch(Elf(done.contents), [], redirects)
    assert again.entries == ()
    assert again.contents == done.contents


@pytest.mark.parametrize(
    ("names", "listed"),
    [
        ([], "none"),
        ([Name("f", BASE, 4)], f"t {BASE:#x}"),
        ([Name("f", BASE, 4, binding=GLOBAL)], f"T {BASE:#x}"),
        ([Name("f", BASE, 4), Name("f", BASE + 4, 4)], f"t {BASE:#x}, t {BASE + 4:#x}"),
        ([Name("f", BASE, 4), Name("f", BASE, 4, binding=GLOBAL)], f"t {BASE:#x}, T {BASE:#x}"),
        (
            [Name("f", BASE, 4), Name("f", BASE + 4, 4), Name("f", BASE + 8, 4, binding=GLOBAL)],
            f"t {BASE:#x}, t {BASE + 4:#x}, T {BASE + 8:#x}",
        ),
        ([Name("f", BASE, 4), Name("f", BASE + 4, 4, OBJECT, GLOBAL)], f"t {BASE:#x}"),
        ([Name("f", BASE, 4), Name("f", 0, 0, binding=GLOBAL, section=0)], f"t {BASE:#x}"),
    ],
)
def test_old_and_new_function_must_be_one_each(names: list[Name], listed: str) -> None:
    made = elf([Part(".text", BASE, words(RET, RET, RET))], names)
    with pytest.raises(UserError) as caught:
        resolve(made, ["f"])
    assert caught.value.message.startswith("made.elf: f: one local function (the runtime's) and one global (ours)")
    assert caught.value.message.endswith(f"found: {listed}")


def test_barriers_nobody_calls_are_an_error(tmp_path: Path) -> None:
    code = words(RET, NOP, NOP, NOP, RET, NOP, NOP, NOP, RET)
    names = [Name(ENTRY, BASE, 16), Name(BARRIER, OLD, 16), Name(BARRIER, NEW, 4, binding=GLOBAL)]
    error = refused(tmp_path, image([Part(".text", BASE, code)], names))
    assert error.message == f"{tmp_path}/in.elf: no call site of {BARRIER}"
    assert "no barrier was compiled in" in error.hint


def test_a_barrier_the_image_does_not_have_is_an_error(tmp_path: Path) -> None:
    more = Plan((*PLAN.barriers, Barrier("runtime.gcWriteBarrier3", 3)), (), ())
    error = refused(tmp_path, kernel(), more)
    assert error.message.startswith(f"{tmp_path}/in.elf: runtime.gcWriteBarrier3: one local function")
    assert error.message.endswith("found: none")


def test_an_entry_the_image_does_not_have_is_an_error(tmp_path: Path) -> None:
    assert refused(tmp_path, kernel().replace(b"main.KernelMain", b"main.KernelMian")).message == (
        f"{tmp_path}/in.elf: there is no symbol {ENTRY}"
    )


# ---- functions whose address is data ----

RUNTIME = f"""
        .text
        .type   "{BARRIER}", %function
"{BARRIER}":
        ret
        .size   "{BARRIER}", . - "{BARRIER}"

        .globl  "{ENTRY}"
        .type   "{ENTRY}", %function
"{ENTRY}":
        bl      "{BARRIER}"
        {{body}}
        ret
        .size   "{ENTRY}", . - "{ENTRY}"

        .type   other, %function
other:  adrp    x0, held
        ldr     x0, [x0, :lo12:held]
        blr     x0
        ret
        .size   other, . - other

        .data
        .balign 8
        .quad   0
        .type   held, %object
held:   .quad   "{BARRIER}"
        .size   held, . - held

        .bss
        .balign 8
        .globl  runtime.writeBarrier
        .type   runtime.writeBarrier, %object
runtime.writeBarrier:
        .space  8
        .size   runtime.writeBarrier, 8
"""
OURS = f"""
        .text
        .globl  "{BARRIER}"
        .type   "{BARRIER}", %function
"{BARRIER}":
        ret
        .size   "{BARRIER}", . - "{BARRIER}"
"""


def test_a_pointer_to_the_original_is_reported(program: Program, tmp_path: Path) -> None:
    made = program(RUNTIME.format(body=""), OURS)
    facts, _, told = run(tmp_path, made.read_bytes())
    assert facts["sites"] == 1
    held = Elf.read(made).symbols.addresses("held")["held"]
    assert told["functions"][0]["pointers"] == [hex(held)]


@pytest.mark.parametrize(
    "body",
    [
        "bl other",
        "b other",
        "cbz x0, other",
        "adrp x0, held\n add x0, x0, :lo12:held\n ldr x1, [x0]\n br x1",
        f'adrp x1, "{BARRIER}"\n add x1, x1, :lo12:"{BARRIER}"\n blr x1',
    ],
)
def test_an_original_the_kernel_can_reach_is_an_error_with_the_way(program: Program, tmp_path: Path, body: str) -> None:
    made = program(RUNTIME.format(body=body), OURS)
    folder = tmp_path / "pass"
    folder.mkdir()
    error = refused(folder, made.read_bytes())
    image = Elf.read(made)
    old = resolve(image, [BARRIER])[0].old
    first, *way = error.message.splitlines()
    assert first.startswith(f"the kernel can reach the runtime's own {BARRIER} at {old:#x}")
    assert way[0].strip() == ENTRY
    assert way[-1].strip() == f"→ {BARRIER}"
    assert ("→ other" in [line.strip() for line in way]) is ("other" in body)
    assert error.hint == "its address is taken, and only calls can be redirected"
    assert f"through the pointer at {image.symbols.addresses('held')['held']:#x}" in first


# ---- pointers in data ----


@given(
    st.lists(st.sampled_from([0, BASE, BASE + 4, OLD, 1 << 63, BASE << 8]), max_size=20),
    st.integers(0, 15),
    st.integers(0, 7),
    st.sets(st.sampled_from([BASE, BASE + 4, OLD])),
)
def test_every_aligned_pointer_in_data_is_found(values: list[int], at: int, cut: int, wanted: set[int]) -> None:
    data = bytes(-(DATA + at) % 8) + b"".join(value.to_bytes(8, "little") for value in values)
    data = data[: len(data) - cut]
    start = DATA + at
    made = elf([Part(".text", BASE, words(RET)), Part(".data", start, data, ALLOC | WRITE)])
    expected = [
        (place, int.from_bytes(data[place - start : place - start + 8], "little"))
        for place in range(start, start + len(data) - 7)
        if place % 8 == 0 and int.from_bytes(data[place - start : place - start + 8], "little") in wanted
    ]
    assert address_takers(made, sorted(wanted)) == expected


def test_pointers_outside_of_what_is_loaded_do_not_count() -> None:
    pointer = BASE.to_bytes(8, "little")
    made = elf(
        [Part(".text", BASE, words(RET, 0)), Part(".debug", 0, pointer, 0), Part(".code", DATA, pointer, ALLOC | CODE)]
    )
    assert address_takers(made, [BASE]) == []


def test_in_a_real_image_the_pointers_are_those_the_linker_relocated(built: Steps) -> None:
    image = Elf.read(built.unpatched)
    functions = {symbol.value for symbol in image.symbols.functions()}
    expected = set()
    for line in binutils("readelf", "-rW", built.unpatched).splitlines():
        if match := re.match(r"([0-9a-f]{16}) +\S+ R_AARCH64_ABS64 +([0-9a-f]{16}) .* \+ ([0-9a-f]+)$", line):
            place, value = int(match[1], 16), int(match[2], 16) + int(match[3], 16)
            data = any(
                place in section for section in image.sections if section.flags & ALLOC and not section.flags & CODE
            )
            if value in functions and place % 8 == 0 and data and image.word(place, 8) == value:
                expected.add((place, value))
    assert len(expected) > 100
    assert set(address_takers(image, sorted(functions))) >= expected


def test_a_redirect_knows_its_loop() -> None:
    redirect = Redirect("f", BASE, BASE + 8, BASE + 64)
    assert redirect.is_loop(BASE + 4, B)
    assert not redirect.is_loop(BASE + 4, BL)
    assert not redirect.is_loop(BASE + 8, B)
    assert not redirect.is_loop(BASE - 4, B)
