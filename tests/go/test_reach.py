"""What can be reached, in small images where it is plain to see."""

from __future__ import annotations

from pathlib import Path

from buildsys.formats.elf import Elf
from buildsys.go.flag import code_of
from buildsys.go.reach import Reach, reach
from buildsys.go.runtime import FLAG
from buildsys.go.typedata import EQUAL as TYPE_EQUAL
from buildsys.proof.case import Case
from tests.snippets import function, linked, variable


def made(folder: Path, *parts: str) -> Elf:
    return linked(folder, "\n".join([variable(FLAG, 16), *parts]))


def reached(elf: Elf, *entries: str, related: bool = True) -> Reach:
    addresses = elf.symbols.addresses(FLAG, *entries)
    return reach(elf, code_of(elf), [addresses[entry] for entry in entries], addresses[FLAG], related=related)


def decoded(elf: Elf, *entries: str) -> set[str]:
    """What is reached by the instructions alone."""
    return {symbol.name for symbol in reached(elf, *entries, related=False).functions.values()}


def names(elf: Elf, *entries: str) -> set[str]:
    """What is reached, which must be the same by both roads."""
    found = {symbol.name for symbol in reached(elf, *entries).functions.values()}
    assert found == decoded(elf, *entries)
    return found


def data(name: str, *values: str) -> str:
    quads = "\n".join(f"    .quad {value}" for value in values)
    return f".data\n.balign 8\n.type {name}, %object\n{name}:\n{quads}\n.size {name}, . - {name}\n.text\n"


def leaves(*names: str) -> str:
    return "\n".join(function(name, "ret") for name in names)


def test_every_kind_of_branch_is_followed(tmp_path: Path) -> None:
    code = ("bl a", "cbz x0, b", "tbnz x0, #3, c", "b.ne d", "b e")
    elf = made(tmp_path, function("entry", *code), leaves("a", "b", "c", "d", "e", "never"))
    assert names(elf, "entry") == {"entry", "a", "b", "c", "d", "e"}


def test_a_function_whose_address_is_formed_counts(tmp_path: Path) -> None:
    code = ("adr x0, a", "adrp x1, b", "add x1, x1, :lo12:b", "blr x1", "ret")
    elf = made(tmp_path, function("entry", *code), leaves("a", "b", "never"))
    assert names(elf, "entry") == {"entry", "a", "b"}


def test_pointers_are_followed_through_variables(tmp_path: Path) -> None:
    """A variable holds another, which holds a function; and one that is loaded whole."""
    code = ("adrp x1, first", "add x1, x1, :lo12:first", "adrp x27, loaded", "ldr x2, [x27, :lo12:loaded]", "ret")
    variables = data("first", "0", "second") + data("second", "a") + data("loaded", "b") + data("unused", "never")
    elf = made(tmp_path, function("entry", *code), leaves("a", "b", "never"), variables)
    assert names(elf, "entry") == {"entry", "a", "b"}


def test_a_page_is_forgotten_when_its_register_is_overwritten(tmp_path: Path) -> None:
    """Otherwise an access through whatever comes next would count as one to that page."""
    code = ("adrp x1, padding", "add x1, x1, :lo12:padding", "ldr x1, [x0]", "ldr x2, [x1, :lo12:second]", "ret")
    elf = made(tmp_path, function("entry", *code), leaves("never"), data("padding", "0"), data("second", "never"))
    assert decoded(elf, "entry") == {"entry"}


def test_a_page_is_forgotten_at_a_call(tmp_path: Path) -> None:
    code = ("adrp x0, second", "bl a", "ldr x2, [x0, :lo12:second]", "ret")
    elf = made(tmp_path, function("entry", *code), leaves("a", "never"), data("padding", "0"), data("second", "never"))
    assert decoded(elf, "entry") == {"entry", "a"}


def test_a_page_kept_in_a_register_across_a_call_is_known_by_relocation(tmp_path: Path) -> None:
    """Assembly and C may; decoding forgets the page at the call."""
    code = ("adrp x19, b", "bl a", "add x1, x19, :lo12:b", "blr x1", "ret")
    elf = made(tmp_path, function("entry", *code), leaves("a", "b", "never"))
    assert decoded(elf, "entry") == {"entry", "a"}
    assert {symbol.name for symbol in reached(elf, "entry").functions.values()} == {"entry", "a", "b"}


def test_an_address_moved_as_a_number_counts_in_assembly(tmp_path: Path) -> None:
    code = ("movz x3, #:abs_g1:a", "movk x3, #:abs_g0_nc:a", "blr x3", "ret")
    elf = made(tmp_path, function("entry", *code), leaves("a", "never"))
    assert names(elf, "entry") == {"entry", "a"}


def test_behind_an_entry_that_was_redirected_nothing_runs(tmp_path: Path) -> None:
    elf = made(
        tmp_path, function("entry", "bl old", "ret"), function("old", "b new", "bl never"), leaves("new", "never")
    )
    found = reached(elf, "entry")
    assert {symbol.name for symbol in found.functions.values()} == {"entry", "old", "new"}
    at = elf.symbols.addresses("old", "new")
    assert found.entered == {at["old"]: at["new"]}


def test_several_entries_are_followed(tmp_path: Path) -> None:
    elf = made(tmp_path, function("entry", "b a"), function("_start", "b b"), leaves("a", "b", "never"))
    assert names(elf, "entry", "_start") == {"entry", "_start", "a", "b"}


def test_what_a_vector_table_branches_to_is_reached(tmp_path: Path) -> None:
    vectors = ".type vectors, %object\nvectors: b a\n.balign 128\nb b\n.size vectors, . - vectors\n"
    code = ("adrp x0, vectors", "add x0, x0, :lo12:vectors", "msr vbar_el1, x0", "ret")
    elf = made(tmp_path, function("entry", *code), vectors, leaves("a", "b", "never"))
    assert names(elf, "entry") == {"entry", "vectors", "a", "b"}


def test_the_path_told_is_the_shortest(tmp_path: Path) -> None:
    long = function("entry", "bl far", "bl near", "ret") + function("far", "b farther") + function("farther", "b goal")
    elf = made(tmp_path, long, function("near", "b goal"), leaves("goal"))
    goal = elf.symbols.addresses("goal")["goal"]
    assert reached(elf, "entry").path(goal) == ["entry", "near", "goal"]


def test_loads_of_the_flag_are_noted_where_they_can_run(tmp_path: Path) -> None:
    read = (f"adrp x27, {FLAG}", f"ldr w3, [x27, :lo12:{FLAG}]", "ret")
    elf = made(tmp_path, function("entry", "bl a", "ret"), function("a", *read), function("never", *read))
    (load,) = reached(elf, "entry").flag_reads
    assert load.function
    assert load.function.name == "a"


# Type.Equal: a function that compares values is in the type, whether or not anything compares.

TYPE = data("sort", "8", "8", "0", "compares") + data("compares", "eq") + leaves("eq")
NAMES_IT = function("entry", "adrp x0, sort", "add x0, x0, :lo12:sort", "bl runtime.next", "ret")
# The type has no symbol of its own in an image of Go's: the linker names where all types begin and end.
UNNAMED = TYPE.replace(".type sort, %object", "runtime.types:").replace(".size sort, . - sort", "runtime.etypes:")
BOUNDS = "\n.type runtime.types, %object\n.type runtime.etypes, %object\n"


def test_a_types_comparison_counts_if_something_calls_through_types(tmp_path: Path) -> None:
    call = function("runtime.next", f"ldr x26, [x0, #{TYPE_EQUAL}]", "ldr x1, [x26]", "blr x1", "ret")
    assert "eq" in names(made(tmp_path, NAMES_IT, call, UNNAMED, BOUNDS), "entry")


def test_a_types_comparison_does_not_count_if_nothing_does(tmp_path: Path) -> None:
    """A method is called through a register as well, and so is a function on the stack."""
    call = function("runtime.next", f"ldr x26, [sp, #{TYPE_EQUAL}]", "blr x26", "ret")
    assert names(made(tmp_path, NAMES_IT, call, UNNAMED, BOUNDS), "entry") == {"entry", "runtime.next"}


def test_the_reference_kernel_reaches_its_packages_and_little_else(case: Case) -> None:
    found = {symbol.name for symbol in case.reach.functions.values()}
    assert {case.entry, "main.run", "kernel/heap.(*Segment).Free", "main.(*peak).add", "_start"} <= found
    assert not {"runtime.mallocgc", "runtime.newobject", "runtime.schedule"} & found


def test_both_roads_reach_the_same_in_the_reference_kernel(case: Case) -> None:
    entries = (*case.elf.symbols.addresses(case.entry).values(), case.elf.entry)
    found = reach(case.elf, case.code, entries, case.flag, case.ends, related=False)
    assert found.functions.keys() == case.reach.functions.keys()
    assert found.flag_reads == case.reach.flag_reads


MAP_TYPE = data("map", "8", "8", str(21 << 56), "0", "0", "0", "key", "0", "0", "hashes") + data("hashes", "hash")
KEY = data("key", "8", "8", "0", "compares") + data("compares", "eq") + leaves("eq", "hash")
UNNAMED_MAP = (
    (MAP_TYPE + KEY)
    .replace(".type map, %object", "runtime.types:")
    .replace(".type key, %object", "")
    .replace(".size map, . - map", "")
    .replace(".size key, . - key", "runtime.etypes:")
)
NAMES_MAP = function("entry", "adrp x0, map", "add x0, x0, :lo12:map", "bl runtime.next", "ret")


def test_a_maps_hash_function_counts_if_something_hashes_by_type(tmp_path: Path) -> None:
    hashing = function("runtime.next", "ldr x26, [x0, #72]", "ldr x1, [x26]", "blr x1", "ret")
    assert names(made(tmp_path, NAMES_MAP, hashing, UNNAMED_MAP, BOUNDS), "entry") == {"entry", "runtime.next", "hash"}


def test_the_keys_of_a_map_are_compared_by_their_type(tmp_path: Path) -> None:
    """Nobody but the map's type names the type of its keys."""
    comparing = function("runtime.next", f"ldr x26, [x0, #{TYPE_EQUAL}]", "ldr x1, [x26]", "blr x1", "ret")
    assert names(made(tmp_path, NAMES_MAP, comparing, UNNAMED_MAP, BOUNDS), "entry") == {"entry", "runtime.next", "eq"}


def test_where_a_recovered_panic_lands_is_not_come_to(tmp_path: Path) -> None:
    """No panic comes back where it is taken over; a call of the same function in the way of the others counts."""
    landing = ("cbz x0, 1f", "bl runtime.gopanic", "1: ret", "bl runtime.deferreturn", "ret")
    normal = ("cbz x0, 1f", "bl runtime.gopanic", "1: bl runtime.deferreturn", "ret")
    parts = [leaves("runtime.gopanic", "runtime.deferreturn")]
    for code, counts in ((landing, False), (normal, True)):
        elf = made(tmp_path, function("entry", *code), *parts)
        at = elf.symbols.addresses(FLAG, "entry", "runtime.gopanic")
        found = reach(elf, code_of(elf), [at["entry"]], at[FLAG], {at["runtime.gopanic"]})
        assert ("runtime.deferreturn" in {each.name for each in found.functions.values()}) == counts
        # Without panics being taken over, one may be recovered.
        found = reach(elf, code_of(elf), [at["entry"]], at[FLAG])
        assert "runtime.deferreturn" in {each.name for each in found.functions.values()}
