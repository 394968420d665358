"""Whatever is wrong in a template is said with its file and line, the first time and every time."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildsys.config.project import shipped
from buildsys.errors import UserError
from buildsys.stages.templates import ABSENT, Addresses, Templates

LOAD = '{% from "macros.s.j2" import load %}\n'


class Bench:
    """Templates of a user in `mine` and shipped ones in `theirs`, and a folder for their compiled form."""

    def __init__(self, folder: Path) -> None:
        self.mine, self.theirs, self.compiled = folder / "mine", folder / "theirs", folder / "compiled"
        self.mine.mkdir()
        self.theirs.mkdir()

    def write(self, text: str | bytes, name: str = "boot.s.j2", folder: Path | None = None) -> None:
        (folder or self.mine).joinpath(name).write_bytes(text if isinstance(text, bytes) else text.encode())

    def render(self, values: Mapping[str, Any] | None = None, name: str = "boot.s.j2") -> str:
        """As a new process would."""
        folders = (self.mine, self.theirs, shipped("templates"))
        return Templates(folders, self.compiled).render(name, values or {})

    def refused(self, values: Mapping[str, Any] | None = None, name: str = "boot.s.j2") -> UserError:
        """The error of a first rendering, and of a second one by way of what the first compiled."""
        errors = []
        for _ in range(2):
            with pytest.raises(UserError) as caught:
                self.render(values, name)
            errors.append(caught.value)
        assert (errors[0].message, errors[0].hint) == (errors[1].message, errors[1].hint)
        return errors[0]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def offset(field: str) -> int:
    raise LookupError(f"no offset is known of {field!r}; known: runtime.g.m")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{{ nothing }}", "'nothing' is undefined"),
        ("{{ board.nothing }}", "'dict object' has no attribute 'nothing'"),
        ("{{ 'x' | nothing }}", "No filter named 'nothing'."),
        ("{{ address('runtime.nothing') }}", "the image has no symbol 'runtime.nothing'"),
        ("{{ offset('runtime.g.x') }}", "no offset is known of 'runtime.g.x'; known: runtime.g.m"),
        ("{{ 1 / 0 }}", "division by zero"),
        ("{{ 'x' | hex }}", "'str' object cannot be interpreted as an integer"),
        ("{{ 4294967296 | address32 }}", "0x100000000 does not fit the 32 bits of movz and movk"),
        ("{{ -1 | address32 }}", "-0x1 does not fit the 32 bits of movz and movk"),
        ("{% if %}", "Expected an expression, got 'end of statement block'"),
        ("{{ 1", "unexpected end of template, expected 'end of print statement'."),
        ("{% nothing %}", "Encountered unknown tag 'nothing'."),
        ("{{ [1] | map | list }}", "map requires a filter argument"),
        ('{% include "none.j2" %}', "there is no template 'none.j2'"),
        ('{% from "macros.s.j2" import nothing %}{{ nothing() }}', "does not export the requested name 'nothing'"),
        ('{% include "boot.s.j2" %}', "maximum recursion depth exceeded"),
    ],
)
def test_a_mistake_is_named_with_its_line(bench: Bench, line: str, message: str) -> None:
    bench.write(f"// one\n// two\n{line}\n")
    values = {"board": {}, "offset": offset, "address": Addresses({"runtime.g0": 1, "runtime.nothing": ABSENT})}
    error = bench.refused(values)
    # An expression that is never closed is missed where the file ends.
    assert re.match(rf"{re.escape(str(bench.mine))}/boot\.s\.j2:[34]: ", error.message)
    assert message in error.message
    assert "\n" not in error.message


def test_the_line_is_still_right_far_into_a_file(bench: Bench) -> None:
    bench.write("{% if true %}\n" * 20 + "\n" * 80 + "{{ nothing }}" + "\n{% endif %}" * 20)
    assert bench.refused().message == f"{bench.mine}/boot.s.j2:101: 'nothing' is undefined"


def test_a_mistake_in_an_included_file_names_both(bench: Bench) -> None:
    bench.write("\n\n{% include 'inner.j2' %}\n")
    bench.write("\n{{ nothing }}\n", "inner.j2", bench.theirs)
    error = bench.refused()
    assert error.message == (f"{bench.mine}/boot.s.j2:3 (by way of {bench.theirs}/inner.j2:2): 'nothing' is undefined")


def test_a_syntax_error_in_an_included_file_names_that_file(bench: Bench) -> None:
    bench.write("\n\n{% include 'inner.j2' %}\n")
    bench.write("\n{% if %}\n", "inner.j2", bench.theirs)
    assert bench.refused().message.startswith(f"{bench.theirs}/inner.j2:2: Expected an expression")


def test_an_address_of_more_than_32_bits_is_named_where_it_is_used(bench: Bench) -> None:
    bench.write(LOAD + '\n{{ load("x9", address("main.f")) }}\n')
    error = bench.refused({"address": Addresses({"main.f": 1 << 32})})
    assert error.message.startswith(f"{bench.mine}/boot.s.j2:3 (by way of {shipped('templates')}/macros.s.j2:")
    assert error.message.endswith(": 0x100000000 does not fit the 32 bits of movz and movk")


def test_a_template_that_is_nowhere_is_an_error_with_the_folders_looked_in(bench: Bench) -> None:
    error = bench.refused(name="none.s.j2")
    assert error.message == "there is no template 'none.s.j2'"
    assert error.hint == f"looked in {bench.mine}, {bench.theirs}, {shipped('templates')}"


def test_a_template_that_is_not_utf8_is_refused(bench: Bench) -> None:
    bench.write(b"// \xff\n")
    assert bench.refused().message == "boot.s.j2 is not UTF-8: invalid start byte at byte 3"
    bench.write(b"// \xff\n", "inner.j2")
    bench.write("\n{% include 'inner.j2' %}\n")
    assert bench.refused().message.startswith(f"{bench.mine}/boot.s.j2:2: what it includes is not UTF-8")


def test_a_defect_of_ours_keeps_its_traceback(bench: Bench) -> None:
    bench.write("{{ address('main.f') }}")
    with pytest.raises(AttributeError):
        bench.render({"address": lambda symbol: symbol.nothing})


def test_a_users_template_comes_before_a_shipped_one(bench: Bench) -> None:
    bench.write("theirs", folder=bench.theirs)
    assert bench.render() == "theirs"
    bench.write("mine")
    assert bench.render() == "mine"
    (bench.mine / "boot.s.j2").unlink()
    assert bench.render() == "theirs"


def test_either_folder_may_include_and_import_from_the_other(bench: Bench) -> None:
    bench.write("{% include 'theirs.j2' %} {{ mine }}")
    bench.write("{% from 'macro.j2' import twice %}{{ twice(mine) }} {{ board }}", "theirs.j2", bench.theirs)
    bench.write("{% macro twice(x) %}{{ 2 * x }} {{ board }}{% endmacro %}", "macro.j2")
    for _ in range(2):
        assert bench.render({"mine": 3, "board": "virt"}) == "6 virt virt 3"


def test_an_imported_macro_sees_the_values_of_this_rendering(bench: Bench) -> None:
    bench.write("{% macro show() %}{{ value }}{% endmacro %}", "macro.j2")
    bench.write("{% from 'macro.j2' import show %}{{ show() }}")
    templates = Templates((bench.mine,), bench.compiled)
    assert [templates.render("boot.s.j2", {"value": value}) for value in (1, 2)] == ["1", "2"]


def test_an_edited_template_is_compiled_again(bench: Bench) -> None:
    bench.write("one")
    assert bench.render() == "one"
    kept = list(bench.compiled.iterdir())
    assert len(kept) == 1
    bench.write("two")
    assert bench.render() == "two"


def test_what_was_compiled_before_need_not_be_when_it_is_rendered(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.write("{{ 1 + 1 }}")
    bench.write("{% include 'boot.s.j2' %}", "other.s.j2")
    bench.write("{{", "wrong.s.j2")
    names = ["boot.s.j2", "other.s.j2", "wrong.s.j2", "nowhere.s.j2"]
    templates = Templates((bench.mine, bench.theirs), bench.compiled)
    templates.compile(names, kept=False)
    assert list(bench.compiled.iterdir()) == []
    templates.compile(names)
    with monkeypatch.context() as none:
        none.setattr("jinja2.Environment.compile", lambda self, *text: pytest.fail("it was compiled again"))
        assert bench.render(name="other.s.j2") == "2"
    assert "wrong.s.j2:1" in bench.refused(name="wrong.s.j2").message
    bench.write("{{ 1 + 2 }}")
    assert bench.render(name="other.s.j2") == "3"


@pytest.mark.parametrize("damage", [b"", b"\0" * 100, b"\xff" * 3])
def test_a_damaged_compiled_template_is_made_again(bench: Bench, damage: bytes) -> None:
    bench.write("{{ 6 * 7 }}")
    bench.render()
    (kept,) = bench.compiled.iterdir()
    for data in (damage, kept.read_bytes()[:-10], kept.read_bytes()[:30]):
        kept.write_bytes(data)
        assert bench.render() == "42"


def test_every_address_asked_for_is_known_afterwards(bench: Bench) -> None:
    addresses = Addresses({"main.f": 7})
    bench.write("{{ address('main.f') }} {{ address('main.g') }}{% if false %}{{ address('main.h') }}{% endif %}")
    assert bench.render({"address": addresses}) == "7 0"
    assert addresses.asked == {"main.f", "main.g"}


@given(st.integers(0, (1 << 32) - 1))
def test_load_puts_every_32_bit_address_into_two_instructions(
    tmp_path_factory: pytest.TempPathFactory, value: int
) -> None:
    folder = tmp_path_factory.getbasetemp() / "load"
    folder.mkdir(exist_ok=True)
    (folder / "load.j2").write_text(LOAD + '{{ load("x9", value) }}')
    text = Templates((folder, shipped("templates")), folder / "compiled").render("load.j2", {"value": value})
    movz, movk = text.strip().splitlines()
    high = re.fullmatch(r"movz +x9, #(0x[0-9a-f]+), lsl #16", movz.strip())
    low = re.fullmatch(r"movk +x9, #(0x[0-9a-f]+)", movk.strip())
    assert high
    assert low
    assert int(high[1], 16) << 16 | int(low[1], 16) == value
