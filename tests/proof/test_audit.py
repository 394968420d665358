"""Images of other builds, held against the redirects named on the command line: of C, and of Go."""

from __future__ import annotations

import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from buildsys.errors import UserError
from buildsys.formats import a64
from buildsys.formats.elf import Elf
from buildsys.formats.patch import patch, resolve
from buildsys.front.steps import Steps
from buildsys.proof import audit
from buildsys.proof.audit import Redirect, claims, parse
from buildsys.proof.case import Case
from buildsys.proof.claim import Result, Verdict
from buildsys.toolchains import zig
from tests.conftest import copy_project

from .mutants import patched

CALLER = """
#define KEPT __attribute__((noinline, used, section(".text.old")))
static KEPT int work(int x) { return x + 1; }
int other(int);
__attribute__((noinline)) int twice(int x) { return work(work(x) * 3) * 5; }
int begin(int x) { return work(x) + twice(x) * other(x); }
"""
OURS = """
__attribute__((noinline)) int work(int x) { return x + 2; }
int other(int x) { return work(x) * 7; }
"""
POINTER = "int (*const held)(int) __attribute__((used)) = work;\n"
ESCAPES = "void *escape(void) { return (void *)work; }\n"
SCRIPT = """ENTRY(begin)
SECTIONS
{
    .text 0x10000 : { *(.text .text.*) }
    .rodata 0x20000 : { *(.rodata .rodata.*) }
    .data 0x30000 : { *(.data .data.*) }
    /DISCARD/ : { *(.comment .note.GNU-stack .eh_frame .ARM.attributes .llvm_addrsig) }
}
"""
WORK = Redirect("work", "work")
Compile = Callable[..., Elf]


@pytest.fixture
def compile_c(tmp_path: Path) -> Compile:
    """An image of C, made by another compiler, whose function `work` is there twice."""

    def compile_c(caller: str, *flags: str) -> Elf:
        command = [str(zig.program()), "clang", "-target", "aarch64-none-elf", "-O1", "-c"]
        objects = []
        for name, text in (("caller", caller), ("ours", OURS)):
            source, made = tmp_path / f"{name}.c", tmp_path / f"{name}.o"
            source.write_text(text)
            subprocess.run([*command, str(source), "-o", str(made)], check=True)
            objects.append(str(made))
        script, image = tmp_path / "c.ld", tmp_path / "c.elf"
        script.write_text(SCRIPT)
        linker = [str(zig.program()), "ld.lld", "-m", "aarch64elf", *flags]
        subprocess.run([*linker, "-T", str(script), "-o", str(image), *objects], check=True)
        return Elf.read(image)

    return compile_c


def redirected(elf: Elf) -> Elf:
    return Elf(patch(elf, resolve(elf, ["work"])).contents, "patched.elf")


def verdicts(elf: Elf, *redirects: Redirect) -> dict[str, Verdict]:
    made = audit.audit(elf, redirects)
    return {claim.name: claim.check(made) for claim in claims(made)}


def results(elf: Elf, *redirects: Redirect) -> dict[str, Result]:
    return {name: verdict.result for name, verdict in verdicts(elf, *redirects).items()}


def failed(elf: Elf, *redirects: Redirect) -> dict[str, str]:
    return {name: each.figure for name, each in verdicts(elf, *redirects).items() if each.result is Result.FAILED}


def places(elf: Elf, name: str) -> tuple[int, int]:
    """The local function of a name and the global one."""
    found = sorted(elf.symbols.named(name)[name], key=lambda symbol: symbol.is_global)
    return found[0].value, found[1].value


@pytest.mark.parametrize("flags", [("--emit-relocs",), ()])
def test_an_image_of_c_whose_calls_were_redirected_passes(compile_c: Compile, flags: tuple[str, ...]) -> None:
    found = verdicts(redirected(compile_c(CALLER, *flags)), WORK)
    assert found.keys() == {"functions", "calls", "other-ways", "segments"}
    assert all(each.passed for each in found.values()), found
    # Three calls of the old one, and one that was always of the new.
    assert found["calls"].figure.startswith("4 calls of the new functions; " + ("3 of" if flags else "no relocations"))


def test_addresses_name_functions_as_well_as_names_do(compile_c: Compile) -> None:
    elf = redirected(compile_c(CALLER))
    old, new = places(elf, "work")
    assert not failed(elf, Redirect(hex(old), hex(new)))
    assert failed(elf, Redirect(hex(new), hex(old))).keys() == {"calls"}


def test_an_image_that_was_not_redirected_is_seen(compile_c: Compile) -> None:
    elf = compile_c(CALLER, "--emit-relocs")
    seen = verdicts(elf, WORK)
    assert {name for name, each in seen.items() if not each.passed} == {"calls"}
    assert seen["calls"].figure.startswith("work is still called at 0x")
    assert sum("work is still called" in line for line in seen["calls"].details) == 3
    assert {line.split(" in ")[1] for line in seen["calls"].details if " in " in line} == {"begin", "twice"}


def test_a_call_sent_elsewhere_is_seen_by_its_relocation(compile_c: Compile) -> None:
    elf = redirected(compile_c(CALLER, "--emit-relocs"))
    _, new = places(elf, "work")
    twice = elf.symbols.addresses("twice")["twice"]
    site = next(each.address for each in audit.audit(elf, [WORK]).sites if twice <= each.address < twice + 64)
    at = elf.file_offset(site)
    assert at is not None
    data = bytearray(elf.data)
    struct.pack_into("<I", data, at, a64.encode_branch(0x9400_0000, site, new + 4))
    assert failed(Elf(bytes(data)), WORK) == {
        "calls": f"the call of work at {site:#x} in twice goes to {new + 4:#x} in work"
    }


def test_a_pointer_to_the_old_function_is_seen(compile_c: Compile) -> None:
    elf = redirected(compile_c(CALLER + POINTER))
    at = elf.symbols.addresses("held")["held"]
    assert failed(elf, WORK) == {"other-ways": f"a pointer to work is at {at:#x} in held"}


def test_the_old_functions_address_formed_is_seen(compile_c: Compile) -> None:
    elf = redirected(compile_c(CALLER + ESCAPES))
    said = failed(elf, WORK)
    assert said.keys() == {"other-ways"}
    assert said["other-ways"].startswith("the address of work is formed at 0x")
    assert said["other-ways"].endswith(" in escape")


def test_a_redirect_at_the_entry_catches_pointers_too(compile_c: Compile) -> None:
    elf = compile_c(CALLER + POINTER + ESCAPES)
    elf = Elf(patch(elf, [], resolve(elf, ["work"])).contents)
    found = verdicts(elf, WORK)
    assert all(each.passed for each in found.values()), found
    assert found["functions"].figure == "1 redirects, 1 of them at the function's entry"


def test_a_segment_that_may_be_written_and_executed_is_seen(compile_c: Compile) -> None:
    said = failed(redirected(compile_c(CALLER, "--omagic")), WORK)
    assert said.keys() == {"segments"}
    assert "may be both written and executed" in said["segments"]


def test_functions_that_are_not_there_are_named_and_nothing_is_claimed_of_them(compile_c: Compile) -> None:
    elf = redirected(compile_c(CALLER))
    for redirect, said in (
        (Redirect("absent", "other"), "absent: one function of that name expected, found none"),
        (Redirect("work", "other"), "work: one function of that name expected, found 0x"),
        (Redirect("other", "other"), "other: one local and one global function expected, found 0x"),
        (Redirect("0x10", "other"), "0x10: no code is there"),
        (Redirect("0x10002", "other"), "0x10002: no code is there"),
    ):
        found = verdicts(elf, redirect)
        assert found["functions"].figure.startswith(said)
        assert found["calls"].result is found["other-ways"].result is Result.NOT_RUN


def test_a_redirect_nobody_sees_anything_of_is_no_proof(compile_c: Compile) -> None:
    elf = compile_c(CALLER + ESCAPES)
    begin = elf.symbols.addresses("begin")["begin"]
    said = verdicts(elf, Redirect("escape", "begin"))["calls"]
    assert said.result is Result.FAILED
    assert said.figure == f"nothing calls a new function (begin at {begin:#x}): no redirect is to be seen"


@pytest.mark.parametrize("text", ["", "a", "a=", "=b", "=", "0xyz=b", "a=0x"])
def test_half_a_redirect_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="--redirect="):
        parse(text)


def test_without_redirects_an_image_without_barriers_is_refused(compile_c: Compile) -> None:
    with pytest.raises(UserError, match="no write barriers of Go's"):
        audit.audit(compile_c(CALLER), [])


def test_the_reference_kernel_passes_without_a_word(case: Case) -> None:
    found = verdicts(case.elf)
    assert found.keys() == {"functions", "calls", "other-ways", "segments", "checks"}
    assert all(each.passed for each in found.values()), found
    assert found["functions"].evidence.keys() == {f"{name} → {name}" for name in case.plan.collecting}
    assert found["checks"].evidence["checks"] == sum(load.accounted for load in case.flag_loads)


def test_the_unpatched_kernel_fails(case: Case) -> None:
    said = failed(case.before)
    assert said.keys() == {"calls", "checks"}
    assert "is still called at 0x" in said["calls"]
    assert "to which no redirect leads" in said["checks"]


def test_a_call_that_was_left_is_found_without_the_unpatched_image(case: Case, tmp_path: Path) -> None:
    load = next(load for load in case.flag_loads if load.accounted)
    site = load.calls[0]
    name = next(case.names[each.target] for each in case.sites if each.address == site)
    old = case.pairs[name].old
    word = case.elf.word(site)
    assert old
    assert word
    mutant = patched(case, tmp_path, {site: struct.pack("<I", a64.encode_branch(word, site, old.value))})
    said = failed(mutant.elf)
    assert said.keys() == {"calls", "checks"}
    assert said["calls"].startswith(f"{name} is still called at {site:#x} in ")
    assert f"at {site:#x}, {name} at {old.value:#x}, to which no redirect leads" in said["checks"]


def doit(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "doit", "verify", *arguments], cwd=folder, capture_output=True, text=True, check=False
    )


def test_on_the_command_line_nothing_is_built_and_words_stand_in_any_order(
    compile_c: Compile, tmp_path: Path, built: Steps
) -> None:
    project = copy_project(tmp_path / "project")
    image = tmp_path / "ours.elf"
    image.write_bytes(redirected(compile_c(CALLER)).data)
    for arguments in ((str(image), "--redirect=work=work"), ("--redirect=work=work", str(image))):
        done = doit(project, *arguments)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(f"{image}\n 1 passed")
        assert done.stdout.splitlines()[-1].startswith("4 of 4 claims hold")
    both = doit(project, str(image), "--redirect=work=work", str(tmp_path / "c.elf"))
    assert both.returncode == 1
    assert "work is still called at 0x" in both.stdout
    assert both.stderr == "error: 1 of 8 claims failed\n"
    assert doit(project, str(built.image)).returncode == 0
    assert not (project / "build").exists() or not any((project / "build").glob("*.elf"))


def test_on_the_command_line_mistakes_are_one_message(tmp_path: Path) -> None:
    project = copy_project(tmp_path / "project")
    for arguments, said in (
        (["absent.elf"], "absent.elf: cannot be read"),
        (["dodo.py"], "not an ELF file"),
        (["absent.elf", "--redirect=a"], "--redirect=a names no two functions"),
        (["absent.elf", "--claim=3"], "--claim is about the image of this project"),
        (["absent.elf", "--no-such"], "there is no option --no-such"),
    ):
        done = doit(project, *arguments)
        assert done.returncode in (1, 3)
        assert said in done.stderr
        assert "Traceback" not in done.stderr
        assert done.stdout == ""
