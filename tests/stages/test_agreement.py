"""A redirect that does not agree, comes back to itself or misses an inlined copy is refused, unless it is allowed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from buildsys.config.redirects import Redirection
from buildsys.errors import UserError
from buildsys.formats.elf import Elf
from buildsys.formats.modes import Mode
from buildsys.front.steps import Steps
from buildsys.stages import agreement
from tests.agreeing import linked, patched


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> Steps:
    """The kernel of tests/kernels/agreeing, linked and not patched."""
    return linked(tmp_path_factory.mktemp("agreeing") / "kernel")


def line(text: str) -> int:
    """The line of the kernel's main.go that `text` is in; there is one."""
    lines = (Path(__file__).parent.parent / "kernels/agreeing/src/main.go").read_text().splitlines()
    (found,) = [number for number, each in enumerate(lines, 1) if text in each]
    return found


def refused(steps: Steps, folder: Path, *wanted: Redirection) -> UserError:
    with pytest.raises(UserError) as caught:
        patched(steps, folder, *wanted)
    assert not (folder / "kernel.elf").exists()
    assert not (folder / "patch.json").exists()
    return caught.value


def remarks(steps: Steps, folder: Path, *wanted: Redirection) -> str:
    return str(patched(steps, folder, *wanted)["remark"])


def report(folder: Path, name: str) -> dict[str, Any]:
    """What patch.json says of the redirect of `name`."""
    functions: list[dict[str, Any]] = json.loads((folder / "patch.json").read_text())["functions"]
    (found,) = [each for each in functions if each["name"] == name and each["kind"] == "redirect"]
    return found


def test_functions_that_agree_are_nothing_to_remark(steps: Steps, tmp_path: Path) -> None:
    assert remarks(steps, tmp_path, Redirection("main.increment", "main.same")) == ""
    said = report(tmp_path, "main.increment")
    assert (said["takes"], said["new_takes"]) == ("(x int) int", "(x int) int")
    assert said["mismatches"] == said["differences"] == said["recursion"] == said["inlined"] == said["allow"] == []


@pytest.mark.parametrize("mode", Mode)
def test_functions_that_do_not_agree_are_refused(steps: Steps, tmp_path: Path, mode: Mode) -> None:
    error = refused(steps, tmp_path, Redirection("main.increment", "main.narrow", mode, place="here"))
    assert error.message == (
        f"here: main.increment takes (x int) int, main.narrow (src/main.go:{line('func narrow')}) takes (x int32) int: "
        "x is int, not int32 (8 and 4 bytes)"
    )
    assert error.hint == (
        'make them alike, or allow it: "main.increment" = { to = "main.narrow", allow = "signature" }'
    )


def test_a_directive_is_told_how_it_allows_it(steps: Steps, tmp_path: Path) -> None:
    asked = Redirection("main.increment", "main.narrow", allow=("inlined",), place="src/main.go:7")
    assert refused(steps, tmp_path, asked).hint.endswith("allow=inlined,signature in the directive")


def test_a_mismatch_that_is_allowed_is_a_remark(steps: Steps, tmp_path: Path) -> None:
    said = remarks(steps, tmp_path, Redirection("main.increment", "main.float", allow=("signature",)))
    assert said.endswith("x is int, not float64; allowed")
    assert report(tmp_path, "main.increment")["mismatches"] == ["x is int, not float64"]


def test_what_is_not_known_is_said_once(steps: Steps, tmp_path: Path) -> None:
    said = remarks(
        steps,
        tmp_path,
        Redirection("main.increment", "replaceWord"),
        Redirection("main.unreached", "replaceWord"),
        Redirection("runtime.memmove", "main.move"),
    )
    assert said == (
        "what these take and give is not known, that it agrees is for you to see to: "
        "replaceWord (in no language known here), runtime.memmove (in Go's assembly)"
    )
    assert report(tmp_path, "main.increment")["takes"] == "(x int) int"
    assert report(tmp_path, "main.increment")["new_takes"] is None


def test_assembly_of_gos_that_is_passed_another_number_of_bytes_is_refused(steps: Steps, tmp_path: Path) -> None:
    error = refused(steps, tmp_path, Redirection("runtime.memmove", "main.moveNot"))
    assert "runtime.memmove takes and gives 24 bytes, main.moveNot 16" in error.message


def test_another_name_for_the_same_is_a_remark(steps: Steps, tmp_path: Path) -> None:
    said = remarks(steps, tmp_path, Redirection("main.increment", "main.unsigned"))
    assert said.startswith("main.increment → main.unsigned: x is int, not uint: passed alike")


def test_what_is_allowed_and_right_is_remarked(steps: Steps, tmp_path: Path) -> None:
    said = remarks(steps, tmp_path, Redirection("main.increment", "main.same", allow=("recursion", "signature")))
    assert said.splitlines() == [
        f"main.increment: nothing is wrong that `{each}` would have to allow" for each in ("recursion", "signature")
    ]


# `main.back` and `main.direct` count as able to run only where the kernel comes to them: as replacements they do.
def test_a_replacement_that_calls_what_it_replaces_is_refused(steps: Steps, tmp_path: Path) -> None:
    error = refused(steps, tmp_path, Redirection("main.increment", "main.direct"))
    assert error.message.startswith("main.direct calls main.increment at 0x")
    assert error.message.endswith("and is put in its place: it would call itself for ever")
    assert "call the original as original.main.increment" in error.hint


@pytest.mark.parametrize("mode", Mode)
def test_a_replacement_that_leads_back_to_what_it_replaces_is_refused(steps: Steps, tmp_path: Path, mode: Mode) -> None:
    error = refused(steps, tmp_path, Redirection("main.increment", "main.back", mode))
    assert error.message.endswith(
        "it may call itself for ever:\n  main.back\n  → main.outer\n  → main.increment, which is main.back"
    )


def test_two_replacements_that_lead_to_each_other_are_refused(steps: Steps, tmp_path: Path) -> None:
    error = refused(
        steps, tmp_path, Redirection("main.increment", "main.back"), Redirection("main.outer", "main.direct")
    )
    # increment is back now, which calls outer, which is direct, which calls increment.
    assert error.message.endswith("  main.back\n  → main.direct\n  → main.increment, which is main.back")


def test_a_way_back_that_ends_in_a_panic_is_none(steps: Steps, tmp_path: Path) -> None:
    assert remarks(steps, tmp_path, Redirection("main.increment", "main.failing")) == ""
    assert report(tmp_path, "main.increment")["recursion"] == []


def test_a_way_back_that_is_allowed_is_a_remark(steps: Steps, tmp_path: Path) -> None:
    said = remarks(steps, tmp_path, Redirection("main.increment", "main.back", allow=("recursion",)))
    assert said == "main.back may come back to itself: main.back → main.outer → main.increment; allowed"
    assert report(tmp_path, "main.increment")["recursion"] == ["main.back", "main.outer", "main.increment"]


def test_copies_that_can_run_are_refused_with_file_and_line(steps: Steps, tmp_path: Path) -> None:
    error = refused(steps, tmp_path, Redirection("main.inlined", "main.same"))
    entry, outer = line("int32(increment(41)"), line("func outer")
    assert error.message.splitlines() == [
        "main.inlined was inlined in 2 places:",
        f"  src/main.go:{entry} in main.KernelMain",
        f"  src/main.go:{outer} in main.outer",
        "no redirect reaches that, and the kernel can run it",
    ]
    assert error.hint == (
        '`//go:noinline` above it prevents that, or gcflags = "-l", '
        'or allow it: "main.inlined" = { to = "main.same", allow = "inlined" }'
    )


def test_one_copy_is_told_in_one_line(steps: Steps, tmp_path: Path) -> None:
    error = refused(steps, tmp_path, Redirection("main.alsoInlined", "main.same"))
    place = f"src/main.go:{line('int32(increment(41)')}"
    assert error.message.splitlines()[0] == f"main.alsoInlined was inlined at {place} in main.KernelMain"


def test_copies_that_are_allowed_are_remarked_and_reported(steps: Steps, tmp_path: Path) -> None:
    said = remarks(steps, tmp_path, Redirection("main.inlined", "main.same", allow=("inlined",)))
    assert "main.inlined was inlined in 2 places:" in said.splitlines()
    assert said.splitlines()[-1] == 'allowed; `//go:noinline` above it prevents that, or gcflags = "-l"'
    found = report(tmp_path, "main.inlined")["inlined"]
    assert [each["inside"] for each in found] == ["main.KernelMain", "main.outer"]
    assert all(each["reached"] for each in found)


def test_copies_the_kernel_does_not_come_to_are_a_remark(steps: Steps, tmp_path: Path) -> None:
    said = remarks(steps, tmp_path, Redirection("main.unreachedInlined", "main.same"))
    assert said.endswith("main.unreachedInlined was inlined in 2 places that the kernel cannot reach")
    assert [each["reached"] for each in report(tmp_path, "main.unreachedInlined")["inlined"]] == [False, False]


def test_a_function_with_nothing_left_but_copies_is_refused_with_their_places(steps: Steps, tmp_path: Path) -> None:
    error = refused(steps, tmp_path, Redirection("main.only", "main.same", place="here"))
    place = f"src/main.go:{line('func outer')} in main.outer"
    assert error.message == f"here: main.only is no function any more: it was inlined at {place}"
    assert error.hint == '`//go:noinline` above it prevents that, or gcflags = "-l"'


def test_of_a_runtime_function_only_a_flag_is_suggested(steps: Steps, tmp_path: Path) -> None:
    error = refused(steps, tmp_path, Redirection("runtime.acquirem", "main.same"))
    assert error.message.splitlines()[0].startswith("runtime.acquirem is no function any more: it was inlined in ")
    assert len(error.message.splitlines()) == 1 + 10 + 1
    assert error.hint == 'gcflags = "runtime=-l" prevents that'


def test_without_redirects_no_dwarf_is_read(steps: Steps, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(agreement, "described", read)
    patched(steps, tmp_path)
    with pytest.raises(AssertionError):
        patched(steps, tmp_path, Redirection("main.increment", "main.same"))


def test_without_dwarf_the_build_says_what_it_does_not_know(steps: Steps, tmp_path: Path) -> None:
    elf = Elf.read(steps.unpatched)
    info = elf.section(".debug_info")
    assert info
    data = bytearray(elf.data)
    data[info.offset : info.offset + 4] = b"\xff\xff\xff\xff"
    (tmp_path / "damaged.elf").write_bytes(data)
    from buildsys.stages.objects import read_runtime
    from buildsys.stages.patch import patch_image

    _, plan = read_runtime(steps.runtime_json)
    told = patch_image(tmp_path / "damaged.elf", plan, steps.project.entry, tmp_path / "out.elf",
                       tmp_path / "out.json", [Redirection("main.increment", "main.same")])  # fmt: skip
    assert str(told["remark"]).startswith("nothing is known of what functions take and give, nor of inlined copies: ")
