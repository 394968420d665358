"""`symbols`, `literals`, `sections`, `paths` and `until`: read whole, and every mistake named with file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from buildsys.config.expected import Expected, Literal, Place
from buildsys.config.project import Project, load
from buildsys.errors import UserError


def project(folder: Path, *lines: str) -> Project:
    (folder / "src").mkdir(exist_ok=True)
    (folder / "buildsys.toml").write_text("\n".join(['package = "src"', *lines, ""]))
    return load(folder)


def test_all_that_can_be_expected(tmp_path: Path) -> None:
    found = project(
        tmp_path,
        'until = "ready"',
        "[symbols]",
        '__end = "__heap_low"',
        '"main.top" = "__heap_low - 0x10"',
        "__mmio = 0x09000000",
        "[sections]",
        '".vectors" = "ax"',
        "[paths]",
        '"/home/author" = "."',
        '[literals."main.F"]',
        '0x40026b40 = "runtime.writeBarrier"',
        '0x331a30 = "runtime.g0 + 48"',
        "0x600000 = 0x46000000",
    )
    assert found.expected == Expected(
        symbols=(
            ("__end", Place("__heap_low")),
            ("main.top", Place("__heap_low", -16)),
            ("__mmio", Place("", 0x9000000)),
        ),
        literals=(
            Literal("main.F", 0x40026B40, Place("runtime.writeBarrier")),
            Literal("main.F", 0x331A30, Place("runtime.g0", 48)),
            Literal("main.F", 0x600000, Place("", 0x46000000)),
        ),
        sections=((".vectors", "ax"),),
        paths=(("/home/author", "."),),
        until="ready",
    )
    assert found.board.until == b"ready"
    assert [str(place) for _, place in found.expected.symbols] == ["__heap_low", "__heap_low - 0x10", "0x9000000"]


def test_who_expects_nothing_gets_nothing(tmp_path: Path) -> None:
    assert project(tmp_path).expected == Expected()


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["[symbols]", "__end = true"], "buildsys.toml:3: `symbols.__end` is True"),
        (["[symbols]", '__end = "1x"'], "`symbols.__end` is '1x'"),
        (["[symbols]", "__end = -1"], "`symbols.__end` is -1"),
        (["[symbols]", '__end = "__end + 8"'], "where it is itself"),
        (["[symbols]", '"a b" = 1'], "is no name of a symbol"),
        (["[symbols]", 'main.end = "__heap_low"'], "in quotes"),
        (["[literals]", '0x10 = "x"'], "is no table"),
        (["[literals.main.F]", '0x10 = "x"'], "in quotes"),
        (['[literals."main.F"]', 'ten = "x"'], "buildsys.toml:3: `literals.main.F.ten` is no number"),
        (['[literals."main.F"]', '0 = "x"'], "is no number that code could hold"),
        (['[literals."main.F"]', "0x10 = []"], "is []"),
        (["[sections]", '".vectors" = "axe"'], "did you mean `ax`?"),
        (["[sections]", '".vectors" = 1'], "must be a string"),
        (["[paths]", '"/home" = 1'], "must be a string"),
        (['until = ""'], "buildsys.toml:2: `until` is empty"),
        (["[symbol]", '__end = "__heap_low"'], "`symbols`"),
    ],
)
def test_a_mistake_is_one_message(tmp_path: Path, lines: list[str], said: str) -> None:
    with pytest.raises(UserError) as caught:
        project(tmp_path, *lines)
    assert said in f"{caught.value.message} {caught.value.hint}"
