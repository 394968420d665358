"""Names to addresses: families and their members, what is taken over by the base plan, originals called by name."""

from __future__ import annotations

import pytest

from buildsys.config.redirects import Redirection
from buildsys.errors import UserError
from buildsys.formats.a64 import RET
from buildsys.formats.elf import Elf
from buildsys.formats.modes import Mode
from buildsys.go.runtime import Barrier, Plan
from buildsys.stages.redirects import expanded, resolved
from tests.formats.images import GLOBAL, Name, Part, elf, words

PLAN = Plan((Barrier("runtime.gcWriteBarrier2", 2),), ("runtime.wbZero",), ("runtime.gopanic", "runtime.throw"))
NAMES = (
    "runtime.panicIndex",
    "runtime.panicSlice",
    "runtime.panicIndex.func1",
    "runtime.panicSlice.abi0",
    "main.T.panicMethod",
    "main.T.panicMethod-fm",
    "main.(*T).get",
    "main.(*T).put",
    "main.onPanic",
)


def asked(old: str, to: str, place: str = "") -> Redirection:
    return Redirection(old, to, place=place)


def pairs(*wanted: Redirection) -> list[tuple[str, str]]:
    return [(each.old, each.to) for each in expanded(wanted, NAMES)]


def test_a_family_is_every_name_with_the_star_replaced_but_closures_and_wrappers() -> None:
    assert pairs(asked("runtime.panic*", "main.onPanic")) == [
        ("runtime.panicIndex", "main.onPanic"),
        ("runtime.panicSlice", "main.onPanic"),
    ]
    assert pairs(asked("main.T.*", "main.f")) == [("main.T.panicMethod", "main.f")]


def test_the_star_of_a_receiver_is_a_part_of_the_name() -> None:
    assert pairs(asked("main.(*T).get", "main.f")) == [("main.(*T).get", "main.f")]
    assert pairs(asked("main.(*T).*", "main.(*U).new*")) == [
        ("main.(*T).get", "main.(*U).newget"),
        ("main.(*T).put", "main.(*U).newput"),
    ]


def test_a_star_in_the_new_name_stands_for_the_same_rest() -> None:
    assert pairs(asked("runtime.panic*", "main.my*")) == [
        ("runtime.panicIndex", "main.myIndex"),
        ("runtime.panicSlice", "main.mySlice"),
    ]


def test_what_takes_the_place_of_a_family_is_no_member() -> None:
    with pytest.raises(UserError, match=r"no function is called main\.on\*"):
        pairs(asked("main.on*", "main.onPanic"))


def test_a_name_in_full_goes_before_a_family() -> None:
    family, exact = asked("runtime.panic*", "main.onPanic"), asked("runtime.panicIndex", "main.onIndex")
    for order in ((family, exact), (exact, family)):
        assert sorted(pairs(*order)) == [("runtime.panicIndex", "main.onIndex"), ("runtime.panicSlice", "main.onPanic")]


def test_families_that_share_a_function_are_refused_and_both_named() -> None:
    with pytest.raises(UserError) as caught:
        pairs(asked("runtime.panic*", "main.a", "x.toml:1: `a`"), asked("runtime.*Index", "main.b", "x.toml:2: `b`"))
    assert caught.value.message == "x.toml:2: `b`: runtime.panicIndex is meant here, and by x.toml:1: `a`"
    assert "name it in full" in caught.value.hint


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ([asked("runtime.pank*", "main.f")], "no function is called runtime.pank*"),
        ([asked("runtime.*panic*", "main.f")], "there may be one * in each name"),
        ([asked("runtime.panic*", "main.*f*")], "there may be one * in each name"),
        ([asked("runtime.panicIndex", "main.f*")], "main.f* has a *, and runtime.panicIndex has none"),
        ([asked("a.b", "main.f"), asked("a.b", "main.g")], "a.b cannot be redirected twice"),
        ([Redirection("runtime.panic*", "main.f", original="main.o*")], "`original` cannot have a *"),
    ],
)
def test_a_family_that_makes_no_sense_is_refused(wanted: list[Redirection], message: str) -> None:
    with pytest.raises(UserError) as caught:
        expanded(wanted, NAMES)
    assert message in caught.value.message


BASE = 2 << 20
FUNCTIONS = (
    Name("main.old", BASE, 16),
    Name("main.new", BASE + 16, 16),
    Name("original.main.old", BASE + 32, 8, binding=GLOBAL),
    Name("main.small", BASE + 48, 4),
    Name("runtime.throw", BASE + 64, 16),
    Name("runtime.throw", BASE + 80, 16, binding=GLOBAL),
    Name("runtime.wbZero", BASE + 96, 16),
    Name("runtime.wbZero", BASE + 112, 16, binding=GLOBAL),
    Name("main.alias", BASE, 16),
)


def made(*names: Name) -> Elf:
    return elf([Part(".text", BASE, words(*[RET] * 64))], names)


def test_a_redirect_has_the_addresses_and_what_was_asked() -> None:
    (found,) = resolved(made(*FUNCTIONS), [Redirection("main.old", "main.new", Mode.BOTH, True)], PLAN)
    assert (found.name, found.old, found.old_end, found.new) == ("main.old", BASE, BASE + 16, BASE + 16)
    assert (found.mode, found.to, found.original, found.pointers) == (Mode.BOTH, "main.new", BASE + 32, True)


def test_of_what_the_plan_takes_over_the_runtimes_own_is_redirected() -> None:
    wanted = [asked("runtime.throw", "main.new"), asked("runtime.wbZero", "main.new"), asked("main.old", "main.new")]
    assert [each.old for each in resolved(made(*FUNCTIONS), wanted, PLAN)] == [BASE + 64, BASE + 96, BASE]


def test_a_named_original_is_used_rather_than_the_usual_one() -> None:
    names = [each for each in FUNCTIONS if each.name != "original.main.old"]
    wanted = [Redirection("main.old", "main.new", original="runtime.wbZero")]
    with pytest.raises(UserError, match="is several functions"):
        resolved(made(*names), wanted, PLAN)
    wanted = [Redirection("main.old", "main.new", original="main.small")]
    with pytest.raises(UserError, match="it has 4 bytes, 8 are needed"):
        resolved(made(*names), wanted, PLAN)
    (found,) = resolved(
        made(*names, Name("main.calls", BASE + 128, 16)),
        [Redirection("main.old", "main.new", original="main.calls")],
        PLAN,
    )
    assert found.original == BASE + 128


@pytest.mark.parametrize(
    ("wanted", "message", "hint"),
    [
        ([asked("main.odl", "main.new")], "made.elf has no function main.odl", "did you mean main.old?"),
        ([asked("main.old", "main.knew")], "made.elf has no function main.knew", "did you mean main.new?"),
        ([asked("main.old", "main.alias")], "they are the same function", ""),
        ([asked("main.old", "main.new"), asked("main.alias", "main.new")], "is redirected already, as ", ""),
        ([asked("main.old", "main.new"), asked("main.small", "main.old")], "which is redirected itself", ""),
        ([asked("runtime.gcWriteBarrier2", "main.new")], "it is taken over already", "write barrier"),
        ([Redirection("main.old", "main.new", original="main.new")], "cannot stand for the original", ""),
        ([asked("main.small", "main.new")], "original.main.old is called, and main.old is not redirected", "call main"),
        ([], "original.main.old is called, and main.old is not redirected", "call main"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_with_its_place(wanted: list[Redirection], message: str, hint: str) -> None:
    placed = [Redirection(**{**vars(each), "place": "x.toml:3"}) for each in wanted]
    with pytest.raises(UserError) as caught:
        resolved(made(*FUNCTIONS), placed, PLAN)
    assert message in caught.value.message
    assert hint in caught.value.hint
    assert caught.value.message.startswith("x.toml:3: ") or message.startswith("original.")
