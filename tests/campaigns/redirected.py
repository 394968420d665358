"""Generated programs, built and run: redirected in each mode, and with the replacements written in.

What must come out: the same trace; call sites that are those GNU objdump and the linker's relocations tell; no
word changed that the report does not tell of. What is refused must have to be: the generator knows of most
calls whether they go by a pointer, and objdump how a function begins.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

from buildsys.config.project import load
from buildsys.config.redirects import Redirection
from buildsys.errors import UserError
from buildsys.formats import identity
from buildsys.formats.elf import Elf
from buildsys.formats.modes import Mode
from buildsys.front.steps import Steps
from buildsys.front.verify import case_of
from buildsys.machines import embedded
from buildsys.machines.outcome import End, Outcome
from buildsys.stages.objects import read_runtime
from buildsys.stages.patch import patch_image
from tests.binutils import binutils
from tests.campaigns.programs import BY_ADDRESS, FREE, OWN, POINTER, Call, Function, Program, Swap
from tests.campaigns.writing import original, written
from tests.conftest import ROOT
from tests.proof.redirecting import failed

KERNEL = ROOT / "tests" / "kernels" / "programs"
LIMIT = 60  # seconds a run may take; it takes some hundredths
# How objdump calls instructions whose meaning depends on where they stand, but for branches.
RELATIVE = ("adr", "adrp", "cbz", "cbnz", "tbz", "tbnz")
BEGINS, BACK, REACHED = "begins with an instruction", "branches back to its first", "the kernel can reach"


class DisagreementError(AssertionError):
    """What was redirected is not what was written, or not what others say of it."""


@dataclass(frozen=True)
class Trial:
    """What was made of a program: `images`, in which `sites` were held against objdump and relocations.

    Each bit of `marks` is a shape in which something was called that is replaced. `refused` counts redirects that
    were refused, and had to be; `modes` those that were not.
    """

    images: int = 0
    sites: int = 0
    marks: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    modes: Counter[str] = field(default_factory=Counter)


def linked(program: Program, folder: Path, replaced: bool, **settings: Any) -> Steps:
    """The program in `folder`, linked; `replaced` says that the replacements are written in."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(KERNEL, folder, ignore=shutil.ignore_patterns("build"))
    text = written(program, replaced)
    (folder / "src" / "program.go").write_text(text.go)
    (folder / "asm" / "tails.s").write_text(text.assembly + "\n")
    project = load(folder)
    gcflags = settings.pop("gcflags", "")
    steps = Steps(replace(project, options=project.options._replace(gcflags=gcflags), **settings))
    steps.make_ready()
    for action in (steps.compile, steps.runtime, steps.link):
        steps.records.perform(action())
    return steps


def tried(program: Program, folder: Path, chance: Random, proof: bool = False, **settings: Any) -> Trial:
    """Build the program both ways, redirect it in each mode, and compare. Raises DisagreementError.

    It runs on the embedded emulator; with `proof` the last image runs on QEMU as well, and what `doit verify` claims
    of redirects is checked. `settings` are the project's.
    """
    asked = linked(program, folder / "asked", replaced=False, **settings)
    meant = linked(program, folder / "meant", replaced=True, **settings)
    meant.records.perform(meant.patch())
    expected = _run(meant.image, meant)
    others = Others(asked.unpatched)
    trial = Trial(marks=int(expected.split()[-1], 16))
    for name, wanted in dressings(program, chance):
        made = folder / name
        made.mkdir(exist_ok=True)
        done, refused = patched(program, asked, made, wanted, others)
        image = made / "kernel.elf"
        got = _run(image, asked)
        if got != expected:
            raise DisagreementError(f"{name}: redirected it says\n{got}and written in\n{expected}{_listed(done)}")
        if proof and name == "mixed":
            _prove(asked, done, expected)
        sites = compared(asked.unpatched, made, done, others)
        trial = replace(
            trial,
            images=trial.images + 1,
            sites=trial.sites + sites,
            refused=trial.refused + refused,
            modes=trial.modes + Counter(f"{each.mode}{' pointers' if each.pointers else ''}" for each in done),
        )
    refused = _refuses_a_way_by_address(program, asked, folder, chance)
    return replace(trial, refused=trial.refused + refused)


# ---- what is asked for ----


def dressings(program: Program, chance: Random) -> Iterator[tuple[str, list[Redirection]]]:
    """Ways to ask for the program's replacements that must all come to the same."""
    used = uses(program)
    for name in ("entry", "both", "calls", "mixed"):
        wanted = []
        for swap in program.swaps:
            mode = Mode(name) if name != "mixed" else chance.choice(list(Mode))
            certain = used[swap] <= {"free"}
            pointers = not certain if mode is Mode.CALLS else name == "mixed" and chance.random() < 0.3
            wanted.append(asking(program, swap, mode, pointers))
        yield name, wanted


def asking(program: Program, swap: Swap, mode: Mode, pointers: bool = False) -> Redirection:
    """The redirect that puts the replacement in its place."""
    stands = f"main.{original(swap)}" if swap.passing == OWN else ""
    return Redirection(program.old_name(swap), f"main.{swap.new.name}", mode, pointers, stands)


def uses(program: Program) -> dict[Swap, set[str]]:
    """How what is replaced is called by what the kernel can run: "free", "pointer", or what the compiler decides."""
    functions = {each.number: each for each in program.everyone()}
    swaps = {swap.old: swap for swap in program.swaps if not swap.closure}
    around = {swap.old: swap for swap in program.swaps if swap.closure}
    found: dict[Swap, set[str]] = {swap: set() for swap in program.swaps}
    pending, seen = list(program.roots), set[int]()
    while pending:
        call = pending.pop()
        if call.number in around:
            found[around[call.number]].add("pointer")
            continue
        swap = swaps.get(call.target)
        if swap and call.shape != "itself":
            found[swap].add(way(call, functions[call.target]))
        for number in (call.target,) if not swap else (swap.new.number, *([swap.old] if swap.passing else [])):
            if number not in seen:
                seen.add(number)
                pending += functions[number].calls
    return found


def way(call: Call, target: Function) -> str:
    """Whether a call comes by a branch ("free"), by a pointer, or as the compiler likes ("either")."""
    if call.shape == "interface":
        return "pointer" if target.receiver == POINTER else "free"
    if call.shape == "expression" or call.shape in BY_ADDRESS:
        return "pointer"
    # Of what takes and gives nothing the function value itself is passed on.
    if call.shape in ("defer", "defer in a loop", "go") and not target.taken and not target.variadic:
        return "either"
    return "free" if call.shape in FREE else "either"


# ---- what the build makes of it ----


def patched(
    program: Program, steps: Steps, folder: Path, wanted: Sequence[Redirection], others: Others
) -> tuple[list[Redirection], Counter[str]]:
    """The image in `folder`: what was redirected, and how often a redirect was refused at its entry, rightly.

    Those are redirected at their call sites, and by pointers.
    """
    refused: Counter[str] = Counter()
    wanted = list(wanted)
    while True:
        try:
            patch(steps, folder, wanted)
            return wanted, refused
        except UserError as error:
            at = next((at for at, each in enumerate(wanted) if f" {each.old} b" in error.message), None)
            if at is None or wanted[at].mode is Mode.CALLS:
                raise DisagreementError(f"refused: {error}{_listed(wanted)}") from error
            first, back = others.beginning(wanted[at].old)
            right = first in RELATIVE if BEGINS in error.message else BACK in error.message and back
            if not right:
                raise DisagreementError(f"refused, and {first} is its first instruction: {error}") from error
            refused["first instruction" if BEGINS in error.message else "loop"] += 1
            wanted[at] = replace(wanted[at], mode=Mode.CALLS, pointers=True)


def patch(
    steps: Steps, folder: Path, wanted: Sequence[Redirection], served: Sequence[Redirection] | None = None
) -> None:
    """Write kernel.elf and patch.json to `folder`: with the redirects `wanted`, and those every program needs.

    `served` are the latter, if they are not to be all. Raises UserError.
    """
    _, plan = read_runtime(steps.runtime_json)
    project = steps.project
    redirects = (*(project.redirects if served is None else served), *wanted)
    patch_image(steps.unpatched, plan, project.entry, folder / "kernel.elf", folder / "patch.json", redirects, "src")


def _refuses_a_way_by_address(program: Program, steps: Steps, folder: Path, chance: Random) -> Counter[str]:
    """A function that is called by a pointer somewhere is refused if only its calls are redirected.

    Raises DisagreementError if it is not.
    """
    called = [swap for swap, ways in uses(program).items() if "pointer" in ways]
    if not called:
        return Counter()
    one = chance.choice(called)
    # The others in a mode that is refused for nothing.
    wanted = [asking(program, each, Mode.CALLS, pointers=each is not one) for each in program.swaps]
    try:
        patch(steps, folder, wanted)
    except UserError as error:
        name = program.old_name(one)
        if not error.message.startswith(f"{REACHED} {name}, which is redirected"):
            raise DisagreementError(f"{name} is called by a pointer, and what is refused is: {error}") from error
        return Counter({"called by address": 1})
    raise DisagreementError(f"{program.old_name(one)} is called by address, and was redirected at its call sites")


def _prove(steps: Steps, wanted: Sequence[Redirection], expected: str) -> None:
    """Raise DisagreementError unless the program says what is expected on both emulators, and verify agrees."""
    project = steps.project
    again = Steps(replace(project, redirects=(*project.redirects, *wanted)))
    again.records.perform(again.patch())
    case = case_of(again)
    if wrong := failed(case):
        raise DisagreementError(f"verify: {wrong}{_listed(wanted)}")
    for run in case.runs:
        if said(run.outcome) != expected:
            raise DisagreementError(f"it says\n{run.outcome.serial!r}and written in\n{expected}{_listed(wanted)}")


def _run(image: Path, steps: Steps) -> str:
    outcome = embedded.run(image, steps.project.board, LIMIT)
    return said(outcome)


def said(outcome: Outcome) -> str:
    """What a program said of itself. Raises DisagreementError if it did not come to its end."""
    if outcome.end is not End.EXIT or outcome.exit_code != 0:
        raise DisagreementError(f"{outcome.end.name}, {outcome.exit_code}: {outcome.detail}")
    return outcome.serial.decode("ascii")


# ---- what others say of it ----


class Others:
    """What binutils say of an unpatched image: its functions, where its branches go, and what is to be relocated."""

    def __init__(self, image: Path) -> None:
        self.functions: dict[str, range] = {}
        for line in binutils("nm", "-S", image).splitlines():
            fields = line.split(maxsplit=3)
            # Go's are local; of one name there may be a global one, which is ours.
            if len(fields) == 4 and fields[2] in "tT" and (fields[2] == "t" or fields[3] not in self.functions):
                start = int(fields[0], 16)
                self.functions[fields[3]] = range(start, start + int(fields[1], 16))
        self._mnemonics: dict[int, str] = {}
        self._branches: dict[int, list[int]] = defaultdict(list)
        options = ("-d", "-z", "--no-show-raw-insn", "-M", "no-aliases")
        for line in binutils("objdump", *options, image).splitlines():
            place, _, text = line.partition(":\t")
            if text:
                address, words = int(place, 16), text.split()
                self._mnemonics[address] = words[0]
                if "<" in text and words[0] not in ("adr", "adrp"):
                    self._branches[int(words[words.index(next(w for w in words if w[0] == "<")) - 1], 16)].append(
                        address
                    )
        self._relocated: dict[int, set[int]] = defaultdict(set)
        for line in binutils("readelf", "-rW", image).splitlines():
            fields = line.split()
            if len(fields) >= 5 and fields[2] in ("R_AARCH64_CALL26", "R_AARCH64_JUMP26"):
                more = int(fields[-1], 16) if fields[-2] == "+" else 0
                self._relocated[int(fields[3], 16) + more].add(int(fields[0], 16))

    def calls(self, name: str) -> set[int]:
        """Where `name` is called: each BL to it, and each B that is not its own loop."""
        own = self.functions[name]
        return {
            at
            for at in self._branches[own.start]
            if self._mnemonics[at] == "bl" or (self._mnemonics[at] == "b" and at not in own)
        }

    def relocated(self, name: str) -> set[int]:
        """The same by relocations; a loop needs none."""
        return self._relocated[self.functions[name].start]

    def beginning(self, name: str) -> tuple[str, bool]:
        """The first instruction of `name`, and whether it branches back there on a condition."""
        own = self.functions[name]
        back = any(at in own and self._mnemonics[at] not in ("b", "bl") for at in self._branches[own.start])
        return self._mnemonics[own.start], back


def compared(unpatched: Path, folder: Path, wanted: Sequence[Redirection], others: Others) -> int:
    """Hold patch.json against binutils, and the image against patch.json; the number of call sites. Raises
    DisagreementError."""
    report = json.loads((folder / "patch.json").read_bytes())["functions"]
    count = 0
    for told in report:
        count += _sites_agree(told, others)
    by_name = {told["name"]: told for told in report if told["kind"] == "redirect"}
    for each in wanted:
        told = by_name[each.old]
        if told["left"]:
            raise DisagreementError(f"{each.old}: left as it is: {told['left']}")
        goes = {int(site["address"], 16): int(site["after"], 16) for site in told["sites"]}
        goal = others.functions[each.to].start
        for at, word in goes.items():
            offset = (word & 0x3FF_FFFF ^ 0x200_0000) - 0x200_0000
            if at + 4 * offset != goal or word >> 26 not in (0b000101, 0b100101):
                raise DisagreementError(f"{each.old}: {word:08x} at {at:#x} does not go to {each.to} at {goal:#x}")
    words = {}
    for function in report:
        for site in (*function["sites"], *function.get("passing", ())):
            words[int(site["address"], 16)] = int(site["after"], 16)
        for place in function.get("rewritten", ()):
            at = int(place["address"], 16)
            for part in range(2):
                words[at + 4 * part] = int(place["after"], 16) >> 32 * part & 0xFFFF_FFFF
    _only(unpatched, folder / "kernel.elf", words)
    return count


def _sites_agree(told: Mapping[str, Any], others: Others) -> int:
    """Raise DisagreementError unless the sites patch.json tells of a function are those that binutils tell."""
    name = told["name"]
    at_calls, at_entry = (where in told["redirected"] for where in ("at its call sites", "its entry"))
    sites = {int(site["address"], 16) for site in told["sites"]}
    if at_entry:
        entry = others.functions[name].start
        if entry not in sites:
            raise DisagreementError(f"{name}: its entry is not among {_hex(sites)}")
        sites.remove(entry)
    expected, relocated = (others.calls(name), others.relocated(name)) if at_calls else (set(), set())
    if not sites == expected == relocated:
        raise DisagreementError(f"{name}: sites {_hex(sites)}, objdump {_hex(expected)}, relocations {_hex(relocated)}")
    return len(sites)


def _only(before: Path, after: Path, words: Mapping[int, int]) -> None:
    """Raise DisagreementError unless the images differ in `words` alone, which the second one has."""
    old, new = Elf.read(before), Elf.read(after)
    changed = set()
    if len(old.data) != len(new.data):
        raise DisagreementError("the image has another size")
    for section in old.sections:
        if not section.in_file:
            continue
        first, second = old.contents(section), new.contents(section)
        if first == second:
            continue
        changed |= {
            section.address + at
            for at in range(0, len(first), 4)
            if first[at : at + 4] != second[at : at + 4] and section.address
        }
    place = identity.place(old) or 0  # filled in when all else is known
    if unknown := changed - words.keys() - set(range(place, place + identity.SIZE)):
        raise DisagreementError(f"changed, and nobody says so: {_hex(unknown)}")
    if wrong := [at for at in words if at in changed and new.word(at) not in (None, words[at])]:
        raise DisagreementError(f"not what patch.json says: {_hex(wrong)}")


def _hex(addresses: Iterable[int]) -> str:
    return "{" + ", ".join(map(hex, sorted(addresses))) + "}"


def _listed(wanted: Sequence[Redirection]) -> str:
    return "\n" + "\n".join(str(each) for each in wanted)
