"""ELF files with something wrong in them, and what becomes of each: by number, so that any can be made again."""

from __future__ import annotations

import gc
import random
import resource
import signal
import struct
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType

from buildsys.config.board import Board
from buildsys.errors import UserError
from buildsys.formats.elf import SHT_RELA, SHT_SYMTAB, Elf
from buildsys.formats.patch import patch, resolve
from buildsys.go.runtime import Plan
from buildsys.proof import audit
from buildsys.proof.case import Case
from buildsys.proof.claims import CLAIMS
from tests.proof.mutants import STATIC

TIME_LIMIT = 20  # seconds for one file; the slowest take one
RESIDENT = 1 << 30  # bytes a process may ever have needed
RESERVED = 16 << 30  # of address space: the emulator reserves more than it uses, and ends the process if it cannot
HEADER, SECTION, SEGMENT, SYMBOL, RELOCATION = 64, 64, 56, 24, 24
# Offset and size in bytes of each field: System V ABI, chapter 4.
FIELDS = {
    HEADER: ((4, 1), (5, 1), (16, 2), (18, 2), (24, 8), (32, 8), (40, 8), (52, 2), (54, 2), (56, 2), (58, 2), (60, 2),
             (62, 2)),
    SECTION: ((0, 4), (4, 4), (8, 8), (16, 8), (24, 8), (32, 8), (40, 4), (44, 4), (48, 8), (56, 8)),
    SEGMENT: ((0, 4), (4, 4), (8, 8), (16, 8), (24, 8), (32, 8), (40, 8), (48, 8)),
    SYMBOL: ((0, 4), (4, 1), (5, 1), (6, 2), (8, 8), (16, 8)),
    RELOCATION: ((0, 8), (8, 4), (12, 4), (16, 8)),
}  # fmt: skip


@dataclass(frozen=True)
class Seed:
    """A good set of files: image, unpatched image, Go object; `entry` and `functions` name what is in them."""

    name: str
    image: Path
    unpatched: Path
    go_object: Path
    board: Board
    entry: str
    plan: Plan
    redirects: tuple[str, ...]

    def case(self) -> Case:
        """The case of the good files."""
        return Case(self.image, self.unpatched, self.go_object, self.board, self.entry, self.image.parent, 1.0, _same)


@dataclass(frozen=True)
class Outcome:
    """What became of one file: "verdict", "refused" (one message), or what must not be: "hang", "crash", "changed",
    "memory"."""

    number: int
    seed: str
    what: str
    said: str = ""


def _same(folder: Path) -> Path:
    raise UserError("not built again")


def outcome(seeds: Sequence[Seed], key: int, number: int, folder: Path) -> Outcome:
    """Make the file `number` of the campaign `key`, and judge it; `folder` is the caller's own."""
    chance = random.Random(f"{key}/{number}")
    seed = chance.choices(seeds, [weight(each) for each in seeds])[0]
    which = chance.choice(("image", "image", "image", "both", "go_object"))
    files = {"image": seed.image, "unpatched": seed.unpatched, "go_object": seed.go_object}
    wrong = mutated(files["go_object" if which == "go_object" else "image"].read_bytes(), chance)
    paths = {name: folder / f"{name}.elf" for name in files}
    contents = {name: path.read_bytes() for name, path in files.items()}
    for name in ("image", "unpatched") if which == "both" else (which,):
        contents[name] = wrong
    for name, path in paths.items():
        path.write_bytes(contents[name])
    before = sorted(folder.iterdir())
    signal.signal(signal.SIGPROF, _too_long)
    signal.setitimer(signal.ITIMER_PROF, TIME_LIMIT)  # of this process alone: others may keep the machine busy
    try:
        said = judge(seed, paths)
    except Hang:
        return Outcome(number, seed.name, "hang", traceback.format_exc(limit=-6))
    except BaseException:
        return Outcome(number, seed.name, "crash", traceback.format_exc(limit=-6))
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        gc.collect()  # an emulator is part of a cycle, and reserves much while it lives
    kept = all(path.read_bytes() == contents[name] for name, path in paths.items())
    if not kept or sorted(folder.iterdir()) != before:
        return Outcome(number, seed.name, "changed", "a file was changed, or one more is there")
    if _needed() > RESIDENT:
        return Outcome(
            number, seed.name, "memory", f"more than {RESIDENT} bytes were needed, for this file or one before"
        )
    return Outcome(number, seed.name, "refused" if said else "verdict", said)


def _needed() -> int:
    """The most memory this program ever had, in bytes; getrusage(2) counts that of who started it, too."""
    status = Path("/proc/self/status").read_text("ascii")
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


class Hang(BaseException):
    """Time is up; nothing may catch it."""


def _too_long(number: int, frame: FrameType | None) -> None:
    raise Hang


def judge(seed: Seed, paths: Mapping[str, Path]) -> str:
    """Everything that is done to files nobody vouches for. The message, if there is one, that says the file is none."""
    said = ""
    for attempt in (_patch, _audit, _audit_redirects):
        try:
            attempt(seed, paths["image"])
        except UserError as error:
            said = error.message or "an empty message"
    case = replace(seed.case(), image=paths["image"], unpatched=paths["unpatched"], go_object=paths["go_object"])
    for claim in CLAIMS:
        if claim.name in STATIC:
            with suppress(UserError):
                claim.check(case)
    return said


def _patch(seed: Seed, image: Path) -> None:
    elf = Elf.read(image)
    patch(elf, resolve(elf, seed.plan.called), resolve(elf, seed.plan.entered))


def _audit(seed: Seed, image: Path) -> None:
    _checked(audit.audit(Elf.read(image), []))


def _audit_redirects(seed: Seed, image: Path) -> None:
    _checked(audit.audit(Elf.read(image), [audit.parse(each) for each in seed.redirects]))


def _checked(made: audit.Audit) -> None:
    for claim in audit.claims(made):
        with suppress(UserError):
            claim.check(made)


def weight(seed: Seed) -> float:
    """How often a seed is taken: a large image takes long."""
    return 0.04 if seed.image.stat().st_size > 1 << 20 else 1.0


def mutated(data: bytes, chance: random.Random) -> bytes:
    """`data`, an ELF file, with one to four things wrong."""
    made = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        chance.choice(CHANGES)(made, Elf(data), chance)
    return bytes(made)


def _number(chance: random.Random, size: int, old: int, length: int) -> int:
    """A number for a field of `size` bytes that has `old`, in a file of `length` bytes."""
    bits = 8 * size
    chosen = chance.choice((
        0, 1, old + 1, old - 1, old + 4, old ^ 1 << chance.randrange(bits), old + chance.choice((8, 4096, -4096)),
        length, length - 1, old << 1, 1 << bits - 1, (1 << bits) - 1, (1 << bits) - 8, (1 << 31) - 1,
        chance.getrandbits(bits), chance.randrange(length), 0x20_0000, 0x4000_0000,
    ))  # fmt: skip
    return chosen & (1 << bits) - 1


def _field(made: bytearray, at: int, kind: int, chance: random.Random) -> None:
    offset, size = chance.choice(FIELDS[kind])
    if at + offset + size <= len(made):
        old = int.from_bytes(made[at + offset : at + offset + size], "little")
        made[at + offset : at + offset + size] = _number(chance, size, old, len(made)).to_bytes(size, "little")


def _header(made: bytearray, good: Elf, chance: random.Random) -> None:
    _field(made, 0, HEADER, chance)


def _section(made: bytearray, good: Elf, chance: random.Random) -> None:
    (table,) = struct.unpack_from("<Q", good.data, 40)
    _field(made, table + SECTION * chance.randrange(len(good.sections)), SECTION, chance)


def _segment(made: bytearray, good: Elf, chance: random.Random) -> None:
    if good.segments:
        (table,) = struct.unpack_from("<Q", good.data, 32)
        _field(made, table + SEGMENT * chance.randrange(len(good.segments)), SEGMENT, chance)


def _entry(made: bytearray, good: Elf, chance: random.Random) -> None:
    """A symbol, or a relocation."""
    kind, size = chance.choice(((SHT_SYMTAB, SYMBOL), (SHT_RELA, RELOCATION)))
    tables = [section for section in good.sections if section.kind == kind and section.size]
    if tables:
        table = chance.choice(tables)
        for _ in range(chance.choice((1, 1, 5, 50))):
            _field(made, table.offset + size * chance.randrange(table.size // size), size, chance)


def _named(made: bytearray, good: Elf, chance: random.Random) -> None:
    """A symbol that matters."""
    table = next(section for section in good.sections if section.kind == SHT_SYMTAB)
    symbols = list(good.symbols.all())
    telling = ("runtime.", "main.", "__", "_start", "buildsys.")
    numbers = [at for at, each in enumerate(symbols, 1) if each.name.startswith(telling)]
    _field(made, table.offset + SYMBOL * chance.choice(numbers), SYMBOL, chance)


def _truncate(made: bytearray, good: Elf, chance: random.Random) -> None:
    edges = [section.offset + chance.choice((0, 1, section.size)) for section in good.sections]
    del made[chance.choice((*edges, chance.randrange(len(made) + 1), HEADER, 20)) :]


def _bytes(made: bytearray, good: Elf, chance: random.Random) -> None:
    """Bytes anywhere."""
    for _ in range(chance.choice((1, 8, 200)) if made else 0):
        made[chance.randrange(len(made))] = chance.randrange(256)


def _words(made: bytearray, good: Elf, chance: random.Random) -> None:
    """Instructions, of any kind."""
    code = chance.choice(good.code)
    for _ in range(chance.choice((1, 8, 200))):
        at = code.offset + 4 * chance.randrange(code.size // 4)
        if at + 4 <= len(made):
            made[at : at + 4] = chance.randbytes(4)


def _move(made: bytearray, good: Elf, chance: random.Random) -> None:
    """One stretch over another, or zeros, or one that was not there."""
    if made:
        size = chance.choice((8, 64, 4096))
        source, goal = chance.randrange(len(made)), chance.randrange(len(made))
        piece = chance.choice((made[source : source + size], bytes(min(size, len(made) - goal))))
        made[goal : goal + chance.choice((0, len(piece)))] = piece


CHANGES: tuple[Callable[[bytearray, Elf, random.Random], None], ...] = (
    _header, _section, _section, _segment, _segment, _entry, _entry, _named, _named, _truncate, _bytes, _words, _move,
)  # fmt: skip


def bounded() -> None:
    """Limit this process's memory."""
    resource.setrlimit(resource.RLIMIT_AS, (RESERVED, RESERVED))
