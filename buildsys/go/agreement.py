"""Whether one function can stand in for another: called in the same way, with the same arguments and results.

What must agree is what is passed, and where: the number and order of values, the
size of each, and the pieces it is made of (go/types.py). A pointer is no integer,
for the collector follows only the one; a boolean is no byte, for it has two
values; an interface is no other, for it goes with a table of other methods. What
is only called by another name is passed alike, and a remark.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import zip_longest

from buildsys.go.frames import on_stack
from buildsys.go.signatures import Signature, Told
from buildsys.go.types import ARRAY, FUNCTION, METHODS, POINTER, Piece, Type

_UNNAMED = ", some of it in parameters without a name, which this Go does not tell"
_CONTEXT = "which are given by whoever makes a closure, not by a call"


@dataclass(frozen=True)
class Agreement:
    """How two functions compare: `mismatches` that make one no stand-in for the other, `remarks` on what differs.

    `unknown` are the functions of which nothing is known.
    """

    old: Signature
    new: Signature
    mismatches: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def unknown(self) -> tuple[Signature, ...]:
        """Those of the two that are not described."""
        return tuple(each for each in (self.old, self.new) if each.told is not Told.GO)


def compare(old: Signature, new: Signature) -> Agreement:
    """Whether `new` can stand in for `old`."""
    mismatches: list[str] = []
    remarks: list[str] = []
    if _abi(old) and _abi(new) and _abi(old) != _abi(new):
        mismatches.append(f"{old.name} is called by {_abi(old)}, {new.name} by {_abi(new)}")
    if new.captures:
        mismatches.append(f"{new.name} uses {', '.join(new.captures)} of the function around it, {_CONTEXT}")
    if old.told is new.told is Told.GO:
        if old.generic != new.generic:
            with_, without = (old, new) if old.generic else (new, old)
            mismatches.append(f"{with_.name} is passed a dictionary of types besides, {without.name} is not")
        for what, olds, news in (("parameter", old.parameters, new.parameters), ("result", old.results, new.results)):
            if len(olds) != len(news):
                mismatches.append(f"{old.name} has {_count(len(olds), what)}, {new.name} {len(news)}")
                continue
            for number, (one, other) in enumerate(zip(olds, news, strict=True), 1):
                called = one.name if one.name.strip("_")[:1] not in ("", "~") else f"{what} {number}"
                mismatch, remark = _differing(one.type, other.type)
                mismatches += (
                    [f"{called} is {one.type.name}, not {other.type.name}{mismatch}"] if mismatch is not None else []
                )
                remarks += [f"{called} is {one.type.name}, not {other.type.name}: passed alike"] if remark else []
    mismatches += _by_size(old, new) if not mismatches else []
    return Agreement(old, new, tuple(mismatches), tuple(remarks))


def _by_size(old: Signature, new: Signature) -> list[str]:
    """Whether as many bytes are passed: told of parameters without a name, too, and of Go's assembly."""
    one, other = _bytes(old, new), _bytes(new, old)
    if one is None or other is None or one == other:
        return []
    is_passed = "takes and gives" if Told.ASSEMBLY in (old.told, new.told) else "is passed"
    return [f"{old.name} {is_passed} {one} bytes, {new.name} {other}{'' if _is_all(old, new) else _UNNAMED}"]


def _bytes(function: Signature, beside: Signature) -> int | None:
    """The bytes that are passed to `function`, counted as they can be of `beside`; None if they cannot be."""
    if function.told is beside.told or function.told is Told.ASSEMBLY:
        return function.argument_bytes
    return on_stack(function) if beside.told is Told.ASSEMBLY and function.complete else None


def _is_all(*functions: Signature) -> bool:
    return all(each.complete or each.told is not Told.GO for each in functions)


def _abi(function: Signature) -> str:
    """How it is called; "" if that is not known."""
    if function.abi0:
        return "ABI0 (arguments on the stack)"
    return "ABIInternal (arguments in registers)" if function.told is Told.GO else ""


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _differing(old: Type, new: Type) -> tuple[str | None, bool]:
    """Whether a value of one type is no value of the other, and more on that; or whether only the names differ."""
    if old.size != new.size:
        return f" ({old.size} and {new.size} bytes)", False
    if not all(_alike(one, other) for one, other in zip_longest(old.pieces, new.pieces)):
        return "", False
    return None, old.name != new.name and not old.is_any_pointer and not new.is_any_pointer


def _alike(old: Piece | None, new: Piece | None) -> bool:
    """Whether two pieces are passed in the same place and may be taken for each other."""
    if old is None or new is None or old[:2] != new[:2]:
        return False
    if {old.kind, new.kind} == {POINTER, FUNCTION}:
        return True  # a function value is a pointer, as runtime.funcval is used
    return old.kind == new.kind and (old.kind not in (METHODS, FUNCTION, ARRAY) or old.of == new.of)
