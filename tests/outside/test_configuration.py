"""What the user may set, and how what cannot be is answered: file, line, nearest valid name."""

from __future__ import annotations

import pytest

from tests.outside.conftest import Outside


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('assembyl = ["x.s"]', ("unknown key `assembyl`", "did you mean `assembly`?")),
        ('assembly = ["src/lib.s"]', ("`assembly` names src/lib.s, which is not there",)),
        ('assembly = ["src/main.go"]', ("`assembly` names src/main.go, which is no .s or .s.j2 file",)),
        ('assembly = ["src/*.s"]', ("`assembly` names src/*.s, which is not there",)),
        ('objects = ["src/maim.go"]', ("`objects` names src/maim.go", "did you mean `src/main.go`?")),
        ('boot = "src/boot.s"', ("`boot` names src/boot.s, which is no .s or .s.j2 file",)),
        ("assembly = 3", ("`assembly` must be a list of strings",)),
        ('entry-arguments = "board"', ("`entry-arguments` must be a list",)),
        ('entry-arguments = ["bored"]', ("`entry-arguments` has 'bored' in it", '"board"')),
        ("entry-arguments = [1.5]", ("`entry-arguments` has 1.5 in it",)),
        ("entry-arguments = [1,2,3,4,5,6,7,8,9]", ("`entry-arguments` has more than 8",)),
        ("entry-arguments = [18446744073709551616]", ("has 18446744073709551616 in it", "64 bits")),
        ("qemu-arguments = [1]", ("`qemu-arguments` must be a list of strings",)),
        ("redirect = 3", ("`redirect` must be a table",)),
        ('kernel = "a"', ("`kernel` must be a table",)),
    ],
)
def test_a_setting_that_cannot_be_is_named_with_its_line(project: Outside, line: str, said: tuple[str, ...]) -> None:
    number = project.set(line)
    project.doit("build").refused(f"buildsys.toml:{number}: ", *said)


def test_an_address_of_nothing_is_named(project: Outside) -> None:
    project.set('entry-arguments = ["&main.wrods"]')
    project.doit("build").refused("main.wrods")


def test_arguments_for_qemu_go_behind_the_boards(project: Outside) -> None:
    project.set('qemu-arguments = ["-no-such-option"]')
    assert "no-such-option" in project.doit("run-qemu").err


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("[kernel.a]\nbord = 'qemu-virt'", ("unknown key `kernel.a.bord`", "did you mean `board`?")),
        ("[kernel.a]\nboard = 'qemu-vrit'", ("`kernel.a.board`", "did you mean 'qemu-virt'?")),
        ("[kernel.a]\ncache.folder = 'x'", ("unknown key `kernel.a.cache`",)),
        ('[kernel."a+b"]\n', ("`kernel.a+b` is no name for a kernel",)),
        ("[kernel]\na = 1\n", ("`kernel.a` must be a table",)),
    ],
)
def test_a_mistake_in_a_kernels_own_table_is_named_there(project: Outside, table: str, said: tuple[str, ...]) -> None:
    before = len(project.path("buildsys.toml").read_text().splitlines())
    with project.path("buildsys.toml").open("a") as file:
        file.write(table + "\n")
    message = project.doit("build").refused("buildsys.toml:", *said)
    assert int(message.split("buildsys.toml:")[1].split(":")[0]) > before


def test_a_mistake_in_what_kernels_have_in_common_is_named_where_it_is(project: Outside) -> None:
    number = project.set('board = "qemu-vrit"')
    with project.path("buildsys.toml").open("a") as file:
        file.write("[kernel.a]\n")
    project.doit("build").refused(f"buildsys.toml:{number}: `board`")


def test_a_kernel_need_not_share_anything(project: Outside) -> None:
    project.write("buildsys.toml", '[kernel.one]\npackage = "src"\n\n[kernel.two]\npackage = "src"\ngcflags = "-N"\n')
    project.doit("build").succeeded()
    one, two = (project.path(f"build/{name}/kernel.elf").read_bytes() for name in ("one", "two"))
    assert one != two
    assert project.doit("run-embedded:two").succeeded().out.count("Hello") == 1


def test_a_board_of_the_users_own_needs_no_python(project: Outside) -> None:
    from buildsys.config.board import BOARDS

    text = (BOARDS / "qemu-virt.toml").read_text().replace("text = 0x00200000", "text = 0x00400000")
    project.write("mine.toml", text)
    project.set('board = "mine.toml"')
    assert "13 of 13 claims hold" in project.doit("verify").succeeded().out
