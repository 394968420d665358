"""`buildsys patch`: what it writes and says, and what it refuses in one message, leaving everything as it was."""

from __future__ import annotations

import json
import os
import random
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from buildsys.errors import UserError
from buildsys.formats import a64
from buildsys.formats.callsites import call_sites
from buildsys.formats.elf import ET_DYN, ET_REL, Elf
from buildsys.formats.veneers import final
from buildsys.front.program import main
from buildsys.patching import redirect
from buildsys.toolchains import choice
from tests.campaigns.fuzzing import mutated
from tests.formats.images import ALLOC, FUNC, GLOBAL, LOCAL, NOTYPE, OBJECT, WRITE, Name, Part, image, words

BASE, DATA = 1 << 21, 1 << 30
BL, NOP = 0x9400_0000, 0xD503_201F
OLD, NEW, SITES = BASE + 16, BASE + 24, (BASE, BASE + 4)
IFUNC = 10
Files = tuple[Path, Path]


def code() -> bytes:
    calls = [a64.encode_branch(BL, site, OLD) for site in SITES]
    return words(*calls, a64.RET, NOP, NOP, a64.RET, NOP, a64.RET)


NAMES = [Name("caller", BASE, 16), Name("old", OLD, 8, FUNC, GLOBAL), Name("new", NEW, 8, FUNC, GLOBAL)]
POINTER = Part(".data", DATA, OLD.to_bytes(8, "little"), ALLOC | WRITE)
TABLE = Name("table", DATA, 8, OBJECT, GLOBAL, 2)


def made(*names: Name, text: bytes = b"", **fields: int) -> bytes:
    return image([Part(".text", BASE, text or code()), POINTER], [*NAMES, TABLE, *names], **fields)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    source = tmp_path / "in.elf"
    source.write_bytes(made())
    source.chmod(0o750)
    return source, tmp_path / "out.elf"


def patch(files: Files, *words: str) -> int:
    return main(["patch", *map(str, files), *(words or ("--redirect", "old=new"))])


def leftovers(files: Files) -> set[str]:
    return {each.name for each in files[0].parent.iterdir()} - {"in.elf", "out.elf"}


def test_it_writes_the_patched_image_and_says_what_it_did(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    assert patch(files) == 0
    source, output = files
    assert {site.address for site in call_sites(Elf.read(output), {NEW})} == set(SITES)
    assert output.stat().st_mode & 0o777 == 0o750
    assert source.read_bytes() == made()
    assert leftovers(files) == set()
    said = capsys.readouterr()
    assert said.out.splitlines() == [
        "old → new: 2 calls redirected",
        f"  {BASE:#x} in caller",
        f"  {BASE + 4:#x} in caller",
        "  still lead to old (--mode entry catches what is not data):",
        f"    {DATA:#x} in table: a pointer in data",
        "copies the compiler put into callers (inlining) cannot be seen",
        f"{output} written",
    ]
    assert said.err == ""


def test_json_has_every_site_with_its_words(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    assert patch(files, "--redirect", "old=new", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["written"] == str(files[1])
    (each,) = told["redirects"]
    before, after = Elf.read(files[0]), Elf.read(files[1])
    assert [site["address"] for site in each["sites"]] == [hex(site) for site in SITES]
    for site in each["sites"]:
        address = int(site["address"], 16)
        assert site["function"] == "caller"
        assert (int(site["before"], 16), int(site["after"], 16)) == (before.word(address), after.word(address))
    assert (each["old"], each["new"], each["mode"]) == ("old", "new", "calls")
    assert (each["old_address"], each["new_address"]) == (hex(OLD), hex(NEW))
    assert each["not_reached"] == [{"kind": "pointer", "address": hex(DATA), "in": "table"}]


def test_a_dry_run_says_the_same_and_writes_nothing(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    assert patch(files, "--redirect", "old=new", "--dry-run") == 0
    assert not files[1].exists()
    dry = capsys.readouterr().out
    assert patch(files) == 0
    assert dry.splitlines()[:-1] == capsys.readouterr().out.splitlines()[:-1]
    assert dry.splitlines()[-1] == "dry run: nothing written"
    assert patch(files, "--redirect", "old=new", "--dry-run", "--json") == 0
    assert json.loads(capsys.readouterr().out)["written"] is None


def test_an_image_may_replace_itself(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    source = files[0]
    assert patch((source, source)) == 0
    once = source.read_bytes()
    assert once == redirect(made(), {"old": "new"}).contents
    capsys.readouterr()
    assert patch((source, source)) == 0
    assert source.read_bytes() == once
    assert "it was patched already: nothing changed" in capsys.readouterr().out


def test_what_a_link_leads_to_is_written(files: Files) -> None:
    source, link = files
    target = source.parent / "target.elf"
    link.symlink_to(target)
    assert patch(files) == 0
    assert link.is_symlink()
    assert target.read_bytes() == redirect(made(), {"old": "new"}).contents


def test_names_of_one_place_are_told(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    files[0].write_bytes(made(Name("other_name", OLD, 8)))
    assert patch(files) == 0
    assert "  the same function, redirected with it: other_name" in capsys.readouterr().out.splitlines()


def test_the_same_name_twice_is_the_local_function_and_the_global_one(files: Files) -> None:
    names = [Name("caller", BASE, 16), Name("f", OLD, 8), Name("f", NEW, 8, FUNC, GLOBAL)]
    files[0].write_bytes(image([Part(".text", BASE, code())], names))
    assert patch(files, "--redirect", "f=f") == 0
    assert {site.address for site in call_sites(Elf.read(files[1]), {NEW})} == set(SITES)


def test_data_among_code_that_looks_like_a_call_is_left_and_told(
    files: Files, capsys: pytest.CaptureFixture[str]
) -> None:
    look = words(a64.encode_branch(BL, BASE + 32, OLD))
    files[0].write_bytes(made(Name("$x", BASE, 0, NOTYPE), Name("$d.7", BASE + 32, 0, NOTYPE), text=code() + look))
    assert patch(files) == 0
    assert Elf.read(files[1]).word(BASE + 32) == int.from_bytes(look, "little")
    assert f"    {BASE + 32:#x}: data among code that looks like a call, and was left" in capsys.readouterr().out


def test_a_mark_of_data_ends_where_the_next_function_begins(files: Files) -> None:
    files[0].write_bytes(made(Name("$d", BASE - 4, 0, NOTYPE)))
    assert patch(files) == 0


# ---- what cannot be done ----


def changed(at: int, kind: str, value: int) -> bytes:
    data = bytearray(made())
    struct.pack_into(f"<{kind}", data, at, value)
    return bytes(data)


def stripped() -> bytes:
    data = bytearray(made())
    elf = Elf(bytes(data))
    (sections,) = struct.unpack_from("<Q", data, 40)
    for section in elf.sections:
        if section.name == ".symtab":
            struct.pack_into("<I", data, sections + 64 * section.index + 4, 0)
    return bytes(data)


WRONG: dict[str, tuple[bytes, str]] = {
    "no ELF": (b"#!/bin/sh\n", "not an ELF file"),
    "nothing": (b"", "not an ELF file"),
    "truncated": (made()[:200], "truncated"),
    "x86-64": (changed(18, "H", 62), "made for machine 62 (x86-64), not for AArch64"),
    "32 bits": (changed(4, "B", 1), "a 32-bit ELF file"),
    "big-endian": (changed(5, "B", 2), "a big-endian ELF file"),
    "an object": (made(kind=ET_REL), "is a relocatable object"),
    "a core": (made(kind=4), "is no executable"),
    "stripped": (stripped(), "has no symbol table"),
    "two": (made(Name("old", BASE, 4)), "old is 2 functions: "),
    "IFUNC": (made(Name("old", BASE, 4, IFUNC)), "old at 0x200000 is an indirect function (IFUNC)"),
    "imported": (
        image([Part(".text", BASE, code())], [NAMES[0], NAMES[2], Name("old", 0, 0, FUNC, GLOBAL, 0)]),
        "old is imported",
    ),
    "in no code": (
        image([Part(".text", BASE, code())], [NAMES[0], NAMES[2], Name("old", DATA, 4, FUNC, GLOBAL)]),
        "old at 0x40000000 is in no code of this file",
    ),
    "calls itself": (
        made(text=code()[:24] + words(a64.encode_branch(BL, NEW, OLD), a64.RET)),
        "new calls old at 0x200018, and is put in its place",
    ),
    "nobody calls it": (made(text=words(*[NOP] * 8)), "no call of old was found (1 other way to it)"),
    "no room": (made(Name("original.old", BASE + 8, 4)), "original.old at 0x200008 has no room"),
}


@pytest.mark.parametrize("what", WRONG)
def test_an_image_it_cannot_patch_is_one_message(files: Files, capsys: pytest.CaptureFixture[str], what: str) -> None:
    contents, said = WRONG[what]
    source, output = files
    source.write_bytes(contents)
    output.write_bytes(b"what was there")
    assert patch(files) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith(f"error: {source}: ")
    assert said in shown.err
    assert output.read_bytes() == b"what was there"
    assert leftovers(files) == set()


@pytest.mark.parametrize(
    ("redirects", "said"),
    [
        (["odl=new"], "there is no function odl\n\nhint: did you mean old?"),
        (["old=nwe"], "there is no function nwe\n\nhint: did you mean new?"),
        (["old"], "--redirect old: names no two functions"),
        (["=new"], "names no two functions"),
        (["old=table"], "there is no function table"),
        (["old=old"], "there are 0 and 1"),
        (["old=0x200010"], "are the same function, at 0x200010"),
        (["old=0x200012"], "no code is at 0x200012"),
        (["old=0x40000000"], "no code is at 0x40000000"),
        (["old=0x20001c"], "0x20001c is in the middle of new"),
        (["old=0xyz"], "0xyz is no address"),
        (["old=new", "old=caller"], "old cannot be redirected twice"),
        (["old=new", "new=caller"], "old is redirected to new, which is redirected itself"),
    ],
)
def test_a_redirect_it_cannot_make_is_one_message(
    files: Files, capsys: pytest.CaptureFixture[str], redirects: list[str], said: str
) -> None:
    assert patch(files, *(word for each in redirects for word in ("--redirect", each))) == 1
    assert said in capsys.readouterr().err
    assert not files[1].exists()


def test_names_that_are_no_text_are_one_message_or_shown_as_they_can_be(files: Files) -> None:
    strange = files[0].parent / "out\udcff.elf"
    command = [sys.executable, "-c", "from buildsys.front.program import main\nraise SystemExit(main())", "patch"]
    done = subprocess.run([*command, files[0], files[1], "--redirect", b"\xff=new"], capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"there is no function \\udcff" in done.stderr
    done = subprocess.run(
        [*command, files[0], strange, "--redirect", "old=new"],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        check=True,
    )
    assert b"\\udcff.elf written" in done.stdout
    assert strange.exists()


def test_files_that_cannot_be_read_or_written_are_one_message(
    files: Files, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    source, _ = files
    pipe, circle = tmp_path / "pipe", tmp_path / "circle"
    os.mkfifo(pipe)
    circle.symlink_to(circle)
    for wrong, said in (
        ((tmp_path / "absent.elf", tmp_path / "o"), "absent.elf: cannot be read: No such file"),
        ((tmp_path, tmp_path / "o"), "is not a regular file"),
        ((pipe, tmp_path / "o"), "pipe: is not a regular file"),
        ((source, tmp_path), "is not a regular file"),
        ((source, pipe), "is not a regular file"),
        ((source, tmp_path / "absent" / "o"), "cannot be written: No such file"),
        ((source, source / "o"), "cannot be written: Not a directory"),
        ((source, tmp_path / ("o" * 300)), "cannot be written: File name too long"),
        ((source, circle), "circle: "),
    ):
        assert patch(wrong) == 1, wrong
        assert said in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("words", [[], ["--redirect"], ["--mode", "all", "--redirect", "a=b"]])
def test_a_command_line_that_says_too_little_is_status_two(files: Files, words: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["patch", *map(str, files), *words])
    assert ended.value.code == 2


@pytest.mark.parametrize("words", [["--help"], ["patch", "--help"]])
def test_help_says_how(capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert "patch" in shown
    if words[0] == "patch":
        for said in ("--redirect OLD=NEW", "--mode", "--dry-run", "--json", "original.OLD", "examples:"):
            assert said in shown


def test_nothing_heavy_is_loaded(files: Files) -> None:
    """Neither what draws tables, nor what emulates, nor what builds."""
    script = (
        "import sys\nfrom buildsys.front.program import main\n"
        f"main(['patch', {str(files[0])!r}, {str(files[1])!r}, '--redirect', 'old=new'])\n"
        "print(*sorted({name.split('.')[0] for name in sys.modules} | set(sys.modules)), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = set(done.stderr.split())
    assert "buildsys.patching" in loaded
    assert not loaded & {"rich", "unicorn", "elftools", "capstone", "jinja2", "doit", "hashlib", "subprocess"}


# ---- dynamic images ----

DYNAMIC = """
        .text
        .globl  caller, old, new
        .type   caller, %function
caller: bl      old
        ret
        .size   caller, . - caller
        .type   old, %function
old:    ret
        .size   old, . - old
        .type   new, %function
new:    ret
        .size   new, . - new
        .data
        .balign 8
        .globl  table
        .type   table, %object
table:  .quad   old
        .size   table, 8
"""


@pytest.fixture(scope="module", params=["zig", "gnu"])
def dynamic(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A shared object, one that keeps its calls to itself, and an executable that can lie anywhere."""
    folder = tmp_path_factory.mktemp("dynamic")
    (folder / "s.s").write_text(DYNAMIC)
    tools = choice.find(request.param)
    tools.assemble(folder / "s.s", folder / "s.o")
    linker = [word for word in tools.linker if word not in ("-static", "--orphan-handling=error")]
    made = {}
    for name, flags in {"shared": ["-shared"], "own": ["-shared", "-Bsymbolic"], "pie": ["-pie"]}.items():
        made[name] = folder / f"{name}.elf"
        command = [*linker, *flags, "-e", "caller", "-o", str(made[name]), str(folder / "s.o")]
        subprocess.run(command, check=True, capture_output=True)
        assert Elf.read(made[name]).kind == ET_DYN
    return made


@pytest.mark.parametrize("name", ["own", "pie"])
def test_an_image_that_can_lie_anywhere_is_patched(dynamic: dict[str, Path], name: str) -> None:
    report = redirect(dynamic[name], {"old": "new"})
    (told,) = report.redirects
    assert [site.function for site in told.sites] == ["caller"]
    table = Elf.read(dynamic[name]).symbols.addresses("table")["table"]
    assert [(way.kind, way.address) for way in told.not_reached] == [("relocation", table)]


def test_calls_through_the_linkage_table_are_refused_but_not_at_the_entry(dynamic: dict[str, Path]) -> None:
    with pytest.raises(UserError, match=r"calls of old go through the procedure linkage table \(PLT\)"):
        redirect(dynamic["shared"], {"old": "new"})
    (told,) = redirect(dynamic["shared"], {"old": "new"}, "entry").redirects
    assert told.entry is not None


# ---- damaged files ----


def right(before: Elf, report: bytes, sites: set[int], new: int) -> None:
    """Every word is what it was, but for calls, which go to `new`."""
    after = Elf(report)
    assert len(report) == len(before.data)
    different = {at for at in range(0, len(report), 4) if report[at : at + 4] != before.data[at : at + 4]}
    offsets = {
        section.offset + site - section.address: site for section in before.code for site in sites if site in section
    }
    assert different <= offsets.keys()
    for offset, site in offsets.items():
        goal = a64.branch_target(int.from_bytes(report[offset : offset + 4], "little"), site)
        assert goal is not None
        assert final(after, goal) == new


def fuzz(key: int, count: int) -> tuple[int, int]:
    done = refused = 0
    seed = made(Name("_start", BASE, 16), Name("$x", BASE, 0, NOTYPE), Name("$d", BASE + 12, 0, NOTYPE, LOCAL))
    for number in range(count):
        data = mutated(seed, random.Random(f"{key}/{number}"))
        try:
            report = redirect(data, {"old": "new"})
        except UserError:
            refused += 1
            continue
        done += 1
        (told,) = report.redirects
        right(Elf(data), report.contents, {site.address for site in told.sites}, told.new_address)
    return done, refused


def test_a_damaged_image_is_refused_or_patched_rightly() -> None:
    done, refused = fuzz(20_240_301, 1500)
    assert done > 100
    assert refused > 100


@pytest.mark.campaign
def test_ten_thousands_of_damaged_images_are_refused_or_patched_rightly() -> None:
    done, refused = fuzz(random.SystemRandom().getrandbits(32), 60_000)
    assert done
    assert refused
