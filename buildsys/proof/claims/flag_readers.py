"""Claim: every place that reads the flag is accounted for.

A load of the flag is a compiler's check whose call is redirected to ours, or in
a function that was itself taken over, or one that neither boot code nor the
kernel can come to. Places are decoded from the patched image, and must be those
the linker's relocations name in the unpatched one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from buildsys.formats.patch import address_takers
from buildsys.formats.references import Reference, kept
from buildsys.go.doomed import doomed
from buildsys.go.flag import FLAG_BYTES, Judgement
from buildsys.go.packages import is_own, package_of
from buildsys.go.runtime import FLAG
from buildsys.proof.case import Case
from buildsys.proof.claim import Claim, Result, Verdict, verdict

CHECK, TAKEN_OVER, UNREACHABLE, STRAY = "checks", "in functions taken over", "unreachable", "stray"
NOP = 0xD503_201F  # C6.2 NOP


def check(case: Case) -> Verdict:
    """Account for every load, then for every other way to the flag, and hold both against the relocations."""
    for name in (FLAG, case.entry):
        if name not in case.elf.symbols.addresses(name):
            return verdict([f"{name} is not one symbol of {case.image}"], "", {}, [], "")
    kinds = [(load.read, _kind(case, load.read, load.accounted)) for load in case.flag_loads]
    counts = Counter(kind for _, kind in kinds)
    strays = [load for load, (_, kind) in zip(case.flag_loads, kinds, strict=True) if kind == STRAY]
    # What is reached by the shortest path is the cause of the others.
    strays.sort(key=lambda load: len(case.reach.path(load.read.function.value)) if load.read.function else 0)
    pages, others = _kept(case)
    problems = [
        *(_stray(case, load) for load in strays),
        *_spare(case),
        *_address_formed(case, left=False),
        *_pointers(case),
        *_disagreements(case, pages, others),
    ]
    untold = list(_address_formed(case, left=True))
    if case.plan.abi == "slots":  # Go 1.21 and newer have no reason to
        problems += untold
    elif untold and not problems:
        return Verdict(
            Result.NOT_RUN,
            f"{len(untold)} places form the address of {FLAG} and leave it in a register: whether it is handed on "
            "there cannot be told",
            {"untold": len(untold)},
            tuple(untold),
            "compilers before Go 1.21 do that, for what allocates and for channels: a newer Go leaves nothing open",
        )
    sizes = Counter(read.size for read, _ in kinds)
    rest = sorted({(_name(read), kind) for read, kind in kinds if kind != CHECK})
    return verdict(
        problems,
        f"{len(kinds)} loads: " + ", ".join(f"{counts[kind]} {kind}" for kind in (CHECK, TAKEN_OVER, UNREACHABLE)),
        {
            "loads": len(kinds),
            **{kind: counts[kind] for kind in (CHECK, TAKEN_OVER, UNREACHABLE)},
            "sizes": {str(size): count for size, count in sorted(sizes.items())},
            "relocations": len(others),
            "readers": dict(rest),
            "writers": sorted({_name(use) for use in case.flag_uses if use.kind == "store"}),
            "address formed by": sorted({_name(use) for use in case.flag_uses if use.kind == "address"}),
        },
        [
            f"{len(others)} places use the flag, by the linker's relocations as by decoding",
            *(f"{name}: {kind}" for name, kind in rest),
        ],
        "avoid what leads to such a reader (allocation, maps, fmt, …), or take over a function on the way",
    )


def _kind(case: Case, use: Reference, accounted: bool) -> str:
    """How a use of the flag is accounted for; STRAY if it is not."""
    if accounted:
        return CHECK
    if use.function is None:
        return STRAY
    if _taken_over(case, use.function.value):
        return TAKEN_OVER
    runs = use.function.value in case.reach.functions and not _doomed(case, use)
    return STRAY if runs else UNREACHABLE


def _doomed(case: Case, use: Reference) -> bool:
    """Whether it stands where every way ends in a call that does not return."""
    _, base, words = case.code.body(use.address)
    return use.address - base >> 2 in doomed(words, base, case.ends)


def _taken_over(case: Case, function: int) -> bool:
    """Whether `function` is an original that nobody enters, or that begins with a branch to ours."""
    if function not in case.reach.functions:
        return function in case.olds or function in case.entered_olds
    return function in case.entered_olds and case.reach.entered.get(function) == case.entered_olds[function]


def _name(use: Reference) -> str:
    return use.function.name if use.function else "no function"


def _path(case: Case, function: int) -> str:
    return " → ".join(case.reach.path(function))


def _stray(case: Case, load: Judgement) -> str:
    read = load.read
    if load.stray is not None:
        called = case.elf.symbols.function_at(load.stray[1])
        name = called.name if called else "no function"
        then = f"then calls, at {load.stray[0]:#x}, {name} at {load.stray[1]:#x}, which is not ours"
    elif load.branch is None:
        then = "no branch that tests it follows"
    else:
        then = f"what follows the branch at {load.branch:#x} when it is set calls nothing of ours"
    if read.function is None:
        return f"{FLAG} is read at {read.address:#x}, in no function, and {then}"
    path = _path(case, read.function.value)
    return f"{read.function.name} reads {FLAG} at {read.address:#x}, and {then}; it is reached: {path}"


def _spare(case: Case) -> Iterator[str]:
    """What has memory only for a run that ends must not be what the kernel allocates by."""
    paths = {
        name: case.reach.path(pair.old.value)
        for name in case.plan.spare
        if (pair := case.pairs[name]).old and name in case.entered and pair.old.value in case.reach.functions
    }
    if paths:
        name = min(paths, key=lambda name: len(paths[name]))
        yield f"{name} has memory only for a run that ends, and is reached: {' → '.join(paths[name])}"


def _address_formed(case: Case, left: bool) -> Iterator[str]:
    """Functions that form the flag's address for a use that cannot be followed, and can run.

    Those that have `left` it in a register do nothing with it themselves: what they call next, or come back to, may, or
    it is what remains of a check that the compiler has made elsewhere.

    The kernel's own may: they are the user's, and in the user's hands.
    """
    for use in case.flag_uses:
        if use.kind != "address" or use.left != left or _kind(case, use, False) != STRAY:
            continue
        function = use.function
        if function is None:
            yield f"the address of {FLAG} is formed at {use.address:#x}, in no function"
        elif not is_own(package_of(function.name), case.modules) and _is_go(case, function.name):
            yield (
                f"{function.name} forms the address of {FLAG} at {use.address:#x}, and what it reads there "
                f"cannot be told; it is reached: {_path(case, function.value)}"
            )


def _pointers(case: Case) -> Iterator[str]:
    """Variables of Go's that hold the flag's address: who reads it through them cannot be told."""
    for place, _ in address_takers(case.elf, [case.flag]):
        holder = case.elf.symbols.object_at(place)
        if holder is None:
            yield f"the address of {FLAG} is held at {place:#x}, in no variable"
        elif _is_go(case, holder.name) and not is_own(package_of(holder.name), case.modules):
            yield f"{holder.name} holds the address of {FLAG} at {place:#x}: who reads it there cannot be told"


def _is_go(case: Case, name: str) -> bool:
    return bool(case.object.symbols.named(name)[name])


def _kept(case: Case) -> tuple[set[int], set[int]]:
    """Where relocations of the unpatched image refer to the flag, by the address it has there."""
    found = case.before.symbols.addresses(FLAG)
    return kept(case.before, found[FLAG], FLAG_BYTES) if FLAG in found else (set(), set())


def _disagreements(case: Case, pages: set[int], others: set[int]) -> Iterator[str]:
    """What only one of the two roads knows of."""
    decoded = {use.placed for use in case.flag_uses}
    formed = {use.formed for use in case.flag_uses}
    # A linker that finds the variable near makes NOP and ADR of ADRP and ADD.
    formed |= {use.formed - 4 for use in case.flag_uses if case.code.word(use.formed - 4) == NOP}
    # What the configuration had become the flag's address is the kernel's own, as what its assembly names.
    for address in sorted((others - decoded - case.kept.instructions) | (pages - formed)):
        if not _is_literal(case, address):
            yield f"{_at(case, address)} refers to {FLAG} by the linker's relocations, but decoded it does not use it"
    for address in sorted(decoded - others):
        yield f"{_at(case, address)} uses {FLAG}, but no relocation of the linker's says so"


def _is_literal(case: Case, address: int) -> bool:
    """Whether it is no instruction but a literal among them, the flag's address, in assembly of the user's.

    What is done with it is in the user's hands. Go's compiler and assembler make no such literals.
    """
    function = case.elf.symbols.function_at(address)
    return case.elf.word(address, 8) == case.flag and not (function and _is_go(case, function.name))


def _at(case: Case, address: int) -> str:
    function = case.elf.symbols.function_at(address)
    return f"the instruction at {address:#x} in {function.name if function else 'no function'}"


CLAIM = Claim("flag-readers", "every place that reads the flag is accounted for", check)
