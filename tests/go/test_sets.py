"""What ready sets take over of an object, told from the names it defines."""

from __future__ import annotations

import pytest

from buildsys.front.steps import Steps
from buildsys.go.runtime import SLOTTED, plan
from buildsys.go.sets import SETS, ReadySet, chosen, known, taken, templates
from buildsys.stages.objects import read_runtime

PRINT = ("runtime.gwrite", "runtime.printlock", "runtime.printunlock")


def test_a_set_takes_over_what_the_object_defines() -> None:
    (found,) = taken({*PRINT, "runtime.printstring", "main.gwrite"}, ["print"])
    assert (found.name, found.calls, found.entries, found.spare) == ("print", PRINT, (), ())
    (found,) = taken({"runtime.gwrite"}, ["print"])
    assert found.calls == ("runtime.gwrite",)


def test_a_set_brings_those_it_needs() -> None:
    assert [each.name for each in chosen(["panic"])] == ["print", "panic"]
    assert templates(["panic"]) == templates(["panic", "print"]) == ("sets/print.s", "sets/panic.s")
    assert templates([]) == templates(["barrier"]) == ()


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("runtime.goPanicIndex", "calls"),
        ("runtime.panicIndex", "calls"),
        ("runtime.panicBounds", "calls"),
        ("runtime.gopanic", "entries"),
        ("runtime.throw", "entries"),
        ("runtime.morestack.abi0", "entries"),
        ("runtime.morestack_noctxt.abi0", "entries"),
        ("runtime.mallocgc", "spare"),
        ("runtime.mallocgcSmallNoScanSC2", "spare"),
        ("runtime.mallocgcTinySC12", "spare"),
        ("runtime.persistentalloc", "spare"),
        ("runtime.panicCheck1", ""),
        ("runtime.panicwrap.func1", ""),
        ("runtime.mallocgcSmallScanSlowPath", ""),
        ("runtime.morestackc", ""),
        ("runtime.(*_panic).start", ""),
        ("main.panicIndex", ""),
    ],
)
def test_the_ends_of_a_program_are_told_by_their_names(name: str, how: str) -> None:
    found = plan({SLOTTED[0], name}, "go.o", ["panic"])
    panic = found.of_set("panic")
    assert [at for at in ("calls", "entries", "spare") if name in getattr(panic, at)] == [how][: bool(how)]
    assert found.fatal == ()
    assert (name in found.ends) is (how in ("calls", "entries"))
    assert (name in found.called) is (how == "calls")
    assert (name in found.entered) is (how in ("entries", "spare"))


def test_of_two_sets_that_serve_a_function_one_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    first = ReadySet("first", "sets/first.s", entries=("runtime.mallocgc",))
    monkeypatch.setattr("buildsys.go.sets.SETS", (first, *SETS))
    found = {each.name: each for each in taken({"runtime.mallocgc", "runtime.persistentalloc"}, ["panic", "first"])}
    assert found["first"].entries == ("runtime.mallocgc",)
    assert found["panic"].spare == ("runtime.persistentalloc",)


def test_every_set_has_its_template_and_a_name_to_choose_it_by() -> None:
    from buildsys.config.project import shipped

    assert known() == ("barrier", *(each.name for each in SETS))
    for each in SETS:
        assert (shipped("templates") / f"{each.template}.j2").is_file()


def test_the_plan_is_kept_as_it_is(built: Steps) -> None:
    _, kept = read_runtime(built.runtime_json)
    panic = kept.of_set("panic")
    assert {"runtime.gopanic", "runtime.throw"} <= set(panic.entries)
    assert "runtime.gwrite" in kept.of_set("print").calls
    assert not panic.returns
    assert kept.of_set("no such") == type(panic)("no such")
